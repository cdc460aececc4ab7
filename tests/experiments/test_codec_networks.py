"""Frame interpolation, super-resolution and residual codec: configs, contradictions, training, models by name."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from avfr_jax import model_store
from avfr_jax.cli.main import main as avfr
from avfr_jax.errors import ConfigError
from avfr_jax.families import find_family
from avfr_jax.models.interpolation import Interpolator
from avfr_jax.models.super_resolution import SuperResolver
from avfr_jax.training.logging import read_metrics
from avfr_jax.training.terms import Adversarial, LpipsDistance, PyramidL1
from avfr_jax.training.validation import Pair
from experiments.build import HeldOutClips, build_augment
from experiments.experiment import Experiment, check
from experiments.settings import load_config, override
from experiments.train import main
from pipelines.sources import open_dataset
from tests.pipelines.prepared import CLIPS, write_dataset

CONFIGS = ("interpolation_vox256", "interpolation128", "super_resolution_vox512", "super_resolution64")
SMALL = {
    "model.network.block_expansion": 4, "model.network.num_blocks": 1, "model.network.fold": 1,
    "model.discriminator.num_blocks": 1, "model.discriminator.block_expansion": 4,
    "losses.pyramid_l1.scales": 1, "losses.structural": 0, "data.batch_size": 8, "held_out.path": "",
    "held_out.identities": "bob", "validation.stride": 4, "validation.frames_per_clip": 2, "loop.log_every": 1,
    "loop.panel_every": 0, "loop.tensorboard": "false", "loop.steps": 2, "augment.brightness": 0, "augment.hue": 0,
    "augment.contrast": 0, "augment.saturation": 0,
    "optimiser.warmup_steps": 1, "data.size": 32,
}  # fmt: skip
OWN = {
    "interpolation128": {"model.image_size": 32, "data.exclude_clips": "ann-3,ann-2", "losses.adversarial": 0},
    "super_resolution64": {"model.patch_size": 16, "augment.crop": 16, "model.overlap": 4},
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("clips") / "data")


def train(name, workdir, clips):
    """Two steps of a shrunken config; the metrics of the run."""
    words = ["--config", name, "--workdir", str(workdir), "--data.path", str(clips)]
    words += [word for key, value in (SMALL | OWN[name]).items() for word in (f"--{key}", str(value))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", "set, so that the test leaves the cache as it is")
        assert main(words) == 0
    return read_metrics(workdir / "metrics.jsonl")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with a small untrained model of each kind."""
    folder = tmp_path_factory.mktemp("models")
    for name, own in OWN.items():
        config = override(load_config(name, Experiment), {k: str(v) for k, v in (SMALL | own).items()})
        family = find_family(config.family)
        weights = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), family.shapes(config.model)["generator"])
        model_store.save_model(folder / name, config.family, config.model, {"generator": weights})
    return folder


@pytest.mark.parametrize("name", CONFIGS)
def test_shipped_configs(name):
    config = load_config(name, Experiment)
    check(config)
    shapes = find_family(config.family).shapes(config.model)
    assert sum(4 * x.size for x in jax.tree.leaves(shapes["generator"])) < 10e6  # bytes that are shipped
    terms = {term.NAME: term for term in config.losses}
    assert terms["adversarial"].weight > 0
    if "vox" in name:
        assert config.optimiser.learning_rate == 1e-3
        assert config.losses == (PyramidL1(1.0, (1.0,)), LpipsDistance(1.0), Adversarial(1.0, "non_saturating"))
    if config.family == "interpolation":
        assert 2 in config.data.spans
    else:
        limits = (config.model.patch_size, config.model.min_factor, config.model.max_factor)
        assert limits == (64, 2.0, 6.0)


@pytest.mark.parametrize("name", ["residual_vox512", "residual256"])
def test_residual_configs(name):
    config = load_config(name, Experiment)
    check(config)
    assert (config.model.side * config.model.cell, config.model.bits) == (config.data.size, 32)
    shapes = find_family("residual").shapes(config.model)
    assert sum(4 * x.size for x in jax.tree.leaves(shapes["generator"])) < 10e6


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("interpolation128", {"data": {"frames": "pair"}}, r"needs data\.frames triplet, not pair"),
        ("interpolation128", {"validation": {"span": 3}}, r"even validation\.span of 2 or more, not 3"),
        ("interpolation128", {"augment": {"crop": 64}}, r"whole frames: set augment\.crop 0"),
        ("interpolation128", {"data": {"size": 256}}, "they must agree"),
        ("interpolation128", {"data": {"mel": True}}, r"makes no use of data\.mel"),
        ("super_resolution64", {"data": {"frames": "triplet", "spans": (2,)}}, r"data\.frames single"),
        ("super_resolution64", {"augment": {"crop": 32}}, r"patch_size is 64 and augment\.crop 32"),
        ("super_resolution64", {"data": {"size": 32}}, r"no larger than data\.size, 32"),
        ("residual256", {"data": {"landmarks": False}}, r"residual model needs data\.landmarks"),
        ("fomm_vox256", {"data": {"frames": "single"}}, r"needs data\.frames pair, not single"),
    ],
)
def test_contradictions_are_refused(name, changes, sentence):
    config = load_config(name, Experiment)
    for group, values in changes.items():
        config = dataclasses.replace(config, **{group: dataclasses.replace(getattr(config, group), **values)})
    with pytest.raises(ConfigError, match=sentence):
        check(config)


