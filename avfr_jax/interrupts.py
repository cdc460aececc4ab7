"""The end of a program by Ctrl-C, SIGTERM or SIGHUP, and the scratch files that are removed with it.

Python runs a signal's handler in the main thread, between two of its instructions: native code, such as a compilation,
delays it, and a KeyboardInterrupt that it raises within a callback (JAX has one in `gc.callbacks`) is printed and lost.
So a thread waits for the signals and ends the process. A program asks for that by `exit_on_signals`; the import of this
module or of another one of the package never does.
"""

import contextlib
import os
import pathlib
import select
import signal
import threading
from collections.abc import Iterator

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

_scratch: dict[pathlib.Path, None] = {}  # a set in order of creation
_steps = threading.Lock()
_in_main = False  # the main thread holds `_steps`


def exit_on_signals(program: str, sentence: str) -> None:
    """From now on, end at once on Ctrl-C, SIGTERM or SIGHUP, with status 128 + its number (130, 143, 129), the sentence
    on stderr and nothing left of what `scratch` names.

    To be called first, before imports that take a while; a second call does nothing, nor does one outside the main
    thread. A signal that the process was started to ignore (`nohup`, a shell's background job) or whose handler is
    replaced later is left alone. Windows, which has other signals, keeps Python's own handling.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if os.name != "posix" or not in_main or _pause in map(signal.getsignal, SIGNALS):
        return
    import fcntl

    ours = [number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    reader, writer = (_beyond_the_standard_streams(end) for end in os.pipe())
    os.set_blocking(writer, False)
    try:
        stderr = fcntl.fcntl(2, fcntl.F_DUPFD_CLOEXEC, 3)  # `runtime.silence_native_logging` may redirect it later
    except OSError:  # closed
        stderr = -1
    threading.Thread(target=_wait, args=(reader, stderr, f"\n{program}: {sentence}\n"), daemon=True).start()
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in ours:
        signal.signal(number, _pause)


def _beyond_the_standard_streams(descriptor: int) -> int:
    """The same file under a number that no standard stream has, should one of them be closed."""
    import fcntl

    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(descriptor)
    return moved


def _pause(number: int, frame: object) -> None:
    """Handler in the main thread, which goes on with nothing while the other thread ends the process."""
    if not _in_main:
        threading.Event().wait()


def _wait(reader: int, stderr: int, sentence: str) -> None:
    while number := os.read(reader, 1):
        if signal.getsignal(number[0]) is _pause:
            _steps.acquire(timeout=5)
            remove_scratch()
            _say(stderr, sentence)
            os._exit(128 + number[0])


def _say(stderr: int, sentence: str) -> None:
    """Write a sentence, unless that would block: a full pipe, a terminal that is held."""
    with contextlib.suppress(OSError, ValueError):
        poll = select.poll()
        poll.register(stderr, select.POLLOUT)
        if poll.poll(0):
            os.write(stderr, sentence.encode())


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """A few steps that a signal to `exit_on_signals` must not separate, such as two renames; it waits for their end."""
    global _in_main
    with _steps:
        _in_main = threading.current_thread() is threading.main_thread()
        try:
            yield
        finally:
            _in_main = False


@contextlib.contextmanager
def scratch(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A path, to be made a file or folder in the block, that is removed at the block's end, or by `exit_on_signals`."""
    import shutil  # noqa: F401 - so that its removal needs no import

    path = path.absolute()
    _scratch[path] = None
    try:
        yield path
    finally:
        _remove(path)
        _scratch.pop(path, None)


def scratch_beside(target: pathlib.Path) -> contextlib.AbstractContextManager[pathlib.Path]:
    """A new hidden `scratch` path in the target's folder, with the target's ending; there is nothing of that name."""
    return scratch(target.with_name(f".{target.stem[:40]}-{os.urandom(6).hex()}{target.suffix}"))


@contextlib.contextmanager
def scratch_folder() -> Iterator[pathlib.Path]:
    """A new `scratch` folder among the system's temporary files."""
    import tempfile

    with scratch(pathlib.Path(tempfile.gettempdir()) / f"avfr-{os.urandom(6).hex()}") as path:
        path.mkdir(mode=0o700)
        yield path


def remove_scratch() -> None:
    """Remove all that is in use, at the end of the process."""
    for path in reversed(list(_scratch)):
        _remove(path)


def _remove(path: pathlib.Path) -> None:
    import shutil

    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _in_forked_child() -> None:
    """Signals of a forked child are its own, and the scratch files its parent's."""
    _scratch.clear()
    if any(signal.getsignal(number) is _pause for number in SIGNALS):
        signal.set_wakeup_fd(-1)
        for number in SIGNALS:
            if signal.getsignal(number) is _pause:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_forked_child)
