"""Every writer of the bitstream against its reader, over generated values."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from avfr_jax.codec.bitstream import (
    MAX_SKIPPED,
    REFERENCES,
    BitstreamError,
    Cursor,
    Kind,
    Packet,
    largest_run,
    padded,
    put_number,
    read_packet,
)
from avfr_jax.codec.container import Index, read_index, read_stream, write_stream
from avfr_jax.codec.entropy import RANGE_CODER, entropy_coder
from avfr_jax.codec.header import Header, PartHeader
from avfr_jax.codec.mesh_basis import shipped
from avfr_jax.codec.motion import LARGEST, MotionFormat, MotionReader, MotionWriter, Precision, step_of
from avfr_jax.codec.motion_space import motion_of, pose_of, space_from, space_of, stack
from avfr_jax.codec.range_coder import HALF, Reader, Writer, get_bit, get_even, put_bit, put_even
from avfr_jax.codec.residual_signs import get_signs, put_signs
from avfr_jax.landmarks import normalise_landmarks
from avfr_jax.motion import FaceMeshSpec, HeadSpec, KeypointSpec, MeshKeypointSpec

FEW = settings(max_examples=40, deadline=None)
numbers = st.integers(0, (1 << 28) - 1)
names = st.text(st.characters(categories=("L", "N"), include_characters=" -_"), min_size=1, max_size=20).filter(
    str.isprintable
)
eight = st.binary(min_size=8, max_size=8)


@given(numbers)
def test_numbers(value):
    data = put_number(value)
    cursor = Cursor(data)
    assert (cursor.number(), cursor.at) == (value, len(data))


@st.composite
def packets(draw, kinds=tuple(Kind)):
    kind = draw(st.sampled_from(kinds))
    payload = draw(st.binary(max_size=300))
    if kind in (Kind.HEADER, Kind.INDEX):
        return Packet(kind, 0, payload)
    count = draw(st.integers(1, largest_run(len(payload)) if kind is Kind.MOTION else 1 << 20))
    refresh = kind is Kind.MOTION and draw(st.booleans())
    pivot = draw(st.integers(0, 255)) if refresh or kind in REFERENCES else 0
    return Packet(kind, draw(st.integers(0, 1 << 20)), payload, count, refresh, pivot)


@given(packets(), st.integers(-8000, 8000), st.binary(max_size=5))
def test_packets(packet, off, before):
    data = packet.to_bytes()
    near = max(0, packet.frame + off) if packet.frame else 0
    assert read_packet(before + data + b"rest", len(before), near) == (packet, len(before) + len(data))
    broken = bytearray(data)
    broken[len(data) // 2] ^= 1
    with pytest.raises(BitstreamError):
        read_packet(bytes(broken) + bytes(1 << 16), 0, near)


@given(st.binary(max_size=70), st.integers(1, 250))
def test_padding_allows_the_count(payload, count):
    long = padded(payload, count)
    assert long.startswith(payload)
    assert largest_run(len(long)) >= count


@st.composite
def headers(draw):
    sides = st.integers(1, 4096)
    size = st.integers(1, 1024)
    steps = st.integers(-128, 127)
    scales = st.integers(1, 1 << 20).map(lambda scale: scale / 256)
    plain = st.tuples(st.integers(1, 3), size, steps).map(lambda part: PartHeader(*part))
    named = st.tuples(st.integers(4, 5), size, steps, names, scales).map(lambda part: PartHeader(*part))
    codec = draw(st.one_of(st.just(("", b"")), st.tuples(names, eight)))
    return Header(
        draw(sides), draw(sides), (draw(st.integers(1, 60)), 1), draw(st.integers(16, 4096)), draw(names), draw(eight),
        tuple(draw(st.lists(st.one_of(plain, named), min_size=1, max_size=4))), draw(eight),
        draw(st.integers(0, 256)), draw(st.integers(1, 1 << 13)), draw(st.integers(0, 1)),
        draw(st.integers(0, MAX_SKIPPED)), draw(st.booleans()), *codec, draw(st.integers(0, 255)),
    )  # fmt: skip


@given(headers())
def test_headers(header):
    packet = header.to_packet()
    assert Header.from_packet(packet) == header
    named = any(part.kind > 3 for part in header.parts)
    assert packet.payload[0] == header.version == (2 if named or header.entropy_coder else 1)


@FEW
@given(headers(), st.lists(packets([Kind.PIVOT, Kind.MOTION, Kind.SOUND, Kind.RESIDUAL]), max_size=8), st.data())
def test_files(header, body, data):
    frame = 0
    for i, packet in enumerate(body):  # a file's frames go up by less than half of what numbers are written modulo
        frame += data.draw(st.integers(0, 400))
        body[i] = Packet(packet.kind, frame, packet.payload, packet.count, packet.refresh, packet.pivot)
    file = io.BytesIO()
    sizes = write_stream(file, [header.to_packet(), *body], lambda: frame)
    assert sum(sizes.values()) == len(file.getvalue())
    assert list(read_stream(file.getvalue())) == [header.to_packet(), *body]
    index = read_index(file.getvalue())
    assert index.frames >= frame
    refreshes = [packet for packet in body if packet.refresh]
    assert [read_packet(file.getvalue(), offset, near)[0] for near, offset in index.refreshes] == refreshes


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), max_size=20), numbers)
def test_indices(steps, frames):
    places = np.cumsum(np.array(steps, np.int64).reshape(-1, 2), 0).tolist()
    index = Index(frames, [(frame, offset) for frame, offset in places])
    data = index.to_packet().to_bytes()
    assert read_index(b"12345678" + data + len(data).to_bytes(4, "little")) == index


@FEW
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 31)), max_size=300))
def test_range_coder_bits(symbols):
    def contexts():
        return np.full(4, HALF, np.uint16), np.zeros(4, np.uint8)

    writer, own = Writer(), contexts()
    writer.reserve(8 * len(symbols))
    for context, bit, even in symbols:
        put_bit(writer.registers, writer.out, *own, context, int(bit))
        put_even(writer.registers, writer.out, even, 5)
    reader, own = Reader(writer.finish()), contexts()
    for context, bit, even in symbols:
        assert get_bit(reader.registers, reader.data, *own, context) == bit
        assert get_even(reader.registers, reader.data, 5) == even


symbols = st.one_of(st.integers(-2, 2), st.integers(-40, 40), st.integers(-(1 << 20), 1 << 20))


@FEW
@given(arrays(np.int64, st.tuples(st.integers(1, 12), st.just(6)), elements=symbols), st.integers(-20, 80), st.data())
def test_vectors_and_bits(values, level, data):
    levels = np.full(6, level)
    even = [data.draw(st.integers(0, 1023)) for _ in values]
    writer, contexts = RANGE_CODER.writer(), RANGE_CODER.contexts(levels)
    for vector, number in zip(values, even, strict=True):
        writer.put_vector(contexts, vector)
        writer.put_bits(number, 10)
    reader, contexts = entropy_coder(RANGE_CODER.id).reader(writer.finish()), RANGE_CODER.contexts(levels)
    for vector, number in zip(values, even, strict=True):
        np.testing.assert_array_equal(reader.get_vector(contexts), vector)
        assert reader.get_bits(10) == number


@FEW
@given(st.binary(max_size=60))
def test_any_bytes_decode(data):
    reader, contexts = RANGE_CODER.reader(data), RANGE_CODER.contexts(np.full(8, 30))
    assert all(np.abs(reader.get_vector(contexts)).max() < 1 << 22 for _ in range(10))
    motion = MotionReader(_form(8, 0, 64, True)).get(RANGE_CODER.reader(data))
    assert np.isfinite(motion).all()
    assert set(np.unique(get_signs(bytes([8]) + data, 16, 32))) <= {-1, 0, 1}
    for spec in (FaceMeshSpec(), HeadSpec(3)):
        assert all(np.isfinite(part).all() for part in space_of(spec).get_pivot(data).values())


def _form(count, step, slope, adaptive):
    rank = np.array([*range(count - 2), -1, -1])
    levels = np.stack([np.full(count, 36), np.full(count, 28)])
    return MotionFormat(levels, np.full(count, step), slope, rank, adaptive)


@FEW
@given(
    arrays(np.float64, st.tuples(st.integers(1, 20), st.just(6)), elements=st.floats(-1e4, 1e4)),
    st.integers(-20, 40),
    st.integers(0, 256),
    st.sampled_from([None, Precision(-20, 64), Precision(8, 4), Precision(31, 12)]),
    st.integers(1, 20),
)
def test_motion(motion, step, slope, precision, refresh):
    """Encoder and decoder hold the same numbers, within the quantiser's error of the true ones."""
    form = _form(6, step, slope, precision is not None)
    encoder, decoder, writer = MotionWriter(form, 0.25), MotionReader(form), RANGE_CODER.writer()
    held = []
    for i, vector in enumerate(motion):
        if i % refresh == 0:
            encoder.refresh(precision or Precision())
        held.append(encoder.put(writer, vector))
    reader = RANGE_CODER.reader(writer.finish())
    for i, vector in enumerate(held):
        if i % refresh == 0:
            decoder.refresh()
        np.testing.assert_array_equal(decoder.get(reader), vector)
    coded = slice(None) if precision is None or precision.components > 4 else slice(4, None)
    width = step_of(step + (precision.offset if precision else 0))
    clipped = np.clip(motion, -LARGEST * width, LARGEST * width)
    assert np.abs(np.stack(held) - clipped)[:, coded].max() <= 0.751 * width + 1e-3


