import numpy as np

from avfr_jax.metrics.identity import centred_cosine, cosine_distance, identity_distance, mean_descriptor


def test_distance_and_cosine_by_hand():
    mean = np.zeros(128, np.float32)
    mean[0] = 5
    a, b = np.tile(mean, (2, 1)), np.tile(mean, (2, 1))
    a[:, 1] = 3
    b[0, 1], b[1, 2] = 3, 4
    np.testing.assert_allclose(identity_distance(a, b), [0, 5], rtol=1e-6)
    np.testing.assert_allclose(centred_cosine(a, b, mean), [1, 0], atol=1e-6)
    # Without the mean taken off, two people look alike.
    assert centred_cosine(a, b, np.zeros(128, np.float32))[1] > 0.6


def test_mean_descriptor_is_what_raw_cosines_saturate_on():
    mean = mean_descriptor()
    assert mean.shape == (128,)
    assert 1.0 < np.linalg.norm(mean) < 1.6  # a descriptor's own length is about 1.4
    np.testing.assert_allclose(centred_cosine(mean[None] + 1, mean[None] - 1), [-1], atol=1e-5)


def test_cosine_distance_and_distance_of_equally_long_descriptors():
    a, b = np.zeros((2, 128), np.float32), np.zeros((2, 128), np.float32)
    a[:, 0] = b[0, 0] = 1.4
    b[1, :2] = 1.4 * np.cos(0.3), 1.4 * np.sin(0.3)
    np.testing.assert_allclose(cosine_distance(a, b), [0, 1 - np.cos(0.3)], atol=1e-6)
    np.testing.assert_allclose(identity_distance(a, b)[1] ** 2 / (2 * 1.4**2), cosine_distance(a, b)[1], atol=1e-6)
