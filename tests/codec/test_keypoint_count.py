"""The number of keypoints changes from frame to frame."""

import dataclasses

import numpy as np
import pytest

from avfr_jax.codec.bitstream import Kind
from avfr_jax.codec.entropy import RANGE_CODER
from avfr_jax.codec.header import Header, PartHeader
from avfr_jax.codec.keypoint_count import count_rows, counted_component
from avfr_jax.codec.motion import MotionReader, MotionWriter, Precision
from avfr_jax.codec.motion_space import COUNTED, space_from, space_of
from avfr_jax.codec.pivots import PivotSettings
from avfr_jax.codec.receiver import Receiver
from avfr_jax.codec.sender import Sender, send_all
from avfr_jax.codec.settings import FOR_TEMPLATES, SenderSettings
from avfr_jax.errors import ConfigError
from avfr_jax.motion import HeadSpec
from tests.codec.stubs import CountedHead, HeadMover, grey_frames

COUNT = 60
SETTINGS = SenderSettings(pivots=PivotSettings(angle=None, background=None), keypoint_threshold=1.0)


def _call(settings: SenderSettings):
    return list(send_all(Sender(CountedHead(), settings), ((frame, None) for frame in grey_frames(COUNT))))


@pytest.fixture(scope="module")
def call():
    return _call(SETTINGS)


def test_the_sender_states_the_mean_number():
    sender = Sender(CountedHead(), SETTINGS)
    assert sender.keypoints is None
    for frame in grey_frames(10):
        sender.push(frame, None)
    assert sender.keypoints == _wanted()[:10].mean()
    assert 3 < sender.keypoints < 8


def _wanted() -> np.ndarray:
    return 3 + np.round(4 * (grey_frames(COUNT)[:, 0, 0, 0] / 255))


def test_a_frame_is_rendered_from_the_keypoints_that_move(call):
    end = Receiver(CountedHead())
    for packet in call:
        end.push_bytes(packet.to_bytes())
    shown = np.stack(list(end.render(COUNT)))[:, 0, 0, 0]
    np.testing.assert_array_equal(shown, np.floor(_wanted() / 8 * 255 + 0.5))
    assert len(np.unique(shown)) >= 3


def test_keypoints_that_are_left_out_cost_nothing_and_those_that_are_sent_are_the_same(call):
    def motion(packets):
        posed = Receiver(rendering=False)
        for packet in packets:
            posed.push(packet)
        return list(posed.poses(COUNT))

    whole = _call(dataclasses.replace(SETTINGS, keypoint_threshold=None))
    sizes = [sum(len(p.payload) for p in packets if p.kind is Kind.MOTION) for packets in (call, whole)]
    assert sizes[0] < 0.95 * sizes[1]
    for some, all_of_them, count in zip(motion(call), motion(whole), _wanted(), strict=True):
        assert (some["count"][0], all_of_them["count"][0]) == (count, 8)
        np.testing.assert_array_equal(some["rotation"], all_of_them["rotation"])
        sent = slice(0, int(count))
        assert np.abs(some["expression"] - all_of_them["expression"])[sent].max() <= 1 / 128  # a pixel


def test_the_header_states_the_part_and_the_space_is_read_from_it(call):
    parts = Header.from_packet(call[0]).parts
    assert [(part.kind, part.size, part.name) for part in parts[2:]] == [(COUNTED, 1 + 24, "expression")]
    spec = CountedHead.motion_spec
    space = space_from(parts)
    assert space.drives(spec)
    assert not space.drives(HeadSpec(8))
    rng = np.random.default_rng(0)
    pivot, pose = (
        {c.name: rng.uniform(-0.9, 0.9, c.shape).astype(np.float32) for c in spec.components} for _ in range(2)
    )
    pose["count"] = np.float32([5])
    again = space.pose_at(pivot, space.vector(pose, pivot))
    for name, value in pose.items():
        np.testing.assert_allclose(again[name], value, atol=1e-5)
    for size in (1, 3, 24):
        with pytest.raises(ConfigError, match="no motion of kind 6"):
            space_from([PartHeader(COUNTED, size, 0, "expression", 128)])


@pytest.mark.parametrize("adaptive", [False, True])
def test_both_ends_hold_the_same_numbers(adaptive):
    """Also the numbers of rows that are left out, from which a row is predicted when it comes back."""
    space = space_of(HeadSpec(4, 1))
    form = space.format(space.headers(0, 2), 64, adaptive)
    rng = np.random.default_rng(1)
    writer, encoder, decoder = RANGE_CODER.writer(), MotionWriter(form, 0.25), MotionReader(form)
    vectors = np.cumsum(rng.normal(size=(40, form.step.size)), 0) * 5
    vectors[:, 6] = rng.integers(-1, 6, 40)  # rows left out; beyond 0 to 4 all or none
    held = []
    for i, vector in enumerate(vectors):
        if i % 9 == 0:
            encoder.refresh(Precision(4, 8))
        held.append(encoder.put(writer, vector))
    reader = RANGE_CODER.reader(writer.finish())
    for i, (vector, own) in enumerate(zip(vectors, held, strict=True)):
        if i % 9 == 0:
            decoder.refresh()
        np.testing.assert_array_equal(decoder.get(reader), own)
        sent = 7 + 3 * int(np.clip(4 - vector[6], 0, 4))
        assert own[6] == vector[6]
        width = 2 ** ((2 + 4 * adaptive) / 4)
        assert np.abs(own - vector)[:sent].max() <= 0.76 * width
        if i % 9:
            np.testing.assert_array_equal(own[sent:], held[i - 1][sent:])
    rubbish = MotionReader(form)
    assert np.isfinite([rubbish.get(RANGE_CODER.reader(rng.bytes(9))) for _ in range(20)]).all()


def test_the_count_ends_with_the_last_keypoint_that_moves_far():
    component = counted_component(HeadSpec(6, 2))
    rows = np.zeros((4, 6, 3), np.float32)
    rows[1, 3, 2] = 1.01 / 128
    rows[2, 5, 0] = 0.99 / 128
    rows[3, [0, 4], 1] = 0.1
    np.testing.assert_array_equal(count_rows(component, rows, 1.0), [2, 4, 2, 5])
    assert count_rows(component, rows[3], 20.0) == 2


def test_models_and_streams_that_need_all_keypoints_refuse_it():
    with pytest.raises(ConfigError, match="head-mover needs all of its keypoints"):
        Sender(HeadMover(), SETTINGS)
    with pytest.raises(ConfigError, match="template"):
        dataclasses.replace(FOR_TEMPLATES, keypoint_threshold=1.0)
    with pytest.raises(ConfigError, match="keypoint_threshold"):
        SenderSettings(keypoint_threshold=float("nan"))
