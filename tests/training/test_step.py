"""The step gives the same losses and updates however the batch is divided."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from avfr_jax.errors import ConfigError
from avfr_jax.models.mouth_masking import mouth_opening
from avfr_jax.training.forward import Forward
from avfr_jax.training.head_terms import KeypointPrior
from avfr_jax.training.objective import Gradients
from avfr_jax.training.objectives import avfr as avfr_training
from avfr_jax.training.optimisers import OptimiserConfig, learning_rate, make_optimisers
from avfr_jax.training.sharding import make_mesh, put_batch
from avfr_jax.training.state import TrainState
from avfr_jax.training.step import StepConfig, apply_gradients, init_state, make_step
from avfr_jax.training.terms import Adversarial, EquivarianceValue, FeatureMatching, MouthOpening, PyramidL1
from tests.training.networks import AVFR, FACE_VID2VID, avfr_objective, face, face_vid2vid_objective, fomm_objective
from tests.training.small import LinearObjective

BATCH = 8


def _batch(seed=0):
    rng = np.random.default_rng(seed)
    source, driving = (rng.random((BATCH, 4, 4, 3)).repeat(8, 1).repeat(8, 2).astype(np.float32) for _ in range(2))
    return {"source": source, "driving": driving}


def _run(devices, steps=2, *, fsdp=1, objective=None, batch=_batch, **step):
    mesh = make_mesh(fsdp=fsdp, devices=jax.devices()[:devices])
    objective = objective or fomm_objective()
    # Not Adam, whose first steps are the sign of the gradient, rounding noise included.
    optimisers = {name: optax.sgd(1e-3) for name in objective.networks}
    config = StepConfig(ema_decay=0.9, **step)
    state = init_state(objective, optimisers, jax.random.key(3), mesh, config)
    one = make_step(objective, optimisers, mesh, config)
    losses = []
    for i in range(steps):
        state, metrics = one(state, put_batch(mesh, batch(i)))
        losses.append({k: float(v) for k, v in metrics.items()})
    return state, losses


@pytest.fixture(scope="module")
def alone():
    return _run(1)


def _same(got, want):
    for a, b in zip(got[1], want[1], strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_allclose(a[name], b[name], rtol=1e-5 if name.startswith("loss") else 2e-3, err_msg=name)
    for a, b in zip(jax.tree.leaves(got[0].variables), jax.tree.leaves(want[0].variables), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    "view", [{"devices": 8, "fsdp": 2}, pytest.param({"devices": 4, "per_device": True}, marks=pytest.mark.heavy)]
)
def test_dividing_the_batch_changes_nothing(alone, view):
    _same(_run(**view), alone)


def _avfr_batch(i):
    rng = np.random.default_rng(i)
    frames = rng.random((2, BATCH, 4, 4, 5)).repeat(8, 2).repeat(8, 3).astype(np.float32)
    mel = rng.uniform(-4, 4, (BATCH, 80, 16)).astype(np.float32)
    return {"source": frames[0], "driving": frames[1], "mel": mel}


@pytest.mark.heavy
def test_dividing_the_batch_changes_nothing_for_avfr():
    objective = avfr_objective()
    _same(*(_run(n, steps=1, objective=objective, batch=_avfr_batch) for n in (8, 1)))


def _heads_batch(i):
    """Faces of several sizes, one of which was not tracked."""
    faces = face() * np.linspace(0.7, 1.1, BATCH, dtype=np.float32)[:, None, None]
    faces[3] = np.nan
    return {**_batch(i), "source_landmarks": faces, "driving_landmarks": np.roll(faces, 1, axis=0)}


@pytest.fixture(scope="module")
def heads_alone():
    return _run(1, steps=1, objective=face_vid2vid_objective(), batch=_heads_batch)


@pytest.mark.heavy
@pytest.mark.parametrize("view", [{"devices": 8, "fsdp": 2}, {"devices": 8, "per_device": True}])
def test_dividing_the_batch_changes_nothing_for_face_vid2vid(heads_alone, view):
    """Spectral normalisation, batch statistics, keypoint dropout and frames without a face included. One step: the
    angles' gradients are so large that rounding noise goes past ReLUs' kinks in the next."""
    _same(_run(steps=1, objective=face_vid2vid_objective(), batch=_heads_batch, **view), heads_alone)


@pytest.mark.heavy
def test_every_network_of_face_vid2vid_moves(heads_alone):
    state, losses = heads_alone
    names = ("keypoint_detector", "head_pose", "generator", "discriminator")
    assert all(losses[0][f"grad_norm/{name}"] > 0 for name in names)
    assert all(np.isfinite(v) for one in losses for v in one.values())
    assert set(state.ema) == set(names[:3])


def test_every_network_of_face_vid2vid_has_its_gradients():
    objective = face_vid2vid_objective()
    batch = objective.example_batch(2)
    assert batch["source_landmarks"].shape == (2, 478, 3)
    variables = jax.eval_shape(objective.init, jax.random.key(0))
    random = jax.eval_shape(lambda key: objective.sample(key, 2), jax.random.key(0))
    result = jax.eval_shape(lambda *x: objective.gradients(*x)[:3], variables, objective.frozen, batch, random)
    assert jax.tree.structure(result[0]) == jax.tree.structure({k: v["params"] for k, v in variables.items()})
    assert {f"loss/{term.NAME}" for term in objective.terms} <= result[2].keys()


def test_keypoints_of_face_vid2vid_detected_directly():
    config = dataclasses.replace(FACE_VID2VID, keypoints="direct", keypoint_dropout=0.0)
    with pytest.raises(ConfigError, match=r"losses\.head_pose reads heads, which this FaceVid2VidConfig has none of"):
        face_vid2vid_objective(config)
    objective = face_vid2vid_objective(config, (PyramidL1(), EquivarianceValue(), KeypointPrior()))
    assert objective.networks == ("keypoint_detector", "generator")
    variables = jax.eval_shape(objective.init, jax.random.key(0))
    random = jax.eval_shape(lambda key: objective.sample(key, BATCH), jax.random.key(0))
    result = jax.eval_shape(lambda *x: objective.gradients(*x)[:3], variables, objective.frozen, _batch(0), random)
    assert set(result[0]) == {"keypoint_detector", "generator"}


def test_every_network_of_avfr_has_its_gradients():
    objective = avfr_objective()
    variables = jax.eval_shape(objective.init, jax.random.key(0))
    random = jax.eval_shape(lambda key: objective.sample(key, BATCH), jax.random.key(0))
    result = jax.eval_shape(lambda *x: objective.gradients(*x)[:3], variables, objective.frozen, _avfr_batch(0), random)
    assert jax.tree.structure(result[0]) == jax.tree.structure({k: v["params"] for k, v in variables.items()})
    assert {f"loss/{name}" for name in ("pyramid_l1", "adversarial", "equivariance_jacobian")} <= result[2].keys()


@pytest.mark.parametrize("structural", [True, False])
def test_mouths_are_masked_in_a_share_of_the_pairs_where_a_prior_shows_their_shape(structural):
    config = dataclasses.replace(AVFR, mouth_masking=0.75, structural_prior=structural)
    objective = avfr_objective(config)
    assert objective.example_batch(2)["driving_landmarks"].shape == (2, 478, 3)
    plain = avfr_objective()
    assert "driving_landmarks" not in plain.example_batch(2)
    masked = objective.sample(jax.random.key(0), 1000)["mask_mouth"]
    assert 0.7 < masked.mean() < 0.8
    batch = {name: value + 1 for name, value in _avfr_batch(0).items()}
    if not structural:
        batch |= {name: batch[name][..., :3] for name in ("source", "driving")}
    batch["mel"][::2] = -4
    batch["driving_landmarks"] = np.repeat(face()[None], BATCH, 0)
    source, driving = avfr_training.detector_inputs(config, batch, {"mask_mouth": np.arange(BATCH) < BATCH // 2})
    changed = (np.asarray(driving) != batch["driving"]).any((1, 2, 3))
    expected = range(BATCH // 2) if structural else range(1, BATCH // 2, 2)  # with the mesh image, or with sound
    np.testing.assert_array_equal(np.flatnonzero(changed), expected)
    np.testing.assert_array_equal(source, batch["source"])
    np.testing.assert_array_equal(avfr_training.detector_inputs(config, batch, None)[1], batch["driving"])


def test_mouth_opening_term():
    objective = avfr_objective(terms=(MouthOpening(2.0),))
    assert "driving_landmarks" in objective.example_batch(2)
    shut, opened = face(), face()
    opened[13, :2], opened[14, :2] = (0, 0), (0, np.linalg.norm(opened[10, :2] - opened[2, :2]) / 8)
    batch = {**_avfr_batch(0), "driving_landmarks": np.stack([shut, opened, shut * np.nan, opened] * 2)}
    batch["mel"][3::4] = -4  # silence
    features = jnp.zeros((BATCH, 4, 4, 6)).at[..., 0].set(jnp.asarray([0.25, 0.5, 9, 9] * 2)[:, None, None])
    outputs = {"mouth_opening": avfr_training.mouth_opening(features, batch)}
    value = MouthOpening()(Forward(None, None, {}, outputs=outputs), {})
    assert value == pytest.approx(abs(0.25 - 4 * float(mouth_opening(shut[None])[0])) / 4, rel=1e-4)


def test_every_network_moves_and_losses_are_finite(alone):
    state, losses = alone
    assert {"loss/perceptual"}.isdisjoint(losses[0])
    wanted = {"pyramid_l1", "adversarial", "feature_matching", "discriminator", "equivariance_value"}
    assert {f"loss/{name}" for name in wanted} <= losses[0].keys()
    assert all(np.isfinite(v) for one in losses for v in one.values())
    assert all(losses[0][f"grad_norm/{name}"] > 0 for name in ("keypoint_detector", "generator", "discriminator"))
    assert int(state.step) == 2
    assert state.variables["generator"]["batch_stats"]["first"]["norm"]["mean"].any()
    assert set(state.ema) == {"keypoint_detector", "generator"}


def test_large_parameters_are_divided_along_fsdp():
    class Wide(LinearObjective):
        def __init__(self):
            super().__init__(width=2**14)

    mesh = make_mesh(fsdp=4)
    objective = Wide()
    optimisers = make_optimisers(OptimiserConfig(), objective.networks)
    state = init_state(objective, optimisers, jax.random.key(0), mesh)
    up = state.variables["generator"]["params"]["up"]
    assert up.addressable_shards[0].data.shape == (3, 2**12)
    moment = state.opt_state["generator"][0].mu["up"]
    assert moment.addressable_shards[0].data.shape == (3, 2**12)
    assert state.variables["generator"]["batch_stats"]["mean"].is_fully_replicated


def test_accumulated_passes_average_to_the_whole_batch():
    # Without batch statistics in the loss the passes' mean is the whole batch's, exactly.
    class Plain(LinearObjective):
        def gradients(self, variables, frozen, batch, random, axis_name=None):
            fixed = {**batch, "source": batch["source"] - batch["source"].mean((1, 2, 3), keepdims=True)}
            result = super().gradients(variables, frozen, fixed, random, axis_name)
            return result._replace(collections={})

    def batch(i):
        source = np.random.default_rng(i).random((BATCH, 4, 4, 3), np.float32)
        return {"source": source, "driving": source[..., ::-1]}

    class Centred(Plain):
        def _predict(self, params, source, mean):
            return super()._predict(params, source, 0.0)

    whole = _run(2, objective=Centred(), batch=batch)
    parts = _run(2, objective=Centred(), batch=batch, accumulate=4)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=1e-5, atol=1e-7)


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(ConfigError, match="cannot be divided over 8"):
        _run(8, objective=LinearObjective(), batch=lambda i: {k: v[:6] for k, v in _batch().items()})
    with pytest.raises(ConfigError, match=r"multiple of 32"):
        _run(8, objective=LinearObjective(), accumulate=4)
    with pytest.raises(ConfigError, match="cannot form a mesh"):
        make_mesh(fsdp=3)
    with pytest.raises(ConfigError, match="fsdp = 1"):
        _run(8, objective=LinearObjective(), fsdp=2, per_device=True)


def test_learning_rates():
    rate = learning_rate(OptimiserConfig(learning_rate=1.0, milestones=(4, 6), warmup_steps=2))
    np.testing.assert_allclose([rate(i) for i in range(8)], [0, 0.5, 1, 1, 0.1, 0.1, 0.01, 0.01], rtol=1e-6)
    rate = learning_rate(OptimiserConfig(learning_rate=1.0, schedule="cosine", gamma=0.2, decay_steps=10))
    np.testing.assert_allclose([rate(0), rate(5), rate(10), rate(20)], [1, 0.6, 0.2, 0.2], rtol=1e-6)
    with pytest.raises(ConfigError, match="Milestones"):
        learning_rate(OptimiserConfig(milestones=(6, 4)))


def test_recomputed_bfloat16_keeps_parameters_and_losses_in_float32():
    objective = fomm_objective(dtype=jnp.bfloat16, remat=True)
    variables = jax.eval_shape(objective.init, jax.random.key(0))
    random = jax.eval_shape(lambda key: objective.sample(key, BATCH), jax.random.key(0))
    result = jax.eval_shape(lambda *x: objective.gradients(*x)[:3], variables, objective.frozen, _batch(), random)
    assert {x.dtype for x in jax.tree.leaves(result)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        ((), r"losses holds no term with a weight"),
        ((Adversarial(0.0),), r"losses holds no term with a weight"),
        ((PyramidL1(), PyramidL1(2.0)), r"losses holds two terms of one kind"),
        ((FeatureMatching(),), r"losses\.feature_matching needs losses\.adversarial"),
        ((MouthOpening(),), r"losses\.mouth_opening reads mouth_opening, which this FommConfig has none of"),
    ],
)
def test_terms_that_do_not_fit_are_refused(terms, sentence):
    with pytest.raises(ConfigError, match=sentence):
        fomm_objective(terms)


def test_without_adversarial_term_there_is_no_discriminator():
    objective = fomm_objective((PyramidL1(),))
    assert objective.networks == ("keypoint_detector", "generator")
    shapes = jax.eval_shape(objective.init, jax.random.key(0))
    assert set(shapes) == {"keypoint_detector", "generator"}


@pytest.mark.parametrize(("step", "decay"), [(0, 0.1), (10, 0.55), (100_000, 0.999)])
def test_averages_soon_forget_fresh_weights(step, decay):
    state = TrainState(jnp.asarray(step), {"network": {"params": jnp.ones(2)}}, {}, {"network": jnp.zeros(2)}, None)
    new, _ = apply_gradients(state, Gradients({}, {}, {}), {}, StepConfig(ema_decay=0.999))
    np.testing.assert_allclose(new.ema["network"], 1 - decay, atol=1e-6)
