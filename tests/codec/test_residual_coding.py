"""Pivots that are told as repairs of what the receiver draws."""

import dataclasses
import io

import numpy as np
import pytest
from avfr_jax.codec.identity import model_identity
from avfr_jax.codec.spaces import space_of

from avfr_jax.codec.bitstream import BitstreamError, Header, Kind, Packet, write_stream
from avfr_jax.codec.intra_coding import ImageCodec
from avfr_jax.codec.pivots import PivotSettings
from avfr_jax.codec.receiver import Receiver
from avfr_jax.codec.residual_coding import REPAIRED, ResidualCoding, price_of
from avfr_jax.codec.sender import Sender, SenderSettings, send_all
from avfr_jax.codec.stream_statistics import describe_stream
from avfr_jax.errors import ConfigError
from avfr_jax.model_store import load_model
from avfr_jax.models.residual import ResidualConfig
from tests.codec.test_film import seen

SETTINGS = SenderSettings(quality=20, refresh=6, pivots=PivotSettings(angle=None, background=None, apart=0.1,
                                                                    excess=0.004, every=3))  # fmt: skip


class CellMeans:
    """A residual coder by hand: of each cell of 16 × 16 pixels the mean difference of each colour, by halving steps."""

    name = "super_resolution64"  # any model whose identity can be asked for
    config = ResidualConfig(image_size=256, fold=2, bits=12)
    steps = np.float32([24, 12, 6, 3])

    def encode(self, true, drawn):
        left = (true.astype(np.float32) - drawn).reshape(-1, 16, 16, 16, 16, 3).mean((2, 4))
        signs = []
        for step in self.steps:
            signs.append(np.where(left < 0, -1, 1))
            left = left - signs[-1] * step
        return np.concatenate(signs, -1).astype(np.int8)

    def decode(self, signs, drawn):
        moved = sum(signs[..., 3 * i : 3 * i + 3] * step for i, step in enumerate(self.steps))
        whole = moved.repeat(16, 1).repeat(16, 2)
        return np.clip(drawn + whole, 0, 255).round().astype(np.uint8)


CELL_MEANS = CellMeans()


