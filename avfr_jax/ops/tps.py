"""Thin-plate splines in two or three dimensions: interpolation through scattered points, and the random warps of the
equivariance loss.

Two uses, two kernels. `fit` and `evaluate` are the classic smoothing spline (Bookstein 1989; Wahba 1990, section
2.4): the smoothest map that takes given centres to given values. `sample_warp`, `warp_points`, `warp_jacobian` and
`warp_frames` are the random transform of the first-order motion model (Siarohin et al. 2019, section 3.1), whose
kernel uses the L1 distance and whose bending term is the same for every coordinate.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from avfr_jax.ops.linear import solve
from avfr_jax.ops.sampling import grid_sample_2d, grid_sample_3d
from avfr_jax.typing import Array, Float

_KERNELS: dict[str, Callable[[Array], Array]] = {
    # Functions of the squared distance. log(0) is avoided, not needed: the factor in front is 0 there.
    "thin_plate": lambda r2: 0.5 * r2 * jnp.log(jnp.maximum(r2, 1e-20)),
    "linear": lambda r2: -jnp.sqrt(r2),
}


@partial(jax.tree_util.register_dataclass, data_fields=["centres", "weights", "affine"], meta_fields=["kernel"])
@dataclasses.dataclass(frozen=True)
class Spline:
    """A fitted spline: `affine` [N,1+D,C] over (1, x, y[, z]) plus `weights` [N,K,C] of the kernel about `centres`
    [N,K,D]."""

    centres: Any
    weights: Any
    affine: Any
    kernel: str = "thin_plate"


def _kernel_matrix(kernel: str, a: Float[Array, "n p d"], b: Float[Array, "n k d"]) -> Float[Array, "n p k"]:
    squares = [(a[:, :, None, i] - b[:, None, :, i]) ** 2 for i in range(a.shape[-1])]
    return _KERNELS[kernel](sum(squares[1:], squares[0]))


def fit(
    centres: Float[Array, "n k d"],
    values: Float[Array, "n k c"],
    smoothing: float | Float[Array, "n k"] = 0.0,
    *,
    kernel: str = "thin_plate",
) -> Spline:
    """The smoothest function through `values` at `centres`; both of any unit, more than D centres in general position.

    Args:
        centres: positions (x, y[, z]).
        values: of the spline at the centres.
        smoothing: at least 0, one number or one a centre, added to the kernel's diagonal: 0 interpolates, more
            lets the spline pass beside the value; a very large one leaves the centre out. Unit: that of the kernel.
        kernel: `thin_plate` (r² log r, smooth) or `linear` (-r, better conditioned, more local).

    Raises:
        ValueError: unknown kernel.
    """
    if kernel not in _KERNELS:
        raise ValueError(f"unknown kernel {kernel!r}: choose one of {sorted(_KERNELS)}")
    n, k, c = values.shape
    d1 = centres.shape[-1] + 1
    diagonal = jnp.broadcast_to(jnp.asarray(smoothing, values.dtype), (n, k))
    # thin_plate is conditionally positive definite, linear (-r) too: both take the same sign of smoothing.
    top = _kernel_matrix(kernel, centres, centres) + diagonal[:, :, None] * jnp.eye(k, dtype=values.dtype)
    side = jnp.concatenate([jnp.ones((n, k, 1), values.dtype), centres], -1)
    corner = jnp.zeros((n, d1, d1), values.dtype)
    rows = [jnp.concatenate([top, side], 2), jnp.concatenate([side.transpose(0, 2, 1), corner], 2)]
    right = jnp.concatenate([values, jnp.zeros((n, d1, c), values.dtype)], 1)
    solution = solve(jnp.concatenate(rows, 1), right)
    return Spline(centres, solution[:, :k], solution[:, k:], kernel)


def evaluate(spline: Spline, points: Float[Array, "n p d"]) -> Float[Array, "n p c"]:
    """The spline's values at `points` (x, y[, z]), in the unit of the values it was fitted to."""
    out = jnp.einsum("npk,nkc->npc", _kernel_matrix(spline.kernel, points, spline.centres), spline.weights)
    for i in range(points.shape[-1]):
        out = out + points[..., i : i + 1] * spline.affine[:, None, i + 1]
    return out + spline.affine[:, None, 0]


