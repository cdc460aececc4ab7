import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from avfr_jax.ops.rotations import ANGLE_BINS, binned_angles, euler_to_matrix, matrix_to_euler


def test_matrices_equal_scipy_and_come_back():
    angles = jax.random.uniform(jax.random.key(0), (100, 3), minval=-80, maxval=80)
    yaw, pitch, roll = angles.T
    matrix = euler_to_matrix(yaw, pitch, roll)
    want = Rotation.from_euler("XYZ", np.stack([pitch, yaw, roll], -1), degrees=True).as_matrix()
    np.testing.assert_allclose(matrix, want, atol=1e-5)
    np.testing.assert_allclose(jnp.stack(matrix_to_euler(matrix), -1), angles, atol=1e-2)
    np.testing.assert_allclose(
        matrix @ jnp.swapaxes(matrix, -1, -2), jnp.broadcast_to(jnp.eye(3), matrix.shape), atol=1e-5
    )


def test_the_short_pi_of_face_vid2vid_differs_by_its_half_per_mille():
    exact = euler_to_matrix(jnp.asarray(30.0), jnp.asarray(0.0), jnp.asarray(0.0))
    short = euler_to_matrix(jnp.asarray(30.0), jnp.asarray(0.0), jnp.asarray(0.0), exact=False)
    np.testing.assert_allclose(jnp.arcsin(short[0, 2]) / jnp.arcsin(exact[0, 2]), 3.14 / np.pi, rtol=1e-5)


def test_angles_from_bins():
    """Half of the weight on -99 degrees and half on 96, and all of it on 30."""
    logits = np.full((2, ANGLE_BINS), -100.0, np.float32)
    logits[0, [0, -1]] = 0
    logits[1, 43] = 0
    np.testing.assert_allclose(binned_angles(logits), [-1.5, 30], atol=1e-4)
