import dataclasses

import numpy as np
import pytest

from avfr_jax.codec import mesh_basis as mesh
from avfr_jax.codec.bitstream import Kind
from avfr_jax.codec.entropy import RANGE_CODER
from avfr_jax.codec.motion import MotionFormat, MotionReader, MotionWriter, Precision
from avfr_jax.codec.pivots import PivotSettings
from avfr_jax.codec.rate import RateControl
from avfr_jax.codec.receiver import Receiver
from avfr_jax.codec.sender import Sender, send_all
from avfr_jax.codec.settings import FOR_FILES, SenderSettings
from avfr_jax.errors import ConfigError
from avfr_jax.landmarks import normalise_landmarks
from avfr_jax.motion import KeypointSpec
from tests.codec.stubs import Mover
from tests.codec.test_call import frames, receiver, sent
from tests.codec.test_motion import random_walk


def _adaptive(meshes: int, others: int) -> MotionFormat:
    count = meshes + others
    rank = np.array([*range(meshes), *[-1] * others])
    levels = np.stack([np.full(count, 36), np.full(count, 28)])
    return MotionFormat(levels, np.full(count, 4), 64, rank, adaptive=True)


def test_every_refresh_has_its_own_precision():
    motion, form = random_walk(60, 14), _adaptive(10, 4)
    sender, receiver = MotionWriter(form), MotionReader(form)
    errors = []
    for at, precision in ((0, Precision(-8, 64)), (20, Precision(8, 64)), (40, Precision(0, 4))):
        sender.refresh(precision)
        receiver.refresh()
        writer = RANGE_CODER.writer()
        held = np.stack([sender.put(writer, vector) for vector in motion[at : at + 20]])
        reader = RANGE_CODER.reader(writer.finish())
        np.testing.assert_array_equal(np.stack([receiver.get(reader) for _ in range(20)]), held)
        errors.append(np.abs(held - motion[at : at + 20]).mean(0))
    assert errors[0].mean() * 3 < errors[1].mean()
    np.testing.assert_array_equal(held[:, 4:10], 0)  # left out
    assert (errors[2][10:] < 1.5).all()  # not the mesh's: never left out


class Turner(Mover):
    """Ten keypoints, so that there is something to spend on."""

    motion_spec = KeypointSpec(10, jacobians=False)

    def keypoints(self, frames, priors=None):
        at = np.asarray(frames)[:, :1, :5, :2].reshape(len(frames), -1, 2)
        value = np.concatenate([at, at[:, ::-1]], 1)
        return dataclasses.replace(super().keypoints(frames), value=value)


