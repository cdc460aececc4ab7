"""Alignment of a generated square with its source along the border where it is blended into the picture.

A head that turns takes hair, neck and shoulders with it, up to the border of the crop; beyond it the picture stands
still. Blending the two as they are shows the old outline beside the new one. Here the generated square is warped so
that what crosses the border meets its continuation there, less and less towards the face.
"""

import cv2
import numpy as np

from avfr_jax.faces.paste import border_distance
from avfr_jax.typing import Float, UInt8

# Lengths are fractions of the square's side.
_FULL, _REACH = 0.05, 0.2  # distance from the border up to which the warp is whole, and where it has gone
_LARGEST = 0.08  # displacement; below what would fold over that reach
_BLUR = 0.025  # standard deviation of the Gaussian that smooths the displacement
_STEEPEST, _APART = 0.7, 13  # change of displacement from pixel to pixel; pixels within which it is limited
_SIDE = 128  # pixels at which the displacement is estimated
_HAIR = 5  # pixels by which masks are grown, since they miss loose hair
_NOISE = 2.0  # levels by which two pictures of the same differ
_STILL = 0.02  # weight of no displacement, against 1 for one that makes the squares equal


class SeamAligner:
    """Warps generated squares of one source.

    Args:
      source: the square that they were generated from, of their size.
      ends: sides at which there is nothing to blend with, see `paste.open_sides`.
      person: opacity of the person in the source, in [0, 1]: the background is left as it is. None aligns it too.
    """

    def __init__(
        self,
        source: UInt8[np.ndarray, "s s 3"],
        ends: tuple[bool, bool, bool, bool],
        person: Float[np.ndarray, "s s"] | None = None,
    ) -> None:
        self._source = _reduced(source)
        distance = border_distance(_SIDE, ends)
        self._near = (distance < _REACH + 2 * _BLUR).astype(np.float32)
        self._trusted = self._near
        if person is not None:
            nearby = cv2.dilate(_reduced(np.asarray(person, np.float32)), np.ones((_HAIR, _HAIR), np.uint8))
            self._trusted = self._near * nearby
        t = np.clip((distance - _FULL) / (_REACH - _FULL), 0, 1)
        self._weight = (1 - t * t * (3 - 2 * t)).astype(np.float32)
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def __call__(self, generated: UInt8[np.ndarray, "s s 3"]) -> UInt8[np.ndarray, "s s 3"]:
        """The square, aligned along its border: bicubic where it is moved, untouched where it is not."""
        side = len(generated)
        displacement = self.displacement(generated)
        if np.abs(displacement).max() < 0.05 / side:
            return generated
        whole = cv2.resize(displacement * side, (side, side), interpolation=cv2.INTER_LINEAR)
        moved = _warped(generated, whole, cv2.INTER_CUBIC)
        still = np.abs(whole).max(-1, keepdims=True) < 0.05
        return np.where(still, generated, moved)

    def displacement(self, generated: UInt8[np.ndarray, "s s 3"]) -> Float[np.ndarray, "128 128 2"]:
        """From each position of the aligned square to that in the generated one (x, y), in sides.

        Dense inverse search (Kroeger et al., ECCV 2016), kept as far as it brings the squares nearer to each other.
        """
        small = _reduced(generated)
        grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (self._source, small)]
        flow = self._flow.calc(grey[0], grey[1], np.zeros((_SIDE, _SIDE, 2), np.float32))
        before, after = (self._difference(image) for image in (small, _warped(small, flow, cv2.INTER_LINEAR)))
        gain = self._trusted * np.clip(2 * (before - after) / (before + _NOISE), 0, 1)
        sigma = _BLUR * _SIDE
        total = cv2.GaussianBlur(gain + _STILL * self._near + 1e-6, (0, 0), sigma)
        smooth = cv2.GaussianBlur(flow * gain[..., None], (0, 0), sigma) / (total[..., None] * _SIDE)
        length = np.linalg.norm(smooth, axis=-1, keepdims=True)
        return _unfolded(smooth * np.minimum(1, _LARGEST / np.maximum(length, 1e-9)) * self._weight[..., None])

    def _difference(self, image: UInt8[np.ndarray, "128 128 3"]) -> Float[np.ndarray, "128 128"]:
        """Local mean absolute difference from the source, in levels."""
        return cv2.GaussianBlur(cv2.absdiff(image, self._source).mean(-1, dtype=np.float32), (0, 0), 1.0)


def _reduced(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)


def _unfolded(displacement: Float[np.ndarray, "s s 2"]) -> Float[np.ndarray, "s s 2"]:
    """Less of a displacement, in sides, where neighbours would come to lie in the wrong order."""
    slopes = [np.abs(np.gradient(displacement, axis=axis)).max(-1) * len(displacement) for axis in (0, 1)]
    steepest = cv2.dilate(np.maximum(*slopes), np.ones((_APART, _APART), np.uint8))
    share = cv2.GaussianBlur(np.minimum(1, _STEEPEST / np.maximum(steepest, 1e-6)), (0, 0), _APART / 4)
    return np.asarray(displacement * share[..., None])


def _warped(image: np.ndarray, displacement: Float[np.ndarray, "s s 2"], method: int) -> np.ndarray:
    y, x = np.mgrid[: len(image), : len(image)].astype(np.float32)
    return cv2.remap(image, x + displacement[..., 0], y + displacement[..., 1], method, borderMode=cv2.BORDER_REPLICATE)
