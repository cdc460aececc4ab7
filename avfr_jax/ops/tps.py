"""Thin-plate splines: interpolation through scattered points, and the random warps of the equivariance loss.

Two uses, two kernels. `fit` and `evaluate` are the classic smoothing spline (Bookstein 1989; Wahba 1990, section
2.4): the smoothest map that takes given centres to given values. `draw_warp`, `warp_points`, `warp_jacobian` and
`warp_frames` are the random transform of the first-order motion model (Siarohin et al. 2019, section 3.1), whose
kernel uses the L1 distance and whose bending term is the same for x and for y.
"""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from avfr_jax.ops.linear import solve
from avfr_jax.ops.sampling import grid_sample_2d
from avfr_jax.typing import Array, Float

_KERNELS: dict[str, Callable[[Array], Array]] = {
    # Functions of the squared distance. log(0) is avoided, not needed: the factor in front is 0 there.
    "thin_plate": lambda r2: 0.5 * r2 * jnp.log(jnp.maximum(r2, 1e-20)),
    "linear": lambda r2: -jnp.sqrt(r2),
}


@partial(jax.tree_util.register_dataclass, data_fields=["centres", "weights", "affine"], meta_fields=["kernel"])
@dataclasses.dataclass(frozen=True)
class Spline:
    """A fitted spline: `affine` [N,3,C] over (1, x, y) plus `weights` [N,K,C] of the kernel about `centres`."""

    centres: Float[Array, "n k 2"]
    weights: Float[Array, "n k c"]
    affine: Float[Array, "n 3 c"]
    kernel: str = "thin_plate"


def _kernel_matrix(kernel: str, a: Float[Array, "n p 2"], b: Float[Array, "n k 2"]) -> Float[Array, "n p k"]:
    dx = a[:, :, None, 0] - b[:, None, :, 0]
    dy = a[:, :, None, 1] - b[:, None, :, 1]
    return _KERNELS[kernel](dx * dx + dy * dy)


def fit(
    centres: Float[Array, "n k 2"],
    values: Float[Array, "n k c"],
    smoothing: float | Float[Array, "n k"] = 0.0,
    *,
    kernel: str = "thin_plate",
) -> Spline:
    """The smoothest function through `values` at `centres`; both of any unit, three centres or more not on a line.

    Args:
        centres: positions (x, y).
        values: what the spline shall be there.
        smoothing: at least 0, one number or one a centre, added to the kernel's diagonal: 0 interpolates, more
            lets the spline pass beside the value; a very large one leaves the centre out. Unit: that of the kernel.
        kernel: `thin_plate` (r² log r, smooth) or `linear` (-r, better conditioned, more local).

    Returns:
        the spline, for `evaluate`.

    Raises:
        ValueError: unknown kernel.
    """
    if kernel not in _KERNELS:
        raise ValueError(f"unknown kernel {kernel!r}: choose one of {sorted(_KERNELS)}")
    n, k, c = values.shape
    diagonal = jnp.broadcast_to(jnp.asarray(smoothing, values.dtype), (n, k))
    # thin_plate is conditionally positive definite, linear (-r) too: both take the same sign of smoothing.
    top = _kernel_matrix(kernel, centres, centres) + diagonal[:, :, None] * jnp.eye(k, dtype=values.dtype)
    side = jnp.concatenate([jnp.ones((n, k, 1), values.dtype), centres], -1)
    system = jnp.concatenate(
        [
            jnp.concatenate([top, side], 2),
            jnp.concatenate([side.transpose(0, 2, 1), jnp.zeros((n, 3, 3), values.dtype)], 2),
        ],
        1,
    )
    right = jnp.concatenate([values, jnp.zeros((n, 3, c), values.dtype)], 1)
    solution = solve(system, right)
    return Spline(centres, solution[:, :k], solution[:, k:], kernel)


