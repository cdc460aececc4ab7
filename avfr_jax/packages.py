"""Optional packages: which extra brings each, and the one line that brings a face backend."""

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from avfr_jax.errors import MissingBackendError

# mediapipe 0.10.21, the last with its models, declares numpy < 2 and works with NumPy 2; protobuf 5 and later break it.
FACE_BACKEND = "pip install --no-deps mediapipe==0.10.21 'protobuf<5'"

_MEDIA = ("av", "cv2", "jaxtyping", "librosa", "matplotlib", "numba", "PIL", "skimage", "threadpoolctl", "tqdm", "yaml")
_TRAINING = ("dm_pix", "grain", "msgpack", "tensorboardX", "tensorflow_datasets", "tflite")
_LINES = {
    **dict.fromkeys(_MEDIA, "pip install 'avfr-jax[media]'"),
    **dict.fromkeys(_TRAINING, "pip install 'avfr-jax[all]'"),
    "mediapipe": FACE_BACKEND,
}


def missing_package(error: ModuleNotFoundError) -> MissingBackendError | None:
    """The sentence for an optional package that is not installed; None for any other module."""
    name = (error.name or "").partition(".")[0]
    if name not in _LINES:
        return None
    return MissingBackendError(f"This needs the package {name}, which is not installed: {_LINES[name]}")


@contextlib.contextmanager
def named_packages() -> Iterator[None]:
    """Raise MissingBackendError, with the line to install, where an optional package is imported and not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = missing_package(error)
        if missing is None:
            raise
        raise missing from None


def lazy_names(package: str, modules: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """The `__getattr__` of a package whose public names are imported when first used, with `named_packages`.

    Args:
      package: its `__name__`.
      modules: its modules, and the names that come from each.
    """
    where = {name: f"{package}.{module}" for module, names in modules.items() for name in names}

    def get(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with named_packages():
            return getattr(importlib.import_module(where[name]), name)

    return get


def name_missing_packages() -> None:
    """From now on, end a program that lacks an optional package with the sentence of `missing_package` and status 2.

    Called by packages of programs when they are imported, so that it covers a program's own imports too. Does nothing
    unless the import is that of `python -m`.
    """
    if sys.argv[:1] == ["-m"]:  # documented: so while the interpreter locates the module
        sys.excepthook = _end


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    missing = missing_package(error) if isinstance(error, ModuleNotFoundError) else error
    if not isinstance(missing, MissingBackendError):
        return sys.__excepthook__(kind, error, trace)
    print(missing, file=sys.stderr)
    raise SystemExit(2)


@contextlib.contextmanager
def importing(package: str) -> Iterator[None]:
    """Import a package that writes to a folder of its own in the block, which fails where no folder can be written to.

    Raises:
      MissingBackendError: with what the package says, and what to do.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        reason = (str(error).splitlines() or [""])[0][:120]
        raise MissingBackendError(
            f"The package {package} cannot be imported ({reason}): set AVFR_HOME to a folder that can be written to."
        ) from error
