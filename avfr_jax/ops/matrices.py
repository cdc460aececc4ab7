"""Small matrices and point sets."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from avfr_jax.typing import Array, Float


def small_inverse(matrix: Float[Array, "*batch d d"], epsilon: float = 1e-12) -> Float[Array, "*batch d d"]:
    """Closed-form inverse of 2 × 2 or 3 × 3 matrices. A determinant nearer to zero than `epsilon` is moved to
    ±epsilon, so that neither the value nor the gradient becomes infinite; away from that the inverse is exact.

    Raises:
      ValueError: matrices of another size.
    """
    side = matrix.shape[-1]
    if matrix.shape[-2:] not in ((2, 2), (3, 3)):
        raise ValueError(f"matrices must be 2 × 2 or 3 × 3, not {matrix.shape[-2]} × {side}")
    determinant, adjugate = (_adjugate_2 if side == 2 else _adjugate_3)(matrix)
    small = jnp.abs(determinant) < epsilon
    least = jnp.asarray(epsilon, matrix.dtype)
    determinant = jnp.where(small, jnp.where(determinant < 0, -least, least), determinant)
    return adjugate / determinant[..., None, None]


def _adjugate_2(matrix: Any) -> tuple[Any, Any]:
    a, b = matrix[..., 0, 0], matrix[..., 0, 1]
    c, d = matrix[..., 1, 0], matrix[..., 1, 1]
    rows = [jnp.stack([d, -b], axis=-1), jnp.stack([-c, a], axis=-1)]
    return a * d - b * c, jnp.stack(rows, axis=-2)


def _adjugate_3(matrix: Any) -> tuple[Any, Any]:
    a, b, c = (matrix[..., i, :] for i in range(3))
    columns = [jnp.cross(b, c), jnp.cross(c, a), jnp.cross(a, b)]
    return jnp.sum(a * columns[0], axis=-1), jnp.stack(columns, axis=-1)


def hull_area(points: Float[np.ndarray, "k 2"]) -> float:
    """Area of the convex hull of 2-D points (on the host). Points on one line have area 0."""
    from scipy.spatial import ConvexHull, QhullError

    try:
        return float(ConvexHull(np.asarray(points, np.float64)).volume)  # in 2-D Qhull's volume is the area
    except QhullError:
        return 0.0
