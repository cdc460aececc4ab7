"""A binary range coder whose probabilities adapt, in whole numbers alone: the same bytes on every machine.

The carry-propagating coder of LZMA (Martin, 1979; Pavlov) with 16-bit probabilities. `docs/bitstream.md` states it so
that it can be written again from the page. Compiled by numba; a frame is coded by one call.
"""

from typing import Any

import numpy as np
from numba import njit

from avfr_jax.typing import UInt8

PRECISION = 16
HALF = 1 << (PRECISION - 1)
_TOP = 1 << 24
_WHOLE = (1 << 32) - 1
_LEAST = 1 << 7  # no probability is nearer to 0 or 1 than this
_SLOWEST = 6  # a context that has seen much moves by 1/64 of its error

# The coder's registers, an int64 array: (low, range, held byte, bytes held, position) when writing,
# (code, range, position) when reading.
_LOW, _RANGE, _HELD, _COUNT, _AT = range(5)


@njit(cache=True)
def _adapt(probabilities: Any, seen: Any, context: int, bit: int) -> None:
    """Move the probability of a 0 towards what was seen, quickly at first."""
    shift = min(4 + seen[context] // 8, _SLOWEST)
    p = np.int64(probabilities[context])
    if bit:
        p -= (p - _LEAST) >> shift
    else:
        p += ((1 << PRECISION) - _LEAST - p) >> shift
    probabilities[context] = p
    if seen[context] < 255:
        seen[context] += 1


@njit(cache=True)
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


@njit(cache=True)
def put_bit(registers: Any, out: Any, probabilities: Any, seen: Any, context: int, bit: int) -> None:
    """Write one bit in a context, which learns from it."""
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


@njit(cache=True)
def put_even(registers: Any, out: Any, value: int, bits: int) -> None:
    """Write a number of so many bits, all values being as likely, the highest bit first."""
    for k in range(bits - 1, -1, -1):
        registers[_RANGE] >>= 1
        if (value >> k) & 1:
            registers[_LOW] += registers[_RANGE]
        while registers[_RANGE] < _TOP:
            registers[_RANGE] <<= 8
            _shift_low(registers, out)


@njit(cache=True)
def _finish(registers: Any, out: Any) -> int:
    """The shortest ending that decodes with zeros after it; the length of all."""
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
    return length


@njit(cache=True)
def _byte(registers: Any, data: Any) -> Any:
    at = registers[2]
    registers[2] = at + 1
    return np.int64(data[at]) if at < len(data) else np.int64(0)


@njit(cache=True)
def _start(registers: Any, data: Any) -> None:
    registers[0], registers[1], registers[2] = 0, _WHOLE, 0
    for _ in range(4):
        registers[0] = (registers[0] << 8) | _byte(registers, data)


@njit(cache=True)
def get_bit(registers: Any, data: Any, probabilities: Any, seen: Any, context: int) -> int:
    """Read what `put_bit` wrote."""
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


@njit(cache=True)
def get_even(registers: Any, data: Any, bits: int) -> int:
    """Read what `put_even` wrote."""
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


class Writer:
    """Bytes being written.

    Attributes:
      registers: the coder's state, for the compiled functions.
      out: the bytes so far, for them too; `room` must be asked for before each call.
    """

    def __init__(self) -> None:
        # The first byte that LZMA's coder writes is always zero: position -1 drops it.
        self.registers = np.array([0, _WHOLE, 0, 1, -1], np.int64)
        self.out = np.zeros(256, np.uint8)

    def room(self, count: int) -> None:
        """Make room for that many bytes more."""
        wanted = int(self.registers[_AT] + self.registers[_COUNT]) + count + 16
        if wanted > len(self.out):
            self.out = np.concatenate([self.out, np.zeros(max(wanted, 2 * len(self.out)), np.uint8)])

    def finish(self) -> bytes:
        """Everything written; the writer is of no use after it."""
        self.room(8)
        return self.out[: _finish(self.registers, self.out)].tobytes()


class Reader:
    """Bytes being read. Beyond their end there are zeros, which a writer leaves out.

    Attributes:
      registers: the coder's state, for the compiled functions.
      data: the bytes, for them too.
    """

    def __init__(self, data: bytes | UInt8[np.ndarray, "n"]) -> None:
        self.data = np.frombuffer(data, np.uint8) if isinstance(data, bytes | bytearray | memoryview) else data
        self.registers = np.zeros(3, np.int64)
        _start(self.registers, self.data)
