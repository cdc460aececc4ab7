"""Depthwise convolution that is fast on a CPU too.

XLA's CPU compiler runs a depthwise convolution ten times slower than the sum of shifted products over the kernel's
elements, and the derivative of that sum slower than the same sum over the cotangent. Accelerators run the plain
operator.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.typing import Array, Float

Pair = tuple[int, int]


def _geometry(size: int, taps: int, stride: int, padding: str) -> tuple[int, int, int]:
    """Length of the output along an axis, and the zeros in front of and behind the input."""
    if padding == "VALID":
        return (size - taps) // stride + 1, 0, 0
    out = -(-size // stride)
    missing = max((out - 1) * stride + taps - size, 0)
    return out, missing // 2, missing - missing // 2


def _shifted(x: Array, shape: tuple[int, ...], strides: Pair, i: int, j: int) -> jax.Array:
    """The padded input under the kernel's element (i, j), for an output of `shape`."""
    n, h, w, c = shape
    end = (n, i + (h - 1) * strides[0] + 1, j + (w - 1) * strides[1] + 1, c)
    return jax.lax.slice(x, (0, i, j, 0), end, (1, *strides, 1))


def _sum_of_products(x: Array, kernel: Array, shape: tuple[int, ...], strides: Pair) -> jax.Array:
    x = jax.lax.optimization_barrier(x)  # otherwise the padding is computed again for every product
    places = np.ndindex(kernel.shape[0], kernel.shape[1])
    products = (_shifted(x, shape, strides, i, j) * kernel[i, j] for i, j in places)
    return sum(products, jnp.zeros((), x.dtype))


def _padded(x: Array, kernel: Array, strides: Pair, padding: str) -> tuple[jax.Array, tuple[int, ...]]:
    rows = _geometry(x.shape[1], kernel.shape[0], strides[0], padding)
    columns = _geometry(x.shape[2], kernel.shape[1], strides[1], padding)
    shape = (x.shape[0], rows[0], columns[0], x.shape[3])
    return jnp.pad(x, ((0, 0), rows[1:], columns[1:], (0, 0))), shape


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _by_shifts(x: Array, kernel: Array, strides: Pair, padding: str) -> jax.Array:
    padded, shape = _padded(x, kernel, strides, padding)
    return _sum_of_products(padded, kernel, shape, strides)


def _forward(x: Array, kernel: Array, strides: Pair, padding: str) -> tuple[jax.Array, tuple[Array, Array]]:
    return _by_shifts(x, kernel, strides, padding), (x, kernel)


def _backward(strides: Pair, padding: str, kept: tuple[Array, Array], dy: Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    # Of the input: the cotangent, dilated by the stride, under the kernel rotated by 180 degrees.
    pads = []
    for axis in (0, 1):
        taps, size, out, stride = kernel.shape[axis], x.shape[axis + 1], dy.shape[axis + 1], strides[axis]
        front = taps - 1 - _geometry(size, taps, stride, padding)[1]
        pads.append((front, size + taps - 1 - front - ((out - 1) * stride + 1), stride - 1))
    spread = jax.lax.pad(dy, np.zeros((), dy.dtype), ((0, 0, 0), *pads, (0, 0, 0)))
    to_x = _sum_of_products(spread, kernel[::-1, ::-1], x.shape, (1, 1))
    # Of the kernel (removed by the compiler where it is frozen).
    padded, shape = _padded(x, kernel, strides, padding)
    places = [(_shifted(padded, shape, strides, i, j) * dy).sum((0, 1, 2)) for i, j in np.ndindex(kernel.shape[:2])]
    return to_x, jnp.stack(places).reshape(kernel.shape)


_by_shifts.defvjp(_forward, _backward)


def _plain(x: Array, kernel: Array, strides: Pair, padding: str, dilation: Pair) -> jax.Array:
    return jax.lax.conv_general_dilated(
        *(x, kernel[:, :, None], strides, padding),
        rhs_dilation=dilation,
        feature_group_count=x.shape[-1],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def depthwise(
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "kh kw cm"],
    strides: Pair = (1, 1),
    padding: str = "SAME",
    dilation: Pair = (1, 1),
) -> Float[Array, "n h2 w2 cm"]:
    """Convolve each channel with its own kernel (or its own m kernels).

    On a CPU only reverse-mode derivatives exist (`grad`, `vjp`).

    Args:
      x: images.
      kernel: channel c's kernels are `kernel[..., c m]` … `kernel[..., c m + m - 1]`.
      strides: down and across.
      padding: `SAME` (TensorFlow's: an odd zero goes behind) or `VALID`.
      dilation: spacing of the kernel's elements.
    """
    if kernel.shape[-1] != x.shape[-1] or dilation != (1, 1):
        return _plain(x, kernel, strides, padding, dilation)
    out: jax.Array = jax.lax.platform_dependent(
        x,
        kernel,
        cpu=lambda a, b: _by_shifts(a, b, strides, padding),
        default=lambda a, b: _plain(a, b, strides, padding, dilation),
    )
    return out
