"""A portrait's crop that extends outside its picture."""

import cv2
import numpy as np

from avfr_jax.faces.crop import Crop
from avfr_jax.typing import UInt8

BLUR = 0.06  # standard deviation of the blur outside the picture, over the side of the crop
FADE = 0.08  # distance from the picture at which the fill is all blurred, likewise


def apply_filled(crop: Crop, image: UInt8[np.ndarray, "h w 3"], size: int) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """As `Crop.apply`, but what lies outside the image is its reflection, increasingly blurred with the distance: no
    streaks as of a repeated border, and no second eye or mouth as of a sharp reflection."""
    height, width = image.shape[:2]
    # Relative to the image, which may be many times the crop, only the part in view is padded.
    x0, y0 = max(int(np.floor(crop.x)), 0), max(int(np.floor(crop.y)), 0)
    x1, y1 = min(int(np.ceil(crop.x + crop.side)), width), min(int(np.ceil(crop.y + crop.side)), height)
    if crop.outside(image.shape) == 0 or x0 >= x1 or y0 >= y1:
        return crop.apply(image, size)
    part = image[y0:y1, x0:x1]
    left, top = max(int(np.ceil(x0 - crop.x)), 0), max(int(np.ceil(y0 - crop.y)), 0)
    right = max(int(np.ceil(crop.x + crop.side)) - x1, 0)
    bottom = max(int(np.ceil(crop.y + crop.side)) - y1, 0)
    padded = cv2.copyMakeBorder(part, top, bottom, left, right, cv2.BORDER_REFLECT)
    blurred = cv2.GaussianBlur(padded, (0, 0), BLUR * crop.side, borderType=cv2.BORDER_REFLECT)
    inside = np.zeros(padded.shape[:2], np.uint8)
    inside[top : top + part.shape[0], left : left + part.shape[1]] = 1
    distance = cv2.distanceTransform(1 - inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    ramp = np.clip(distance / (FADE * crop.side), 0, 1).astype(np.float32)
    filled = cv2.blendLinear(blurred, padded, ramp, 1 - ramp)
    return Crop(crop.x - x0 + left, crop.y - y0 + top, crop.side).apply(filled, size)
