"""Residual-coded reference frames."""

import dataclasses
import io

import numpy as np
import pytest

from avfr_jax.codec.bitstream import BitstreamError, Kind, Packet, ReferenceCoding
from avfr_jax.codec.container import write_stream
from avfr_jax.codec.header import Header
from avfr_jax.codec.receiver import Receiver
from avfr_jax.codec.residual_coding import ResidualCoding, lagrange_multiplier
from avfr_jax.codec.sender import Sender, send_all
from avfr_jax.codec.settings import SenderSettings
from avfr_jax.codec.stream_statistics import describe_stream
from avfr_jax.errors import ConfigError
from avfr_jax.model_store import load_model
from avfr_jax.models.residual import ResidualConfig
from tests.codec.test_inter_coding import PIVOTS, seen

SETTINGS = SenderSettings(quality=20, refresh=6, pivots=PIVOTS)


class CellMeans:
    """A residual codec of the mean difference of each colour of 16 × 16 cells, by halving steps."""

    name, fingerprint = "cell-means", b"cellmean"
    config = ResidualConfig(image_size=256, fold=2, bits=12)
    steps = np.float32([24, 12, 6, 3])

    def encode(self, true, rendered):
        left = (true.astype(np.float32) - rendered).reshape(-1, 16, 16, 16, 16, 3).mean((2, 4))
        signs = []
        for step in self.steps:
            signs.append(np.where(left < 0, -1, 1))
            left = left - signs[-1] * step
        return np.concatenate(signs, -1).astype(np.int8)

    def decode(self, signs, rendered):
        moved = sum(signs[..., 3 * i : 3 * i + 3] * step for i, step in enumerate(self.steps))
        whole = moved.repeat(16, 1).repeat(16, 2)
        return np.clip(rendered + whole, 0, 255).round().astype(np.uint8)


CELL_MEANS = CellMeans()


def darkening(count=18):
    """A portrait under a growing shadow, which no warp can follow."""
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
    receiver = Receiver(residual_codec=CELL_MEANS)
    for packet in packets:
        receiver.push(packet)
    return receiver


def forms(packets):
    return [p.payload[1] for p in packets if p.kind in (Kind.PIVOT, Kind.RESIDUAL) and p.payload[0] == 0]


def test_residuals_cost_less_than_images_and_come_back_bit_for_bit(call):
    sender, packets = call
    assert forms(packets)[0] == ReferenceCoding.AV1
    assert forms(packets).count(ReferenceCoding.RESIDUAL) >= 2
    assert {p.kind for p in packets if p.payload[:2] == bytes([0, ReferenceCoding.RESIDUAL])} >= {Kind.RESIDUAL}
    receiver = received(packets)
    assert receiver.received.broken == 0
    assert not receiver.received.missing_pivots
    for number, own in sender.pivots.items():
        there = receiver._references.kept[number]
        np.testing.assert_array_equal(there.pose["mesh"], own.pose["mesh"])
        np.testing.assert_array_equal(np.asarray(there.encoded.image * 255 + 0.5).astype(np.uint8), own.image)
    _, others = sent(residual_codec=None)
    cost, alone = (sum(len(p.to_bytes()) for p in which if p.kind in (Kind.PIVOT, Kind.RESIDUAL) and p.pivot > 0)
                   for which in (packets, others))  # fmt: skip
    assert cost < 0.6 * alone


def test_residuals_reduce_the_distortion(call):
    truth = np.stack([frame for frame, _ in darkening()]).astype(float)
    shown = np.stack(list(received(call[1]).render(18)))
    first_alone = [p for p in call[1] if p.kind is not Kind.RESIDUAL]
    unmended = np.stack(list(received(first_alone).render(18)))
    assert np.abs(shown - truth)[-3:].mean() < 0.6 * np.abs(unmended - truth)[-3:].mean()