def _noisy(count: int) -> np.ndarray:
    clip = np.zeros((count, 32, 32, 3))
    clip[:, 0, :5] = 128 + np.cumsum(np.random.default_rng(0).normal(size=(count, 5, 3)) * 3, 0)
    return np.clip(clip, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("preset", [SenderSettings(), FOR_FILES])
@pytest.mark.parametrize("bitrate", [1000, 2000, 4000])
def test_a_bit_rate_is_held(preset, bitrate):
    clip = _noisy(1500)
    settings = dataclasses.replace(preset, bitrate=bitrate, pivots=PivotSettings(angle=None, background=None))
    sender = Sender(Turner(), settings)
    packets = list(send_all(sender, ((frame, None) for frame in clip)))
    bits = 8 * sum(len(packet.to_bytes()) for packet in packets)
    assert abs(bits / 60 / bitrate - 1) < 0.1
    end = Receiver(Turner())
    for packet in packets:
        end.push(packet)
    np.testing.assert_array_equal(end._motion.frames[1499].vector, sender.last)


def test_little_motion_costs_little_at_any_target():
    clip = np.repeat(frames(1), 500, 0)
    packets = sent(dataclasses.replace(FOR_FILES, bitrate=20000), clip)
    motion = sum(len(packet.to_bytes()) for packet in packets if packet.kind is Kind.MOTION)
    assert motion < 200


def test_packet_overhead_is_bounded_at_low_rates():
    control = RateControl(500, 25, 14, 50)
    assert control.packet(3, 12) == 12
    assert RateControl(20000, 25, 14, 50).packet(3, 12) == 3


def test_pivots_wait_until_they_are_affordable():
    control = RateControl(2000, 25, 14, 50)
    assert control.may_take(0)
    control.spent(20000)
    control.took(0, 20000)
    assert not control.may_take(100)
    for _ in range(600):
        control.frame()
    assert control.may_take(600)
    assert control.limit() < 0.3  # much was saved
    assert control.debt == -20000  # but not everything


def test_the_quality_of_pivots_follows_their_budget():
    control = RateControl(1000, 25, 14, 50)
    assert control.other_quality(16000) is None
    assert control.other_quality(40000) < 40
    assert control.other_quality(4000) > 60
    assert control.other_quality(1) == 85


def test_rates_out_of_range_are_refused():
    for wrong in (0, -5, 299, 10**7):
        with pytest.raises(ConfigError, match=r"bit ?rate"):
            Sender(Mover(), SenderSettings(bitrate=wrong))


# --- pivots beside the motion -----------------------------------------------------------------------------------------


FACE = normalise_landmarks(mesh.shipped().mean, 256, 256)


class Heads(Mover):
    """Renders the source unchanged."""

    def animate(self, source, source_keypoints, driving, mel=None):
        return np.repeat(source.image[None], len(driving.value), 0)


def _textured(count: int) -> np.ndarray:
    """One image, then another."""
    pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    return np.repeat(pictures, count // 2, 0)


def _checked(pivots: PivotSettings, clip: np.ndarray) -> tuple[Sender, list[list]]:
    sender = Sender(Heads(), SenderSettings(pivots=pivots, quality=80))
    return sender, [sender.push(frame, FACE) for frame in clip]


def test_distortion_beyond_the_threshold_needs_a_pivot():
    clip = _textured(60)
    plain = PivotSettings(background=None, min_interval=0, check_interval=4)
    sender, _ = _checked(plain, clip)
    assert list(sender.pivots) == [0]
    sender, _ = _checked(dataclasses.replace(plain, distortion_threshold=0.05), clip)
    assert list(sender.pivots) == [0, 1]
    # Back to the first picture: its pivot is kept.
    for frame in clip[:8]:
        sender.push(frame, FACE)
    assert (list(sender.pivots), sender._motion.pivot) == ([0, 1], 0)


def test_a_pivot_is_sent_beside_the_motion_at_its_rate():
    clip = _textured(100)
    pace = 20000
    _, pushed = _checked(
        PivotSettings(background=None, min_interval=0, check_interval=4, distortion_threshold=0.05, bitrate=pace), clip
    )
    late = [(i, p) for i, packets in enumerate(pushed) for p in packets if p.kind is Kind.PIVOT and p.pivot == 1]
    assert len(late) > 2
    first, last = late[0][0], late[-1][0]
    bits = 8 * sum(len(p.to_bytes()) for _, p in late[:-1])
    assert bits <= pace * (last - first) / 25 + 8 * len(late[0][1].to_bytes())
    assert bits >= 0.8 * pace * (last - first) / 25
    motion = [p for packets in pushed for p in packets if p.kind is Kind.MOTION]
    assert all(p.pivot == (0 if p.frame < last else 1) for p in motion if p.refresh)
    assert any(first < p.frame < last for p in motion)
    end = Receiver(Heads())
    for packets in pushed:
        for packet in packets:
            end.push(packet)
    rendered = np.stack(list(end.render(end.known)))
    assert np.abs(rendered[-1].astype(int) - clip[-1]).mean() < np.abs(rendered[first].astype(int) - clip[-1]).mean()
    assert end.received.missing_pivots == set()


def test_impossible_pivot_settings_are_refused():
    for wrong in (
        {"check_interval": 0},
        {"bitrate": 10},
        {"distortion_threshold": 0},
        {"angle": -1.0},
        {"background": 0},
    ):
        with pytest.raises(ConfigError, match=next(iter(wrong)).replace("bitrate", "bits a second")):
            PivotSettings(**wrong)


def test_the_header_states_adaptive_precision():
    end = receiver()
    end.push(sent(SenderSettings(bitrate=4000))[0])
    assert end.header.adaptive
