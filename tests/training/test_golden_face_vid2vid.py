"""One training step of face-vid2vid against the unofficial program's: losses and gradients.

The random warps are the reference's own samples; VGG19 and Hopenet have the weights of `tests.reference`'s rule. The
program judges each image twice, once for either side of the game, and we once: its discriminator's loss is one of
spectral norms two power iterations further. Gradients are compared in float64, as those of FOMM are.
"""

import dataclasses
import json
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.backbones.hopenet import PoseNetwork
from avfr_jax.backbones.perceptual import PerceptualNetwork
from avfr_jax.backbones.vgg import vgg19
from avfr_jax.checkpoints import flatten
from avfr_jax.convert import face_vid2vid as convert
from avfr_jax.convert.checkpoint_file import read_checkpoint
from avfr_jax.convert.hopenet import to_hopenet_variables
from avfr_jax.convert.vgg import to_stack_variables
from avfr_jax.ops.platform import kernels_for
from avfr_jax.training.composed import ComposedObjective
from avfr_jax.training.head_terms import Deformation, HeadPose, KeypointPrior
from avfr_jax.training.objectives.face_vid2vid import TASK
from avfr_jax.training.terms import Adversarial, EquivarianceJacobian, EquivarianceValue, FeatureMatching, Perceptual
from tests.reference import channels_last, rule_weight

pytestmark = [pytest.mark.shared, pytest.mark.slow, pytest.mark.heavy, pytest.mark.timeout(1800)]

# Our name of a loss -> the reference's.
LOSSES = {
    "loss/perceptual": "loss_perceptual",
    "loss/adversarial": "loss_gen_gan",
    "loss/feature_matching": "loss_feature_matching",
    "loss/equivariance_value": "loss_equivariance_value",
    "loss/equivariance_jacobian": "loss_equivariance_jacobian",
    "loss/keypoint_prior": "loss_keypoint",
    "loss/head_pose": "loss_headpose",
    "loss/deformation": "loss_expression",
    "loss/discriminator": "loss_disc_gan",
    "loss": "loss_generator_total",
}
# The program's weights (`fv2v_tiny.yaml`), which are not the paper's.
TERMS = (
    Perceptual(),
    Adversarial(1.0, "hinge"),
    FeatureMatching(10.0),
    EquivarianceValue(10.0),
    KeypointPrior(10.0),
    HeadPose(20.0, target="hopenet", as_published=True),
    Deformation(5.0),
)


class Reference(NamedTuple):
    """The reference's numbers, and what its step started from."""

    losses: Any
    objective: ComposedObjective
    before: Any
    batch: dict[str, np.ndarray]

    def random(self, precision: str) -> dict[str, np.ndarray]:
        """The random warp."""
        theta, bend = (self.losses[f"{precision}/tps_{name}"] for name in ("theta_N23", "control_params_N1P"))
        return {"theta": theta, "bend": bend[:, 0]}


def _frozen(golden: pathlib.Path) -> dict[str, Any]:
    entries = json.loads((golden / "rule_manifest_metric_nets.json").read_text())["vgg19"]
    stack = vgg19()
    state = {key: rule_weight(key, shape) for key, shape in entries if key.startswith("features.")}
    weights = to_stack_variables(state, stack, "the rule")
    entries = json.loads((golden / "rule_manifest_fv2v_full.json").read_text())["hopenet"]
    pose = to_hopenet_variables({key: rule_weight(key, shape) for key, shape in entries}, "the rule")
    perceptual = PerceptualNetwork(weights, stack.apply, "vgg19", "by the rule", (10.0,) * 5, (1.0, 0.5, 0.25), False)
    return {"perceptual": perceptual, "head_pose": PoseNetwork(pose)}


