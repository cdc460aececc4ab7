"""Videos to `.avfr` files and back."""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable, Generator, Iterable, Iterator
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from avfr_jax.arguments import whole_number
from avfr_jax.codec.audio_coding import BLOCK, RATE, decode_sound, encode_sound
from avfr_jax.codec.background import BackgroundEmbedder, find_embedder
from avfr_jax.codec.bitstream import LARGEST_SIDE, MAGIC, BitstreamError, Kind, Packet, ReferenceCoding
from avfr_jax.codec.channel import Channel, play_call, received_packets
from avfr_jax.codec.container import Damage, largest_length, read_index, read_stream, write_stream
from avfr_jax.codec.header import Header
from avfr_jax.codec.receiver import Receiver, ReceiverStatistics
from avfr_jax.codec.sender import Sender
from avfr_jax.codec.settings import FOR_FILES, SenderSettings
from avfr_jax.codec.upscaling import resize_frames
from avfr_jax.errors import ConfigError, FaceError, InputError
from avfr_jax.interrupts import scratch_folder
from avfr_jax.media.audio import write_wav
from avfr_jax.media.files import atomic_file, check_input, check_output
from avfr_jax.model_store import load_model
from avfr_jax.models.base import Animator
from avfr_jax.models.interpolation import Interpolator
from avfr_jax.models.residual import ResidualCodec
from avfr_jax.models.super_resolution import SuperResolver
from avfr_jax.motion import View
from avfr_jax.typing import UInt8

RESIDUAL_CODEC = "residual256"
LARGEST_FILE = 1 << 27
"""Bytes of a file that is read: a day, with sound."""


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Result of an encoding.

    Attributes:
      frames: of the clip.
      seconds: of the clip.
      bytes: by kind of packet.
      pivots: that were sent.
      missing: frames without a face, which hold the pose before them.
      keypoints: see `Sender.keypoints`.
    """

    frames: int
    seconds: float
    bytes: dict[Kind, int]
    pivots: int
    missing: int
    keypoints: float | None = None

    @property
    def kilobits(self) -> float:
        """Kilobits a second, header and index included."""
        return sum(self.bytes.values()) * 8 / self.seconds / 1000


def encode_file(
    video: str | os.PathLike[str],
    output: str | os.PathLike[str],
    model: Animator | str = "landmark-warp",
    settings: SenderSettings = FOR_FILES,
    *,
    crop: Literal["auto", "fixed", "none"] = "auto",
    sound: str | os.PathLike[str] | None = None,
    bitrate: int = 12000,
    background: BackgroundEmbedder | None = None,
    residual_codec: ResidualCodec | None = None,
    overwrite: bool = False,
    progress: Callable[[int], Any] | None = None,
) -> Encoded:
    """Encode a video, at 25 frames a second.

    Args:
      video: of a face.
      output: the `.avfr` file.
      model: renders at the receiver.
      settings: how it is coded.
      crop: see `avfr_jax.tracking.track`.
      sound: a file whose sound goes along; None sends none.
      bitrate: of the sound, bits a second.
      background: embeds backgrounds where `settings.pivots.background` is set; None takes `find_embedder`'s.
      residual_codec: as in `Sender`.
      overwrite: replace an existing file.
      progress: called with the number of frames done.

    Raises:
      InputError, FaceError, OutputError, ConfigError: see `track`, `check_output`, `SenderSettings`.
    """
    from avfr_jax.media.animation import open_reader
    from avfr_jax.tracking import track

    bitrate = whole_number(bitrate, "bitrate", 1)
    target = check_output(output, overwrite, (".avfr",), [video, sound])
    reader = open_reader(check_input(video))
    model = load_model(model) if isinstance(model, str) else model
    shown = (reader.info.width, reader.info.height) if crop == "none" else None
    if background is None and settings.pivots.background is not None:
        background = find_embedder()
    sender = Sender(
        model, settings, shown=shown, sound=0 if sound is None else 1, background=background, indexed=True,
        residual_codec=residual_codec,
    )  # fmt: skip
    frames = missing = 0

    def packets() -> Iterator[Packet]:
        nonlocal frames, missing
        tracked = track(os.fspath(video), model.image_size, capabilities=model.capabilities, crop=crop)
        with contextlib.closing(tracked) as clip:
            for frame in clip:
                frames += 1
                missing += frame.landmarks is None
                assert frame.image is not None
                yield from sender.push(frame.image, frame.landmarks, frame.person_mask)
                if progress is not None:
                    progress(frames)
        if not sender.pivots:
            raise FaceError(f"No face was found in any frame of {video}.")
        yield from sender.finish()

    # Sound waits no longer for its packet than motion does.
    audio = iter(()) if sound is None else encode_sound(sound, Fraction(25), bitrate, settings.packet / 25)
    with atomic_file(target, overwrite) as scratch, open(scratch, "wb") as file:
        written = write_stream(file, _interleaved(packets(), audio), lambda: frames)
    return Encoded(frames, frames / 25, written, sender.pivot_count, missing, sender.keypoints)


def _interleaved(packets: Iterator[Packet], audio: Iterator[Packet]) -> Iterator[Packet]:
    """Packets, each followed by the sound up to its frame."""
    following = next(audio, None)
    for packet in packets:
        yield packet
        while following is not None and following.frame <= packet.frame:
            yield following
            following = next(audio, None)
    if following is not None:
        yield following
        yield from audio


def read_file(path: str | os.PathLike[str]) -> bytes:
    """A file's bytes. Raises InputError for one that cannot be read, or is larger than any stream."""
    checked = check_input(path)
    if checked.stat().st_size > LARGEST_FILE:
        raise InputError(f"{checked} is larger than any .avfr file that is read ({LARGEST_FILE >> 20} MiB).")
    return checked.read_bytes()


