"""Training of frame interpolation and super-resolution: the paper's losses, and a step that lowers them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from avfr_jax.errors import ConfigError
from avfr_jax.models import super_resolution
from avfr_jax.models.discriminators import judgement_size
from avfr_jax.ops.resize import resize_cubic
from avfr_jax.training.optimisers import OptimiserConfig, make_optimisers
from avfr_jax.training.sharding import make_mesh, put_batch
from avfr_jax.training.step import StepConfig, init_state, make_step
from avfr_jax.training.terms import Adversarial, PyramidL1
from tests.training.networks import INTERPOLATION, interpolation_objective, random_weights, super_resolution_objective

OBJECTIVES = {"interpolation": interpolation_objective(), "super-resolution": super_resolution_objective()}


def moving(seed, count=8, side=16):
    """Blobs in uniform motion before a still background."""
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    start, step = rng.uniform(4, side - 4, (count, 2, 1, 1)), rng.uniform(-3, 3, (count, 2, 1, 1))

    def frame(time):
        at = start + time * step
        near = np.exp(-((y - at[:, 0]) ** 2 + (x - at[:, 1]) ** 2) / 4)
        return (0.2 + 0.6 * near[..., None] * np.asarray([1.0, 0.5, 0.8])).astype(np.float32)

    return {"source": frame(-1), "between": frame(0), "driving": frame(1)}


def batch_for(objective, seed):
    return {name: moving(seed)[name] for name in objective.example_batch(1)}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_few_steps_lower_the_loss_and_move_every_network(name):
    objective = OBJECTIVES[name]
    mesh = make_mesh(devices=jax.devices()[:1])
    optimisers = make_optimisers(OptimiserConfig(learning_rate=3e-3), objective.networks)
    config = StepConfig(ema_decay=0.9)
    state = init_state(objective, optimisers, jax.random.key(0), mesh, config)
    before = jax.device_get(state.variables)
    step, results = make_step(objective, optimisers, mesh, config), []
    for i in range(30):
        state, metrics = step(state, put_batch(mesh, batch_for(objective, i % 3)))
        results.append({k: float(v) for k, v in metrics.items()})
    assert {"loss/pyramid_l1", "loss/adversarial", "loss/discriminator", "loss", "l1"} <= results[0].keys()
    assert np.isfinite([list(one.values()) for one in results]).all()
    assert all(results[1][f"grad_norm/{network}"] > 0 for network in ("generator", "discriminator"))
    first, last = (np.mean([one["loss/pyramid_l1"] for one in part]) for part in (results[:3], results[-3:]))
    assert last < 0.8 * first
    for path, old in jax.tree_util.tree_leaves_with_path(before):
        new = state.variables
        for key in path:
            new = new[key.key]
        if path[-1].key != "bias":  # a bias before a normalisation may stay
            assert (np.asarray(new) != old).any(), path
    assert set(state.ema) == {"generator"}


@pytest.mark.parametrize("name", ["interpolation", pytest.param("super-resolution", marks=pytest.mark.heavy)])
def test_dividing_the_batch_changes_nothing(name):
    """Plain descent, since Adam's first steps are the gradient's sign, rounding noise included."""
    objective = OBJECTIVES[name]
    optimisers = {network: optax.sgd(1e-2) for network in objective.networks}
    results = []
    for devices, per_device in ((1, False), (4, False), (4, True)):
        mesh, config = make_mesh(devices=jax.devices()[:devices]), StepConfig(per_device=per_device)
        state = init_state(objective, optimisers, jax.random.key(3), mesh, config)
        one = make_step(objective, optimisers, mesh, config)
        for i in range(2):
            state, metrics = one(state, put_batch(mesh, batch_for(objective, i)))
        results.append(jax.device_get((state.variables, metrics["loss"])))
    for other in results[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5), other, results[0])


def test_recomputed_bfloat16_gives_about_the_same():
    batch, results = batch_for(OBJECTIVES["interpolation"], 0), []
    for options in ({}, {"dtype": jnp.bfloat16, "remat": True}):
        objective = interpolation_objective(**options)
        results.append(jax.jit(objective.gradients)(random_weights(OBJECTIVES["interpolation"]), {}, batch, {}))
    exact, half = results
    np.testing.assert_allclose(half.metrics["loss"], exact.metrics["loss"], rtol=0.05)
    assert {x.dtype for x in jax.tree.leaves(half.grads)} == {jnp.dtype("float32")}


def test_gradients_are_those_of_the_equations():
    """Eqs. 2 and 3 without LPIPS, written out and differentiated as they stand."""
    terms = (PyramidL1(1.0, scales=(1.0,)), Adversarial(1.0, "saturating"))
    objective = super_resolution_objective(terms=terms)
    variables = random_weights(objective)
    crops = np.random.default_rng(0).random((3, 16, 16, 3), np.float32)
    factors = np.float32([2, 3, 5])
    given = super_resolution.degrade(objective.config, crops, factors)

    def judged(params, pictures):
        ((_, logits),) = (
            super_resolution.discriminator(objective.config).apply({"params": params}, pictures, train=True).values()
        )
        return jax.nn.sigmoid(logits)

    def painted(params):
        own = {**variables["generator"], "params": params}
        return super_resolution.generator(objective.config).apply(
            own, given, factors, train=True, mutable=["batch_stats"]
        )[0]

    def generator_loss(params):
        picture = painted(params)
        game = jnp.log(1 - judged(variables["discriminator"]["params"], picture)).mean()
        return game + jnp.abs(picture - crops).mean()

    def discriminator_loss(params):
        fake = jax.lax.stop_gradient(painted(variables["generator"]["params"]))
        return -jnp.log(judged(params, crops)).mean() - jnp.log(1 - judged(params, fake)).mean()

    @jax.jit
    def both():
        results = objective.gradients(variables, {}, {"driving": crops}, factors)
        want = {
            "generator": jax.value_and_grad(generator_loss)(variables["generator"]["params"]),
            "discriminator": jax.value_and_grad(discriminator_loss)(variables["discriminator"]["params"]),
        }
        return results.grads, results.metrics, want

    grads, metrics, want = both()
    np.testing.assert_allclose(metrics["loss"], want["generator"][0], rtol=1e-5)
    np.testing.assert_allclose(metrics["loss/discriminator"], want["discriminator"][0], rtol=1e-5)
    for network, (_, gradient) in want.items():
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-6), grads[network], gradient)


def test_untrained_networks_equal_the_baseline():
    """And the baseline is the mean, or bicubic interpolation."""
    batch = moving(0)
    objective = OBJECTIVES["interpolation"]
    variables = {"generator": jax.tree.map(np.zeros_like, random_weights(objective)["generator"])}
    metrics, prediction = jax.jit(objective.evaluate)(variables, batch)
    mean = (batch["source"] + batch["driving"]) / 2
    np.testing.assert_allclose(prediction, mean, atol=1e-6)
    np.testing.assert_allclose(metrics["l1_mean"], np.abs(mean - batch["between"]).mean((1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(metrics["l1"], metrics["l1_mean"], rtol=1e-4)
    assert {name: x.shape for name, x in metrics.items()} == dict.fromkeys(
        ("l1", "l1_mean", "psnr", "psnr_mean", "ssim"), (8,)
    )

    objective = OBJECTIVES["super-resolution"]
    frames = moving(0, 2, 32)["driving"]  # larger than a window
    variables = {"generator": jax.tree.map(np.zeros_like, random_weights(objective)["generator"])}
    metrics, prediction = jax.jit(objective.evaluate)(variables, {"driving": frames})
    for factor, name in ((2, "l1"), (4, "l1_x4")):
        small = np.clip(resize_cubic(frames, (32 // factor, 32 // factor)), 0, 1)
        error = np.abs(np.clip(resize_cubic(small, (32, 32)), 0, 1) - frames).mean((1, 2, 3))
        np.testing.assert_allclose(metrics[f"{name}_bicubic"], error, rtol=1e-4)
        np.testing.assert_allclose(metrics[name], error, rtol=1e-4)
    assert (metrics["l1_x4"] > metrics["l1"]).all()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_panels_hold_target_output_and_baseline(name):
    objective, batch = OBJECTIVES[name], batch_for(OBJECTIVES[name], 0)
    variables = random_weights(objective)
    panels = jax.jit(objective.panels)(variables, batch)
    baseline = "mean" if name == "interpolation" else "bicubic"
    assert {*batch, "output", baseline, "difference", f"difference_of_{baseline}"} <= set(panels)
    for picture in panels.values():
        assert picture.shape == (8, 16, 16, 3)
        assert ((picture >= 0) & (picture <= 1)).all()
    for which in batch:
        np.testing.assert_array_equal(panels[which], batch[which])
    assert (np.asarray(panels["output"]) != np.asarray(panels[baseline])).any()


def test_factors_are_sampled_between_the_limits():
    factors = np.asarray(OBJECTIVES["super-resolution"].sample(jax.random.key(0), 1000))
    assert factors.shape == (1000,)
    assert 2 <= factors.min() < 2.1
    assert 5.9 < factors.max() <= 6
    np.testing.assert_array_equal(OBJECTIVES["super-resolution"].sample(jax.random.key(0), 1000), factors)


def test_images_too_small_for_the_discriminator_are_refused():
    discriminator = dataclasses.replace(INTERPOLATION.discriminator, num_blocks=4)
    config = dataclasses.replace(INTERPOLATION, discriminator=discriminator)
    with pytest.raises(ConfigError, match="16 x 16 are too small for a discriminator of 4 blocks"):
        interpolation_objective(config)
    for side, blocks, want in ((64, 4, 2), (16, 2, 3), (16, 1, 13)):
        assert judgement_size(dataclasses.replace(discriminator, num_blocks=blocks), side) == want
