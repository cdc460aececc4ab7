"""Video reading (PyAV): any container and codec to RGB frames at a constant rate."""

import contextlib
import dataclasses
import itertools
import math
import pathlib
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import av
import av.error
import numpy as np

from avfr_jax.errors import InputError
from avfr_jax.media.colour import SCALER, Colour, RgbConverter
from avfr_jax.media.container import audio_stream, clean_text, decode, frame_time, open_input, video_stream
from avfr_jax.media.deinterlace import deinterlaced
from avfr_jax.media.files import PathLike
from avfr_jax.media.geometry import Geometry
from avfr_jax.media.image import is_image
from avfr_jax.typing import UInt8

_WALK_UP_TO = 5.0
"""Seconds before a part of a clip that are decoded rather than sought over."""
_SEEK_ABOVE = 60.0
"""Seconds above which a clip is sampled by seeking instead of decoding it through."""
_WALKED = 200_000_000
"""Bytes up to which an MPEG stream is read through for its length."""


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """Properties of a video as its header and first frame state them.

    Attributes:
        width, height: pixels of the frames that the reader yields: upright, with square pixels.
        fps: the file's own average rate, frames per second.
        duration: seconds from the first video frame to the end of the last, as the file states it.
        frames: expected number of frames at the reader's rate (the file may be cut short).
        audio_rate, audio_channels: 0 without an audio track.
        codec, pixel_format: FFmpeg's names.
        rotation: clockwise rotation from the stored to the upright picture, in degrees: 0, 90, 180 or 270.
        metadata: the container's tags, names in lower case.
    """

    path: pathlib.Path
    width: int
    height: int
    fps: float
    duration: float
    frames: int
    has_audio: bool
    audio_rate: int
    audio_channels: int
    codec: str
    pixel_format: str
    rotation: int
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)


def is_video(path: PathLike) -> bool:
    """Whether a file is a video by its content. False for a missing file."""
    try:
        with open_input(path) as container:
            return video_stream(container) is not None and not is_image(path)
    except InputError:
        return False


