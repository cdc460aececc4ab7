"""Synthetic heads: exact ground truth, motion, voice, the command."""

import concurrent.futures
import dataclasses

import numpy as np
import pytest

from avfr_jax.errors import ConfigError
from data.synthetic_heads import (
    MotionTrack,
    Renderer,
    Scene,
    astronaut_identity,
    iter_clip,
    render_clip,
    sample_identity,
    sample_motion,
    sample_scene,
    still_motion,
)
from data.synthetic_heads.__main__ import main
from data.synthetic_heads.files import finished
from data.synthetic_heads.geometry import build_rig, head_rotation, rotation
from data.synthetic_heads.template import template
from data.synthetic_heads.voice import RATE, synthesise

FRAMES = 12


@pytest.fixture(scope="module")
def clip():
    return render_clip(4, frames=FRAMES, size=256)


def test_clip_shapes_and_ranges(clip):
    assert clip.frames.shape == (FRAMES, 256, 256, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.audio.shape == (FRAMES * RATE // 25,)
    assert clip.audio.dtype == np.float32
    assert np.abs(clip.audio).max() < 0.95
    assert clip.landmarks.shape == (FRAMES, 478, 2)
    assert 0.0 <= clip.person_mask.min() < 0.01
    assert 0.99 < clip.person_mask.max() <= 1.0
    assert 0.2 < clip.person_mask.mean() < 0.8
    assert np.isfinite(clip.landmarks).all()
    assert (clip.landmarks > 10).all()
    assert (clip.landmarks < 245).all()
    assert clip.frames.std() > 20


def test_clips_are_pure_functions_of_the_seed(clip):
    one, again = (render_clip(4, frames=3, size=64) for _ in range(2))
    for name in ("frames", "audio", "landmarks", "person_mask"):
        np.testing.assert_array_equal(getattr(again, name), getattr(one, name))
    assert sample_identity(4) == sample_identity(4) != sample_identity(5)
    assert sample_scene(4) == sample_scene(4) != sample_scene(5)
    other = next(iter_clip(5, frames=1))
    assert np.abs(other.image.astype(int) - clip.frames[0]).mean() > 15


def test_streamed_frames_equal_the_clip(clip):
    for i, frame in zip(range(2), iter_clip(4, frames=FRAMES), strict=False):
        np.testing.assert_array_equal(frame.image, clip.frames[i])


def chosen(track: MotionTrack, frames: list[int]) -> MotionTrack:
    """Some frames of a track."""
    return MotionTrack(**{field.name: getattr(track, field.name)[frames] for field in dataclasses.fields(track)})


@pytest.mark.parametrize("seed", [0, 3])
def test_flow_carries_one_frame_onto_another(seed):
    """The second frame sampled at p + flow[p] is the first one wherever it is visible."""
    import cv2

    light = Scene(seed=seed, key=0.0, fill=0.0, rim=0.0, ambient=0.9, noise=0.0, blur=0.5)
    motion = sample_motion(seed, 30)
    extremes = [int(np.argmin(motion.yaw)), int(np.argmax(motion.yaw))]
    clip = render_clip(seed, chosen(motion, extremes), light)
    flow, visible = clip.flow(0, 1)
    assert np.linalg.norm(flow[visible], axis=-1).max() > 5
    y, x = np.mgrid[0:256, 0:256].astype(np.float32)
    second = clip.frames[1].astype(np.float32)
    warped = cv2.remap(second, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR)
    first = clip.frames[0].astype(np.float32)
    face = np.zeros((256, 256), np.uint8)
    hull = cv2.convexHull(np.round(clip.landmarks[0]).astype(np.int32))
    cv2.fillConvexPoly(face, hull, 1)
    where = visible & (face > 0)
    assert where.sum() > 3000
    error, unmoved = np.abs(warped - first)[where].mean(), np.abs(second - first)[where].mean()
    assert error < 8.0
    assert error < 0.45 * unmoved
    still, all_seen = clip.flow(0, 0)
    assert np.abs(still).max() < 1e-2
    assert all_seen.all()


def test_flow_agrees_with_landmarks(clip):
    flow, visible = clip.flow(0, FRAMES - 1)
    nose = clip.landmarks[:, [1, 4, 5, 195]]
    at = np.round(nose[0]).astype(int)
    assert visible[at[:, 1], at[:, 0]].all()
    np.testing.assert_allclose(flow[at[:, 1], at[:, 0]], nose[-1] - nose[0], atol=0.6)


def test_signs_of_the_pose():
    renderer = Renderer(sample_identity(1), Scene(seed=1), 128)
    rest = renderer.frame(still_motion(1), 0).landmarks
    right = renderer.frame(still_motion(1, yaw=20), 0).landmarks
    up = renderer.frame(still_motion(1, pitch=15), 0).landmarks
    clockwise = renderer.frame(still_motion(1, roll=15), 0).landmarks
    middle = [33, 263]
    assert (right[1] - right[middle].mean(0))[0] - (rest[1] - rest[middle].mean(0))[0] > 4
    assert (up[1] - up[middle].mean(0))[1] < (rest[1] - rest[middle].mean(0))[1] - 2
    assert clockwise[263, 1] - clockwise[33, 1] > rest[263, 1] - rest[33, 1] + 5
    assert np.allclose(rotation(20, -7, 11) @ rotation(20, -7, 11).T, np.eye(3))


def test_pose_is_recovered_from_the_landmarks():
    """Perspective-n-point on the rig's rigid points recovers the driving angles."""
    import cv2

    scene = Scene(seed=2)
    renderer = Renderer(sample_identity(2), scene, 256)
    rigid = [1, 4, 6, 10, 33, 133, 263, 362, 151, 234, 454, 127, 356]
    rest = renderer.rig.landmarks(renderer.rig.expression(still_motion(1), 0).astype(np.float32))[rigid]
    focal = 256 * scene.distance / scene.span
    camera = np.array([[focal, 0, 127.5], [0, focal, 127.5], [0, 0, 1.0]])
    flip = np.diag([1.0, -1.0, -1.0])
    for yaw, pitch, roll in [(25, 0, 0), (-20, 10, -8), (5, -12, 9)]:
        points = renderer.frame(still_motion(1, yaw=yaw, pitch=pitch, roll=roll), 0).landmarks[rigid]
        _, turn, _ = cv2.solvePnP(
            (rest @ flip).astype(np.float64), points.astype(np.float64), camera, None, flags=cv2.SOLVEPNP_SQPNP
        )
        recovered = flip @ cv2.Rodrigues(turn)[0] @ flip
        np.testing.assert_allclose(recovered, head_rotation(yaw, pitch, roll), atol=0.01)


def test_jaw_opens_the_mouth_and_blink_closes_the_eyes():
    rig = build_rig(sample_identity(6))
    gaps, lids = [], []
    for value in np.linspace(0, 1, 6):
        p = rig.expression(still_motion(1, jaw=value, blink=value), 0)
        gaps.append(p[13, 1] - p[14, 1])
        lids.append([p[159, 1] - p[145, 1], p[386, 1] - p[374, 1]])
    assert gaps[0] < 0.1
    assert np.all(np.diff(gaps) > 0.1)
    assert np.all(np.diff(lids, axis=0) < -0.03)
    assert np.max(np.abs(lids[-1])) < 0.12


@pytest.mark.parametrize("seed", range(4))
def test_no_hole_in_the_head(seed):
    """No background is visible through the face in extreme poses."""
    import cv2

    renderer = Renderer(sample_identity(seed), sample_scene(seed), 128)
    for pose in (
        {"yaw": 35, "jaw": 1},
        {"yaw": -35, "blink": 1},
        {"jaw": 1, "lip_width": -1},
        {"pitch": 15, "smile": 1},
    ):
        frame = renderer.frame(still_motion(1, **pose), 0)
        face = np.zeros((128, 128), np.uint8)
        cv2.fillConvexPoly(face, cv2.convexHull(np.round(frame.landmarks[:468]).astype(np.int32)), 1)
        face = cv2.erode(face, np.ones((3, 3), np.uint8))
        _, labels, stats, _ = cv2.connectedComponentsWithStats((frame.person_mask < 0.5).astype(np.uint8))
        outside = np.unique(np.concatenate([labels[0], labels[:, 0], labels[:, -1]]))
        # A hole is background unconnected to the border; one or two pixels are gaps between strands.
        holes = [k for k in np.unique(labels[face > 0]) if k not in outside and k > 0 and stats[k, 4] > 2]
        assert not holes
        assert frame.person_mask[face > 0].mean() > 0.97


def test_motion_is_smooth_with_blinks_and_syllables():
    track = sample_motion(11, 250)
    assert len(track) == 250
    assert np.abs(np.diff(track.yaw)).max() < 6
    assert np.ptp(track.yaw) > 10
    assert np.abs(track.yaw).max() <= 38
    closed = track.blink[:, 0] > 0.5
    blinks = int(np.sum(np.diff(closed.astype(int)) == 1))
    assert 1 <= blinks <= 8
    assert track.jaw.min() >= 0
    assert track.jaw.max() <= 1
    # A syllable is a peak of the jaw: 3 to 6 a second while there is speech.
    peaks = np.sum((track.jaw[1:-1] > track.jaw[:-2]) & (track.jaw[1:-1] >= track.jaw[2:]) & (track.jaw[1:-1] > 0.1))
    assert 1.5 <= peaks / (np.mean(track.voicing > 0.05) * 10) <= 6.5


def test_voice_follows_the_jaw():
    for seed in range(4):
        track = sample_motion(seed, 150)
        sound = synthesise(sample_identity(seed), track)
        assert sound.shape == (150 * RATE // 25,)
        assert np.abs(sound).max() < 0.95
        loud = np.sqrt(np.mean(sound.reshape(150, -1) ** 2, 1))
        assert np.corrcoef(loud, track.jaw)[0, 1] > 0.7
        assert loud[track.voicing < 0.01].max(initial=0) < 0.05 * loud.max()


def test_voice_of_a_single_frame():
    assert synthesise(sample_identity(0), still_motion(1)).shape == (RATE // 25,)


def test_voice_has_the_identitys_pitch():
    person = dataclasses.replace(sample_identity(0), voice_pitch=120.0)
    sound = synthesise(person, still_motion(50, jaw=0.6, voicing=1.0))
    part = sound[8000:16000] - sound[8000:16000].mean()
    spectrum = np.fft.rfft(part, 1 << 16)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)
    lags = slice(RATE // 300, RATE // 60)
    pitch = RATE / (lags.start + np.argmax(correlation[lags]))
    assert pitch == pytest.approx(120 * 1.06, rel=0.05)


def test_template_is_symmetric_and_its_mouth_is_closed():
    base = template()
    assert base.points[13, 1] - base.points[14, 1] < 0.1
    assert abs(base.points[61, 0] + base.points[291, 0]) < 1e-3
    assert base.triangles.shape == (852, 3)
    assert len(np.unique(base.triangles)) == 468


def test_command_renders_then_skips_finished_clips(tmp_path, capsys):
    from avfr_jax.media.video import VideoReader

    call = [str(tmp_path / "set"), "--clips", "1", "--seconds", "0.2", "--size", "64", "--seed", "3"]
    assert main(call) == 0
    stored = tmp_path / "set" / "clip000003.npz"
    info = VideoReader(tmp_path / "set" / "clip000003.mp4").info
    assert (info.width, info.height, info.has_audio) == (64, 64, True)
    with np.load(stored) as truth:
        assert truth["landmarks"].shape == (5, 478, 2)
        assert truth["person_mask"].shape == (5, 64, 64)
    before = stored.stat().st_mtime_ns
    assert main(call) == 0
    assert stored.stat().st_mtime_ns == before
    assert (tmp_path / "set" / "contact_sheet.png").stat().st_size > 1000
    stored.write_bytes(b"cut off")
    assert not finished(tmp_path / "set", 3, 5, 64)
    assert main(call) == 0
    assert finished(tmp_path / "set", 3, 5, 64)
    assert main([*call[:4], "0.4", *call[5:]]) == 2
    assert "use another folder" in capsys.readouterr().err
    with pytest.raises(ConfigError):
        finished(tmp_path / "set", 3, 9, 64)


def test_command_with_workers_renders_the_same_clips(tmp_path, monkeypatch):
    monkeypatch.setattr("data.synthetic_heads.__main__.worker_pool", concurrent.futures.ThreadPoolExecutor)
    common = ["--clips", "2", "--seconds", "0.08", "--size", "64"]
    assert main([str(tmp_path / "a"), *common]) == 0
    assert main([str(tmp_path / "b"), *common, "--workers", "2"]) == 0
    for name in ("clip000000.npz", "clip000001.npz"):
        with np.load(tmp_path / "a" / name) as one, np.load(tmp_path / "b" / name) as two:
            assert set(one.files) == set(two.files)
            for key in one.files:
                np.testing.assert_array_equal(one[key], two[key])


def test_command_refuses_bad_options(tmp_path, capsys):
    assert main([str(tmp_path), "--clips", "0"]) == 2
    assert main([str(tmp_path), "--size", "33"]) == 2
    (tmp_path / "file").write_text("x")
    assert main([str(tmp_path / "file"), "--clips", "1"]) == 2
    assert "cannot make the folder" in capsys.readouterr().err


@pytest.mark.slow
def test_mediapipe_detects_the_faces_at_their_places():
    mediapipe = pytest.importorskip("mediapipe")
    if not hasattr(mediapipe, "solutions"):
        pytest.skip("this mediapipe carries no models")
    people = [astronaut_identity(), *(sample_identity(k) for k in range(4))]
    detected, errors, gaps, truth = 0, [], [], []
    for k, person in enumerate(people):
        clip = render_clip(person, chosen(sample_motion(k, 15), [0, 2, 5, 8, 11, 14]), sample_scene(k))
        with mediapipe.solutions.face_mesh.FaceMesh(refine_landmarks=True) as mesh:
            for i, frame in enumerate(clip.frames):
                faces = mesh.process(frame).multi_face_landmarks
                if not faces:
                    continue
                detected += 1
                points = np.array([[p.x, p.y] for p in faces[0].landmark]) * 256 - 0.5
                errors.append(np.linalg.norm(points - clip.landmarks[i], axis=-1).mean())
                gaps.append(np.linalg.norm(points[13] - points[14]))
                truth.append(clip.mouth_opening[i])
    assert detected >= 0.95 * 6 * len(people)
    assert np.mean(errors) < 4.0
    assert np.corrcoef(gaps, truth)[0, 1] > 0.9
