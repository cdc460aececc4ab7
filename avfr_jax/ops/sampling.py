"""Bilinear and trilinear sampling at arbitrary coordinates, equal to PyTorch's `grid_sample` in values and gradients.

Channels are last, so that each tap is one gather of whole channel vectors: on CPU about twice as fast as a gather
per channel in the backward pass, and the form that maps to wide rows on a TPU.
"""

import itertools
from typing import Literal

import jax
import jax.numpy as jnp

from avfr_jax.ops.grids import to_pixels
from avfr_jax.ops.precision import widen
from avfr_jax.typing import Array, Float, Int

Padding = Literal["zeros", "border", "reflection"]
PADDINGS = ("zeros", "border", "reflection")


def _clip(x: Array, size: int) -> Array:
    """Clamp to [0, size - 1]; the gradient is zero from the border outwards, the border included."""
    inside = (x > 0) & (x < size - 1)
    return jnp.where(inside, x, jax.lax.stop_gradient(jnp.clip(x, 0, size - 1)))


def _reflect(x: Array, size: int, align_corners: bool) -> Array:
    """Reflect about the border pixels' centres (align_corners) or about their outer edges."""
    low, span = (0.0, size - 1.0) if align_corners else (-0.5, float(size))
    if span == 0:
        return jnp.zeros_like(x)
    x = x - low
    x = jnp.where(x < 0, -x, x)
    turns = jnp.floor(x / span)
    rest = x - turns * span
    return jnp.where(turns % 2 == 0, rest, span - rest) + low


def _place(grid: Array, size: int, padding: str, align_corners: bool) -> Array:
    x = to_pixels(grid, size, align_corners=align_corners)
    if padding == "reflection":
        x = _reflect(x, size, align_corners)
    return x if padding == "zeros" else _clip(x, size)


def rows_at(rows: Float[Array, "n p c"], index: Int[Array, "n *out"]) -> Float[Array, "n *out c"]:
    """Each batch entry's own rows by number, all of them in bounds.

    The batch stays an axis of the gather, and of the scatter that is its gradient: with the batch divided over devices
    none needs another's rows, which a gather from one long list of rows would hide from the compiler.
    """
    return jax.vmap(lambda own, i: own.at[i].get(mode="promise_in_bounds"))(rows, index)


def _sample(image: Array, grid: Array, padding: str, align_corners: bool) -> Array:
    if padding not in PADDINGS:
        raise ValueError(f"padding must be one of {', '.join(PADDINGS)}, not {padding!r}")
    batch, *sizes, channels = image.shape
    dims = len(sizes)
    if grid.shape[0] != batch or grid.shape[-1] != dims:
        raise ValueError(f"image {image.shape} needs a grid [{batch}, …, {dims}], not {grid.shape}")
    grid = widen(grid)  # bfloat16 holds whole pixels only at 256 and above
    # The grid's last axis is (x, y[, z]); the image's axes are ([d,] h, w).
    where = [_place(grid[..., dims - 1 - a], sizes[a], padding, align_corners) for a in range(dims)]
    low = [jnp.floor(x) for x in where]
    rows = jnp.asarray(image).reshape(batch, -1, channels)
    out: Array | None = None
    for corner in itertools.product((0, 1), repeat=dims):
        index, weight = jnp.zeros((), jnp.int32), jnp.ones((), grid.dtype)
        for x, x0, step, size in zip(where, low, corner, sizes, strict=True):
            tap = x0 + step
            share = (x - x0) if step else (x0 + 1 - x)
            weight = weight * jnp.where((tap >= 0) & (tap <= size - 1), share, 0.0)
            index = index * size + jnp.clip(tap, 0, size - 1).astype(jnp.int32)
        taken = rows_at(rows, index)
        part = taken * weight[..., None].astype(image.dtype)
        out = part if out is None else out + part
    assert out is not None
    return out


def grid_sample_2d(
    image: Float[Array, "n h w c"],
    grid: Float[Array, "n *out 2"],
    padding: Padding = "zeros",
    align_corners: bool = False,
) -> Float[Array, "n *out c"]:
    """Bilinear samples of an image.

    Args:
      image: any float dtype.
      grid: (x, y) in [-1, 1]; any number of output axes, so that several warps of one image (FOMM's K + 1 sparse
        motions) are one gather. Positions are computed in float32 whatever the dtype.
      padding: outside of the image: `zeros`, `border` (replicated) or `reflection`.
      align_corners: whether ±1 are the centres of the border pixels (True) or their outer edges (False).

    Returns:
      Samples in the image's dtype.

    Raises:
      ValueError: for another padding mode, or a batch or coordinate count that does not fit.
    """
    return _sample(image, grid, padding, align_corners)


def grid_sample_3d(
    volume: Float[Array, "n d h w c"],
    grid: Float[Array, "n *out 3"],
    padding: Padding = "zeros",
    align_corners: bool = False,
) -> Float[Array, "n *out c"]:
    """Trilinear samples of a volume; as `grid_sample_2d`, with (x, y, z)."""
    return _sample(volume, grid, padding, align_corners)
