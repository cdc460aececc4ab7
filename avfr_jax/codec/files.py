"""Videos to `.avfr` files and back."""

import contextlib
import dataclasses
import itertools
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from avfr_jax.codec.audio_coding import BLOCK, RATE, decode_sound, encode_sound
from avfr_jax.codec.background import BackgroundEmbedder, find_embedder
from avfr_jax.codec.bitstream import (
    LARGEST_SIDE,
    MAGIC,
    PICTURES,
    BitstreamError,
    Damage,
    Header,
    Kind,
    Packet,
    largest_length,
    read_index,
    read_stream,
    write_stream,
)
from avfr_jax.codec.channel import Channel, come_through, play_call
from avfr_jax.codec.intra_coding import ImageCodec, form_of
from avfr_jax.codec.receiver import Received, Receiver
from avfr_jax.codec.sender import FOR_FILES, Sender, SenderSettings
from avfr_jax.errors import ConfigError, FaceError, InputError
from avfr_jax.media.audio import write_wav
from avfr_jax.media.files import atomic_file, check_input, check_output
from avfr_jax.model_store import list_models, load_interpolator, load_model, load_super_resolver
from avfr_jax.models.base import Animator
from avfr_jax.models.interpolation import Interpolator
from avfr_jax.models.residual import ResidualCodec
from avfr_jax.models.super_resolution import SuperResolver
from avfr_jax.typing import UInt8

SUPER_RESOLVER, INTERPOLATOR, BICUBIC = "super_resolution64", "interpolation128", "bicubic"
RESIDUAL_CODEC = "residual256"
_AT_ONCE = 4  # frames that are enlarged together
LARGEST_FILE = 1 << 27
"""Bytes of a file that is read: a day, with sound."""


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
    background: BackgroundEmbedder | None = None,
    residual_codec: ResidualCodec | None = None,
    overwrite: bool = False,
    progress: Callable[[int], Any] | None = None,
) -> Encoded:
    """Encode a video, at 25 frames a second.

    Args:
      video: of a face.
      output: the `.avfr` file.
      model: which will draw at the receiver.
      settings: how it is coded.
      crop: see `avfr_jax.tracking.track`.
      sound: a file whose sound goes along; None sends none.
      bitrate: of the sound, bits a second.
      background: embeds backgrounds where `settings.pivots.background` asks for it; None takes `find_embedder`'s.
      residual_codec: as in `Sender`.
      overwrite: replace an existing file.
      progress: told how many frames are done.

    Raises:
      InputError, FaceError, OutputError, ConfigError: see `track`, `check_output`, `SenderSettings`.
    """
    from avfr_jax.media.video import VideoReader
    from avfr_jax.tracking import track

    target = check_output(output, overwrite, (".avfr",))
    reader = VideoReader(check_input(video))
    model = load_model(model) if isinstance(model, str) else model
    shown = (reader.info.width, reader.info.height) if crop == "none" else None
    if background is None and settings.pivots.background is not None:
        background = find_embedder()
    sender = Sender(
        model, settings, shown=shown, sound=0 if sound is None else 1, background=background, indexed=True,
        residual_codec=residual_codec,
    )  # fmt: skip
    count = {"frames": 0, "missing": 0, "pivots": 0}

    def packets() -> Iterator[Packet]:
        length = settings.packet / 25  # sound waits no longer for its packet than motion does
        spoken = _Ahead(iter(()) if sound is None else encode_sound(sound, Fraction(25), bitrate, length))
        tracked = track(os.fspath(video), model.image_size, capabilities=model.capabilities, crop=crop)
        with contextlib.closing(tracked) as frames:
            for frame in frames:
                count["frames"] += 1
                count["missing"] += frame.landmarks is None
                assert frame.image is not None
                yield from _counted(sender.push(frame.image, frame.landmarks, frame.person_mask), count, spoken)
                if progress is not None:
                    progress(count["frames"])
        if sender.space is None:
            raise FaceError(f"No face was found in any frame of {video}.")
        yield from _counted(sender.finish(), count, spoken)
        yield from spoken.rest()

    with atomic_file(target, overwrite) as scratch, open(scratch, "wb") as file:
        written = write_stream(file, packets(), lambda: count["frames"])
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
        if packet.kind in PICTURES and packet.payload[0] == 0:
            count["pivots"] += 1
        yield packet
        yield from spoken.until(packet.frame)


