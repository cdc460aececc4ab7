"""What the video and audio readers share: opening a file with PyAV and decoding it in spite of damage."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import av.error

from avfr_jax.errors import InputError
from avfr_jax.media.files import PathLike, check_input

# Demuxers that make a "video" out of a picture or of text.
_NOT_MEDIA = ("image2", "tty", "pipe", "bin", "xbin", "adf", "idf")


def open_input(path: PathLike) -> Any:
    """An open PyAV container of a media file on this machine.

    Nothing but local files is followed, so that a playlist cannot fetch addresses.

    Raises:
        InputError: no such file, or not a media file, or an MP4 whose index was never written.
    """
    found = check_input(path)
    try:
        # The prefix keeps a colon in a file's name from being read as a protocol.
        return av.open(f"file:{found}", options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        with open(found, "rb") as stream:
            head = stream.read(12)
        if head[4:8] == b"ftyp":
            raise InputError(
                f"{found} is an incomplete MP4 (its index is missing, as after a recording or download that "
                "was cut off): record or download it again."
            ) from error
        raise InputError(f"{found} is not a video or audio file that can be read: convert it to MP4.") from error


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
    """Frames of one stream in display order. Damaged packets are passed over; a broken file simply ends."""
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
    """When the file says a frame is to be shown or heard, in seconds, or None if it does not say."""
    if frame.pts is None or frame.time_base is None:
        return None
    return Fraction(frame.pts) * frame.time_base


def video_origin(path: PathLike) -> Fraction | None:
    """Time stamp in seconds of a file's first video frame: time zero of all that is read from the file.

    None for a file without video (or whose video has no time stamps).
    """
    with open_input(path) as container:
        stream = video_stream(container)
        if stream is None:
            return None
        for frame in decode(container, stream):
            return frame_time(frame)
    return None
