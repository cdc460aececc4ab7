"""The animated portrait: the photograph at rest, motion, flow, detection."""

import cv2
import numpy as np
import pytest
import skimage.data

from data.synthetic_heads import PhotoRenderer, render_photo_clip, sample_photo_motion, still_motion

FRAMES = 12


@pytest.fixture(scope="module")
def clip():
    return render_photo_clip(3, frames=FRAMES)


@pytest.fixture(scope="module")
def renderer():
    return PhotoRenderer()


def _one(renderer, **pose):
    return renderer.frame(still_motion(1, **pose), 0)


@pytest.mark.parametrize("size", [128, 256])
def test_a_still_track_gives_the_photograph(size):
    photo = cv2.resize(skimage.data.astronaut()[:256, 98:354], (size, size), interpolation=cv2.INTER_AREA)
    difference = np.abs(_one(PhotoRenderer(size)).image.astype(int) - photo)
    assert difference.mean() < 2.0
    assert np.percentile(difference, 99) < 24


def test_shapes_ranges_and_determinism(clip):
    assert clip.frames.shape == (FRAMES, 256, 256, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.audio.shape == (FRAMES * 640,)
    assert clip.landmarks.shape == (FRAMES, 478, 2)
    assert clip.pose.shape == (FRAMES, 3)
    assert np.abs(clip.pose[:, 0]).max() <= 22
    assert 0.0 <= clip.person_mask.min() < 0.01
    assert 0.99 < clip.person_mask.max() <= 1.0
    assert 0.3 < clip.person_mask.mean() < 0.7
    assert (clip.landmarks > 20).all()
    assert (clip.landmarks < 236).all()
    one, again = (render_photo_clip(3, frames=2, size=64) for _ in range(2))
    np.testing.assert_array_equal(again.frames, one.frames)
    np.testing.assert_array_equal(again.audio, one.audio)
    with pytest.raises(ValueError, match="at least 32"):
        PhotoRenderer(16)


def test_turns_follow_the_sign_of_the_pose(renderer):
    eyes = [33, 263]
    rest, right, up, clockwise = (_one(renderer, **p).landmarks for p in ({}, {"yaw": 20}, {"pitch": 12}, {"roll": 15}))
    nose = [m[1] - m[eyes].mean(0) for m in (rest, right, up)]
    assert nose[1][0] > nose[0][0] + 4
    assert nose[2][1] < nose[0][1] - 2
    assert clockwise[263, 1] - clockwise[33, 1] > rest[263, 1] - rest[33, 1] + 5


def test_jaw_and_lids_move_locally(renderer):
    rest, wide, shut = _one(renderer), _one(renderer, jaw=1), _one(renderer, blink=1)
    assert wide.landmarks[14, 1] - wide.landmarks[13, 1] > rest.landmarks[14, 1] - rest.landmarks[13, 1] + 6
    assert np.abs(shut.landmarks[159] - shut.landmarks[145]).max() < 1.0
    # Between the lower teeth's old and new place the mouth is dark.
    lip = np.round((rest.landmarks[14] + wide.landmarks[14]) / 2).astype(int)
    assert wide.image[lip[1], lip[0]].mean() < 90 < rest.image[lip[1], lip[0]].mean()
    np.testing.assert_array_equal(wide.image[:90], rest.image[:90])
    np.testing.assert_array_equal(shut.image[135:], rest.image[135:])


@pytest.mark.parametrize("pose", [{"yaw": 20}, {"yaw": -20, "jaw": 1}, {"pitch": 12}, {"pitch": -12}, {"roll": 20}])
def test_no_hole_in_head_or_neck(renderer, pose):
    index, _, _ = renderer.surface(renderer.rig.pose(still_motion(1, **pose), 0))
    _, labels, stats, _ = cv2.connectedComponentsWithStats((index < 0).astype(np.uint8), connectivity=8)
    outside = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    # The dithered edge of the hair leaves single pixels.
    assert not [k for k in range(1, len(stats)) if k not in outside and stats[k, cv2.CC_STAT_AREA] > 3]


def test_flow_carries_one_frame_onto_another(clip):
    i, j = int(np.argmin(clip.pose[:, 0])), int(np.argmax(clip.pose[:, 0]))
    flow, visible = clip.flow(i, j)
    y, x = np.mgrid[0:256, 0:256].astype(np.float32)
    first, second = clip.frames[i].astype(np.float32), clip.frames[j].astype(np.float32)
    warped = cv2.remap(second, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR)
    face = np.zeros((256, 256), np.uint8)
    cv2.fillConvexPoly(face, cv2.convexHull(np.round(clip.landmarks[i]).astype(np.int32)), 1)
    where = visible & (face > 0)
    assert where.sum() > 0.8 * (face > 0).sum()
    assert np.linalg.norm(flow[where], axis=-1).max() > 3
    error, unmoved = np.abs(warped - first)[where].mean(), np.abs(second - first)[where].mean()
    assert error < 6.0
    assert error < 0.5 * unmoved
    still, seen = clip.flow(i, i)
    assert np.abs(still).max() < 1e-2
    assert seen.mean() > 0.999


def test_mediapipe_detects_the_face_and_its_pose(renderer):
    """The detected yaw follows the driven one, and so does the detected mouth."""
    pytest.importorskip("mediapipe")
    from avfr_jax.faces import head_pose, open_face_backend

    track = sample_photo_motion(5, 20 * FRAMES)
    driven, yaws, gaps, truth = [], [], [], []
    with open_face_backend() as priors:
        for i in range(0, len(track), 20):
            frame = renderer.frame(track, i)
            faces = priors.detect(frame.image)
            if not faces:
                continue
            marks = faces[0].landmarks
            driven.append(track.yaw[i])
            yaws.append(head_pose(marks, 256, 256).yaw)
            gaps.append(np.linalg.norm(marks[13, :2] - marks[14, :2]))
            truth.append(np.linalg.norm(frame.landmarks[13] - frame.landmarks[14]))
        closed, wide = (priors.detect(_one(renderer, jaw=jaw).image)[0].landmarks for jaw in (0.0, 1.0))
    assert len(driven) >= 0.95 * FRAMES
    assert np.ptp(driven) > 10
    assert np.corrcoef(driven, yaws)[0, 1] > 0.95
    assert np.corrcoef(truth, gaps)[0, 1] > 0.8
    assert wide[14, 1] - wide[13, 1] > closed[14, 1] - closed[13, 1] + 5
