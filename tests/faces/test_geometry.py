"""Landmark tables, mesh images and head pose."""

import collections

import numpy as np
import pytest

from avfr_jax import landmarks
from avfr_jax.errors import ConfigError, FaceError
from avfr_jax.faces import crop_for_face, head_pose, mesh_image
from avfr_jax.faces.pose import angles_from_rotation, camera_matrix, rotation_from_angles


def _loop_edges(loop: tuple[int, ...]) -> set[tuple[int, int]]:
    return {tuple(sorted(pair)) for pair in zip(loop, loop[1:] + loop[:1], strict=True)}


def test_features_are_loops_of_mediapipes_own_tables():
    from mediapipe.python.solutions import face_mesh_connections as tables

    def edges(table):
        return {tuple(sorted(edge)) for edge in table}

    lips = _loop_edges(landmarks.LIPS_OUTER) | _loop_edges(landmarks.LIPS_INNER)
    assert lips == edges(tables.FACEMESH_LIPS)
    assert _loop_edges(landmarks.RIGHT_EYE) == edges(tables.FACEMESH_RIGHT_EYE)
    assert _loop_edges(landmarks.LEFT_EYE) == edges(tables.FACEMESH_LEFT_EYE)
    assert _loop_edges(landmarks.FACE_OVAL) == edges(tables.FACEMESH_FACE_OVAL)
    assert _loop_edges(landmarks.RIGHT_IRIS) == edges(tables.FACEMESH_RIGHT_IRIS)
    assert _loop_edges(landmarks.LEFT_IRIS) == edges(tables.FACEMESH_LEFT_IRIS)
    assert set(landmarks.RIGHT_BROW) == {i for edge in tables.FACEMESH_RIGHT_EYEBROW for i in edge}
    assert set(landmarks.LEFT_BROW) == {i for edge in tables.FACEMESH_LEFT_EYEBROW for i in edge}


def test_both_interfaces_have_the_same_edges():
    from mediapipe.tasks.python.vision import face_landmarker

    table = face_landmarker.FaceLandmarksConnections.FACE_LANDMARKS_TESSELATION
    edges = {tuple(sorted((edge.start, edge.end))) for edge in table}
    assert edges == {tuple(edge) for edge in landmarks.tessellation_edges().tolist()}


def test_triangles_are_a_surface_with_three_holes():
    faces, edges = landmarks.triangles(), landmarks.tessellation_edges()
    assert (len(faces), len(edges)) == (852, 1322)
    directed = collections.Counter(
        (int(a), int(b)) for t in faces for a, b in ((t[0], t[1]), (t[1], t[2]), (t[2], t[0]))
    )
    assert max(directed.values()) == 1  # one orientation throughout
    border = {edge for edge in directed if edge[::-1] not in directed}
    loops = (landmarks.FACE_OVAL, landmarks.LIPS_INNER, landmarks.LEFT_EYE, landmarks.RIGHT_EYE)
    assert {tuple(sorted(edge)) for edge in border} == set().union(*map(_loop_edges, loops))
    assert {tuple(sorted(edge)) for edge in directed} == {tuple(edge) for edge in edges.tolist()}


def test_the_canonical_face_is_symmetric_and_faces_the_camera():
    face, mirror = landmarks.canonical_face(), landmarks.mirror_indices()
    np.testing.assert_array_equal(mirror[mirror], np.arange(478))
    np.testing.assert_allclose(face[mirror] * [-1, 1, 1], face, atol=1e-6)
    assert mirror[33] == 263
    assert mirror[468] == 473
    assert np.linalg.norm(face[263] - face[33]) == pytest.approx(8.8, abs=0.01)
    assert face[:, 2].argmin() in (1, 4)  # the tip of the nose
    assert face[152, 1] > face[13, 1] > face[1, 1] > face[168, 1] > face[10, 1]
    assert set(landmarks.RIGID) == set(mirror[list(landmarks.RIGID)])


def test_mesh_image_has_lines_on_the_face(portrait, portrait_face):
    crop = crop_for_face(portrait_face, portrait.shape)
    points = crop.to_crop(portrait_face.landmarks, 256)
    image = mesh_image(points, 256)
    assert image.dtype == np.float32
    assert image.shape == (256, 256)
    assert image.min() == 0
    assert 0.9 < image.max() <= 1
    x0, y0, x1, y1 = (int(v) for v in (*points[:468, :2].min(0), *points[:468, :2].max(0)))
    assert image[y0 : y1 + 1, x0 : x1 + 1].mean() > 0.2
    image[y0 - 1 : y1 + 3, x0 - 1 : x1 + 3] = 0
    assert image.max() == 0


