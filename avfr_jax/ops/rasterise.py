"""Rasterisation of triangle meshes with a depth buffer, as dense arithmetic."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.ops.precision import widen
from avfr_jax.typing import Array, Bool, Float, Int

_EDGE = 1e-4  # barycentric coordinates down to minus this are inside: neighbours leave no gap
_LEAST_AREA = 1e-12  # of a triangle that is seen


class Rasterised(NamedTuple):
    """Meshes on a grid: `values [N, h, w, C]`, 0 beside the mesh, and `covered [N, h, w]`, where the mesh is seen."""

    values: Array
    covered: Array


def rasterise(
    vertices: Float[Array, "n v 3"],
    triangles: Int[np.ndarray, "t 3"],
    values: Float[Array, "n v c"],
    grid: Float[Array, "h w 2"],
) -> Rasterised:
    """Interpolate values of vertices linearly over the triangles that are nearest to the camera.

    Every position is compared with every triangle, one mesh after the other: h w t products, without a loop over
    triangles, which suits meshes of a thousand triangles and grids of 64 x 64. Gradients reach the values and, through
    the interpolation, the vertices.

    Args:
      vertices: (x, y) in the grid's units, and z, which grows away from the camera; orthographic.
      triangles: indices of vertices, clockwise or not, alike for all meshes.
      values: of the vertices.
      grid: positions (x, y).
    """
    places = jnp.concatenate([widen(grid).reshape(-1, 2), jnp.ones((grid.shape[0] * grid.shape[1], 1))], axis=-1)

    def one(mesh: tuple[Array, Array]) -> tuple[Float[Array, "p c"], Bool[Array, " p"]]:
        corners, of_corners = widen(mesh[0])[triangles], widen(mesh[1])[triangles]  # [T, 3, 3], [T, 3, C]
        inverse, seen = _barycentric(corners[..., :2])
        shares = jnp.einsum("px,txk->ptk", places, inverse, precision="highest")
        depth = jnp.einsum("ptk,tk->pt", shares, corners[..., 2])
        inside = (shares.min(-1) >= -_EDGE) & seen
        nearest = jnp.argmin(jnp.where(inside, depth, jnp.inf), axis=-1)
        share = jnp.take_along_axis(shares, nearest[:, None, None], axis=1)[:, 0]
        covered = inside.any(-1)
        out = jnp.einsum("pk,pkc->pc", share, of_corners[nearest])
        return jnp.where(covered[:, None], out, 0), covered

    out, covered = jax.lax.map(one, (vertices, values))
    shape = (vertices.shape[0], *grid.shape[:2])
    return Rasterised(out.reshape(*shape, -1), covered.reshape(shape))


def _barycentric(corners: Float[Array, "t 3 2"]) -> tuple[Float[Array, "t 3 3"], Bool[Array, " t"]]:
    """Matrices M with (x, y, 1) M = barycentric coordinates, and which triangles have an area."""
    a, b, c = (corners[:, i] for i in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    seen = jnp.abs(area) > _LEAST_AREA

    def opposite(p: Array, q: Array) -> Array:
        """Twice the signed area between an edge and (x, y): coefficients of x, y and 1."""
        return jnp.stack([p[:, 1] - q[:, 1], q[:, 0] - p[:, 0], p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]], axis=-1)

    columns = jnp.stack([opposite(b, c), opposite(c, a), opposite(a, b)], axis=-1)
    return columns / jnp.where(seen, area, 1)[:, None, None], seen
