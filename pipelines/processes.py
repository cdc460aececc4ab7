"""Worker processes that end with their parent."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading

from avfr_jax.interrupts import SIGNALS, remove_scratch


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
    remove_scratch()
    os._exit(1)
