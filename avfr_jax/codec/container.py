"""`.avfr` files: magic, packets, and an index at the end."""

import dataclasses
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from avfr_jax.codec.bitstream import (
    FRAMES_PER_BYTE,
    MAGIC,
    BitstreamError,
    ChecksumError,
    Cursor,
    Kind,
    Packet,
    put_number,
    read_packet,
)

_START = 1 << 13  # frames that a file may begin with before it has any bytes
_ENTRIES = 1 << 16  # of an index
_SEARCH, _SEARCH_PER_BYTE, _ATTEMPT = 1 << 26, 128, 1024  # bytes of work in the search for packets
_PACKET_START = re.compile(b"[\x00\x05]\x00\x01|[\x01-\x04\x82]", re.DOTALL)


class Index(NamedTuple):
    """The last packet of a file.

    Attributes:
      frames: of the clip: up to here the last frame is held where the motion was lost.
      refreshes: frame and byte offset of each, in ascending order.
    """

    frames: int
    refreshes: list[tuple[int, int]]

    def to_packet(self) -> Packet:
        """Serialise as an index packet."""
        out, last = put_number(self.frames) + put_number(len(self.refreshes)), (0, 0)
        for place in self.refreshes:
            out += put_number(place[0] - last[0]) + put_number(place[1] - last[1])
            last = place
        return Packet(Kind.INDEX, 0, out)


@dataclasses.dataclass
class Damage:
    """Bytes that were skipped in search of the next packet."""

    skipped: int = 0


def largest_length(size: int) -> int:
    """Frames that a file of so many bytes can have."""
    return _START + FRAMES_PER_BYTE * size


def write_stream(file: Any, packets: Iterable[Packet], length: Callable[[], int] | None = None) -> dict[Kind, int]:
    """Write a file: magic, packets, and an index of its refreshes (in very long files, of some of them).

    Args:
      file: open for writing bytes.
      packets: the header first; repeated headers are left out.
      length: the clip's number of frames, called after the last packet; None counts those whose motion is sent.

    Returns:
      Bytes by kind of packet; the magic counts as header.
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


def read_stream(data: bytes, damage: Damage | None = None) -> Iterator[Packet]:
    """The packets of a file, header first, without the index.

    Damaged packets are skipped, and so is motion of frames beyond `largest_length`. A truncated file ends where it
    does, and so does one in which the search for packets exceeds a bound that is linear in its length.

    Raises:
      BitstreamError: on the first packet, where the file does not begin with magic and header.
    """
    if not data.startswith(MAGIC):
        raise BitstreamError("this is not an .avfr file")
    damage = Damage() if damage is None else damage
    at, near, end = len(MAGIC), 0, len(data)
    budget = _SEARCH + _SEARCH_PER_BYTE * end
    while at < end:
        try:
            packet, after = read_packet(data, at, near)
            if packet.kind is Kind.MOTION and packet.frame + packet.count > largest_length(after):
                budget -= after - at
                raise BitstreamError("a motion packet is of frames that a stream so short cannot have come to")
        except BitstreamError as error:
            if at == len(MAGIC):
                raise
            budget -= _ATTEMPT + (error.length if isinstance(error, ChecksumError) else 0)
            if budget < 0:
                damage.skipped += end - at
                return
            match = _PACKET_START.search(data, at + 1)
            damage.skipped += (match.start() if match else end) - at
            at = match.start() if match else end
            continue
        at = after
        if packet.kind is Kind.INDEX:
            return
        if packet.kind is Kind.MOTION:
            near = packet.frame
        yield packet
