"""Transfer of batches to devices ahead of the step."""

import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any, Protocol


class StatefulIterator(Protocol):
    """An iterator with a state to resume from."""

    def __next__(self) -> Any: ...

    def state(self) -> bytes: ...

    def set_state(self, state: bytes) -> None: ...


class DevicePrefetch:
    """An iterator over `put(batch)`, computed by a thread up to `depth` batches ahead.

    `state()` is that of the last batch returned, not of the last one read: a run restored from it gets every batch
    exactly once. An error of the iterator or of `put` is raised by `next` when its batch is due.
    """

    def __init__(self, iterator: StatefulIterator, put: Callable[[Any], Any], depth: int = 2) -> None:
        """
        Args:
          iterator: gives host batches; it belongs to the thread from the first `next` on.
          put: host batch -> batch on devices, e.g. `functools.partial(put_batch, mesh)`.
          depth: batches waiting on the devices, at least 1.
        """
        if depth < 1:
            raise ValueError(f"depth must be at least 1, not {depth}")
        self._iterator, self._put, self._depth = iterator, put, depth
        self._state = iterator.state()
        self._ended: BaseException | None = None
        self._stop: Callable[[], object] | None = None
        self._ready: queue.Queue[tuple[Any, bytes, BaseException | None]] = queue.Queue(depth)

    def __iter__(self) -> "DevicePrefetch":
        return self

    def __next__(self) -> Any:
        if self._ended is not None:
            raise self._ended
        if self._stop is None:
            self._start()
        batch, state, error = self._ready.get()
        if error is not None:
            self._ended = error
            raise error
        self._state = state
        return batch

    def state(self) -> bytes:
        """The iterator's state after the last batch that `next` returned."""
        return self._state

    def set_state(self, state: bytes) -> None:
        """Drop the batches read ahead and continue from a state."""
        self._halt()
        self._iterator.set_state(state)
        self._state = state

    # Name used by grain's and orbax's checkpoint handlers.
    get_state = state

    def close(self) -> None:
        """Stop the thread, and the iterator's own workers if it has any."""
        self._halt()
        if hasattr(self._iterator, "close"):
            self._iterator.close()

    def _start(self) -> None:
        stopping = threading.Event()
        self._ready = queue.Queue(self._depth)
        # The thread holds no reference to this object, so that an abandoned one is collected and stops it.
        arguments = (self._iterator, self._put, self._ready, stopping)
        thread = threading.Thread(target=_fill, args=arguments, daemon=True, name="device-prefetch")
        self._stop = weakref.finalize(self, _join, thread, stopping)
        thread.start()

    def _halt(self) -> None:
        if self._stop is not None:
            self._stop()
        self._stop, self._ended = None, None


def _fill(iterator: StatefulIterator, put: Callable[[Any], Any], ready: queue.Queue, stopping: threading.Event) -> None:
    while not stopping.is_set():
        item: tuple[Any, bytes, BaseException | None]
        try:
            item = (put(next(iterator)), iterator.state(), None)
        except BaseException as error:  # raised by `next`
            item = (None, b"", error)
        while not stopping.is_set():
            try:
                ready.put(item, timeout=0.1)
                break
            except queue.Full:
                continue
        if item[2] is not None:
            return


def _join(thread: threading.Thread, stopping: threading.Event) -> None:
    stopping.set()
    if thread.is_alive() and thread is not threading.current_thread():
        thread.join(timeout=30)
