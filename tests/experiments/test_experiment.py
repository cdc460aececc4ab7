"""Experiments: shipped configs, contradictions, held-out clips, and training end to end."""

import dataclasses
import json
import pathlib
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

import data.clip_folder
from avfr_jax.config import from_dict, to_dict
from avfr_jax.errors import ConfigError, InputError, OutputError
from avfr_jax.families import find_family
from avfr_jax.model_store import describe_model, load_model
from avfr_jax.training.logging import read_metrics
from avfr_jax.training.optimisers import learning_rate
from avfr_jax.training.terms import FaceParts, Perceptual, WarpedL1
from experiments import build
from experiments.build import split
from experiments.experiment import Experiment, HeldOutConfig, build_objective, check, fixed_settings, with_schedule
from experiments.settings import CONFIGS, load_config, override
from experiments.train import changes, join_processes, main
from tests.pipelines.prepared import write_dataset

ROOT = pathlib.Path(__file__).resolve().parents[2]
VOXCELEB = 424  # people in the published training set
# Networks and data so small that the whole program runs in seconds.
SMALL = {
    "model.image_size": 32, "data.size": 32, "model.num_keypoints": 2,
    "model.keypoint_detector.num_blocks": 1, "model.keypoint_detector.block_expansion": 4,
    "model.dense_motion.num_blocks": 1, "model.dense_motion.block_expansion": 4,
    "model.generator.num_down_blocks": 1, "model.generator.num_bottleneck_blocks": 1,
    "model.generator.block_expansion": 4, "losses.pyramid_l1": 10, "losses.structural": 0, "losses.scales": 1,
    "losses.equivariance_jacobian": 0, "losses.equivariance_value": 0, "model.estimate_jacobian": "false",
    "data.batch_size": 8, "synthetic.clips": 3, "synthetic.people": 3, "synthetic.frames": 6, "synthetic.workers": 1,
    "loop.log_every": 1, "loop.checkpoint_every": 2, "loop.validate_every": 2, "loop.panel_every": 0,
    "loop.tensorboard": "false", "validation.stride": 2,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "steps", "milestones", "batch"),
    [
        ("fomm_vox256", 79_500, (47_700, 71_550), 40),
        ("fomm_nojac_vox256", 79_500, (47_700, 71_550), 40),
        ("fomm_vox_adv256", 132_450, (), 36),
    ],
)
def test_published_schedules(name, steps, milestones, batch):
    config = load_config(name, Experiment)
    check(config)
    resolved = with_schedule(config, VOXCELEB)
    assert (resolved.loop.steps, resolved.optimiser.milestones) == (steps, milestones)
    assert (config.name, config.data.batch_size, config.data.repeats) == (name, batch, 75)
    rate = learning_rate(resolved.optimiser)
    assert float(rate(0)) == pytest.approx(2e-4)
    if milestones:
        assert float(rate(milestones[1])) == pytest.approx(2e-6)
    terms = {term.NAME for term in config.losses}
    assert ("adversarial" in terms) == ("feature_matching" in terms) == ("adv" in name)
    assert config.model.estimate_jacobian == ("equivariance_jacobian" in terms) == ("nojac" not in name)
    assert Perceptual() in config.losses


def test_face_vid2vid_goes_from_coarse_to_fine():
    """The paper's epochs, with a pair of each of VoxCeleb2's 280,000 clips in each; its weights of the losses."""
    coarse, fine = (load_config(f"face_vid2vid_vox{side}", Experiment) for side in (256, 512))
    assert with_schedule(coarse, 280_000).loop.steps == 100 * 8_750
    assert with_schedule(fine, 280_000).loop.steps == 10 * 17_500
    assert fine.init_from == f"runs/{coarse.name}/model"
    assert (coarse.losses, coarse.optimiser) == (fine.losses, fine.optimiser)
    family = find_family("face-vid2vid")
    small, large = (family.shapes(config.model) for config in (coarse, fine))
    assert set(large["discriminator"]["params"]) == {"discs_1", "discs_0-5"}
    assert {**small, "discriminator": None} == {**large, "discriminator": None}


