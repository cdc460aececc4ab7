"""The end of a program by a signal, and worker processes that end with their parent."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def exit_on_signals(program: str, sentence: str) -> None:
    """From now on, exit at once on Ctrl-C, SIGTERM or SIGHUP, with status 128 + its number and a sentence on stderr.

    For programs whose files appear whole or not at all. A thread of its own waits for the signal, because Python's
    handlers have to wait for native code, such as a compilation, to return. A signal that the process was started to
    ignore (`nohup`) or whose handler is replaced later is left alone. Does nothing outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in SIGNALS:
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, _left_to_the_thread)
    threading.Thread(target=_wait, args=(reader, f"\n{program}: {sentence}\n"), daemon=True).start()


def _left_to_the_thread(number: int, frame: object) -> None:
    pass


def _wait(reader: int, sentence: str) -> None:
    while number := os.read(reader, 1):
        if signal.getsignal(number[0]) is _left_to_the_thread:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                os.write(sys.stderr.fileno(), sentence.encode())
            os._exit(128 + number[0])


def end_with_parent() -> None:
    """In a worker process: ignore the signals of a terminal or scheduler, which reach all processes of a program, and
    exit as soon as the parent process has ended, even by SIGKILL."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()


def _exit_after(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)
