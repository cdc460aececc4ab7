"""Convolutions with less arithmetic, for inference on a CPU: the same function of the same weights, to rounding.

* Batch normalisation with fixed statistics is an affine map of each channel; behind a convolution it folds into it.
* A 3 × 3 convolution of stride 1 by Winograd's minimal filtering, F(4 × 4, 3 × 3): 2.25 multiplications an output
  instead of 9 (Winograd 1980; Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016).
* Nearest-neighbour upsampling then a 3 × 3 convolution: an upsampled image is constant over blocks, so each output
  needs the block under it and its differences from the neighbouring blocks; 2.25 multiplications instead of 9 where it
  is upsampled by 2.
* A large kernel with few output channels as one matrix product with every tap's weights side by side and shifted
  sums, because a product with 12 columns leaves most of the processor idle.
* A convolution that is only read as weighted sums over its output (Jacobians under heatmaps): sum first, convolve the
  sums.

Weights are transformed once, on the host, in float64; the transformed kernels are pytrees of float32 arrays. On an
accelerator the plain convolution is the faster one.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.typing import Array, Float

# Interpolation points besides infinity. These give float32 errors a quarter of those of the usual 0, ±1, ±2.
WINOGRAD_POINTS = (0.0, 0.5**0.5, -(0.5**0.5), 2.0**0.5, -(2.0**0.5))
# An upsampled row under a 3-tap filter (a, b, c): output 2i is (a + b + c) x[i] - a (x[i] - x[i-1]) and output
# 2i + 1 is (a + b + c) x[i] + c (x[i+1] - x[i]).
_UPSAMPLE_TAPS = np.array([[1, 1, 1], [-1, 0, 0], [0, 0, 1]], np.float64)


class WinogradKernel(NamedTuple):
    """`transformed`: `[36, C, O]`, a 3 × 3 kernel at the 6 × 6 interpolation points, the column's index first."""

    transformed: Any


class UpsampleKernel(NamedTuple):
    """A 3 × 3 kernel behind nearest upsampling, as 1 × 1 kernels on the low-resolution image and its differences.

    Attributes:
      level: `[C, O]` on the image itself.
      across: `[C, 2 O]` on horizontal differences: for even columns, then odd.
      down: `[C, 2 O]` on vertical differences: for even rows, then odd.
      mixed: `[C, 4 O]` on differences both ways: even row and column, even row, even column, neither.
    """

    level: Any
    across: Any
    down: Any
    mixed: Any


class TapKernel(NamedTuple):
    """`taps`: `[kh, C, kw, O]`: the rows of a kernel beside each other as the columns of one matrix product."""

    taps: Any


def batch_norm_affine(
    scale: Float[np.ndarray, " c"],
    beta: Float[np.ndarray, " c"],
    mean: Float[np.ndarray, " c"],
    var: Float[np.ndarray, " c"],
    epsilon: float = 1e-5,
) -> tuple[Float[np.ndarray, " c"], Float[np.ndarray, " c"]]:
    """Batch normalisation with fixed statistics as `x * gain + offset`; float64."""
    gain = np.asarray(scale, np.float64) / np.sqrt(np.asarray(var, np.float64) + epsilon)
    return gain, np.asarray(beta, np.float64) - np.asarray(mean, np.float64) * gain


def convolve(
    x: Float[Array, "n h w c"], kernel: Float[Array, "kh kw c o"], padding: int | Sequence[tuple[int, int]]
) -> Float[Array, "n h2 w2 o"]:
    """Plain convolution of stride 1; `padding` is one number of zeros for every side, or (before, after) an axis."""
    pad = [(padding, padding)] * 2 if isinstance(padding, int) else list(padding)
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), pad, dimension_numbers=("NHWC", "HWIO", "NHWC"))


# --- 3 × 3 by minimal filtering -----------------------------------------------------------------------------------


