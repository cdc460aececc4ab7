"""Resizing: linear interpolation under both corner conventions, anti-aliased bicubic, nearest upsampling, pooling,
pixels folded into channels, and FOMM's anti-aliased downsampling and pyramids."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.ops.grids import corner_aligned, pixel_centres, to_pixels
from avfr_jax.ops.platform import kernels_wanted
from avfr_jax.typing import Array, Float


@functools.lru_cache(maxsize=64)
def _linear_weights(size: int, new: int, align_corners: bool) -> np.ndarray:
    """Matrix [new, size] that interpolates linearly along one axis, without anti-aliasing."""
    place = (
        to_pixels(corner_aligned(new), size, align_corners=True)
        if align_corners
        else to_pixels(pixel_centres(new).astype(np.float64), size)
    )
    place = np.clip(place, 0, size - 1)
    low = np.minimum(np.floor(place).astype(int), max(size - 2, 0))
    share = place - low
    weights = np.zeros((new, size), np.float32)
    weights[np.arange(new), low] += 1 - share
    weights[np.arange(new), np.minimum(low + 1, size - 1)] += share
    return weights


def resize_linear(
    x: Float[Array, "n *space c"], shape: tuple[int, ...], *, align_corners: bool = False
) -> Float[Array, "n *space2 c"]:
    """Bilinear or trilinear resizing without anti-aliasing, as PyTorch's `interpolate`.

    Separable: one small matrix product an axis, which is faster than a gather on CPU, GPU and TPU.

    Args:
      x: `[N, H, W, C]` or `[N, D, H, W, C]`.
      shape: the new spatial sizes.
      align_corners: which convention places the pixels.
    """
    if len(shape) != x.ndim - 2:
        raise ValueError(f"{len(shape)} sizes given for an array of {x.ndim - 2} spatial axes")
    for axis, new in enumerate(shape, start=1):
        if new != x.shape[axis]:
            weights = jnp.asarray(_linear_weights(x.shape[axis], new, align_corners), x.dtype)
            x = jnp.moveaxis(jnp.tensordot(weights, x, axes=(1, axis)), 0, axis)
    return x


@functools.lru_cache(maxsize=256)
def cubic_weights(size: int, new: int) -> Float[np.ndarray, "new size"]:
    """Matrix that resizes one axis from `size` to `new` pixels by Keys' cubic kernel (1981, a = -1/2), widened where it
    shrinks against aliasing; pixels beyond the border do not count. float32, rows sum to 1."""
    step = size / new
    centre = (np.arange(new) + 0.5) * step - 0.5
    far = np.abs(np.arange(size) - centre[:, None]) / max(step, 1.0)
    inner, outer = (1.5 * far - 2.5) * far * far + 1, ((2.5 - 0.5 * far) * far - 4) * far + 2
    weights = np.where(far < 1, inner, np.where(far < 2, outer, 0.0))
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def resize_cubic(x: Float[Array, "n h w c"], shape: tuple[int, int]) -> Float[Array, "n h2 w2 c"]:
    """Anti-aliased bicubic resizing, as PIL's `BICUBIC` and `jax.image.resize(method="cubic")`.

    The kernel overshoots: a picture in [0, 1] may leave it by a tenth. Separable, one matrix product an axis.

    Args:
      x: pictures.
      shape: the new height and width; the old ones return the pictures as they are.

    Raises:
      ValueError: a size below 1.
    """
    if min(shape) < 1:
        raise ValueError(f"a picture cannot be {shape[0]} x {shape[1]} pixels")
    for axis, new in enumerate(shape, start=1):
        if new != x.shape[axis]:
            weights = jnp.asarray(cubic_weights(x.shape[axis], new), x.dtype)
            x = jnp.moveaxis(jnp.tensordot(weights, x, axes=(1, axis), precision="highest"), 0, axis)
    return x


def space_to_depth(x: Float[Array, "n h w c"], size: int) -> Float[Array, "n h2 w2 c2"]:
    """Every square of `size` × `size` pixels as one pixel of size² times the channels; height and width are multiples
    of `size`."""
    n, h, w, c = x.shape
    x = x.reshape(n, h // size, size, w // size, size, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, h // size, w // size, size * size * c)


def depth_to_space(x: Float[Array, "n h w c"], size: int) -> Float[Array, "n h2 w2 c2"]:
    """The inverse of `space_to_depth` (pixel shuffle)."""
    n, h, w, c = x.shape
    x = x.reshape(n, h, w, size, size, c // size**2).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, h * size, w * size, c // size**2)


def upsample_nearest(x: Float[Array, "n *space c"], factors: tuple[int, ...]) -> Float[Array, "n *space2 c"]:
    """Repeat each pixel `factors[i]` times along spatial axis i."""
    for axis, factor in enumerate(factors, start=1):
        if factor != 1:
            x = jnp.repeat(x, factor, axis=axis)
    return x


def resize_nearest(x: Float[Array, "n *space c"], shape: tuple[int, ...]) -> Float[Array, "n *space2 c"]:
    """Nearest-neighbour resizing as PyTorch's `interpolate`: new pixel i shows old pixel floor(i · old / new)."""
    for axis, new in enumerate(shape, start=1):
        old = x.shape[axis]
        if new != old:
            x = (
                jnp.take(x, np.arange(new) * old // new, axis=axis, mode="clip")
                if new % old
                else jnp.repeat(x, new // old, axis=axis)
            )
    return x


def average_pool(x: Float[Array, "n *space c"], window: tuple[int, ...]) -> Float[Array, "n *space2 c"]:
    """Mean over non-overlapping windows; a remainder at the end is dropped."""
    if window == (2, 2) and kernels_wanted("inference", x):
        h, w = (length // 2 * 2 for length in x.shape[1:3])
        rows = x[:, 0:h:2] + x[:, 1:h:2]  # sums of strided slices vectorise where a window reduction does not
        return (rows[:, :, 0:w:2] + rows[:, :, 1:w:2]) * 0.25
    size = (1, *window, 1)
    total = jax.lax.reduce_window(x, np.zeros((), x.dtype), jax.lax.add, size, size, "VALID")
    return total / np.prod(window)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_pool(x: Float[Array, "n h w c"], size: int) -> Float[Array, "n h2 w2 c"]:
    """Maximum over non-overlapping squares; a remainder at the end is dropped.

    Where a square's maximum stands in several places, the first one in reading order gets the gradient, as in PyTorch.
    XLA's own gradient of a windowed maximum takes ten times as long on a CPU.
    """
    square = (1, size, size, 1)
    return jax.lax.reduce_window(x, np.array(-np.inf, x.dtype), jax.lax.max, square, square, "VALID")


def _square_places(x: Float[Array, "n h w c"], size: int) -> list[Float[Array, "n h2 w2 c"]]:
    """The first pixel of every square, the second …, in reading order."""
    _, h, w, _ = x.shape
    x = x[:, : h // size * size, : w // size * size]
    return [x[:, i::size, j::size] for i in range(size) for j in range(size)]


def _max_pool_forward(x: Array, size: int) -> tuple[Array, tuple[Array, Array]]:
    y = max_pool(x, size)
    return y, (x, y)


def _max_pool_backward(size: int, saved: tuple[Array, Array], g: Array) -> tuple[Array]:
    x, y = saved
    n, h, w, c = x.shape
    free, parts = jnp.ones(y.shape, bool), []
    for place in _square_places(x, size):
        here = free & (place == y)
        parts.append(jnp.where(here, g, jnp.zeros((), g.dtype)))
        free &= ~here
    grid = jnp.stack(parts, 3).reshape(*y.shape[:3], size, size, c)
    full = grid.transpose(0, 1, 3, 2, 4, 5).reshape(n, y.shape[1] * size, y.shape[2] * size, c)
    return (jnp.pad(full, ((0, 0), (0, h - full.shape[1]), (0, w - full.shape[2]), (0, 0))),)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


@functools.lru_cache(maxsize=16)
def antialias_kernel(scale: float) -> np.ndarray:
    """FOMM's Gaussian for downsampling by `scale` (< 1): sigma = (1/scale - 1)/2, 2 round(4 sigma) + 1 taps, [k, k]."""
    sigma = (1 / scale - 1) / 2
    size = 2 * round(sigma * 4) + 1
    offset = np.arange(size, dtype=np.float32) - (size - 1) / 2
    line = np.exp(-(offset**2) / (2 * sigma**2)).astype(np.float32)
    kernel = np.outer(line, line)
    return (kernel / kernel.sum()).astype(np.float32)


def _antialias_line(scale: float) -> np.ndarray:
    """`antialias_kernel` along one axis: the Gaussian is separable."""
    line = np.sqrt(np.diag(antialias_kernel(scale)))
    return line / line.sum()


@functools.lru_cache(maxsize=8)
def _antialias_matrix(size: int, scale: float) -> np.ndarray:
    """Matrix [new, size] of `antialias_downsample` along one axis."""
    step, line = round(1 / scale), _antialias_line(scale)
    half, new = len(line) // 2, -(-size // step)
    matrix = np.zeros((new, size + 2 * half), np.float32)
    for i in range(new):
        matrix[i, i * step : i * step + len(line)] = line
    return matrix[:, half : half + size]


def antialias_downsample(x: Float[Array, "n h w c"], scale: float) -> Float[Array, "n h2 w2 c"]:
    """FOMM's `AntiAliasInterpolation2d`: Gaussian blur over zero padding, then every (1/scale)-th pixel from the first.

    The kept pixels are the corner-aligned ones, not centred: trained weights rely on it. The blur is computed at the
    kept pixels only, and as two 1-D filters (the Gaussian is separable). `scale` = 1 returns the input.

    Raises:
      ValueError: if 1/scale is not a whole number.
    """
    if scale == 1:
        return x
    step = round(1 / scale)
    if abs(step * scale - 1) > 1e-6 or step < 1:
        raise ValueError(f"scale must be 1 over a whole number, not {scale}")
    line = _antialias_line(scale)
    if kernels_wanted("inference", x):  # two matrix products take a fifth of the time
        down, across = (jnp.asarray(_antialias_matrix(size, scale)) for size in x.shape[1:3])
        return jnp.einsum("jw,niwc->nijc", across, jnp.einsum("ih,nhwc->niwc", down, x))
    pad = len(line) // 2
    for axis in (1, 2):
        moved = jnp.moveaxis(x, axis, -1)
        rows = moved.reshape(-1, 1, moved.shape[-1])
        out = jax.lax.conv_general_dilated(
            rows, jnp.asarray(line, x.dtype)[None, None, :], (step,), [(pad, pad)], precision="highest"
        )
        x = jnp.moveaxis(out.reshape(*moved.shape[:-1], -1), -1, axis)
    return x


def pyramid(
    x: Float[Array, "n h w c"], scales: tuple[float, ...] = (1.0, 0.5, 0.25, 0.125)
) -> list[Float[Array, "n h2 w2 c"]]:
    """The image at each scale, anti-aliased as FOMM does; each level is made from the full-size image."""
    return [antialias_downsample(x, scale) for scale in scales]
