"""Read pickles of plain data without running code that is in them.

A pickle can name any Python function to call on loading. Here only names that a caller allows, and stand-ins of NumPy's
scalars and arrays, are found; any other refuses the whole file. A pickle that would take far more memory or time than
its own length is refused before it is read.
"""

import collections
import math
import pickle
import pickletools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from avfr_jax.errors import shortened

MOST_OPERATIONS = 1_000_000
"""Operations of one pickle: some fifty thousand tensors."""
MOST_VALUES = 300_000
"""Values of the data, those of shared containers counted wherever they stand."""
DEEPEST = 32


class Refused(Exception):
    """The pickle names something that is not allowed."""


class Malformed(Exception):
    """The data is not that of a checkpoint, e.g. would take far more memory or time than the file's length."""


class _Type:
    """A `numpy.dtype` of numbers or truth values."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code, self.order = code, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"

    @property
    def dtype(self) -> np.dtype[Any]:
        if not re.fullmatch(r"b1|[iu][1248]|f[248]", self.code):
            raise Refused(f"NumPy values of type {shortened(self.code, 20)}")
        return np.dtype(self.order + self.code)


class _Array:
    """A `numpy.ndarray`, filled by the pickle's next operation."""

    def __init__(self, *_: Any) -> None:
        self.value = np.zeros(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, columns_first, raw = state
        flat = np.frombuffer(raw, kind.dtype, math.prod(shape))
        self.value = flat.reshape(shape, order="F" if columns_first else "C")


def _scalar(kind: _Type, raw: str | bytes) -> Any:
    return np.frombuffer(raw.encode("latin1") if isinstance(raw, str) else raw, kind.dtype, 1)[0]


_NUMPY: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): "ndarray",
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
}


def _check_operations(stream: Any) -> None:
    """Leave the stream where the pickle ends. Malformed for too many operations, or for a place in the memory of seen
    objects far beyond their number, which would be allocated."""
    for count, (operation, argument, _) in enumerate(pickletools.genops(stream)):
        beyond = operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and isinstance(argument, int) and argument > count
        if count >= MOST_OPERATIONS or beyond:
            raise Malformed("more values than any checkpoint")


class DataUnpickler(pickle.Unpickler):
    """Unpickler of one pickle in a seekable stream.

    Args:
      stream: binary.
      names: (module, name) -> the stand-in that a pickle may call.
      find_storage: of the persistent ids of `torch.save`; None refuses them.
    """

    def __init__(
        self, stream: Any, names: Mapping[tuple[str, str], Any], find_storage: Callable[[Any], Any] | None = None
    ) -> None:
        start = stream.tell()
        _check_operations(stream)
        stream.seek(start)
        super().__init__(stream, encoding="latin1")
        own = {("collections", "OrderedDict"): self._ordered, ("_codecs", "encode"): self._encode}
        self._names = {**_NUMPY, **own, **names}
        self._find_storage = find_storage
        self._copied = 0

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in. Raises Refused for any other name."""
        if (module, name) not in self._names:
            raise Refused(f"{shortened(module, 40)}.{shortened(name, 40)}")
        return self._names[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """A storage. Raises Refused for another kind of object."""
        if self._find_storage is None:
            raise Refused("an object outside the file")
        return self._find_storage(pid)

    def _ordered(self, pairs: Iterable[Any] = ()) -> Any:
        return self._copy(collections.OrderedDict(pairs), 1)

    def _encode(self, text: str, _: str = "latin1") -> Any:
        return self._copy(text.encode("latin1"), 16)  # bytes are smaller than pairs

    def _copy(self, value: Any, a_value: int) -> Any:
        """What a call copies, which a short pickle can do many times over with one long object."""
        self._copied += len(value) // a_value
        if self._copied > MOST_VALUES:
            raise Malformed("more values than any checkpoint")
        return value


class PlainData:
    """Stand-ins in unpickled data -> arrays.

    Args:
      arrays: a stand-in of a caller -> its array; None for any other value.
      most_bytes: of all arrays together, shared ones counted wherever they stand.
    """

    def __init__(self, arrays: Callable[[Any], np.ndarray | None], most_bytes: int) -> None:
        self._arrays, self._bytes_left, self._values_left = arrays, most_bytes, MOST_VALUES

    def convert(self, value: Any, depth: int = 0) -> Any:
        """Dictionaries, lists, tuples, numbers, strings and arrays.

        Raises:
          Malformed: nested deeper than `DEEPEST`, as a list that holds itself is, or more values or bytes than allowed.
        """
        self._values_left -= 1
        if depth > DEEPEST or self._values_left < 0:
            raise Malformed("lists that are nested too deeply, or that share too many values")
        array = value.value if isinstance(value, _Array) else self._arrays(value)
        if array is not None:
            self._bytes_left -= array.nbytes
            if self._bytes_left < 0:
                raise Malformed("arrays that are far larger than the file")
            return array
        if isinstance(value, dict):
            return {k: self.convert(v, depth + 1) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self.convert(v, depth + 1) for v in value)
        return value
