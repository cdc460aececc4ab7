"""Hopenet (Ruiz et al., "Fine-Grained Head Pose Estimation Without Keypoints", 2018): the frozen network behind
face-vid2vid's head-pose loss, a ResNet-50 (He et al. 2016) with one head of 66 bins for each Euler angle."""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from avfr_jax.backbones.stack import MEAN, STD
from avfr_jax.backbones.weights import SOURCES, load_weights, origin
from avfr_jax.nn.layers import BatchNorm, Conv
from avfr_jax.ops.precision import widen
from avfr_jax.ops.rotations import ANGLE_BINS, binned_angles
from avfr_jax.typing import Array, Float

NAME = "hopenet"
SOURCE = SOURCES[NAME]
SIDE = 224
"""Of the input, in pixels."""
ANGLES = ("yaw", "pitch", "roll")
_STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))


class Bottleneck(nn.Module):
    """ResNet's bottleneck block: 1 × 1, 3 × 3 (with the stride) and 1 × 1 convolutions around a shortcut.

    Attributes:
      features: of the inner layers; the output has four times as many.
      strides: of the block.
      project: whether the shortcut has a convolution of its own.
      dtype: of the computation.
    """

    features: int
    strides: int = 1
    project: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c2"]:
        layers = ((1, 1, self.features), (3, self.strides, self.features), (1, 1, 4 * self.features))
        y = x
        for i, (size, strides, features) in enumerate(layers, 1):
            y = _convolution(features, size, strides, self.dtype, f"conv{i}")(y)
            y = BatchNorm(name=f"bn{i}")(y)
            y = nn.relu(y) if i < len(layers) else y
        if self.project:
            x = _convolution(4 * self.features, 1, self.strides, self.dtype, "downsample_0")(x)
            x = BatchNorm(name="downsample_1")(x)
        return nn.relu(x + y)


def _convolution(features: int, size: int, strides: int, dtype: Any, name: str) -> Conv:
    return Conv(features, (size, size), size // 2, strides, use_bias=False, dtype=dtype, name=name)


class Hopenet(nn.Module):
    """Batch statistics are the stored ones.

    Attributes:
      dtype: of the computation; parameters stay float32.
    """

    dtype: Any = None

    @nn.compact
    def __call__(self, images: Float[Array, "n 224 224 3"]) -> Float[Array, "n 3 bins"]:
        """Images as `prepare` gives them -> logits of yaw, pitch and roll."""
        x = nn.relu(BatchNorm(name="bn1")(_convolution(64, 7, 2, self.dtype, "conv1")(images)))
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for stage, (features, count) in enumerate(_STAGES):
            for i in range(count):
                strides = 2 if stage and not i else 1
                x = Bottleneck(features, strides, not i, self.dtype, name=f"layer{stage + 1}_{i}")(x)
        x = widen(x).mean((1, 2))
        return jnp.stack([nn.Dense(ANGLE_BINS, name=f"fc_{name}")(x) for name in ANGLES], axis=1)


def prepare(images: Float[Array, "n h w 3"]) -> Float[Array, "n 224 224 3"]:
    """RGB in [0, 1] of any size -> the network's input: bilinear resizing, anti-aliased where it shrinks, and
    ImageNet's normalisation."""
    small = jax.image.resize(images, (len(images), SIDE, SIDE, images.shape[-1]), "bilinear", antialias=True)
    return (small - jnp.asarray(MEAN, images.dtype)) / jnp.asarray(STD, images.dtype)


@functools.cache
def shapes() -> Any:
    """Shapes of the variables."""
    image = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
    return jax.eval_shape(Hopenet().init, jax.random.key(0), image)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["variables"], meta_fields=["dtype", "description"])
@dataclasses.dataclass(frozen=True)
class PoseNetwork:
    """Hopenet with its weights; a pytree, to be an argument of a jitted function.

    Attributes:
      variables: its weights.
      dtype: of the computation.
      description: for logs and model cards.
    """

    variables: Any
    dtype: Any = None
    description: str = ""

    def __call__(self, images: Float[Array, "n h w 3"]) -> Float[Array, "n 3"]:
        """Yaw, pitch and roll in degrees, in [-99, 96], of RGB images in [0, 1]. The signs are those of the published
        weights: yaw > 0 to the image's left, pitch > 0 up, roll > 0 clockwise."""
        logits: Any = Hopenet(self.dtype).apply(self.variables, prepare(images))
        return binned_angles(logits)


def load_hopenet(dtype: Any = None) -> PoseNetwork:
    """The imported network.

    Raises:
      MissingBackendError: its weights are absent; names the file to fetch and the command that imports it.
      CheckpointError: they are damaged.
    """
    return PoseNetwork(load_weights(NAME), dtype, f"Hopenet from {origin(NAME)}")
