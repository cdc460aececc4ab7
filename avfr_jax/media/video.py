"""Video in and out (PyAV): any container and codec to RGB frames at a constant rate, and back to H.264 or VP9."""

import contextlib
import dataclasses
import math
import pathlib
import struct
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import av
import av.error
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter

from avfr_jax.errors import InputError, OutputError
from avfr_jax.media import files
from avfr_jax.media.audio import audio_blocks, audio_format
from avfr_jax.media.container import audio_stream, decode, frame_time, open_input, video_stream
from avfr_jax.media.files import PathLike
from avfr_jax.media.image import is_image
from avfr_jax.typing import Float, UInt8

__all__ = ["VideoInfo", "VideoReader", "VideoWriter", "check_output", "is_image", "is_video", "probe"]

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm")
_LONG = 60.0
"""Clips longer than this many seconds are sampled by seeking, shorter ones by decoding them through."""
_WALKED = 200_000_000
"""Bytes up to which an MPEG stream is read through to learn its length."""
SCALER = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """What is known of a video before it is read through.

    Attributes:
        width, height: pixels of the frames that the reader yields: upright, with square pixels.
        fps: the file's own average rate, frames per second.
        duration: seconds from the first video frame to the end of the last, as the file states it.
        frames: number of frames that the reader will yield at its rate (an estimate: the file may be cut short).
        audio_rate, audio_channels: 0 without an audio track.
        codec, pixel_format: FFmpeg's names.
        rotation: degrees clockwise by which the stored picture is turned to be upright: 0, 90, 180 or 270.
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


def check_output(path: PathLike, overwrite: bool = False) -> pathlib.Path:
    """The path, if a video can be written there. Call it before the work whose result goes there.

    Raises:
        OutputError: an ending other than .mp4, .mov, .mkv, .webm, a missing or unwritable folder, or an existing
            file without `overwrite`.
    """
    return files.check_output(path, overwrite, SUFFIXES)


def is_video(path: PathLike) -> bool:
    """Whether a file holds moving pictures, whatever its name. False also where there is no file."""
    try:
        with open_input(path) as container:
            return video_stream(container) is not None and not is_image(path)
    except InputError:
        return False


def probe(path: PathLike, fps: float = 25.0) -> VideoInfo:
    """Facts about a video. One frame is decoded, since the file's header can be wrong about it.

    Args:
        path: the video.
        fps: rate at which `VideoInfo.frames` counts.

    Raises:
        InputError: no such file, a folder, not a video, a still picture, sound alone, or no frame that decodes.
    """
    return VideoReader(path, fps).info


class VideoReader:
    """Frames of a video as uint8 RGB [H,W,3] at a constant rate.

    Frame i is the one that the file shows at the time (i + 1/2)/fps after its first frame: at equal rates every
    frame once, else the nearest with repetitions and omissions, whatever the file's rate and however it varies.
    Frames are upright (display matrix) and have square pixels: the shorter direction of an anamorphic picture is
    stretched. All formats become 8-bit RGB; the colour matrix and range are the file's (BT.709 from 720 lines on,
    else BT.601, where it is silent); HDR is not tone-mapped. If the size changes on the way, the first holds.

    Each iteration opens and decodes the file anew and holds a few frames in memory. After an iteration to the end,
    `truncated` says whether the file ended before the duration that it states.

    Raises:
        InputError: at construction, see `probe`.
    """

    def __init__(self, path: PathLike, fps: float = 25.0) -> None:
        if not (math.isfinite(fps) and fps > 0):
            raise ValueError(f"fps must be positive, not {fps}")
        self.path = pathlib.Path(path)
        self.fps = Fraction(fps).limit_denominator(1001)
        self.truncated = False
        with _open_video(self.path) as (container, stream):
            first = next(decode(container, stream), None)
            if first is None:
                raise InputError(f"{self.path} has no video frame that can be decoded: give an intact file.")
            self._geometry = _Geometry.of(first, stream)
            self._origin = frame_time(first) or Fraction(0)
            duration = _duration(container, stream, self.path)
            rate = _nominal_rate(stream)
            self.info = _describe(self.path, container, stream, self._geometry, duration, rate, self.fps)

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        """Decode from the start; a repeated frame is a copy, so that each may be changed in place."""
        with _open_video(self.path) as (container, stream):
            convert = _Converter(self._geometry)
            previous, picture = None, None
            for _, frame in self._ticks(self._timed(container, stream)):
                if frame is not previous or picture is None:
                    picture = convert(frame)
                    previous = frame
                    yield picture.copy()
                else:
                    yield picture.copy()

    def sample(self, count: int) -> list[tuple[int, UInt8[np.ndarray, "h w 3"]]]:
        """`count` frames spread evenly from the first to the last, with their indices, in ascending order.

        Clips of up to a minute are decoded through; in longer ones each frame is sought. Fewer are returned if the
        clip has fewer frames (all are) or ends early.
        """
        total = max(self.info.frames, 1)
        if count < 1:
            return []
        spread = np.linspace(0, total - 1, min(count, total)) if count > 1 else np.array([total // 2])
        wanted = sorted({round(float(index)) for index in spread})
        if self.info.duration > _LONG and len(wanted) < total / 4:
            with contextlib.suppress(av.error.FFmpegError, OSError):
                return self._seek_each(wanted)
        with _open_video(self.path) as (container, stream):
            convert = _Converter(self._geometry)
            found: list[tuple[int, UInt8[np.ndarray, "h w 3"]]] = []
            remaining = set(wanted)
            for index, frame in self._ticks(self._timed(container, stream)):
                if index in remaining:
                    found.append((index, convert(frame)))
                    remaining.discard(index)
                    if not remaining:
                        break
            return found

    def _seek_each(self, wanted: list[int]) -> list[tuple[int, UInt8[np.ndarray, "h w 3"]]]:
        """One seek a frame: to the key frame before its time, then on to the frame shown at it."""
        found = []
        with _open_video(self.path) as (container, stream):
            convert = _Converter(self._geometry)
            for index in wanted:
                shown_at = self._origin + (index + Fraction(1, 2)) / self.fps
                target = self._origin + index / self.fps
                container.seek(int(target / stream.time_base), stream=stream, backward=True)
                chosen = None
                for frame in decode(container, stream):
                    time = frame_time(frame)
                    if chosen is not None and time is not None and time >= shown_at:
                        break
                    chosen = frame
                if chosen is not None:
                    found.append((index, convert(chosen)))
        return found

    def _timed(self, container: Any, stream: Any) -> Iterator[tuple[Fraction, Fraction, Any]]:
        """Frames with their time since the first and their duration, in seconds; times never run backwards.

        A missing time stamp continues at the average rate. A step back by more than a second, or a leap beyond the
        stated end, is a break in the file's clock and is closed up.
        """
        nominal = 1 / _nominal_rate(stream)
        end = Fraction(self.info.duration).limit_denominator(10**6)
        shift, last = Fraction(0), None
        for frame in decode(container, stream):
            time = frame_time(frame)
            if last is None:
                time = Fraction(0)
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
        self.truncated = float(end) < self.info.duration - max(0.5, 2 / self.info.fps)


class VideoWriter:
    """Writes frames as H.264 + AAC (.mp4, .mov, .mkv) or VP9 + Opus (.webm), with an audio track if one is given.

    A context manager. The file takes its name when the block ends well; on any exception, an interruption from the
    keyboard too, nothing is left behind. Colours are BT.709, limited range, 4:2:0, and tagged so. 4:2:0 needs even
    sides: an odd width or height gains one column or row, a copy of the last, and no pixel is resampled.

    The sound is streamed from `audio`, an audio or video file of any format. The first frame written is taken to be
    the first frame of that video (of an audio file: its start), so a track that begins before or after the picture
    keeps its place. It is cut, or continued with silence, to the length of the written video exactly.

    Args:
        path: target; its ending picks the container.
        width, height: pixels of the frames that will be written.
        fps: frames per second.
        audio: file whose sound goes into the video, or None.
        crf: constant rate factor of x264, 0 (lossless) to 51; 18 is visually transparent. VP9's is derived from it.
        overwrite: an existing file may be replaced.
        metadata: container tags, for example `{"comment": "..."}`; MP4 keeps `title`, `artist`, `comment`,
            `description`, `copyright` and a few more, and drops unknown names.

    Raises:
        OutputError: see `check_output`; no frame was written; the encoder or the disk failed.
        InputError: `audio` cannot be read or has no audio track.
    """

    def __init__(
        self,
        path: PathLike,
        width: int,
        height: int,
        fps: float = 25.0,
        audio: PathLike | None = None,
        crf: int = 18,
        overwrite: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        if width < 1 or height < 1:
            raise ValueError(f"a video of {width}×{height} pixels cannot be written")
        self.path = check_output(path, overwrite)
        self.frames = 0
        self._size = (width, height)
        self._fps = Fraction(fps).limit_denominator(1001)
        self._audio_path = audio
        self._audio_format = None if audio is None else audio_format(audio)
        self._crf, self._overwrite, self._metadata = crf, overwrite, dict(metadata or {})
        self._reformatter = VideoReformatter()
        self._scratch: pathlib.Path | None = None
        self._container: Any = None
        self._sound: _Sound | None = None

    def __enter__(self) -> "VideoWriter":
        self._scratch = files.scratch_beside(self.path)
        try:
            webm = self.path.suffix.lower() == ".webm"
            options = {"movflags": "+faststart"} if self.path.suffix.lower() in (".mp4", ".mov") else {}
            self._container = av.open(f"file:{self._scratch}", "w", options=options)
            self._container.metadata.update(self._metadata)
            self._video = self._add_video(webm)
            if self._audio_path is not None and self._audio_format is not None:
                rate, channels = self._audio_format
                self._sound = _Sound(self._container, self._audio_path, rate, channels, webm)
        except BaseException:
            self._abort()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._abort()

    def write(self, frame: UInt8[np.ndarray, "h w 3"]) -> None:
        """Append one frame, uint8 RGB [H,W,3] of the announced size."""
        width, height = self._size
        if frame.shape != (height, width, 3):
            raise ValueError(f"expected a frame of shape {(height, width, 3)}, got {frame.shape}")
        if width % 2 or height % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=SCALER,
        )
        picture.pts, picture.time_base = self.frames, 1 / self._fps
        with self._failures():
            self._container.mux(self._video.encode(picture))
            self.frames += 1
            if self._sound is not None:
                self._sound.advance(self.frames / self._fps)

    def drop(self, count: int = 1) -> None:
        """Leave out `count` frames of the driving clip, and the sound that belongs to them: it is cut there."""
        if self._sound is not None and count > 0:
            self._sound.drop(self.frames / self._fps, count / self._fps)

    def _add_video(self, webm: bool) -> Any:
        width, height = self._size
        if webm:
            quality = min(63, round(self._crf * 1.2) + 6)  # VP9's scale runs to 63
            options = {"crf": str(quality), "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}
            video = self._container.add_stream("libvpx-vp9", rate=self._fps, options=options)
        else:
            options = {"crf": str(self._crf), "preset": "fast"}
            video = self._container.add_stream("libx264", rate=self._fps, options=options)
        video.width, video.height, video.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        context = video.codec_context
        context.time_base = 1 / self._fps
        context.thread_count = 0  # as many as there are cores
        context.color_range, context.colorspace = int(ColorRange.MPEG), int(Colorspace.ITU709)
        context.color_primaries, context.color_trc = int(ColorPrimaries.BT709), int(ColorTrc.BT709)
        return video

    def _finish(self) -> None:
        if self.frames == 0:
            raise OutputError(f"{self.path} was not written: there was no frame to write.")
        assert self._scratch is not None
        with self._failures():
            self._container.mux(self._video.encode(None))
            if self._sound is not None:
                self._sound.finish(self.frames / self._fps)
            self._container.close()
            self._container = None
            files.publish(self._scratch, self.path, self._overwrite)

    def _abort(self) -> None:
        """Close and remove whatever is left; after a success nothing is."""
        if self._sound is not None:
            self._sound.close()
        if self._container is not None:
            with contextlib.suppress(av.error.FFmpegError, OSError, ValueError):
                self._container.close()
            self._container = None
        if self._scratch is not None:
            self._scratch.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (av.error.FFmpegError, OSError) as error:
            raise OutputError(
                f"{self.path} could not be written ({error.strerror}): check the space on the disk."
            ) from error


class _Sound:
    """The audio track being written: follows the video's time, so that neither is buffered far ahead."""

    _RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)

    def __init__(self, container: Any, path: PathLike, rate: int, channels: int, webm: bool) -> None:
        self._container = container
        self._rate = 48000 if webm else min(self._RATES, key=lambda known: (abs(known - rate), known))
        self._layout = "mono" if channels == 1 else "stereo"
        self._channels = 1 if channels == 1 else 2
        self._stream = container.add_stream("libopus" if webm else "aac", rate=self._rate)
        self._stream.codec_context.layout = self._layout
        self._stream.codec_context.bit_rate = 96_000 * self._channels
        self._blocks: Any = audio_blocks(path, self._rate, self._channels)
        self._rest = np.zeros((self._channels, 0), np.float32)
        self._written = 0

    def advance(self, time: Fraction) -> None:
        """Encode sound up to a time in seconds, as far as the source has any."""
        for part in self._take(int(time * self._rate) - self._written):
            self._encode(part)

    def drop(self, time: Fraction, length: Fraction) -> None:
        """Leave out sound of a length in seconds that follows a time."""
        self.advance(time)
        for _ in self._take(round(length * self._rate)):
            pass

    def _take(self, count: int) -> Iterator[Float[np.ndarray, "c t"]]:
        """The source's next samples, fewer where it ends."""
        while count > 0:
            if not self._rest.shape[1]:
                block = next(self._blocks, None)
                if block is None:
                    return
                self._rest = block
            part, self._rest = self._rest[:, :count], self._rest[:, count:]
            count -= part.shape[1]
            yield part

    def finish(self, time: Fraction) -> None:
        """Encode the rest up to the video's end, with silence where the source has ended, and flush."""
        self.advance(time)
        total = round(time * self._rate)
        while self._written < total:
            self._encode(np.zeros((self._channels, min(self._rate, total - self._written)), np.float32))
        self._container.mux(self._stream.encode(None))

    def close(self) -> None:
        self._blocks.close()

    def _encode(self, samples: Float[np.ndarray, "c t"]) -> None:
        clipped = np.ascontiguousarray(np.clip(samples, -1.0, 1.0))
        frame = av.AudioFrame.from_ndarray(clipped, format="fltp", layout=self._layout)
        frame.sample_rate, frame.time_base = self._rate, Fraction(1, self._rate)
        frame.pts = self._written
        self._written += samples.shape[1]
        self._container.mux(self._stream.encode(frame))


