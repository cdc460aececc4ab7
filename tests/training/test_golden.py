"""One training step of FOMM against the reference program's: losses, gradients, new weights and running statistics.

The random warp is the reference's own sample, and the perceptual network is a VGG19 whose weights follow the rule of
`tests.reference`. Gradients are compared in float64: the networks have so many kinks (L1, ReLU, max-pooling, the
sampling grid's cells) that its float32 and float64 gradients differ by a hundredth. The remaining difference
comes from constants alone, which differ in the eighth digit: our coordinate grids are float32, our anti-alias kernels
are separated into two passes, and the reference's ImageNet mean and deviation are float32. With its constants instead
all gradient norms agree to 1e-11; without, the kinks make 8e-4 of it.
"""

import json
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from avfr_jax.backbones.perceptual import PerceptualNetwork, perceptual_network
from avfr_jax.backbones.vgg import vgg19
from avfr_jax.checkpoints import flatten
from avfr_jax.convert import fomm as convert
from avfr_jax.convert.vgg import to_stack_variables
from avfr_jax.losses import SCALES
from avfr_jax.ops.platform import kernels_for
from avfr_jax.training.composed import ComposedObjective
from avfr_jax.training.objectives.fomm import TASK
from avfr_jax.training.optimisers import OptimiserConfig, make_optimisers
from avfr_jax.training.state import TrainState
from avfr_jax.training.step import StepConfig, apply_gradients
from avfr_jax.training.terms import FOMM_TERMS
from tests.reference import channels_last, rule_weight

pytestmark = [pytest.mark.shared, pytest.mark.slow, pytest.mark.timeout(900)]

LEARNING_RATE = 2e-4
# Our name of a loss -> the reference's.
LOSSES = {
    "loss/perceptual": "loss_perceptual",
    "loss/adversarial": "loss_gen_gan",
    "loss/feature_matching": "loss_feature_matching",
    "loss/equivariance_value": "loss_equivariance_value",
    "loss/equivariance_jacobian": "loss_equivariance_jacobian",
    "loss/discriminator": "loss_disc_gan",
    "loss": "loss_generator_total",
}
# A bias in front of a normalisation, or under a softmax over positions, has no gradient but rounding noise.
NOISE = 1e-9


class Reference(NamedTuple):
    """The reference's step and what it started from; `losses` is its file of numbers."""

    losses: Any
    config: Any
    before: Any
    after: Any
    batch: dict[str, np.ndarray]
    perceptual: PerceptualNetwork


def _objective(reference: Reference) -> ComposedObjective:
    return ComposedObjective(TASK, reference.config, FOMM_TERMS, frozen={"perceptual": reference.perceptual})


def _random(reference: Reference, precision: str) -> dict[str, np.ndarray]:
    theta, bend = (reference.losses[f"{precision}/tps_{name}"] for name in ("theta_N23", "control_params_N1P"))
    return {"theta": theta, "bend": bend[:, 0]}


@pytest.fixture(scope="module")
def reference(shared_dir: pathlib.Path) -> Reference:
    golden = shared_dir / "golden"
    settings = golden / "fomm_tiny.yaml"
    config, before = convert.import_checkpoint(golden / "fomm_tiny.pth.tar", settings, align_corners=False)
    _, after = convert.import_checkpoint(golden / "fomm_tiny_after_step.pth.tar", settings, align_corners=False)
    frames = np.load(golden / "fomm_tiny_io.npz")
    batch = {which: channels_last(frames[f"{which}_NCHW"]) for which in ("source", "driving")}
    entries = json.loads((golden / "rule_manifest_metric_nets.json").read_text())["vgg19"]
    state = {key: rule_weight(key, shape) for key, shape in entries if key.startswith("features.")}
    stack = vgg19()
    weights = to_stack_variables(state, stack, "the rule")
    perceptual = PerceptualNetwork(weights, stack.apply, "vgg19", "VGG19 by the rule", (10.0,) * 5, SCALES, False)
    return Reference(np.load(golden / "fomm_tiny_losses.npz"), config, before, after, batch, perceptual)


class Wide(NamedTuple):
    """Our step in float64: gradients by slash-separated path, metrics, and the variables after it."""

    gradients: dict[str, dict[str, np.ndarray]]
    metrics: dict[str, float]
    variables: Any


@pytest.fixture(scope="module")
def wide(reference: Reference) -> Wide:
    objective = _objective(reference)
    optimisers = make_optimisers(OptimiserConfig(learning_rate=LEARNING_RATE), objective.networks)
    with jax.enable_x64(True):
        inputs = (reference.before, objective.frozen, reference.batch, _random(reference, "f64"))
        inputs = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), inputs)

        @jax.jit
        def step(variables, *others):
            result = objective.gradients(variables, *others)
            moments = {name: optimisers[name].init(variables[name]["params"]) for name in objective.networks}
            state = TrainState(jnp.zeros((), jnp.int32), variables, moments, {}, jax.random.key_data(jax.random.key(0)))
            return result, *apply_gradients(state, result, optimisers, StepConfig())

        # This program is run once: XLA's older code generator for the CPU compiles it in half the time.
        result, new, metrics = step.lower(*inputs).compile({"xla_cpu_use_fusion_emitters": False})(*inputs)
        gradients = {network: flatten(jax.tree.map(np.asarray, tree)) for network, tree in result.grads.items()}
        return Wide(gradients, jax.tree.map(float, metrics), jax.tree.map(np.asarray, new.variables))


