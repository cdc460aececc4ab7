"""The face's surface through keypoints, and the flow of a turned face."""

import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.faces import mesh_head
from avfr_jax.faces.face_surface import VERTICES, face_surface, with_face
from avfr_jax.landmarks import FACE_OVAL, HEAD_KEYPOINTS, canonical_face
from avfr_jax.ops.rotations import euler_to_matrix
from avfr_jax.ops.sampling import grid_sample_2d


def _face() -> np.ndarray:
    """The average face in the middle of a frame, half as wide as it."""
    face = mesh_head.average_face()
    return face / np.ptp(face[:, 0])


def test_the_surface_goes_through_the_keypoints_and_follows_every_affine_motion():
    surface, face = face_surface(HEAD_KEYPOINTS), _face()
    known = face[list(HEAD_KEYPOINTS)]
    vertices = surface.weights @ known
    np.testing.assert_allclose(vertices, face[list(VERTICES)], atol=0.08)
    own = [VERTICES.index(point) for point in HEAD_KEYPOINTS]
    np.testing.assert_allclose(vertices[own], known, atol=1e-5)
    matrix, shift = np.random.default_rng(1).normal(size=(3, 3)), np.array([0.3, -2.0, 1.0])
    np.testing.assert_allclose(surface.weights @ (known @ matrix + shift), vertices @ matrix + shift, atol=1e-4)


def test_triangles_cover_the_face_once_and_face_the_camera():
    """By Euler's formula a disc of V vertices with B of them on its edge has 2 V - B - 2 triangles."""
    surface, face = face_surface(HEAD_KEYPOINTS), canonical_face()[list(VERTICES)]
    assert VERTICES[: len(FACE_OVAL)] == FACE_OVAL
    assert len(surface.triangles) == 2 * len(VERTICES) - len(FACE_OVAL) - 2
    assert set(surface.triangles.ravel()) == set(range(len(VERTICES)))
    a, b, c = (face[surface.triangles[:, i], :2] for i in range(3))
    (x, y), (u, v) = (b - a).T, (c - a).T
    areas = x * v - y * u
    assert np.abs(areas).sum() / 2 == pytest.approx(abs(areas.sum()) / 2, rel=0.02)


def test_turned_faces_move_as_their_mesh_does():
    face = _face()
    landmarks = np.zeros((478, 3), np.float32)
    landmarks[:] = face / [1, 1, mesh_head.DEPTH_SCALE]
    turn = euler_to_matrix(*jnp.asarray([[25.0], [5.0], [0.0]]))
    where = np.asarray(mesh_head.turned_landmarks(jnp.asarray(landmarks)[None], turn))[0]
    head = mesh_head.mesh_head(jnp.asarray(landmarks)[None], HEAD_KEYPOINTS)
    centre = head.translation[:, None]
    turned = jnp.einsum("nij,nkj->nki", turn, head.positions - centre) + centre
    still = jnp.zeros((1, 16, 16, 2))
    flow = with_face(still, head.positions, turned, HEAD_KEYPOINTS, 128)
    assert flow.shape == (1, 512, 512, 2)
    seen = np.isfinite(where[:, 0])
    read = grid_sample_2d(flow, jnp.nan_to_num(jnp.asarray(where))[None, None], padding="border")[0, 0]
    miss = np.abs(np.asarray(read) - (landmarks[:, :2] - where))[seen]
    moved = np.abs(landmarks[:, :2] - where)[seen]
    assert np.median(miss) < 0.1 * np.median(moved)
    assert miss[list(np.flatnonzero(seen)).index(4)].max() < 0.01  # the tip of the nose, which moves by 0.1
    # Far from the face nothing moves, beside it what stands there does.
    assert float(jnp.abs(flow[0, [0, 0, -1, -1], [0, -1, 0, -1]]).max()) < 0.02
    assert float(jnp.abs(with_face(still, head.positions, head.positions, HEAD_KEYPOINTS, 64)).max()) < 1e-6


def test_too_few_keypoints_are_refused():
    with pytest.raises(ValueError, match="8 keypoints or more"):
        face_surface(HEAD_KEYPOINTS[:7])
