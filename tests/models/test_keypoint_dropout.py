"""Ordered keypoint dropout of face-vid2vid; `tests/codec/test_head_stream.py` renders frames without some keypoints."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.errors import ConfigError
from avfr_jax.models.face_vid2vid import FaceVid2VidConfig, drop_keypoints, motion_spec
from avfr_jax.motion import HeadMotion, HeadSpec
from avfr_jax.training.objectives.face_vid2vid import TASK


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
