"""Decoded to upright picture: display matrix and pixel aspect ratio."""

import dataclasses
import math
import struct
from fractions import Fraction
from typing import Any

from av.sidedata.sidedata import Type as SideDataType


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Scale to `width` × `height`, mirror, rotate.

    Attributes:
        width, height: after scaling, before rotation.
        turns: counter-clockwise quarter turns.
        flip: mirror left to right before rotation.
    """

    width: int
    height: int
    turns: int
    flip: bool

    @classmethod
    def of(cls, frame: Any, stream: Any) -> "Geometry":
        """The geometry of a decoded frame and its stream."""
        aspect = stream.sample_aspect_ratio or Fraction(1)
        width, height = frame.width, frame.height
        if aspect > 0 and not 0.98 < aspect < 1.02:
            if aspect > 1:
                width = round(width * min(aspect, Fraction(8)))
            else:
                height = round(height / max(aspect, Fraction(1, 8)))
        turns, flip = orientation(frame)
        return cls(width, height, turns, flip)

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height after rotation."""
        return (self.height, self.width) if self.turns % 2 else (self.width, self.height)


def orientation(frame: Any) -> tuple[int, bool]:
    """Counter-clockwise quarter turns of a decoded frame's display matrix, and whether to mirror before them.

    The matrix (nine 32-bit numbers, 16.16 fixed point) maps stored to shown coordinates by
    x' = a x + c y, y' = b x + d y (ISO/IEC 14496-12, 8.5.3), y downwards.
    """
    side = frame.side_data.get(SideDataType.DISPLAYMATRIX)
    if side is None:
        return 0, False
    a, b, _, c, d = struct.unpack("=5i", bytes(side)[:20])
    flip = a * d - b * c < 0
    if flip:  # the matrix after a mirroring of x: what is left is a rotation
        a, b = -a, -b
    if not a and not b:
        return 0, False
    clockwise = math.degrees(math.atan2(b, a))
    return round(-clockwise / 90) % 4, flip


def _unknown_side_data(cls: Any, value: object) -> Any:
    """A member for a kind of side data that FFmpeg has and PyAV's enumeration lacks (31, EXIF, in PyAV 18)."""
    if not isinstance(value, int):
        return None
    member = object.__new__(cls)
    member._name_, member._value_ = f"UNKNOWN_{value}", value
    return member


# PyAV converts the kinds of all side data of a frame before it gives access to any, and fails on one it does not know.
if "_missing_" not in vars(SideDataType):
    SideDataType._missing_ = classmethod(_unknown_side_data)  # type: ignore[assignment]