def darkening(count=18):
    """A portrait over which a shadow falls: a warp cannot follow."""
    frame, mesh = next(seen())
    for i in range(count):
        lit = frame.astype(np.float32)
        lit[:, : 48 * (i // 6)] -= 30
        yield np.clip(lit, 0, 255).astype(np.uint8), mesh


def sent(settings=SETTINGS, residual_codec=CELL_MEANS):
    sender = Sender(load_model("landmark-warp"), settings, residual_codec=residual_codec)
    return sender, list(send_all(sender, darkening()))


@pytest.fixture(scope="module")
def call():
    return sent()


def received(packets):
    receiver = Receiver(find_residual_codec=lambda name: CELL_MEANS)
    for packet in packets:
        receiver.push(packet)
    return receiver


def forms(packets):
    return [p.payload[1] for p in packets if p.kind in (Kind.PIVOT, Kind.RESIDUAL) and p.payload[0] == 0]


def test_repairs_cost_less_than_pictures_and_come_back_bit_for_bit(call):
    sender, packets = call
    assert forms(packets)[0] == ImageCodec.AV1
    assert forms(packets).count(REPAIRED) >= 2
    assert {p.kind for p in packets if p.payload[:2] == bytes([0, REPAIRED])} >= {Kind.RESIDUAL}
    receiver = received(packets)
    assert receiver.received.broken == 0
    assert not receiver.received.missing_pivots
    for number, own in sender.pivots.items():
        there = receiver._pivots[number]
        np.testing.assert_array_equal(there.pose.mesh, own.pose.mesh)
        np.testing.assert_array_equal(np.asarray(there.encoded.image * 255 + 0.5).astype(np.uint8), own.image)
    _, others = sent(residual_codec=None)
    cost, alone = (sum(len(p.to_bytes()) for p in which if p.kind in (Kind.PIVOT, Kind.RESIDUAL) and p.pivot > 0)
                   for which in (packets, others))  # fmt: skip
    assert cost < 0.6 * alone


def test_repaired_frames_are_nearer_to_the_true_ones(call):
    truth = np.stack([frame for frame, _ in darkening()]).astype(float)
    shown = np.stack(list(received(call[1]).draw(18)))
    first_alone = [p for p in call[1] if p.kind is not Kind.RESIDUAL]
    unmended = np.stack(list(received(first_alone).draw(18)))
    assert np.abs(shown - truth)[-3:].mean() < 0.6 * np.abs(unmended - truth)[-3:].mean()


def test_a_lost_repair_is_asked_for_and_what_is_told_from_it_waits(call):
    sender, packets = call
    lost = next(p.pivot for p in packets if p.kind is Kind.RESIDUAL)
    receiver = received([p for p in packets if p.kind is not Kind.RESIDUAL or p.pivot != lost])
    assert lost in receiver.received.missing_pivots
    assert len(list(receiver.draw(18))) == 18
    for packet in sender.repeat(lost):
        receiver.push(packet)
    assert lost in receiver._pivots
    assert not receiver.received.missing_pivots


def test_after_a_repair_that_is_gone_a_picture_stands_by_itself():
    sender = Sender(load_model("landmark-warp"), SETTINGS, residual_codec=CELL_MEANS)
    frames = list(darkening())
    packets = [p for frame in frames[:9] for p in sender.push(*frame)]
    assert forms(packets)[-1] == REPAIRED
    assert sender.repeat(200) == []
    packets = [p for frame in frames[9:] for p in sender.push(*frame)]
    assert forms(packets)[0] == ImageCodec.AV1


def test_only_what_is_worth_its_bits_is_sent():
    model = load_model("landmark-warp")
    repairs = ResidualCoding(model, CELL_MEANS, space_of(model))
    drawn = next(darkening())[0]
    frame = drawn.astype(int)
    frame[:32, :32] += 20
    frame = np.clip(frame, 0, 255).astype(np.uint8)
    data, image = repairs.write(frame, drawn, price_of(40))
    np.testing.assert_array_equal(repairs.read(data, drawn), image)
    np.testing.assert_array_equal(image[40:], drawn[40:])
    assert np.abs(image[:32, :32].astype(int) - frame[:32, :32]).mean() < 8
    nothing, same = repairs.write(frame, drawn, 1.0)
    assert nothing == b""
    np.testing.assert_array_equal(same, drawn)
    assert price_of(0) > 2 * price_of(100)
    assert len(data) < 60


def test_a_file_says_who_repairs(call):
    file = io.BytesIO()
    write_stream(file, call[1])
    facts = describe_stream(file.getvalue())
    assert facts["residual_codec"].startswith("super_resolution64 (")
    assert "residual packets" in facts
    header = Header.of(call[1][0])
    assert (header.residual_codec, header.residual_codec_fingerprint) == (
        "super_resolution64",
        model_identity("super_resolution64"),
    )
    assert Header.of(header.to_packet()) == header
    plain = dataclasses.replace(header, residual_codec="", residual_codec_fingerprint=b"")
    assert Header.of(plain.to_packet()) == plain


def test_what_cannot_be_repaired_is_refused(call):
    other = CellMeans()
    other.config = ResidualConfig(image_size=128, fold=2)
    with pytest.raises(ConfigError, match="repairs frames of 128 × 128, and landmark-warp draws 256 × 256"):
        sent(residual_codec=other)
    with pytest.raises(ConfigError, match="a film tells its pictures in its own way"):
        Sender(load_model("landmark-warp"), dataclasses.replace(SETTINGS, film=True), residual_codec=CELL_MEANS)
    header = Header.of(call[1][0])
    strange = dataclasses.replace(header, residual_codec_fingerprint=bytes(8))
    with pytest.raises(ConfigError, match="made for another super_resolution64"):
        received([strange.to_packet()])
    with pytest.raises(BitstreamError, match="impossible name"):
        Header.of(dataclasses.replace(header, residual_codec="../x").to_packet())
    silent = dataclasses.replace(header, residual_codec="", residual_codec_fingerprint=b"").to_packet()
    with pytest.raises(BitstreamError, match="its header names no model that makes them"):
        received([silent, *(p for p in call[1] if p.kind is not Kind.HEADER)])
    first = next(p for p in call[1] if p.kind is Kind.RESIDUAL)
    receiver = received([p for p in call[1] if p.kind is not Kind.RESIDUAL])
    with pytest.raises(BitstreamError, match="200 maps; there are 12"):
        receiver.push(Packet(Kind.RESIDUAL, first.frame, bytes([0, REPAIRED, 0, 2, 200, 9]), 1, False, first.pivot))
