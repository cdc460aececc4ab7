"""Distances between two tracks of face landmarks, in pixels of a 256 x 256 frame.

Landmarks are (x, y) or (x, y, z) in [-1,1], [N,K,2 or 3] with K of 468 or 478 (mediapipe's face mesh); z and the ten
iris points are not used. Only frames in which both faces were found belong here; say how many were left out.
"""

import jax.numpy as jnp
import numpy as np

from avfr_jax.typing import Array, Float

LIPS = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409,
    78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415,
)  # fmt: skip
_PIXELS = 128.0  # [-1,1] spans 256 pixels


def _mesh(a: Array, b: Array) -> tuple[Array, Array]:
    if a.shape != b.shape or a.ndim != 3 or a.shape[1] < 468 or a.shape[2] < 2:
        raise ValueError(
            f"two tracks [N,468 or 478,2 or 3] of one shape are wanted, not {list(a.shape)} and {list(b.shape)}"
        )
    return a[:, :468, :2] * _PIXELS, b[:, :468, :2] * _PIXELS


def landmark_distance(a: Float[Array, "n k d"], b: Float[Array, "n k d"]) -> Float[Array, " n"]:
    """Mean Euclidean distance of the 468 mesh points, one number a frame."""
    a, b = _mesh(a, b)
    return jnp.linalg.norm(a - b, axis=-1).mean(-1)


def mouth_distance(a: Float[Array, "n k d"], b: Float[Array, "n k d"]) -> Float[Array, " n"]:
    """Mean distance of the 40 lip points after each face's mean over the mesh is taken off: the head's translation
    does not count, its turning does."""
    a, b = (x[:, np.array(LIPS)] - x.mean(1, keepdims=True) for x in _mesh(a, b))
    return jnp.linalg.norm(a - b, axis=-1).mean(-1)


def motion_correlation(a: Float[Array, "n k d"], b: Float[Array, "n k d"]) -> Float[Array, ""]:
    """Correlation of the two tracks' deviations from their own means over time: 1 if they move alike, 0 if one of
    them does not move."""
    a, b = _mesh(a, b)
    da, db = a - a.mean(0), b - b.mean(0)
    return (da * db).sum() / (jnp.sqrt((da * da).sum() * (db * db).sum()) + 1e-9)
