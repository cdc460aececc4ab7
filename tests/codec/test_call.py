"""Sender and receiver, with a stub model whose frames show the received keypoints."""

import io

import numpy as np
import pytest

from avfr_jax.codec.background import Background
from avfr_jax.codec.bitstream import KEPT, BitstreamError, Kind, Packet, ReferenceCoding
from avfr_jax.codec.channel import Channel, ChannelSimulator, play_call, received_packets
from avfr_jax.codec.container import read_stream, write_stream
from avfr_jax.codec.files import Decoded, decode_frames
from avfr_jax.codec.header import Header
from avfr_jax.codec.intra_coding import decode_image, encode_image
from avfr_jax.codec.pivots import PivotPolicy, PivotSettings, View
from avfr_jax.codec.receiver import Receiver
from avfr_jax.codec.sender import Sender, send_all
from avfr_jax.codec.settings import SenderSettings
from avfr_jax.errors import ConfigError
from tests.codec.stubs import SIZE, HeadMover, Mover, grey_frames
from tests.media_fixtures import astronaut

CALL = SenderSettings()
frames = grey_frames


def sent(settings: SenderSettings = CALL, clip: np.ndarray | None = None) -> list[Packet]:
    clip = frames() if clip is None else clip
    return list(send_all(Sender(Mover(), settings), ((frame, None) for frame in clip)))


def receiver(**options) -> Receiver:
    return Receiver(Mover(), **options)


def shown(packets: list[Packet], until: int = 60) -> np.ndarray:
    end = receiver()
    for packet in packets:
        end.push(packet)
    return np.stack(list(end.render(until)))


def test_a_call_displays_the_senders_frames():
    out = shown(sent())
    assert out.shape == (60, SIZE, SIZE, 3)
    # Half a pixel's step of keypoints and the dead zone are some 0.5 / 128 of brightness.
    assert np.abs(out.astype(int) - frames()).max() <= 4


def test_sender_and_receiver_hold_the_same_symbols():
    sender, end = Sender(Mover(), SenderSettings()), receiver()
    held = []
    for frame in frames(40):
        for packet in sender.push(frame, None):
            end.push(packet)
        held.append(sender.last)
    for packet in sender.finish():
        end.push(packet)
    assert end.known == 40
    for i, vector in enumerate(held):
        np.testing.assert_array_equal(end._motion.frames[i].vector, vector)
    np.testing.assert_array_equal(end._references.kept[0].pose["keypoints"], sender.pivots[0].pose["keypoints"])


def test_rendering_in_pieces_equals_rendering_at_once():
    packets = sent()
    end, pieces = receiver(), []
    for packet in packets:
        end.push(packet)
        if end.can_render:
            pieces += list(end.render(end.known))
    np.testing.assert_array_equal(np.stack(pieces), shown(packets))


def test_order_does_not_matter():
    packets = sent()
    header, rest = packets[0], packets[1:]
    np.random.default_rng(0).shuffle(rest)
    np.testing.assert_array_equal(shown([header, *rest]), shown(packets))


def test_a_lost_packet_costs_half_a_second_at_most():
    settings = SenderSettings()
    packets = sent(settings)
    whole = shown(packets)
    motions = [i for i, p in enumerate(packets) if p.kind is Kind.MOTION]
    for i in motions[1::3]:
        out = shown(packets[:i] + packets[i + 1 :])
        wrong = np.flatnonzero((out != whole).any((1, 2, 3)))
        assert len(wrong)
        assert wrong.max() - wrong.min() < settings.refresh


def test_a_lost_pivot_is_named_and_can_be_repeated():
    sender = Sender(Mover(), SenderSettings())
    packets = [p for frame in frames(12) for p in sender.push(frame, None)]
    end = receiver()
    for packet in packets:
        if packet.kind is not Kind.PIVOT:
            end.push(packet)
    assert end.received.missing_pivots == {0}
    assert not end.can_render
    for packet in sender.repeat(0):
        end.push(packet)
    assert end.received.missing_pivots == set()
    assert len(list(end.render(12))) == 12
    assert sender.repeat(7) == []


def test_a_call_survives_loss_jitter_and_bursts():
    clip = frames(200)
    packets = sent(clip=clip)
    errors = []
    for loss, bursts in ((0.0, ()), (0.3, ()), (0.3, ((2.0, 4.0),))):
        end = receiver()
        out = np.stack(list(play_call(packets, Channel(loss, 0.04, bursts=bursts), 25, 200, receiver=end)))
        assert len(out) == 200
        errors.append(np.abs(out.astype(int) - clip[-len(out) :]).mean())
        assert np.abs(out[-1].astype(int) - out[-30].astype(int)).max() > 0  # it moves again after the burst
    assert errors[0] < 2 < errors[1] < errors[2]


