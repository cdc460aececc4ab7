"""Configs from files, and overrides with names and types checked."""

import dataclasses
from typing import Literal

import pytest

from avfr_jax.errors import ConfigError, InputError
from avfr_jax.training.terms import LpipsDistance, PyramidL1, WarpedL1
from experiments.experiment import Experiment
from experiments.settings import CONFIGS, leaves, load_config, override, parse_overrides


@dataclasses.dataclass(frozen=True)
class Rate:
    learning_rate: float = 1e-3
    milestones: tuple[int, ...] = ()
    clip: float | None = None


@dataclasses.dataclass(frozen=True)
class Both:
    rate: Rate = Rate()
    other: Rate = Rate(0.5)
    steps: int = 10
    fast: bool = False
    name: str = "run"
    precision: Literal["float32", "bfloat16"] = "float32"
    names: tuple[str, ...] = ()


def changed(*words):
    return override(Both(), parse_overrides(words))


def test_every_type_can_be_set():
    assert changed("--rate.learning_rate", "2e-4").rate == Rate(2e-4)
    assert changed("--rate.learning_rate=1").rate == Rate(1.0)
    assert changed("--rate.milestones", "60,90").rate.milestones == (60, 90)
    assert changed("--rate.milestones", "[60, 90]").rate.milestones == (60, 90)
    assert changed("--rate.milestones=").rate.milestones == ()
    assert changed("--rate.clip", "2").rate.clip == 2.0
    assert changed("--rate.clip", "none").rate.clip is None
    assert changed("--steps", "1e3").steps == 1000
    assert changed("--steps", "-1").steps == -1
    assert changed("--fast", "True").fast is True
    assert changed("--name", "12").name == "12"
    assert changed("--names", "id1, id2").names == ("id1", "id2")
    assert changed("--precision", "bfloat16").precision == "bfloat16"
    assert changed("--steps", "1", "--steps", "2", "--name=x") == Both(steps=2, name="x")
    assert changed("--other.clip", "1").rate == Rate()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--steps", "many"), r"config\.steps must be int, not 'many'"),
        (("--steps", "1.5"), r"steps must be int, not 1\.5"),
        (("--steps", "true"), "steps must be int, not True"),
        (("--fast", "1"), "fast must be bool"),
        (("--rate.learning_rate", "fast"), r"--rate\.learning_rate must be float, not 'fast'"),
        (("--rate.milestones", "60,x"), r"--rate\.milestones\[1\] must be int, not 'x'"),
        (("--precision", "float16"), "must be one of 'float32', 'bfloat16'"),
        (("--rate.learning_rat", "1"), r"no setting --rate\.learning_rat; did you mean --rate\.learning_rate\?"),
        (("--learning_rate", "1"), r"did you mean --rate\.learning_rate\?"),
        (("--stepz", "1"), r"did you mean --steps\?"),
        (("--qqqqqqqqqq", "1"), r"no setting --qqqqqqqqqq\."),
        (("--rate", "1"), r"--rate is a group of settings: --rate\.learning_rate, --rate\.milestones"),
        (("steps", "1"), "'steps' stands alone"),
        (("--steps",), "--steps needs a value"),
        (("--steps", "--fast", "true"), "--steps needs a value"),
    ],
)
def test_slips_are_named(words, sentence):
    with pytest.raises(ConfigError, match=sentence):
        changed(*words)


def test_leaves_are_all_settings_by_dotted_name():
    assert list(leaves(Both()))[:4] == ["rate.learning_rate", "rate.milestones", "rate.clip", "other.learning_rate"]
    assert leaves(Both())["other.learning_rate"] == 0.5


def test_config_files(tmp_path):
    good = tmp_path / "good.py"
    good.write_text("from tests.experiments.test_settings import Both\nCONFIG = Both(steps=3)\n")
    # The class of a module that was imported twice is another class.
    kind = type(load_config(str(good), object))
    assert load_config(str(good), kind).steps == 3
    (tmp_path / "bad.py").write_text("CONFIG = 1 +\n")
    (tmp_path / "none.py").write_text("config = 1\n")
    with pytest.raises(ConfigError, match=r"bad\.py cannot be run \(SyntaxError"):
        load_config(str(tmp_path / "bad.py"), Both)
    with pytest.raises(ConfigError, match="defines no CONFIG of the kind Both"):
        load_config(str(tmp_path / "none.py"), Both)
    with pytest.raises(InputError, match=r"did you mean experiments/configs/fomm_vox256\.py"):
        load_config("fomm_vox_256", Both)
    assert (CONFIGS / "tiny.py").is_file()


@pytest.fixture
def mesh_fomm():
    return load_config("mesh_fomm256", Experiment)


def losses(config):
    return {term.NAME: term for term in config.losses}


def test_terms_are_set_by_name(mesh_fomm):
    words = ("--losses.pyramid_l1", "3", "--losses.warped_l1.scales", "1,0.5", "--losses.lpips.network", "vgg")
    changed = losses(override(mesh_fomm, parse_overrides(words)))
    assert changed["pyramid_l1"] == PyramidL1(3.0)
    assert changed["warped_l1"] == WarpedL1(5.0, (1.0, 0.5))
    assert changed["lpips"] == LpipsDistance(1.0, "vgg")  # not in the config
    assert leaves(mesh_fomm)["losses.face_parts.weight"] == 2.0


def test_former_names_still_work(mesh_fomm):
    words = ("--held_back.path", "x", "--losses.parts", "4", "--losses.gan=hinge", "--losses.scales", "1")
    changed = override(mesh_fomm, parse_overrides(words))
    assert changed.held_out.path == "x"
    terms = losses(changed)
    assert terms["face_parts"].weight == 4.0
    assert terms["adversarial"].kind == "hinge"
    assert terms["pyramid_l1"].scales == terms["warped_l1"].scales == (1.0,)
    assert "perceptual" not in terms


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("losses.pyramid_l2", r"no setting --losses\.pyramid_l2; did you mean --losses\.pyramid_l1"),
        ("losses.structural.wait", r"no setting --losses\.structural\.wait; did you mean --losses\.structural\.weight"),
        ("losses", r"--losses is a group of settings: --losses\.pyramid_l1\.weight"),
        ("losses.structural", r"--losses\.structural\.weight must be float, not 'x'"),
    ],
)
def test_wrong_terms_are_named(word, sentence, mesh_fomm):
    with pytest.raises(ConfigError, match=sentence):
        override(mesh_fomm, {word: "x"})