@dataclasses.dataclass(frozen=True)
class _Geometry:
    """How a decoded picture becomes an upright one: scaled to `width` × `height`, mirrored, turned.

    Attributes:
        width, height: after scaling, before turning.
        turns: counter-clockwise quarter turns.
        flip: mirrored left to right before turning.
    """

    width: int
    height: int
    turns: int
    flip: bool

    @classmethod
    def of(cls, frame: Any, stream: Any) -> "_Geometry":
        aspect = stream.sample_aspect_ratio or Fraction(1)
        width, height = frame.width, frame.height
        if aspect > 0 and not 0.98 < aspect < 1.02:
            if aspect > 1:
                width = round(width * min(aspect, Fraction(8)))
            else:
                height = round(height / max(aspect, Fraction(1, 8)))
        turns, flip = _orientation(frame)
        return cls(width, height, turns, flip)

    @property
    def upright_size(self) -> tuple[int, int]:
        return (self.height, self.width) if self.turns % 2 else (self.width, self.height)


class _Converter:
    """Decoded frames to upright uint8 RGB arrays; keeps the scaler's tables between frames."""

    def __init__(self, geometry: _Geometry) -> None:
        self._geometry = geometry
        self._reformatter = VideoReformatter()

    def __call__(self, frame: Any) -> UInt8[np.ndarray, "h w 3"]:
        geometry = self._geometry
        unspecified = frame.colorspace in (2, 3)  # AVCOL_SPC_UNSPECIFIED, _RESERVED
        fallback = Colorspace.ITU709 if frame.height >= 720 else Colorspace.ITU601
        try:
            rgb = self._reformatter.reformat(
                frame,
                width=geometry.width,
                height=geometry.height,
                format="rgb24",
                src_colorspace=fallback if unspecified else None,
                dst_color_range=ColorRange.JPEG,
                interpolation=SCALER,
            ).to_ndarray()
        except (av.error.FFmpegError, ValueError) as error:
            raise InputError(
                f"frames of pixel format {frame.format.name} cannot be converted to RGB: convert the video to H.264."
            ) from error
        if geometry.flip:
            rgb = rgb[:, ::-1]
        rgb = np.rot90(rgb, geometry.turns)
        return np.ascontiguousarray(rgb)


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


