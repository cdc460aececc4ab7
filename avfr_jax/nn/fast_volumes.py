"""Convolutions of volumes with less arithmetic, for inference on a CPU (see `nn.fast`).

Three planes beside each other as channels make a 3 × 3 × 3 convolution one of planes, 3 × 3 with three times the
channels, to which the algorithms for images apply: a quarter of the multiplications at full resolution and behind
upsampling. Measured on two cores of an Intel Xeon with AVX-512, sixteen planes, milliseconds against the depth-folded
plain convolution (`nn.train_conv`): 112 -> 112 channels at 64 × 64 146 (211), 80 -> 64 82 (163), 64 -> 128 at 32 × 32
23 (58), 128 -> 256 at 16 × 16 14 (31), 256 -> 512 at 8 × 8 19 (39); behind upsampling 128 -> 32 to 64 × 64 56 (158),
256 -> 64 to 32 × 32 37 (136), 1024 -> 256 to 8 × 8 21 (89). A 7 × 7 × 7 kernel gains too little by minimal filtering
(F(2 × 2, 7 × 7) 309, F(4, 7) along the rows 338, plain 382; 112 -> 16 channels at 64 × 64) to be worth its errors.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.nn import fast
from avfr_jax.typing import Array, Float

_TAPS = 3
_PLANES = 4  # whose tiles are in the cache together


class VolumeWinogradKernel(NamedTuple):
    """`planes`: a 3 × 3 × 3 kernel for `conv3x3x3_winograd`, as one of planes with 3 C input channels."""

    planes: fast.WinogradKernel


class VolumeUpsampleKernel(NamedTuple):
    """`planes`: a 3 × 3 × 3 kernel for `upsample_conv3x3x3`, as one of planes with 3 C input channels."""

    planes: fast.UpsampleKernel


def volume_winograd_kernel(kernel: Float[np.ndarray, "3 3 3 c o"]) -> VolumeWinogradKernel:
    """Transform a kernel for `conv3x3x3_winograd` (on the host): 4 times the numbers of the plain kernel."""
    return VolumeWinogradKernel(fast.winograd_kernel(_flat(kernel)))


def volume_upsample_kernel(kernel: Float[np.ndarray, "3 3 3 c o"]) -> VolumeUpsampleKernel:
    """Transform a kernel for `upsample_conv3x3x3` (on the host): as many numbers as the plain kernel."""
    return VolumeUpsampleKernel(fast.upsample_kernel(_flat(kernel)))


def _flat(kernel: np.ndarray) -> np.ndarray:
    return np.concatenate(list(np.asarray(kernel, np.float64)), axis=-2)


def conv3x3x3_winograd(x: Float[Array, "n d h w c"], kernel: VolumeWinogradKernel) -> Float[Array, "n d h w o"]:
    """3 × 3 × 3 convolution, stride 1, zero padding of 1; a few planes at a time.

    Args:
      x: float32.
      kernel: from `volume_winograd_kernel`.
    """
    n, depth, h, w, c = x.shape
    planes = min(_PLANES, depth)
    blocks = -(-depth // planes)
    padded = jnp.pad(x, ((0, 0), (1, 1 + blocks * planes - depth), (0, 0), (0, 0), (0, 0)))

    def block(index: Array) -> Array:
        part = jax.lax.dynamic_slice_in_dim(padded, index * planes, planes + _TAPS - 1, 1)
        tiles = fast.image_tiles(part.reshape(-1, h, w, c))
        tiles = tiles.reshape(len(tiles), n, planes + _TAPS - 1, -1, c)
        beside = jnp.concatenate([tiles[:, :, tap : tap + planes] for tap in range(_TAPS)], axis=-1)
        beside = beside.reshape(len(tiles), -1, _TAPS * c)
        product = jax.lax.dot_general(beside, kernel.planes.transformed, (((2,), (1,)), ((0,), (0,))))
        return fast.gather_outputs(product, n * planes, h, w).reshape(n, planes, h, w, -1)

    y = jax.lax.map(block, jnp.arange(blocks))
    return jnp.moveaxis(y, 0, 1).reshape(n, blocks * planes, h, w, -1)[:, :depth]


def neighbouring_planes(x: Float[Array, "n d h w c"]) -> Float[Array, "planes h w c3"]:
    """Every plane with the one before and the one behind it as channels; zeros beyond the ends."""
    n, depth, h, w, c = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))
    beside = jnp.concatenate([padded[:, tap : tap + depth] for tap in range(_TAPS)], axis=-1)
    return beside.reshape(n * depth, h, w, _TAPS * c)


def upsample_conv3x3x3(
    x: Float[Array, "n d h w c"], kernel: VolumeUpsampleKernel, bias: Any = None, *, relu: bool = False, factor: int = 2
) -> Float[Array, "n d h2 w2 o"]:
    """Nearest upsampling of height and width, then a 3 × 3 × 3 convolution with zero padding of 1; arguments as those
    of `fast.upsample_conv3x3`."""
    planes = fast.upsample_conv3x3(neighbouring_planes(x), kernel.planes, bias, relu=relu, factor=factor)
    return planes.reshape(*x.shape[:2], *planes.shape[1:])
