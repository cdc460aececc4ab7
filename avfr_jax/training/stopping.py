"""Stopping a run from outside, by SIGTERM or Ctrl-C, so that nothing is lost."""

import os
import signal
import sys
import threading
from typing import Any

import jax

_line_is_open = False


def say(text: str, *, progress: bool = False) -> None:
    """A line on stderr, from process 0. On a terminal a line of `progress` stays in its place until the next line."""
    global _line_is_open
    if jax.process_index() != 0:
        return
    terminal = sys.stderr.isatty()
    start = ("\r\x1b[2K" if progress else "\n") if terminal and _line_is_open else ""
    _line_is_open = progress and terminal
    print(start + text, end="" if _line_is_open else "\n", file=sys.stderr, flush=True)


class Stop:
    """Notices signals; in a run of several processes all agree on the step to stop at."""

    def __init__(self) -> None:
        self.by: signal.Signals | None = None
        self._old: dict[int, Any] = {}
        self._shared = jax.process_count() > 1

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            # With several processes, JAX's preemption service listens for SIGTERM and tells the others.
            for number in (signal.SIGINT,) if self._shared else (signal.SIGTERM, signal.SIGINT):
                self._old[number] = signal.signal(number, self._noticed)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _noticed(self, number: int, _: object) -> None:
        if self.by and number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: at once, without a checkpoint
        self.by = signal.Signals(number)
        again = "; once more to stop at once" if number == signal.SIGINT else ""
        # Not print: the signal may have come in the middle of one.
        os.write(sys.stderr.fileno(), f"\n{self.by.name}: saving after this step{again}.\n".encode())
        if self._shared:
            os.kill(os.getpid(), signal.SIGTERM)

    def now(self, step: int) -> bool:
        """Whether to stop after this step; to be asked after every step."""
        if not self._shared:
            return self.by is not None
        from jax.experimental import multihost_utils

        if multihost_utils.reached_preemption_sync_point(step):
            self.by = self.by or signal.SIGTERM
            return True
        return False
