import dataclasses
import io
import time

import pytest

from avfr_jax.codec.bitstream import LARGEST_PAYLOAD, MAGIC, BitstreamError, Kind, Packet, put_number, read_packet
from avfr_jax.codec.container import Damage, read_index, read_stream, write_stream
from avfr_jax.codec.header import Header, PartHeader
from avfr_jax.codec.receiver import Receiver

HEADER = Header(640, 480, (25, 1), 256, "x", b"12345678", (PartHeader(1, 32, 14),), b"abcdefgh", 64, 250, 1)


def _stream(packets=()) -> bytes:
    file = io.BytesIO()
    write_stream(file, [HEADER.to_packet(), *packets])
    return file.getvalue()


PACKETS = [
    Packet(Kind.PIVOT, 0, b"\x00picture", count=1, pivot=0),
    Packet(Kind.MOTION, 0, b"first", count=10, refresh=True, pivot=0),
    Packet(Kind.SOUND, 5, b"sound", count=25),
    Packet(Kind.MOTION, 10, b"second", count=10),
    Packet(Kind.MOTION, 20000, b"late", count=10, refresh=True, pivot=3),
]


def test_the_index_finds_every_refresh():
    data = _stream(PACKETS)
    assert read_index(data).frames == 20010
    for frame, offset in read_index(data).refreshes:
        packet, _ = read_packet(data, offset, near=frame)
        assert packet.refresh
        assert packet.frame == frame
    with pytest.raises(BitstreamError):
        read_index(data[:-6])


def test_frame_numbers_wrap():
    motions = [Packet(Kind.MOTION, f, b"x" * 25, count=100, refresh=True) for f in range(0, 60000, 100)]
    assert [p.frame for p in read_stream(_stream(motions))][1:] == list(range(0, 60000, 100))


def test_every_truncation_gives_a_beginning_or_an_error():
    data = _stream(PACKETS)
    whole = list(read_stream(data))
    for length in range(len(data)):
        try:
            packets = list(read_stream(data[:length]))
        except BitstreamError:
            assert length < len(MAGIC) + len(HEADER.to_packet().to_bytes())
            continue
        assert packets == whole[: len(packets)]


def test_a_damaged_packet_is_skipped_and_those_after_it_are_read():
    data = bytearray(_stream(PACKETS))
    at = data.index(b"first")
    data[at] ^= 0x40
    damage = Damage()
    packets = list(read_stream(bytes(data), damage))
    assert damage.skipped > 0
    assert [p.payload for p in packets[1:]] == [b"\x00picture", b"sound", b"second", b"late"]


def test_the_search_for_packets_is_bounded():
    """Every byte begins what might be a packet of megabytes, whose checksum has to be tried."""
    bait = bytes([Kind.SOUND]) + put_number(0) + put_number(1) + put_number(LARGEST_PAYLOAD)
    data = MAGIC + HEADER.to_packet().to_bytes() + bait * 100_000
    damage = Damage()
    start = time.process_time()
    packets = list(read_stream(data, damage))
    assert time.process_time() - start < 10
    assert len(packets) <= 2
    assert damage.skipped > len(bait) * 90_000


def test_what_is_no_stream_is_refused():
    with pytest.raises(BitstreamError, match=r"not an \.avfr file"):
        list(read_stream(b"RIFF"))
    with pytest.raises(BitstreamError):
        list(read_stream(MAGIC + b"\x77"))


def test_headers_with_impossible_values_are_refused():
    for change in ({"width": 0}, {"rate": (0, 1)}, {"rate": (100000, 1)}, {"size": 0}, {"refresh": 0}):
        with pytest.raises(BitstreamError):
            Header.from_packet(dataclasses.replace(HEADER, **change).to_packet())
    payload = HEADER.to_packet().payload
    with pytest.raises(BitstreamError, match="version 9"):
        Header.from_packet(Packet(Kind.HEADER, 0, b"\x09" + payload[1:]))
    with pytest.raises(BitstreamError, match="scale of zero"):
        Header.from_packet(dataclasses.replace(HEADER, parts=(PartHeader(4, 3, 0, "x", 0),)).to_packet())
    with pytest.raises(BitstreamError, match="no entropy coder 7"):
        Receiver(rendering=False).push(dataclasses.replace(HEADER, entropy_coder=7).to_packet())
    with pytest.raises(BitstreamError):
        Header.from_packet(Packet(Kind.HEADER, 0, payload[:10]))


def test_a_packet_that_states_a_huge_size_is_refused():
    claimed = bytes([Kind.SOUND]) + put_number(0) + put_number(1) + put_number(LARGEST_PAYLOAD + 1)
    with pytest.raises(BitstreamError, match="above"):
        read_packet(claimed + b"x" * 10)
