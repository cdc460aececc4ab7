"""A crop that follows a face from frame to frame, where later frames are not known yet."""

import math
from collections.abc import Sequence

import numpy as np

from avfr_jax.faces.crop import FACE_TO_SIDE, FIT_UNION, VERTICAL_CENTRE, Crop, fit
from avfr_jax.faces.crop_path import CUT_STEP, LARGEST_SIDE, POSITION_TUBE, SIZE_TUBE, overhang
from avfr_jax.faces.face import Face
from avfr_jax.typing import Float

SMALLEST_SIDE = 1.15  # of a resting crop, over the side of the face
MARGIN = 0.04  # of the side, which a resting crop has around the face
CATCH_UP = 0.1  # seconds in which the crop makes up most of the distance
FRICTION = 0.4  # seconds in which it comes to rest
_TUBE = np.array([POSITION_TUBE / FACE_TO_SIDE] * 2 + [SIZE_TUBE])  # dead zone of a crop that follows
_RESTS = 1e-3  # of the side, a frame: a slower crop rests


class CropFollower:
    """Rests while the face is inside the crop. When it would leave, the crop follows until the face rests in the
    middle, by an alpha-beta filter (Benedict and Bordner, 1962) with a dead zone and friction; at a cut it jumps.

    Args:
      crop: to begin with.
      image_shape: of the frames, [H, W, …].
      fps: frames a second.
      sampled: whether the crop was chosen from frames of the whole clip; it rests then until the face is cut.
    """

    def __init__(self, crop: Crop, image_shape: Sequence[int], fps: float, *, sampled: bool = False) -> None:
        self._crop, self._shape, self._sampled = crop, image_shape, sampled
        self._alpha = 1 - math.exp(-1 / (fps * CATCH_UP))
        self._beta = self._alpha**2 / (2 - self._alpha)
        self._kept = math.exp(-1 / (fps * FRICTION))
        self._speed = np.zeros(3)  # a frame: of the middle in sides, and of the side's logarithm
        self._tube: np.ndarray | None = None  # [3], the dead zone; None while the crop rests
        self._last: Face | None = None

    def __call__(self, face: Face | None) -> Crop:
        """The crop of the next frame, where the face, or None, was found."""
        if face is None:
            self._speed[:] = 0
            return self._crop
        box, last = np.array(face.box)[None] + 0.5, self._last or face
        self._last = face
        if self._tube is None and not self._leaves(box, face.size):
            return self._crop
        step = math.dist(face.centre, last.centre) / face.size
        if max(step, abs(math.log(face.size / last.size))) > CUT_STEP:
            self._crop, self._speed, self._tube = self._framing(face), np.zeros(3), None
        else:
            self._step(face, box)
        return self._crop

    def _leaves(self, box: Float[np.ndarray, "1 4"], size: float) -> bool:
        side = self._crop.side
        if self._sampled:
            return bool(overhang(self._crop, box, self._shape).any())
        largest = side >= min(self._shape[:2])  # an image without a larger crop
        if side > LARGEST_SIDE * size or (side < SMALLEST_SIDE * size and not largest):
            return True
        return bool(overhang(self._crop, box, self._shape, MARGIN * side).any())

    def _framing(self, face: Face) -> Crop:
        """The crop with the face in its middle."""
        side = FACE_TO_SIDE * (1 + POSITION_TUBE) * face.size
        side = min(side, max(float(min(self._shape[:2])), face.size / FIT_UNION))
        x, y = face.centre
        return Crop(*fit(x + 0.5 - side / 2, y + 0.5 - side * VERTICAL_CENTRE, side, self._shape), side)

    def _step(self, face: Face, box: Float[np.ndarray, "1 4"]) -> None:
        wanted, crop = self._framing(face), self._crop
        move = np.array([*(_middle(wanted) - _middle(crop)) / crop.side, math.log(wanted.side / crop.side)])
        ahead = move - self._speed
        # The crop starts gently: its dead zone shrinks from where the face is.
        self._tube = np.abs(move) if self._tube is None else np.minimum(self._tube, np.abs(ahead))
        self._tube = np.maximum(_TUBE, self._kept * self._tube)
        residual = ahead - np.clip(ahead, -self._tube, self._tube)
        change = self._speed + self._alpha * residual
        self._speed = self._kept * (self._speed + self._beta * residual)
        side = crop.side * math.exp(change[2])
        corner = _middle(crop) + change[:2] * crop.side - side / 2
        shift = overhang(Crop(corner[0], corner[1], side), box, self._shape)[0]
        corner += shift  # never outside, however fast
        self._speed[:2] = np.where(shift, self._kept * (change[:2] + shift / crop.side), self._speed[:2])
        self._crop = Crop(float(corner[0]), float(corner[1]), side)
        if not residual.any() and np.abs(change).max() < _RESTS:
            self._speed[:], self._tube = 0, None


def _middle(crop: Crop) -> Float[np.ndarray, "2"]:
    return np.array([crop.x, crop.y]) + crop.side / 2
