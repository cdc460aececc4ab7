"""Stopping a run by SIGTERM, SIGHUP or Ctrl-C after a checkpoint; progress lines on stderr."""

import os
import signal
import sys
import threading
from typing import Any

import jax

_line_is_open = False


def say(text: str, *, progress: bool = False) -> None:
    """Print a line to stderr, from process 0; on a terminal the next line overwrites a line of `progress`."""
    global _line_is_open
    if jax.process_index() != 0:
        return
    terminal = sys.stderr.isatty()
    start = ("\r\x1b[2K" if progress else "\n") if terminal and _line_is_open else ""
    _line_is_open = progress and terminal
    print(start + text, end="" if _line_is_open else "\n", file=sys.stderr, flush=True)


class Stop:
    """Handler of stop signals; several processes agree on the step to stop at.

    Attributes:
      by: the signal that has come.
      shared: whether there are several processes.
    """

    def __init__(self) -> None:
        self.by: signal.Signals | None = None
        self._old: dict[int, Any] = {}
        self.shared = jax.process_count() > 1

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            # With several processes, JAX's preemption service handles SIGTERM and informs the others.
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)[self.shared :]:
                if signal.getsignal(number) != signal.SIG_IGN:  # nohup
                    self._old[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: object) -> None:
        if self.by and number == signal.SIGINT:
            raise KeyboardInterrupt  # the second time: at once, without a checkpoint
        self.by = signal.Signals(number)
        again = "; once more to stop at once" if number == signal.SIGINT else ""
        # Not print: the signal may have interrupted one.
        os.write(sys.stderr.fileno(), f"\n{self.by.name}: saving after this step{again}.\n".encode())
        if self.shared:
            os.kill(os.getpid(), signal.SIGTERM)

    def now(self, step: int) -> bool:
        """Whether to stop after this step; to be called after every step."""
        if not self.shared:
            return self.by is not None
        from jax.experimental import multihost_utils

        if multihost_utils.reached_preemption_sync_point(step):
            self.by = self.by or signal.SIGTERM
            return True
        return False
