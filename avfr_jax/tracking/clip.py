"""The frames of a driving clip, uint8 RGB at a constant rate, from a file, a picture, an array or an iterable."""

import abc
import contextlib
import itertools
import math
import numbers
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from avfr_jax.arguments import rgb_frame, same_size
from avfr_jax.errors import ConfigError, InputError
from avfr_jax.typing import UInt8

Frame = UInt8[np.ndarray, "h w 3"]
FrameRate = int | float | Literal["source"]
DEFAULT_FPS = 25
KEPT_BYTES = 1 << 29
"""Decoded frames of a video that are kept in memory (512 MiB); a longer one is decoded anew for each pass."""


class Clip(abc.ABC):
    """Frames in order.

    Attributes:
      name: for messages.
      fps: frames a second.
      frames: their expected number; None where it is unknown.
      repeatable: whether it can be iterated more than once.
    """

    name = "the driving clip"
    fps = Fraction(DEFAULT_FPS)
    frames: int | None = None
    repeatable = True
    _audio: pathlib.Path | None = None

    @abc.abstractmethod
    def __iter__(self) -> Iterator[Frame]: ...

    def audio_file(self) -> contextlib.AbstractContextManager[pathlib.Path | None]:
        """A file with its audio track, for as long as the context; None without one."""
        return contextlib.nullcontext(self._audio)

    @abc.abstractmethod
    def sample(self, count: int) -> list[tuple[int, Frame]]:
        """At most `count` frames spread over the clip, with their numbers; only the first if it is not repeatable."""

    def frame(self, index: int) -> Frame:
        """A single frame. Raises ConfigError where there is no such frame or the clip is not repeatable."""
        if not self.repeatable:
            raise ConfigError("A best frame needs a clip that can be read twice: pass a path or an array.")
        frame = next(itertools.islice(iter(self), index, None), None)
        if frame is None:
            raise ConfigError(f"{self.name} has no frame {index}.")
        return frame


class VideoClip(Clip):
    """A video file or animated picture, decoded once where its frames fit into `KEPT_BYTES`."""

    def __init__(self, path: str | os.PathLike[str], fps: FrameRate) -> None:
        from avfr_jax.media.animation import open_reader

        self._reader = open_reader(path, None if fps == "source" else float(fps))
        info = self._reader.info
        self.name, self.fps, self.frames = str(path), self._reader.fps, info.frames
        self._audio = pathlib.Path(path) if info.has_audio else None
        self._room = KEPT_BYTES // (info.width * info.height * 3)
        self._kept: list[Frame] | None = [] if info.frames <= self._room else None
        self._decoder = iter(self._reader)

    def __iter__(self) -> Iterator[Frame]:
        for index in itertools.count():
            if not self._keeps(index):
                break
            yield self._kept[index]  # type: ignore[index]
        if self._kept is None:
            yield from itertools.islice(self._reader, index, None)

    def _keeps(self, index: int) -> bool:
        """Decode as far as a frame; whether it is there and in memory."""
        while self._kept is not None and len(self._kept) <= index:
            frame = next(self._decoder, None)
            if frame is None:
                return False
            self._kept.append(frame)
            if len(self._kept) > self._room:  # the file is longer than it states
                self._kept = None
        return self._kept is not None

    def sample(self, count: int) -> list[tuple[int, Frame]]:
        self._keeps(self._room)
        if self._kept is None:
            return self._reader.sample(count)
        return [(i, self._kept[i]) for i in _spread(len(self._kept), count)]


class FrameClip(Clip):
    """A sequence of images or an array `[N, H, W, 3]`, uint8 or float in [0, 1]. Raises InputError without any."""

    def __init__(self, frames: Any, fps: FrameRate = "source", name: str = Clip.name) -> None:
        if getattr(frames, "shape", None) == () or not len(frames):
            raise InputError(f"{name} has no frames.")
        self._images, self.name, self.frames, self.fps = frames, name, len(frames), fixed_rate(fps)

    def __iter__(self) -> Iterator[Frame]:
        return _frames(self._images, self.name)

    def sample(self, count: int) -> list[tuple[int, Frame]]:
        chosen = _spread(len(self._images), count)
        return list(zip(chosen, _frames((self._images[i] for i in chosen), self.name), strict=True))


