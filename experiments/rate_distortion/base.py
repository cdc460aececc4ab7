"""Interface of a measured video codec."""

import dataclasses
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from avfr_jax.typing import Float, UInt8

APART = ("container", "sound")
"""Kinds of bytes outside the compared rate: overhead of a file format, and sound."""


@dataclasses.dataclass(frozen=True, eq=False)
class Coded:
    """A clip after encoding and decoding.

    Attributes:
      bytes_by_kind: bytes sent by kind (`key`, `inter`, `motion`, …); the kinds in `APART` do not count in the rate.
      frames: decoded from those bytes, as many as were encoded; larger where the receiver upscales them.
      encode_seconds, decode_seconds: wall-clock time of the whole clip, with colour conversion and without compilation.
    """

    bytes_by_kind: Mapping[str, int]
    frames: UInt8[np.ndarray, "n h w 3"]
    encode_seconds: float
    decode_seconds: float

    @property
    def stream_bytes(self) -> int:
        """Bytes that count in the rate."""
        return sum(size for kind, size in self.bytes_by_kind.items() if kind not in APART)


@runtime_checkable
class VideoCodec(Protocol):
    """One point of a codec's curve.

    Attributes:
      name: of the codec, shared by the points of a curve.
      point: short unique name of this setting, such as the CRF.
      settings: everything that determines the output, versions of libraries and models included: a point is measured
        again when they change.
    """

    @property
    def name(self) -> str: ...

    @property
    def point(self) -> str: ...

    @property
    def settings(self) -> Mapping[str, str]: ...

    def code(
        self, frames: UInt8[np.ndarray, "n h w 3"], fps: float, audio: Float[np.ndarray, " t"] | None = None
    ) -> Coded:
        """Encode and decode a clip, RGB, with its sound (mono at 16 kHz, in [-1, 1]) if any.

        Raises:
          AvfrError: the codec cannot code frames like these.
        """
        ...
