"""TFLite's operators on float arrays, each a function of its options (by name) and its inputs.

Images are [N, H, W, C]. Padding, rounding and corner conventions are TFLite's own.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.backbones.depthwise import depthwise
from avfr_jax.errors import ConfigError

# A kernel lies in the file as output, height, width, input.
_DIMENSIONS = ("NHWC", "OHWI", "NHWC")


def _activate(x: jax.Array, name: str) -> jax.Array:
    if name == "NONE":
        return x
    if name == "RELU":
        return jax.nn.relu(x)
    if name == "RELU6":
        return jnp.clip(x, 0, 6)
    raise ConfigError(f"The fused activation {name} is not known here (known: NONE, RELU, RELU6).")


def _bias(x: jax.Array, rest: Sequence[Any]) -> jax.Array:
    return x + rest[0] if rest else x


def _conv(o: Mapping[str, Any], x: jax.Array, kernel: jax.Array, *bias: jax.Array) -> jax.Array:
    strides, dilation = (o["stride_h"], o["stride_w"]), (o["dilation_h"], o["dilation_w"])
    y = jax.lax.conv_general_dilated(
        x, kernel, strides, o["padding"], rhs_dilation=dilation, dimension_numbers=_DIMENSIONS
    )
    return _activate(_bias(y, bias), o["activation"])


def _depthwise(o: Mapping[str, Any], x: jax.Array, kernel: jax.Array, *bias: jax.Array) -> jax.Array:
    y = depthwise(x, kernel[0], (o["stride_h"], o["stride_w"]), o["padding"], (o["dilation_h"], o["dilation_w"]))
    return _activate(_bias(y, bias), o["activation"])


def _transposed(o: Mapping[str, Any], x: jax.Array, kernel: jax.Array, *bias: jax.Array) -> jax.Array:
    """mediapipe's transposed convolution."""
    pads = []
    for size, stride in zip(kernel.shape[1:3], (o["stride_h"], o["stride_w"]), strict=True):
        cut = max(size - stride, 0) // 2 if o["padding"] == "SAME" else 0
        end = stride - 1 + cut if o["padding"] == "SAME" else size - 1 + max(stride - size, 0)
        pads.append((size - 1 - cut, end))
    y = jax.lax.conv_general_dilated(
        x, kernel[:, ::-1, ::-1], (1, 1), pads, (o["stride_h"], o["stride_w"]), dimension_numbers=_DIMENSIONS
    )
    return _bias(y, bias)


def _windows(o: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...], str]:
    return (1, o["window_h"], o["window_w"], 1), (1, o["stride_h"], o["stride_w"], 1), o["padding"]


def _max_pool(o: Mapping[str, Any], x: jax.Array) -> jax.Array:
    return _activate(jax.lax.reduce_window(x, np.array(-np.inf, x.dtype), jax.lax.max, *_windows(o)), o["activation"])


def _average_pool(o: Mapping[str, Any], x: jax.Array) -> jax.Array:
    """Mean over the pixels of each window that lie inside the image."""
    if x.shape[1:3] == (o["window_h"], o["window_w"]) and o["padding"] == "VALID":
        return _activate(x.mean((1, 2), keepdims=True), o["activation"])
    zero = np.zeros((), x.dtype)
    total = jax.lax.reduce_window(x, zero, jax.lax.add, *_windows(o))
    count = jax.lax.reduce_window(jnp.ones((1, *x.shape[1:3], 1), x.dtype), zero, jax.lax.add, *_windows(o))
    return _activate(total / count, o["activation"])


def _resize_matrix(size: int, new: int, align_corners: bool, half_pixel: bool) -> np.ndarray:
    """[new, size]: linear interpolation along one axis. Without flags pixel i lies at i size/new (TensorFlow 1)."""
    i = np.arange(new)
    if align_corners and new > 1:
        place = i * ((size - 1) / (new - 1))
    else:
        place = (i + 0.5) * (size / new) - 0.5 if half_pixel else i * (size / new)
    place = np.clip(place, 0, size - 1)
    low = np.floor(place).astype(int)
    matrix = np.zeros((new, size), np.float32)
    matrix[i, low] += 1 - (place - low)
    matrix[i, np.minimum(low + 1, size - 1)] += place - low
    return matrix


def _resize(o: Mapping[str, Any], x: jax.Array, size: tuple[int, ...]) -> jax.Array:
    rows, columns = (
        jnp.asarray(_resize_matrix(x.shape[axis + 1], size[axis], o["align_corners"], o["half_pixel"]), x.dtype)
        for axis in (0, 1)
    )
    return jnp.einsum("ph,nhwc,qw->npqc", rows, x, columns, precision="highest")


def _pad(o: Mapping[str, Any], x: jax.Array, amounts: tuple[int, ...]) -> jax.Array:
    return jnp.pad(x, np.reshape(amounts, (-1, 2)).tolist())


def _reshape(o: Mapping[str, Any], x: jax.Array) -> jax.Array:
    """Reshape all but the batch, whose size differs from the file's."""
    return x.reshape(x.shape[0], *o["shape"][1:])


def _concatenate(o: Mapping[str, Any], *parts: jax.Array) -> jax.Array:
    return _activate(jnp.concatenate(parts, o["axis"]), o["activation"])


def _prelu(o: Mapping[str, Any], x: jax.Array, slope: jax.Array) -> jax.Array:
    return jnp.where(x > 0, x, x * slope)


OPERATORS: dict[str, Callable[..., jax.Array]] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "Convolution2DTransposeBias": _transposed,
    "MAX_POOL_2D": _max_pool,
    "AVERAGE_POOL_2D": _average_pool,
    "RESIZE_BILINEAR": _resize,
    "PAD": _pad,
    "RESHAPE": _reshape,
    "CONCATENATION": _concatenate,
    "PRELU": _prelu,
    "ADD": lambda o, a, b: _activate(a + b, o["activation"]),
    "MUL": lambda o, a, b: _activate(a * b, o["activation"]),
    "RELU": lambda o, x: jax.nn.relu(x),
    "RELU6": lambda o, x: jnp.clip(x, 0, 6),
    "LOGISTIC": lambda o, x: jax.nn.sigmoid(x),
    "HARD_SWISH": lambda o, x: x * jnp.clip(x + 3, 0, 6) / 6,
}
