"""Inter-coded reference frames, and residual signs."""

import dataclasses

import numpy as np
import pytest
from skimage import data

from avfr_jax.codec.bitstream import BitstreamError, Kind, ReferenceCoding
from avfr_jax.codec.inter_coding import InterDecoder, InterEncoder
from avfr_jax.codec.intra_coding import decode_image
from avfr_jax.codec.mesh_basis import shipped
from avfr_jax.codec.pivots import PivotSettings
from avfr_jax.codec.receiver import Receiver
from avfr_jax.codec.residual_signs import get_signs, put_signs
from avfr_jax.codec.sender import Sender, send_all
from avfr_jax.codec.settings import SenderSettings
from avfr_jax.errors import ConfigError
from avfr_jax.landmarks import normalise_landmarks
from avfr_jax.model_store import load_model


def pictures(count=4):
    """A portrait that moves by two pixels a frame."""
    portrait = data.astronaut()[:160, 140:320]
    return [np.ascontiguousarray(portrait[:128, 2 * i : 2 * i + 128]) for i in range(count)]


def test_inter_coded_frames_cost_less_than_intra_coded_ones_without_delay():
    writer, reader = InterEncoder(128, 40), InterDecoder(128)
    coded = [writer.put(picture) for picture in pictures()]
    writer.close()
    shown = [reader.get(one) for one in coded]
    for picture, got in zip(pictures(), shown, strict=True):
        assert np.abs(got.astype(float) - picture).mean() < 8
    np.testing.assert_array_equal(decode_image(coded[0], ReferenceCoding.AV1, 128), shown[0])
    assert max(len(one) for one in coded[1:]) < 0.5 * len(coded[0])


def test_a_broken_sequence_is_refused():
    with pytest.raises(BitstreamError, match="in the middle of a packet"):
        InterDecoder(128).get(b"\x12\x00nothing of the kind")
    writer = InterEncoder(128, 40)
    first = writer.put(pictures()[0])
    writer.close()
    with pytest.raises(BitstreamError, match=r"is not of the stated 64 × 64"):
        InterDecoder(64).get(first)


def some_signs(maps, share, seed=0):
    rng = np.random.default_rng(seed)
    signs = rng.choice(np.int8([-1, 1]), (16, 16, 32))
    signs[rng.random((16, 16)) > share] = 0
    signs[..., maps:] = 0
    return signs


def test_signs_that_agree_with_their_neighbours_cost_less():
    smooth = np.ones((16, 16, 32), np.int8)
    smooth[:, 8:] = -1
    assert len(put_signs(smooth)) < 0.5 * len(put_signs(some_signs(32, 1.0)))


def test_impossible_signs_are_refused():
    uneven = some_signs(8, 1.0)
    uneven[0, 0, 7] = 0
    with pytest.raises(ConfigError, match="same first maps"):
        put_signs(uneven)
    with pytest.raises(BitstreamError, match="40 maps; there are 32"):
        get_signs(bytes([40, 1, 2]), 16, 32)


# --- in a call -------------------------------------------------------------------------------------------------------

PIVOTS = PivotSettings(angle=None, background=None, min_interval=0.1, distortion_threshold=0.004, check_interval=3)
INTER = SenderSettings(inter_coding=True, quality=30, refresh=6, pivots=PIVOTS)


