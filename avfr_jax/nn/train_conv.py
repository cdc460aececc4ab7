"""Convolution for training on a CPU: 3 × 3 layers by minimal filtering, gradients of kernels in blocks.

A 3 × 3 convolution of stride 1 by Winograd's F(4 × 4, 3 × 3) is a product of matrices at each of 36 points, with a
quarter of the multiplications (Winograd 1980; Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
2016). Its gradients are the transposed products at the same points: with y = A ((G k) * (B x)), the incoming gradient
is spread by Aᵀ once and serves both. It pays where many channels share many tiles.

XLA's own convolution on a CPU is quick forwards and towards the image, and slow (a twentieth of the speed, on one core)
towards the kernel of a large image. There the gradient is a sum over blocks of rows small enough for the cache, each a
product of the block's shifted copies with the other side.

All this where a network is traced with kernels for training (`ops.platform`), in float32 and with stride 1; elsewhere,
on accelerators and for small images, convolution is the plain operation.

A convolution of volumes is there, and in networks for inference on a CPU, the sum of one convolution of planes a depth
tap, which XLA computes three to five times as quickly as its own convolution of volumes. In training on a TPU, in any
dtype, it is one of planes too: where the outputs of all depth taps together are few, one convolution computes them as
channels of one product, which fills the matrix unit, and they are added afterwards; else again one a tap.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.nn import fast
from avfr_jax.nn.fast_volumes import neighbouring_planes
from avfr_jax.ops.platform import by_platform, kernels_wanted
from avfr_jax.typing import Array, Float

_A, _G, _B = fast.WINOGRAD_MATRICES
_TILE, _POINTS = len(_A), len(_B)
# Rows of a block hold about this many positions.
_BLOCK = 512
# Most channels for which all depth taps at once are quicker than one after the other, by libtpu's cycles for v5e:
# 7 taps of 21 outputs 26 and 39 ms, 3 of 137 outputs 26 and 19 ms.
_TPU_CHANNELS = 256
_Padding = tuple[int, ...]
# Which of a 3-tap kernel's taps fall on the first and the second small pixel under an upsampled pixel of either place:
# [place, small pixel, tap].
_PLACES = (((1, 0, 0), (0, 1, 1)), ((1, 1, 0), (0, 0, 1)))


def convolution(
    x: Float[Array, "n *space c"],
    kernel: Float[Array, "*taps c o"],
    strides: tuple[int, ...],
    padding: tuple[int, ...],
) -> Float[Array, "n *space2 o"]:
    """Convolution over 1–3 spatial axes, channels last.

    Args:
      x: any float dtype; the kernel's too.
      kernel: taps along every axis, input and output channels.
      strides: one an axis.
      padding: zeros before and after, one number an axis.
    """
    inside = all(p < size for p, size in zip(padding, kernel.shape, strict=False))
    if strides == (1, 1) and inside and kernels_wanted("training", x, kernel):
        return _convolution2d(padding, x, kernel)
    if strides == (1, 1, 1) and _folding_pays(padding, x, kernel):
        if kernels_wanted("training"):
            return _convolution3d(padding, x, kernel)
        if kernels_wanted("inference", x, kernel):
            return _depth_folded(padding, x, kernel)
    return _plain(x, kernel, strides, padding)


def upsampled_convolution(
    x: Float[Array, "n *depth h w c"], kernel: Float[Array, "*taps 3 3 c o"]
) -> Float[Array, "n *depth h2 w2 o"]:
    """Nearest upsampling of height and width by 2, then a 3 × 3 (× 3) convolution with zeros around, in 4/9 of the
    multiplications.

    Each of an upsampled pixel's four places depends on 2 × 2 pixels of the small image, under sums of the kernel's
    taps: one 2 × 2 convolution of the small image gives all four places. A volume is a batch of planes, each with its
    neighbours as channels. Any dtype; the kernel's must be the same.
    """
    if kernel.ndim == 5:
        planes = upsampled_convolution(neighbouring_planes(x), jnp.concatenate(list(kernel), axis=-2))
        return planes.reshape(*x.shape[:2], *planes.shape[1:])
    n, h, w, _ = x.shape
    places = jnp.asarray(_PLACES, kernel.dtype)
    taps = jnp.einsum("ait,bju,tuco->ijcabo", places, places, kernel, precision="highest")
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = convolution(padded, taps.reshape(2, 2, x.shape[-1], -1), (1, 1), (0, 0))
    y = y.reshape(n, h + 1, w + 1, 2, 2, -1)
    rows = [jnp.stack([y[:, a : a + h, b : b + w, a, b] for b in range(2)], axis=3) for a in range(2)]
    return jnp.stack(rows, axis=2).reshape(n, 2 * h, 2 * w, -1)


def _plain(x: Array, kernel: Array, strides: tuple[int, ...], padding: _Padding) -> Array:
    space = "DHW"[3 - len(strides) :]
    numbers = (f"N{space}C", f"{space}IO", f"N{space}C")
    return jax.lax.conv_general_dilated(x, kernel, strides, [(p, p) for p in padding], dimension_numbers=numbers)


# --- two axes, stride 1 -------------------------------------------------------------------------------------------


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _convolution2d(padding: _Padding, x: Array, kernel: Array) -> Array:
    plain = partial(_plain, strides=(1, 1), padding=padding)
    if not _winograd_pays(padding, x, kernel):
        return plain(x, kernel)
    return by_platform(x, kernel, cpu=_winograd, default=plain)


def _forward(padding: _Padding, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _convolution2d(padding, x, kernel), (x, kernel)


def _backward(padding: _Padding, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    on_cpu, elsewhere = partial(_cpu_gradients, padding), partial(_plain_gradients, padding)
    return by_platform(*saved, g, cpu=on_cpu, default=elsewhere)


_convolution2d.defvjp(_forward, _backward)


def _plain_gradients(padding: _Padding, x: Array, kernel: Array, g: Array) -> tuple[Array, Array]:
    by_x, by_kernel = jax.vjp(partial(_plain, strides=(1, 1), padding=padding), x, kernel)[1](g)
    return by_x, by_kernel


def _cpu_gradients(padding: _Padding, x: Array, kernel: Array, g: Array) -> tuple[Array, Array]:
    """Each of the two by its quickest algorithm; an unused one is never computed."""
    by_x, by_kernel = _plain_gradients(padding, x, kernel, g)
    if _winograd_pays(padding, x, kernel):
        by_x = _winograd_image_gradient(x, kernel, g)
    if _winograd_pays_for_kernel(padding, x, kernel):
        by_kernel = _winograd_kernel_gradient(x, g)
    elif x.shape[-1] > 4 and np.prod(g.shape[:3]) >= 4 * _BLOCK:
        by_kernel = _kernel_gradient_in_blocks(padding, x, g, kernel.shape)
    return by_x, by_kernel


def _tiles(padding: _Padding, x: Array, kernel: Array) -> int:
    """Winograd's tiles in the batch; 0 where it does not apply. Few of them do not share the transformed kernel's
    cost, and small images' statistics magnify rounding errors."""
    n, h, w, _ = x.shape
    applies = kernel.shape[:2] == (3, 3) and padding == (1, 1) and min(h, w) >= 16
    return n * _count(h) * _count(w) if applies else 0


