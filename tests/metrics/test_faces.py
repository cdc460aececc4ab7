"""Landmark metrics on tracks of known distance."""

import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from avfr_jax.errors import InputError
from avfr_jax.landmarks import LIPS
from avfr_jax.metrics import faces


@pytest.fixture
def track():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(0, 0.3, (1, 478, 3)) + rng.normal(0, 0.05, (6, 478, 3)), jnp.float32)


def test_translation_affects_landmarks_only(track):
    moved = track + jnp.array([3 / 128, 4 / 128, 7.0])
    np.testing.assert_allclose(faces.landmark_distance(track, moved), 5.0, rtol=1e-4)
    np.testing.assert_allclose(faces.mouth_distance(track, moved), 0.0, atol=1e-3)
    assert float(faces.motion_correlation(track, moved)) == pytest.approx(1, abs=1e-5)


def test_moving_the_lips_alone(track):
    moved = track.at[:, np.array(LIPS), 1].add(2 / 128)
    share = len(LIPS) / 468
    np.testing.assert_allclose(faces.landmark_distance(track, moved), 2 * share, rtol=1e-3)
    np.testing.assert_allclose(faces.mouth_distance(track, moved), 2 * (1 - share), rtol=1e-3)


def test_irises_are_ignored(track):
    moved = track.at[:, 468:].add(0.5)
    np.testing.assert_allclose(faces.landmark_distance(track, moved), 0.0)


def test_correlation_of_opposite_and_of_no_motion(track):
    mean = track.mean(0)
    assert float(faces.motion_correlation(track, 2 * mean - track)) == pytest.approx(-1, abs=1e-5)
    still = jnp.broadcast_to(track[:1], track.shape)
    assert abs(float(faces.motion_correlation(track, still))) < 1e-3


@pytest.mark.parametrize("metric", [faces.landmark_distance, faces.mouth_distance, faces.motion_correlation])
def test_wrong_shapes(metric, track):
    with pytest.raises((InputError, jaxtyping.TypeCheckError), match=r"one shape|Type-check"):
        metric(track, track[:3])
