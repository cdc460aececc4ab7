"""Keypoints and heatmaps in two or three dimensions (FOMM, Siarohin et al. 2019, sections 3.1 and 3.2).

`space` stands for `h w` or `d h w`; the last axis of a grid or a position holds (x, y) or (x, y, z).
"""

import jax
import jax.numpy as jnp

from avfr_jax.ops.precision import widen
from avfr_jax.typing import Array, Float


def soft_argmax(heatmap: Float[Array, "n *space k"], grid: Float[Array, "*space d"]) -> Float[Array, "n k d"]:
    """Expected position under each heatmap.

    Args:
      heatmap: non-negative, each map sums to 1 over space.
      grid: the coordinates of the heatmap's cells.
    """
    n, k = heatmap.shape[0], heatmap.shape[-1]
    cells = jnp.asarray(grid, heatmap.dtype).reshape(-1, grid.shape[-1])
    return jnp.einsum("npk,pd->nkd", heatmap.reshape(n, -1, k), cells)


def spatial_softmax(logits: Float[Array, "n *space k"], temperature: float) -> Float[Array, "n *space k"]:
    """Softmax over the positions of each map, computed in at least float32, returned in the logits' dtype."""
    n, k = logits.shape[0], logits.shape[-1]
    flat = widen(logits.reshape(n, -1, k)) / temperature
    return jax.nn.softmax(flat, axis=1).reshape(logits.shape).astype(logits.dtype)


def gaussian_heatmaps(
    value: Float[Array, "n k d"], grid: Float[Array, "*space d"], variance: float = 0.01
) -> Float[Array, "n *space k"]:
    """exp(-|z - kp|² / (2 variance)) over the grid, one map a keypoint; peak 1 (FOMM eq. 6)."""
    n, k, d = value.shape
    space = grid.shape[:-1]
    difference = grid[None, ..., None, :] - widen(value).reshape(n, *(1,) * len(space), k, d)
    return jnp.exp(-0.5 * jnp.sum(difference**2, axis=-1) / variance)


def heatmap_difference(
    source: Float[Array, "m k d"],
    driving: Float[Array, "n k d"],
    grid: Float[Array, "*space d"],
    variance: float = 0.01,
) -> Float[Array, "n *space k1"]:
    """Driving minus source heatmaps, with an all-zero map for the background in front: K + 1 maps (FOMM eq. 6).

    Args:
      source: keypoints of N frames, or of one that is broadcast.
      driving: keypoints of N frames.
      grid: the coordinates of the maps' cells.
      variance: of the Gaussians.
    """
    difference = gaussian_heatmaps(driving, grid, variance) - gaussian_heatmaps(source, grid, variance)
    return jnp.pad(difference, ((0, 0),) * (difference.ndim - 1) + ((1, 0),))
