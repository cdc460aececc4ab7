"""Read `torch.save` files without PyTorch and without running code that is in them.

Both layouts are read: the zip archive (PyTorch 1.6 and later) and the older stream of pickles. A pickle can name any
Python function to call on loading; only those that rebuild tensors and ordered dictionaries are allowed here, and any
other name refuses the whole file.
"""

import collections
import io
import pathlib
import pickle
import zipfile
from typing import Any

import numpy as np

from avfr_jax.errors import CheckpointError, InputError

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
    "BFloat16Storage": "bfloat16",
}
# Errors of zipfile, pickle and NumPy on a damaged file.
_DAMAGE = (
    *(pickle.UnpicklingError, EOFError, KeyError, ValueError, IndexError, TypeError, AttributeError),
    *(OverflowError, MemoryError, ImportError, zipfile.BadZipFile, OSError),
)
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


class _Refused(Exception):
    """The pickle names something that is not allowed."""


class _Storage:
    """Flat numbers; the older layout stores them after the pickle."""

    def __init__(self, kind: str, size: int) -> None:
        self.kind, self.size = kind, size
        self.data: np.ndarray | None = None

    def fill(self, raw: bytes) -> None:
        if self.kind == "BFloat16Storage":
            wide = np.frombuffer(raw, "<u2", self.size).astype(np.uint32) << 16
            self.data = wide.view(np.float32)
        else:
            self.data = np.frombuffer(raw, _DTYPES[self.kind], self.size)


class _Tensor:
    """A view of a storage: offset, shape and strides in elements."""

    def __init__(self, storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def array(self) -> np.ndarray:
        data = self.storage.data
        if data is None:
            raise CheckpointError("The checkpoint names a tensor whose numbers are missing; the file is cut short.")
        end = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True)) + 1
        if 0 in self.shape:
            return np.zeros(self.shape, data.dtype)
        if min(self.offset, *self.strides, 0) < 0 or end > data.size:
            raise CheckpointError("The checkpoint holds a tensor that reaches outside its own numbers; it is damaged.")
        view = np.lib.stride_tricks.as_strided(
            data[self.offset :], self.shape, [s * data.itemsize for s in self.strides]
        )
        return np.array(view)


def _rebuild_tensor(storage: Any, offset: int, shape: Any, strides: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise _Refused("a tensor without numbers")
    return _Tensor(storage, int(offset), tuple(shape), tuple(strides))


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: Any, storages: dict[str, _Storage]) -> None:
        super().__init__(stream, encoding="utf-8")
        self.storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if module == "torch" and name in _DTYPES:
            return name
        raise _Refused(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or pid[1] not in _DTYPES:
            raise _Refused(f"an object of kind {pid[0] if isinstance(pid, tuple) and pid else pid!r}")
        _, kind, key, _, size = pid[:5]
        whole = self.storages.setdefault(str(key), _Storage(kind, int(size)))
        if len(pid) > 5 and pid[5] is not None:  # the older layout's views into another storage
            raise _Refused("a storage that is a view of another")
        return whole


def _plain(value: Any) -> Any:
    if isinstance(value, _Tensor):
        return value.array()
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(v) for v in value)
    return value


def _read_zip(path: pathlib.Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        index = next((n for n in names if n.endswith("data.pkl") and n.count("/") <= 1), None)
        if index is None:
            raise CheckpointError(f"{path.name} is a zip archive but not a PyTorch checkpoint (no data.pkl inside).")
        root = index[: -len("data.pkl")]
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder").strip() != b"little":
            raise CheckpointError(f"{path.name} was saved on a big-endian machine; save it again on a common one.")
        storages: dict[str, _Storage] = {}
        value = _Unpickler(io.BytesIO(archive.read(index)), storages).load()
        for key, storage in storages.items():
            storage.fill(archive.read(f"{root}data/{key}"))
        return _plain(value)


def _read_legacy(path: pathlib.Path) -> Any:
    with path.open("rb") as stream:
        storages: dict[str, _Storage] = {}
        if _Unpickler(stream, storages).load() != _LEGACY_MAGIC:
            raise CheckpointError(f"{path.name} is not a PyTorch checkpoint.")
        version = _Unpickler(stream, storages).load()
        system = _Unpickler(stream, storages).load()
        if version != 1001 or not (isinstance(system, dict) and system.get("little_endian", True)):
            raise CheckpointError(f"{path.name} is a PyTorch checkpoint of a kind that is not known here.")
        value = _Unpickler(stream, storages).load()
        for key in _Unpickler(stream, storages).load():
            storage = storages[str(key)]
            size = int(np.frombuffer(stream.read(8), "<i8")[0])
            width = 2 if storage.kind == "BFloat16Storage" else np.dtype(_DTYPES[storage.kind]).itemsize
            storage.size = size
            storage.fill(stream.read(size * width))
        return _plain(value)


def read_torch_file(path: str | pathlib.Path) -> Any:
    """Read a `torch.save` file, tensors as NumPy arrays.

    Args:
      path: a `.pth`, `.pt` or `.pth.tar` file (a pickle, in spite of the last name).

    Returns:
      Dictionaries, lists, numbers, strings and arrays; bfloat16 as float32.

    Raises:
      InputError: there is no such file.
      CheckpointError: the file is damaged, is no checkpoint, or names code to run on loading.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"There is no checkpoint file {path}.")
    try:
        return _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path)
    except CheckpointError:
        raise
    except _Refused as refused:
        raise CheckpointError(
            f"{path.name} was refused: it asks for {refused} while loading, which could run code; "
            "save the weights alone (state dictionaries of tensors) and try again."
        ) from None
    except _DAMAGE as error:
        raise CheckpointError(
            f"{path.name} is not a PyTorch checkpoint, or is damaged ({type(error).__name__})."
        ) from None
