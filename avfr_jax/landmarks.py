"""The 478 landmarks of mediapipe's face mesh: indices of features, edges and triangles, average heads, and units.

"Left" and "right" are the subject's own: the right eye is on the left of the image. Landmarks 0 to 467 are vertices of
the mesh, 468 to 477 the irises.

Units: a face backend gives *pixels* (x, y, z) of an image, pixel centres at whole numbers, z in the scale of x.
Networks and motion take them *normalised*: x and y in [-1, 1] by pixel centres (`ops.grids`), z in the units of x.
"""

import collections
import functools
import importlib
import itertools
import pathlib

import numpy as np

from avfr_jax.errors import MissingBackendError
from avfr_jax.packages import FACE_BACKEND
from avfr_jax.typing import Float, Int

_ASSETS = pathlib.Path(__file__).with_name("assets")

NUM_LANDMARKS = 478
NUM_VERTICES = 468
"""Of the mesh; the landmarks behind them are the irises."""

# --- features ---------------------------------------------------------------------------------------------------------

# Closed loops in order; the oval runs clockwise from the top of the forehead.
FACE_OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152),
    *(148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
LIPS_OUTER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
LIPS_INNER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
RIGHT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
RIGHT_IRIS = (469, 470, 471, 472)
LEFT_IRIS = (474, 475, 476, 477)
RIGHT_PUPIL, LEFT_PUPIL = 468, 473

# Parts of the oval: above the jaw, where hair and ears are attached, and the jaw.
OVAL_UPPER = FACE_OVAL[:9] + FACE_OVAL[28:]
OVAL_JAW = FACE_OVAL[9:28]

# Edges of an aperture from its corner on the image's left to the one on its right, both corners included.
MOUTH_UPPER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
MOUTH_LOWER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
RIGHT_EYE_UPPER = (33, 246, 161, 160, 159, 158, 157, 173, 133)
RIGHT_EYE_LOWER = (33, 7, 163, 144, 145, 153, 154, 155, 133)
LEFT_EYE_UPPER = (362, 398, 384, 385, 386, 387, 388, 466, 263)
LEFT_EYE_LOWER = (362, 382, 381, 380, 374, 373, 390, 249, 263)
# Skin above the upper and below the lower lid, point beside point of the lids' edges without the corners.
RIGHT_LIDS = ((247, 30, 29, 27, 28, 56, 190), (25, 110, 24, 23, 22, 26, 112))
LEFT_LIDS = ((414, 286, 258, 257, 259, 260, 467), (341, 256, 252, 253, 254, 339, 255))
APERTURES = (
    (MOUTH_UPPER, MOUTH_LOWER),
    (RIGHT_EYE_UPPER, RIGHT_EYE_LOWER),
    (LEFT_EYE_UPPER, LEFT_EYE_LOWER),
)

# Open lines and sets. A brow's lower line comes first, then its upper one.
RIGHT_BROW = (46, 53, 52, 65, 55, 70, 63, 105, 66, 107)
LEFT_BROW = (276, 283, 282, 295, 285, 300, 293, 334, 296, 336)
NOSE_BRIDGE = (168, 6, 197, 195, 5, 4, 1)
NOSE = (*NOSE_BRIDGE, 19, 94, 2, 98, 97, 326, 327, 48, 115, 220, 45, 275, 440, 344, 278, 64, 294)
LIPS = LIPS_OUTER + LIPS_INNER
LIP_RINGS = (
    LIPS_OUTER,
    (76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306, 408, 304, 303, 302, 11, 72, 73, 74, 184),
    (62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292, 407, 272, 271, 268, 12, 38, 41, 42, 183),
    LIPS_INNER,
)
"""Closed loops around the mouth from the outside to the inside, point beside point."""
CHEEKS = (50, 280, 205, 425, 187, 411, 117, 346, 36, 266, 212, 432, 151, 9, 69, 299, 18, 200, 199)

HEAD_KEYPOINTS = (
    *(1, 33, 263, 152, 61, 291, 10, 13, 14, 234),
    *(454, 159, 386, 105, 334, 172, 397, 145, 374, 168),
)
"""Landmarks that a head's canonical keypoints may be trained to lie on (`training.head_terms.MeshKeypoints`): nose,
corners of eyes and mouth, chin, forehead, lips, temples, lids, brows, jaw. The first of them spread over the whole face
already, so that fewer keypoints, or the first few of a call, still do."""

# Single landmarks.
FOREHEAD, NOSE_BASE = 10, 2
UPPER_LIP, LOWER_LIP = 13, 14
"""Middles of the lips' inner edges."""
MOUTH_CORNERS = (61, 291)

# Control points of the thin-plate spline (`models.landmark_warp`).
CONTROL = tuple(
    sorted(
        {
            *FACE_OVAL, *LIPS_OUTER, *LIPS_INNER, *RIGHT_EYE_UPPER, *RIGHT_EYE_LOWER, *LEFT_EYE_UPPER, *LEFT_EYE_LOWER,
            *RIGHT_BROW, *LEFT_BROW, *NOSE_BRIDGE, 2, 98, 327, 48, 278, 129, 358, *CHEEKS,
        }
    )
)  # fmt: skip

# --- rigid parts and average heads ------------------------------------------------------------------------------------

RIGID = (
    *(33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 1, 45, 275, 122, 351, 174, 399, 129, 358, 47, 277),
    *(10, 151, 9, 109, 338, 67, 297, 54, 284, 21, 251, 162, 389, 127, 356, 234, 454, 116, 345, 117, 346),
    *(118, 347, 100, 329, 143, 372),
)
"""Points of the perspective-n-point solver (`faces.pose`), which move with the skull and hardly with the face: corners
of the eyes, nose, forehead, temples, cheekbones."""

# Points of the weak-perspective fit (`motion.face_mesh`), rigid too, and their positions on an average head seen from
# the front (x right, y down, z away from the camera): the mean of 95 tracked faces, made symmetric and scaled to a
# root-mean-square distance of 1. It fixes the head's own frame, not the shape of any face.
_POSE_MIDDLE = {
    10: (0.0, -0.762, -0.375),
    151: (0.0, -0.471, -0.389),
    9: (0.0, -0.165, -0.382),
    8: (0.0, -0.018, -0.330),
    168: (0.0, 0.117, -0.296),
    6: (0.0, 0.273, -0.347),
    197: (0.0, 0.420, -0.411),
    195: (0.0, 0.561, -0.486),
    5: (0.0, 0.711, -0.561),
    4: (0.0, 0.875, -0.574),
}
_POSE_PAIRS = {
    (109, 338): (0.342, -0.759, -0.344),
    (67, 297): (0.633, -0.737, -0.220),
    (103, 332): (0.904, -0.676, -0.004),
    (54, 284): (1.081, -0.564, 0.254),
    (21, 251): (1.192, -0.408, 0.511),
    (127, 356): (1.273, -0.005, 1.013),
    (234, 454): (1.261, 0.236, 1.144),
    (33, 263): (0.812, 0.098, 0.109),
    (133, 362): (0.318, 0.151, 0.020),
    (98, 327): (0.315, 0.963, -0.078),
    (116, 345): (1.150, 0.364, 0.391),
    (129, 358): (0.383, 0.827, -0.037),
}
POSE_POINTS = (*_POSE_MIDDLE, *(i for pair in _POSE_PAIRS for i in pair))
POSE_SHAPE = np.array(
    [*_POSE_MIDDLE.values(), *((s * x, y, z) for x, y, z in _POSE_PAIRS.values() for s in (-1, 1))], np.float32
)


@functools.cache
def canonical_face() -> Float[np.ndarray, "478 3"]:
    """An average adult face, float32, in centimetres: x to the image's right, y down, z away from the camera.

    It faces the camera; its origin lies halfway between the outer corners of the eyes, which are
    8.8 cm apart. It is the mean of mediapipe's own landmarks over 96 portraits, aligned by generalised
    Procrustes analysis and made symmetric; its upright pose is the median pose of those portraits.
    """
    vertices = np.loadtxt(_ASSETS / "canonical_face.csv", delimiter=",", dtype=np.float32)
    vertices.setflags(write=False)
    return vertices


@functools.cache
def mouth_opening() -> Float[np.ndarray, "478 3"]:
    """How the landmarks move, in the frame of `POSE_SHAPE`, float32, when the middles of the lips' inner edges move a
    unit apart: lower lip and jaw go down and back, the upper lip a little up. Without the corners' change of width;
    made by `experiments.fit_openings`."""
    moves = np.loadtxt(_ASSETS / "mouth_opening.csv", delimiter=",", dtype=np.float32)
    shape = np.concatenate([np.zeros((NUM_LANDMARKS, 1), np.float32), moves], axis=1)
    shape.setflags(write=False)
    return shape


@functools.cache
def mirror_indices() -> Int[np.ndarray, "478"]:
    """For each landmark, the one that takes its place in a mirror image, e.g. 33 ↔ 263."""
    face = canonical_face().astype(np.float64)
    distances = np.linalg.norm(face[:, None] * [-1, 1, 1] - face[None], axis=-1)
    pairs = distances.argmin(1)
    # A pupil lies so near to its iris's four points that only the order tells them apart.
    pairs[[468, 469, 470, 471, 472]] = [473, 476, 475, 474, 477]
    pairs[[473, 476, 475, 474, 477]] = [468, 469, 470, 471, 472]
    return pairs


@functools.cache
def _directed_edges() -> tuple[tuple[int, int], ...]:
    """mediapipe's own table of the tessellation, from whichever interface is installed."""
    try:
        module = importlib.import_module("mediapipe.python.solutions.face_mesh_connections")
        return tuple(sorted((int(a), int(b)) for a, b in module.FACEMESH_TESSELATION))
    except ImportError:
        pass
    try:
        module = importlib.import_module("mediapipe.tasks.python.vision.face_landmarker")
        table = module.FaceLandmarksConnections.FACE_LANDMARKS_TESSELATION
    except ImportError:
        raise MissingBackendError(
            f"The edges of the face mesh come from mediapipe, which is not installed: {FACE_BACKEND}"
        ) from None
    return tuple(sorted((int(edge.start), int(edge.end)) for edge in table))


@functools.cache
def tessellation_edges() -> Int[np.ndarray, "1322 2"]:
    """The mesh's edges, each once, lower index first."""
    return np.array(sorted({(min(edge), max(edge)) for edge in _directed_edges()}))


@functools.cache
def triangles() -> Int[np.ndarray, "852 3"]:
    """The mesh's triangles, clockwise in the image where they face the camera, lowest index first.

    mediapipe has no table of them: they are the cycles of three edges, less those that merely surround a
    vertex (each of their edges already has its two triangles). The mesh has three holes, two eyes and the
    mouth: 468 − 1322 + 852 = 1 − 3.
    """
    neighbours: dict[int, set[int]] = {}
    edges = [(int(a), int(b)) for a, b in tessellation_edges()]
    for a, b in edges:
        neighbours.setdefault(a, set()).add(b)
        neighbours.setdefault(b, set()).add(a)
    cycles = [(a, b, c) for a, b in edges for c in sorted(neighbours[a] & neighbours[b]) if c > b]
    sides = [list(itertools.combinations(cycle, 2)) for cycle in cycles]
    shared = collections.Counter(side for three in sides for side in three)
    faces = np.array([cycle for cycle, three in zip(cycles, sides, strict=True) if min(shared[s] for s in three) < 3])
    # Viewed from inside the head they all have the same orientation.
    corners = canonical_face()[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    anticlockwise = (normals * (corners.mean(1) - np.array([0, 3, 7], np.float32))).sum(1) > 0
    faces[anticlockwise] = faces[anticlockwise][:, [0, 2, 1]]
    return faces


# --- units ------------------------------------------------------------------------------------------------------------


def normalise_landmarks(pixels: Float[np.ndarray, "*n 3"], width: int, height: int) -> Float[np.ndarray, "*n 3"]:
    """Pixels of a `width` × `height` image -> normalised, float32; NaN stays NaN."""
    scale = np.asarray([2 / width, 2 / height, 2 / width], np.float32)
    offset = np.asarray([1 / width - 1, 1 / height - 1, 0], np.float32)
    return (pixels * scale + offset).astype(np.float32)


def landmarks_to_pixels(normalised: Float[np.ndarray, "*n 3"], size: int) -> Float[np.ndarray, "*n 3"]:
    """Normalised -> pixels of a square image; the inverse of `normalise_landmarks`."""
    return normalised * np.float32(size / 2) + np.asarray([(size - 1) / 2, (size - 1) / 2, 0], np.float32)
