"""Tracking of the bundled material: crop, landmarks, masks, and the order of passes."""

import numpy as np
import pytest

from avfr_jax.errors import FaceError, InputError
from avfr_jax.faces import open_face_backend
from avfr_jax.landmarks import NUM_VERTICES
from avfr_jax.models.base import Capabilities
from avfr_jax.tracking import DrivingSource, TrackedClip, Tracking, open_clip, track, track_landmarks, track_portrait
from tests.media_fixtures import astronaut, moved, panned

FACES = Capabilities(landmarks=True, person_masks=True)
MESH = Capabilities(landmarks=True)
BLANK = np.full((96, 96, 3), 120, np.uint8)


@pytest.fixture(scope="module")
def backend():
    with open_face_backend() as opened:
        yield opened


@pytest.fixture(scope="module")
def frames():
    return [moved(astronaut(), i) for i in range(6)]


def test_a_clip_is_cropped_alike_and_tracked(frames, backend):
    clip = TrackedClip(open_clip(frames), Tracking(64, FACES), backend)
    assert isinstance(clip, DrivingSource)
    assert [frame.index for frame in clip.sample(3)] == [0, 2, 5]
    tracked = list(clip)
    assert [frame.index for frame in tracked] == list(range(6))
    for frame in tracked:
        assert frame.image.shape == (64, 64, 3)
        assert frame.landmarks.shape == (478, 3)
        assert frame.person_mask.shape == (64, 64)
        assert np.abs(frame.landmarks[:, :2]).max() < 1
    single = clip.frame(4)
    np.testing.assert_array_equal(single.image, tracked[4].image)
    assert np.abs(single.landmarks - tracked[4].landmarks)[:, :2].max() < 0.03
    again = list(track(frames, 64, capabilities=FACES))
    np.testing.assert_array_equal(again[5].landmarks, tracked[5].landmarks)


def _largest(tracked):
    """The largest coordinate of each frame's mesh in its crop; beyond 1 the face is cut."""
    return np.array([np.abs(frame.landmarks[:NUM_VERTICES, :2]).max() for frame in tracked])


def test_the_crop_follows_a_face_that_moves_far(backend):
    pan = panned(astronaut(128), 16)
    clip = TrackedClip(open_clip(pan), Tracking(64, MESH), backend)
    sampled = clip.sample(4)
    tracked = list(clip)
    assert [frame.index for frame in tracked] == list(range(16))
    assert _largest(tracked).max() < 1
    assert np.ptp([frame.landmarks[4, 0] for frame in tracked]) < 0.3
    for frame in sampled:
        np.testing.assert_array_equal(frame.image, tracked[frame.index].image)
        assert np.abs(frame.landmarks - tracked[frame.index].landmarks)[:, :2].mean() < 0.03
    stream = _largest(track(iter(pan), 64, capabilities=MESH))
    assert stream.max() < 1.001
    assert stream[8:].max() < 0.95


def test_a_fixed_crop_stays_where_it_is(frames, backend):
    pan, warnings = panned(astronaut(128), 16), []
    fixed = Tracking(64, MESH, "fixed")
    assert _largest(TrackedClip(open_clip(pan), fixed, backend, warn=warnings.append)).max() > 1
    assert "leaves the fixed crop" in warnings[0]
    one = list(TrackedClip(open_clip(frames), Tracking(64, MESH), backend))
    two = list(TrackedClip(open_clip(frames), fixed, backend, warn=warnings.append))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.landmarks, b.landmarks)
    assert len(warnings) == 1


def test_face_crops_without_landmarks_need_no_backend(frames):
    tracked = list(track(frames, 32, capabilities=Capabilities(), crop="none"))
    assert [frame.landmarks for frame in tracked] == [None] * 6


def test_frames_without_a_face(frames, backend):
    blank = np.full_like(frames[0], 120)
    tracked = list(track([blank, *frames[:2], blank], 64, capabilities=FACES))
    assert [frame.landmarks is None for frame in tracked] == [True, False, False, True]
    assert tracked[0].person_mask is None
    landmarks = track_landmarks([frames[0], blank], backend)
    assert np.isfinite(landmarks).all((1, 2)).tolist() == [True, False]


def test_what_cannot_be_tracked_is_refused(frames, backend):
    with pytest.raises(FaceError, match="No face was found in the driving clip"):
        list(track([BLANK, BLANK], 64, capabilities=FACES))
    with pytest.raises(FaceError, match="frame 1 of the driving clip"):
        TrackedClip(open_clip([astronaut(), np.full_like(frames[0], 120)]), Tracking(64, FACES), backend).frame(1)
    with pytest.raises(InputError, match="change size"):
        list(track([frames[0], frames[1], frames[2][:200]], 64, capabilities=FACES))
    with pytest.raises(InputError, match="no frames"):
        track_landmarks([], backend)
    with pytest.raises(InputError, match="too small"):
        track_portrait(BLANK[:1], Tracking(64, FACES), backend, name="dot.png")
    with pytest.raises(FaceError, match=r"no face was found in flat\.png"):
        track_portrait(BLANK, Tracking(64, FACES), backend, name="flat.png")
    tiny = np.full((300, 300, 3), 200, np.uint8)
    tiny[100:148, 100:148] = astronaut(48)
    with pytest.raises(FaceError, match="at least 32 px"):
        track_portrait(tiny, Tracking(64, FACES), backend, name="tiny.png")
