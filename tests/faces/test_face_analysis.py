"""Aligned faces, head pose from 68 landmarks, and the analyser of pictures."""

import pathlib

import cv2
import numpy as np
import pytest

from avfr_jax.errors import FaceError
from avfr_jax.faces.chips import CHIP_PADDING, CHIP_POINTS, CHIP_TEMPLATE, face_chip, landmark_crop, similarity
from avfr_jax.faces.crop import Crop
from avfr_jax.faces.pose import rotation_from_angles
from avfr_jax.faces.pose68 import CAMERA_DISTANCE, EYE_DISTANCE, RIGID68, SHAPE68, head_pose68


def _points(scale, angle=0.0, shift=(0.0, 0.0)):
    """68 landmarks whose five points are dlib's template, enlarged, turned and moved."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = np.zeros((68, 2))
    points[list(CHIP_POINTS)] = np.array(CHIP_TEMPLATE) @ turn.T * scale + shift
    return points


@pytest.mark.parametrize(("scale", "angle"), [(90.0, 0.0), (240.0, 0.3)])
def test_chip_shows_the_points_in_place(scale, angle):
    points = _points(scale, angle, (150.0, 60.0))
    image = np.zeros((500, 500, 3), np.uint8)
    for i, channel in ((36, 0), (45, 1), (33, 2)):
        x, y = points[i].round().astype(int)
        radius = max(1, int(scale / 60))
        image[y - radius : y + radius + 1, x - radius : x + radius + 1, channel] = 255
    chip = face_chip(image, points).astype(float)
    assert chip.shape == (150, 150, 3)
    wanted = (np.array(CHIP_TEMPLATE) + CHIP_PADDING) / (1 + 2 * CHIP_PADDING) * 150 - 0.5
    y, x = np.mgrid[:150, :150]
    for i, channel in ((36, 0), (45, 1), (33, 2)):
        spot = chip[..., channel]
        centre = np.array([(spot * x).sum(), (spot * y).sum()]) / spot.sum()
        np.testing.assert_allclose(centre, wanted[CHIP_POINTS.index(i)], atol=0.7)


def test_similarity_is_exact_and_refuses_a_point():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(5, 2))
    turn = 3 * np.array([[0.8, -0.6], [0.6, 0.8]])
    np.testing.assert_allclose(similarity(points, points @ turn.T + [1, 2]), np.c_[turn, [1, 2]], atol=1e-12)
    with pytest.raises(FaceError, match="coincide"):
        similarity(np.ones((5, 2)), points)
    with pytest.raises(FaceError):
        face_chip(np.zeros((9, 9, 3), np.uint8), np.full((68, 2), np.nan))


def test_landmark_crop_is_a_padded_square():
    # Pixels 9.5 … 29.5 by 19.5 … 59.5 in coordinates of edges are 10 … 30 by 20 … 60.
    assert landmark_crop((9.5, 19.5, 29.5, 59.5)) == Crop(20 - 23.2, 40 - 23.2, 46.4)


def _projected(yaw, pitch, roll, size=1.0, shift=(0.0, 0.0)):
    rotation = rotation_from_angles(yaw, pitch, roll)
    world = SHAPE68 * EYE_DISTANCE @ rotation.T
    world -= world.mean(0) - [0, 0, CAMERA_DISTANCE]
    points = np.zeros((68, 2))
    points[list(RIGID68)] = world[:, :2] / world[:, 2:] * size * 500 + shift
    return points


@pytest.mark.parametrize(
    "angles", [(0.0, 0.0, 0.0), (30.0, 0.0, 0.0), (-30.0, 10.0, 5.0), (0.0, -20.0, -40.0), (45.0, 15.0, 20.0)]
)
def test_pose_of_projected_points(angles):
    pose = head_pose68(_projected(*angles))
    np.testing.assert_allclose([pose.yaw, pose.pitch, pose.roll], angles, atol=0.3)
    elsewhere = head_pose68(_projected(*angles, size=3.0, shift=(400.0, -90.0)))
    np.testing.assert_allclose([elsewhere.yaw, elsewhere.pitch, elsewhere.roll], angles, atol=0.3)
    assert pose.translation[2] == pytest.approx(CAMERA_DISTANCE, rel=0.02)


def test_pose_refuses_points_without_a_face():
    for points in (np.full((68, 2), np.nan), np.ones((68, 2))):
        with pytest.raises(FaceError, match="finite landmarks that do not coincide"):
            head_pose68(points)


@pytest.mark.shared
def test_analyser_on_a_rendered_clip(shared_dir, tmp_path, monkeypatch):
    """The bundled clip's known turns come back; its person is nearer to themselves than to another."""
    import avfr_jax
    from avfr_jax.convert.face_api import NETWORKS, import_face_api
    from avfr_jax.faces.analyser import FaceAnalyser
    from avfr_jax.media.video import VideoReader
    from data.synthetic_heads.assets import driver_motion
    from tests.media_fixtures import astronaut

    monkeypatch.setenv("AVFR_HOME", str(tmp_path))
    for name, (stem, _) in NETWORKS.items():
        import_face_api(name, shared_dir / "weights" / f"{stem}-weights_manifest.json")
    frames = list(VideoReader(pathlib.Path(avfr_jax.__file__).parent / "assets" / "driver.mp4"))
    track = driver_motion()
    chosen = [0, int(track.yaw.argmax()), int(track.yaw.argmin()), int(track.pitch.argmax())]
    with FaceAnalyser() as analyser:
        *faces, stranger, nobody = analyser.analyse(
            [*(frames[i] for i in chosen), astronaut(), np.zeros_like(frames[0])]
        )
    assert nobody is None
    front, *turned = faces
    assert np.ptp(track.yaw[chosen]) > 40
    for face, i in zip(turned, chosen[1:], strict=True):
        assert abs(face.pose.yaw - front.pose.yaw - (track.yaw[i] - track.yaw[0])) < 5
        assert abs(face.pose.pitch - front.pose.pitch - (track.pitch[i] - track.pitch[0])) < 6
        assert np.linalg.norm(face.descriptor - front.descriptor) < np.linalg.norm(
            face.descriptor - stranger.descriptor
        )
    jaw = front.points[:17].astype(np.float32)
    assert cv2.pointPolygonTest(jaw, tuple(front.points[33]), False) > 0
