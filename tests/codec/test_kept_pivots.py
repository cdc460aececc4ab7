"""Reference frames stay at the receiver until the frames that depend on them are rendered."""

import dataclasses
import io

import numpy as np
import pytest

from avfr_jax.codec import analysis
from avfr_jax.codec.background import Background
from avfr_jax.codec.bitstream import KEPT, Kind, ReferenceCoding
from avfr_jax.codec.container import write_stream
from avfr_jax.codec.files import Decoded, decode_frames
from avfr_jax.codec.pivots import PivotSettings
from avfr_jax.codec.receiver import Receiver
from avfr_jax.codec.reference_decoder import ReferenceDecoder
from avfr_jax.codec.sender import Sender, send_all
from avfr_jax.codec.settings import SenderSettings
from avfr_jax.faces.pose import rotation_from_angles
from avfr_jax.landmarks import NUM_LANDMARKS, canonical_face
from tests.codec.stubs import Mover, grey_frames

# The head turns through more positions than pivots are kept, and comes back to the oldest just before it is dropped.
STEP = 3.0
TURNS = [*(STEP * (i // 2) for i in range(2 * KEPT)), *[0.0] * 6, *[STEP * KEPT] * 2, *[STEP] * 6]
TURNS += [STEP * (KEPT + 1 + i // 2) for i in range(2 * KEPT)]
PIVOTS = PivotSettings(angle=STEP / 2, background=None, min_interval=0)
FILE = SenderSettings(refresh=250, packet=125, pivots=PIVOTS, quality=90, reference_coding=ReferenceCoding.WEBP)


def turned(yaw):
    """Landmarks in [-1, 1] of a head 60 cm away."""
    points = np.zeros((NUM_LANDMARKS, 3), np.float32)
    face = canonical_face() @ rotation_from_angles(yaw, 0.0, 0.0).T
    points[: len(face), :2] = 2 * face[:, :2] / (face[:, 2:] + 60)
    return points


@pytest.fixture(scope="module")
def packets():
    clip = zip(grey_frames(len(TURNS)), map(turned, TURNS), strict=True)
    return list(send_all(Sender(Mover(), FILE), clip))


def test_the_stream_returns_to_a_pivot_that_the_next_one_replaces(packets):
    """What the other tests decode: a pivot comes before the last motion from the one that it replaces."""
    order = [(p.kind, p.pivot) for p in packets if p.kind in (Kind.PIVOT, Kind.MOTION)]
    back = order.index((Kind.MOTION, 0), order.index((Kind.PIVOT, KEPT - 1)))
    assert order[back - 1] == (Kind.PIVOT, KEPT)


@pytest.mark.parametrize("cross_fade", [False, True])
def test_a_file_decodes_without_a_frame_held(packets, cross_fade):
    file, result = io.BytesIO(), Decoded()
    write_stream(file, packets, lambda: len(TURNS))
    frames = np.stack(list(decode_frames(file.getvalue(), result, Receiver(Mover(), cross_fade=cross_fade))))
    assert (result.received.held, result.received.broken) == (0, 0)
    assert np.abs(frames.astype(int) - grey_frames(len(TURNS))).max() <= 6


def test_frames_rendered_after_every_packet_has_come_depend_on_all_pivots(packets):
    receiver = Receiver(Mover())
    for packet in packets:
        receiver.push(packet)
    assert len(list(receiver.render(len(TURNS)))) == len(TURNS)
    assert receiver.received.held == 0


def test_rendered_frames_keep_no_pivot(packets):
    receiver = Receiver(Mover())
    for packet in packets:
        receiver.push(packet)
        if receiver.can_render:
            list(receiver.render(receiver.known))
        assert receiver._references is None or len(receiver._references.kept) <= KEPT + 2


def test_pivots_kept_are_bounded_whatever_depends_on_them(packets):
    receiver = Receiver(Mover())
    receiver.push(packets[0])
    decoder = ReferenceDecoder(receiver.space, None, None)
    pose = receiver.space.put_pivot({"keypoints": np.zeros((2, 2), np.float32)}, None)
    for number in range(200):
        decoder.push(number, 1 << 14, bytes([ReferenceCoding.NONE, 0]) + pose, needed=range(256))
    assert len(decoder.kept) == 64
    assert max(decoder.kept) == 199


def test_pose_and_background_of_a_frame_are_computed_once(monkeypatch):
    solved, embedded = [], []
    monkeypatch.setattr(analysis, "head_pose", lambda *a, of=analysis.head_pose: solved.append(1) or of(*a))

    def embed(frame):
        embedded.append(1)
        return Background(np.ones((64, 2), np.float32), np.ones(64, np.float32))

    settings = dataclasses.replace(FILE, pivots=dataclasses.replace(PIVOTS, background=0.5, check_interval=4))
    sender = Sender(Mover(), settings, background=embed)
    for frame, yaw in zip(grey_frames(8), TURNS, strict=False):
        sender.push(frame, turned(yaw))
    assert sender.pivot_count == 4
    assert len(solved) == 8
    assert len(embedded) == 4  # at frames 0 and 4, and for the pivots at 2 and 6
