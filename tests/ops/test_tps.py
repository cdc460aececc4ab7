"""Thin-plate splines against the reference program's numbers, against SciPy and against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.ops import tps

fit = jax.jit(tps.fit, static_argnames="kernel")
evaluate = jax.jit(tps.evaluate)
warp_points = jax.jit(tps.warp_points)
warp_jacobian = jax.jit(tps.warp_jacobian)


@pytest.mark.parametrize(
    ("file", "prefix", "points", "warped", "jacobian"),
    [
        ("ops_misc.npz", "tps/", "points_NK2", "warped_NK2", "jacobian_NK22"),
        (
            "fomm_tiny_losses.npz",
            "f32/tps_",
            "transformed_kp_value",
            "warp_of_transformed_kp",
            "jacobian_at_transformed_kp",
        ),
    ],
)
def test_random_warp_equals_reference(golden_dir, file, prefix, points, warped, jacobian):
    numbers = np.load(golden_dir / file)
    control = jnp.asarray(numbers[prefix + "control_points_1PP2"]).reshape(-1, 2)
    np.testing.assert_allclose(tps.control_grid(5), control, atol=1e-7)
    warp = tps.RandomWarp(
        jnp.asarray(numbers[prefix + "theta_N23"]),
        control,
        jnp.asarray(numbers[prefix + "control_params_N1P"])[:, 0],
    )
    where = jnp.asarray(numbers[prefix + points])
    np.testing.assert_allclose(warp_points(warp, where), numbers[prefix + warped], atol=1e-5)
    np.testing.assert_allclose(warp_jacobian(warp, where), numbers[prefix + jacobian], atol=1e-5)


def test_warped_frames_equal_reference(golden_dir):
    numbers = np.load(golden_dir / "ops_misc.npz")
    warp = tps.RandomWarp(
        jnp.asarray(numbers["tps/theta_N23"]),
        tps.control_grid(5),
        jnp.asarray(numbers["tps/control_params_N1P"])[:, 0],
    )
    frames = jnp.asarray(numbers["tps/frame_NCHW"]).transpose(0, 2, 3, 1)
    expected = numbers["tps/frame_warped_reflection_acF_NCHW"].transpose(0, 2, 3, 1)
    # A pixel coordinate near 64 carries a rounding error of some 4e-6; neighbouring values differ by up to 1.
    np.testing.assert_allclose(tps.warp_frames(warp, frames), expected, atol=5e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_jacobian_is_the_derivative(dims):
    warp = tps.sample_warp(jax.random.key(0), 2, sigma_affine=0.2, sigma_tps=0.02, dims=dims)
    points = jax.random.uniform(jax.random.key(1), (2, 5, dims), minval=-0.9, maxval=0.9)
    step = 1e-3
    columns = [
        (warp_points(warp, points + step * e) - warp_points(warp, points - step * e)) / (2 * step)
        for e in np.eye(dims, dtype=np.float32)
    ]
    np.testing.assert_allclose(warp_jacobian(warp, points), np.stack(columns, -1), atol=2e-3)


def test_sampled_warps_spread_and_repeatability():
    warp = tps.sample_warp(jax.random.key(3), 500, sigma_affine=0.05, sigma_tps=0.005)
    assert warp.theta.shape == (500, 2, 3)
    assert warp.control_params.shape == (500, 25)
    noise = np.asarray(warp.theta) - np.eye(2, 3)
    assert abs(noise.std() - 0.05) < 0.003
    assert abs(np.asarray(warp.control_params).std() - 0.005) < 0.0003
    again = tps.sample_warp(jax.random.key(3), 500, sigma_affine=0.05, sigma_tps=0.005)
    assert np.array_equal(warp.theta, again.theta)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kernel", ["thin_plate", "linear"])
def test_fit_interpolates_and_reproduces_affine_maps(kernel, dims):
    rng = np.random.default_rng(0)
    centres = rng.uniform(-1, 1, (2, 20, dims)).astype(np.float32)
    values = rng.normal(size=(2, 20, 3)).astype(np.float32)
    spline = fit(jnp.asarray(centres), jnp.asarray(values), kernel=kernel)
    np.testing.assert_allclose(evaluate(spline, jnp.asarray(centres)), values, atol=2e-3)

    matrix = rng.normal(size=(dims, dims)).astype(np.float32)
    spline = fit(jnp.asarray(centres), jnp.asarray(centres @ matrix + 0.3), kernel=kernel)
    points = rng.uniform(-2, 2, (2, 7, dims)).astype(np.float32)
    np.testing.assert_allclose(evaluate(spline, jnp.asarray(points)), points @ matrix + 0.3, atol=1e-4)


@pytest.mark.parametrize(("kernel", "scipy_kernel"), [("thin_plate", "thin_plate_spline"), ("linear", "linear")])
def test_fit_equals_scipy(kernel, scipy_kernel):
    from scipy.interpolate import RBFInterpolator

    rng = np.random.default_rng(1)
    centres = rng.uniform(-1, 1, (30, 2))
    values = rng.normal(size=(30, 2))
    smoothing = rng.uniform(0.01, 1, 30)
    points = rng.uniform(-1.2, 1.2, (50, 2))
    expected = RBFInterpolator(centres, values, kernel=scipy_kernel, smoothing=smoothing, degree=1)(points)
    spline = fit(
        jnp.asarray(centres[None], jnp.float32),
        jnp.asarray(values[None], jnp.float32),
        jnp.asarray(smoothing[None], jnp.float32),
        kernel=kernel,
    )
    np.testing.assert_allclose(evaluate(spline, jnp.asarray(points[None], jnp.float32))[0], expected, atol=1e-4)


def test_a_heavily_smoothed_centre_is_left_out():
    rng = np.random.default_rng(2)
    centres = rng.uniform(-1, 1, (1, 12, 2)).astype(np.float32)
    values = rng.normal(size=(1, 12, 2)).astype(np.float32)
    points = rng.uniform(-1, 1, (1, 9, 2)).astype(np.float32)
    smoothing = np.r_[np.zeros(11), 1e6].astype(np.float32)[None]
    with_it = fit(jnp.asarray(centres), jnp.asarray(values), jnp.asarray(smoothing))
    without = fit(jnp.asarray(centres[:, :11]), jnp.asarray(values[:, :11]))
    np.testing.assert_allclose(
        evaluate(with_it, jnp.asarray(points)), evaluate(without, jnp.asarray(points)), atol=1e-3
    )


def test_unknown_kernel_is_named():
    with pytest.raises(ValueError, match="thin_plate"):
        tps.fit(jnp.zeros((1, 4, 2)), jnp.zeros((1, 4, 2)), kernel="cubic")
