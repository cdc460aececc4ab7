"""Square windows of an image: cut out with a replicated border, resized, mapped back."""

import dataclasses

import cv2
import numpy as np

from avfr_jax.errors import InputError
from avfr_jax.typing import Float, UInt8


def check_image(image: np.ndarray) -> None:
    """Raises InputError unless `image` is uint8 RGB [H, W, 3] with at least one pixel."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise InputError(
            f"an image must be uint8 RGB with shape [height, width, 3], not {image.dtype} {list(image.shape)}"
        )


@dataclasses.dataclass(frozen=True)
class Window:
    """A square of whole pixels: columns x … x+side-1, rows y … y+side-1; it may extend outside the image."""

    x: int
    y: int
    side: int

    @classmethod
    def around(cls, centre: tuple[float, float], side: float) -> "Window":
        """The window of about that side around a point in pixels. A large side becomes a multiple of eight, since
        shrinking by a whole factor is several times faster."""
        whole = max(1, round(side)) if side < 256 else 8 * round(side / 8)
        return cls(round(centre[0] + 0.5 - whole / 2), round(centre[1] + 0.5 - whole / 2), whole)

    @classmethod
    def whole(cls, width: int, height: int, margin: float = 0.0) -> "Window":
        """A centred square that holds an image of this size, enlarged by a fraction of its side."""
        side = max(width, height) * (1 + 2 * margin)
        return cls.around(((width - 1) / 2, (height - 1) / 2), side if side < 256 else 8 * np.ceil(side / 8))

    def cut(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "s s 3"]:
        """Its pixels, contiguous, with the border replicated outside the image."""
        height, width = image.shape[:2]
        # A window wholly outside still needs one row and column to repeat.
        x0, x1 = min(max(self.x, 0), width - 1), max(min(self.x + self.side, width), 1)
        y0, y1 = min(max(self.y, 0), height - 1), max(min(self.y + self.side, height), 1)
        x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
        part = image[y0:y1, x0:x1]
        if part.shape[:2] == (self.side, self.side):
            return np.ascontiguousarray(part)
        left = min(max(-self.x, 0), self.side - part.shape[1])
        top = min(max(-self.y, 0), self.side - part.shape[0])
        right, bottom = self.side - left - part.shape[1], self.side - top - part.shape[0]
        return cv2.copyMakeBorder(part, top, bottom, left, right, cv2.BORDER_REPLICATE)

    def cut_to(self, image: UInt8[np.ndarray, "h w 3"], smallest: int, largest: int) -> UInt8[np.ndarray, "s s 3"]:
        """Its pixels, enlarged to `smallest` or divided by a power of two so that they are at most `largest`."""
        pixels = self.cut(image)
        if smallest <= self.side <= largest:
            return pixels
        divisor = 2 ** int(np.ceil(np.log2(self.side / largest))) if self.side > largest else 1
        size = max(smallest, round(self.side / divisor))
        method = cv2.INTER_AREA if divisor > 1 else cv2.INTER_LINEAR
        return cv2.resize(pixels, (size, size), interpolation=method)

    def to_image(self, points: Float[np.ndarray, "n 3"], size: int) -> Float[np.ndarray, "n 3"]:
        """Points (x, y, z) in pixels of the window resized to `size` → pixels of the image."""
        scale = self.side / size
        shift = np.array([self.x + scale / 2 - 0.5, self.y + scale / 2 - 0.5, 0], np.float32)
        return points * np.float32(scale) + shift
