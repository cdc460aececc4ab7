"""Neutral, symmetric 468-vertex template face, and groups of its vertices.

Measured on the portrait (`measure.py`), rotated to the front, made symmetric, with its open smile closed. Centimetres;
x to the viewer's right, y up, z towards the viewer.
"""

import dataclasses
import functools

import numpy as np

from avfr_jax import landmarks
from avfr_jax.typing import Float, Int
from data.synthetic_heads import measure

FACE_WIDTH_CM = 14.2

# Columns run from the image's left to its right where the group is a row across the face.
OVAL = np.array(landmarks.FACE_OVAL, np.int32)
# Outer corner to inner corner; first the eye on the image's left.
UPPER_LIDS = np.array([landmarks.RIGHT_EYE_UPPER, landmarks.LEFT_EYE_UPPER[::-1]], np.int32)
LOWER_LIDS = np.array([landmarks.RIGHT_EYE_LOWER, landmarks.LEFT_EYE_LOWER[::-1]], np.int32)
# Four rings from the lips' outer edge to the inner edge.
UPPER_LIP = np.array(
    [
        [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291],
        [76, 184, 74, 73, 72, 11, 302, 303, 304, 408, 306],
        [62, 183, 42, 41, 38, 12, 268, 271, 272, 407, 292],
        landmarks.MOUTH_UPPER,
    ],
    np.int32,
)
LOWER_LIP = np.array(
    [
        [61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291],
        [76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306],
        [62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292],
        landmarks.MOUTH_LOWER,
    ],
    np.int32,
)
BROWS = np.array([brow[5:] + brow[4::-1] for brow in (landmarks.RIGHT_BROW, landmarks.LEFT_BROW)])  # upper, then lower
MOUTH_LINE = -3.45
MOUTH_HALF = 2.6


@dataclasses.dataclass(frozen=True)
class Template:
    """points [468,3] cm; triangles [852,3]; photo [468,2] pixels of the portrait; uv [468,2] in [0,1]."""

    points: Float[np.ndarray, "468 3"]
    triangles: Int[np.ndarray, "852 3"]
    photo: Float[np.ndarray, "468 2"]
    uv: Float[np.ndarray, "468 2"]


def resting_lips(fullness: float = 0.0) -> tuple[Float[np.ndarray, "4 11 3"], Float[np.ndarray, "4 11 3"]]:
    """Upper and lower lip of a closed, relaxed mouth, four rings of eleven points each, outer ring first."""
    column = np.linspace(-1.0, 1.0, 11)
    x = MOUTH_HALF * np.sign(column) * np.abs(column) ** 0.92
    arch = (1.0 - np.abs(column) ** 2.2) ** 0.8
    bow = arch * (1.0 - 0.16 * np.exp(-((column / 0.16) ** 2)))
    line = MOUTH_LINE + 0.10 * np.abs(column) ** 1.5 - 0.05 * np.exp(-((column / 0.3) ** 2))
    depth = 1.75 - 1.6 * np.abs(column) ** 2.1
    grow = np.exp(0.22 * fullness)
    lips = []
    for heights, profile, bulge in (
        (np.array([0.80, 0.52, 0.24, 0.015]) * grow, bow, [0.0, 0.28, 0.34, 0.06]),
        (np.array([-1.02, -0.68, -0.32, -0.015]) * grow, arch, [-0.22, 0.20, 0.32, 0.06]),
    ):
        rings = [
            np.stack([x * (1.0 - 0.02 * r), line + heights[r] * profile, depth + bulge[r] * arch], -1) for r in range(4)
        ]
        lips.append(np.stack(rings))
    return lips[0], lips[1]


def _close_mouth(points: np.ndarray) -> np.ndarray:
    """Move the lips to rest, and their neighbourhood by a thin-plate spline through fixed anchors."""
    from scipy.interpolate import RBFInterpolator

    upper, lower = resting_lips()
    index = np.concatenate([UPPER_LIP.ravel(), LOWER_LIP.ravel()])
    target = np.concatenate([upper.reshape(-1, 3), lower.reshape(-1, 3)])
    index, first = np.unique(index, return_index=True)
    target = target[first]
    centre = np.array([0.0, MOUTH_LINE, 1.0])
    away = np.linalg.norm((points - centre) * [0.85, 1.0, 0.5], axis=1)
    fixed = np.setdiff1d(np.flatnonzero((away > 3.6) | (points[:, 1] > -1.6)), index)
    chin = points[fixed, 1] < -5.0  # the jaw closes with the lips
    shift = np.zeros((len(fixed), 3))
    shift[chin, 1] = 0.35
    spline = RBFInterpolator(
        np.concatenate([points[index], points[fixed]]),
        np.concatenate([target - points[index], shift]),
        smoothing=1e-3,
        neighbors=None,
    )
    moved = points + spline(points)
    moved[index] = target
    return moved


def unwrap(points: Float[np.ndarray, "k 3"]) -> Float[np.ndarray, "k 2"]:
    """Cylindrical unwrapping of the face into [0,1]: u to the viewer's right, v down."""
    angle = np.arctan2(points[:, 0], points[:, 2] + 7.5)
    return np.stack([0.5 + 0.275 * angle, 0.5 - points[:, 1] / 20.6], -1)


@functools.cache
def template() -> Template:
    """The neutral face; computed once."""
    with np.load(measure.PATH) as stored:
        portrait, triangles, pairs = stored["landmarks"], stored["triangles"], stored["mirror"]
    _, points = measure.mirror_pairs(portrait[:468])
    points = (points + points[pairs] * [-1.0, 1.0, 1.0]) / 2
    points = points * (FACE_WIDTH_CM / np.ptp(points[:, 0]))
    tilt = np.deg2rad(5.0)  # the portrait's chin is tucked in a little
    turn = np.array([[1, 0, 0], [0, np.cos(tilt), np.sin(tilt)], [0, -np.sin(tilt), np.cos(tilt)]])
    points = _close_mouth(points @ turn)
    points = (points + points[pairs] * [-1.0, 1.0, 1.0]) / 2
    uv = unwrap(points)
    a, b, c = (uv[triangles[:, k]] for k in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (c[:, 0] - a[:, 0]) * (b[:, 1] - a[:, 1])
    triangles = np.where((area > 0)[:, None], triangles[:, ::-1], triangles)  # all wound alike
    return Template(
        points.astype(np.float32),
        np.ascontiguousarray(triangles, dtype=np.int32),
        portrait[:468, :2].astype(np.float32),
        uv.astype(np.float32),
    )