def test_channel_losses_and_delays_are_as_stated():
    line = ChannelSimulator(Channel(loss=0.5, jitter=0.1, delay=0.05, seed=3))
    packets = [Packet(Kind.MOTION, i, b"x") for i in range(400)] + [Packet(Kind.PIVOT, 0, b"x")] * 20
    for packet in packets:
        line.send(packet, 0.0)
    assert list(line.receive(0.049)) == []
    came = len(list(line.receive(60.0)))
    assert 150 < came - 20 < 250  # half of the motion, and every pivot in the end
    for wrong in ({"loss": 1.0}, {"loss": -0.1}, {"jitter": 11.0}):
        with pytest.raises(ConfigError):
            Channel(**wrong)


def test_received_packets_are_those_of_a_call():
    packets, network = sent(clip=frames(200)), Channel(0.3, 0.04, bursts=((2.0, 4.0),), seed=5)
    given: list[Packet] = []

    class Listening(Receiver):
        def push(self, packet):
            given.append(packet)
            super().push(packet)

    list(play_call(packets, network, 25, 240, receiver=Listening(Mover())))
    came = received_packets(packets, network, 25)
    assert {p.to_bytes() for p in came} == {p.to_bytes() for p in given}
    motion = [p for p in came if p.kind is Kind.MOTION]
    assert 0.3 < len(motion) / sum(p.kind is Kind.MOTION for p in packets) < 0.7
    assert not any(50 <= p.end(0) < 100 for p in motion)  # the burst


def test_memory_does_not_grow():
    sender, end = Sender(Mover(), SenderSettings(packet=1)), receiver()
    sizes = []
    for i, frame in enumerate(np.tile(frames(60), (20, 1, 1, 1))):
        for packet in sender.push(frame, None):
            if i % 7:  # some are lost, which must not pile up either
                end.push(packet)
        if end.can_render:
            list(end.render(i))
        held = () if end._motion is None else (end._motion.frames, end._motion.waiting, end._motion.chains)
        sizes.append(len(end._parts.parts) + sum(map(len, held)))
    assert max(sizes) < 400
    assert sizes[-1] <= max(sizes[:300])


def test_models_that_are_not_the_streams_are_refused():
    class Small(Mover):
        image_size = 16

    class Other(Mover):
        name, fingerprint = "other", b"other123"

    header = sent()[0]
    with pytest.raises(ConfigError, match="the model other here is another"):
        Receiver(Other()).push(header)
    with pytest.raises(ConfigError, match="size"):
        Receiver(Small()).push(header)
    with pytest.raises(ConfigError, match="none of the models known by name"):
        Receiver().push(header)


def test_a_new_kind_of_motion_is_sent_without_changes_to_the_codec():
    """Rotation, translation and expression; canonical keypoints come from the pivot's image at either end."""
    clip = grey_frames(40)
    settings = SenderSettings(skipped_frames=1, pivots=PivotSettings(angle=None, background=None))
    packets = list(send_all(Sender(HeadMover(), settings), ((frame, None) for frame in clip)))
    header = Header.from_packet(packets[0])
    assert (header.version, [part.name for part in header.parts]) == (2, ["rotation", "translation", "expression"])
    end, posed = Receiver(HeadMover()), Receiver(rendering=False)
    for packet in packets:
        end.push(packet)
        posed.push(packet)
    out = np.stack(list(end.render(39)))
    assert np.abs(out.astype(int) - clip[:39]).max() <= 4
    rolls = np.array([pose["rotation"][2] for pose in posed.poses(39)])
    assert np.ptp(rolls) > 60
    expected = 90 + 180 * clip[:39, 0, 0, 0].astype(float) / 255
    assert np.abs((rolls - expected + 180) % 360 - 180).max() < 3


