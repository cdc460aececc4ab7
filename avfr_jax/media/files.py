"""Checks of input and output paths, and atomic writing."""

import contextlib
import errno
import os
import pathlib
import re
import stat
from collections.abc import Iterator, Sequence

from avfr_jax.errors import InputError, OutputError
from avfr_jax.interrupts import scratch_beside

PathLike = str | os.PathLike[str]
# One slash is what is left in a path object; two letters, since C:/ is a drive.
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")


def check_input(path: PathLike) -> pathlib.Path:
    """The path, if it is a readable, non-empty regular file.

    Raises:
        InputError: there is no such file, it is an address, a folder, a pipe or a device, it is empty, or it may not
            be read.
    """
    found = pathlib.Path(path)
    try:
        refuse_address(path)
        if not found.exists():
            raise InputError(f"{found} does not exist: check the path.")
        kind = found.stat().st_mode
        if stat.S_ISDIR(kind):
            raise InputError(f"{found} is a folder: give the path of a file.")
        if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind):
            raise InputError(f"{found} is a pipe, which can be read only once: save its content to a file.")
        if not stat.S_ISREG(kind):
            raise InputError(f"{found} is a device: give the path of a file.")
        with open(found, "rb") as stream:
            empty = not stream.read(1)
    except (OSError, ValueError) as error:
        raise InputError(f"{found} cannot be read ({_reason(error)}): check its permissions.") from error
    if empty:
        raise InputError(f"{found} is an empty file: give one with content.")
    return found


def refuse_address(path: PathLike) -> None:
    """Raises InputError for an address (http://…, s3://…) that is given as a path: nothing is ever fetched."""
    text = os.fspath(path)
    match = _ADDRESS.match(text)
    if match is None or os.path.exists(text):
        return
    if match[1].lower() == "file":
        raise InputError(f"{text} is an address: give the file's path alone, without file://.")
    raise InputError(f"{text} is an address, and avfr fetches nothing: download it and give the file.")


def check_output(
    path: PathLike,
    overwrite: bool = False,
    suffixes: tuple[str, ...] | None = None,
    inputs: Sequence[PathLike | None] = (),
) -> pathlib.Path:
    """The path, if a file can be written there, which a scratch file in its folder proves. Call it before the work.

    Args:
        path: of the result; of a symbolic link, the file it leads to is written, which need not exist.
        overwrite: an existing file may be replaced.
        suffixes: allowed endings, with the dot, in lower case.
        inputs: files that are read meanwhile, under whatever name.

    Raises:
        OutputError: another ending, a missing or unwritable folder, an existing file, a device, a pipe, or an input.
    """
    target = pathlib.Path(path)
    try:
        if target.is_dir():
            raise OutputError(f"{target} is a folder: give the name of a file in it.")
        if suffixes is not None and target.suffix.lower() not in suffixes:
            known = ", ".join(suffixes)
            raise OutputError(f"{target} cannot be written: its name must end in one of {known}.")
        folder = _written(target).parent
        if not folder.is_dir():
            raise OutputError(f"{folder} is not an existing folder: create it or choose another place.")
        if target.exists() and not target.is_file():
            raise OutputError(f"{target} is a device or a pipe: give the name of an ordinary file.")
        if any(_same_file(target, name) for name in inputs if name is not None):
            raise OutputError(f"{target} is one of the inputs: choose another name for the output.")
        if target.exists() and not overwrite:
            raise OutputError(f"{target} exists already: choose another name, or pass --overwrite (overwrite=True).")
        with scratch_beside(folder / "probe.tmp") as probe:
            probe.touch(exist_ok=False)
    except (OSError, ValueError) as error:
        raise OutputError(f"{target} cannot be written ({_reason(error)}): choose another place.") from error
    return target


def _written(target: pathlib.Path) -> pathlib.Path:
    """The file that is written: at the end of a chain of symbolic links. OutputError where there is no end."""
    if not target.is_symlink():
        return target
    end = pathlib.Path(os.path.realpath(target))
    if end.is_symlink():
        raise OutputError(f"{target} is a symbolic link that leads to itself: choose another name.")
    return end


def _same_file(target: pathlib.Path, name: PathLike) -> bool:
    """Whether both are one file, by links too."""
    try:
        return target.samefile(name)
    except (OSError, ValueError):  # one of them does not exist
        return False


@contextlib.contextmanager
def atomic_file(path: PathLike, overwrite: bool = False) -> Iterator[pathlib.Path]:
    """A new empty file beside `path`, with its ending, that replaces it when the block ends well; on any exception,
    KeyboardInterrupt included, it is removed.

    Raises:
        OutputError: see `check_output`; also a disk that fills up meanwhile.
    """
    target = check_output(path, overwrite)
    try:
        with new_file(target) as scratch:
            yield scratch
            publish(scratch, target, overwrite)
    except OSError as error:
        raise OutputError(f"{target} could not be written ({_reason(error)}): choose another place.") from error


@contextlib.contextmanager
def new_file(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """A new empty hidden file in the folder of the file that `target` leads to, with the ending of `target`; removed at
    the end of the block, unless `publish` has renamed it."""
    with scratch_beside(_written(target).with_name(target.name)) as scratch:
        scratch.touch(exist_ok=False)
        yield scratch


def publish(scratch: pathlib.Path, target: pathlib.Path, overwrite: bool) -> None:
    """Rename the finished scratch file, atomically, to the file that `target` leads to.

    Raises:
        OutputError: a file of that name has appeared meanwhile and `overwrite` is false.
    """
    if not overwrite and target.exists():
        raise OutputError(
            f"{target} has appeared meanwhile: choose another name, or pass --overwrite (overwrite=True)."
        )
    os.replace(scratch, _written(target))


def _reason(error: Exception) -> str:
    """The system's message without the path."""
    if isinstance(error, OSError) and error.errno is not None:
        if error.errno == errno.ENOSPC:
            return "the disk is full"
        return (error.strerror or os.strerror(error.errno)).lower()
    return str(error)
