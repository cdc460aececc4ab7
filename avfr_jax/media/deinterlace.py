"""Interlaced video to whole frames."""

from collections.abc import Iterable, Iterator
from typing import Any

import av.error
import av.filter

_SMALLEST = 4
"""Pixels a side that bwdif needs."""


def deinterlaced(frames: Iterable[Any]) -> Iterator[Any]:
    """Decoded frames in order, those that are marked as interlaced replaced by one whole frame each (FFmpeg's bwdif,
    the other field interpolated in time and space). Progressive video passes as it is."""
    fields = None
    for frame in frames:
        if fields is not None and not fields.takes(frame):
            yield from fields.rest()
            fields = None
        if fields is None and frame.interlaced_frame and min(frame.width, frame.height) >= _SMALLEST:
            fields = _Deinterlacer(frame)
        if fields is None:
            yield frame
        else:
            yield from fields.push(frame)
    if fields is not None:
        yield from fields.rest()


class _Deinterlacer:
    """A filter graph for frames of one size and pixel format; it holds one frame back."""

    def __init__(self, frame: Any) -> None:
        self._like = (frame.width, frame.height, frame.format.name)
        self._time_base = frame.time_base
        self._graph = av.filter.Graph()
        self._first = self._graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        )
        bwdif = self._graph.add("bwdif", mode="send_frame", parity="auto", deint="interlaced")
        self._last = self._graph.add("buffersink")
        self._first.link_to(bwdif)
        bwdif.link_to(self._last)
        self._graph.configure()

    def takes(self, frame: Any) -> bool:
        return (frame.width, frame.height, frame.format.name) == self._like

    def push(self, frame: Any) -> Iterator[Any]:
        """The frames that are ready after this one."""
        self._first.push(frame)
        yield from self._pull()

    def rest(self) -> Iterator[Any]:
        """The frames still held."""
        self._first.push(None)
        yield from self._pull()

    def _pull(self) -> Iterator[Any]:
        while True:
            try:
                yield self._last.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
