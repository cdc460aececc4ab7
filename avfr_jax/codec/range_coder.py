"""An adaptive binary range coder in integer arithmetic: the same bytes on every machine.

The carry-propagating coder of LZMA (Martin, 1979; Pavlov) with 16-bit probabilities, compiled by numba;
`docs/bitstream.md` states it completely.
"""

from typing import Any

import numpy as np

from avfr_jax.numba_jit import njit
from avfr_jax.typing import UInt8

PRECISION = 16
HALF = 1 << (PRECISION - 1)
_TOP = 1 << 24
_WHOLE = (1 << 32) - 1
_LEAST = 1 << 7  # distance of a probability from 0 and 1, at least
_SLOWEST = 6  # a settled context moves by 1/64 of its error

# The coder's registers, an int64 array: (low, range, held byte, bytes held, position) when writing,
# (code, range, position) when reading.
_LOW, _RANGE, _HELD, _COUNT, _AT = range(5)


@njit
def _adapt(probabilities: Any, seen: Any, context: int, bit: int) -> None:
    """Move the probability of a 0 towards the coded bit, quickly at first."""
    shift = min(4 + seen[context] // 8, _SLOWEST)
    p = np.int64(probabilities[context])
    if bit:
        p -= (p - _LEAST) >> shift
    else:
        p += ((1 << PRECISION) - _LEAST - p) >> shift
    probabilities[context] = p
    if seen[context] < 255:
        seen[context] += 1


@njit
def _shift_low(registers: Any, out: Any) -> None:
    low = registers[_LOW]
    if low < 0xFF000000 or low > _WHOLE:
        carry = low >> 32
        held = registers[_HELD]
        while registers[_COUNT] > 0:
            if registers[_AT] >= 0:
                out[registers[_AT]] = (held + carry) & 0xFF
            registers[_AT] += 1
            held = 0xFF
            registers[_COUNT] -= 1
        registers[_HELD] = (low >> 24) & 0xFF
    registers[_COUNT] += 1
    registers[_LOW] = (low << 8) & _WHOLE


@njit
def put_bit(registers: Any, out: Any, probabilities: Any, seen: Any, context: int, bit: int) -> None:
    """Encode one bit in an adaptive context."""
    bound = (registers[_RANGE] >> PRECISION) * np.int64(probabilities[context])
    if bit:
        registers[_LOW] += bound
        registers[_RANGE] -= bound
    else:
        registers[_RANGE] = bound
    _adapt(probabilities, seen, context, bit)
    while registers[_RANGE] < _TOP:
        registers[_RANGE] <<= 8
        _shift_low(registers, out)


@njit
def put_even(registers: Any, out: Any, value: int, bits: int) -> None:
    """Encode a number of so many equiprobable bits, the highest first."""
    for k in range(bits - 1, -1, -1):
        registers[_RANGE] >>= 1
        if (value >> k) & 1:
            registers[_LOW] += registers[_RANGE]
        while registers[_RANGE] < _TOP:
            registers[_RANGE] <<= 8
            _shift_low(registers, out)


@njit
def _finish(registers: Any, out: Any) -> int:
    """End with the shortest bytes that decode with zeros after them; the length of all."""
    low, high = registers[_LOW], registers[_LOW] + registers[_RANGE] - 1
    for bits in range(32, -1, -1):
        value = ((low + (1 << bits) - 1) >> bits) << bits
        if value <= high:
            registers[_LOW] = value
            break
    for _ in range(5):
        _shift_low(registers, out)
    length = registers[_AT]
    while length > 0 and out[length - 1] == 0:
        length -= 1
    return int(length)


@njit
def _byte(registers: Any, data: Any) -> Any:
    at = registers[2]
    registers[2] = at + 1
    return np.int64(data[at]) if at < len(data) else np.int64(0)


@njit
def _start(registers: Any, data: Any) -> None:
    registers[0], registers[1], registers[2] = 0, _WHOLE, 0
    for _ in range(4):
        registers[0] = (registers[0] << 8) | _byte(registers, data)


@njit
def get_bit(registers: Any, data: Any, probabilities: Any, seen: Any, context: int) -> int:
    """Decode what `put_bit` encoded."""
    bound = (registers[1] >> PRECISION) * np.int64(probabilities[context])
    if registers[0] < bound:
        registers[1] = bound
        bit = 0
    else:
        registers[0] -= bound
        registers[1] -= bound
        bit = 1
    _adapt(probabilities, seen, context, bit)
    while registers[1] < _TOP:
        registers[1] <<= 8
        registers[0] = ((registers[0] << 8) | _byte(registers, data)) & _WHOLE
    return bit


@njit
def get_even(registers: Any, data: Any, bits: int) -> int:
    """Decode what `put_even` encoded."""
    value = 0
    for _ in range(bits):
        registers[1] >>= 1
        bit = 0
        if registers[0] >= registers[1]:
            registers[0] -= registers[1]
            bit = 1
        value = (value << 1) | bit
        while registers[1] < _TOP:
            registers[1] <<= 8
            registers[0] = ((registers[0] << 8) | _byte(registers, data)) & _WHOLE
    return value


@njit
def put_interval(registers: Any, out: Any, start: Any, size: Any) -> None:
    """Encode a symbol of a fixed table: the interval of `size` / 65536 from `start` / 65536."""
    registers[_RANGE] >>= PRECISION
    registers[_LOW] += registers[_RANGE] * start
    registers[_RANGE] *= size
    while registers[_RANGE] < _TOP:
        registers[_RANGE] <<= 8
        _shift_low(registers, out)


@njit
def get_interval(registers: Any, data: Any, ends: Any) -> int:
    """Decode what `put_interval` encoded: the index of the first of the ascending `ends`, in 1/65536, above it."""
    registers[1] >>= PRECISION
    at = min(registers[0] // registers[1], (1 << PRECISION) - 1)
    symbol = int(np.searchsorted(ends, at, side="right"))
    start = np.int64(ends[symbol - 1]) if symbol else np.int64(0)
    registers[0] -= start * registers[1]
    registers[1] *= np.int64(ends[symbol]) - start
    while registers[1] < _TOP:
        registers[1] <<= 8
        registers[0] = ((registers[0] << 8) | _byte(registers, data)) & _WHOLE
    return symbol


class Writer:
    """State of an encoder.

    Attributes:
      registers: of the coder, for the compiled functions.
      out: the bytes so far, for them too; `reserve` must be called before each of them.
    """

    def __init__(self) -> None:
        # The first byte that LZMA's coder writes is always zero: position -1 drops it.
        self.registers = np.array([0, _WHOLE, 0, 1, -1], np.int64)
        self.out = np.zeros(256, np.uint8)

    def reserve(self, count: int) -> None:
        """Make room for that many bytes more."""
        wanted = int(self.registers[_AT] + self.registers[_COUNT]) + count + 16
        if wanted > len(self.out):
            self.out = np.concatenate([self.out, np.zeros(max(wanted, 2 * len(self.out)), np.uint8)])

    def finish(self) -> bytes:
        """Everything encoded; the writer cannot be used after it."""
        self.reserve(8)
        return self.out[: _finish(self.registers, self.out)].tobytes()


class Reader:
    """State of a decoder; beyond the end of the data there are zero bytes.

    Attributes:
      registers: of the coder, for the compiled functions.
      data: the bytes, for them too.
    """

    def __init__(self, data: bytes | UInt8[np.ndarray, "n"]) -> None:
        self.data = np.frombuffer(data, np.uint8) if isinstance(data, bytes | bytearray | memoryview) else data
        self.registers = np.zeros(3, np.int64)
        _start(self.registers, self.data)
