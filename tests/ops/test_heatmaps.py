import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.ops.grids import corner_grid
from avfr_jax.ops.heatmaps import gaussian_heatmaps, heatmap_difference, soft_argmax, spatial_softmax


def test_heatmaps_and_grid_equal_the_reference(golden_dir):
    z = np.load(golden_dir / "ops_misc.npz")
    grid = corner_grid(8, 11)
    np.testing.assert_allclose(grid, z["coordinate_grid_HW2_8x11"], atol=1e-6)
    heat = gaussian_heatmaps(z["kp2gaussian/kp"], grid)
    np.testing.assert_allclose(np.moveaxis(np.asarray(heat), -1, 1), z["kp2gaussian/out_NKHW_8x11"], atol=1e-5)


def test_soft_argmax_of_a_sharp_heatmap_is_its_peak():
    logits = jnp.zeros((1, 9, 9, 2)).at[0, 2, 7, 0].set(50.0).at[0, 8, 0, 1].set(50.0)
    grid = corner_grid(9, 9)
    value = soft_argmax(spatial_softmax(logits, 0.1), grid)
    np.testing.assert_allclose(value[0], [grid[2, 7], grid[8, 0]], atol=1e-5)


def test_soft_argmax_in_a_volume():
    grid = corner_grid(4, 5, 6)
    value = soft_argmax(spatial_softmax(jnp.zeros((1, 4, 5, 6, 1)).at[0, 3, 1, 2].set(50.0), 0.1), grid)
    np.testing.assert_allclose(value[0, 0], grid[3, 1, 2], atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_heatmap_difference_has_an_empty_background_map_in_front(dims):
    rng = np.random.default_rng(0)
    source, driving = (jnp.asarray(rng.uniform(-1, 1, (n, 4, dims)), jnp.float32) for n in (1, 2))
    maps = heatmap_difference(source, driving, corner_grid(*(6,) * dims), 0.1)
    assert maps.shape == (2, *(6,) * dims, 5)
    assert not maps[..., 0].any()
    assert maps.max() > 0 > maps.min()
    same = heatmap_difference(driving, driving, corner_grid(*(6,) * dims))
    np.testing.assert_allclose(same, 0, atol=1e-6)
