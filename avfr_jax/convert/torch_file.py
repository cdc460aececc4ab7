"""Read `torch.save` files without PyTorch and without running code that is in them.

Both layouts are read: the zip archive (PyTorch 1.6 and later) and the older stream of pickles. Of the names in their
pickles only those that rebuild tensors, ordered dictionaries and NumPy's numbers are allowed (see `pickles`).
"""

import io
import lzma
import math
import mmap
import pathlib
import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from avfr_jax.convert.pickles import DataUnpickler, Malformed, PlainData, Refused
from avfr_jax.errors import CheckpointError, InputError, shortened

_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
    "BFloat16Storage": "<u2",
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_MOST_DIMENSIONS = 16
# Errors of zipfile, zlib, pickle and NumPy on a damaged file.
_DAMAGE = (
    *(pickle.UnpicklingError, EOFError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError),
    *(RuntimeError, MemoryError, ImportError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, OSError),
)
# What a file may unpack to: tensors are hardly compressible, and several may share their numbers.
_UNPACKING, _SHARING = 4, 4
_SMALL = 64 << 20


class _Storage(NamedTuple):
    """Flat numbers by key; they lie outside the pickle."""

    kind: str
    key: str
    size: int

    def numbers(self, raw: Any, offset: int = 0) -> np.ndarray:
        flat = np.frombuffer(raw, _DTYPES[self.kind], self.size, offset)
        if self.kind == "BFloat16Storage":
            return (flat.astype(np.uint32) << 16).view(np.float32)
        return flat

    @property
    def width(self) -> int:
        return np.dtype(_DTYPES[self.kind]).itemsize


class _Tensor(NamedTuple):
    """A view of a storage: offset, shape and strides in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, data: np.ndarray) -> np.ndarray:
        if 0 in self.shape:
            return np.zeros(self.shape, data.dtype)
        end = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True)) + 1
        if min(self.offset, *self.strides, 0) < 0 or end > data.size:
            raise Malformed("a tensor that reaches outside its stored numbers")
        if math.prod(self.shape) > data.size:
            raise Malformed("a tensor that is larger than its stored numbers")
        strides = [s * data.itemsize for s in self.strides]
        return np.lib.stride_tricks.as_strided(data[self.offset :], self.shape, strides, writeable=False)


def _whole(values: Any) -> tuple[int, ...]:
    values = tuple(values) if isinstance(values, tuple | list) and len(values) <= _MOST_DIMENSIONS else (None,)
    if not all(type(v) is int and 0 <= v < 1 << 62 for v in values):
        raise Refused("a tensor of an impossible shape")
    return values


def _rebuild_tensor(storage: Any, offset: int, shape: Any, strides: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise Refused("a tensor without numbers")
    return _Tensor(storage, _whole((offset,))[0], _whole(shape), _whole(strides))


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _size(values: Any = ()) -> tuple[int, ...]:
    return _whole(values)


def _device(kind: str, *_: Any) -> str:
    return kind


_NAMES: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch", "Size"): _size,
    ("torch", "device"): _device,
    **{("torch", name): name for name in _DTYPES},
}


class _Storages(dict[str, _Storage]):
    """The storages that a pickle names, by key."""

    def find(self, pid: Any) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or pid[1] not in _DTYPES:
            raise Refused(f"an object of kind {shortened(pid[0] if isinstance(pid, tuple) and pid else pid)}")
        _, kind, key, _, size = pid[:5]
        if len(pid) > 5 and pid[5] is not None:  # the older layout's views into another storage
            raise Refused("a storage that is a view of another")
        return self.setdefault(str(key), _Storage(kind, str(key), *_whole((size,))))


def _plain(value: Any, data: Mapping[str, np.ndarray], size: int) -> Any:
    def array(value: Any) -> np.ndarray | None:
        if not isinstance(value, _Tensor):
            return None
        if value.storage.key not in data:
            raise Malformed("a tensor whose numbers are missing")
        return value.array(data[value.storage.key])

    return PlainData(array, _SHARING * size + _SMALL).convert(value)


def _read_zip(path: pathlib.Path) -> Any:
    name = shortened(path.name)
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        index = next((n for n in sorted(names) if n.endswith("data.pkl") and n.count("/") <= 1), None)
        if index is None:
            raise CheckpointError(f"{name} is a zip archive but not a PyTorch checkpoint (no data.pkl inside).")
        root = index[: -len("data.pkl")]
        if any(entry.startswith(f"{root}code/") for entry in names):
            raise CheckpointError(f"{name} is a TorchScript program; save the weights alone (state dictionaries).")
        left = _UNPACKING * path.stat().st_size + _SMALL

        def read(entry: str) -> bytes:
            nonlocal left
            left -= archive.getinfo(entry).file_size
            if left < 0:
                raise Malformed("entries that unpack to far more than its size")
            return archive.read(entry)

        if f"{root}byteorder" in names and read(f"{root}byteorder").strip() != b"little":
            raise CheckpointError(f"{name} was saved on a big-endian machine; save it again on a common one.")
        storages = _Storages()
        value = DataUnpickler(io.BytesIO(read(index)), _NAMES, storages.find).load()
        data = {key: storage.numbers(read(f"{root}data/{key}")) for key, storage in storages.items()}
        return _plain(value, data, path.stat().st_size)


def _read_legacy(path: pathlib.Path) -> Any:
    name = shortened(path.name)
    with path.open("rb") as file:
        stream = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    storages = _Storages()

    def load() -> Any:
        return DataUnpickler(stream, _NAMES, storages.find).load()

    if load() != _LEGACY_MAGIC:
        raise CheckpointError(f"{name} is not a PyTorch checkpoint.")
    version, system = load(), load()
    if version != 1001 or not (isinstance(system, dict) and system.get("little_endian", True)):
        raise CheckpointError(f"{name} is a PyTorch checkpoint of a kind that is not known here.")
    value, data = load(), {}
    for key in load():
        (size,) = struct.unpack("<q", stream.read(8))
        storage = storages[str(key)]._replace(size=_whole((size,))[0])
        data[storage.key] = storage.numbers(stream, stream.tell())
        stream.seek(size * storage.width, io.SEEK_CUR)
    return _plain(value, data, len(stream))


def read_torch_file(path: str | pathlib.Path) -> Any:
    """Read a `torch.save` file, tensors as NumPy arrays.

    Args:
      path: a `.pth`, `.pt` or `.pth.tar` file (a pickle, in spite of the last name).

    Returns:
      Dictionaries, lists, numbers, strings and read-only arrays; bfloat16 as float32.

    Raises:
      InputError: there is no such file.
      CheckpointError: the file is damaged, is no checkpoint, names code to run on loading, or holds data that would
        take far more memory than the file.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"There is no checkpoint file {path}.")
    try:
        return _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path)
    except CheckpointError:
        raise
    except Refused as refused:
        raise CheckpointError(
            f"{shortened(path.name)} was refused: it asks for {refused} while loading, which could run code; "
            "save the weights alone (state dictionaries of tensors) and try again."
        ) from None
    except Malformed as error:
        raise CheckpointError(
            f"{shortened(path.name)} was refused: it holds {error}; it is damaged, or not a checkpoint."
        ) from None
    except _DAMAGE as error:
        raise CheckpointError(
            f"{shortened(path.name)} is not a PyTorch checkpoint, or is damaged ({type(error).__name__})."
        ) from None
