import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.motion import Keypoints, KeypointSpec, concatenate, movement_scale, relative_motion
from avfr_jax.ops.matrices import hull_area


@pytest.mark.parametrize("case", range(3))
def test_relative_motion_equals_the_reference(golden_dir, case):
    z = {k.split("/")[1]: v for k, v in np.load(golden_dir / "fomm_relative.npz").items()
         if k.startswith(f"case{case}/")}  # fmt: skip
    source = Keypoints(jnp.asarray(z["source_value"]), jnp.asarray(z["source_jacobian"]))
    initial = Keypoints(jnp.asarray(z["driving_initial_value"]), jnp.asarray(z["driving_initial_jacobian"]))
    driving = Keypoints(jnp.asarray(z["driving_value_TK"]), jnp.asarray(z["driving_jacobian_TK"]))
    assert hull_area(z["source_value"][0]) == pytest.approx(float(z["hull_area_source"]), rel=1e-6)
    scale = movement_scale(source.value, initial.value)
    for scaled in (0, 1):
        for jac in (0, 1):
            out = relative_motion(source, driving, initial, scale if scaled else 1.0, use_jacobian=bool(jac))
            np.testing.assert_allclose(out.value, z[f"out_scale{scaled}_rel1_reljac{jac}_value_TK"], atol=1e-5)
            np.testing.assert_allclose(out.jacobian, z[f"out_scale{scaled}_rel1_reljac{jac}_jacobian_TK"], atol=1e-5)


def _random(dims, n=4, k=5):
    rng = np.random.default_rng(dims)
    jacobian = np.eye(dims) + 0.1 * rng.standard_normal((n, k, dims, dims))
    return Keypoints(jnp.asarray(rng.uniform(-1, 1, (n, k, dims)), jnp.float32), jnp.asarray(jacobian, jnp.float32))


@pytest.mark.parametrize("dims", [2, 3])
def test_a_driving_face_at_rest_leaves_the_source_as_it_is(dims):
    source, initial = _random(dims)[0], _random(dims)[1]
    out = KeypointSpec(5, dims=dims).retarget(source, initial, initial)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), out, source)


def test_points_on_a_line_scale_by_one():
    line = np.stack([np.linspace(-1, 1, 6)] * 2, -1)[None].astype(np.float32)
    square = np.asarray([[[0, 0], [0, 1], [1, 0], [1, 1], [0.5, 0.5], [0.2, 0.2]]], np.float32)
    assert movement_scale(line, square) == 1.0
    assert movement_scale(square, square) == pytest.approx(1.0)


def test_selection_and_concatenation_of_frames():
    kp = Keypoints(jnp.arange(24.0).reshape(4, 3, 2), jnp.ones((4, 3, 2, 2)))
    assert len(kp) == 4
    assert kp[-1].value.shape == (1, 3, 2)
    np.testing.assert_array_equal(kp[-1].value[0], kp.value[3])
    both = concatenate([kp[:1], kp[1:]])
    np.testing.assert_array_equal(both.value, kp.value)
    assert concatenate([Keypoints(kp.value), Keypoints(kp.value)]).jacobian is None


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("jacobians", [True, False])
def test_flatten_and_back(dims, jacobians):
    spec, kp = KeypointSpec(5, jacobians, dims), _random(dims)
    numbers = spec.flatten(kp if jacobians else Keypoints(kp.value))
    assert numbers.shape == (4, spec.size)
    again = spec.unflatten(numbers)
    np.testing.assert_array_equal(again.value, kp.value)
    assert (again.jacobian is None) != jacobians
    with pytest.raises(ValueError, match="numbers"):
        spec.unflatten(numbers[:, 1:])


def test_interpolation_is_linear():
    kp, spec = _random(2), KeypointSpec(5)
    between = spec.interpolate(kp[0], kp[1], jnp.asarray([0.0, 0.25, 1.0]))
    np.testing.assert_allclose(between.value[1], 0.75 * kp.value[0] + 0.25 * kp.value[1], atol=1e-6)
    np.testing.assert_allclose(between.jacobian[2], kp.jacobian[1], atol=1e-6)