def seen(count=18):
    """A portrait that moves under a static mesh: every few frames the pivot no longer serves."""
    portrait = data.astronaut()[:260, 120:400]
    mesh = normalise_landmarks(shipped().mean, 256, 256)
    for i in range(count):
        yield np.ascontiguousarray(portrait[i // 6 : i // 6 + 256, 4 * (i // 6) :][:256, :256]), mesh


def sent(settings=INTER):
    sender = Sender(load_model("landmark-warp"), settings)
    return sender, list(send_all(sender, seen()))


@pytest.fixture(scope="module")
def call():
    return sent()


def decoded(packets, until=18, cross_fade=False):
    receiver = Receiver(cross_fade=cross_fade)
    frames = []
    for packet in packets:
        receiver.push(packet)
        if packet.kind is Kind.MOTION and receiver.can_render:
            frames += receiver.render(receiver.ready if cross_fade else min(receiver.known, until))
    return receiver, np.stack([*frames, *receiver.render(until)])


def test_inter_coded_pivots_cost_less_and_come_back_bit_for_bit(call):
    sender, packets = call
    pivots = [p for p in packets if p.kind is Kind.PIVOT]
    assert {p.payload[1] for p in pivots if p.payload[0] == 0} == {int(ReferenceCoding.AV1), ReferenceCoding.AV1_INTER}
    receiver, frames = decoded(packets)
    assert receiver.received.broken == receiver.received.held == 0
    for number, own in sender.pivots.items():
        there = receiver._references.kept[number]
        np.testing.assert_array_equal(there.pose["mesh"], own.pose["mesh"])
        np.testing.assert_array_equal(np.asarray(there.encoded.image * 255 + 0.5).astype(np.uint8), own.image)
    _, others = sent(dataclasses.replace(INTER, inter_coding=False))
    cost, alone = (sum(len(p.to_bytes()) for p in which if p.kind is Kind.PIVOT and p.pivot > 0)
                   for which in (packets, others))  # fmt: skip
    assert cost < 0.7 * alone
    truth = np.stack([frame for frame, _ in seen()]).astype(float)
    assert np.abs(frames - truth)[-3:].mean() < 0.7 * np.abs(frames[:1] - truth)[-3:].mean()


def test_frames_between_two_pivots_are_cross_faded(call):
    _, one = decoded(call[1])
    _, both = decoded(call[1], cross_fade=True)
    second = min(p.frame for p in call[1] if p.kind is Kind.PIVOT and p.pivot == 1)
    np.testing.assert_array_equal(both[0], one[0])
    np.testing.assert_array_equal(both[second], one[second])
    half = second // 2
    apart = np.abs(both[half].astype(float) - (one[0].astype(float) + one[second]) / 2).mean()
    assert apart < 0.3 * np.abs(one[half].astype(float) - one[second]).mean()


def test_a_lost_inter_coded_pivot_is_requested_and_the_rest_waits(call):
    sender, packets = call
    lost = [p for p in packets if p.kind is Kind.PIVOT and p.pivot == 1]
    receiver, frames = decoded([p for p in packets if p not in lost])
    assert receiver.received.missing_pivots == {1, 2}
    assert len(frames) == 18
    for packet in sender.repeat(1):
        receiver.push(packet)
    assert {1, 2} <= receiver._references.kept.keys()
    assert not receiver.received.missing_pivots


def test_a_sequence_begins_again_where_a_pivot_is_gone_and_stops_at_nonsense(call):
    sender = Sender(load_model("landmark-warp"), INTER)
    packets = [p for frame in list(seen())[:9] for p in sender.push(*frame)]
    assert sender.repeat(200) == []
    packets += [p for frame in list(seen())[9:] for p in sender.push(*frame)] + sender.finish()
    firsts = [p.payload[1] for p in packets if p.kind is Kind.PIVOT and p.payload[0] == 0]
    assert firsts[-1] == ReferenceCoding.AV1
    receiver = Receiver()
    for packet in call[1]:
        if packet.kind is Kind.PIVOT and packet.pivot == 1:
            head = 3  # part, coder, base
            with pytest.raises(BitstreamError, match="is not AV1 as it is stored"):
                receiver.push(dataclasses.replace(packet, count=1, payload=packet.payload[:head] + b"\x05\0\0\0\0\0"))
            break
        receiver.push(packet)


def test_inter_coding_needs_av1():
    with pytest.raises(ConfigError, match="inter-coded in AV1 alone"):
        SenderSettings(inter_coding=True, reference_coding=ReferenceCoding.WEBP)


def test_a_sequence_needs_a_quality_and_even_sides():
    with pytest.raises(ConfigError, match="quality of pivots must be 0 to 100, not 150"):
        InterEncoder(64, 150)
    with pytest.raises(ConfigError, match="even sides, not 63 × 63"):
        InterEncoder(63, 50)
