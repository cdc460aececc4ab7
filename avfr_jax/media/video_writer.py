"""Video writing (PyAV): RGB frames to H.264 or VP9, with an audio track."""

import contextlib
import math
import numbers
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import av
import av.error
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter

from avfr_jax.arguments import rgb_frame, same_size, whole_number
from avfr_jax.errors import ConfigError, OutputError
from avfr_jax.media import files
from avfr_jax.media.audio import audio_blocks, audio_format
from avfr_jax.media.colour import SCALER
from avfr_jax.media.files import PathLike
from avfr_jax.typing import Float

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm")


def check_output(path: PathLike, overwrite: bool = False, inputs: Sequence[PathLike | None] = ()) -> pathlib.Path:
    """`files.check_output` for the endings of video files. Raises OutputError."""
    return files.check_output(path, overwrite, SUFFIXES, inputs)


class VideoWriter:
    """A writer of H.264 + AAC (.mp4, .mov, .mkv) or VP9 + Opus (.webm), as a context manager.

    The file takes its name when the block ends well; on any exception, KeyboardInterrupt included, nothing is left
    behind. Colours are BT.709, limited range, 4:2:0, and tagged so. An odd width or height is padded by one column or
    row, a copy of the last, as 4:2:0 requires.

    Audio is streamed from an audio or video file of any format. The first frame written stands for the first frame of
    that video (of an audio file: its start), so a track that begins before or after the picture keeps its offset. It
    is cut, or padded with silence, to the exact length of the written video.

    Args:
        path: target; its ending picks the container.
        width, height: pixels of the frames that will be written.
        fps: frames per second.
        audio: file with the audio track, or None.
        crf: constant rate factor of x264, 0 (lossless) to 51; 18 is visually transparent. VP9's is derived from it.
        overwrite: an existing file may be replaced.
        metadata: container tags; MP4 keeps `title`, `artist`, `comment`, `description`, `copyright` and a few more.

    Raises:
        OutputError: see `check_output`; no frame was written; the encoder or the disk failed.
        InputError: `audio` cannot be read or has no audio track.
    """

    def __init__(
        self,
        path: PathLike,
        width: int | np.integer,
        height: int | np.integer,
        fps: float | int | Fraction | np.number = 25.0,
        audio: PathLike | None = None,
        crf: int | np.integer = 18,
        overwrite: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        size = whole_number(width, "width", 1), whole_number(height, "height", 1)
        given: Any = fps  # NumPy's numbers are Real too
        if not (isinstance(given, numbers.Real) and not isinstance(fps, bool) and 0 < fps < math.inf):
            raise ConfigError(f"fps must be a number above 0, not {fps!r:.60}.")
        self.path = check_output(path, overwrite)
        self.frames = 0
        self._size = size
        self._fps = Fraction(fps if isinstance(fps, Fraction) else float(fps)).limit_denominator(1001)
        self._audio_path = audio
        self._audio_format = None if audio is None else audio_format(audio)
        self._crf, self._overwrite, self._metadata = whole_number(crf, "crf", 0), overwrite, dict(metadata or {})
        self._reformatter = VideoReformatter()
        self._scratch: pathlib.Path | None = None
        self._files = contextlib.ExitStack()
        self._container: Any = None
        self._track: _AudioTrack | None = None

    def __enter__(self) -> "VideoWriter":
        self._scratch = self._files.enter_context(files.new_file(self.path))
        try:
            webm = self.path.suffix.lower() == ".webm"
            options = {"movflags": "+faststart"} if self.path.suffix.lower() in (".mp4", ".mov") else {}
            self._container = av.open(f"file:{self._scratch}", "w", options=options)
            self._container.metadata.update(self._metadata)
            self._video = self._add_video(webm)
            if self._audio_path is not None and self._audio_format is not None:
                rate, channels = self._audio_format
                self._track = _AudioTrack(self._container, self._audio_path, rate, channels, webm)
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

    def write(self, frame: Any) -> None:
        """Append one frame, RGB [H, W, 3] of the writer's size, uint8 or float in [0, 1].

        Raises:
            InputError: another shape, size, dtype or range.
        """
        width, height = self._size
        frame = rgb_frame(frame, f"a frame of {self.path}")
        same_size(frame, (height, width, 3), str(self.path))
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
            if self._track is not None:
                self._track.advance(self.frames / self._fps)

    def drop(self, count: int = 1) -> None:
        """Skip `count` frames of the driving clip: the audio of that time is cut out."""
        if self._track is not None and count > 0:
            self._track.drop(self.frames / self._fps, count / self._fps)

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
            if self._track is not None:
                self._track.finish(self.frames / self._fps)
            self._container.close()
            self._container = None
            files.publish(self._scratch, self.path, self._overwrite)

    def _abort(self) -> None:
        """Close and remove what an unfinished run leaves."""
        if self._track is not None:
            self._track.close()
        if self._container is not None:
            with contextlib.suppress(av.error.FFmpegError, OSError, ValueError):
                self._container.close()
            self._container = None
        self._files.close()

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (av.error.FFmpegError, OSError) as error:
            raise OutputError(
                f"{self.path} could not be written ({error.strerror}): check the space on the disk."
            ) from error


class _AudioTrack:
    """The audio track being written, in step with the video so that neither is buffered far ahead."""

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
        """Encode audio up to a time in seconds, as far as the source has any."""
        for part in self._take(int(time * self._rate) - self._written):
            self._encode(part)

    def drop(self, time: Fraction, length: Fraction) -> None:
        """Skip audio of a length in seconds after a time."""
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