def test_rows_of_face_vid2vids_ablation_change_one_thing():
    whole = load_config("face_vid2vid_talking256", Experiment)
    changes = {"direct": {"keypoints": "direct"}, "2d": {"warp": "2d"}}
    changes |= {f"{count}kp": {"num_keypoints": count} for count in (10, 15)}
    for name, change in changes.items():
        row = load_config(f"face_vid2vid_talking256_{name}", Experiment)
        assert row.model == dataclasses.replace(whole.model, **change)
        left_out = {"head_pose", "deformation"} if name == "direct" else set()
        assert {t.NAME for t in row.losses} == {t.NAME for t in whole.losses} - left_out
        assert (row.data, row.schedule, row.optimiser) == (whole.data, whole.schedule, whole.optimiser)


def test_rows_of_the_ablation_switch_their_parts():
    rows = {
        "baseline": (False, False, False, False),
        "structural": (True, False, False, False),
        "audio": (False, True, True, False),
        "identity": (False, False, False, True),
    }
    whole = load_config("avfr_vox256", Experiment)
    resolved = with_schedule(whole, VOXCELEB)
    assert (resolved.loop.steps, resolved.optimiser.milestones) == (318_000, (190_800, 286_200))
    assert (whole.optimiser.learning_rate, whole.data.batch_size) == (1e-3, 10)
    for name, switches in rows.items():
        config = load_config(f"avfr_vox256_{name}", Experiment)
        check(config)
        model = config.model
        switched = (model.structural_prior, model.audio_encoder, model.audio_attention, model.identity_aware_generator)
        assert switched == switches
        assert (config.losses, config.optimiser, config.schedule) == (whole.losses, whole.optimiser, whole.schedule)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("[!_]*.py")), ids=lambda path: path.stem)
def test_every_config_is_documented_consistent_and_reloads_from_json(path):
    text = path.read_text()
    assert f"python -m experiments.train --config experiments/configs/{path.name}" in text
    assert "Expected:" in text
    assert "Time:" in text
    config = load_config(str(path), Experiment)
    check(config)
    assert config.name == path.stem
    assert from_dict(Experiment, json.loads(json.dumps(to_dict(config)))) == config


def test_explicit_settings_precede_the_schedule():
    config = load_config("fomm_vox256", Experiment)
    own = dataclasses.replace(
        config,
        loop=dataclasses.replace(config.loop, steps=7),
        optimiser=dataclasses.replace(config.optimiser, milestones=(3,)),
    )
    assert with_schedule(own, VOXCELEB) == own
    with pytest.raises(ConfigError, match=r"fills no batch of 40: raise --data\.repeats"):
        with_schedule(dataclasses.replace(config, data=dataclasses.replace(config.data, repeats=1)), 3)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"family": "mesh-fomm"}, "takes a MeshFommConfig"),
        ({"data": {"size": 128}}, "they must agree"),
        ({"schedule": {"epochs": 0}}, "no length"),
        ({"data": {"priors": True}}, r"makes no use of data\.priors: set it False"),
        ({"family": "landmark-warp"}, "is not trained"),
        ({"family": "fom"}, "no model family 'fom'"),
        ({"losses": ()}, "no term with a weight"),
        ({"losses": (FaceParts(),)}, r"losses\.face_parts needs data\.landmarks"),
        ({"losses": (WarpedL1(),)}, r"losses\.warped_l1 reads warped, which this FommConfig has none of"),
        ({"family": "avfr"}, "takes a AvfrConfig"),
    ],
)
def test_contradictions_are_refused(change, sentence):
    config = load_config("fomm_vox256", Experiment)
    for name, value in change.items():
        if isinstance(value, dict):
            value = dataclasses.replace(getattr(config, name), **value)
        config = dataclasses.replace(config, **{name: value})
    with pytest.raises(ConfigError, match=sentence):
        check(config)


