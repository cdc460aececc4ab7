"""Vectors of integers in the range coder: binarisation, context selection and initial probabilities.

Each number is coded as a zero flag, a sign, its magnitude in unary up to 14, and the rest in an Exp-Golomb code. Every
number has contexts of its own, selected by its magnitude in the vector before and by how many of this vector's numbers
were not zero so far. They begin with the probabilities of a Laplace distribution of the expected scale.
"""

import dataclasses
import functools
from typing import Any

import numpy as np

from avfr_jax.codec.range_coder import HALF, Reader, Writer, get_bit, get_even, put_bit, put_even
from avfr_jax.numba_jit import njit
from avfr_jax.typing import Int

_UNARY = 14  # magnitudes up to here in unary
_ZERO, _SIGN, _LARGER = 0, 9, 12
_EACH = _LARGER + 3 * _UNARY  # contexts of one number
_LARGEST = 1 << 20  # magnitude; the Exp-Golomb code of a broken stream goes no further
LEVELS = 64
_BYTES_EACH = 12  # at most, of one number


# The probability, in 1/65536, that a number of a Laplace distribution rounds to zero, by level of its scale, level l
# being a scale of 2^((l - 24) / 4). Written out, since an exponential's last bit differs from machine to machine.
# fmt: off
_ROUNDS_TO_ZERO = (
    65024, 65024, 65024, 65024, 65024, 65024, 65024, 65024, 65024, 65024, 65024, 64973, 64336, 63268, 61662,
    59461, 56667, 53344, 49603, 45583, 41427, 37269, 33222, 29374, 25786, 22495, 19517, 16855, 14497, 12425,
    10619, 9052, 7701, 6539, 5544, 4694, 3971, 3355, 2833, 2391, 2016, 1700, 1432, 1207, 1016, 855, 720, 606,
    512, 512, 512, 512, 512, 512, 512, 512, 512, 512, 512, 512, 512, 512, 512, 512,
)
# fmt: on
_WIDER_AFTER = (-1, 2, 5)  # levels, where the same number was 0, 1 or more in the vector before
_WIDER_AMONG = (-1, 0, 1)  # levels, where none, one or more of the vector's numbers were not zero so far
_OCTAVE = 4  # levels; a magnitude ends at n as often as a number of half the scale rounds to zero


@functools.cache
def _starting_points(level: int) -> tuple[int, ...]:
    """Probabilities of a 0, in 1/65536, of one number's contexts."""

    def rounds_to_zero(at: int) -> int:
        return _ROUNDS_TO_ZERO[min(max(at, 0), LEVELS - 1)]

    zero = [rounds_to_zero(level + after + among) for after in _WIDER_AFTER for among in _WIDER_AMONG]
    ends = [rounds_to_zero(level + after - _OCTAVE) for after in _WIDER_AFTER for _ in range(_UNARY)]
    return (*zero, HALF, HALF, HALF, *ends)


@dataclasses.dataclass
class Contexts:
    """Adaptive contexts of vectors of C numbers.

    Attributes:
      probabilities: of a 0, in 1/65536, `[C · contexts]`.
      seen: bits coded in each, up to 255.
      last: the vector before.
    """

    probabilities: np.ndarray
    seen: np.ndarray
    last: np.ndarray

    @classmethod
    def for_levels(cls, levels: Int[np.ndarray, "c"]) -> "Contexts":
        """Initial contexts where number i has the scale 2^((levels[i] − 24) / 4); levels are clipped to [0, 63]."""
        table = np.array([_starting_points(int(level)) for level in levels], np.int64)
        return cls(
            table.reshape(-1).astype(np.uint16),
            np.zeros(table.size, np.uint8),
            np.zeros(len(levels), np.int64),
        )


@njit
def _before(last: int) -> int:
    return min(abs(last), 2)


