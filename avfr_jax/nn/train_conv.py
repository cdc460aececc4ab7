"""Convolution for training on a CPU: 3 × 3 layers and both their gradients by minimal filtering.

A 3 × 3 convolution of stride 1 by Winograd's F(4 × 4, 3 × 3) is a product of matrices at each of 36 points, with a
quarter of the multiplications (Winograd 1980; Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
2016). Its gradients are the transposed products at the same points: with y = A ((G k) * (B x)), the incoming gradient
is spread by Aᵀ once and serves both. XLA's own convolutions on a CPU run on one core when few channels come out, and
the gradient of the kernel always does.

On an accelerator, for another size or dtype, and for very few channels, this is the plain operation.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.nn.fast import WINOGRAD_POINTS, toom_cook
from avfr_jax.typing import Array, Float

_A, _G, _B = toom_cook(WINOGRAD_POINTS, 3)
_TILE, _POINTS = len(_A), len(_B)
# Below this many channels on either side the transforms cost more than they save.
_LEAST_CHANNELS = 24
# Small images have few tiles to share the transformed kernel, and their statistics magnify rounding errors.
_LEAST_SIZE = 16


def convolution(
    x: Float[Array, "n *space c"],
    kernel: Float[Array, "*taps c o"],
    strides: tuple[int, ...],
    padding: tuple[int, ...],
) -> Float[Array, "n *space2 o"]:
    """Convolution over 1–3 spatial axes, channels last, by whatever is quickest to train on this platform.

    Args:
      x: any float dtype; the kernel's too.
      kernel: taps along every axis, input and output channels.
      strides: one an axis.
      padding: zeros before and after, one number an axis.
    """
    if _suits(x, kernel, strides, padding):
        return _conv3x3(x, kernel)
    return _plain(x, kernel, strides, padding)


def _suits(x: Array, kernel: Array, strides: tuple[int, ...], padding: tuple[int, ...]) -> bool:
    return (
        kernel.shape[:-2] == (3, 3)
        and strides == (1, 1)
        and padding == (1, 1)
        and x.dtype == kernel.dtype == jnp.float32
        and min(kernel.shape[-2:]) >= _LEAST_CHANNELS
        and min(x.shape[1:3]) >= _LEAST_SIZE
    )


def _plain(x: Array, kernel: Array, strides: tuple[int, ...], padding: tuple[int, ...]) -> Array:
    space = "DHW"[3 - len(strides) :]
    numbers = (f"N{space}C", f"{space}IO", f"N{space}C")
    return jax.lax.conv_general_dilated(x, kernel, strides, [(p, p) for p in padding], dimension_numbers=numbers)


# --- 3 × 3, stride 1, padding 1 -----------------------------------------------------------------------------------


@jax.custom_vjp
def _conv3x3(x: Array, kernel: Array) -> Array:
    return jax.lax.platform_dependent(x, kernel, cpu=_winograd, default=_plain3x3)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _conv3x3(x, kernel), (x, kernel)


def _backward(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    return jax.lax.platform_dependent(x, kernel, g, cpu=_winograd_gradients, default=_plain_gradients)


_conv3x3.defvjp(_forward, _backward)


def _plain3x3(x: Array, kernel: Array) -> Array:
    return _plain(x, kernel, (1, 1), (1, 1))


def _plain_gradients(x: Array, kernel: Array, g: Array) -> tuple[Array, Array]:
    by_x, by_kernel = jax.vjp(_plain3x3, x, kernel)[1](g)
    return by_x, by_kernel


def _winograd(x: Array, kernel: Array) -> Array:
    product = _product(_image_tiles(x), _kernel_points(kernel), 2, 1)
    return _gather_outputs(product, *x.shape[:3])


def _winograd_gradients(x: Array, kernel: Array, g: Array) -> tuple[Array, Array]:
    spread = _spread_outputs(g)
    by_kernel = _kernel_from_points(_product(_image_tiles(x), spread, 1, 1))
    by_tiles = _product(spread, _kernel_points(kernel), 2, 2)
    return _overlap_add(by_tiles, *x.shape[:3]), by_kernel


def _product(a: Array, b: Array, axis_a: int, axis_b: int) -> Array:
    return jax.lax.dot_general(a, b, (((axis_a,), (axis_b,)), ((0,), (0,))))


def _kernel_points(kernel: Array) -> Array:
    """`[3, 3, C, O]` -> `[36, C, O]`, the column's point first."""
    g = jnp.asarray(_G, jnp.float32)
    points = jnp.einsum("ai,bj,ijco->baco", g, g, kernel, precision="highest")
    return points.reshape(_POINTS**2, *kernel.shape[2:])


