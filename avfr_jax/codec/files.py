"""Videos to `.avfr` files and back."""

import contextlib
import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from avfr_jax.codec.bitstream import (
    LARGEST_SIDE,
    BitstreamError,
    Damage,
    Header,
    Kind,
    Packet,
    read_stream,
    write_stream,
)
from avfr_jax.codec.network import Network, play_call
from avfr_jax.codec.receiver import Received, Receiver
from avfr_jax.codec.sender import FOR_FILES, Sender, SenderSettings
from avfr_jax.codec.sound import RATE, decode_sound, encode_sound
from avfr_jax.errors import ConfigError, FaceError, InputError
from avfr_jax.media.files import atomic_file, check_input, check_output
from avfr_jax.models.base import Animator
from avfr_jax.typing import UInt8

LARGEST_FILE = 1 << 30
"""Bytes of a file that is read: hundreds of hours."""


@dataclasses.dataclass(frozen=True)
class Encoded:
    """What an encoding came to.

    Attributes:
      frames: how many.
      seconds: of the clip.
      bytes: by kind of packet.
      pivots: how many were sent.
      missing: frames without a face, which hold the pose before them.
    """

    frames: int
    seconds: float
    bytes: dict[Kind, int]
    pivots: int
    missing: int

    @property
    def kilobits(self) -> float:
        """A second, headers and index included."""
        return sum(self.bytes.values()) * 8 / self.seconds / 1000


def encode_file(
    video: str | os.PathLike[str],
    output: str | os.PathLike[str],
    model: Animator | str = "landmark-warp",
    settings: SenderSettings = FOR_FILES,
    *,
    crop: Literal["auto", "none"] = "auto",
    sound: str | os.PathLike[str] | None = None,
    bitrate: int = 12000,
    overwrite: bool = False,
    progress: Callable[[int], Any] | None = None,
) -> Encoded:
    """Encode a video, at 25 frames a second.

    Args:
      video: of a face.
      output: the `.avfr` file.
      model: which will draw at the receiver.
      settings: how it is coded.
      crop: as in `Reenactor`.
      sound: a file whose sound goes along; None sends none.
      bitrate: of the sound, bits a second.
      overwrite: replace an existing file.
      progress: told how many frames are done.

    Raises:
      InputError, FaceError, OutputError, ConfigError: see `Reenactor`, `check_output`, `SenderSettings`.
    """
    from avfr_jax.media.video import VideoReader
    from avfr_jax.reenact import Reenactor

    target = check_output(output, overwrite, (".avfr",))
    reader = VideoReader(check_input(video))
    watcher = Reenactor(model, crop=crop)
    shown = (reader.info.width, reader.info.height) if crop == "none" else None
    sender = Sender(watcher.model, settings, shown=shown, frames=reader.info.frames, sound=0 if sound is None else 1)
    count = {"frames": 0, "missing": 0, "pivots": 0}

    def packets() -> Iterator[Packet]:
        spoken = _Ahead(iter(()) if sound is None else encode_sound(sound, Fraction(25), bitrate))
        with contextlib.closing(watcher.watch(os.fspath(video))) as frames:
            for seen in frames:
                count["frames"] += 1
                count["missing"] += seen.landmarks is None
                yield from _counted(sender.push(seen.view, seen.landmarks), count, spoken)
                if progress is not None:
                    progress(count["frames"])
        if sender.space is None:
            raise FaceError(f"No face was found in any frame of {video}.")
        yield from _counted(sender.finish(), count, spoken)
        yield from spoken.rest()

    with atomic_file(target, overwrite) as scratch, open(scratch, "wb") as file:
        written = write_stream(file, packets())
    return Encoded(count["frames"], count["frames"] / 25, written, count["pivots"], count["missing"])


class _Ahead:
    """Sound packets, given out when the picture has come as far."""

    def __init__(self, packets: Iterator[Packet]) -> None:
        self._packets, self._next = packets, next(packets, None)

    def until(self, frame: int) -> Iterator[Packet]:
        while self._next is not None and self._next.frame <= frame:
            yield self._next
            self._next = next(self._packets, None)

    def rest(self) -> Iterator[Packet]:
        if self._next is not None:
            yield self._next
            yield from self._packets


def _counted(packets: list[Packet], count: dict[str, int], spoken: _Ahead) -> Iterator[Packet]:
    """Packets with the sound among them."""
    for packet in packets:
        if packet.kind is Kind.PIVOT and packet.payload[0] == 0:
            count["pivots"] += 1
        yield packet
        yield from spoken.until(packet.frame)


def read_file(path: str | os.PathLike[str]) -> bytes:
    """A file's bytes. Raises InputError for one that cannot be read, or is of no size that such a file has."""
    found = check_input(path)
    if found.stat().st_size > LARGEST_FILE:
        raise InputError(f"{found} is larger than any .avfr file that is read ({LARGEST_FILE >> 20} MiB).")
    return found.read_bytes()


@dataclasses.dataclass(frozen=True)
class _Stream:
    """A file, read once: its packets, how many frames they move, and the bytes between them that were skipped."""

    header: Header
    packets: list[Packet]
    frames: int
    skipped: int

    @property
    def rate(self) -> Fraction:
        """Frames a second."""
        return Fraction(*self.header.rate)