def _winograd_pays(padding: _Padding, x: Array, kernel: Array) -> bool:
    channels = kernel.shape[2:]
    return min(channels) >= 128 and _tiles(padding, x, kernel) >= 2 * max(channels)


def _winograd_pays_for_kernel(padding: _Padding, x: Array, kernel: Array) -> bool:
    channels = kernel.shape[2:]
    return min(channels) >= 128 and 2 * _tiles(padding, x, kernel) >= max(channels)


# --- three axes, stride 1 -----------------------------------------------------------------------------------------


def _folding_pays(padding: _Padding, x: Array, kernel: Array) -> bool:
    """A third to a fifth of the time of XLA's own on planes of 16 × 16 and more, the same at 8 × 8, longer below, where
    reading the weights costs most."""
    deep = kernel.shape[0] == 2 * padding[0] + 1 <= 2 * x.shape[1]
    return deep and x.shape[2] * x.shape[3] > 64 and all(2 * p < k for p, k in zip(padding, kernel.shape, strict=False))


def _depth_folded(padding: _Padding, x: Array, kernel: Array) -> Array:
    """A convolution of volumes, depth in the batch: the sum of one convolution of the planes a depth tap."""
    n, depth = x.shape[:2]
    total: Array | None = None
    for tap in range(kernel.shape[0]):
        shift = tap - padding[0]  # output plane d takes input plane d + shift
        planes = x[:, max(shift, 0) : depth + min(shift, 0)]
        y = _planes(padding[1:], planes.reshape(-1, *x.shape[2:]), kernel[tap])
        y = y.reshape(n, -1, *y.shape[1:])
        y = jnp.pad(y, ((0, 0), (max(-shift, 0), max(shift, 0)), *((0, 0),) * 3))
        total = y if total is None else total + y
    assert total is not None
    return total


