"""Head pose and face shape of meshes, and their transfer to another face."""

import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from avfr_jax.landmarks import MOUTH_LOWER, POSE_POINTS, canonical_face
from avfr_jax.motion import FaceMesh, FaceMeshSpec, Keypoints, MeshKeypoints, MeshKeypointSpec

SPEC = FaceMeshSpec()


@pytest.fixture(scope="module")
def landmarks():
    """Landmarks of a head that is turned a little, with proportions of its own, `[478, 3]`."""
    shape = canonical_face() - canonical_face().mean(0)
    shape = shape / np.abs(shape[:, :2]).max() * np.array([0.45, 0.5, 0.55])
    angle = 0.2
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    noise = np.random.default_rng(0).normal(0, 0.005, shape.shape)
    return ((shape + noise) @ turn.T).astype(np.float32)


def _mesh(*landmarks):
    return FaceMesh.from_landmarks(np.stack(landmarks).astype(np.float32))


def _open_mouth(landmarks, by):
    moved = landmarks.copy()
    moved[[*MOUTH_LOWER[1:-1], 17, 18, 200, 199, 152, 148, 377], 1] += by
    return moved


def test_pose_and_shape_are_recovered(landmarks):
    mesh = _mesh(landmarks)
    angle = 0.3
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]], np.float32)
    other = _mesh(1.3 * landmarks @ turn.T + np.array([0.1, -0.2, 0.4]))
    np.testing.assert_allclose(other.shape, mesh.shape, atol=1e-4)
    np.testing.assert_allclose(other.rotation[0], turn @ np.asarray(mesh.rotation[0]), atol=1e-4)
    assert float(other.translation[0, 2] - mesh.translation[0, 2]) == pytest.approx(np.log(1.3), abs=1e-4)
    assert float(jnp.linalg.det(mesh.rotation[0])) == pytest.approx(1, abs=1e-5)
    rebuilt = FaceMesh.from_pose(mesh.rotation, mesh.translation, mesh.shape)
    np.testing.assert_allclose(rebuilt.positions, mesh.positions, atol=1e-5)


def test_retarget(landmarks):
    person = landmarks * np.array([0.5, 0.6, 0.5], np.float32) + np.array([0.2, 0.1, 0], np.float32)
    source, driving = _mesh(landmarks), _mesh(person, _open_mouth(person, 0.05), person + np.array([0.1, 0, 0]))
    initial = driving[0]
    as_driven = SPEC.retarget(source, driving, initial, mode="absolute", adapt_scale=False)
    np.testing.assert_array_equal(as_driven.landmarks, driving.landmarks)
    own_shape = SPEC.retarget(source, driving, initial, mode="absolute")
    skull = np.array(POSE_POINTS)  # lips and lids are the driver's: test_openings
    np.testing.assert_allclose(own_shape.shape[0][skull], source.shape[0][skull], atol=1e-6)
    np.testing.assert_array_equal(own_shape.rotation, driving.rotation)
    for adapt in (True, False):
        moved = SPEC.retarget(source, driving, initial, adapt_scale=adapt)
        np.testing.assert_allclose(moved.positions[0][skull], source.positions[0][skull], atol=1e-5)
        ratio = np.exp(float(source.translation[0, 2] - initial.translation[0, 2])) if adapt else 1.0
        shift = np.asarray((moved.positions[2] - source.positions[0])[skull])  # the driving face went 0.1 to the right
        np.testing.assert_allclose(shift.mean(0), [0.1 * ratio, 0], atol=3e-3)
    gap = np.asarray(moved.positions[:, 14, 1] - moved.positions[:, 13, 1])
    assert gap[1] > gap[0] + 0.05


def test_retargeting_a_clip_to_its_own_first_frame_changes_nothing(landmarks):
    driving = _mesh(landmarks, _open_mouth(landmarks, 0.04))
    for mode in ("absolute", "relative"):
        same = SPEC.retarget(driving[0], driving, driving[0], mode=mode)
        np.testing.assert_allclose(same.positions, driving.positions, atol=1e-5)


def test_flatten_and_back(landmarks):
    mesh = _mesh(landmarks, landmarks + 0.1)
    numbers = SPEC.flatten(mesh)
    assert numbers.shape == (2, 478 * 3)
    np.testing.assert_array_equal(SPEC.unflatten(numbers).landmarks, mesh.landmarks)
    assert not SPEC.components[0].model_specific


def test_wrong_input_is_named(landmarks):
    with pytest.raises((ValueError, jaxtyping.TypeCheckError), match=r"landmarks must be|Type-check"):
        FaceMesh.from_landmarks(landmarks[None, :468])
    with pytest.raises((ValueError, jaxtyping.TypeCheckError), match=r"absolute or relative|Type-check"):
        SPEC.retarget(_mesh(landmarks), _mesh(landmarks), _mesh(landmarks), mode="both")


def test_mesh_keypoints(landmarks):
    rng = np.random.default_rng(1)
    value = jnp.asarray(rng.uniform(-1, 1, (3, 4, 2)), jnp.float32)
    jacobian = jnp.eye(2) + jnp.asarray(0.1 * rng.standard_normal((3, 4, 2, 2)), jnp.float32)
    both = MeshKeypoints(Keypoints(value, jacobian), _mesh(landmarks, landmarks + 0.05, 0.8 * landmarks))
    spec = MeshKeypointSpec(4)
    numbers = spec.flatten(both)
    assert numbers.shape == (3, spec.size)
    again = spec.unflatten(numbers)
    np.testing.assert_array_equal(again.learned.jacobian, jacobian)
    np.testing.assert_array_equal(again.mesh.landmarks, both.mesh.landmarks)
    still = spec.retarget(both[0], both[1:], both[1])
    np.testing.assert_allclose(still.learned.value[0], value[0], atol=1e-5)
    np.testing.assert_allclose(still.mesh.positions[0], both.mesh.positions[0], atol=1e-5)
    absolute = spec.retarget(both[0], both[1:], both[1], mode="absolute")
    np.testing.assert_array_equal(absolute.learned.value, value[1:])