def test_a_lost_residual_is_requested_and_those_that_depend_on_it_wait(call):
    sender, packets = call
    lost = next(p.pivot for p in packets if p.kind is Kind.RESIDUAL)
    receiver = received([p for p in packets if p.kind is not Kind.RESIDUAL or p.pivot != lost])
    assert lost in receiver.received.missing_pivots
    assert len(list(receiver.render(18))) == 18
    for packet in sender.repeat(lost):
        receiver.push(packet)
    assert lost in receiver._references.kept
    assert not receiver.received.missing_pivots


def test_after_a_residual_that_is_gone_an_image_is_intra_coded():
    sender = Sender(load_model("landmark-warp"), SETTINGS, residual_codec=CELL_MEANS)
    frames = list(darkening())
    packets = [p for frame in frames[:9] for p in sender.push(*frame)]
    assert forms(packets)[-1] == ReferenceCoding.RESIDUAL
    assert sender.repeat(200) == []
    packets = [p for frame in frames[9:] for p in sender.push(*frame)]
    assert forms(packets)[0] == ReferenceCoding.AV1


def test_cells_are_sent_by_their_rate_distortion_cost():
    model = load_model("landmark-warp")
    residuals = ResidualCoding(model, CELL_MEANS)
    rendered = next(darkening())[0]
    frame = rendered.astype(int)
    frame[:32, :32] += 20
    frame = np.clip(frame, 0, 255).astype(np.uint8)
    data, image = residuals.encode(frame, rendered, lagrange_multiplier(40))
    np.testing.assert_array_equal(residuals.decode(data, rendered), image)
    np.testing.assert_array_equal(image[40:], rendered[40:])
    assert np.abs(image[:32, :32].astype(int) - frame[:32, :32]).mean() < 8
    nothing, same = residuals.encode(frame, rendered, 1.0)
    assert nothing == b""
    np.testing.assert_array_equal(same, rendered)
    assert lagrange_multiplier(0) > 2 * lagrange_multiplier(100)
    assert len(data) < 60


def test_the_header_names_the_residual_codec(call):
    file = io.BytesIO()
    write_stream(file, call[1])
    facts = describe_stream(file.getvalue())
    assert facts["residual_codec"].startswith("cell-means (")
    assert "residual packets" in facts
    header = Header.from_packet(call[1][0])
    assert (header.residual_codec, header.residual_codec_fingerprint) == ("cell-means", b"cellmean")


def test_impossible_residuals_are_refused(call):
    other = CellMeans()
    other.config = ResidualConfig(image_size=128, fold=2)
    with pytest.raises(ConfigError, match="frames of 128 × 128, and landmark-warp renders 256 × 256"):
        sent(residual_codec=other)
    with pytest.raises(ConfigError, match="residual-coded or inter-coded"):
        Sender(load_model("landmark-warp"), dataclasses.replace(SETTINGS, inter_coding=True), residual_codec=CELL_MEANS)
    header = Header.from_packet(call[1][0])
    strange = dataclasses.replace(header, residual_codec_fingerprint=bytes(8))
    with pytest.raises(ConfigError, match="made with cell-means of fingerprint 0000000000000000"):
        received([strange.to_packet()])
    with pytest.raises(BitstreamError, match="impossible name"):
        Header.from_packet(dataclasses.replace(header, residual_codec="../x").to_packet())
    silent = dataclasses.replace(header, residual_codec="", residual_codec_fingerprint=b"").to_packet()
    with pytest.raises(BitstreamError, match="its header names no model that decodes them"):
        received([silent, *(p for p in call[1] if p.kind is not Kind.HEADER)])
    first = next(p for p in call[1] if p.kind is Kind.RESIDUAL)
    receiver = received([p for p in call[1] if p.kind is not Kind.RESIDUAL])
    with pytest.raises(BitstreamError, match="200 maps; there are 12"):
        receiver.push(
            Packet(
                Kind.RESIDUAL, first.frame, bytes([0, ReferenceCoding.RESIDUAL, 0, 2, 200, 9]), 1, False, first.pivot
            )
        )
