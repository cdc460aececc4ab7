"""Skipped frames: temporal subsampling at the sender, interpolation at the receiver."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from avfr_jax.codec.bitstream import BitstreamError, Kind, Packet
from avfr_jax.codec.channel import Channel, play_call
from avfr_jax.codec.header import Header
from avfr_jax.codec.mesh_basis import shipped
from avfr_jax.codec.pivots import PivotSettings
from avfr_jax.codec.sender import Sender, send_all
from avfr_jax.codec.settings import SenderSettings
from avfr_jax.errors import ConfigError
from avfr_jax.landmarks import normalise_landmarks
from avfr_jax.models import interpolation
from tests.codec.stubs import SIZE, Mover
from tests.codec.test_call import behind, frames, receiver, sent, shown
from tests.models.test_interpolation import CONFIG

COUNT = 61


def subsampled(skipped: int, **settings) -> list[Packet]:
    return sent(SenderSettings(skipped_frames=skipped, **settings), frames(COUNT))


def interpolator():
    """An untrained network: the mean of the two frames."""
    return interpolation.Interpolator(CONFIG, interpolation.init(CONFIG, jax.random.key(0)))


@pytest.mark.parametrize("between", [1, 2, 3])
def test_skipped_frames_are_interpolated_and_sent_ones_unchanged(between):
    packets = subsampled(between)
    assert sum(p.count for p in packets if p.kind is Kind.MOTION) == -(-COUNT // (between + 1))
    out = shown(packets, COUNT)
    error = np.abs(out.astype(int) - frames(COUNT)).max((1, 2, 3))
    assert error[:: between + 1].max() <= 4  # quantised
    assert error.max() <= 8
    held = np.abs(frames(COUNT)[np.arange(COUNT) // (between + 1) * (between + 1)].astype(int) - frames(COUNT))
    assert held.max() > 2 * error.max()
    level = out[:, 0, 0, 0].astype(int)
    for first in range(0, COUNT - between - 1, between + 1):  # equal steps
        steps = np.diff(level[first : first + between + 2])
        assert steps.max() - steps.min() <= 1


def test_fewer_frames_take_fewer_bytes_and_refreshes_come_as_often():
    def motion(between, **settings):
        return [p for p in subsampled(between, **settings) if p.kind is Kind.MOTION]

    sizes = [sum(len(p.payload) for p in motion(n, refresh=60, packet=60)) for n in range(4)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[3] < sizes[0]
    for n in range(4):
        refreshes = [p.frame for p in motion(n) if p.refresh]
        assert max(np.diff(refreshes)) <= 12
        assert max(p.end(n) - p.frame for p in motion(n)) <= 4  # 3 frames, and whole ones


def test_rendering_frame_by_frame_equals_rendering_at_once():
    for painted in (None, interpolator()):
        packets, ends = subsampled(2), [receiver(interpolator=painted) for _ in range(2)]
        for end in ends:
            for packet in packets:
                end.push(packet)
        whole = np.stack(list(ends[0].render(COUNT)))
        pieces = np.stack([frame for i in range(COUNT) for frame in ends[1].render(i + 1)])
        np.testing.assert_array_equal(pieces, whole)


@pytest.mark.parametrize("between", [0, 1, 2, 3])
def test_skipped_frames_by_the_interpolator(between):
    end = receiver(interpolator=interpolator())
    for packet in subsampled(between):
        end.push(packet)
    out = np.stack(list(end.render(COUNT))).astype(int)[:, 0, 0, 0]
    moved = shown(subsampled(between), COUNT).astype(int)[:, 0, 0, 0]
    np.testing.assert_array_equal(out[:: between + 1], moved[:: between + 1])
    # The frames here change in brightness alone: the mean of two pictures is the picture of the mean motion, and of
    # two between, each stands a twelfth of the way off.
    off = np.abs(np.diff(moved[:: between + 1])).max() / 12 if between == 2 else 0
    assert np.abs(out - moved).max() <= off + 2
    assert end.received.held == 0
    assert len(end._renderer.images) < 40


def test_the_last_frame_is_held_and_nothing_counts_as_lost():
    end = receiver()
    for packet in subsampled(3)[:-1]:
        end.push(packet)
    known = end.known
    out = np.stack(list(end.render(known + 3)))
    np.testing.assert_array_equal(out[known:], np.stack([out[known - 1]] * 3))
    assert end.received.held == 0
    list(end.render(known + 5))
    assert end.received.held == 2


def test_a_gap_is_crossed_in_equal_steps_and_is_counted():
    packets = sent(SenderSettings(refresh=6))
    lost = [p for p in packets if p.kind is Kind.MOTION][1:2]
    out = shown([p for p in packets if p not in lost])[:, 0, 0, 0].astype(int)
    assert (lost[0].frame, lost[0].count) == (3, 3)
    steps = np.diff(out[2:7])
    assert steps.max() - steps.min() <= 1
    end = receiver()
    for packet in packets:
        if packet not in lost:
            end.push(packet)
    list(end.render(60))
    assert end.received.held == 3


def test_interpolation_is_continuous_across_pivots():
    """As straight as between two frames of one pivot."""
    settings = SenderSettings(skipped_frames=3, pivots=PivotSettings(angle=None, background=None))
    sender, end = Sender(Mover(), settings), receiver()
    for i, frame in enumerate(frames(40)):
        if i == 20:  # as the policy does when the head has turned
            sender._policy.current = None
        for packet in sender.push(frame, None):
            end.push(packet)
    for packet in sender.finish():
        end.push(packet)
    level = np.stack(list(end.render(37)))[:, 0, 0, 0].astype(int)
    assert not end._motion.frames
    assert len(end._references.kept) == 2
    assert np.abs(level - frames(37)[:, 0, 0, 0]).max() <= 8


@pytest.mark.parametrize("painted", [False, True])
def test_a_call_waits_for_the_frame_after(painted):
    network = interpolator() if painted else None
    end = receiver(interpolator=network)
    out = np.stack(list(play_call(subsampled(3), Channel(), 25, COUNT, receiver=end)))
    assert end.lookahead == pytest.approx(0.12)
    assert np.abs(out.astype(int) - frames(COUNT)[-len(out) :]).max() <= 8
    assert end.received.held <= 4
    lossy = receiver(interpolator=network)
    out = np.stack(list(play_call(subsampled(1), Channel(0.3, 0.04), 25, COUNT, receiver=lossy)))
    assert len(out) >= COUNT - 10
    assert lossy.received.held > 0


def test_poses_are_those_of_the_rendered_frames():
    packets = [p for i, p in enumerate(subsampled(1)) if i % 5 != 4]  # some are lost
    drawn, posed = receiver(), receiver()
    for packet in packets:
        drawn.push(packet)
        posed.push(packet)
    pictures = np.stack(list(drawn.render(COUNT)))[:, 0, 0, 0].astype(int)
    levels = [255 * pose["keypoints"][0, 0] for pose in posed.poses(COUNT)]
    assert np.abs(pictures - levels).max() < 5  # a pivot's keypoints are those of its picture before it was coded
    assert posed.received.held == drawn.received.held > 0


def test_skipped_frames_do_not_delay_a_pivot():
    """The parts of a pivot go out at their bit rate, whether or not motion goes with them."""
    clip = np.random.default_rng(0).integers(0, 256, (COUNT, SIZE, SIZE, 3), np.uint8)
    face = normalise_landmarks(shipped().mean, 256, 256)
    levels = itertools.count(1.0)
    took = []
    for between in (0, 3):
        pivots = PivotSettings(angle=None, min_interval=0.1, check_interval=1, bitrate=20000)
        settings = SenderSettings(skipped_frames=between, quality=90, pivots=pivots)
        sender = Sender(Mover(), settings, background=lambda frame: behind(next(levels)))
        packets = [p for p in send_all(sender, ((frame, face) for frame in clip)) if p.kind is Kind.PIVOT]
        second = [p.frame for p in packets if p.pivot == 1]
        took.append(second[-1] - second[0])
    assert took[0] > 4
    assert abs(took[1] - took[0]) <= 1


def test_impossible_numbers_of_skipped_frames_are_refused():
    with pytest.raises(ConfigError, match="skipped_frames"):
        SenderSettings(skipped_frames=4)
    header = Header.from_packet(subsampled(3)[0])
    assert header.skipped_frames == 3
    with pytest.raises(BitstreamError):
        Header.from_packet(dataclasses.replace(header, skipped_frames=4).to_packet())
    end = receiver()
    end.push(subsampled(3)[0])
    with pytest.raises(BitstreamError, match="cannot hold 16384 frames"):
        end.push(Packet(Kind.MOTION, 0, b"", count=1 << 14, refresh=True))


def test_a_clip_can_be_sent_with_masks():
    seen = ((frame, None, np.ones((SIZE, SIZE), np.float32)) for frame in frames(COUNT))
    assert list(send_all(Sender(Mover(), SenderSettings()), seen)) == subsampled(0)