@dataclasses.dataclass(frozen=True)
class Stream:
    """A file after one pass over its packets.

    Attributes:
      data: its bytes.
      header: of the stream.
      frames: of the clip; of a truncated file, those that are left.
      template: it holds motion and no image.
      sound: it holds sound.
      skipped: bytes that cannot be read.
    """

    data: bytes
    header: Header
    frames: int
    template: bool
    sound: bool
    skipped: int

    @classmethod
    def parse(cls, data: bytes) -> "Stream":
        """Raises BitstreamError where it is no stream, or has no header."""
        damage, header, frames, codings, sound = Damage(), None, 0, set(), False
        for packet in read_stream(data, damage):
            if packet.kind is Kind.HEADER and header is None:
                header = Header.from_packet(packet)
            elif packet.kind is Kind.MOTION:
                frames = max(frames, packet.end(0 if header is None else header.skipped_frames))
            sound |= packet.kind is Kind.SOUND
            codings.add(packet.coding)
        if header is None:
            raise BitstreamError("the stream has no header")
        with contextlib.suppress(BitstreamError):
            frames = max(frames, min(read_index(data).frames, largest_length(len(data))))
        return cls(data, header, frames, codings - {None} == {int(ReferenceCoding.NONE)}, sound, damage.skipped)

    @property
    def rate(self) -> Fraction:
        """Frames a second."""
        return Fraction(*self.header.rate)

    def packets(self) -> Iterator[Packet]:
        """See `read_stream`."""
        return read_stream(self.data)

    @contextlib.contextmanager
    def sound_file(self, received: Iterable[Packet] | None = None) -> Iterator[pathlib.Path | None]:
        """The sound as a WAV file that exists for as long as the context; None where there is none.

        Args:
          received: the packets that came through a channel; None takes all.
        """
        if not self.sound:
            yield None
            return
        # No Opus packet takes less than two bytes: a longer claim is no sound.
        seconds = min(float(self.frames / self.rate), (largest_length(0) + len(self.data) / 2) * BLOCK / RATE)
        audio = (packet for packet in (self.packets() if received is None else received) if packet.kind is Kind.SOUND)
        with scratch_folder() as folder:
            path = folder / "sound.wav"
            write_wav(path, decode_sound(audio, seconds), RATE)
            yield path


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Whether there is a file that begins with the magic of a stream."""
    if not os.path.isfile(path):  # to open a pipe may block
        return False
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC
    return False


def open_stream(path: str | os.PathLike[str]) -> Stream:
    """Open a file. Raises InputError for one that cannot be read."""
    try:
        return Stream.parse(read_file(path))
    except BitstreamError as error:
        raise InputError(f"{path}: {error}.") from error


@dataclasses.dataclass
class Decoded:
    """Result of a decoding.

    Attributes:
      frames: rendered.
      received: see `ReceiverStatistics`.
      skipped: bytes that could not be read.
    """

    frames: int = 0
    received: ReceiverStatistics = dataclasses.field(default_factory=ReceiverStatistics)
    skipped: int = 0


def decode_frames(
    data: bytes, result: Decoded | None = None, receiver: Receiver | None = None
) -> Iterator[UInt8[np.ndarray, "s s 3"]]:
    """The frames of a stream at the model's size, one after another.

    Args:
      data: the file's bytes.
      result: filled in on the way.
      receiver: renders; None takes a new one.

    Raises:
      BitstreamError: it is no stream, or nothing in it can be rendered.
      ConfigError: its model is not here.
    """
    stream = Stream.parse(data)
    result = Decoded() if result is None else result
    result.skipped = stream.skipped
    return _counted(_from_file(stream, Receiver() if receiver is None else receiver, result), result)


def _from_file(stream: Stream, receiver: Receiver, result: Decoded) -> Generator[Any, None, None]:
    """The frames of a file, in order of its packets."""
    result.received = receiver.received
    for packet in stream.packets():
        try:
            receiver.push(packet)
        except BitstreamError:
            if receiver.header is None:
                raise
            receiver.received.broken += 1
            continue
        if packet.kind in (Kind.MOTION, Kind.SOUND) and receiver.can_render:
            yield from receiver.render(receiver.ready)
    if not receiver.can_render:
        raise BitstreamError("the stream ends before its first pivot; nothing can be rendered from it")
    yield from receiver.render(stream.frames)
    result.received = receiver.received
    if not result.frames:
        raise BitstreamError("the stream ends before its first motion; there is nothing to render")


def _from_channel(stream: Stream, channel: Channel, receiver: Receiver, result: Decoded) -> Generator[Any, None, None]:
    """The frames that a call over a channel displays."""
    yield from play_call(stream.packets(), channel, float(stream.rate), stream.frames, receiver=receiver)
    result.received = receiver.received
    if not result.frames:
        raise BitstreamError("no frame of the call came through")


def _counted(frames: Iterator[Any], result: Decoded) -> Iterator[Any]:
    for frame in frames:
        result.frames += 1
        yield frame


def decoded_size(size: Any) -> tuple[int, int]:
    """Width and height of frames of a side, or of a pair of them. Raises ConfigError for anything else."""
    pair = tuple(size) if isinstance(size, tuple | list) else (size, size)
    if len(pair) != 2:
        raise ConfigError(f"size must be a side or (width, height), not {size!r:.60}.")
    return whole_number(pair[0], "the width", 1), whole_number(pair[1], "the height", 1)


def decode_file(
    stream: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    model: Animator | None = None,
    size: int | tuple[int, int] | None = None,
    super_resolver: SuperResolver | None = None,
    interpolator: Interpolator | None = None,
    view: View | None = None,
    channel: Channel | None = None,
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
      model: as in `Receiver`.
      size: side, or (width, height), of its frames; None takes the stream's.
      super_resolver: upscales frames; None resizes bicubically.
      interpolator: synthesises skipped frames from the rendered ones around them; None interpolates their motion.
      view: see `Receiver`.
      channel: simulates a call over a channel; None reads the file as it is.
      mark: applies a watermark to a frame of that number.
      metadata: the container's tags.
      crf: see `VideoWriter`.
      overwrite: replace an existing file.
      progress: called with the number of frames done.

    Raises:
      InputError: the stream cannot be read.
      ConfigError: its model is not here, or `model` is another; the model cannot turn a head.
      OutputError: the video cannot be written.
    """
    from avfr_jax.media import video_writer

    video_writer.check_output(output, overwrite, [stream])
    source = open_stream(stream)
    if source.template:
        raise InputError(
            f"{stream} holds no image; drive a portrait with it: avfr reenact --source PORTRAIT --driving {stream} …"
        )
    header = source.header
    width, height = (header.width, header.height) if size is None else decoded_size(size)
    if not (16 <= width <= LARGEST_SIDE and 16 <= height <= LARGEST_SIDE):
        raise ConfigError(f"frames can be 16 to {LARGEST_SIDE} pixels wide and high, not {width} × {height}")
    result = Decoded(skipped=source.skipped)
    with contextlib.ExitStack() as stack:
        received = None if channel is None else received_packets(source.packets(), channel, float(source.rate))
        audio = stack.enter_context(source.sound_file(received))
        if channel is None:
            receiver = Receiver(model, interpolator=interpolator, cross_fade=True, view=view)
            rendered = _from_file(source, receiver, result)
        else:
            receiver = Receiver(model, interpolator=interpolator, batch_size=1, view=view)
            rendered = _from_channel(source, channel, receiver, result)
        stack.callback(rendered.close)
        writer: Any = None
        for i, frame in enumerate(resize_frames(_counted(rendered, result), width, height, super_resolver)):
            if writer is None:
                writer = stack.enter_context(
                    video_writer.VideoWriter(output, width, height, float(source.rate), audio, crf, overwrite, metadata)
                )
            writer.write(frame if mark is None else mark(frame, i))
            if progress is not None:
                progress(i + 1)
    return result
