import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.ops.flow import dense_flow, sparse_motions, warp_by_each
from avfr_jax.ops.grids import corner_grid


def _points(seed, n=2, k=4, dims=2):
    keys = jax.random.split(jax.random.key(seed))
    jacobian = jnp.eye(dims) + 0.2 * jax.random.normal(keys[1], (n, k, dims, dims))
    return jax.random.uniform(keys[0], (n, k, dims), minval=-1), jacobian


@pytest.mark.parametrize("dims", [2, 3])
def test_each_sparse_motion_maps_the_driving_keypoint_to_the_source_keypoint(dims):
    (source, source_jacobian), (driving, driving_jacobian) = _points(0, 1, dims=dims), _points(1, 1, dims=dims)
    grid = driving.reshape(*(1,) * (dims - 1), 4, dims)  # its cells are the driving keypoints themselves
    motions = sparse_motions(source, driving, grid, source_jacobian, driving_jacobian)
    cells = motions.reshape(5, 4, dims)
    for k in range(4):
        np.testing.assert_allclose(cells[k + 1, k], source[0, k], atol=1e-5)
    np.testing.assert_allclose(cells[0], driving[0], atol=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
def test_equal_keypoints_mean_no_motion(dims):
    value, jacobian = _points(2, dims=dims)
    shape = (6,) * dims
    grid = corner_grid(*shape)
    motions = sparse_motions(value, value, grid, jacobian, jacobian)
    np.testing.assert_allclose(motions, jnp.broadcast_to(grid, motions.shape), atol=2e-5)
    mask = jax.nn.softmax(jax.random.normal(jax.random.key(3), (2, *shape, 5)), axis=-1)
    np.testing.assert_allclose(dense_flow(mask, motions), jnp.broadcast_to(grid, (2, *shape, dims)), atol=2e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_one_source_image_serves_every_frame(dims):
    (source, _), (driving, _) = _points(4, 1, dims=dims), _points(5, 3, dims=dims)
    shape = (6,) * dims
    image = jax.random.uniform(jax.random.key(6), (1, *shape, 3))
    motions = sparse_motions(source, driving, corner_grid(*shape))
    shared = warp_by_each(image, motions)
    np.testing.assert_allclose(shared, warp_by_each(jnp.repeat(image, 3, 0), motions), atol=1e-6)


def test_without_jacobians_the_motion_is_a_shift():
    source, driving = _points(7)[0], _points(8)[0]
    grid = corner_grid(5, 5)
    motions = sparse_motions(source, driving, grid)
    np.testing.assert_allclose(motions[:, 1:], grid + (source - driving)[:, :, None, None], atol=1e-6)