def toom_cook(points: Sequence[float], taps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrices of the minimal filtering algorithm with the given finite interpolation points and infinity.

    With n = len(points) + 1 products, m = n - taps + 1 outputs y[i] = sum_k g[k] d[i + k] are
    y = A ((G g) * (B d)) (Lavin and Gray 2016, eq. 6; Winograd 1980).

    Returns:
      A `[m, n]`, G `[n, taps]`, B `[n, n]`, float64.
    """
    p = np.asarray(points, np.float64)
    n = len(p) + 1
    a, g, b = np.zeros((n - taps + 1, n)), np.zeros((n, taps)), np.zeros((n, n))
    for i, point in enumerate(p):
        others = np.delete(p, i)
        a[:, i] = point ** np.arange(len(a))
        g[i] = point ** np.arange(taps) / np.prod(point - others)
        b[i, :-1] = np.poly(others)[::-1]
    a[-1, -1] = g[-1, -1] = 1
    b[-1] = np.poly(p)[::-1]
    b[np.abs(b) < 1e-12] = 0  # rounding errors of zeros, which the sums below skip
    return a, g, b


WINOGRAD_MATRICES = toom_cook(WINOGRAD_POINTS, 3)
_A, _G, _B = WINOGRAD_MATRICES
_TILE = len(_A)  # outputs a tile along each axis: 4
_POINTS = len(_B)  # inputs a tile and products along each axis: 6


def winograd_kernel(kernel: Float[np.ndarray, "3 3 c o"]) -> WinogradKernel:
    """Transform a kernel for `conv3x3_winograd` (on the host): 4 times the numbers of the plain kernel."""
    k = np.asarray(kernel, np.float64)
    u = np.einsum("ai,bj,ijco->baco", _G, _G, k, optimize=True)
    return WinogradKernel(u.reshape(_POINTS**2, *k.shape[2:]).astype(np.float32))


def traced_winograd_kernel(kernel: Float[Array, "3 3 c o"]) -> WinogradKernel:
    """`winograd_kernel` inside a traced program."""
    g = jnp.asarray(_G, jnp.float32)
    points = jnp.einsum("ai,bj,ijco->baco", g, g, kernel, precision="highest")
    return WinogradKernel(points.reshape(_POINTS**2, *kernel.shape[2:]))


def combine(matrix: np.ndarray, parts: Sequence[Array]) -> list[Array]:
    """Rows of a small constant matrix times a list of arrays, written out so that zeros cost nothing."""
    out = []
    for row in matrix:
        terms = [part if c == 1 else part * np.float32(c) for c, part in zip(row, parts, strict=True) if c]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        out.append(total)
    return out


def conv3x3_winograd(x: Float[Array, "n h w c"], kernel: WinogradKernel) -> Float[Array, "n h w o"]:
    """3 × 3 convolution, stride 1, zero padding of 1; any size, whole tiles of 4 × 4 being the quickest.

    The float32 error is about 3e-6 of the largest output at 256 channels, where the plain sum's is 3e-7.

    Args:
      x: float32.
      kernel: from `winograd_kernel`.
    """
    product = jax.lax.dot_general(image_tiles(x), kernel.transformed, (((2,), (1,)), ((0,), (0,))))
    return gather_outputs(product, *x.shape[:3])


def image_tiles(x: Float[Array, "n h w c"]) -> Float[Array, "36 tiles c"]:
    """Every 6 × 6 tile of an image at the interpolation points; tiles overlap by two pixels and zeros surround them."""
    n, h, w, c = x.shape
    rows, columns = -(-h // _TILE), -(-w // _TILE)
    edge = [(1, 1 + rows * _TILE - h), (1, 1 + columns * _TILE - w)]
    x = jnp.pad(x, ((0, 0), *edge, (0, 0)))
    spread = jnp.stack(combine(_B, [x[:, i : i + _TILE * (rows - 1) + 1 : _TILE] for i in range(_POINTS)]))
    # Without the barrier XLA would work the row transform out anew for each of the six columns.
    spread = jax.lax.optimization_barrier(spread)
    tiles = combine(_B, [spread[:, :, :, j : j + _TILE * (columns - 1) + 1 : _TILE] for j in range(_POINTS)])
    return jnp.stack(tiles).reshape(_POINTS**2, n * rows * columns, c)


def gather_outputs(product: Float[Array, "36 tiles o"], n: int, h: int, w: int) -> Float[Array, "n h w o"]:
    """The image whose tiles' products at the interpolation points are given."""
    rows, columns = -(-h // _TILE), -(-w // _TILE)
    product = product.reshape(_POINTS, _POINTS, n, rows, columns, -1)
    across = combine(_A, list(product))  # one a column of the tile, each [6, n, rows, columns, o]
    square = [jnp.stack(combine(_A, list(part)), axis=2) for part in across]
    y = jnp.stack(square, axis=4).reshape(n, rows * _TILE, columns * _TILE, -1)
    return y[:, :h, :w]


# --- nearest upsampling then 3 × 3 --------------------------------------------------------------------------------


def upsample_kernel(kernel: Float[np.ndarray, "3 3 c o"]) -> UpsampleKernel:
    """Transform a kernel for `upsample_conv3x3` (on the host): as many numbers as the plain kernel."""
    u = np.einsum("ai,bj,ijco->abco", _UPSAMPLE_TAPS, _UPSAMPLE_TAPS, np.asarray(kernel, np.float64))
    u = u.astype(np.float32)
    return UpsampleKernel(
        u[0, 0],
        np.concatenate([u[0, 1], u[0, 2]], axis=-1),
        np.concatenate([u[1, 0], u[2, 0]], axis=-1),
        np.concatenate([u[1, 1], u[1, 2], u[2, 1], u[2, 2]], axis=-1),
    )


def _matmul(x: Array, kernel: Array, groups: int) -> Array:
    """1 × 1 convolution as a matrix product; the output channels in `groups` equal parts."""
    y = x.reshape(-1, x.shape[-1]) @ kernel
    return y.reshape(*x.shape[:-1], groups, -1)


def upsample_conv3x3_phases(x: Float[Array, "n h w c"], kernel: UpsampleKernel, factor: int = 2) -> list[list[Any]]:
    """`upsample_conv3x3` before its outputs are put in order: pixel (i, j) of `phases[p][q]`, `[n, h, w, o]`, is output
    (factor · i + p, factor · j + q)."""
    h, w = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    vertical = padded[:, 1:] - padded[:, :-1]
    level = _matmul(x, kernel.level, 1)[..., 0, :]
    across = _matmul(padded[:, 1:-1, 1:] - padded[:, 1:-1, :-1], kernel.across, 2)
    down = _matmul(vertical[:, :, 1:-1], kernel.down, 2)
    mixed = _matmul(vertical[:, :, 1:] - vertical[:, :, :-1], kernel.mixed, 4)
    edges = {0: 0, factor - 1: 1}  # the others of a block's pixels have no neighbour in another block

    def phase(row: int | None, column: int | None) -> Any:
        y = level
        if column is not None:
            y = y + across[:, :, column : column + w, column]
        if row is not None:
            y = y + down[:, row : row + h, :, row]
        if row is not None and column is not None:
            y = y + mixed[:, row : row + h, column : column + w, 2 * row + column]
        return y

    return [[phase(edges.get(p), edges.get(q)) for q in range(factor)] for p in range(factor)]


def interleave_phases(phases: list[list[Any]]) -> Float[Array, "n h2 w2 o"]:
    """`phases[p][q]`, f × f of them -> the image whose pixel (f i + p, f j + q) is pixel (i, j) of that phase."""
    n, h, w, o = phases[0][0].shape
    rows = [jnp.stack(row, axis=3) for row in phases]
    return jnp.stack(rows, axis=2).reshape(n, len(phases) * h, len(phases) * w, o)


def upsample_conv3x3(
    x: Float[Array, "n h w c"],
    kernel: UpsampleKernel,
    bias: Float[Array, " o"] | None = None,
    *,
    relu: bool = False,
    factor: int = 2,
) -> Float[Array, "n h2 w2 o"]:
    """Nearest upsampling, then a 3 × 3 convolution with zero padding of 1: `[n, factor h, factor w, o]`.

    Args:
      x: float32, at the low resolution.
      kernel: from `upsample_kernel`.
      bias: added if given.
      relu: cut off below zero at the end (before the outputs are put in order, which is cheaper).
      factor: 2 or more.
    """
    phases = upsample_conv3x3_phases(x, kernel, factor)
    if bias is not None:
        phases = [[phase + bias for phase in row] for row in phases]
    if relu:
        phases = [[jax.nn.relu(phase) for phase in row] for row in phases]
    # Sums first, then pure copies: fused into the copies, XLA's loops branch at every element.
    return interleave_phases(jax.lax.optimization_barrier(phases))


# --- large kernels with few outputs -------------------------------------------------------------------------------


def tap_kernel(kernel: Float[np.ndarray, "kh kw c o"]) -> TapKernel:
    """Lay a kernel out for `conv_few_outputs` (on the host)."""
    return TapKernel(np.moveaxis(np.asarray(kernel, np.float32), 2, 1))


def conv_few_outputs(x: Float[Array, "n h w c"], kernel: TapKernel, padding: int) -> Float[Array, "n h2 w2 o"]:
    """Convolution with a large kernel and few output channels, stride 1.

    Args:
      x: float32.
      kernel: from `tap_kernel`.
      padding: zeros added on every side.
    """
    kh, c, kw, o = kernel.taps.shape
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    h, w = x.shape[1] - kh + 1, x.shape[2] - kw + 1
    # Every row's taps as output channels of one kw-tap convolution along the rows, then a sum over shifted rows.
    along = kernel.taps.transpose(2, 1, 0, 3).reshape(1, kw, c, kh * o)
    y = convolve(x, along, 0).reshape(*x.shape[:2], w, kh, o)
    total = y[:, :h, :, 0]
    for i in range(1, kh):
        total = total + y[:, i : i + h, :, i]
    return total


def weighted_conv_sums(
    x: Float[Array, "n h w c"], weights: Float[Array, "n h2 w2 k"], kernel: Float[Array, "kh kw c g j"]
) -> Float[Array, "n k j"]:
    """sum over z of weights[z, k] · conv(x, kernel[..., k, :])[z], without the convolution.

    Each output is linear in the sums of `x` under a weight map shifted to each tap, of which there are fewer by a
    factor j.

    Args:
      x: float32, padded already.
      weights: one map a group of outputs, of the size that the convolution without padding gives.
      kernel: g groups of j outputs: one a map, or one shared by all maps.
    """
    kh, kw = kernel.shape[:2]
    h, w, k = weights.shape[1:]
    if x.shape[1:3] != (h + kh - 1, w + kw - 1):
        raise ValueError(f"{x.shape[1:3]} pixels under {kh} × {kw} taps do not give {h} × {w} outputs")
    sides = [((0, 0), (0, 0), (j, kw - 1 - j), (0, 0)) for j in range(kw)]
    shifted = jnp.stack([jnp.pad(weights, side) for side in sides], axis=3)
    rows = [jnp.einsum("nyxjk,nyxc->njkc", shifted, x[:, i : i + h]) for i in range(kh)]
    shared = jnp.broadcast_to(kernel, (*kernel.shape[:3], k, kernel.shape[-1]))
    return jnp.einsum("injkc,ijckm->nkm", jnp.stack(rows), shared)
