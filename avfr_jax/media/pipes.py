"""Pipes as input: copied into a file once, since inputs are read several times and in any order."""

import os
import pathlib
import select
import stat
import sys
import time

from avfr_jax.errors import InputError, OutputError
from avfr_jax.media.files import PathLike

LARGEST = 16 << 30
"""Bytes that are taken from a pipe at most."""
_PATIENCE = 1.0
"""Seconds to wait for somebody who writes into a pipe. A writer that waits for its reader counts at once."""
_BLOCK = 1 << 20


def is_pipe(path: PathLike) -> bool:
    """Whether there is a pipe of this name, as `/dev/stdin` and process substitution give."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def spool(path: PathLike, folder: PathLike) -> pathlib.Path:
    """Copy what a pipe holds into a file of the pipe's name, with progress on stderr if it is a terminal.

    Args:
        path: of the pipe. It is opened without blocking.
        folder: an existing one, for the copy.

    Raises:
        InputError: nobody writes into the pipe, or it holds more than `LARGEST` bytes.
        OutputError: the copy cannot be written.
    """
    from tqdm import tqdm

    target = pathlib.Path(folder) / pathlib.Path(path).name
    try:
        source = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): give the path of a file.") from error
    try:
        bar = tqdm(unit="B", unit_scale=True, desc=f"reading {path}", disable=None, file=sys.stderr, leave=False)
        with bar, open(target, "wb") as copy:
            while block := _next_block(source, first=not copy.tell()):
                copy.write(block)
                bar.update(len(block))
                if copy.tell() > LARGEST:
                    raise InputError(f"{path} gives more than {LARGEST >> 30} GiB: save it to a file and give that.")
            if not copy.tell():
                raise InputError(f"{path} is a pipe into which nothing is written: give a file, or start its writer.")
    except OSError as error:
        raise OutputError(
            f"{path} cannot be stored in {target.parent} ({error.strerror}): save its content to a file and give that."
        ) from error
    finally:
        os.close(source)
    return target


def _next_block(source: int, first: bool) -> bytes:
    """The next bytes of a pipe, empty at its end. Of a pipe that nobody has written into yet, waits for a while."""
    last = time.monotonic() + _PATIENCE
    ready = select.poll()
    ready.register(source, select.POLLIN)
    while True:
        try:
            block = os.read(source, _BLOCK)
        except BlockingIOError:  # there is a writer, who is still at work
            ready.poll(1000)
            continue
        if block or not first or time.monotonic() > last:
            return block
        time.sleep(0.02)
