"""Animated pictures (GIF, APNG, WebP, AVIF) as videos, read with Pillow."""

import contextlib
import itertools
import math
import pathlib
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from avfr_jax.errors import InputError
from avfr_jax.media.files import PathLike, check_input
from avfr_jax.media.image import DAMAGE, frame_of, is_animation, open_picture
from avfr_jax.media.video import VideoInfo, VideoReader
from avfr_jax.typing import UInt8

Frame = UInt8[np.ndarray, "h w 3"]
_SHORTEST = 20
"""Milliseconds below which a frame's duration is meant as "fast", which FFmpeg and browsers show for 100."""
_SCANNED = 1 << 28
"""Pixels of the frames that are decoded for the length; that of a longer animation is estimated from these."""


def open_reader(path: PathLike, fps: float | None = 25.0) -> "VideoReader | AnimationReader":
    """The reader of a video or animated picture. Raises what `VideoReader` raises."""
    return AnimationReader(path, fps) if is_animation(path) else VideoReader(path, fps)


class AnimationReader:
    """Frames of an animated picture as uint8 RGB [H, W, 3] at a constant rate, with the interface of `VideoReader`.

    Frame i is the one on screen at (i + 1/2)/fps by the durations of the frames. Each is converted as by
    `avfr_jax.media.image.read_image`: transparency becomes white. The picture that a PNG shows where animation is not
    supported is left out. A damaged file ends early.

    Args:
        path: the animated picture.
        fps: frames per second; None for the average rate of its frames.

    Raises:
        InputError: no such file, not a picture, or no frame that decodes.
    """

    def __init__(self, path: PathLike, fps: float | None = 25.0) -> None:
        if fps is not None and not (math.isfinite(fps) and fps > 0):
            raise ValueError(f"fps must be positive, not {fps}")
        self.path = check_input(path)
        durations, stated, (width, height), codec, mode = self._scan()
        rate = 1000 * Fraction(len(durations)) / sum(durations)
        duration = stated / rate
        chosen: Fraction | float = min(rate, Fraction(240)) if fps is None else fps
        self.fps = Fraction(chosen).limit_denominator(1001)
        self.info = VideoInfo(
            path=pathlib.Path(path),
            width=width,
            height=height,
            fps=float(rate),
            duration=float(duration),
            frames=max(1, math.ceil(duration * self.fps - Fraction(1, 2))),
            has_audio=False,
            audio_rate=0,
            audio_channels=0,
            codec=codec,
            pixel_format=mode,
            rotation=0,
        )

    def __iter__(self) -> Iterator[Frame]:
        """Decode from the start; a repeated frame is a copy, so that each may be changed in place."""
        index, time, half = 0, Fraction(0), Fraction(1, 2)
        for duration, frame in self._frames():
            time += duration / 1000
            while (index + half) / self.fps < time:
                yield frame.copy()
                index += 1
        if not index:  # shorter than half a frame
            yield frame

    def sample(self, count: int) -> list[tuple[int, Frame]]:
        """`count` frames spread evenly from the first to the last, with their indices, ascending; fewer if the
        animation has fewer or ends early."""
        if count < 1:
            return []
        total = self.info.frames
        spread = np.linspace(0, total - 1, min(count, total)) if count > 1 else np.array([total // 2])
        wanted = {round(float(index)) for index in spread}
        return [(index, frame) for index, frame in enumerate(self) if index in wanted]

    def _frames(self) -> Iterator[tuple[Fraction, Frame]]:
        """Each frame with its duration in milliseconds."""
        with open_picture(self.path) as opened:
            first = bool(opened.info.get("default_image"))
            for number in itertools.count(first):
                try:
                    opened.seek(number)
                    frame = frame_of(opened)
                except DAMAGE:
                    if number == first:
                        raise
                    return
                duration = Fraction(opened.info.get("duration") or 0)
                yield duration if duration >= _SHORTEST else Fraction(100), frame

    def _scan(self) -> tuple[list[Fraction], int, tuple[int, int], str, str]:
        """Durations of the frames at the beginning; number, size, format and mode of all."""
        with open_picture(self.path) as opened:
            codec, mode, stated = opened.format.lower(), opened.mode, 0
            with contextlib.suppress(*DAMAGE):
                stated = opened.n_frames - bool(opened.info.get("default_image"))
        durations, pixels, frame = [], 0, None
        for duration, frame in self._frames():
            durations.append(duration)
            pixels += frame.shape[0] * frame.shape[1]
            if pixels > _SCANNED:
                break
        else:
            stated = 0
        if frame is None:
            raise InputError(f"{self.path} has no frame that can be decoded: give an intact file.")
        return durations, max(stated, len(durations)), (frame.shape[1], frame.shape[0]), codec, mode
