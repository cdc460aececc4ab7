"""The `.avfr` bitstream: packets, each whole by itself; `docs/bitstream.md` states it byte by byte.

A file is the magic and then packets, the first of them a header; a call sends the same packets, which may be lost or
come in another order. Nothing here knows what moves.
"""

import binascii
import dataclasses
import enum
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from avfr_jax.errors import InputError

MAGIC = b"AVFR\x0d\x0a\x1a\x0a"
VERSION = 1
LARGEST_PAYLOAD = 1 << 16
"""Bytes of one packet: what a reader takes in at once, whatever the stream says."""
LARGEST_INDEX = 1 << 20
"""The same for an index, which has an entry for every refresh of a file."""
LARGEST_RUN = 250
"""Frames of motion in one packet."""
LARGEST_SIDE = 4096
MOST_BETWEEN = 3
"""Frames that a receiver makes between two that are sent, at most."""
FRAMES_A_BYTE = 4
_FRAMES_BESIDE = 8  # what a packet may hold without any payload
_START = 1 << 13  # frames that a file may begin with before it has any bytes
_ENTRIES = 1 << 16  # of an index
_PATIENCE, _PATIENCE_EACH, _ATTEMPT = 1 << 26, 128, 1024
_WRAP = 1 << 14  # frame numbers in motion packets are written modulo this


class BitstreamError(InputError):
    """A stream that is cut, damaged, or of another version."""


class ChecksumError(BitstreamError):
    """A packet whose checksum is wrong.

    Attributes:
      length: bytes that were summed to find out.
    """

    def __init__(self, length: int) -> None:
        super().__init__("a packet's checksum is wrong: the stream was damaged")
        self.length = length


class Kind(enum.IntEnum):
    """What a packet carries."""

    HEADER = 0
    PIVOT = 1
    MOTION = 2
    SOUND = 3
    RESIDUAL = 4
    INDEX = 5


PICTURES = (Kind.PIVOT, Kind.RESIDUAL)
"""Packets that hold the parts of a pivot: a picture by itself, or what a drawn one lacks."""


@dataclasses.dataclass(frozen=True)
class Packet:
    """One packet.

    Attributes:
      kind: what it carries.
      frame: number of the first frame it belongs to.
      payload: its content.
      count: frames (motion, sound); parts of a pivot (pivot, residual).
      refresh: motion that can be read without the packets before it.
      pivot: of a refresh, the number of the pivot it moves; of a pivot or residual, its own; 0 to 255.
    """

    kind: Kind
    frame: int
    payload: bytes
    count: int = 1
    refresh: bool = False
    pivot: int = 0

    def __post_init__(self) -> None:
        """Raises BitstreamError for more than a packet of its kind can hold."""
        if self.kind is Kind.MOTION and not 1 <= self.count <= largest_run(len(self.payload)):
            raise BitstreamError(f"a motion packet of {len(self.payload)} bytes cannot hold {self.count} frames")
        if len(self.payload) > (LARGEST_INDEX if self.kind is Kind.INDEX else LARGEST_PAYLOAD):
            raise BitstreamError(f"a packet cannot hold {len(self.payload)} bytes")

    def end(self, between: int) -> int:
        """Of motion: the number after its last frame's, so many frames lying between two that are sent."""
        return self.frame + (self.count - 1) * (between + 1) + 1

    def to_bytes(self) -> bytes:
        """As it is sent, checksum included."""
        head = bytes([int(self.kind) | (0x80 if self.refresh else 0)]) + put_number(self.frame % _WRAP)
        head += put_number(self.count)
        if self.refresh or self.kind in PICTURES:
            head += bytes([self.pivot])
        body = head + put_number(len(self.payload)) + self.payload
        return body + struct.pack("<H", binascii.crc_hqx(body, 0xFFFF))


def largest_run(length: int) -> int:
    """Frames of motion that a payload of so many bytes may state: a few bytes must not ask for hours of drawing."""
    return min(LARGEST_RUN, _FRAMES_BESIDE + FRAMES_A_BYTE * length)