class VideoReader:
    """Frames of a video as uint8 RGB [H, W, 3] at a constant rate.

    Frame i is the one on screen at (i + 1/2)/fps after the first frame's time: at equal rates every frame once, else
    the nearest with repetitions and omissions. Frames are upright (display matrix) and have square pixels: the shorter
    direction of an anamorphic picture is stretched. All formats become 8-bit RGB with the file's colour matrix and
    range (where unspecified BT.709 from 720 lines on, else BT.601); HDR (PQ, HLG) is tone-mapped, BT.2020 and P3 become
    BT.709, and interlaced video is deinterlaced. If the size changes on the way, the first holds.

    Each iteration opens and decodes the file anew and holds a few frames in memory.

    Args:
        path: the video. One frame of it is decoded, since the header can be wrong.
        fps: frames per second; None for the file's own average rate.

    Raises:
        InputError: no such file, a folder, not a video, a still picture, audio alone, or no frame that decodes.
    """

    def __init__(self, path: PathLike, fps: float | None = 25.0) -> None:
        if fps is not None and not (math.isfinite(fps) and fps > 0):
            raise ValueError(f"fps must be positive, not {fps}")
        self.path = pathlib.Path(path)
        with _open_video(self.path) as (container, stream):
            first = next(decode(container, stream), None)
            if first is None:
                raise InputError(f"{self.path} has no video frame that can be decoded: give an intact file.")
            self._geometry = Geometry.of(first, stream)
            self._colour = Colour.of(stream.codec_context)
            self._origin = frame_time(first) or Fraction(0)
            duration = _duration(container, stream, self.path)
            rate = _nominal_rate(stream)
            self.fps = Fraction(rate if fps is None else fps).limit_denominator(1001)
            width, height = self._geometry.upright_size
            audio = audio_stream(container)
            self.info = VideoInfo(
                path=self.path,
                width=width,
                height=height,
                fps=float(rate),
                duration=duration,
                frames=max(1, math.ceil(duration * self.fps - Fraction(1, 2))),
                has_audio=audio is not None,
                audio_rate=0 if audio is None else int(audio.codec_context.sample_rate),
                audio_channels=0 if audio is None else int(audio.codec_context.channels),
                codec=stream.codec_context.name,
                pixel_format=stream.codec_context.pix_fmt or "",
                rotation=-90 * self._geometry.turns % 360,
                metadata={name.lower(): clean_text(text) for name, text in container.metadata.items()},
            )

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        """Decode from the start; a repeated frame is a copy, so that each may be changed in place."""
        with _open_video(self.path) as (container, stream):
            frames = deinterlaced(decode(container, stream))
            yield from self._pictures(frame for _, frame in self._ticks(self._timed(frames, stream)))

    def part(self, first: int, stop: int) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        """Frames `first` to `stop - 1`, fewer if the clip ends before, as an iteration yields them. What lies before is
        sought over where the file allows it, else decoded.

        Raises:
            ValueError: not 0 <= first <= stop.
        """
        if not 0 <= first <= stop:
            raise ValueError(f"a part of a video is from 0 <= first <= stop, not from {first} to {stop}")
        with _open_video(self.path) as (container, stream):
            frames = self._sought(container, stream, first / self.fps)
            if frames is not None:
                yield from self._pictures(self._between(self._timed(frames, stream, sought=True), first, stop))
                return
        with _open_video(self.path) as (container, stream):
            frames = deinterlaced(decode(container, stream))
            yield from self._pictures(self._between(self._timed(frames, stream), first, stop))

    def _pictures(self, frames: Iterable[Any]) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        convert = _Converter(self._geometry, self._colour)
        previous, picture = None, None
        for frame in frames:
            if frame is not previous or picture is None:
                previous, picture = frame, convert(frame)
            yield picture.copy()

    def _between(self, timed: Iterator[tuple[Fraction, Fraction, Any]], first: int, stop: int) -> Iterator[Any]:
        for index, frame in self._ticks(timed):
            if index >= stop:
                return
            if index >= first:
                yield frame

    def _sought(self, container: Any, stream: Any, begin: Fraction) -> Iterator[Any] | None:
        """Decoded frames from the key frame before a time on; None where that is near, or cannot be sought."""
        if begin <= _WALK_UP_TO:
            return None
        try:
            container.seek(int((self._origin + begin) / stream.time_base), stream=stream, backward=True)
            frames = deinterlaced(decode(container, stream))
            first = next(frames, None)
        except (av.error.FFmpegError, OSError):
            return None
        time = None if first is None else frame_time(first)
        if time is None or time - self._origin > begin:
            return None
        return itertools.chain([first], frames)

    def sample(self, count: int) -> list[tuple[int, UInt8[np.ndarray, "h w 3"]]]:
        """`count` frames spread evenly from the first to the last, with their indices, ascending; fewer if the clip has
        fewer or ends early. Clips of up to a minute are decoded through, longer ones are seeked in."""
        total = max(self.info.frames, 1)
        if count < 1:
            return []
        spread = np.linspace(0, total - 1, min(count, total)) if count > 1 else np.array([total // 2])
        wanted = sorted({round(float(index)) for index in spread})
        if self.info.duration > _SEEK_ABOVE and len(wanted) < total / 4:
            with contextlib.suppress(av.error.FFmpegError, OSError):
                return self._seek_each(wanted)
        with _open_video(self.path) as (container, stream):
            convert = _Converter(self._geometry, self._colour)
            samples: list[tuple[int, UInt8[np.ndarray, "h w 3"]]] = []
            frames = deinterlaced(decode(container, stream))
            for index, frame in self._ticks(self._timed(frames, stream)):
                if index == wanted[len(samples)]:
                    samples.append((index, convert(frame)))
                    if len(samples) == len(wanted):
                        break
            return samples

    def _seek_each(self, wanted: list[int]) -> list[tuple[int, UInt8[np.ndarray, "h w 3"]]]:
        """One seek a frame: to the key frame before its time, then on to the frame on screen."""
        samples = []
        with _open_video(self.path) as (container, stream):
            convert = _Converter(self._geometry, self._colour)
            for index in wanted:
                shown_at = self._origin + (index + Fraction(1, 2)) / self.fps
                target = self._origin + index / self.fps
                container.seek(int(target / stream.time_base), stream=stream, backward=True)
                chosen = None
                for frame in deinterlaced(decode(container, stream)):
                    time = frame_time(frame)
                    if chosen is not None and time is not None and time >= shown_at:
                        break
                    chosen = frame
                if chosen is not None:
                    samples.append((index, convert(chosen)))
        return samples

    def _timed(
        self, frames: Iterable[Any], stream: Any, sought: bool = False
    ) -> Iterator[tuple[Fraction, Fraction, Any]]:
        """Frames with their time since the clip's first and their duration, in seconds, in ascending order of time.

        A missing time stamp continues at the average rate. A step back by more than a second, or a jump beyond the
        stated end, is a discontinuity and is closed up.
        """
        nominal = 1 / _nominal_rate(stream)
        end = Fraction(self.info.duration).limit_denominator(10**6)
        shift, last = Fraction(0), None
        for frame in frames:
            time = frame_time(frame)
            if last is None:
                time = time - self._origin if sought and time is not None else Fraction(0)
            elif time is None:
                time = last + nominal
            else:
                time = time - self._origin + shift
                broken = time < last - 1 or (time > last + 10 and time > end + 1)
                if broken:
                    shift += last + nominal - time
                    time = last + nominal
                time = max(time, last)
            duration = Fraction(frame.duration or 0) * (frame.time_base or 0)
            yield time, duration if 0 < duration < 10 else nominal, frame
            last = time

    def _ticks(self, timed: Iterator[tuple[Fraction, Fraction, Any]]) -> Iterator[tuple[int, Any]]:
        """Pairs of output index and the decoded frame that is on screen in the middle of its interval."""
        half = Fraction(1, 2)
        index, shown, end = 0, None, Fraction(0)
        for time, duration, frame in timed:
            while shown is not None and (index + half) / self.fps <= time:
                yield index, shown
                index += 1
            shown, end = frame, time + duration
        while shown is not None and ((index + half) / self.fps < end or index == 0):
            yield index, shown
            index += 1


class _Converter:
    """Decoded frames to upright uint8 RGB arrays."""

    def __init__(self, geometry: Geometry, colour: Colour) -> None:
        self._geometry = geometry
        self._to_rgb = RgbConverter(colour, geometry.width, geometry.height, SCALER)

    def __call__(self, frame: Any) -> UInt8[np.ndarray, "h w 3"]:
        try:
            rgb = self._to_rgb(frame)
        except (av.error.FFmpegError, ValueError) as error:
            raise InputError(
                f"frames of pixel format {frame.format.name} cannot be converted to RGB: convert the video to H.264."
            ) from error
        if self._geometry.flip:
            rgb = rgb[:, ::-1]
        return np.ascontiguousarray(np.rot90(rgb, self._geometry.turns))


@contextlib.contextmanager
def _open_video(path: pathlib.Path) -> Iterator[tuple[Any, Any]]:
    """The container and its video stream, set up to decode on several threads."""
    with open_input(path) as container:
        stream = video_stream(container)
        if stream is None or is_image(path):
            if is_image(path):
                raise InputError(f"{path} is a still picture: give a video.")
            if container.streams.audio:
                raise InputError(f"{path} holds sound but no video: give a video.")
            raise InputError(f"{path} holds no video that can be read: give a video, for example MP4.")
        if stream.codec_context is None:
            raise InputError(f"{path} has video in a format that cannot be decoded: convert it to H.264.")
        stream.thread_type = "AUTO"
        yield container, stream


def _nominal_rate(stream: Any) -> Fraction:
    """The stream's average rate, else the guessed or base rate; 25 if none is plausible."""
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and Fraction(1, 60) <= rate <= 1000:
            return Fraction(rate)
    return Fraction(25)


def _duration(container: Any, stream: Any, path: pathlib.Path) -> float:
    """Seconds of video: of the stream header, else of Matroska's tag, else from the packets."""
    # MPEG streams have no header with a length; FFmpeg's guess from the last time stamp is too short.
    guessed = container.format.name.startswith("mpeg") and path.stat().st_size < _WALKED
    if stream.duration and stream.time_base and not guessed:
        return float(stream.duration * stream.time_base)
    tag = {name.lower(): text for name, text in stream.metadata.items()}.get("duration", "")
    with contextlib.suppress(ValueError):
        hours, minutes, seconds = tag.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    if container.duration and not container.streams.audio and not guessed:
        return float(container.duration / av.time_base)
    return _walk(path)


def _walk(path: pathlib.Path) -> float:
    """Length in seconds by demultiplexing every packet of the file."""
    with open_input(path) as container:
        stream = video_stream(container)
        assert stream is not None
        first, last, packets, unstamped = None, Fraction(0), 0, 0
        with contextlib.suppress(av.error.FFmpegError):
            for packet in container.demux(stream):
                packets += packet.size > 0
                if packet.pts is None:
                    unstamped += packet.size > 0
                    continue
                begin = packet.pts * packet.time_base
                first = begin if first is None else min(first, begin)
                last = max(last, begin + (packet.duration or 0) * packet.time_base)
        if first is None or unstamped:
            return float(packets / _nominal_rate(stream))
        return float(last - first)