def test_mesh_image_has_subpixel_precision(portrait, portrait_face):
    points = crop_for_face(portrait_face, portrait.shape).to_crop(portrait_face.landmarks, 256)
    still, moved = (mesh_image(points + np.float32([shift, 0, 0]), 256) for shift in (0, 0.25))
    columns = np.arange(256)
    centroid = [(image.sum(0) * columns).sum() / image.sum() for image in (still, moved)]
    assert centroid[1] - centroid[0] == pytest.approx(0.25, abs=0.05)


def test_mesh_image_without_a_face_is_zero():
    assert mesh_image(None, 64).max() == 0
    assert mesh_image(np.full((478, 3), np.nan, np.float32), 64).max() == 0
    assert mesh_image(np.full((478, 3), 1e9, np.float32), 64).max() == 0
    with pytest.raises(ConfigError, match="size"):
        mesh_image(None, 0)


@pytest.mark.parametrize(
    "angles",
    [
        (0.0, 0.0, 0.0),
        (30.0, 0.0, 0.0),
        (-40.0, 10.0, 5.0),
        (20.0, -25.0, -30.0),
        (60.0, 20.0, 10.0),
        (-75.0, 0.0, 0.0),
        (5.0, 5.0, 80.0),
    ],
)
def test_a_known_pose_is_recovered(angles):
    """The canonical face, projected by the pinhole camera, with half a pixel of noise."""
    rotation, translation = rotation_from_angles(*angles), np.array([3.0, -2.0, 60.0])
    level = (landmarks.canonical_face() @ rotation.T + translation) @ camera_matrix(640, 480).T
    points = np.zeros((478, 3), np.float32)
    points[:, :2] = level[:, :2] / level[:, 2:] + np.random.default_rng(0).normal(0, 0.5, (478, 2))
    pose = head_pose(points, 640, 480)
    np.testing.assert_allclose((pose.yaw, pose.pitch, pose.roll), angles, atol=1.5)
    np.testing.assert_allclose(pose.rotation, rotation, atol=0.03)
    np.testing.assert_allclose(pose.translation, translation, rtol=0.03, atol=0.2)
    points[:, :2] = level[:, :2] / level[:, 2:]
    exact = head_pose(points, 640, 480)
    np.testing.assert_allclose((exact.yaw, exact.pitch, exact.roll), angles, atol=0.05)


def test_signs_of_the_angles():
    """Where the nose goes: to the image's right, up; and the top of the head to the right."""
    nose, top = np.array([0, 0, -1.0]), np.array([0, -1.0, 0])
    assert (rotation_from_angles(20.0, 0.0, 0.0) @ nose)[0] > 0.3
    assert (rotation_from_angles(0.0, 20.0, 0.0) @ nose)[1] < -0.3
    assert (rotation_from_angles(0.0, 0.0, 20.0) @ top)[0] > 0.3
    assert angles_from_rotation(rotation_from_angles(10.0, -20.0, 30.0)) == pytest.approx((10, -20, 30))


def test_the_pose_matches_the_rotations_of_ops():
    rotations = pytest.importorskip("avfr_jax.ops.rotations")
    yaw, pitch, roll = rotations.matrix_to_euler(np.float32(rotation_from_angles(10.0, -20.0, 30.0)))
    np.testing.assert_allclose((-yaw, -pitch, roll), (10, -20, 30), atol=1e-3)


def test_pose_of_a_portrait_and_its_mirror_image(portrait, portrait_face, priors):
    crop = crop_for_face(portrait_face, portrait.shape)
    pose = head_pose(crop.to_crop(portrait_face.landmarks, 256), 256, 256)
    assert abs(pose.yaw) < 25
    assert abs(pose.pitch) < 20
    assert -20 < pose.roll < 20
    (other,) = priors.detect(np.ascontiguousarray(portrait[:, ::-1]))
    crop = crop_for_face(other, portrait.shape)
    mirrored = head_pose(crop.to_crop(other.landmarks, 256), 256, 256)
    np.testing.assert_allclose(
        (mirrored.yaw, mirrored.pitch, mirrored.roll), (-pose.yaw, pose.pitch, -pose.roll), atol=4
    )


def test_no_pose_without_a_face():
    with pytest.raises(FaceError, match="without a face"):
        head_pose(np.full((478, 3), np.nan, np.float32), 256, 256)
