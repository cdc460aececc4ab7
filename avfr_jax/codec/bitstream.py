"""Packets of the `.avfr` bitstream, each readable by itself; `docs/bitstream.md` states it byte by byte.

A file is the magic and then packets, the first of them a header; a call sends the same packets as datagrams, which may
be lost or reordered. Nothing here depends on the kind of motion.
"""

import binascii
import dataclasses
import enum
import struct

from avfr_jax.errors import InputError

MAGIC = b"AVFR\x0d\x0a\x1a\x0a"
LARGEST_PAYLOAD = 1 << 16
"""Bytes of one packet: bounds a reader's memory, whatever the stream states."""
LARGEST_INDEX = 1 << 20
"""The same for an index, which has an entry for every refresh of a file."""
LARGEST_RUN = 250
"""Frames of motion in one packet."""
LARGEST_SIDE = 4096
MAX_SKIPPED = 3
"""Frames between two that are sent, at most."""
KEPT = 8
"""Reference frames that a sender may go back to."""
MAX_PARTS = 256
"""Parts of a reference frame, at most."""
FRAMES_PER_BYTE = 4
_FRAMES_BESIDE = 8  # in a packet without any payload
_WRAP = 1 << 14  # frame numbers are written modulo this


class BitstreamError(InputError):
    """A stream that is cut, damaged, or of another version."""


class ChecksumError(BitstreamError):
    """A packet whose checksum is wrong.

    Attributes:
      length: bytes that were summed.
    """

    def __init__(self, length: int) -> None:
        super().__init__("a packet's checksum is wrong: the stream was damaged")
        self.length = length


class Kind(enum.IntEnum):
    """Kinds of packets."""

    HEADER = 0
    PIVOT = 1
    MOTION = 2
    SOUND = 3
    RESIDUAL = 4
    INDEX = 5


class ReferenceCoding(enum.IntEnum):
    """How a reference frame (pivot) is coded; the number stands in the bitstream.

    `WEBP`, `AV1` and `HEVC` are intra-coded images; `NONE` has no image (a template); `AV1_INTER` is predicted from the
    reference frame before it in the same AV1 sequence; `RESIDUAL` is another one, animated, plus a coded residual.
    """

    WEBP = 0
    AV1 = 1
    HEVC = 2
    NONE = 3
    AV1_INTER = 4
    RESIDUAL = 5

    @property
    def predicted(self) -> bool:
        """Whether it depends on another reference frame."""
        return self in (ReferenceCoding.AV1_INTER, ReferenceCoding.RESIDUAL)


REFERENCES = (Kind.PIVOT, Kind.RESIDUAL)
"""Packets that hold the parts of a reference frame."""


@dataclasses.dataclass(frozen=True)
class Packet:
    """One packet.

    Attributes:
      kind: of its content.
      frame: number of the first frame it belongs to.
      payload: its content.
      count: frames (motion), Opus packets (sound), parts of a reference frame (pivot, residual).
      refresh: motion that can be decoded without the packets before it.
      pivot: number of a reference frame, 0 to 255: of a refresh, the one it moves; of a pivot or residual, its own.

    Raises:
      BitstreamError: more than a packet of its kind can hold.
    """

    kind: Kind
    frame: int
    payload: bytes
    count: int = 1
    refresh: bool = False
    pivot: int = 0

    def __post_init__(self) -> None:
        if self.kind is Kind.MOTION and not 1 <= self.count <= largest_run(len(self.payload)):
            raise BitstreamError(f"a motion packet of {len(self.payload)} bytes cannot hold {self.count} frames")
        if len(self.payload) > (LARGEST_INDEX if self.kind is Kind.INDEX else LARGEST_PAYLOAD):
            raise BitstreamError(f"a packet cannot hold {len(self.payload)} bytes")

    @property
    def coding(self) -> int | None:
        """`ReferenceCoding` of a reference frame, where the packet is the first part of one; else None."""
        first = self.kind in REFERENCES and len(self.payload) >= 2 and self.payload[0] == 0
        return self.payload[1] if first else None

    def end(self, skipped: int) -> int:
        """Of motion: the number after its last frame's, with so many frames skipped between two that are sent."""
        return self.frame + (self.count - 1) * (skipped + 1) + 1

    def to_bytes(self) -> bytes:
        """Serialise, checksum included."""
        head = bytes([int(self.kind) | (0x80 if self.refresh else 0)]) + put_number(self.frame % _WRAP)
        head += put_number(self.count)
        if self.refresh or self.kind in REFERENCES:
            head += bytes([self.pivot])
        body = head + put_number(len(self.payload)) + self.payload
        return body + struct.pack("<H", binascii.crc_hqx(body, 0xFFFF))


def largest_run(length: int) -> int:
    """Frames of motion that a payload of so many bytes may state: a few bytes must not request hours of rendering."""
    return min(LARGEST_RUN, _FRAMES_BESIDE + FRAMES_PER_BYTE * length)


def padded(payload: bytes, count: int) -> bytes:
    """Pad motion with the zero bytes that `count` frames need under `largest_run`; they decode as before."""
    return payload.ljust(-(-(count - _FRAMES_BESIDE) // FRAMES_PER_BYTE), b"\0")


def put_number(value: int) -> bytes:
    """Encode an integer from 0 up as LEB128: seven bits a byte, the lowest first."""
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
        """The inverse of `put_number`."""
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
    """Parse the packet at an offset; the packet and the offset of the next.

    Args:
      data: the stream.
      at: offset of the packet.
      near: a frame number near the packet's: numbers are written modulo 2^14.

    Raises:
      BitstreamError: the bytes there are not a packet, or a damaged one.
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
    pivot = cursor.byte() if refresh or kind in REFERENCES else 0
    payload = cursor.take(cursor.number(LARGEST_INDEX if kind is Kind.INDEX else LARGEST_PAYLOAD))
    packet = Packet(kind, _unwrap(frame, near), payload, count, refresh, pivot)
    stated = struct.unpack("<H", cursor.take(2))[0]
    if binascii.crc_hqx(data[at : cursor.at - 2], 0xFFFF) != stated:
        raise ChecksumError(cursor.at - at)
    return packet, cursor.at


def _unwrap(frame: int, near: int) -> int:
    """The number nearest to `near` that is `frame` modulo 2^14."""
    moved = frame + (near - frame + _WRAP // 2) // _WRAP * _WRAP
    return moved if moved >= 0 else frame