def _orientation(frame: Any) -> tuple[int, bool]:
    """Counter-clockwise quarter turns and mirroring that the display matrix asks for.

    The matrix (nine 32-bit numbers, 16.16 fixed point) maps stored to shown coordinates by
    x' = a x + c y, y' = b x + d y (ISO/IEC 14496-12, 8.5.3), y downwards.
    """
    side = frame.side_data.get(SideDataType.DISPLAYMATRIX)
    if side is None:
        return 0, False
    a, b, _, c, d = struct.unpack("=5i", bytes(side)[:20])
    flip = a * d - b * c < 0
    if flip:  # the matrix after a mirroring of x: what is left is a rotation
        a, b = -a, -b
    if not a and not b:
        return 0, False
    clockwise = math.degrees(math.atan2(b, a))
    return round(-clockwise / 90) % 4, flip


def _nominal_rate(stream: Any) -> Fraction:
    """The stream's average rate, or what the container or codec says of it; 25 if none is sensible."""
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and Fraction(1, 60) <= rate <= 1000:
            return Fraction(rate)
    return Fraction(25)


def _duration(container: Any, stream: Any, path: pathlib.Path) -> float:
    """Seconds of video: as the stream says, else a tag of Matroska's, else by walking over the packets."""
    # MPEG streams have no header with a length; what is guessed from their last time stamp falls short.
    guessed = container.format.name.startswith("mpeg") and path.stat().st_size < _WALKED
    if stream.duration and stream.time_base and not guessed:
        return float(stream.duration * stream.time_base)
    tag = {name.lower(): text for name, text in stream.metadata.items()}.get("duration", "")
    with contextlib.suppress(ValueError):
        hours, minutes, seconds = tag.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    if container.duration and not container.streams.audio and not guessed:
        return container.duration / av.time_base
    return _walk(path)


def _walk(path: pathlib.Path) -> float:
    """Length of the video in seconds by reading, not decoding, every packet of the file."""
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


def _describe(
    path: pathlib.Path,
    container: Any,
    stream: Any,
    geometry: _Geometry,
    duration: float,
    rate: Fraction,
    fps: Fraction,
) -> VideoInfo:
    width, height = geometry.upright_size
    sound = audio_stream(container)
    return VideoInfo(
        path=path,
        width=width,
        height=height,
        fps=float(rate),
        duration=duration,
        frames=max(1, math.ceil(duration * fps - Fraction(1, 2))),
        has_audio=sound is not None,
        audio_rate=int(sound.codec_context.sample_rate) if sound is not None else 0,
        audio_channels=int(sound.codec_context.channels) if sound is not None else 0,
        codec=stream.codec_context.name,
        pixel_format=stream.codec_context.pix_fmt or "",
        rotation=-90 * geometry.turns % 360,
        metadata={name.lower(): text for name, text in container.metadata.items()},
    )
