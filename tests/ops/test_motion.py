import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.motion import Keypoints
from avfr_jax.ops.flow import dense_flow, sparse_motions, warp_by_each
from avfr_jax.ops.grids import corner_grid
from avfr_jax.ops.heatmaps import heatmap_difference


def _keypoints(seed, n=2, k=4):
    keys = jax.random.split(jax.random.key(seed))
    jacobian = jnp.eye(2) + 0.2 * jax.random.normal(keys[1], (n, k, 2, 2))
    return Keypoints(jax.random.uniform(keys[0], (n, k, 2), minval=-1), jacobian)


def test_each_sparse_motion_takes_the_driving_point_to_the_source_point():
    source, driving = _keypoints(0), _keypoints(1)
    # A grid whose cells are the driving keypoints themselves.
    grid = driving.value[0][None]
    motions = sparse_motions(source[0], driving[0], grid)
    for k in range(4):
        np.testing.assert_allclose(motions[0, k + 1, 0, k], source.value[0, k], atol=1e-5)
    np.testing.assert_allclose(motions[0, 0], grid, atol=1e-6)


def test_equal_keypoints_mean_no_motion():
    kp = _keypoints(2)
    grid = corner_grid(6, 6)
    motions = sparse_motions(kp, kp, grid)
    np.testing.assert_allclose(motions, jnp.broadcast_to(grid, motions.shape), atol=1e-5)
    np.testing.assert_allclose(heatmap_difference(kp, kp, grid), 0, atol=1e-6)
    mask = jax.nn.softmax(jax.random.normal(jax.random.key(3), (2, 6, 6, 5)), axis=-1)
    np.testing.assert_allclose(dense_flow(mask, motions), jnp.broadcast_to(grid, (2, 6, 6, 2)), atol=1e-5)


def test_one_source_image_serves_every_frame():
    source, driving = _keypoints(4, n=1), _keypoints(5, n=3)
    grid = corner_grid(8, 8)
    image = jax.random.uniform(jax.random.key(6), (1, 8, 8, 3))
    motions = sparse_motions(source, driving, grid)
    shared = warp_by_each(image, motions)
    np.testing.assert_allclose(shared, warp_by_each(jnp.repeat(image, 3, 0), motions), atol=1e-6)


def test_without_jacobians_the_motion_is_a_shift():
    source, driving = Keypoints(_keypoints(7).value), Keypoints(_keypoints(8).value)
    grid = corner_grid(5, 5)
    motions = sparse_motions(source, driving, grid)
    shift = (source.value - driving.value)[:, :, None, None]
    np.testing.assert_allclose(motions[:, 1:], grid + shift, atol=1e-6)
