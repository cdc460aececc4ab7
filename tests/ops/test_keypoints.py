import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.motion import Keypoints, concatenate, movement_scale, relative_motion
from avfr_jax.ops.grids import corner_grid
from avfr_jax.ops.heatmaps import gaussian_heatmaps, soft_argmax, spatial_softmax
from avfr_jax.ops.matrices import hull_area, small_inverse


@pytest.mark.shared
@pytest.mark.parametrize("case", range(3))
def test_relative_motion_equals_the_reference(shared_dir, case):
    z = {k.split("/")[1]: v for k, v in np.load(shared_dir / "golden" / "fomm_relative.npz").items()
         if k.startswith(f"case{case}/")}  # fmt: skip
    source = Keypoints(jnp.asarray(z["source_value"]), jnp.asarray(z["source_jacobian"]))
    initial = Keypoints(jnp.asarray(z["driving_initial_value"]), jnp.asarray(z["driving_initial_jacobian"]))
    driving = Keypoints(jnp.asarray(z["driving_value_TK"]), jnp.asarray(z["driving_jacobian_TK"]))
    assert hull_area(z["source_value"][0]) == pytest.approx(float(z["hull_area_source"]), rel=1e-6)
    scale = movement_scale(source, initial)
    for scaled in (0, 1):
        for jac in (0, 1):
            out = relative_motion(source, driving, initial, scale if scaled else 1.0, use_jacobian=bool(jac))
            np.testing.assert_allclose(out.value, z[f"out_scale{scaled}_rel1_reljac{jac}_value_TK"], atol=1e-5)
            np.testing.assert_allclose(out.jacobian, z[f"out_scale{scaled}_rel1_reljac{jac}_jacobian_TK"], atol=1e-5)


@pytest.mark.shared
def test_heatmaps_and_grid_equal_the_reference(shared_dir):
    z = np.load(shared_dir / "golden" / "ops_misc.npz")
    grid = corner_grid(8, 11)
    np.testing.assert_allclose(grid, z["coordinate_grid_HW2_8x11"], atol=1e-6)
    heat = gaussian_heatmaps(z["kp2gaussian/kp"], grid)
    np.testing.assert_allclose(np.moveaxis(np.asarray(heat), -1, 1), z["kp2gaussian/out_NKHW_8x11"], atol=1e-5)


def test_soft_argmax_finds_the_peak_of_a_sharp_heatmap():
    logits = jnp.zeros((1, 9, 9, 2)).at[0, 2, 7, 0].set(50.0).at[0, 8, 0, 1].set(50.0)
    grid = corner_grid(9, 9)
    value = soft_argmax(spatial_softmax(logits, 0.1), grid)
    np.testing.assert_allclose(value[0], [grid[2, 7], grid[8, 0]], atol=1e-5)


def test_inverse_is_exact_and_guarded():
    m = jax.random.normal(jax.random.key(0), (50, 2, 2))
    np.testing.assert_allclose(small_inverse(m), np.linalg.inv(m), rtol=2e-4, atol=1e-4)
    singular = jnp.asarray([[1.0, 2.0], [2.0, 4.0]])
    assert np.isfinite(small_inverse(singular)).all()
    assert np.isfinite(jax.grad(lambda x: small_inverse(x).sum())(singular)).all()


def test_standing_still_gives_the_source_back():
    keys = jax.random.split(jax.random.key(1), 3)
    jac = jnp.eye(2) + 0.1 * jax.random.normal(keys[2], (1, 5, 2, 2))
    source = Keypoints(jax.random.uniform(keys[0], (1, 5, 2)), jac)
    still = Keypoints(jax.random.uniform(keys[1], (1, 5, 2)), jac * 1.1)
    out = relative_motion(source, still, still, 0.7)
    np.testing.assert_allclose(out.value, source.value, atol=1e-6)
    np.testing.assert_allclose(out.jacobian, source.jacobian, atol=1e-5)


def test_points_on_a_line_scale_by_one():
    line = Keypoints(np.stack([np.linspace(-1, 1, 6)] * 2, -1)[None].astype(np.float32))
    square = Keypoints(np.asarray([[[0, 0], [0, 1], [1, 0], [1, 1], [0.5, 0.5], [0.2, 0.2]]], np.float32))
    assert movement_scale(line, square) == 1.0
    assert movement_scale(square, square) == pytest.approx(1.0)


def test_keypoints_select_and_join():
    kp = Keypoints(jnp.arange(24.0).reshape(4, 3, 2), jnp.ones((4, 3, 2, 2)))
    assert len(kp) == 4
    assert kp[-1].value.shape == (1, 3, 2)
    np.testing.assert_array_equal(kp[-1].value[0], kp.value[3])
    both = concatenate([kp[:1], kp[1:]])
    np.testing.assert_array_equal(both.value, kp.value)
    assert concatenate([Keypoints(kp.value), Keypoints(kp.value)]).jacobian is None
