"""The source's own pose or expression kept, with the other of the driving face."""

import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.landmarks import (
    MOUTH_LOWER,
    MOUTH_UPPER,
    RIGHT_BROW,
    RIGHT_EYE_LOWER,
    RIGHT_EYE_UPPER,
    canonical_face,
    mouth_opening,
)
from avfr_jax.motion import (
    FaceMesh,
    FaceMeshSpec,
    HeadMotion,
    HeadSpec,
    Keypoints,
    KeypointSpec,
    MeshKeypoints,
    MeshKeypointSpec,
)
from avfr_jax.motion.openings import mouth_share
from avfr_jax.ops.rotations import euler_to_matrix

SPEC = FaceMeshSpec()
_COUNT = 6


def _faces(yaw, mouth, seed, brows=0.0):
    """A person's meshes, turned by yaw (degrees) and with the mouth open (head units) in each frame."""
    average = FaceMesh.from_landmarks(canonical_face()[None] * np.random.default_rng(seed).uniform(0.9, 1.1, 3))
    shape = np.asarray(average.shape) + np.asarray(mouth, np.float32)[:, None, None] * mouth_opening()
    shape[:, list(RIGHT_BROW), 1] -= brows
    angles = np.asarray(yaw, np.float32)
    rotation = euler_to_matrix(angles, 0.3 * angles, 0.2 * angles)
    shift = np.stack([0.004 * angles, 0 * angles, np.log(0.3) + 0.002 * angles], 1).astype(np.float32)
    return FaceMesh.from_landmarks(FaceMesh.from_pose(rotation, jnp.asarray(shift), shape).landmarks)


def _gap(shape, upper=MOUTH_UPPER, lower=MOUTH_LOWER):
    shape = np.asarray(shape)
    return (shape[:, list(lower)[1:-1], 1] - shape[:, list(upper)[1:-1], 1]).mean(1)


@pytest.fixture(scope="module")
def source():
    return _faces([8.0], [0.1], 0)


@pytest.fixture(scope="module")
def driving():
    return _faces(np.linspace(0, 35, _COUNT), np.linspace(0.05, 0.4, _COUNT), 1, brows=0.05)


def _kept(part, source, driving, mode="relative", **options):
    return SPEC.keep(part, source, SPEC.retarget(source, driving, driving[0], mode=mode), **options)


@pytest.mark.parametrize("mode", ["relative", "absolute"])
def test_a_kept_pose_is_the_sources_with_the_drivers_lips(source, driving, mode):
    kept = _kept("pose", source, driving, mode)
    again = FaceMesh.from_landmarks(np.asarray(kept.landmarks))  # as seen, not as stated
    np.testing.assert_allclose(again.rotation, np.tile(source.rotation, (_COUNT, 1, 1)), atol=1e-3)
    np.testing.assert_allclose(again.translation, np.tile(source.translation, (_COUNT, 1)), atol=1e-3)
    np.testing.assert_allclose(_gap(again.shape), _gap(driving.shape), atol=2e-3)
    assert _gap(again.shape)[-1] > 0.25


@pytest.mark.parametrize("mode", ["relative", "absolute"])
def test_a_kept_expression_is_the_sources_on_a_head_that_turns(source, driving, mode):
    kept = _kept("expression", source, driving, mode)
    again = FaceMesh.from_landmarks(np.asarray(kept.landmarks))
    np.testing.assert_allclose(again.shape, np.tile(source.shape, (_COUNT, 1, 1)), atol=2e-3)
    turned = _faces(np.linspace(0, 35, _COUNT) + (8.0 if mode == "relative" else 0.0), np.zeros(_COUNT), 0)
    forward = np.einsum("nj,nj->n", again.rotation[:, :, 2], turned.rotation[:, :, 2])
    assert np.degrees(np.arccos(np.clip(forward, -1, 1))).max() < 4


def test_speech_moves_lips_and_jaw_of_a_kept_expression_and_nothing_else(source, driving):
    kept = _kept("expression", source, driving, speaking=True)
    np.testing.assert_allclose(_gap(kept.shape), _gap(driving.shape), atol=2e-3)
    for points in (RIGHT_BROW, RIGHT_EYE_UPPER, RIGHT_EYE_LOWER):
        still = np.tile(source.shape[:, list(points)], (_COUNT, 1, 1))
        np.testing.assert_allclose(kept.shape[:, list(points)], still, atol=1e-6)
    assert mouth_share()[152] == 1  # the chin


def test_learned_keypoints_belong_to_the_pose(source, driving):
    rng = np.random.default_rng(0)
    points, jacobian = rng.uniform(-1, 1, (_COUNT, 4, 2)), np.tile(np.eye(2), (_COUNT, 4, 1, 1))
    learned = Keypoints(points.astype(np.float32), jacobian.astype(np.float32))
    spec, theirs = MeshKeypointSpec(4), MeshKeypoints(learned, driving)
    ours = MeshKeypoints(learned[3], source)
    moved = spec.retarget(ours, theirs, theirs[0])
    pose, expression = spec.keep("pose", ours, moved), spec.keep("expression", ours, moved)
    np.testing.assert_array_equal(pose.learned.value, np.tile(ours.learned.value, (_COUNT, 1, 1)))
    np.testing.assert_array_equal(expression.learned.value, moved.learned.value)
    np.testing.assert_allclose(_gap(pose.mesh.shape), _gap(driving.shape), atol=2e-3)


def test_heads_with_canonical_keypoints():
    rng = np.random.default_rng(0)

    def heads(count):
        canonical = np.tile(rng.normal(size=(1, 5, 3)), (count, 1, 1))
        angles = rng.uniform(-30, 30, (3, count))
        parts = rng.normal(size=(count, 3)), rng.normal(size=(count, 5, 3))
        return HeadMotion(*(np.float32(x) for x in (canonical, euler_to_matrix(*angles), *parts)))

    spec, ours, theirs = HeadSpec(5), heads(1), heads(3)
    moved = spec.retarget(ours, theirs, theirs[0])
    pose, expression = spec.keep("pose", ours, moved), spec.keep("expression", ours, moved)
    for name in ("rotation", "translation"):
        np.testing.assert_array_equal(getattr(pose, name)[2], getattr(ours, name)[0])
        np.testing.assert_array_equal(getattr(expression, name), getattr(moved, name))
    np.testing.assert_array_equal(pose.expression, moved.expression)
    np.testing.assert_array_equal(expression.expression[2], ours.expression[0])


def test_keypoints_alone_have_neither():
    assert KeypointSpec(10).keeps == ()
    points = Keypoints(np.zeros((2, 10, 2), np.float32))
    with pytest.raises(ValueError, match="pose and expression"):
        KeypointSpec(10).keep("pose", points[0], points)
