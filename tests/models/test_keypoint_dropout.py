"""Ordered keypoint dropout of face-vid2vid: a frame is moved by the first of its keypoints alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.errors import ConfigError
from avfr_jax.models.dense_motion_3d import VolumeDenseMotion, VolumeMotionConfig
from avfr_jax.models.face_vid2vid import FaceVid2VidConfig, drop_keypoints, motion_spec
from avfr_jax.motion import HeadMotion, HeadSpec
from avfr_jax.ops.rotations import euler_to_matrix
from avfr_jax.training.objectives.face_vid2vid import TASK

COUNT = 6
NETWORK = VolumeDenseMotion(VolumeMotionConfig(4, 1, 8, 2), COUNT, dims=2)


def _heads(seed: int, frames: int) -> HeadMotion:
    rng = np.random.default_rng(seed)
    canonical, expression = (rng.uniform(-x, x, (frames, COUNT, 3)).astype(np.float32) for x in (0.5, 0.05))
    angles = rng.uniform(-10, 10, (3, frames)).astype(np.float32)
    return HeadMotion(canonical, euler_to_matrix(*angles), np.zeros((frames, 3), np.float32), expression)


def _motion(network, volume, source, driving):
    return network(network.compress(volume), source, driving)


@pytest.fixture(scope="module")
def moved():
    """The motion of two driving heads, by a network with random weights."""
    volume = jax.random.normal(jax.random.key(1), (1, 8, 8, 3))
    source = _heads(0, 1)
    variables = jax.jit(lambda key: NETWORK.init(key, volume, source, source, method=_motion))(jax.random.key(0))
    return jax.jit(lambda driving: NETWORK.apply(variables, volume, source, driving, method=_motion))


def test_keypoints_that_are_left_out_move_nothing(moved):
    heads = _heads(2, 2)
    some = moved(dataclasses.replace(heads, count=np.float32([3, 6])))
    assert not np.asarray(some.mask)[0, ..., 4:].any()
    np.testing.assert_allclose(np.asarray(some.mask).sum(-1), 1, atol=1e-5)
    far = np.array(heads.expression)
    far[0, 3:] += 0.3
    far[0, :3] += 0.001
    again = moved(dataclasses.replace(heads, count=np.float32([3, 6]), expression=far))
    far[0, :3] -= 0.001
    same = moved(dataclasses.replace(heads, count=np.float32([3, 6]), expression=far))
    np.testing.assert_allclose(same.deformation, some.deformation, atol=1e-6)
    assert np.abs(again.deformation - some.deformation)[0].max() > 1e-5  # the others do

    whole = moved(heads)
    np.testing.assert_allclose(some.deformation[1], whole.deformation[1], atol=1e-6)
    assert np.abs(some.deformation - whole.deformation)[0].max() > 1e-3


def test_training_draws_the_count_and_the_specification_states_the_least():
    config = FaceVid2VidConfig(num_keypoints=8, keypoint_dropout=0.75)
    assert motion_spec(config) == HeadSpec(8, 2)
    assert motion_spec(FaceVid2VidConfig(num_keypoints=8)) == HeadSpec(8)
    counts, times = np.unique(TASK.sample(config, jax.random.key(0), 400)["kept"], return_counts=True)
    np.testing.assert_array_equal(counts, range(2, 9))
    rng = np.random.default_rng(0)
    expression = jnp.asarray(rng.uniform(0.1, 1, (3, 8, 3)))
    heads = HeadMotion(expression, jnp.zeros((3, 3, 3)), jnp.zeros((3, 3)), expression)
    dropped = drop_keypoints(heads, jnp.asarray([2, 5, 8]))
    assert times.min() > 30  # of 57 expected
    used = np.arange(8) < np.asarray(dropped.count)[:, None]
    np.testing.assert_array_equal(dropped.expression, np.where(used[..., None], expression, 0))
    np.testing.assert_array_equal(dropped.canonical, heads.canonical)


def test_dropout_that_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="from 0 to below 1"):
        FaceVid2VidConfig(keypoint_dropout=1.0)
    with pytest.raises(ConfigError, match="composed"):
        FaceVid2VidConfig(keypoints="direct", keypoint_dropout=0.5)
