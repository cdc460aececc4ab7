"""Distances between two tracks of face landmarks, in pixels of a 256 x 256 frame.

Landmarks are (x, y) or (x, y, z) in [-1, 1], [N, K, 2 or 3] with K of 468 or 478 (mediapipe's face mesh); z and the ten
iris points are not used. Frames without a face in both tracks must be left out.
"""

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.errors import InputError
from avfr_jax.landmarks import LIPS, NUM_VERTICES
from avfr_jax.typing import Array, Float

_PIXELS = 128.0  # [-1,1] spans 256 pixels


def _mesh(a: Array, b: Array) -> tuple[Array, Array]:
    if a.shape != b.shape or a.ndim != 3 or a.shape[1] < NUM_VERTICES or a.shape[2] < 2:
        raise InputError(
            f"two tracks [N,468 or 478,2 or 3] of one shape are wanted, not {list(a.shape)} and {list(b.shape)}"
        )
    return a[:, :NUM_VERTICES, :2] * _PIXELS, b[:, :NUM_VERTICES, :2] * _PIXELS


def _distance(a: Array, b: Array) -> jax.Array:
    distance: jax.Array = jnp.linalg.norm(a - b, axis=-1).mean(-1)
    return distance


def landmark_distance(a: Float[Array, "n k d"], b: Float[Array, "n k d"]) -> Float[Array, " n"]:
    """Mean Euclidean distance of the 468 mesh points, one number a frame."""
    return _distance(*_mesh(a, b))


def mouth_distance(a: Float[Array, "n k d"], b: Float[Array, "n k d"]) -> Float[Array, " n"]:
    """Mean distance of the 40 lip points relative to the mean of each face's mesh: the head's translation does not
    count, its rotation does."""
    return _distance(*(x[:, np.array(LIPS)] - x.mean(1, keepdims=True) for x in _mesh(a, b)))


def motion_correlation(a: Float[Array, "n k d"], b: Float[Array, "n k d"]) -> Float[Array, ""]:
    """Correlation of the deviations of two tracks from their means over time: 1 for equal motion, 0 if one of them does
    not move."""
    a, b = _mesh(a, b)
    da, db = a - a.mean(0), b - b.mean(0)
    return (da * db).sum() / (jnp.sqrt((da * da).sum() * (db * db).sum()) + 1e-9)
