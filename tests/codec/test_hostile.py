"""Hostile streams: `benchmarks.fuzz_stream` in short, and the bounds of a reader."""

import io

import numpy as np
import pytest

from avfr_jax.codec.audio_coding import decode_sound
from avfr_jax.codec.bitstream import (
    LARGEST_PAYLOAD,
    LARGEST_RUN,
    MAGIC,
    REFERENCES,
    BitstreamError,
    Kind,
    Packet,
    ReferenceCoding,
    largest_run,
    padded,
    put_number,
)
from avfr_jax.codec.container import largest_length, read_index, read_stream
from avfr_jax.codec.files import Stream, decode_frames
from avfr_jax.codec.intra_coding import decode_image, encode_image
from avfr_jax.codec.receiver import Receiver
from benchmarks import fuzz_inputs, fuzz_stream


@pytest.fixture(scope="module")
def bases():
    made = fuzz_inputs.bases()
    forms = [[p.payload[1] for p in base.packets if p.kind in REFERENCES and p.payload[0] == 0] for base in made]
    assert forms[-2].count(ReferenceCoding.AV1_INTER) >= 3
    assert forms[-1].count(ReferenceCoding.RESIDUAL) >= 2
    return made


def test_mutated_streams_give_frames_or_a_clear_error(bases):
    numbers = [*range(0, 400, 3), *range(1000, 2201)]
    tallies, failures = fuzz_stream.run(numbers, 1, bases, fuzz_stream.render_stream, 5.0)
    assert failures == []
    assert len(tallies) == len(fuzz_inputs.CHEAP) + len(fuzz_inputs.COSTLY)
    for name, tally in tallies.items():
        assert tally.refused > 0, name
    assert sum(tally.frames > 0 for tally in tallies.values()) >= 7


def test_valid_streams_are_read(bases):
    """The mutations begin with whole streams."""
    for base in bases:
        stream = Stream.parse(base.data)
        assert (stream.frames, stream.skipped, stream.sound) == (24, 0, True)
        if not stream.template:
            assert len(list(decode_frames(base.data, receiver=_receiver(base)))) == 24
    assert sum(Stream.parse(base.data).template for base in bases) == 2


def _receiver(base) -> Receiver:
    return base.receiver()


def _counted(packets) -> int:
    base = fuzz_inputs.Base(packets, "keypoints")
    return sum(1 for _ in decode_frames(base.data, receiver=_receiver(base)))


def test_a_packet_states_no_more_frames_than_its_bytes_allow():
    assert [largest_run(n) for n in (0, 1, 10, 61, 1000)] == [8, 12, 48, LARGEST_RUN, LARGEST_RUN]
    for count, length in ((0, 9), (9, 0), (LARGEST_RUN + 1, 1000)):
        with pytest.raises(BitstreamError, match="cannot hold"):
            Packet(Kind.MOTION, 0, b"\0" * length, count)
    for count in (1, 8, 9, 125, LARGEST_RUN):
        assert largest_run(len(padded(b"", count))) >= count
        assert len(padded(b"", count)) <= -(-count // 4)
    with pytest.raises(BitstreamError, match="bytes"):
        Packet(Kind.SOUND, 0, b"\0" * (LARGEST_PAYLOAD + 1))


def test_frames_far_ahead_of_the_bytes_are_skipped(bases):
    """Eight thousand frames further with every packet."""
    base = bases[0]
    start = [p for p in base.packets if p.kind in (Kind.HEADER, Kind.PIVOT)]
    jumps = [Packet(Kind.MOTION, 8000 * i, b"x", 1, True, 0) for i in range(100)]
    data = fuzz_inputs.Base([*start, *jumps], "keypoints").data
    assert 8000 < _counted([*start, *jumps]) <= largest_length(len(data)) < 20_000


def test_the_last_frame_is_held_up_to_the_indexed_length(bases):
    base = bases[0]
    motions = [p for p in base.packets if p.kind is Kind.MOTION]
    data = bytearray(base.data)
    data[data.index(motions[-1].to_bytes()) + 5] ^= 1  # the last packet of motion is lost, the index is there
    assert read_index(bytes(data)).frames == 24
    assert sum(1 for _ in decode_frames(bytes(data), receiver=_receiver(base))) == 24
    cut = base.data[: base.data.index(motions[-1].to_bytes())]
    assert sum(1 for _ in decode_frames(cut, receiver=_receiver(base))) == motions[-1].frame


def test_a_repeated_pose_is_rendered_once(bases):
    rendered = []

    class Counting(fuzz_inputs.StandIn):
        def animate(self, source, source_keypoints, driving, mel=None):
            rendered.append(len(driving))
            return super().animate(source, source_keypoints, driving, mel)

    base = bases[0]
    packets = [p for p in base.packets if p.kind in (Kind.HEADER, Kind.PIVOT)]
    packets += [Packet(Kind.MOTION, 8 * i, b"", 8, i == 0) for i in range(40)]  # nothing but zeros
    receiver = Receiver(Counting("keypoints"))
    shown = np.stack(list(decode_frames(fuzz_inputs.Base(packets, "keypoints").data, receiver=receiver)))
    assert len(shown) == 320
    assert len(rendered) == 1
    assert (shown == shown[:1]).all()


def test_pivots_hold_one_image_of_the_stated_size():
    flat = np.full((64, 64, 3), 90, np.uint8)
    for form in (ReferenceCoding.AV1, ReferenceCoding.HEVC):
        with pytest.raises(BitstreamError, match="one image"):
            decode_image(encode_image(flat, form) * 2, form, 64)
        with pytest.raises(BitstreamError):
            decode_image(encode_image(np.full((512, 512, 3), 9, np.uint8), form), form, 64)
    from PIL import Image

    out = io.BytesIO()
    frames = [Image.fromarray(flat), Image.fromarray(flat // 2)]
    frames[0].save(out, "webp", save_all=True, append_images=frames[1:])
    with pytest.raises(BitstreamError, match="lossy WebP"):
        decode_image(out.getvalue(), ReferenceCoding.WEBP, 64)


def test_another_header_and_another_models_motion_are_refused(bases):
    mesh, points = (next(b for b in bases if b.motion == kind) for kind in ("mesh", "keypoints"))
    receiver = _receiver(points)
    receiver.push(points.packets[0])
    receiver.push(points.packets[0])
    with pytest.raises(BitstreamError, match="two headers"):
        receiver.push(mesh.packets[0])
    with pytest.raises(BitstreamError, match="not of the kind"):
        _receiver(points).push(mesh.packets[0])


def test_sound_is_no_longer_than_the_frames():
    hostile = [Packet(Kind.SOUND, 0, put_number((1 << 28) - 1) + b"\x01\xf8", 1)]
    assert list(decode_sound(hostile, 2.0)) == []
    late = [Packet(Kind.SOUND, 0, put_number(90) + b"\x01\xf8", 1)]
    assert sum(len(block) for block in decode_sound(late, 2.0)) == 91 * 960 - 312


def test_rubbish_is_read_through_quickly(bases):
    for rubbish in (b"\0" * 4_000_000, np.random.default_rng(0).bytes(1_000_000)):
        packets = list(read_stream(MAGIC + bases[0].packets[0].to_bytes() + rubbish + bases[0].packets[-1].to_bytes()))
        assert len(packets) == 2