def choose_super_resolver(name: str | None) -> SuperResolver | None:
    """What enlarges frames: the model of that name or folder; None, bicubic, for `bicubic`. Where no name is given, the
    model `SUPER_RESOLVER` if there is one.

    Raises:
      ConfigError, CheckpointError: see `load_super_resolver`.
    """
    name = name or _present(SUPER_RESOLVER) or BICUBIC
    return None if name == BICUBIC else load_super_resolver(name)


def choose_interpolator(how: Literal["motion", "pictures"], name: str | None) -> Interpolator | None:
    """What makes the frames that the sender left out: for `pictures` the model of that name or folder, or
    `INTERPOLATOR`; None for `motion`.

    Raises:
      ConfigError: a name is given for `motion`, or there is no such model, or none for `pictures`.
      CheckpointError: see `load_interpolator`.
    """
    if how == "motion":
        if name is not None:
            raise ConfigError("An interpolator makes pictures; give --interpolate pictures with it.")
        return None
    name = name or _present(INTERPOLATOR)
    if name is None:
        raise ConfigError("--interpolate pictures needs a trained model: name one, or its folder, by --interpolator.")
    return load_interpolator(name)


def _present(name: str) -> str | None:
    return name if any(info.name == name for info in list_models()) else None


def read_file(path: str | os.PathLike[str]) -> bytes:
    """A file's bytes. Raises InputError for one that cannot be read, or is of no size that such a file has."""
    found = check_input(path)
    if found.stat().st_size > LARGEST_FILE:
        raise InputError(f"{found} is larger than any .avfr file that is read ({LARGEST_FILE >> 20} MiB).")
    return found.read_bytes()


@dataclasses.dataclass(frozen=True)
class Stream:
    """A file, looked through once.

    Attributes:
      data: its bytes.
      header: what it says of itself.
      frames: how many it has; of a file that was cut, those that are left.
      template: it holds no picture, only a face's motion.
      sound: there is some.
      skipped: bytes that cannot be read.
    """

    data: bytes
    header: Header
    frames: int
    template: bool
    sound: bool
    skipped: int

    @classmethod
    def of(cls, data: bytes) -> "Stream":
        """Raises BitstreamError where it is no stream, or has no header."""
        damage, header, frames, forms, sound = Damage(), None, 0, set(), False
        for packet in read_stream(data, damage):
            if packet.kind is Kind.HEADER and header is None:
                header = Header.of(packet)
            elif packet.kind is Kind.MOTION:
                frames = max(frames, packet.end(0 if header is None else header.between))
            sound |= packet.kind is Kind.SOUND
            forms.add(form_of(packet))
        if header is None:
            raise BitstreamError("the stream has no header")
        with contextlib.suppress(BitstreamError):
            frames = max(frames, min(read_index(data).frames, largest_length(len(data))))
        return cls(data, header, frames, forms - {None} == {int(ImageCodec.NONE)}, sound, damage.skipped)

    @property
    def rate(self) -> Fraction:
        """Frames a second."""
        return Fraction(*self.header.rate)

    def packets(self) -> Iterator[Packet]:
        """See `read_stream`."""
        return read_stream(self.data)

    @contextlib.contextmanager
    def sound_file(self, came: Iterable[Packet] | None = None) -> Iterator[pathlib.Path | None]:
        """The sound as a WAV file that is there for as long as the context; None where there is none.

        Args:
          came: the packets that came through a network; None takes all.
        """
        if not self.sound:
            yield None
            return
        # No Opus packet takes less than two bytes: what claims to be longer is no sound.
        seconds = min(float(self.frames / self.rate), (largest_length(0) + len(self.data) / 2) * BLOCK / RATE)
        spoken = (packet for packet in (self.packets() if came is None else came) if packet.kind is Kind.SOUND)
        with tempfile.TemporaryDirectory(prefix="avfr-") as folder:
            path = pathlib.Path(folder) / "sound.wav"
            write_wav(path, decode_sound(spoken, seconds), RATE)
            yield path


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Whether there is a file that begins as a stream does."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC
    return False


def open_stream(path: str | os.PathLike[str]) -> Stream:
    """A file as a stream. Raises InputError for one that cannot be read."""
    try:
        return Stream.of(read_file(path))
    except BitstreamError as error:
        raise InputError(f"{path}: {error}.") from error


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


