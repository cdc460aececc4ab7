"""Writers of checkpoint files, without PyTorch."""

import pickle
import sys
import types
import zipfile

import numpy as np
import pytest


@pytest.fixture
def save(monkeypatch):
    """`torch.save` of nested dictionaries: the zip layout, arrays as float32 tensors."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2():
        pass

    class FloatStorage:
        pass

    for module, kind in ((utils, _rebuild_tensor_v2), (torch, FloatStorage)):
        kind.__module__, kind.__qualname__ = module.__name__, kind.__name__
        setattr(module, kind.__name__, kind)
        monkeypatch.setitem(sys.modules, module.__name__, module)

    class Tensor:
        def __init__(self, key, value):
            self.key, self.value = key, value

        def __reduce__(self):
            strides = tuple(s // 4 for s in self.value.strides)
            return _rebuild_tensor_v2, (Storage(self.key, self.value.size), 0, self.value.shape, strides, False, {})

    class Storage:
        def __init__(self, key, size):
            self.id = ("storage", FloatStorage, key, "cpu", size)

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value.id if isinstance(value, Storage) else None

    def write(path, state):
        numbers = []

        def tensors(value):
            if isinstance(value, dict):
                return {name: tensors(inner) for name, inner in value.items()}
            if not isinstance(value, np.ndarray):
                return value
            numbers.append(np.ascontiguousarray(value, np.float32))
            return Tensor(str(len(numbers) - 1), numbers[-1])

        with zipfile.ZipFile(path, "w") as archive:
            with archive.open("archive/data.pkl", "w") as stream:
                Pickler(stream, 2).dump(tensors(state))
            for i, value in enumerate(numbers):
                archive.writestr(f"archive/data/{i}", value.tobytes())
        return path

    return write
