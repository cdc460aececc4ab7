"""LPIPS version 0.1 (Zhang et al. 2018) with AlexNet or VGG16 and the published linear heads."""

import dataclasses
from functools import partial
from typing import Any, Literal

import jax

from avfr_jax import losses
from avfr_jax.backbones.alexnet import alexnet
from avfr_jax.backbones.stack import Stack
from avfr_jax.backbones.vgg import vgg16
from avfr_jax.backbones.weights import describe, load_weights
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
    """The metric with its weights; a pytree, so that it can be an argument of a jitted function.

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

    def features(self, images: Float[Array, "n h w 3"]) -> list[Float[Array, "n h2 w2 c"]]:
        """The backbone's feature maps of images in [0, 1]."""
        maps: Any = self.stack.apply(self.variables, images)
        return maps

    def layers(self, a: Float[Array, "n h w 3"], b: Float[Array, "n h w 3"]) -> Float[Array, "layers n"]:
        """The term of each layer."""
        return losses.lpips_layers(self.features, self.heads, a, b)

    def __call__(self, a: Float[Array, "n h w 3"], b: Float[Array, "n h w 3"]) -> Float[Array, " n"]:
        """The distance of images in [0, 1], one number a pair."""
        return losses.lpips(self.features, self.heads, a, b)


def lpips_stack(kind: LpipsKind, dtype: Any = None) -> Stack:
    """The backbone with LPIPS's taps."""
    return alexnet(dtype) if kind == "alex" else vgg16(dtype)


def load_lpips(kind: LpipsKind = "alex", dtype: Any = None) -> Lpips:
    """LPIPS with the weights that were imported.

    Args:
      kind: `alex` (the usual metric) or `vgg` (the usual loss).
      dtype: dtype of the backbone's computation.

    Raises:
      MissingBackendError: the backbone's or the heads' weights are absent; the sentence says what to fetch.
      CheckpointError: they are damaged.
    """
    backbone = BACKBONES[kind]
    variables, heads = load_weights(backbone), load_weights(f"lpips-{kind}")
    origin = [describe(name) for name in (backbone, f"lpips-{kind}")]
    files = " and ".join(f"{d['source']} (SHA-256 {d['source_sha256'][:12]})" for d in origin)
    ordered = [heads[f"lin{i}"] for i in range(len(CHANNELS[kind]))]
    return Lpips(lpips_stack(kind, dtype), variables, ordered, f"LPIPS 0.1 ({kind}) from {files}")
