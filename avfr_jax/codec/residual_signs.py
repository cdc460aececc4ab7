"""Entropy coding of binary residuals (`models.residual`): which cells are sent, and their signs.

The context of a cell's flag is the number of its neighbours to the left and above that are sent; of a sign, the signs
of the same map there. All contexts begin even and adapt within one residual, which can be decoded by itself.
"""

from typing import Any

import numpy as np

from avfr_jax.codec.bitstream import BitstreamError
from avfr_jax.codec.range_coder import HALF, Reader, Writer, get_bit, put_bit
from avfr_jax.errors import ConfigError
from avfr_jax.numba_jit import njit
from avfr_jax.typing import Int

_SENT = 3  # contexts of a cell
_EACH = 9  # contexts of a map


def _contexts(maps: int) -> tuple[np.ndarray, np.ndarray]:
    count = _SENT + _EACH * maps
    return np.full(count, HALF, np.uint16), np.zeros(count, np.uint8)


@njit
def _around(signs: Any, row: int, column: int, c: int) -> Any:
    """The same map's signs to the left and above; 0 beyond the border."""
    left = np.int64(signs[row, column - 1, c]) if column > 0 else np.int64(0)
    above = np.int64(signs[row - 1, column, c]) if row > 0 else np.int64(0)
    return left, above


@njit
def _put(registers: Any, out: Any, probabilities: Any, seen: Any, signs: Any) -> None:
    for row in range(signs.shape[0]):
        for column in range(signs.shape[1]):
            left, above = _around(signs, row, column, 0)
            sent = signs[row, column, 0] != 0
            put_bit(registers, out, probabilities, seen, int(left != 0) + int(above != 0), int(sent))
            if not sent:
                continue
            for c in range(signs.shape[2]):
                left, above = _around(signs, row, column, c)
                context = _SENT + _EACH * c + 3 * (left + 1) + above + 1
                put_bit(registers, out, probabilities, seen, context, int(signs[row, column, c] > 0))


@njit
def _get(registers: Any, data: Any, probabilities: Any, seen: Any, signs: Any) -> None:
    for row in range(signs.shape[0]):
        for column in range(signs.shape[1]):
            left, above = _around(signs, row, column, 0)
            if not get_bit(registers, data, probabilities, seen, int(left != 0) + int(above != 0)):
                continue
            for c in range(signs.shape[2]):
                left, above = _around(signs, row, column, c)
                context = _SENT + _EACH * c + 3 * (left + 1) + above + 1
                signs[row, column, c] = 2 * get_bit(registers, data, probabilities, seen, context) - 1


def put_signs(signs: Int[np.ndarray, "a b bits"]) -> bytes:
    """Encode signs: the number of maps, then range-coded bits.

    Args:
      signs: int8; a cell is sent with the same first maps everywhere (-1, 1), and all else is 0. Up to 255 maps.

    Raises:
      ConfigError: cells of other numbers of maps.
    """
    maps = int((signs != 0).any((0, 1)).sum())
    if not maps:
        return b""
    used = np.ascontiguousarray(signs[..., :maps])
    if signs[..., maps:].any() or maps > 255 or ((used != 0).any(-1) != (used != 0).all(-1)).any():
        raise ConfigError("a residual sends the same first maps of every cell that it sends")
    writer = Writer()
    writer.reserve(2 * (used.size + used.shape[0] * used.shape[1]))
    _put(writer.registers, writer.out, *_contexts(maps), used)
    return bytes([maps]) + writer.finish()


def get_signs(data: bytes, side: int, bits: int) -> Int[np.ndarray, "side side bits"]:
    """Decode signs, int8. Any bytes give some signs.

    Raises:
      BitstreamError: they are of more maps than there are.
    """
    signs = np.zeros((side, side, bits), np.int8)
    if not data:
        return signs
    if not 1 <= data[0] <= bits:
        raise BitstreamError(f"a residual is of {data[0]} maps; there are {bits}")
    reader = Reader(data[1:])
    sent = np.zeros((side, side, data[0]), np.int8)
    _get(reader.registers, reader.data, *_contexts(data[0]), sent)
    signs[..., : data[0]] = sent
    return signs