class StreamedClip(Clip):
    """Images that come one after another and can be read once: a generator, a camera."""

    repeatable = False

    def __init__(self, frames: Iterable[Any], fps: FrameRate = "source") -> None:
        if not isinstance(frames, Iterable):
            raise InputError(f"{self.name} must be a path, an array or an iterable of images, not {frames!r:.60}.")
        self._images, self.fps = _frames(frames, self.name), fixed_rate(fps)
        self._first: list[Frame] = []

    def __iter__(self) -> Iterator[Frame]:
        return itertools.chain([frame for _, frame in self.sample(1)], self._images)

    def sample(self, count: int) -> list[tuple[int, Frame]]:
        if not self._first:
            self._first = list(itertools.islice(self._images, 1))
        if not self._first:
            raise InputError(f"{self.name} has no frames.")
        return [(0, self._first[0])]


def _frames(images: Iterable[Any], name: str) -> Iterator[Frame]:
    """Images as uint8, of one size. Raises InputError for others, see `rgb_frame` and `same_size`."""
    shape = None
    for image in images:
        frame = rgb_frame(image, name)
        shape = same_size(frame, shape, name)
        yield frame


def open_clip(driving: Any, fps: FrameRate = DEFAULT_FPS) -> Clip:
    """The frames of a driving clip.

    Args:
      driving: path of a video, a picture or an animated one; an array `[N, H, W, 3]` or a sequence of images
        `[H, W, 3]`, uint8 or float in [0, 1]; or an iterable of images; or a `Clip`, given back as it is.
      fps: frames a second to read a video at, or `source` for its own rate. Images are taken to have that rate, 25
        with `source`.

    Raises:
      InputError: it cannot be read, has no frames, or its images are no such ones or change size.
      ConfigError: an impossible frame rate.
    """
    if isinstance(driving, Clip):
        return driving
    check_frame_rate(fps)
    if isinstance(driving, str | os.PathLike):
        from avfr_jax.media.image import is_image, read_image

        if is_image(driving):
            return FrameClip([read_image(driving)], fps, str(driving))
        return VideoClip(driving, fps)
    if isinstance(driving, Sequence) or hasattr(driving, "shape"):
        return FrameClip(driving, fps)
    return StreamedClip(driving, fps)


def read_portrait(source: Any) -> Frame:
    """A source picture: a picture's path, a video's path (its first frame), or an image. Raises InputError."""
    if not isinstance(source, str | os.PathLike):
        return rgb_frame(source, "the source")
    from avfr_jax.media.image import is_picture, read_image
    from avfr_jax.media.video import VideoReader, is_video

    if not is_picture(source) and is_video(source):
        return next(iter(VideoReader(source)))
    picture: Frame = read_image(source)
    return picture


def check_frame_rate(fps: Any) -> None:
    """Raises ConfigError unless it is `source` or a number from 1 to 240."""
    if isinstance(fps, str) and fps == "source":
        return
    number = isinstance(fps, numbers.Real) and not isinstance(fps, bool) and math.isfinite(fps)  # NumPy's are Real too
    if not (number and 1 <= fps <= 240):
        raise ConfigError(f"fps must be source or a number from 1 to 240, not {fps!r:.60}.")


def fixed_rate(fps: FrameRate) -> Fraction:
    """The rate of what has none of its own: 25 frames a second for `source`."""
    rate = DEFAULT_FPS if fps == "source" else fps
    return Fraction(rate if isinstance(rate, int | Fraction) else float(rate)).limit_denominator(1001)


def _spread(total: int, count: int) -> list[int]:
    chosen = np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int))
    return [int(i) for i in chosen]