def _read(path: str | os.PathLike[str]) -> _Stream:
    damage = Damage()
    try:
        packets = list(read_stream(read_file(path), damage))
        headers = [packet for packet in packets if packet.kind is Kind.HEADER]
        if not headers:
            raise BitstreamError("the stream has no header")
        header = Header.of(headers[0])
    except BitstreamError as error:
        raise InputError(f"{path}: {error}.") from error
    frames = max((p.frame + p.count for p in packets if p.kind is Kind.MOTION), default=0)
    return _Stream(header, packets, frames, damage.skipped)


@dataclasses.dataclass
class Decoded:
    """What a decoding came to.

    Attributes:
      frames: drawn.
      received: see `Received`.
      skipped: bytes that could not be read.
    """

    frames: int
    received: Received
    skipped: int


def decode_frames(data: bytes, result: Decoded | None = None) -> Iterator[UInt8[np.ndarray, "s s 3"]]:
    """The frames of a stream, as the model draws them, one after another; see `read_stream`."""
    damage = Damage()
    yield from _drawn(read_stream(data, damage), result)
    if result is not None:
        result.skipped = damage.skipped


def _drawn(packets: Iterable[Packet], result: Decoded | None) -> Iterator[Any]:
    """The frames of a file's packets."""
    receiver = Receiver()
    total = 0
    for packet in packets:
        try:
            receiver.push(packet)
        except BitstreamError:
            if receiver.header is None:
                raise
            receiver.received.broken += 1
            continue
        if receiver.header is not None and receiver.header.frames:
            total = receiver.header.frames
        if packet.kind is Kind.MOTION and receiver.can_draw:
            yield from _told(receiver, receiver.known, result)
    if receiver.header is None:
        raise BitstreamError("the stream has no header")
    if not receiver.can_draw:
        raise BitstreamError("the stream ends before its first pivot; nothing can be drawn from it")
    yield from _told(receiver, min(max(receiver.known, total), receiver.known + 250), result)
    if result is not None:
        result.received = receiver.received


def _called(stream: _Stream, network: Network, result: Decoded) -> Iterator[Any]:
    """The frames that come through a network."""
    receiver = Receiver()
    for frame in play_call(stream.packets, network, float(stream.rate), stream.frames, receiver=receiver):
        result.frames += 1
        yield frame
    if not result.frames:
        raise BitstreamError("no frame of the call came through")
    result.received = receiver.received


def _told(receiver: Receiver, until: int, result: Decoded | None) -> Iterator[Any]:
    for frame in receiver.draw(until):
        if result is not None:
            result.frames += 1
        yield frame


def decode_file(
    stream: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] | None = None,
    network: Network | None = None,
    mark: Callable[[Any, int], Any] | None = None,
    metadata: dict[str, str] | None = None,
    crf: int = 18,
    overwrite: bool = False,
    progress: Callable[[int], Any] | None = None,
) -> Decoded:
    """Decode a stream to a video with its sound.

    Args:
      stream: an `.avfr` file.
      output: the video.
      size: side, or (width, height), of its frames; None takes what the stream says.
      network: that the stream goes through as a call; None reads the file as it is.
      mark: draws a watermark on a frame of that number.
      metadata: the container's tags.
      crf: see `VideoWriter`.
      overwrite: replace an existing file.
      progress: told how many frames are done.

    Raises:
      InputError: the stream cannot be read.
      ConfigError: its model is not here.
      OutputError: the video cannot be written.
    """
    from avfr_jax.media.audio import write_wav
    from avfr_jax.media.video import VideoWriter

    held = _read(stream)
    header = held.header
    width, height = (size, size) if isinstance(size, int) else size or (header.width, header.height)
    if not (16 <= width <= LARGEST_SIDE and 16 <= height <= LARGEST_SIDE):
        raise ConfigError(f"frames can be 16 to {LARGEST_SIDE} pixels wide and high, not {width} × {height}")
    result = Decoded(0, Received(), held.skipped)
    sound = [packet for packet in held.packets if packet.kind is Kind.SOUND]
    with contextlib.ExitStack() as stack:
        spoken = None
        if sound:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="avfr-"))
            spoken = pathlib.Path(folder) / "sound.wav"
            write_wav(spoken, decode_sound(sound, float(held.frames / held.rate)), RATE)
        drawn: Any = _drawn(held.packets, result) if network is None else _called(held, network, result)
        frames = stack.enter_context(contextlib.closing(drawn))
        writer: Any = None
        for i, frame in enumerate(frames):
            if writer is None:
                writer = stack.enter_context(
                    VideoWriter(output, width, height, float(held.rate), spoken, crf, overwrite, metadata)
                )
            shown = resized(frame, width, height)
            writer.write(shown if mark is None else mark(shown, i))
            if progress is not None:
                progress(i + 1)
    return result


def resized(frame: UInt8[np.ndarray, "h w 3"], width: int, height: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """A frame at another size (bicubic)."""
    if frame.shape[:2] == (height, width):
        return frame
    import cv2

    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC)