def _path(key: str) -> str:
    """A parameter of a state dictionary under our name."""
    module, _, name = key.rpartition(".")
    leaf = name if name == "bias" else "scale" if "norm" in module.rpartition(".")[2] else "kernel"
    return f"{convert.rename(module).replace('.', '/')}/{leaf}"


def _norms(reference: Reference, network: str) -> dict[str, float]:
    """The reference's gradient norm in float64 of each parameter, under our names."""
    prefix = f"f64/gradnorm/{convert.NETWORKS[network]}/"
    keys = [key for key in reference.losses.files if key.startswith(prefix)]
    return {_path(key[len(prefix) :]): float(reference.losses[key]) for key in keys}


def test_our_defaults_are_the_weights_of_the_reference(shared_dir):
    values = yaml.safe_load((shared_dir / "golden" / "fomm_tiny.yaml").read_text())["train_params"]
    terms, theirs = {term.NAME: term for term in FOMM_TERMS}, values["loss_weights"]
    assert terms["adversarial"].weight == theirs["generator_gan"]
    assert terms["adversarial"].discriminator_weight == theirs["discriminator_gan"]
    assert {terms["feature_matching"].weight} == set(theirs["feature_matching"])
    for name in ("equivariance_value", "equivariance_jacobian"):
        assert terms[name].weight == theirs[name]
    network = perceptual_network("vgg19-random")
    assert list(network.weights) == theirs["perceptual"]
    assert list(network.scales) == values["scales"]
    assert OptimiserConfig().learning_rate == values["lr_generator"] == LEARNING_RATE


def test_losses(reference, wide):
    for ours, theirs in LOSSES.items():
        np.testing.assert_allclose(wide.metrics[ours], reference.losses[f"f64/{theirs}"], rtol=1e-5, err_msg=ours)


def test_losses_in_float32(reference):
    """As training computes them; the backward pass is not compiled."""
    objective = _objective(reference)
    metrics = jax.jit(lambda *inputs: objective.gradients(*inputs).metrics)
    with kernels_for("training"):
        got = metrics(reference.before, objective.frozen, reference.batch, _random(reference, "f32"))
    for ours, theirs in LOSSES.items():
        np.testing.assert_allclose(got[ours], reference.losses[f"f32/{theirs}"], rtol=1e-5, err_msg=ours)


def test_gradients(reference, wide):
    for network, theirs in convert.NETWORKS.items():
        gradients = wide.gradients[network]
        assert all(g.dtype == np.float64 for g in gradients.values())
        total = np.sqrt(sum((g**2).sum() for g in gradients.values()))
        wanted = reference.losses[f"f64/gradnorm_global_{theirs}"]
        np.testing.assert_allclose(total, wanted, rtol=1e-3, err_msg=network)
        norms = _norms(reference, network)
        assert norms.keys() == gradients.keys()
        errors = [abs(np.linalg.norm(gradients[k]) / n - 1) for k, n in norms.items() if n > NOISE]
        assert len(errors) > len(norms) / 2
        assert np.median(errors) < 2e-3, network
        assert max(errors) < 1e-2, network
        assert all(np.linalg.norm(gradients[k]) < NOISE for k, n in norms.items() if n <= NOISE)


@pytest.mark.parametrize(
    ("name", "network", "path"),
    [
        ("generator_first_conv", "generator", "first/conv/kernel"),
        ("kp_kp", "keypoint_detector", "kp/kernel"),
        ("dm_mask", "generator", "dense_motion_network/mask/kernel"),
        ("disc_conv0", "discriminator", "discs_1/down_blocks_0/conv/kernel"),
    ],
)
def test_gradients_element_by_element(reference, wide, name, network, path):
    wanted = np.moveaxis(reference.losses[f"f64/grad_{name}_weight_OIHW"], (0, 1), (-1, -2))
    error = np.linalg.norm(wide.gradients[network][path] - wanted) / np.linalg.norm(wanted)
    assert error < 1e-2


def test_new_weights(reference, wide):
    """Adam's first step is the learning rate times the gradient's sign, so that rounding decides about elements whose
    gradient is next to nothing: the median of each tensor is compared, and how many elements go the other way."""
    opposite = []
    for network in convert.NETWORKS:
        before, after, ours = (
            flatten(v[network]["params"]) for v in (reference.before, reference.after, wide.variables)
        )
        assert ours.keys() == after.keys()
        norms = _norms(reference, network)
        for path in after:
            if norms[path] <= NOISE:
                continue
            change, wanted = ours[path] - before[path], after[path] - before[path]
            np.testing.assert_allclose(np.median(np.abs(change)), np.median(np.abs(wanted)), rtol=1e-2, err_msg=path)
            assert np.median(np.abs(change - wanted)) < 1e-2 * LEARNING_RATE, path
            opposite.append((np.sign(change) != np.sign(wanted)).ravel())
    assert np.concatenate(opposite).mean() < 0.01


def test_new_running_statistics(reference, wide):
    """The keypoint detector's pass over source, driving frame and warped frame, in this order."""
    for network in ("keypoint_detector", "generator"):
        statistics = (flatten(v[network]["batch_stats"]) for v in (reference.before, reference.after, wide.variables))
        before, after, ours = statistics
        assert ours.keys() == after.keys()
        for path in after:
            np.testing.assert_allclose(ours[path], after[path], atol=1e-5, rtol=1e-5, err_msg=path)
            assert np.abs(after[path] - before[path]).max() > 1e-3