def evaluate(spline: Spline, points: Float[Array, "n p 2"]) -> Float[Array, "n p c"]:
    """The spline's values at `points` (x, y), in the unit of the values it was fitted to."""
    bend = jnp.einsum("npk,nkc->npc", _kernel_matrix(spline.kernel, points, spline.centres), spline.weights)
    affine = spline.affine
    return affine[:, None, 0] + points[..., :1] * affine[:, None, 1] + points[..., 1:] * affine[:, None, 2] + bend


@partial(jax.tree_util.register_dataclass, data_fields=["theta", "control_points", "control_params"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class RandomWarp:
    """Random affine maps plus bending, one a sample: `theta` [N,2,3] and `control_params` [N,P] about the
    `control_points` [P,2]."""

    theta: Float[Array, "n 2 3"]
    control_points: Float[Array, "p 2"]
    control_params: Float[Array, "n p"]


def control_grid(side: int = 5, dtype: jnp.dtype | type = jnp.float32) -> Float[Array, "p 2"]:
    """`side` by `side` control points (x, y) with the corners at ±1, row by row."""
    axis = jnp.linspace(-1.0, 1.0, side, dtype=dtype)
    y, x = jnp.meshgrid(axis, axis, indexing="ij")
    return jnp.stack([x.ravel(), y.ravel()], -1)


def draw_warp(
    key: Array, batch: int, *, sigma_affine: float = 0.05, sigma_tps: float = 0.005, points_tps: int = 5
) -> RandomWarp:
    """`batch` random warps near the identity: theta ~ identity + N(0, sigma_affine²), params ~ N(0, sigma_tps²)."""
    key_affine, key_tps = jax.random.split(key)
    theta = jnp.eye(2, 3) + sigma_affine * jax.random.normal(key_affine, (batch, 2, 3))
    params = sigma_tps * jax.random.normal(key_tps, (batch, points_tps * points_tps))
    return RandomWarp(theta, control_grid(points_tps), params)


def _warp_point(
    theta: Float[Array, "2 3"], centres: Float[Array, "p 2"], params: Float[Array, " p"], point: Float[Array, "2"]
) -> Float[Array, "2"]:
    r = jnp.abs(point - centres).sum(-1)
    return theta[:, :2] @ point + theta[:, 2] + (params * r * r * jnp.log(r + 1e-6)).sum()


def warp_points(warp: RandomWarp, points: Float[Array, "n k 2"]) -> Float[Array, "n k 2"]:
    """Where the warp takes `points` (x, y in [-1,1])."""
    each = jax.vmap(_warp_point, in_axes=(None, None, None, 0))
    return jax.vmap(each, in_axes=(0, None, 0, 0))(warp.theta, warp.control_points, warp.control_params, points)


def warp_jacobian(warp: RandomWarp, points: Float[Array, "n k 2"]) -> Float[Array, "n k 2 2"]:
    """Jacobian of `warp_points` at `points`: rows are the output's x and y, columns the input's."""
    each = jax.vmap(jax.jacfwd(_warp_point, argnums=3), in_axes=(None, None, None, 0))
    return jax.vmap(each, in_axes=(0, None, 0, 0))(warp.theta, warp.control_points, warp.control_params, points)


def warp_frames(warp: RandomWarp, frames: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Frames sampled where the warp takes each pixel, reflected at the border.

    The grid is the reference program's (corners at ±1, while sampling takes ±1 for the outer edges of the corner
    pixels), so that even the identity warp resamples slightly: the loss was tuned with it.
    """
    n, h, w, _ = frames.shape
    y, x = jnp.meshgrid(
        jnp.linspace(-1.0, 1.0, h, dtype=frames.dtype), jnp.linspace(-1.0, 1.0, w, dtype=frames.dtype), indexing="ij"
    )
    grid = jnp.broadcast_to(jnp.stack([x, y], -1).reshape(1, h * w, 2), (n, h * w, 2))
    return grid_sample_2d(
        frames, warp_points(warp, grid).reshape(n, h, w, 2), padding="reflection", align_corners=False
    )
