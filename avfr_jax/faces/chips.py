"""Crops of a face: a square around its box for 68 landmarks, from those the aligned 150 × 150 face for a descriptor.

Landmarks here are 68, in the order of 300-W (Sagonas et al. 2013): 0–16 jaw, 17–26 brows, 27–35 nose, 36–41 the eye on
the image's left, 42–47 the other, 48–67 lips.
"""

import math

import cv2
import numpy as np

from avfr_jax.backbones.face_recognition import CHIP_SIZE
from avfr_jax.errors import FaceError
from avfr_jax.faces.crop import Crop
from avfr_jax.faces.face import Box
from avfr_jax.typing import Float, UInt8

BOX_PADDING = 0.08  # of the longer side, on each side
# dlib's template for five points and a unit square; the chip is enlarged by `CHIP_PADDING` on each side.
CHIP_POINTS = (45, 42, 36, 39, 33)
CHIP_TEMPLATE = (
    *((0.8595674595992, 0.2134981538014), (0.6460604764104, 0.2289674387677), (0.1205750620789, 0.2137274526848)),
    *((0.3340850613712, 0.2290642403242), (0.4901123135679, 0.6277975316475)),
)
CHIP_PADDING = 0.25


def landmark_crop(box: Box) -> Crop:
    """The square in which the network for 68 landmarks looks for a face.

    Args:
      box: (x0, y0, x1, y1) in pixels, see `Face.box`.
    """
    x0, y0, x1, y1 = box
    side = max(x1 - x0, y1 - y0, 1.0) * (1 + 2 * BOX_PADDING)
    return Crop((x0 + x1 + 1 - side) / 2, (y0 + y1 + 1 - side) / 2, side)


def points_in_image(points: Float[np.ndarray, "68 2"], crop: Crop) -> Float[np.ndarray, "68 2"]:
    """The network's output, shares of the crop's side, as pixels of the image."""
    return np.asarray(points * crop.side + [crop.x - 0.5, crop.y - 0.5])


def similarity(source: Float[np.ndarray, "n 2"], target: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "2 3"]:
    """Rotation, scale and translation, `[2, 3]`, that bring points nearest to others in the sense of least squares.

    Raises:
      FaceError: the points coincide or are not finite.
    """
    moved = source - source.mean(0)
    spread = float((moved**2).sum())
    if not (math.isfinite(spread) and spread > 0 and np.isfinite(target).all()):
        raise FaceError("the landmarks of a face coincide or are not finite")
    x, y = moved.T
    u, v = (target - target.mean(0)).T
    a, b = float((x * u + y * v).sum()) / spread, float((x * v - y * u).sum()) / spread
    turn = np.array([[a, -b], [b, a]])
    return np.concatenate([turn, (target.mean(0) - turn @ source.mean(0))[:, None]], axis=1)


def face_chip(image: UInt8[np.ndarray, "h w 3"], points: Float[np.ndarray, "68 2"]) -> UInt8[np.ndarray, "150 150 3"]:
    """The aligned face as dlib cuts it: a similarity that brings the corners of the eyes and the base of the nose to
    its mean shape. Averaged over areas where the face is larger than the chip; black outside of the image.

    Args:
      image: RGB.
      points: 68 landmarks in pixels of the image.

    Raises:
      FaceError: the five points coincide or are not finite.
    """
    template = (np.array(CHIP_TEMPLATE) + CHIP_PADDING) / (1 + 2 * CHIP_PADDING) * CHIP_SIZE
    forward = similarity(np.asarray(points, np.float64)[list(CHIP_POINTS)], template - 0.5)
    times = max(1, math.ceil(1 / math.hypot(forward[0, 0], forward[1, 0]) - 1e-6))
    # Pixel centres: x of the chip is (x + 0.5) · times − 0.5 of the larger one.
    larger = forward * times
    larger[:, 2] += (times - 1) / 2
    side = CHIP_SIZE * times
    chip = cv2.warpAffine(image, larger, (side, side), flags=cv2.INTER_LINEAR)
    return chip if times == 1 else cv2.resize(chip, (CHIP_SIZE, CHIP_SIZE), interpolation=cv2.INTER_AREA)