def _planes(padding: _Padding, x: Array, kernel: Array) -> Array:
    side, outputs = min(kernel.shape[:2]), kernel.shape[-1]
    if kernels_wanted("inference", x, kernel) and side >= 5 and 4 <= outputs <= 32 and len(set(padding)) == 1:
        return fast.conv_few_outputs(x, fast.TapKernel(jnp.moveaxis(kernel, 2, 1)), padding[0])
    return convolution(x, kernel, (1, 1), padding)


def _taps_as_channels(padding: _Padding, x: Array, kernel: Array) -> Array:
    """A convolution of volumes as one of planes, whose channels are the outputs of every depth tap: each output plane
    is the sum of its neighbours' outputs of the tap between them."""
    (n, depth), taps = x.shape[:2], kernel.shape[0]
    together = jnp.moveaxis(kernel, 0, 3).reshape(*kernel.shape[1:4], -1)
    y = _plain(x.reshape(-1, *x.shape[2:]), together, (1, 1), padding[1:])
    y = y.reshape(n, depth, *y.shape[1:3], taps, -1)
    y = jnp.pad(y, ((0, 0), (padding[0], taps - 1 - padding[0]), *((0, 0),) * 4))
    return sum((y[:, tap : tap + depth, :, :, tap] for tap in range(1, taps)), y[:, :depth, :, :, 0])


def _volumes_on_tpu(padding: _Padding, x: Array, kernel: Array) -> Array:
    if kernel.shape[0] * kernel.shape[-1] <= _TPU_CHANNELS:
        return _taps_as_channels(padding, x, kernel)
    return _depth_folded(padding, x, kernel)


def _volumes(padding: _Padding, dtype: Any) -> dict[str, Any]:
    """The convolution by platform, see `by_platform`."""
    plain = partial(_plain, strides=(1, 1, 1), padding=padding)
    cpu = partial(_depth_folded, padding) if dtype == jnp.float32 else plain
    return {"cpu": cpu, "tpu": partial(_volumes_on_tpu, padding), "default": plain}


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _convolution3d(padding: _Padding, x: Array, kernel: Array) -> Array:
    return by_platform(x, kernel, **_volumes(padding, x.dtype))


