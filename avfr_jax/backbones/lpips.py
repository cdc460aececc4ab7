"""LPIPS version 0.1 (Zhang et al. 2018) with AlexNet or VGG16 and the published linear heads."""

import dataclasses
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp

from avfr_jax.backbones.alexnet import alexnet
from avfr_jax.backbones.stack import Stack
from avfr_jax.backbones.vgg import vgg16
from avfr_jax.backbones.weights import load_weights, origin
from avfr_jax.ops.precision import widen
from avfr_jax.typing import Array, Float

LpipsKind = Literal["alex", "vgg"]
BACKBONES = {"alex": "alexnet", "vgg": "vgg16"}
CHANNELS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["variables", "heads"],
    meta_fields=["stack", "description"],
)
@dataclasses.dataclass(frozen=True)
class Lpips:
    """The metric with its weights; a pytree, to be an argument of a jitted function.

    Attributes:
      stack: the backbone.
      variables: its weights.
      heads: weight of each channel, one array a layer.
      description: for logs and model cards.
    """

    stack: Stack
    variables: Any
    heads: list[Any]
    description: str = ""

    def layers(self, a: Float[Array, "n h w 3"], b: Float[Array, "n h w 3"]) -> Float[Array, "layers n"]:
        """The term of each layer (eq. 1): the squared difference of unit-length features, weighted by channel, averaged
        over space. Images in [0, 1]; symmetric, and gradients flow into both."""
        terms = []
        features = (self.stack.apply(self.variables, images) for images in (a, b))
        for head, x, y in zip(self.heads, *features, strict=True):
            square = (_unit_channels(x) - _unit_channels(y)) ** 2
            terms.append((square * widen(head)).sum(-1).mean((1, 2)))
        return jnp.stack(terms)

    def __call__(self, a: Float[Array, "n h w 3"], b: Float[Array, "n h w 3"]) -> Float[Array, " n"]:
        """The distance of images in [0, 1], one number a pair."""
        return self.layers(a, b).sum(0)


def _unit_channels(x: Array) -> jax.Array:
    """Features divided by their norm over channels; zero vectors, and their gradients, stay zero."""
    x = widen(x)
    square = jnp.sum(x * x, axis=-1, keepdims=True)
    norm = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    return x / (norm + 1e-10)


def lpips_stack(kind: LpipsKind, dtype: Any = None) -> Stack:
    """The backbone with LPIPS's taps."""
    return alexnet(dtype) if kind == "alex" else vgg16(dtype)


def load_lpips(kind: LpipsKind = "alex", dtype: Any = None) -> Lpips:
    """LPIPS with its imported weights.

    Args:
      kind: `alex` (the usual metric) or `vgg` (the usual loss).
      dtype: dtype of the backbone's computation.

    Raises:
      MissingBackendError: the weights of backbone or heads are absent; names the file to fetch.
      CheckpointError: they are damaged.
    """
    backbone = BACKBONES[kind]
    variables, heads = load_weights(backbone), load_weights(f"lpips-{kind}")
    files = " and ".join(origin(name) for name in (backbone, f"lpips-{kind}"))
    ordered = [heads[f"lin{i}"] for i in range(len(CHANNELS[kind]))]
    return Lpips(lpips_stack(kind, dtype), variables, ordered, f"LPIPS 0.1 ({kind}) from {files}")
