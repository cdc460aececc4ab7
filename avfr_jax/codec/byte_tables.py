"""Arithmetic coding of half-precision numbers with one table of byte frequencies per byte position.

face-vid2vid's coder (Wang et al. 2021, appendix C.1): every number of a frame is two bytes, and each byte is coded with
the frequencies of its position in a validation set. Frames are coded one by one, and nothing adapts. The paper does not
state what a byte costs that the validation set never had at its position; here every count is raised by one.
"""

import dataclasses
import functools
from typing import Any

import numpy as np

from avfr_jax.codec.range_coder import PRECISION, Reader, Writer, get_interval, put_interval
from avfr_jax.errors import ConfigError
from avfr_jax.numba_jit import njit
from avfr_jax.typing import Float, Int, UInt8

_TOTAL = 1 << PRECISION  # of the frequencies of one position
_LARGEST = float(np.finfo(np.float16).max)


def half_bytes(numbers: Float[np.ndarray, "n d"]) -> UInt8[np.ndarray, "n b"]:
    """The frames' numbers as little-endian half-precision bytes, B = 2 D; numbers beyond ±65504 are clipped.

    Raises:
      ConfigError: a number is not finite.
    """
    values = np.asarray(numbers, np.float32)
    if not np.isfinite(values).all():
        raise ConfigError("a motion of finite numbers can be coded alone")
    halves = np.ascontiguousarray(np.clip(values, -_LARGEST, _LARGEST).astype("<f2"))
    return halves.view(np.uint8).reshape(len(values), -1)


def half_numbers(data: UInt8[np.ndarray, "n b"]) -> Float[np.ndarray, "n d"]:
    """The numbers of `half_bytes`, float32."""
    return np.ascontiguousarray(data).view("<f2").astype(np.float32)


@njit
def _put(registers: Any, out: Any, ends: Any, frame: Any) -> None:
    for i in range(len(frame)):
        symbol = frame[i]
        start = np.int64(ends[i, symbol - 1]) if symbol else np.int64(0)
        put_interval(registers, out, start, np.int64(ends[i, symbol]) - start)


@njit
def _get(registers: Any, data: Any, ends: Any, frame: Any) -> None:
    for i in range(len(frame)):
        frame[i] = get_interval(registers, data, ends[i])


@dataclasses.dataclass(frozen=True, eq=False)
class ByteTables:
    """One table of frequencies per byte position.

    Attributes:
      frequencies: int64 `[B, 256]`, from 1; those of a position add up to 65536.
    """

    frequencies: Int[np.ndarray, "b 256"]

    @classmethod
    def fit(cls, frames: UInt8[np.ndarray, "n b"]) -> "ByteTables":
        """The tables of a validation set of N frames.

        Raises:
          ConfigError: there is no frame.
        """
        if not len(frames):
            raise ConfigError("frequencies of bytes are counted in one frame or more")
        counts = np.stack([np.bincount(column, minlength=256) for column in np.asarray(frames, np.uint8).T]) + 1
        # Every byte keeps one; the most frequent one takes what rounding leaves.
        shares = 1 + counts * (_TOTAL - 256) // counts.sum(1, keepdims=True)
        shares[np.arange(len(shares)), shares.argmax(1)] += _TOTAL - shares.sum(1)
        return cls(shares)

    @functools.cached_property
    def _ends(self) -> Int[np.ndarray, "b 256"]:
        return np.cumsum(self.frequencies, 1)

    def encode(self, frame: UInt8[np.ndarray, "m"]) -> bytes:
        """Encode one frame's bytes, all B or the first M of them.

        Raises:
          ConfigError: there are more bytes than tables.
        """
        self._check(len(frame))
        writer = Writer()
        writer.reserve(3 * len(frame))  # 16 bits is what the rarest byte takes
        _put(writer.registers, writer.out, self._ends, np.ascontiguousarray(frame, np.uint8))
        return writer.finish()

    def decode(self, data: bytes, count: int) -> UInt8[np.ndarray, "count"]:
        """Decode a frame of so many bytes. Any data gives some bytes.

        Raises:
          ConfigError: there are more bytes than tables.
        """
        self._check(count)
        frame, reader = np.zeros(count, np.uint8), Reader(data)
        _get(reader.registers, reader.data, self._ends, frame)
        return frame

    def _check(self, count: int) -> None:
        if count > len(self.frequencies):
            raise ConfigError(f"there are tables for {len(self.frequencies)} bytes a frame, not for {count}")
