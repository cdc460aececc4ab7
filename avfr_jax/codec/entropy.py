"""The interface of entropy coders, and the coder of each id in the header."""

from typing import Any, Protocol

import numpy as np

from avfr_jax.codec.bitstream import BitstreamError
from avfr_jax.codec.symbols import RangeCoder
from avfr_jax.typing import Int


class EntropyWriter(Protocol):
    """An encoder of one payload."""

    def put_vector(self, contexts: Any, values: Int[np.ndarray, "n"]) -> None:
        """Encode a vector of C integers, or its first ones alone, which adapts the contexts of those."""

    def put_bits(self, value: int, bits: int) -> None:
        """Encode a number of so many equiprobable bits."""

    def finish(self) -> bytes:
        """The payload; the writer cannot be used after it."""
        ...


class EntropyReader(Protocol):
    """A decoder of one payload; any bytes decode to something."""

    def get_vector(self, contexts: Any, count: int | None = None) -> Int[np.ndarray, "n"]:
        """Decode a vector, int64; of a shorter one, the first `count` numbers."""
        ...

    def get_bits(self, bits: int) -> int:
        """Decode a number of so many equiprobable bits."""
        ...


class EntropyCoder(Protocol):
    """A lossless coder of integer vectors, bit-exact between machines."""

    @property
    def id(self) -> int:
        """Its number in the stream's header."""
        ...

    def contexts(self, levels: Int[np.ndarray, "c"]) -> Any:
        """Adaptive state for vectors of which number i has the scale 2^((levels[i] − 24) / 4)."""
        ...

    def writer(self) -> EntropyWriter:
        """A new encoder."""
        ...

    def reader(self, data: bytes) -> EntropyReader:
        """A decoder of a payload."""
        ...


RANGE_CODER: EntropyCoder = RangeCoder()
_CODERS = {coder.id: coder for coder in (RANGE_CODER,)}


def entropy_coder(identifier: int) -> EntropyCoder:
    """The coder of an id. Raises BitstreamError for an unknown one."""
    if identifier not in _CODERS:
        raise BitstreamError(f"there is no entropy coder {identifier}; this program reads streams with 0")
    return _CODERS[identifier]
