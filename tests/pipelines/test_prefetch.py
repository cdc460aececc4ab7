"""Prefetching to devices: order, state, errors, end of the thread."""

import gc
import threading
import time
from collections.abc import Iterator

import pytest

from pipelines.prefetch import DevicePrefetch


class Counter:
    """Count up; the state is the count."""

    def __init__(self, end: int = 10**9, fail_at: int = -1) -> None:
        self.count, self.end, self.fail_at, self.closed = 0, end, fail_at, False

    def __next__(self) -> int:
        if self.count == self.end:
            raise StopIteration
        if self.count == self.fail_at:
            raise OSError("disk gone")
        self.count += 1
        return self.count - 1

    def state(self) -> bytes:
        return str(self.count).encode()

    def set_state(self, state: bytes) -> None:
        self.count = int(state)

    def close(self) -> None:
        self.closed = True


def wait_for(condition) -> None:
    end = time.monotonic() + 5
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    assert condition()


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "device-prefetch"]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    gc.collect()
    assert not threads()


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_state_is_that_of_the_last_batch_returned(depth):
    counter = Counter()
    ahead = DevicePrefetch(counter, lambda x: 10 * x, depth)
    assert ahead.state() == b"0"
    assert counter.count == 0  # nothing is read before the first `next`
    assert [next(ahead) for _ in range(3)] == [0, 10, 20]
    wait_for(lambda: counter.count == 3 + depth + 1)  # one more waits for a free place
    time.sleep(0.05)
    assert counter.count == 3 + depth + 1
    assert ahead.state() == ahead.get_state() == b"3"
    ahead.set_state(b"1")
    assert ahead.state() == b"1"
    assert [next(ahead) for _ in range(3)] == [10, 20, 30]
    ahead.close()
    assert counter.closed


def test_a_restored_iterator_returns_every_batch_once():
    ahead = DevicePrefetch(Counter(), lambda x: x)
    seen = [next(ahead) for _ in range(7)]
    other = DevicePrefetch(Counter(), lambda x: x)
    other.set_state(ahead.state())
    seen += [next(other) for _ in range(7)]
    assert seen == list(range(14))
    ahead.close()
    other.close()


def test_ends_and_errors_are_raised_in_order():
    assert list(DevicePrefetch(Counter(end=4), lambda x: x)) == [0, 1, 2, 3]
    ahead = DevicePrefetch(Counter(fail_at=2), lambda x: x)
    assert [next(ahead), next(ahead)] == [0, 1]
    for _ in range(2):
        with pytest.raises(OSError, match="disk gone"):
            next(ahead)
    assert ahead.state() == b"2"
    with pytest.raises(ZeroDivisionError):
        next(DevicePrefetch(Counter(), lambda x: 1 // x))
    with pytest.raises(ValueError, match="depth"):
        DevicePrefetch(Counter(), lambda x: x, 0)


def test_an_abandoned_iterator_stops_its_thread():
    ahead = DevicePrefetch(Counter(), lambda x: x)
    next(ahead)
    assert len(threads()) == 1
    del ahead
    gc.collect()
    assert not threads()


def test_transfers_overlap_the_consumer():
    import jax
    import numpy as np

    put_by = set()

    def put(x: int) -> jax.Array:
        put_by.add(threading.current_thread().name)
        return jax.device_put(np.full(3, x))

    ahead = DevicePrefetch(Counter(), put)
    assert [int(next(ahead)[0]) for _ in range(4)] == [0, 1, 2, 3]
    assert put_by == {"device-prefetch"}
    ahead.close()
