"""Losses: against the reference program's numbers, against closed forms, and their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax import losses
from avfr_jax.ops.resize import pyramid
from avfr_jax.ops.tps import RandomWarp, sample_warp, warp_jacobian, warp_points
from tests.reference import channels_last

KINDS = ("non_saturating", "saturating", "least_squares", "hinge")
rng = np.random.default_rng(0)


def _images(n=2, size=16, seed=0):
    return jnp.asarray(np.random.default_rng(seed).random((n, size, size, 3)), jnp.float32)


def _features(x):
    """Two layers of a small fixed network."""
    w = jnp.asarray(np.random.default_rng(5).normal(size=(3, 4)), x.dtype)
    first = jax.nn.relu(x @ w)
    return [first, jax.nn.relu(first[:, ::2, ::2] - 0.2)]


def test_equivariance_equals_the_reference(golden_dir):
    step = np.load(golden_dir / "fomm_tiny_losses.npz")
    forward = np.load(golden_dir / "fomm_tiny_train_fwd.npz")
    warp = RandomWarp(
        jnp.asarray(step["f32/tps_theta_N23"]),
        jnp.asarray(step["f32/tps_control_points_1PP2"]).reshape(-1, 2),
        jnp.asarray(step["f32/tps_control_params_N1P"])[:, 0],
    )
    kp = jnp.asarray(step["f32/tps_transformed_kp_value"])
    value = losses.equivariance_value(forward["train/kp_driving_value"], kp, warp)
    np.testing.assert_allclose(10 * value, step["f32/loss_equivariance_value"], rtol=1e-5)
    jacobian = losses.equivariance_jacobian(
        forward["train/kp_driving_jacobian"], step["f32/tps_transformed_kp_jacobian"], kp, warp
    )
    np.testing.assert_allclose(10 * jacobian, step["f32/loss_equivariance_jacobian"], rtol=1e-5)


@pytest.mark.shared
def test_adversarial_and_feature_matching_equal_the_reference(shared_dir):
    from avfr_jax.convert.fomm import import_checkpoint
    from avfr_jax.models.discriminators import MultiScaleDiscriminator
    from avfr_jax.motion import Keypoints

    golden = shared_dir / "golden"
    step, forward = np.load(golden / "fomm_tiny_losses.npz"), np.load(golden / "fomm_tiny_train_fwd.npz")
    config, variables = import_checkpoint(golden / "fomm_tiny.pth.tar", golden / "fomm_tiny.yaml")
    network = MultiScaleDiscriminator(config.discriminator)
    kp = Keypoints(jnp.asarray(forward["train/kp_driving_value"]))
    driving = channels_last(np.load(golden / "fomm_tiny_io.npz")["driving_NCHW"])
    prediction = channels_last(forward["train/gen_prediction_NCHW"])
    discriminate = jax.jit(lambda x: network.apply(variables["discriminator"], x, kp))
    (real_maps, real), (fake_maps, fake) = discriminate(driving)["1"], discriminate(prediction)["1"]
    close = {"rtol": 1e-5}
    kind = "least_squares"
    np.testing.assert_allclose(losses.gan_generator_loss([fake], kind), step["f32/loss_gen_gan"], **close)
    np.testing.assert_allclose(losses.gan_discriminator_loss([real], [fake], kind), step["f32/loss_disc_gan"], **close)
    matching = losses.feature_matching(real_maps, fake_maps, [10] * 4)
    np.testing.assert_allclose(matching, step["f32/loss_feature_matching"], **close)


def test_l1_and_its_pyramid():
    a, b = _images(seed=1), _images(seed=2)
    np.testing.assert_allclose(losses.l1(a, b), np.abs(np.asarray(a) - np.asarray(b)).mean(), rtol=1e-6)
    two = (1.0, 0.5)
    levels = [np.abs(np.asarray(x - y)).mean() for x, y in zip(pyramid(a, two), pyramid(b, two), strict=True)]
    np.testing.assert_allclose(losses.pyramid_l1(a, b, scales=two), np.mean(levels), rtol=1e-5)
    weighted = jax.jit(lambda a, b: losses.pyramid_l1(a, b, scales=two, weights=(1.0, 3.0)))
    np.testing.assert_allclose(weighted(a, b), levels[0] + 3 * levels[1], rtol=1e-5)
    to_a, to_b = jax.jit(jax.grad(weighted, argnums=(0, 1)))(a, b)
    assert np.any(to_a)
    assert not np.any(to_b)


def test_perceptual_sums_layers_and_scales():
    a, b = _images(seed=1), _images(seed=2)
    expected = 0.0
    for x, y in zip(pyramid(a, (1.0, 0.5)), pyramid(b, (1.0, 0.5)), strict=True):
        for weight, f, g in zip((2.0, 5.0), _features(x), _features(y), strict=True):
            expected += weight * np.abs(np.asarray(f) - np.asarray(g)).mean()

    @jax.jit
    def call(p, t):
        function = lambda p, t: losses.perceptual(_features, p, t, weights=(2.0, 5.0), scales=(1.0, 0.5))  # noqa: E731
        return jax.value_and_grad(function, argnums=(0, 1))(p, t)

    value, (to_prediction, to_target) = call(a, b)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert float(call(a, a)[0]) == 0
    assert not np.any(to_target)
    assert np.all(np.isfinite(to_prediction))
    assert np.any(to_prediction)


def test_normalised_perceptual_has_no_unit():
    a, b = _images(seed=1), _images(seed=2)
    call = lambda factor: losses.perceptual(  # noqa: E731
        lambda x: [factor * f for f in _features(x)], a, b, weights=(1.0, 1.0), scales=(1.0,), normalise=True
    )
    np.testing.assert_allclose(call(1.0), call(1000.0), rtol=1e-4)


def test_perceptual_counts_its_weights():
    with pytest.raises(ValueError, match="3 weights given for 2"):
        losses.perceptual(_features, _images(), _images(), weights=(1.0, 1.0, 1.0), scales=(1.0,))


def test_gan_terms_in_closed_form():
    x = rng.normal(size=(2, 3, 3, 1)).astype(np.float32)
    y = rng.normal(size=(2, 3, 3, 1)).astype(np.float32)
    d, e = 1 / (1 + np.exp(-x.astype(np.float64))), 1 / (1 + np.exp(-y.astype(np.float64)))
    generator = {
        "non_saturating": -np.log(e),
        "saturating": np.log(1 - e),
        "least_squares": (1 - y) ** 2,
        "hinge": -y,
    }
    both = -np.log(d) - np.log(1 - e)
    discriminator = {
        "non_saturating": both,
        "saturating": both,
        "least_squares": (1 - x) ** 2 + y**2,
        "hinge": np.maximum(0, 1 - x) + np.maximum(0, 1 + y),
    }
    for kind in KINDS:
        np.testing.assert_allclose(losses.gan_generator_loss(y, kind), generator[kind].mean(), rtol=1e-5)
        np.testing.assert_allclose(losses.gan_discriminator_loss(x, y, kind), discriminator[kind].mean(), rtol=1e-5)
        # Scales add up.
        np.testing.assert_allclose(losses.gan_generator_loss([y, y], kind), 2 * generator[kind].mean(), rtol=1e-5)
        np.testing.assert_allclose(
            losses.gan_discriminator_loss({"1": x, "0-5": x}, {"1": y, "0-5": y}, kind),
            2 * discriminator[kind].mean(),
            rtol=1e-5,
        )
        # A better judgement lowers the generator's loss; certain logits do not overflow.
        assert losses.gan_generator_loss(y + 1, kind) < losses.gan_generator_loss(y, kind)
        assert np.isfinite(losses.gan_discriminator_loss(x + 1e4, y + 1e4, kind))


@pytest.mark.parametrize("function", [losses.gan_generator_loss, lambda x, k: losses.gan_discriminator_loss(x, x, k)])
def test_unknown_gan_kind_is_named(function):
    with pytest.raises(ValueError, match=r"wasserstein.*hinge"):
        function(jnp.zeros((1, 2)), "wasserstein")


def test_non_saturating_keeps_its_gradient_where_saturating_loses_it():
    rejected = jnp.asarray(-8.0)
    slow = jax.grad(lambda x: losses.gan_generator_loss(x, "saturating"))(rejected)
    fast = jax.grad(lambda x: losses.gan_generator_loss(x, "non_saturating"))(rejected)
    assert abs(float(slow)) < 1e-3
    assert float(fast) < -0.99


def test_feature_matching_has_no_gradient_for_real_maps():
    real = [jnp.asarray(rng.normal(size=(2, 4, 4, 3)), jnp.float32) for _ in range(2)]
    fake = [jnp.asarray(rng.normal(size=(2, 4, 4, 3)), jnp.float32) for _ in range(2)]
    expected = sum(w * np.abs(np.asarray(r - f)).mean() for w, r, f in zip((1, 3), real, fake, strict=True))
    np.testing.assert_allclose(losses.feature_matching(real, fake, (1, 3)), expected, rtol=1e-6)
    to_real, to_fake = jax.grad(losses.feature_matching, argnums=(0, 1))(real, fake, (1.0, 3.0))
    assert not any(np.any(g) for g in to_real)
    assert all(np.any(g) for g in to_fake)


def test_equivariant_keypoints_cost_nothing():
    """A detector that is equivariant: the frame's keypoint is the warp of the warped frame's, its Jacobian likewise."""
    warp = sample_warp(jax.random.key(0), 2)
    kp = jax.random.uniform(jax.random.key(1), (2, 5, 2), minval=-0.9, maxval=0.9)
    jacobian = jnp.eye(2) + 0.2 * jax.random.normal(jax.random.key(2), (2, 5, 2, 2))
    driving = warp_points(warp, kp)
    driving_jacobian = jnp.einsum("nkij,nkjl->nkil", warp_jacobian(warp, kp), jacobian, precision="highest")
    value = jax.jit(losses.equivariance_value)
    on_jacobian = jax.jit(jax.value_and_grad(losses.equivariance_jacobian, argnums=(0, 1, 2)))
    assert float(value(driving, kp, warp)) < 1e-6
    assert float(value(driving + 0.1, kp, warp)) == pytest.approx(0.1, rel=1e-4)
    assert float(on_jacobian(driving_jacobian, jacobian, kp, warp)[0]) < 1e-5
    assert float(on_jacobian(2 * driving_jacobian, jacobian, kp, warp)[0]) == pytest.approx(0.25, rel=1e-4)
    _, grads = on_jacobian(jacobian, jacobian, kp, warp)
    assert all(np.all(np.isfinite(g)) and np.any(g) for g in grads)


def test_bfloat16_is_reduced_in_float32():
    a, b = (np.random.default_rng(s).random((8, 64, 64, 3)).astype(np.float32) for s in (1, 2))
    low_a, low_b = jnp.asarray(a, jnp.bfloat16), jnp.asarray(b, jnp.bfloat16)
    exact = np.abs(np.asarray(low_a, np.float64) - np.asarray(low_b, np.float64)).mean()
    got = losses.l1(low_a, low_b)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, exact, rtol=1e-5)
    warp = sample_warp(jax.random.key(0), 1)
    kp = jnp.full((1, 3, 2), 0.25, jnp.bfloat16)
    eye = jnp.broadcast_to(jnp.eye(2, dtype=jnp.bfloat16), (1, 3, 2, 2))
    values = [
        losses.perceptual(_features, low_a, low_b, weights=(1, 1), scales=(1.0,), normalise=True),
        losses.gan_generator_loss(low_a),
        losses.gan_discriminator_loss(low_a, low_b, "hinge"),
        losses.feature_matching([low_a], [low_b], [1]),
        losses.equivariance_value(kp, kp, warp),
        losses.equivariance_jacobian(eye, eye, kp, warp),
    ]
    for value in values:
        assert value.dtype == jnp.float32
        assert np.all(np.isfinite(value))


def test_keypoint_spread():
    corners = jnp.asarray([[[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5]]])
    assert losses.keypoint_spread(corners, 0.1) == 0
    together = jnp.asarray([[[0.0, 0.0], [0.1, 0.0], [0.9, 0.0]]])
    # Of three pairs one is too close: (0.1 - 0.01) / 3.
    np.testing.assert_allclose(losses.keypoint_spread(together, 0.1), 0.03, rtol=1e-5)
    push = jax.grad(lambda x: losses.keypoint_spread(x, 0.1))(together)
    assert push[0, 0, 0] > 0 > push[0, 1, 0]  # descent takes them away from each other
    assert push[0, 2, 0] == 0