def test_avfr_needs_the_data_of_its_parts():
    config = load_config("avfr_vox256", Experiment)
    check(config)
    for name in ("priors", "mel"):
        without = dataclasses.replace(config, data=dataclasses.replace(config.data, **{name: False}))
        with pytest.raises(ConfigError, match=rf"needs data\.{name}: set it True"):
            check(without)
    deaf = dataclasses.replace(config.model, audio_encoder=False, audio_attention=False)
    with pytest.raises(ConfigError, match=r"makes no use of data\.mel: set it False"):
        check(dataclasses.replace(config, model=deaf))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Five clips of three identities."""
    return write_dataset(tmp_path_factory.mktemp("clips") / "data")


def test_held_out_identities_are_not_trained_on(dataset):
    tiny = load_config("tiny", Experiment)
    config = dataclasses.replace(tiny, data=dataclasses.replace(tiny.data, path=str(dataset), size=32))
    train, held = split(config)
    assert len(held.identities) == 1
    assert not set(train.identities) & set(held.identities)
    assert len(train.clips) + len(held.clips) == 5

    name = train.clips[0].name
    train, held = split(dataclasses.replace(config, held_out=HeldOutConfig(clips=(name,))))
    assert [clip.name for clip in held.clips] == [name]
    assert len(train.clips) == 4
    train, held = split(dataclasses.replace(config, held_out=HeldOutConfig(share=0)))
    assert (len(train.clips), held) == (5, None)
    train, held = split(dataclasses.replace(config, held_out=HeldOutConfig(path=str(dataset))))
    assert (len(train.clips), len(held.clips)) == (5, 5)
    with pytest.raises(ConfigError, match="did you mean"):
        split(dataclasses.replace(config, held_out=HeldOutConfig(clips=(name[:-1],))))


def test_a_single_person_is_trained_on_or_the_flag_is_named(tmp_path):
    dataset = write_dataset(tmp_path / "one", clips={"clip": ("ann", 6)})
    tiny = load_config("tiny", Experiment)
    config = dataclasses.replace(tiny, data=dataclasses.replace(tiny.data, path=str(dataset), size=32))
    with pytest.raises(InputError, match=r"--held_out\.share 0"):
        split(config)
    with pytest.raises(InputError, match=r"--held_out\.share 0"):
        split(dataclasses.replace(config, held_out=HeldOutConfig(clips=("clip",))))
    train, held = split(dataclasses.replace(config, held_out=HeldOutConfig(share=0)))
    assert (len(train.clips), held) == (1, None)


def test_a_run_shorter_than_its_warm_up_names_the_flag():
    config = load_config("mesh_fomm256", Experiment)
    for steps in (20, 100):
        with pytest.raises(ConfigError, match=r"--optimiser\.warmup_steps"):
            with_schedule(override(config, {"loop.steps": str(steps)}), 3)
    short = with_schedule(override(config, {"loop.steps": "20", "optimiser.warmup_steps": "2"}), 3)
    rate = learning_rate(short.optimiser)
    assert float(rate(2)) == pytest.approx(config.optimiser.learning_rate)
    assert float(rate(20)) == pytest.approx(config.optimiser.gamma * config.optimiser.learning_rate)


def test_the_log_names_only_what_differs_from_the_config():
    config = load_config("tiny", Experiment)
    lines = changes(override(config, {"loop.steps": "7", "seed": "0"}), config, "tiny")
    assert lines[:2] == ["Config tiny, with", "  loop.steps = 7"]
    assert len(lines) == 3
    assert changes(config, config, "tiny")[0] == "Config tiny"


def test_several_processes_on_cpus_share_no_compiled_programs(monkeypatch):
    """Their keys differ, and process 0 alone writes."""
    before, joined = jax.config.jax_enable_compilation_cache, []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *words, **named: joined.append((words, named)))
    try:
        join_processes("none")
        assert jax.config.jax_enable_compilation_cache == before
        join_processes("localhost:1,2,1")
        assert not jax.config.jax_enable_compilation_cache
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
    assert joined == [(("localhost:1",), {"num_processes": 2, "process_id": 1})]


@pytest.mark.parametrize("index", [0, 1])
def test_processes_wait_for_the_one_that_renders(index, monkeypatch, tmp_path):
    """Also where it fails; the others then find no dataset."""
    events, failing = [], []

    def render(folder, **settings):
        events.append("rendered")
        if failing:
            raise OutputError("full")

    monkeypatch.setattr(jax, "process_index", lambda: index)
    monkeypatch.setattr(data.clip_folder, "prepare_synthetic", render)
    monkeypatch.setattr(build, "wait_for_processes", events.append)
    config = load_config("tiny", Experiment)
    assert build.prepare_data(config, tmp_path).data.path == str(tmp_path / "data")
    assert events == [["rendered", "data"], ["data"]][index]
    if index == 0:
        failing.append(True)
        with pytest.raises(OutputError):
            build.prepare_data(config, tmp_path)
        assert events[2:] == ["rendered", "data"]


def test_show_into_a_pipe_that_closes_is_quiet():
    command = f"{sys.executable} -m experiments.train --config tiny --show | head -n 1; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("--name 'tiny'\n", "")
    assert ended.returncode in (141, 0)  # 0 where all was written before the pipe closed


def test_sigterm_before_the_first_step_ends_in_order(tmp_path):
    words = ["--config", "tiny", "--workdir", tmp_path / "run", "--synthetic.workers", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.train", *words], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    assert "Rendering" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    _, rest = process.communicate(timeout=30)  # the workers, which have the same stderr, have ended too
    assert process.returncode == 143
    assert rest.splitlines()[-1].startswith("experiments.train: stopped;")


def test_fixed_settings_are_those_the_weights_depend_on(dataset):
    tiny = load_config("tiny", Experiment)
    config = dataclasses.replace(tiny, data=dataclasses.replace(tiny.data, path=str(dataset), size=32))
    clips, _ = split(config)
    fixed = fixed_settings(config, clips)
    free = dataclasses.replace(
        config,
        name="other",
        data=dataclasses.replace(config.data, path="elsewhere", workers=3),
        loop=dataclasses.replace(config.loop, steps=1, log_every=1),
        remat=True,
    )
    assert fixed_settings(free, clips) == fixed
    assert fixed_settings(dataclasses.replace(config, seed=1), clips) != fixed
    assert fixed_settings(config, clips.select(clips=[clips.clips[0].name])) != fixed
    assert fixed_settings(config, clips, ["VGG19"]) != fixed


def test_absent_weights_fail_before_the_work_folder_is_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AVFR_HOME", str(tmp_path / "home"))
    with pytest.raises(Exception, match="avfr import vgg19"):
        build_objective(load_config("fomm_vox256", Experiment))
    assert main(["--config", "fomm_vox256", "--workdir", str(tmp_path / "run"), "--data.path", "missing"]) == 2
    assert capsys.readouterr().err.startswith("experiments.train: There is no dataset folder missing")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--config", "tiny", "--learning_rate", "1"], "did you mean --optimiser.learning_rate?"),
        (["--config", "tyny"], "did you mean experiments/configs/tiny.py?"),
        (["--config", "tiny", "--distributed", "twice"], "--distributed must be auto, none or HOST:PORT,COUNT,INDEX"),
        (["--config", "tiny", "--loop.steps", "0"], "has no length"),
    ],
)
def test_wrong_input_is_one_sentence(words, sentence, tmp_path, capsys):
    assert main([*words, "--workdir", str(tmp_path / "run")]) == 2
    words = capsys.readouterr().err
    assert sentence in words
    assert len(words.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_help_and_show(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    assert "python -m experiments.train --config tiny" in capsys.readouterr().out
    assert main(["--config", "tiny", "--show", "--seed", "5"]) == 0
    assert "--seed 5" in capsys.readouterr().out.splitlines()


@pytest.mark.slow
def test_program_trains_resumes_and_exports_a_model(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "set, so that the test leaves the cache as it is")
    workdir = tmp_path / "run"
    words = ["--config", "tiny", "--workdir", str(workdir)]
    words += [word for name, value in SMALL.items() for word in (f"--{name}", str(value))]
    assert main([*words, "--loop.steps", "2"]) == 0
    err = capsys.readouterr().err
    assert "Rendering 3 clips" in err
    assert "Config tiny, with" in err
    assert "  model.image_size = 32" in err
    assert "optimiser.learning_rate" not in err
    assert main([*words, "--loop.steps", "4"]) == 0
    assert "Going on from step 2" in capsys.readouterr().err
    assert main([*words, "--loop.steps", "6", "--optimiser.b2", "0.99"]) == 2
    assert "made with optimiser.b2 = 0.999, not 0.99" in capsys.readouterr().err

    lines = read_metrics(workdir / "metrics.jsonl")
    assert [line["step"] for line in lines if "train/loss" in line] == [1, 2, 3, 4]
    info = describe_model(workdir / "model")
    assert info.provenance["steps"] == 4
    assert info.provenance["training_data"]["identities"] == 2
    assert info.quality["validation"]["l1"] == lines[-1]["validation/l1"]
    assert json.loads((workdir / "config.json").read_text())["loop"]["steps"] == 4
    model = load_model(workdir / "model")
    frames = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    keypoints = model.keypoints(frames)
    animated = model.animate(frames[0], jax.tree.map(lambda x: x[:1], keypoints), keypoints)
    assert animated.shape == (2, 32, 32, 3)
    assert np.isfinite(animated).all()