def test_settings_out_of_range_are_refused():
    for wrong in ({"step": 61}, {"slope": 300}, {"dead_zone": 0.7}, {"refresh": 0}, {"packet": 0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            SenderSettings(**wrong)


# --- pivots ---------------------------------------------------------------------------------------------------------


def behind(level: float) -> Background:
    return Background(np.full((64, 3), level, np.float32), np.ones(64, np.float32))


def _turned(yaw: float, background: float = 1.0) -> View:
    return View(np.array([yaw, 0.0, 0.0]), behind(background))


def _chosen(policy: PivotPolicy, frame: int, view: View, **more) -> tuple[int | None, bool]:
    """The pivot of a frame, a new one being sent at once."""
    new = policy.choose(frame, view, **more).new
    if new is not None:
        policy.arrived()
    return policy.current, new is not None


def test_a_turned_head_or_another_background_needs_a_pivot_and_a_return_does_not():
    policy = PivotPolicy(PivotSettings(angle=15, background=0.05, min_interval=0.4), rate=25)
    assert _chosen(policy, 0, _turned(0)) == (0, True)
    assert _chosen(policy, 20, _turned(14)) == (0, False)
    assert _chosen(policy, 40, _turned(16)) == (1, True)
    assert _chosen(policy, 45, _turned(32)) == (1, False)  # too soon
    assert _chosen(policy, 60, _turned(32)) == (2, True)
    assert _chosen(policy, 61, _turned(2)) == (0, False)  # the first is kept
    assert _chosen(policy, 80, _turned(2, background=1.2)) == (3, True)
    assert _chosen(policy, 100, View(None)) == (3, False)


def test_budget_and_distortion_decide_about_pivots():
    policy = PivotPolicy(PivotSettings(angle=15, background=None, min_interval=0), rate=25)
    assert _chosen(policy, 0, _turned(0)) == (0, True)
    assert _chosen(policy, 1, _turned(8), limit=0.5, allowed=False) == (0, False)
    assert _chosen(policy, 2, _turned(8), limit=0.5) == (1, True)
    # Pivot 1 draws badly: pivot 0 is near enough, and does better, then no longer.
    assert _chosen(policy, 3, _turned(8), distortion=lambda number: 2.0 * number) == (0, False)
    assert _chosen(policy, 4, _turned(8), distortion=lambda number: 2.0) == (2, True)


def test_motion_continues_from_the_old_pivot_until_the_new_one_has_been_sent():
    policy = PivotPolicy(PivotSettings(angle=15, min_interval=0), rate=25)
    assert _chosen(policy, 0, _turned(0)) == (0, True)
    assert policy.choose(1, _turned(40)) == (0, 1, False)
    assert policy.choose(2, _turned(80)) == (0, None, False)  # one at a time
    policy.arrived()
    assert policy.choose(3, _turned(42)) == (1, None, False)


def test_only_the_newest_pivots_are_kept():
    policy = PivotPolicy(PivotSettings(angle=1, min_interval=0), rate=25)
    for i in range(30):
        assert _chosen(policy, i, _turned(3.0 * i)) == (i, True)
    assert len(policy.kept) == KEPT


@pytest.mark.parametrize("form", [ReferenceCoding.WEBP, ReferenceCoding.AV1, ReferenceCoding.HEVC])
def test_intra_coded_images_round_trip(form):
    picture = astronaut(128)
    small, large = (encode_image(picture, form, quality) for quality in (20, 80))
    assert len(small) < len(large) < len(encode_image(picture, form, 100))
    errors = [np.abs(decode_image(d, form, 128).astype(int) - picture).mean() for d in (small, large)]
    assert errors[1] < errors[0] < 12
    assert abs(decode_image(large, form, 128).mean() - picture.mean()) < 1  # no shift of levels
    for broken in (b"", b"\0" * 100):
        with pytest.raises(BitstreamError):
            decode_image(broken, form, 128)
    with pytest.raises(BitstreamError, match="not of the stated"):
        decode_image(large, form, 64)
    for wrong in ({"quality": 101}, {"image": picture[:127]}):
        with pytest.raises(ConfigError):
            encode_image(**({"image": picture, "coding": form} | wrong))


# --- hostile streams ------------------------------------------------------------------------------------------------


def _file(packets: list[Packet]) -> bytes:
    file = io.BytesIO()
    write_stream(file, packets)
    return file.getvalue()


def test_every_truncation_is_survived():
    data = _file(sent(clip=frames(30)))
    whole = np.stack(list(decode_frames(data, receiver=receiver())))
    for length in range(0, len(data), 7):
        try:
            out = list(decode_frames(data[:length], receiver=receiver()))
        except BitstreamError:
            continue
        assert 0 < len(out) <= 30
        count = sum(p.count for p in read_stream(data[:length]) if p.kind is Kind.MOTION)
        np.testing.assert_array_equal(np.stack(out)[:count], whole[:count])


def test_random_damage_is_survived():
    clean = _file(sent(clip=frames(30)))
    random = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(clean)
        for at in random.integers(0, len(data), int(random.integers(1, 12))):
            data[at] ^= 1 << int(random.integers(0, 8))
        try:
            out = list(decode_frames(bytes(data), receiver=receiver()))
        except (BitstreamError, ConfigError):
            continue
        assert len(out) < 2000


def test_packets_with_valid_checksums_and_wrong_content_are_survived():
    packets = sent(clip=frames(30))
    random = np.random.default_rng(1)
    for _ in range(300):
        end = receiver()
        for packet in packets:
            payload = bytearray(packet.payload)
            if payload and random.random() < 0.3:
                payload[int(random.integers(0, len(payload)))] = int(random.integers(0, 256))
            try:
                end.push(Packet(packet.kind, packet.frame, bytes(payload), packet.count, packet.refresh, packet.pivot))
            except (BitstreamError, ConfigError):
                continue
        if end.can_render:
            assert len(list(end.render(30))) == 30


def test_statistics_count_losses():
    data = bytearray(_file(sent(clip=frames(30))))
    result = Decoded()
    list(decode_frames(bytes(data), result, receiver()))
    assert (result.frames, result.skipped, result.received.held) == (30, 0, 0)
    motions = [p for p in read_stream(bytes(data)) if p.kind is Kind.MOTION]
    data[data.index(motions[2].to_bytes()) + 4] ^= 0xFF
    result = Decoded()
    list(decode_frames(bytes(data), result, receiver()))
    assert result.skipped > 0
    assert result.received.held > 0