def _forward_3d(padding: _Padding, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _convolution3d(padding, x, kernel), (x, kernel)


def _backward_3d(padding: _Padding, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    def gradients(function: Any, x: Array, kernel: Array, g: Array) -> tuple[Array, Array]:
        by_x, by_kernel = jax.vjp(function, x, kernel)[1](g)
        return by_x, by_kernel

    platforms = _volumes(padding, saved[0].dtype)
    return by_platform(*saved, g, **{name: partial(gradients, function) for name, function in platforms.items()})


_convolution3d.defvjp(_forward_3d, _backward_3d)


# --- gradients of kernels in blocks of rows -----------------------------------------------------------------------


def _kernel_gradient_in_blocks(padding: _Padding, x: Array, g: Array, shape: tuple[int, ...]) -> Array:
    """Sum over positions of every shift of the image times the gradient. The side with fewer channels is shifted."""
    above, beside, (up, left) = shape[0], shape[1], padding
    if shape[2] <= shape[3]:
        x = jnp.pad(x, ((0, 0), (up, up), (left, left), (0, 0)))
        return _sum_of_blocks(x, g, above, beside).reshape(shape)
    # y[q] = sum_k x[q + k - p] w[k], so that each x[i] meets g[i + p - k]: the shifts run backwards.
    up, left = above - 1 - up, beside - 1 - left
    g = jnp.pad(g, ((0, 0), (up, up), (left, left), (0, 0)))
    sums = _sum_of_blocks(g, x, above, beside).reshape(above, beside, shape[3], shape[2])
    return sums[::-1, ::-1].swapaxes(2, 3)


def _sum_of_blocks(shifted: Array, still: Array, above: int, beside: int) -> Array:
    """`[above, beside * C, O]`: sum over n, y, x of shifted[n, y + a, x + b, C] still[n, y, x, O]."""
    n, height, width, channels = still.shape
    rows = min(height, max(1, _BLOCK // (n * width)))
    blocks = -(-height // rows)
    missing = ((0, 0), (0, blocks * rows - height), (0, 0), (0, 0))
    shifted, still = jnp.pad(shifted, missing), jnp.pad(still, missing)

    def add(block: Any, total: Array) -> Array:
        part = jax.lax.dynamic_slice_in_dim(shifted, block * rows, rows + above - 1, 1)
        other = jax.lax.dynamic_slice_in_dim(still, block * rows, rows, 1)
        sums = []
        for a in range(above):
            copies = [part[:, a : a + rows, b : b + width] for b in range(beside)]
            sums.append(jnp.tensordot(jnp.concatenate(copies, axis=-1), other, ((0, 1, 2), (0, 1, 2))))
        return total + jnp.stack(sums)

    start = jnp.zeros((above, beside * shifted.shape[-1], channels), still.dtype)
    return jax.lax.fori_loop(0, blocks, add, start)


# --- Winograd -----------------------------------------------------------------------------------------------------


def _winograd(x: Array, kernel: Array) -> Array:
    return fast.conv3x3_winograd(x, fast.traced_winograd_kernel(kernel))


def _winograd_image_gradient(x: Array, kernel: Array, g: Array) -> Array:
    by_tiles = _product(_spread_outputs(g), fast.traced_winograd_kernel(kernel).transformed, 2, 2)
    return _overlap_add(by_tiles, *x.shape[:3])


def _winograd_kernel_gradient(x: Array, g: Array) -> Array:
    return _kernel_from_points(_product(fast.image_tiles(x), _spread_outputs(g), 1, 1))


def _product(a: Array, b: Array, axis_a: int, axis_b: int) -> Array:
    return jax.lax.dot_general(a, b, (((axis_a,), (axis_b,)), ((0,), (0,))))


def _kernel_from_points(points: Array) -> Array:
    """The transpose of `fast.traced_winograd_kernel`: `[36, C, O]` -> `[3, 3, C, O]`."""
    g = jnp.asarray(_G, jnp.float32)
    square = points.reshape(_POINTS, _POINTS, *points.shape[1:])
    return jnp.einsum("ai,bj,baco->ijco", g, g, square, precision="highest")


def _count(size: int) -> int:
    return -(-size // _TILE)


def _spread_outputs(g: Array) -> Array:
    """The transpose of `fast.gather_outputs`: `[N, H, W, O]` -> `[36, tiles, O]`."""
    n, h, w, o = g.shape
    rows, columns = _count(h), _count(w)
    g = jnp.pad(g, ((0, 0), (0, rows * _TILE - h), (0, columns * _TILE - w), (0, 0)))
    g = g.reshape(n, rows, _TILE, columns, _TILE, o)
    down = jax.lax.optimization_barrier(jnp.stack(fast.combine(_A.T, [g[:, :, i] for i in range(_TILE)])))
    across = fast.combine(_A.T, [down[..., j, :] for j in range(_TILE)])
    return jnp.stack(across).reshape(_POINTS**2, n * rows * columns, o)


def _overlap_add(tiles: Array, n: int, h: int, w: int) -> Array:
    """The transpose of `fast.image_tiles`: `[36, tiles, C]` -> `[N, H, W, C]`, overlapping tiles added."""
    rows, columns = _count(h), _count(w)
    tiles = tiles.reshape(_POINTS, _POINTS, n, rows, columns, -1)
    across = jnp.stack(_join(fast.combine(_B.T, list(tiles)), 3), axis=4)
    across = jax.lax.optimization_barrier(across)
    down = _join(fast.combine(_B.T, list(across)), 1)
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
