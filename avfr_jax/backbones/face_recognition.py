"""Face descriptors: dlib's residual network (D. King 2017, public domain), 150 × 150 pixels to 128 numbers.

Pictures of one person lie near each other in Euclidean distance. The network was trained on public collections in which
white faces prevail, and separates others worse (see `avfr_jax.metrics.identity`).
"""

import dataclasses
import functools
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from avfr_jax.backbones.weights import load_weights, origin
from avfr_jax.nn.layers import Conv
from avfr_jax.ops.resize import average_pool
from avfr_jax.typing import Array, Float

NAME = "face-recognition"
CHIP_SIZE = 150  # pixels, side of the aligned face (`avfr_jax.faces.chips.face_chip`)
DESCRIPTOR_SIZE = 128
# Mean RGB of the training pictures in [0, 255]; the sibling network for 68 landmarks takes off the same.
MEAN_PIXEL = (122.782, 117.001, 104.298)
# (name, channels, halved) of every residual block, under the published names.
BLOCKS = (
    *((f"conv32_{i}", 32, False) for i in (1, 2, 3)),
    *(("conv64_down", 64, True), *((f"conv64_{i}", 64, False) for i in (1, 2, 3))),
    *(("conv128_down", 128, True), *((f"conv128_{i}", 128, False) for i in (1, 2))),
    *(("conv256_down", 256, True), *((f"conv256_{i}", 256, False) for i in (1, 2))),
    ("conv256_down_out", 256, True),
)


class DescriptorNet(nn.Module):
    """The network. The channel scale behind each convolution is part of its kernel and bias."""

    @nn.compact
    def __call__(self, images: Float[Array, "n 150 150 3"]) -> Float[Array, "n 128"]:
        """RGB in [0, 1] -> descriptors."""
        x = images - jnp.asarray(MEAN_PIXEL, images.dtype) / 255
        x = nn.relu(Conv(32, (7, 7), strides=2, name="conv32_down")(x))
        pool: Any = nn.max_pool  # untyped
        x = pool(x, (3, 3), (2, 2))
        for name, channels, halved in BLOCKS:
            y = Conv(channels, (3, 3), 0 if halved else 1, 2 if halved else 1, name=f"{name}_1")(x)
            y = Conv(channels, (3, 3), 1, name=f"{name}_2")(nn.relu(y))
            x = nn.relu(_sum_padded(average_pool(x, (2, 2)) if halved else x, y))
        return nn.Dense(DESCRIPTOR_SIZE, use_bias=False, precision="highest", name="fc")(x.mean((1, 2)))


def _sum_padded(a: Array, b: Array) -> jax.Array:
    """The sum of two maps, each padded at the end of its rows, columns and channels to the larger size."""
    shape = [max(sizes) for sizes in zip(a.shape, b.shape, strict=True)]
    a, b = (jnp.pad(x, [(0, want - have) for want, have in zip(shape, x.shape, strict=True)]) for x in (a, b))
    return a + b


@partial(jax.tree_util.register_dataclass, data_fields=["variables"], meta_fields=["network", "description"])
@dataclasses.dataclass(frozen=True)
class FaceRecognition:
    """The network with its weights; a pytree, to be an argument of a jitted function.

    Attributes:
      network: its layers.
      variables: its weights.
      description: for logs and reports.
    """

    network: DescriptorNet
    variables: Any
    description: str = ""

    def __call__(self, chips: Float[Array, "n 150 150 3"]) -> Float[Array, "n 128"]:
        """Descriptors of aligned faces, RGB in [0, 1]; differentiable."""
        descriptors: Any = self.network.apply(self.variables, chips)
        return descriptors


@functools.cache
def shapes() -> Any:
    """Shapes of the variables."""
    image = jax.ShapeDtypeStruct((1, CHIP_SIZE, CHIP_SIZE, 3), jnp.float32)
    return jax.eval_shape(DescriptorNet().init, jax.random.key(0), image)


def load_face_recognition() -> FaceRecognition:
    """The network with its imported weights.

    Raises:
      MissingBackendError: the weights are absent; names the file to fetch.
      CheckpointError: they are damaged.
    """
    return FaceRecognition(DescriptorNet(), load_weights(NAME), f"dlib's face descriptor from {origin(NAME)}")