@partial(jax.tree_util.register_dataclass, data_fields=["theta", "control_points", "control_params"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class RandomWarp:
    """Random affine maps plus bending, one a sample: `theta` [N,D,D+1] and `control_params` [N,P] about the
    `control_points` [P,D]."""

    theta: Any
    control_points: Any
    control_params: Any


def _corner_points(shape: tuple[int, ...], dtype: jnp.dtype | type) -> Float[Array, "p d"]:
    axes = jnp.meshgrid(*(jnp.linspace(-1.0, 1.0, size, dtype=dtype) for size in shape), indexing="ij")
    return jnp.stack([axis.ravel() for axis in reversed(axes)], -1)


def control_grid(side: int = 5, dtype: jnp.dtype | type = jnp.float32, dims: int = 2) -> Float[Array, "p d"]:
    """`side ** D` control points (x, y[, z]) with the corners at ±1, row by row."""
    return _corner_points((side,) * dims, dtype)


def sample_warp(
    key: Array,
    batch: int,
    *,
    sigma_affine: float = 0.05,
    sigma_tps: float = 0.005,
    points_tps: int = 5,
    dims: int = 2,
) -> RandomWarp:
    """`batch` random warps near the identity: theta ~ identity + N(0, sigma_affine²), params ~ N(0, sigma_tps²)."""
    key_affine, key_tps = jax.random.split(key)
    theta = jnp.eye(dims, dims + 1) + sigma_affine * jax.random.normal(key_affine, (batch, dims, dims + 1))
    params = sigma_tps * jax.random.normal(key_tps, (batch, points_tps**dims))
    return RandomWarp(theta, control_grid(points_tps, dims=dims), params)


def _warp_point(
    theta: Float[Array, "d d1"], centres: Float[Array, "p d"], params: Float[Array, " p"], point: Float[Array, " d"]
) -> Float[Array, " d"]:
    r = jnp.abs(point - centres).sum(-1)
    return theta[:, :-1] @ point + theta[:, -1] + (params * r * r * jnp.log(r + 1e-6)).sum()


def warp_points(warp: RandomWarp, points: Float[Array, "n k d"]) -> Float[Array, "n k d"]:
    """Images of `points` (x, y[, z] in [-1,1]) under the warp."""
    each = jax.vmap(_warp_point, in_axes=(None, None, None, 0))
    return jax.vmap(each, in_axes=(0, None, 0, 0))(warp.theta, warp.control_points, warp.control_params, points)


def warp_jacobian(warp: RandomWarp, points: Float[Array, "n k d"]) -> Float[Array, "n k d d"]:
    """Jacobian of `warp_points` at `points`: rows are the output's coordinates, columns the input's."""
    each = jax.vmap(jax.jacfwd(_warp_point, argnums=3), in_axes=(None, None, None, 0))
    return jax.vmap(each, in_axes=(0, None, 0, 0))(warp.theta, warp.control_points, warp.control_params, points)


def warp_frames(warp: RandomWarp, frames: Float[Array, "n *space c"]) -> Float[Array, "n *space c"]:
    """Frames, or volumes, sampled at the warped position of each pixel, reflected at the border.

    The grid is the reference program's (corners at ±1, while sampling takes ±1 for the outer edges of the corner
    pixels), so that even the identity warp resamples slightly: the loss was tuned with it.
    """
    n, *space, _ = frames.shape
    points = _corner_points(tuple(space), frames.dtype)
    grid = warp_points(warp, jnp.broadcast_to(points, (n, *points.shape))).reshape(n, *space, len(space))
    sample = grid_sample_2d if len(space) == 2 else grid_sample_3d
    return sample(frames, grid, padding="reflection", align_corners=False)
