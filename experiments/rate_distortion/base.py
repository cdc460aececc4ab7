"""What the experiment asks of a codec, and what a codec gives back."""

import dataclasses
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from avfr_jax.typing import Float, UInt8

APART = ("container", "sound")
"""Kinds of bytes that are reported apart, since the picture's rate is what is compared: what a file needs beyond the
stream, and the sound."""


@dataclasses.dataclass(frozen=True, eq=False)
class Coded:
    """A clip after encoding and decoding.

    Attributes:
      bytes_by_kind: what was sent, by kind (`key`, `inter`, `motion`, …); the kinds in `APART` do not count in
        the rate.
      frames: decoded from those very bytes, as many as went in; they may be larger, if the receiver enlarges them.
      encode_seconds, decode_seconds: wall-clock time of the whole clip, with the conversion of colours and without the
        compilation of programs.
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
      name: of the codec, which the points of one curve share.
      point: of this setting, short and unlike the others', such as the CRF.
      settings: all that decides the outcome, versions of libraries and models too: a point is measured again when they
        change.
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
        """Send a clip, RGB, with its sound (mono at 16 kHz, in [-1, 1]) if any, and receive it.

        Raises:
          AvfrError: the codec cannot code frames like these.
        """
        ...