def _kernel_from_points(points: Array) -> Array:
    """The transpose of `_kernel_points`."""
    g = jnp.asarray(_G, jnp.float32)
    square = points.reshape(_POINTS, _POINTS, *points.shape[1:])
    return jnp.einsum("ai,bj,baco->ijco", g, g, square, precision="highest")


def _combine(matrix: np.ndarray, parts: Sequence[Array]) -> list[Array]:
    """Rows of a small constant matrix times a list of arrays, written out so that zeros cost nothing."""
    out = []
    for row in matrix:
        terms = [part if c == 1 else part * np.float32(c) for c, part in zip(row, parts, strict=True) if c]
        out.append(sum(terms[1:], terms[0]))
    return out


def _count(size: int) -> int:
    return -(-size // _TILE)


def _image_tiles(x: Array) -> Array:
    """`[N, H, W, C]` -> `[36, tiles, C]`: B of every 6 × 6 tile."""
    n, h, w, c = x.shape
    rows, columns = _count(h), _count(w)
    x = jnp.pad(x, ((0, 0), (1, 1 + rows * _TILE - h), (1, 1 + columns * _TILE - w), (0, 0)))
    down = _combine(_B, [x[:, i : i + _TILE * (rows - 1) + 1 : _TILE] for i in range(_POINTS)])
    # Without the barrier XLA would work the row transform out anew for each of the six columns; likewise below.
    spread = jax.lax.optimization_barrier(jnp.stack(down))
    across = _combine(_B, [spread[:, :, :, j : j + _TILE * (columns - 1) + 1 : _TILE] for j in range(_POINTS)])
    return jnp.stack(across).reshape(_POINTS**2, n * rows * columns, c)


def _gather_outputs(product: Array, n: int, h: int, w: int) -> Array:
    """`[36, tiles, O]` -> `[N, H, W, O]`: A of every tile."""
    rows, columns = _count(h), _count(w)
    product = product.reshape(_POINTS, _POINTS, n, rows, columns, -1)
    across = _combine(_A, list(product))
    square = [jnp.stack(_combine(_A, list(part)), axis=2) for part in across]
    y = jnp.stack(square, axis=4).reshape(n, rows * _TILE, columns * _TILE, -1)
    return y[:, :h, :w]


def _spread_outputs(g: Array) -> Array:
    """The transpose of `_gather_outputs`: `[N, H, W, O]` -> `[36, tiles, O]`."""
    n, h, w, o = g.shape
    rows, columns = _count(h), _count(w)
    g = jnp.pad(g, ((0, 0), (0, rows * _TILE - h), (0, columns * _TILE - w), (0, 0)))
    g = g.reshape(n, rows, _TILE, columns, _TILE, o)
    down = jax.lax.optimization_barrier(jnp.stack(_combine(_A.T, [g[:, :, i] for i in range(_TILE)])))
    across = _combine(_A.T, [down[..., j, :] for j in range(_TILE)])
    return jnp.stack(across).reshape(_POINTS**2, n * rows * columns, o)


def _overlap_add(tiles: Array, n: int, h: int, w: int) -> Array:
    """The transpose of `_image_tiles`: `[36, tiles, C]` -> `[N, H, W, C]`, overlapping tiles added."""
    rows, columns = _count(h), _count(w)
    tiles = tiles.reshape(_POINTS, _POINTS, n, rows, columns, -1)
    across = jnp.stack(_join(_combine(_B.T, list(tiles)), 3), axis=4)
    across = jax.lax.optimization_barrier(across)
    down = _join(_combine(_B.T, list(across)), 1)
    x = jnp.stack(down, axis=2).reshape(n, (rows + 1) * _TILE, (columns + 1) * _TILE, -1)
    return x[:, 1 : h + 1, 1 : w + 1]


def _join(parts: Sequence[Array], axis: int) -> list[Any]:
    """Positions 0 … 5 of every tile, tiles along `axis` -> positions 0 … 3 of one tile more: the last two positions of
    a tile are the first two of the next."""
    pad = partial(_pad_axis, axis=axis)
    low = [pad(part, 0, 1) for part in parts[:_TILE]]
    over = [pad(part, 1, 0) for part in parts[_TILE:]]
    return [a + b for a, b in zip(low, over, strict=False)] + low[len(over) :]


def _pad_axis(x: Array, before: int, after: int, axis: int) -> Array:
    return jnp.pad(x, [(before, after) if i == axis else (0, 0) for i in range(x.ndim)])