def padded(payload: bytes, count: int) -> bytes:
    """Motion with as many zero bytes behind it as `count` frames have to have; they change nothing.

    A writer leaves out the zeros at its end, and a face that rests is all zeros.
    """
    return payload.ljust(-(-(count - _FRAMES_BESIDE) // FRAMES_A_BYTE), b"\0")


def put_number(value: int) -> bytes:
    """A whole number from 0 up: seven bits a byte, the lowest first, the high bit set where more follow (LEB128)."""
    out = bytearray()
    while value >= 0x80:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Cursor:
    """Reads fields off bytes; BitstreamError where they end too soon."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def take(self, count: int) -> bytes:
        """That many bytes."""
        if count < 0 or self.at + count > len(self.data):
            raise BitstreamError("the stream ends in the middle of a packet")
        self.at += count
        return self.data[self.at - count : self.at]

    def byte(self) -> int:
        """One byte."""
        return self.take(1)[0]

    def number(self, largest: int = (1 << 28) - 1) -> int:
        """What `put_number` wrote."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if value > largest:
                raise BitstreamError(f"the stream holds a number above {largest} where none can be")
            if byte < 0x80:
                return value
            shift += 7


def read_packet(data: bytes, at: int = 0, near: int = 0) -> tuple[Packet, int]:
    """The packet that begins at a place, and where the next one does.

    Args:
      data: the stream.
      at: where the packet begins.
      near: a frame number not far from the packet's: numbers are written modulo 2^14.

    Raises:
      BitstreamError: the bytes there are not a packet, or one that was damaged.
    """
    cursor = Cursor(data, at)
    first = cursor.byte()
    try:
        kind = Kind(first & 0x7F)
    except ValueError:
        raise BitstreamError(f"there is no kind of packet {first & 0x7F}") from None
    refresh = bool(first & 0x80)
    if refresh and kind is not Kind.MOTION:
        raise BitstreamError("only motion can be a refresh")
    frame, count = cursor.number(_WRAP - 1), cursor.number()
    if kind in (Kind.HEADER, Kind.INDEX) and (frame, count) != (0, 1):
        raise BitstreamError("a header or an index belongs to no frame")
    pivot = cursor.byte() if refresh or kind in PICTURES else 0
    payload = cursor.take(cursor.number(LARGEST_INDEX if kind is Kind.INDEX else LARGEST_PAYLOAD))
    packet = Packet(kind, _unwrap(frame, near), payload, count, refresh, pivot)
    told = struct.unpack("<H", cursor.take(2))[0]
    if binascii.crc_hqx(data[at : cursor.at - 2], 0xFFFF) != told:
        raise ChecksumError(cursor.at - at)
    return packet, cursor.at


def _unwrap(frame: int, near: int) -> int:
    """The number nearest to `near` that is `frame` modulo 2^14."""
    moved = frame + (near - frame + _WRAP // 2) // _WRAP * _WRAP
    return moved if moved >= 0 else frame


@dataclasses.dataclass(frozen=True)
class Header:
    """What a receiver has to know before anything else.

    Attributes:
      width: of the frames to be shown, pixels.
      height: the same.
      rate: frames a second, (numerator, denominator).
      size: side of the square frames of the model.
      model: name of the model that draws, and its identity (eight bytes).
      model_identity: see `avfr_jax.codec.identity`.
      space: the kinds of motion, in order, and the identity of their numbers (`motion`), eight bytes.
      space_identity: of the shipped numbers that motion is stated in.
      components: numbers a frame, by kind of motion.
      steps: index of the quantiser's step, by kind of motion.
      slope: in 1/256, see `MotionFormat`.
      refresh: frames between two refreshes at most.
      sound: channels of the sound; 0 without sound.
      between: frames shown between two whose motion is sent, 0 to 3; the receiver makes them.
      adaptive: whether each refresh states its own precision.
      residual_codec: name of the model that codes residuals; "" where there are none.
      residual_codec_fingerprint: its, as `model_identity`.
    """

    width: int
    height: int
    rate: tuple[int, int]
    size: int
    model: str
    model_identity: bytes
    space: tuple[int, ...]
    space_identity: bytes
    components: tuple[int, ...]
    steps: tuple[int, ...]
    slope: int
    refresh: int
    sound: int = 0
    between: int = 0
    adaptive: bool = False
    residual_codec: str = ""
    residual_codec_fingerprint: bytes = b""

    def to_packet(self) -> Packet:
        """As a packet."""
        fields = [self.width, self.height, *self.rate, self.size]
        out = bytes([VERSION]) + b"".join(put_number(f) for f in fields)
        out += _put_name(self.model) + self.model_identity
        out += put_number(len(self.space)) + self.space_identity
        for kind, count, step in zip(self.space, self.components, self.steps, strict=True):
            out += bytes([kind]) + put_number(count) + bytes([step + 128])
        out += b"".join(put_number(f) for f in (self.slope, self.refresh, self.sound, self.between))
        out += bytes([self.adaptive])
        if self.residual_codec:
            out += _put_name(self.residual_codec) + self.residual_codec_fingerprint
        return Packet(Kind.HEADER, 0, out)

    @classmethod
    def of(cls, packet: Packet) -> "Header":
        """Read a header packet. Raises BitstreamError for one of another version, or with impossible values."""
        cursor = Cursor(packet.payload)
        version = cursor.byte()
        if version != VERSION:
            raise BitstreamError(f"the stream is of version {version}; this program reads version {VERSION}")
        width, height = cursor.number(LARGEST_SIDE), cursor.number(LARGEST_SIDE)
        rate = (cursor.number(), cursor.number())
        size = cursor.number(LARGEST_SIDE)
        model = _get_name(cursor)
        identity, parts, space_identity = cursor.take(8), cursor.number(4), cursor.take(8)
        kinds, counts, steps = [], [], []
        for _ in range(parts):
            kinds.append(cursor.byte())
            counts.append(cursor.number(1024))
            steps.append(cursor.byte() - 128)
        slope, refresh, sound = cursor.number(256), cursor.number(), cursor.number(2)
        between, adaptive = cursor.number(MOST_BETWEEN), cursor.byte()
        residual_codec, residual_codec_fingerprint = (
            (_get_name(cursor), cursor.take(8)) if cursor.at < len(cursor.data) else ("", b"")
        )
        if not (width and height and size >= 16 and rate[0] and rate[1] and parts and refresh):
            raise BitstreamError("the stream's header holds a zero where none can be")
        if adaptive > 1:
            raise BitstreamError("the stream's header does not say whether its precision changes")
        if not 1 <= rate[0] / rate[1] <= 240:
            raise BitstreamError(f"the stream has {rate[0]}/{rate[1]} frames a second; 1 to 240 can be shown")
        return cls(
            width, height, rate, size, model, identity, tuple(kinds), space_identity, tuple(counts),
            tuple(steps), slope, refresh, sound, between, bool(adaptive), residual_codec, residual_codec_fingerprint,
        )  # fmt: skip


def _put_name(name: str) -> bytes:
    """A model's name."""
    return put_number(len(name.encode())) + name.encode()


def _get_name(cursor: Cursor) -> str:
    """A model's name, which is no path. Raises BitstreamError for an impossible one."""
    try:
        name = cursor.take(cursor.number(255)).decode()
    except UnicodeDecodeError:
        raise BitstreamError("the name of the stream's model cannot be read") from None
    if not name.isprintable() or not name or name[0] == "." or "/" in name or "\\" in name:
        raise BitstreamError(f"the stream's model has an impossible name, {name!r}")
    return name


def write_stream(file: Any, packets: Iterable[Packet], length: Callable[[], int] | None = None) -> dict[Kind, int]:
    """Write a file: magic, packets, and an index: how many frames there are, and where its refreshes are (in very long
    files, some of them). Bytes by kind, the magic being the header's.

    Args:
      file: open for writing bytes.
      packets: the header first; where a call repeats it, a file does not.
      length: how many frames there were, asked for after the last packet; None takes those whose motion is sent.
    """
    written = dict.fromkeys(Kind, 0)
    at = file.write(MAGIC)
    written[Kind.HEADER] += at
    places: list[tuple[int, int]] = []
    frames = 0
    for packet in packets:
        if packet.kind is Kind.HEADER and written[Kind.HEADER] > len(MAGIC):
            continue
        data = packet.to_bytes()
        if packet.refresh:
            places.append((packet.frame, at))
            places = places[:: 1 + (len(places) > _ENTRIES)]
        if packet.kind is Kind.MOTION:
            frames = max(frames, packet.frame + packet.count)
        at += file.write(data)
        written[packet.kind] += len(data)
    index = Index(frames if length is None else max(frames, length()), places).to_packet().to_bytes()
    written[Kind.INDEX] += file.write(index + struct.pack("<I", len(index)))
    return written


class Index(NamedTuple):
    """What stands at the end of a file, when all of it is known.

    Attributes:
      frames: how many the clip has: up to here the last picture is held where the motion was lost.
      refreshes: frame and byte offset of each, in ascending order.
    """

    frames: int
    refreshes: list[tuple[int, int]]

    def to_packet(self) -> Packet:
        """As a packet."""
        out, last = put_number(self.frames) + put_number(len(self.refreshes)), (0, 0)
        for place in self.refreshes:
            out += put_number(place[0] - last[0]) + put_number(place[1] - last[1])
            last = place
        return Packet(Kind.INDEX, 0, out)


def read_index(data: bytes) -> Index:
    """A file's index, from its end. Raises BitstreamError where it has none."""
    if len(data) < len(MAGIC) + 4:
        raise BitstreamError("the stream has no index")
    length = struct.unpack("<I", data[-4:])[0]
    packet, end = read_packet(data, max(0, len(data) - 4 - length))
    if packet.kind is not Kind.INDEX or end != len(data) - 4:
        raise BitstreamError("the stream has no index")
    cursor, places, frame, offset = Cursor(packet.payload), [], 0, 0
    frames = cursor.number()
    for _ in range(cursor.number()):
        frame, offset = frame + cursor.number(), offset + cursor.number()
        places.append((frame, offset))
    return Index(frames, places)


def largest_length(size: int) -> int:
    """Frames that a file of so many bytes can have: what its reader draws or holds at most."""
    return _START + FRAMES_A_BYTE * size


@dataclasses.dataclass
class Damage:
    """What could not be read: bytes that were skipped in search of the next packet."""

    skipped: int = 0


_BEGINNING = re.compile(b"[\x00\x05]\x00\x01|[\x01-\x04\x82]", re.DOTALL)  # of a packet


def read_stream(data: bytes, damage: Damage | None = None) -> Iterator[Packet]:
    """The packets of a file, header first.

    Damaged ones are skipped, and so is motion of frames beyond `largest_length`. A file that was cut ends where it
    does, and so does one that was made so that the search for its packets would take forever.

    Raises:
      BitstreamError: at once, where the file does not begin as such a file does.
    """
    if not data.startswith(MAGIC):
        raise BitstreamError("this is not an .avfr file")
    damage = Damage() if damage is None else damage
    at, near, end = len(MAGIC), 0, len(data)
    patience = (
        _PATIENCE + _PATIENCE_EACH * end
    )  # work in vain, in bytes: a search must not take the square of the length
    while at < end:
        try:
            packet, after = read_packet(data, at, near)
            if packet.kind is Kind.MOTION and packet.frame + packet.count > largest_length(after):
                patience -= after - at
                raise BitstreamError("a motion packet is of frames that a stream so short cannot have come to")
        except BitstreamError as error:
            if at == len(MAGIC):
                raise
            patience -= _ATTEMPT + (error.length if isinstance(error, ChecksumError) else 0)
            if patience < 0:
                damage.skipped += end - at
                return
            found = _BEGINNING.search(data, at + 1)
            damage.skipped += (found.start() if found else end) - at
            at = found.start() if found else end
            continue
        at = after
        if packet.kind is Kind.INDEX:
            return
        if packet.kind is Kind.MOTION:
            near = packet.frame
        yield packet
