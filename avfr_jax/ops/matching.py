"""Motion between two frames without a network: symmetric matching about the frame halfway (as the bilateral cost
volumes of Park et al., "BMBC", 2020), coarse to fine."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.ops.grids import pixel_grid
from avfr_jax.ops.resize import average_pool, resize_linear
from avfr_jax.ops.sampling import grid_sample_2d
from avfr_jax.typing import Array, Float

_STEPS = tuple(itertools.product((-1, 0, 1), repeat=2))  # (x, y) that are tried at each level
_WINDOW = 5  # pixels over which differences are averaged
_SHARPNESS = 200.0  # of the choice among steps, in units of 1 / difference
_REST = 0.002  # difference that a pixel's move has to be worth


def look_up(frames: Float[Array, "n h w c"], moves: Float[Array, "n h w 2"]) -> Float[Array, "n h w c"]:
    """Backward warp by displacements in pixels (x, y), bilinear, border pixels repeated outside."""
    h, w = frames.shape[1:3]
    return grid_sample_2d(frames, pixel_grid(h, w) + moves * np.asarray([2 / w, 2 / h], np.float32), "border")


def halfway_motion(
    first: Float[Array, "n h w c"], second: Float[Array, "n h w c"], levels: int = 3
) -> Float[Array, "n h w 2"]:
    """Displacement in pixels (x, y) from each pixel of the frame halfway between two to the first frame; that to the
    second is its negative.

    At each level, from the coarsest to half the frames' size, every pixel tries to be a pixel further in each
    direction, and takes the mean of the steps, weighted by the agreement of both frames there, which reaches motions of
    up to 2^(levels + 1) - 2 pixels to either side. No gradient passes.

    Args:
      first: colours in [0, 1], any size.
      second: the same.
      levels: halvings.
    """
    h, w = first.shape[1:3]
    unit = 1 << levels
    a, b = (jnp.pad(x, ((0, 0), (0, -h % unit), (0, -w % unit), (0, 0)), "edge") for x in (first, second))
    motion = jnp.zeros((len(a), a.shape[1] // unit, a.shape[2] // unit, 2), a.dtype)
    for level in range(levels, 0, -1):
        factor = 1 << level
        motion = _refine(average_pool(a, (factor, factor)), average_pool(b, (factor, factor)), motion)
        motion = 2 * resize_linear(motion, (2 * motion.shape[1], 2 * motion.shape[2]))
    return jax.lax.stop_gradient(motion[:, :h, :w])


def _refine(a: Array, b: Array, motion: Array) -> Array:
    """Each pixel's motion after one more step."""
    a, b = look_up(a, motion), look_up(b, -motion)
    costs = []
    for x, y in _STEPS:
        apart = jnp.abs(_shifted(a, x, y) - _shifted(b, -x, -y)).mean(-1, keepdims=True)
        costs.append(_averaged(apart, _WINDOW) + _REST * (abs(x) + abs(y)))
    weights = jax.nn.softmax(-_SHARPNESS * jnp.concatenate(costs, -1), -1)
    return _averaged(motion + weights @ np.asarray(_STEPS, np.float32), 3)


def _shifted(frames: Array, x: int, y: int) -> Array:
    """Each pixel from one away."""
    h, w = frames.shape[1:3]
    return jnp.pad(frames, ((0, 0), (1, 1), (1, 1), (0, 0)), "edge")[:, 1 + y : 1 + y + h, 1 + x : 1 + x + w]


def _averaged(values: Array, size: int) -> Array:
    """The mean over a square window."""
    for axis in (1, 2):
        margin = [(size // 2, size // 2) if i == axis else (0, 0) for i in range(4)]
        window = tuple(size if i == axis else 1 for i in range(4))
        padded, zero = jnp.pad(values, margin, "edge"), np.zeros((), values.dtype)
        summed = jax.lax.reduce_window(padded, zero, jax.lax.add, window, (1,) * 4, "VALID")
        values = summed / size
    return values