@njit
def _put(registers: Any, out: Any, probabilities: Any, seen: Any, last: Any, values: Any) -> None:
    others = 0
    for i in range(len(values)):
        value, base, before = values[i], i * _EACH, _before(last[i])
        magnitude = abs(value)
        put_bit(registers, out, probabilities, seen, base + _ZERO + 3 * before + min(others, 2), int(magnitude > 0))
        if magnitude > 0:
            others += 1
            sign = 0 if last[i] == 0 else (1 if last[i] > 0 else 2)
            put_bit(registers, out, probabilities, seen, base + _SIGN + sign, int(value < 0))
            for n in range(1, _UNARY + 1):
                context = base + _LARGER + _UNARY * before + n - 1
                put_bit(registers, out, probabilities, seen, context, int(magnitude > n))
                if magnitude == n:
                    break
            if magnitude > _UNARY:
                _put_large(registers, out, magnitude - _UNARY)
        last[i] = value


@njit
def _put_large(registers: Any, out: Any, value: int) -> None:
    """Exp-Golomb code of a number from 1 up: as many zeros as it has bits after the first, then the bits."""
    bits = 0
    while (value >> (bits + 1)) > 0:
        bits += 1
    for _ in range(bits):
        put_even(registers, out, 0, 1)
    put_even(registers, out, value, bits + 1)


@njit
def _get_large(registers: Any, data: Any) -> int:
    bits = 0
    while bits < 20 and get_even(registers, data, 1) == 0:
        bits += 1
    return (1 << bits) | get_even(registers, data, bits)


@njit
def _get(registers: Any, data: Any, probabilities: Any, seen: Any, last: Any, count: int) -> None:
    others = 0
    for i in range(count):
        base, before = i * _EACH, _before(last[i])
        value = 0
        if get_bit(registers, data, probabilities, seen, base + _ZERO + 3 * before + min(others, 2)):
            others += 1
            sign = 0 if last[i] == 0 else (1 if last[i] > 0 else 2)
            negative = get_bit(registers, data, probabilities, seen, base + _SIGN + sign)
            value = 1
            while value <= _UNARY:
                if not get_bit(registers, data, probabilities, seen, base + _LARGER + _UNARY * before + value - 1):
                    break
                value += 1
            if value > _UNARY:
                value = _UNARY + _get_large(registers, data)
            if negative:
                value = -value
        last[i] = value


class RangeWriter(Writer):
    """Encodes vectors and bits; see `entropy.EntropyWriter`."""

    def put_vector(self, contexts: Contexts, values: Int[np.ndarray, "n"]) -> None:
        """Encode a vector, or its first numbers alone. Raises ValueError for a magnitude above 2^20."""
        values = np.ascontiguousarray(values, np.int64)
        if np.abs(values).max(initial=0) > _LARGEST:
            raise ValueError(f"the coder takes numbers of a magnitude up to {_LARGEST}")
        self.reserve(_BYTES_EACH * len(values))
        _put(self.registers, self.out, contexts.probabilities, contexts.seen, contexts.last, values)

    def put_bits(self, value: int, bits: int) -> None:
        """Encode a number of so many equiprobable bits."""
        self.reserve(bits // 8 + 2)
        put_even(self.registers, self.out, value, bits)


class RangeReader(Reader):
    """Decodes vectors and bits; any bytes decode to something."""

    def get_vector(self, contexts: Contexts, count: int | None = None) -> Int[np.ndarray, "n"]:
        """Decode a vector, int64; of a shorter one, the first `count` numbers."""
        count = len(contexts.last) if count is None else count
        _get(self.registers, self.data, contexts.probabilities, contexts.seen, contexts.last, count)
        return contexts.last[:count].copy()

    def get_bits(self, bits: int) -> int:
        """Decode a number of so many equiprobable bits."""
        return int(get_even(self.registers, self.data, bits))


class RangeCoder:
    """The adaptive range coder of version 1; see `entropy.EntropyCoder`."""

    id = 0
    contexts = staticmethod(Contexts.for_levels)
    writer = RangeWriter
    reader = RangeReader