def decode_frames(
    data: bytes, result: Decoded | None = None, receiver: Receiver | None = None
) -> Iterator[UInt8[np.ndarray, "s s 3"]]:
    """The frames of a stream, as the model draws them, one after another.

    Args:
      data: the file's bytes.
      result: filled in on the way.
      receiver: which draws; None takes a new one.

    Raises:
      BitstreamError: it is no stream, or there is nothing in it to draw from.
      ConfigError: its model is not here.
    """
    stream = Stream.of(data)
    result = Decoded(0, Received(), 0) if result is None else result
    result.skipped = stream.skipped
    yield from _drawn(stream.packets(), stream.frames, result, Receiver() if receiver is None else receiver)


def _drawn(packets: Iterable[Packet], frames: int, result: Decoded, receiver: Receiver) -> Iterator[Any]:
    """The frames of a file, so many."""
    result.received = receiver.received
    for packet in packets:
        try:
            receiver.push(packet)
        except BitstreamError:
            if receiver.header is None:
                raise
            receiver.received.broken += 1
            continue
        if packet.kind in (Kind.MOTION, Kind.SOUND) and receiver.can_draw:
            yield from _told(receiver.draw(receiver.ready), result)
    if not receiver.can_draw:
        raise BitstreamError("the stream ends before its first pivot; nothing can be drawn from it")
    yield from _told(receiver.draw(frames), result)
    if not result.frames:
        raise BitstreamError("the stream ends before its first motion; there is nothing to be drawn")


def _called(
    stream: Stream, network: Channel, result: Decoded, interpolator: Interpolator | None = None
) -> Iterator[Any]:
    """The frames that come through a network."""
    receiver = Receiver()
    receiver.batch_size, receiver.interpolator = 1, interpolator
    result.received = receiver.received
    shown = play_call(stream.packets(), network, float(stream.rate), stream.frames, receiver=receiver)
    yield from _told(shown, result)
    if not result.frames:
        raise BitstreamError("no frame of the call came through")


def _told(frames: Iterator[Any], result: Decoded) -> Iterator[Any]:
    for frame in frames:
        result.frames += 1
        yield frame


def decode_file(
    stream: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] | None = None,
    super_resolver: SuperResolver | None = None,
    interpolator: Interpolator | None = None,
    network: Channel | None = None,
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
      super_resolver: makes frames larger, where they are to be; None enlarges bicubically.
      interpolator: makes the frames between two that were sent from the drawn ones; None moves the face between them.
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
    from avfr_jax.media.video_writer import VideoWriter

    held = open_stream(stream)
    if held.template:
        raise InputError(
            f"{stream} holds no picture; drive a portrait with it: avfr reenact --source PORTRAIT --driving {stream} …"
        )
    header = held.header
    width, height = (size, size) if isinstance(size, int) else size or (header.width, header.height)
    if not (16 <= width <= LARGEST_SIDE and 16 <= height <= LARGEST_SIDE):
        raise ConfigError(f"frames can be 16 to {LARGEST_SIDE} pixels wide and high, not {width} × {height}")
    result = Decoded(0, Received(), held.skipped)
    with contextlib.ExitStack() as stack:
        came = None if network is None else come_through(held.packets(), network, float(held.rate))
        spoken = stack.enter_context(held.sound_file(came))
        if network is None:
            receiver = Receiver()
            receiver.interpolator, receiver.blend = interpolator, True
            drawn: Any = _drawn(held.packets(), held.frames, result, receiver)
        else:
            drawn = _called(held, network, result, interpolator)
        frames = stack.enter_context(contextlib.closing(drawn))
        writer: Any = None
        for i, shown in enumerate(sized(frames, width, height, super_resolver)):
            if writer is None:
                writer = stack.enter_context(
                    VideoWriter(output, width, height, float(held.rate), spoken, crf, overwrite, metadata)
                )
            writer.write(shown if mark is None else mark(shown, i))
            if progress is not None:
                progress(i + 1)
    return result


def sized(frames: Iterable[Any], width: int, height: int, super_resolver: SuperResolver | None) -> Iterator[Any]:
    """Frames at another size, a few at a time."""
    left = iter(frames)
    while some := list(itertools.islice(left, _AT_ONCE)):
        if super_resolver is None or some[0].shape[0] >= height or some[0].shape[1] >= width:
            yield from (resized(frame, width, height) for frame in some)
        else:
            yield from super_resolver(np.stack(some), height, width)


def resized(frame: UInt8[np.ndarray, "h w 3"], width: int, height: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """A frame at another size (bicubic)."""
    if frame.shape[:2] == (height, width):
        return frame
    import cv2

    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC)
