"""Checks of input and output paths, and atomic writing."""

import contextlib
import errno
import os
import pathlib
import re
import stat
import tempfile
from collections.abc import Iterator

from avfr_jax.errors import InputError, OutputError

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


def check_output(path: PathLike, overwrite: bool = False, suffixes: tuple[str, ...] | None = None) -> pathlib.Path:
    """The path, if a file can be written there, which a scratch file in its folder proves. Call it before the work.

    Args:
        path: of the result.
        overwrite: an existing file may be replaced.
        suffixes: allowed endings, with the dot, in lower case.

    Raises:
        OutputError: another ending, a missing or unwritable folder, or an existing file.
    """
    target = pathlib.Path(path)
    try:
        if target.is_dir():
            raise OutputError(f"{target} is a folder: give the name of a file in it.")
        if suffixes is not None and target.suffix.lower() not in suffixes:
            known = ", ".join(suffixes)
            raise OutputError(f"{target} cannot be written: its name must end in one of {known}.")
        if not target.parent.is_dir():
            raise OutputError(f"{target.parent} is not an existing folder: create it or choose another place.")
        if target.exists() and not overwrite:
            raise OutputError(f"{target} exists already: choose another name, or pass --overwrite (overwrite=True).")
        descriptor, probe = tempfile.mkstemp(dir=target.parent, prefix=".avfr-", suffix=".tmp")
    except (OSError, ValueError) as error:
        raise OutputError(f"{target} cannot be written ({_reason(error)}): choose another place.") from error
    os.close(descriptor)
    os.unlink(probe)
    return target


@contextlib.contextmanager
def atomic_file(path: PathLike, overwrite: bool = False) -> Iterator[pathlib.Path]:
    """A scratch path beside `path`, with its ending, that replaces it when the block ends well; on any exception,
    KeyboardInterrupt included, it is removed.

    Raises:
        OutputError: see `check_output`; also a disk that fills up meanwhile.
    """
    target = check_output(path, overwrite)
    scratch = scratch_beside(target)
    try:
        yield scratch
        publish(scratch, target, overwrite)
    except OSError as error:
        raise OutputError(f"{target} could not be written ({_reason(error)}): choose another place.") from error
    finally:
        scratch.unlink(missing_ok=True)


def scratch_beside(target: pathlib.Path) -> pathlib.Path:
    """A new empty hidden file in the target's folder, with the target's ending."""
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem[:40]}-", suffix=target.suffix)
    os.close(descriptor)
    return pathlib.Path(name)


def publish(scratch: pathlib.Path, target: pathlib.Path, overwrite: bool) -> None:
    """Rename the finished scratch file, atomically, with ordinary permissions.

    Raises:
        OutputError: a file of that name has appeared meanwhile and `overwrite` is false.
    """
    if not overwrite and target.exists():
        raise OutputError(
            f"{target} has appeared meanwhile: choose another name, or pass --overwrite (overwrite=True)."
        )
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(scratch, 0o666 & ~mask)  # mkstemp's are private
    os.replace(scratch, target)


def _reason(error: Exception) -> str:
    """The system's message without the path."""
    if isinstance(error, OSError) and error.errno is not None:
        if error.errno == errno.ENOSPC:
            return "the disk is full"
        return (error.strerror or os.strerror(error.errno)).lower()
    return str(error)
