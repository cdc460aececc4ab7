"""Opening and decoding of media files with PyAV, damaged ones included."""

import contextlib
import pathlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import av.error

from avfr_jax.errors import InputError
from avfr_jax.media.files import PathLike, check_input

# Of tags that are not UTF-8: PyAV 19 has no such option and returns lone surrogates, which `clean_text` replaces.
_OPEN: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
# Demuxers that make a "video" out of a picture or of text.
_NOT_MEDIA = ("image2", "tty", "pipe", "bin", "xbin", "adf", "idf")
_PLAYLISTS = frozenset(("hls", "concat", "dash", "imf", "webm_dash_manifest", "sdp", "rtsp"))
_PLAYLIST_MARKS = (b"#EXTM3U", b"ffconcat version", b"<MPD", b"[playlist]")
_BUFFER = 1 << 18
"""Bytes read from a file at a time."""


@contextlib.contextmanager
def open_input(path: PathLike) -> Iterator[Any]:
    """An open PyAV container of a local media file, closed at the end of the block.

    FFmpeg reads through the file object alone: no protocol is allowed, so that a playlist opens nothing else.

    Raises:
        InputError: no such file, not a media file, a playlist, or an MP4 whose index was never written.
    """
    found = check_input(path)
    with open(found, "rb", buffering=0) as file:
        try:
            container = av.open(file, options={"protocol_whitelist": "none"}, buffer_size=_BUFFER, **_OPEN)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise InputError(_why_not(found)) from error
        with container:
            if not _PLAYLISTS.isdisjoint(container.format.name.split(",")):
                raise InputError(_why_not(found))
            yield container


def _why_not(path: pathlib.Path) -> str:
    """The sentence for a file that FFmpeg cannot open, by its first bytes."""
    with open(path, "rb") as file:
        head = file.read(1024)
    if head[4:8] == b"ftyp":
        return (
            f"{path} is an incomplete MP4 (its index is missing, as after a recording or download that was cut off): "
            "record or download it again."
        )
    if any(mark in head for mark in _PLAYLIST_MARKS):
        return f"{path} is a playlist, which names other files: give the video or audio file itself."
    return f"{path} is not a video or audio file that can be read: convert it to MP4."


def clean_text(text: str) -> str:
    """A tag's text with U+FFFD for bytes that are not UTF-8, whatever PyAV made of them."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def video_stream(container: Any) -> Any | None:
    """The main moving-picture stream, or None. Cover art of an audio file and still pictures do not count."""
    names = container.format.name.split(",")
    if any(name in _NOT_MEDIA or name.endswith("_pipe") for name in names):
        return None
    moving = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not moving:
        return None
    best = container.streams.best("video")
    return best if best in moving else moving[0]


def audio_stream(container: Any) -> Any | None:
    """The main audio stream that this FFmpeg can decode, or None."""
    best = container.streams.best("audio")
    return best if best is not None and best.codec_context is not None else None


def decode(container: Any, stream: Any) -> Iterator[Any]:
    """Frames of one stream in display order. Damaged packets are skipped; a broken file ends early."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.error.FFmpegError, OSError):
            return
        try:
            frames = packet.decode()
        except (av.error.FFmpegError, OSError):
            continue
        yield from frames


def frame_time(frame: Any) -> Fraction | None:
    """Presentation time of a frame in seconds, or None without a time stamp."""
    if frame.pts is None or frame.time_base is None:
        return None
    return Fraction(frame.pts) * Fraction(frame.time_base)


def video_origin(path: PathLike) -> Fraction | None:
    """Time in seconds of a file's first video frame, time zero of its audio; None without video or time stamps."""
    with open_input(path) as container:
        stream = video_stream(container)
        if stream is None:
            return None
        for frame in decode(container, stream):
            return frame_time(frame)
    return None
