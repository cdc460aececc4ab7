"""Compositing: the generated face pasted back into its picture, or beside its inputs."""

import dataclasses
from typing import Any

import numpy as np

from avfr_jax.reenact.results import Step
from avfr_jax.tracking import Portrait
from avfr_jax.typing import UInt8

_LARGEST_PASTE = 1280  # pixels: a larger portrait is reduced before results are pasted into it


class Compositor:
    """Pastes generated crops back into the source picture, reduced to at most 1280 pixels on its longer side. Along the
    border of the crop they are aligned with it first (`faces.seam`).

    Attributes:
      reduced: a sentence about the size of the result where it is smaller than the picture, else None.
    """

    def __init__(self, portrait: Portrait, paste_back: bool) -> None:
        self._background: Any = None
        self.reduced: str | None = None
        if paste_back:
            from avfr_jax.faces import SeamAligner, open_sides

            self._background, self._crop = _reduced(portrait.picture, portrait.crop)
            (height, width), (high, wide) = portrait.picture.shape[:2], self._background.shape[:2]
            if (height, width) != (high, wide):
                self.reduced = (
                    f"The result has {wide} × {high} pixels, the source {width} × {height}: results are pasted back at "
                    f"no more than {_LARGEST_PASTE} pixels on the longer side."
                )
            assert portrait.frame.image is not None
            ends = open_sides(self._crop, self._background.shape)
            self._aligner = SeamAligner(portrait.frame.image, ends, portrait.frame.person_mask)

    def __call__(self, generated: UInt8[np.ndarray, "s s 3"]) -> UInt8[np.ndarray, "h w 3"]:
        if self._background is None:
            return generated
        from avfr_jax.faces import paste_back

        pasted: UInt8[np.ndarray, "h w 3"] = paste_back(self._background, self._aligner(generated), self._crop)
        return pasted


def side_by_side(step: Step) -> UInt8[np.ndarray, "h w 3"]:
    """Source, driving frame and result beside each other, for `--compare`. Raises ValueError for recorded motion."""
    if step.driving is None:
        raise ValueError("recorded motion has no driving frames to show")
    return np.concatenate([step.source, step.driving, step.generated], axis=1)


def _reduced(image: Any, crop: Any) -> tuple[Any, Any]:
    import cv2

    factor = _LARGEST_PASTE / max(image.shape[:2])
    if factor >= 1:
        return image, crop
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    scaled = dataclasses.replace(crop, x=crop.x * factor, y=crop.y * factor, side=crop.side * factor)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), scaled
