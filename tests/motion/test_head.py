"""Heads of canonical keypoints, rotation, translation and expression."""

import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.motion import HeadMotion, HeadSpec
from avfr_jax.motion.view import PoseChange, rotation_of
from avfr_jax.ops.rotations import euler_to_matrix, matrix_to_euler

SPEC = HeadSpec(5)


def _heads(yaw, seed=0, roll=-5.0):
    rng = np.random.default_rng(seed)
    n = len(yaw)
    rotation = euler_to_matrix(jnp.asarray(yaw, jnp.float32), jnp.full(n, 10.0), roll * jnp.ones(n))
    canonical = jnp.broadcast_to(jnp.asarray(rng.uniform(-0.5, 0.5, (1, 5, 3)), jnp.float32), (n, 5, 3))
    translation, expression = (jnp.asarray(0.1 * rng.standard_normal((n, *s, 3)), jnp.float32) for s in ((), (5,)))
    return HeadMotion(canonical, rotation, translation, expression)


def test_flatten_and_back_with_the_canonical_keypoints_of_the_source():
    heads = _heads([20.0, -60.0, 80.0])
    numbers = SPEC.flatten(heads)
    assert numbers.shape == (3, SPEC.size) == (3, 3 + 3 + 15)
    again = SPEC.unflatten(numbers, heads[0])
    np.testing.assert_allclose(again.positions, heads.positions, atol=1e-5)
    with pytest.raises(ValueError, match="source"):
        SPEC.unflatten(numbers)


def test_angles_are_interpolated_along_the_shortest_arc():
    heads = _heads([0.0, 20.0], roll=jnp.asarray([170.0, -170.0]))
    between = SPEC.interpolate(heads[0], heads[1], 0.5)
    yaw, _, roll = matrix_to_euler(between.rotation)
    np.testing.assert_allclose(yaw, 10, atol=0.1)
    np.testing.assert_allclose(np.abs(roll), 180, atol=0.1)
    np.testing.assert_allclose(between.translation[0], heads.translation.mean(0), atol=1e-5)


def test_retarget_moves_the_source_and_keeps_its_canonical_keypoints():
    source, driving = _heads([0.0], seed=1), _heads([10.0, 30.0], seed=2)
    still = SPEC.retarget(source, driving, driving[0])
    np.testing.assert_allclose(still.positions[0], source.positions[0], atol=1e-5)
    np.testing.assert_array_equal(still.canonical[1], source.canonical[0])
    absolute = SPEC.retarget(source, driving, driving[0], mode="absolute")
    np.testing.assert_array_equal(absolute.rotation, driving.rotation)
    np.testing.assert_array_equal(absolute.canonical[0], source.canonical[0])


def test_the_first_keypoints_alone_may_be_in_use():
    spec, heads = HeadSpec(5, 2), _heads([0.0, 10.0, 20.0])
    assert [c.name for c in spec.components] == ["rotation", "translation", "count", "expression"]
    assert spec.size == SPEC.size + 1
    numbers = np.array(spec.flatten(heads))
    np.testing.assert_array_equal(numbers[:, 6], 5)  # all of them
    numbers[:, 6] = [9, 3, -1]
    some = spec.unflatten(numbers, heads[0])
    np.testing.assert_array_equal(some.count, [5, 3, 2])  # no fewer than the model was trained with
    np.testing.assert_array_equal(np.asarray(some.in_use).sum(1), [5, 3, 2])
    np.testing.assert_allclose(some.expression[1, :3], heads.expression[1, :3], atol=1e-6)
    assert not np.asarray(some.expression[1, 3:]).any()
    np.testing.assert_array_equal(spec.flatten(some[1])[0, 6], 3)
    between = spec.interpolate(some[0], some[2], 0.5)
    assert np.asarray(between.in_use).sum() == 4  # of 3.5

    relative = spec.retarget(heads[0], some, some[1])
    np.testing.assert_array_equal(relative.count, [3, 3, 2])
    np.testing.assert_array_equal(spec.retarget(heads[0], some, some[1], mode="absolute").count, [5, 3, 2])
    assert np.asarray(heads.in_use).all()
    assert spec.retarget(heads[0], heads, heads[1]).count is None


def test_a_pitch_that_grows_upwards_is_turned_as_the_viewer_sees_it():
    """The unofficial program's networks: Hopenet's angles, of which only the pitch has another sign than ours."""
    angles = np.array([[20.0, -10.0, 5.0], [0.0, 0.0, 0.0]], np.float32)  # yaw, pitch, roll as Hopenet gives them
    heads = _heads([0.0, 0.0])
    heads = HeadMotion(heads.canonical, euler_to_matrix(*jnp.asarray(angles).T), heads.translation, heads.expression)
    spec = HeadSpec(5, pitch_up=True)
    seen = euler_to_matrix(*(jnp.asarray(angles) * jnp.asarray([1, -1, 1])).T)
    np.testing.assert_allclose(spec.head_rotation(heads), seen, atol=1e-5)

    up = PoseChange(rotation_of(np.array([[0.0, 15.0, 0.0]], np.float32)))
    turned = spec.turn(heads[1], heads[1:], up)
    np.testing.assert_allclose(np.stack(matrix_to_euler(turned.motion.rotation), -1), [[0, 15, 0]], atol=1e-3)
    usual = SPEC.turn(heads[1], heads[1:], up)
    np.testing.assert_allclose(np.stack(matrix_to_euler(usual.motion.rotation), -1), [[0, -15, 0]], atol=1e-3)
    # As the viewer sees it, R_u R; and nothing asked changes nothing.
    oblique = PoseChange(rotation_of(np.array([[10.0, 15.0, 3.0]], np.float32)))
    moved = spec.turn(heads[0], heads[:1], oblique)
    np.testing.assert_allclose(spec.head_rotation(moved.motion), oblique.rotation @ seen[:1], atol=1e-5)
    np.testing.assert_array_equal(spec.turn(heads[0], heads, PoseChange()).motion.rotation, heads.rotation)