def test_settings_that_belong_together_are_given_in_any_order():
    config = load_config("super_resolution64", Experiment)
    words = [("model.patch_size", "16"), ("augment.crop", "16"), ("model.overlap", "4")]
    for order in (words, words[::-1]):
        changed = override(config, dict(order))
        assert (changed.model.patch_size, changed.model.overlap, changed.augment.crop) == (16, 4, 16)
        assert changed.model.network == config.model.network
    with pytest.raises(ConfigError, match=r"overlap must be from 0 to below patch_size \(16\), not 16"):
        override(config, dict(words[:1]))


def test_validation_reads_the_frame_halfway(clips):
    config = load_config("interpolation128", Experiment)
    dataset = open_dataset(clips)
    held = HeldOutClips(dataset, dataclasses.replace(config.data, size=32))
    batch = held.samples([Pair(list(CLIPS).index("bob-1"), 3, 7)])
    assert set(batch) == {"source", "between", "driving"}
    number = {name: round((float(x[0, ..., 1].mean()) * 255 - 20) / 15) for name, x in batch.items()}
    assert number == {"source": 3, "between": 5, "driving": 7}


def test_augmentation_gives_what_the_objective_takes(clips):
    config = load_config("super_resolution64", Experiment)
    config = dataclasses.replace(config, augment=dataclasses.replace(config.augment, crop=16))
    frames = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), np.uint8)
    batch = {"driving": frames, "swapped": np.zeros(2, bool)}
    shapes = jax.eval_shape(build_augment(config, ["driving"]), jax.random.key(0), batch)
    assert {name: x.shape for name, x in shapes.items()} == {"driving": (2, 16, 16, 3)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "baseline"),
    [
        ("interpolation128", "l1_mean"),
        pytest.param("super_resolution64", "l1_bicubic", marks=pytest.mark.heavy),
    ],
)
def test_the_command_trains_validates_and_exports(name, baseline, tmp_path, clips):
    lines = train(name, tmp_path / "run", clips)
    assert [line["step"] for line in lines if "train/loss" in line] == [1, 2]
    assert {"validation/l1", f"validation/{baseline}"} <= lines[-1].keys()
    info = model_store.describe_model(tmp_path / "run" / "model")
    assert info.provenance["networks"] == ["generator"]
    assert info.quality["validation"]["l1"] == lines[-1]["validation/l1"]
    assert info.provenance["training_data"]["identities"] == 2


def test_models_are_found_by_name(models, monkeypatch, capsys):
    monkeypatch.setenv("AVFR_MODELS", str(models))
    interpolator = model_store.load_interpolator("interpolation128")
    super_resolver = model_store.load_super_resolver("super_resolution64")
    assert isinstance(interpolator, Interpolator)
    assert isinstance(super_resolver, SuperResolver)
    assert (interpolator.config.image_size, super_resolver.config.patch_size) == (32, 16)
    assert avfr(["models", "--json"]) == 0
    kinds = {model["name"]: model["kind"] for model in json.loads(capsys.readouterr().out)}
    assert kinds["interpolation128"] == "interpolator"
    assert kinds["super_resolution64"] == "super_resolver"
    assert kinds["landmark-warp"] == "animator"


def test_a_model_of_another_kind_is_refused_in_one_sentence(models, monkeypatch):
    monkeypatch.setenv("AVFR_MODELS", str(models))
    with pytest.raises(ConfigError) as caught:
        model_store.load_model("interpolation128")
    assert "\n" not in str(caught.value)
    assert "interpolates frames; a model that animates a source is needed here: " in str(caught.value)
    assert "landmark-warp" in str(caught.value)
    with pytest.raises(
        ConfigError, match=r"animates a source; a model that upscales frames is needed here: super_resolution64"
    ):
        model_store.load_super_resolver("landmark-warp")
    with pytest.raises(ConfigError, match="a model that interpolates frames is needed"):
        model_store.load_interpolator("super_resolution64")