@FEW
@given(st.integers(0, 32), arrays(bool, (16, 16)), st.integers(0, 1 << 20))
def test_residual_signs(maps, sent, seed):
    signs = np.random.default_rng(seed).choice(np.int8([-1, 1]), (16, 16, 32))
    signs[~sent] = 0
    signs[..., maps:] = 0
    coded = put_signs(signs)
    np.testing.assert_array_equal(get_signs(coded, 16, 32), signs)
    assert len(coded) <= np.count_nonzero(signs) * 1.2 / 8 + 40  # random signs are incompressible, and hardly grow


@pytest.mark.parametrize("spec", [FaceMeshSpec(), KeypointSpec(3), KeypointSpec(2, False), KeypointSpec(2, False, 3),
                                  MeshKeypointSpec(2), HeadSpec(4)], ids=str)  # fmt: skip
def test_spaces(spec):
    """Poses of pivots and motion from them, through the header's description of the space."""
    rng = np.random.default_rng(0)
    space = space_of(spec, 48)
    parts = space.headers(2, 2)
    other = space_from([Header.from_packet(_header(parts)).parts[i] for i in range(len(parts))])
    assert other.drives(spec)
    assert other.identity == space.identity
    poses = []
    for _ in range(2):
        pose = {c.name: rng.uniform(-0.9, 0.9, c.shape).astype(np.float32) for c in spec.components}
        if "mesh" in pose:
            mesh = shipped().mean + rng.normal(size=(478, 3)) * 0.5 + rng.uniform(-9, 9, (1, 3))
            pose["mesh"] = normalise_landmarks(mesh, 256, 256).astype(np.float32)
        poses.append(pose)
    pivot = other.get_pivot(space.put_pivot(poses[0]))
    moved = other.get_pivot(space.put_pivot(poses[1], pivot), pivot)
    at = other.pose_at(pivot, space.vector(poses[1], pivot))
    for c in spec.components:
        step = (0.51 if c.name == "mesh" else 1 / 16) / c.scale
        first, second = (pose[c.name].reshape(pivot[c.name].shape) for pose in poses)
        assert np.abs(pivot[c.name] - first)[..., :2].max() <= step + 1e-6, c.name
        if c.name == "mesh":
            assert np.abs(moved["mesh"] - second)[:, :2].mean() < 2 / 128
        else:
            assert np.abs(moved[c.name] - second).max() <= step + 1e-6
            np.testing.assert_allclose(at[c.name], second, atol=1e-5)
    if not spec.needs_source:
        again = pose_of(spec, motion_of(spec, stack(poses[1])))
        for name, value in poses[1].items():
            np.testing.assert_allclose(again[name], value, atol=1e-6)


def _header(parts):
    return Header(8, 8, (25, 1), 32, "x", bytes(8), parts, bytes(8), 0, 1).to_packet()