def _reference(golden: pathlib.Path, name: str, kind: str, side: int, terms: tuple[Any, ...]) -> Reference:
    checkpoint = read_checkpoint(golden / f"{name}_{kind}.pth.tar")
    states = {network: checkpoint[network] for network in convert.NETWORKS.values()}
    config = dataclasses.replace(convert.config_of(states), image_size=side)
    frames = np.load(golden / f"{name}_io.npz")
    batch = {which: channels_last(frames[f"{which}_NCHW"]) for which in ("source", "driving")}
    losses = np.load(golden / f"{name}_losses_{kind}.npz")
    frozen = _frozen(golden) if any(hasattr(term, "load") for term in terms) else {}
    objective = ComposedObjective(TASK, config, terms, frozen=frozen)
    return Reference(losses, objective, convert.to_tree(states, config), batch)


def _plain(golden: pathlib.Path, terms: tuple[Any, ...]) -> Reference:
    """The plain decoder, with Jacobians, at 64 × 64 and three scales."""
    return _reference(golden, "fv2v_tiny_jac", "original", 64, (*terms, EquivarianceJacobian(10.0)))


def _spade(golden: pathlib.Path) -> Reference:
    """The SPADE decoder, without Jacobians, at 128 × 128 and four scales."""
    terms = (Perceptual(scales=(1.0, 0.5, 0.25, 0.125)), *TERMS[1:])
    return _reference(golden, "fv2v_tiny", "spade", 128, terms)


def _losses_are_equal(metrics: Any, reference: Reference, precision: str, rtol: float) -> None:
    names = {term.NAME for term in reference.objective.terms}
    whole = {term.NAME for term in TERMS} <= names
    terms = {f"loss/{name}" for name in (*names, "discriminator")} | ({"loss"} if whole else set())
    for ours, theirs in LOSSES.items():
        if ours in terms:
            wanted = reference.losses[f"{precision}/{theirs}"]
            np.testing.assert_allclose(metrics[ours], wanted, rtol=rtol, err_msg=ours)


def test_losses_without_frozen_networks_in_float32(shared_dir):
    """As training computes them; the backward pass is not compiled."""
    reference = _plain(shared_dir / "golden", tuple(term for term in TERMS if not hasattr(term, "load")))
    objective = reference.objective
    metrics = jax.jit(lambda *inputs: objective.gradients(*inputs).metrics)
    with kernels_for("training"):
        got = metrics(reference.before, objective.frozen, reference.batch, reference.random("f32"))
    _losses_are_equal(got, reference, "f32", 1e-3)


@pytest.mark.parametrize("name", ["plain", "spade"])
def test_losses_and_gradients_in_float64(name, shared_dir):
    golden = shared_dir / "golden"
    reference = _plain(golden, TERMS) if name == "plain" else _spade(golden)
    objective = reference.objective
    with jax.enable_x64(True):
        inputs = (reference.before, objective.frozen, reference.batch, reference.random("f64"))
        inputs = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), inputs)
        result = jax.jit(lambda *inputs: objective.gradients(*inputs))(*inputs)
        _losses_are_equal(result.metrics, reference, "f64", 1e-4)
        gradients = {network: flatten(jax.tree.map(np.asarray, tree)) for network, tree in result.grads.items()}
    for network, theirs in convert.NETWORKS.items():
        assert all(g.dtype == np.float64 for g in gradients[network].values())
        total = np.sqrt(sum((g**2).sum() for g in gradients[network].values()))
        np.testing.assert_allclose(total, reference.losses[f"f64/gradnorm_global_{theirs}"], rtol=1e-3, err_msg=network)
        _each_parameter(gradients[network], reference, network)


def _each_parameter(gradients: dict[str, np.ndarray], reference: Reference, network: str) -> None:
    """Norms of single parameters, of those that are no rounding noise."""
    prefix, losses = f"f64/gradnorm/{convert.NETWORKS[network]}/", reference.losses
    norms = {key[len(prefix) :]: float(losses[key]) for key in losses.files if key.startswith(prefix)}
    assert len(norms) == len(gradients)
    ours = np.sort([np.linalg.norm(g) for g in gradients.values()])
    theirs = np.sort(list(norms.values()))
    large = theirs > 1e-3 * theirs.max()
    np.testing.assert_allclose(ours[large], theirs[large], rtol=1e-2)
