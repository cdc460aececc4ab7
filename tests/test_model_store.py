import contextlib
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

import avfr_jax
from avfr_jax import model_store
from avfr_jax.checkpoints import load_arrays, save_arrays, save_tree, tree_digest
from avfr_jax.config import from_dict, to_dict
from avfr_jax.errors import CheckpointError, ConfigError, OutputError
from avfr_jax.families import FAMILIES
from avfr_jax.models import base, interpolation, landmark_warp, mesh_fomm, residual, super_resolution
from avfr_jax.models.base import Animator, model_fingerprint
from tests.models.test_fomm import small, weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "little"
    config = small()
    model_store.save_model(path, "fomm", config, weights(config), provenance={"source": "random"})
    return path


def test_save_and_load(folder):
    info = model_store.describe_model(folder)
    assert info.family == "fomm"
    assert info.provenance["source"] == "random"
    assert len(info.provenance["weights_sha256"]) == 64
    model = avfr_jax.load_model(folder)
    assert isinstance(model, Animator)
    assert model.config == small()
    saved, metadata = load_arrays(folder / "weights.safetensors")
    jax.tree.map(np.testing.assert_array_equal, saved, weights(small()))
    assert metadata == {"family": "fomm"}
    assert {path.name for path in folder.iterdir()} == {"model.json", "weights.safetensors"}


def test_shapes_of_keypoints_and_frames(folder):
    model = avfr_jax.load_model(folder)
    frames = np.random.default_rng(0).random((3, 64, 64, 3), np.float32)
    kp = model.keypoints(frames)
    assert kp.value.shape == (3, 4, 2)
    assert kp.jacobian.shape == (3, 4, 2, 2)
    out = model.animate(frames[0], kp[0], kp)
    assert out.shape == frames.shape
    cached = model.animate(model.encode_source(frames[0], kp[0]), kp[0], kp)
    np.testing.assert_allclose(out, cached, atol=1e-6)


def test_frames_of_one_shape_are_traced_once(folder):
    model = avfr_jax.load_model(folder)
    traces = []

    @jax.jit
    def one(source, frames):
        traces.append(1)
        kp = model.keypoints(frames)
        return model.animate(source, kp[0], kp)

    frames = np.random.default_rng(1).random((4, 2, 64, 64, 3), np.float32)
    results = [one(frames[0, 0], f) for f in frames]
    assert len(traces) == 1
    assert float(np.abs(results[1] - results[2]).max()) > 0


def test_models_are_found_by_name(folder, monkeypatch):
    monkeypatch.setenv("AVFR_MODELS", str(folder.parent))
    assert {"little", "landmark-warp"} <= {m.name for m in model_store.list_models()}
    assert avfr_jax.load_model("little").name == "little"
    with pytest.raises(ConfigError, match=r"no model 'litle'; did you mean little\?"):
        avfr_jax.load_model("litle")
    with pytest.raises(ConfigError, match=r"no model 'xyz'; neither a folder nor known .*landmark-warp"):
        avfr_jax.load_model("xyz")


def test_a_folder_of_the_working_directory_does_not_shadow_a_name(folder, tmp_path, monkeypatch):
    for name in ("landmark-warp", "mesh-fomm", "mine"):
        shutil.copytree(folder, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    own = model_store.describe_model("mine").fingerprint
    assert model_store.describe_model("landmark-warp").folder is None
    assert model_store.describe_model("mesh-fomm").fingerprint != own
    for given in ("./mesh-fomm", pathlib.Path("mesh-fomm"), str(tmp_path / "landmark-warp"), pathlib.Path("mine")):
        assert model_store.describe_model(given).fingerprint == own


def test_existing_folder_is_replaced_on_request_only(folder):
    config = small()
    variables = weights(config, 1)
    with pytest.raises(OutputError, match="--overwrite"):
        model_store.save_model(folder, "fomm", config, variables)
    with pytest.raises(OutputError, match="another folder"):
        model_store.save_model(folder.parent, "fomm", config, variables, overwrite=True)
    assert not [p for p in folder.parent.iterdir() if p.name.startswith(".")]


def format_1(folder):
    """A folder as version 0.1 wrote it, of the same weights."""
    folder.mkdir()
    about = {"format": 1, "family": "fomm", "config": to_dict(small()), "provenance": {}}
    about["provenance"]["networks"] = sorted(weights(small()))
    (folder / "model.json").write_text(json.dumps(about))
    save_tree(folder / "weights", weights(small()))
    return folder


def test_folders_of_both_formats_give_one_fingerprint(folder, tmp_path, monkeypatch):
    model, info = avfr_jax.load_model(folder), model_store.describe_model(folder)
    assert len(model.fingerprint) == 8
    assert info.fingerprint == model.fingerprint.hex()
    old = avfr_jax.load_model(format_1(tmp_path / "old"))
    assert old.fingerprint == model.fingerprint
    monkeypatch.setenv("AVFR_MODELS", str(tmp_path))
    assert model_store.find_model(model.fingerprint, "another name") == str(tmp_path / "old")


@pytest.mark.parametrize(
    "name", ["little", "avfr128", "face-vid2vid", "residual256", "super_resolution64", "interpolation128"]
)
def test_weights_are_hashed_once(name, folder, monkeypatch):
    monkeypatch.setenv("AVFR_MODELS", str(folder.parent))
    hashed = []
    for module in (base, interpolation, residual, super_resolution):
        monkeypatch.setattr(module, "model_fingerprint", lambda *a: hashed.append(a) or model_fingerprint(*a))
    info = model_store.describe_model(name)
    loaded = model_store._load(info, info.kind)
    assert loaded.fingerprint.hex() == info.fingerprint
    assert len(hashed) == 1


def test_fingerprint_covers_family_config_and_inference_weights():
    config, variables = small(), weights(small())
    mine = model_fingerprint("fomm", config, variables)
    assert mine == model_fingerprint("fomm", config, variables | {"discriminator": {"params": {"w": np.zeros(1)}}})
    variants = [
        ("avfr", config, variables),
        ("fomm", small(align_corners=not config.align_corners), variables),
        ("fomm", config, weights(config, 1)),
    ]
    assert len({mine, *(model_fingerprint(*variant) for variant in variants)}) == 4


@pytest.mark.parametrize(
    "name", ["avfr128", "face-vid2vid", "mesh-fomm", "residual256", "super_resolution64", "interpolation128"]
)
def test_shipped_models_carry_their_fingerprints(name):
    info = model_store.describe_model(name)
    family = FAMILIES[info.family]
    variables, metadata = load_arrays(info.folder / "weights.safetensors")
    config = from_dict(family.config, info.config)
    assert model_fingerprint(info.family, config, variables).hex() == info.fingerprint
    assert tree_digest(variables) == info.provenance["weights_sha256"]
    assert metadata == {"family": info.family}


# What `avfr_jax.codec.identity.model_identity` of version 0.1 gave.
VERSION_1 = {
    "avfr128": "6fee37fdc341ab12", "mesh-fomm": "b11b352ce12bddac", "landmark-warp": "3dd2d2f0c3eb8944",
    "residual256": "41d7748b9b5f24c9", "super_resolution64": "159701b815b7ee4b",
    "interpolation128": "ebd43579bb26e112",
}  # fmt: skip


@pytest.mark.parametrize("name", VERSION_1)
def test_models_are_found_by_fingerprint_and_by_version_1_identity(name, monkeypatch, tmp_path):
    monkeypatch.setenv("AVFR_MODELS", str(tmp_path))
    info = model_store.describe_model(name)
    if info.folder:  # a namesake with other weights does not stand in for it
        model_store.save_model(tmp_path / name, "landmark-warp", landmark_warp.LandmarkWarpConfig(size=64), {})
        shutil.copytree(info.folder, tmp_path / "copy")
    for identity in (bytes.fromhex(VERSION_1[name]), bytes.fromhex(info.fingerprint)):
        result = model_store.find_model(identity, name, info.kind)
        assert model_store.describe_model(result).fingerprint == info.fingerprint
        assert model_store.current_fingerprint(identity).hex() == info.fingerprint


def test_unknown_fingerprint_is_refused_in_one_sentence():
    with pytest.raises(ConfigError, match=r"model 'lost' of fingerprint 0102030405060708, .* --model") as caught:
        model_store.find_model(bytes(range(1, 9)), "lost")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["json", "weights", "missing", "shape", "changed", "newer", "setting", "family"])
def test_broken_folder_is_refused_in_one_sentence(folder, tmp_path, damage):
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    about, weights_file = json.loads((broken / "model.json").read_text()), broken / "weights.safetensors"
    sentence = ""
    if damage == "json":
        (broken / "model.json").write_text("{")
    elif damage == "weights":
        weights_file.write_bytes(weights_file.read_bytes()[: weights_file.stat().st_size // 2])
    elif damage == "missing":
        weights_file.unlink()
    elif damage == "changed":
        save_arrays(weights_file, weights(small(), 1))
        sentence = "fingerprint"
    elif damage == "family":
        save_arrays(weights_file, weights(small()), {"family": "mesh-fomm"})
        sentence = "family mesh-fomm, its model.json to fomm"
    else:
        if damage == "shape":
            about["config"]["generator"]["block_expansion"] = 8
            sentence = "do not fit the fomm config"
        elif damage == "newer":
            about["format"] = 99
        else:
            about["config"]["num_keypoint"] = 3
            sentence = "did you mean 'num_keypoints'"
        (broken / "model.json").write_text(json.dumps(about))
    with pytest.raises((CheckpointError, ConfigError)) as caught:
        avfr_jax.load_model(broken)
    assert "\n" not in str(caught.value)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("entry", ["format", "family", "config", "fingerprint", "provenance", "quality"])
def test_entries_of_other_types_never_cause_a_traceback(folder, tmp_path, entry):
    broken = shutil.copytree(folder, tmp_path / "broken")
    about = json.loads((folder / "model.json").read_text())
    for value in (None, 3, True, "x", [], [1], {}, {"networks": 3}, {"generator": 1}):
        (broken / "model.json").write_text(json.dumps(about | {entry: value}))
        with contextlib.suppress(CheckpointError, ConfigError):
            avfr_jax.load_model(broken)


def test_names_of_arrays_that_contradict_each_other_are_refused(folder, tmp_path):
    broken = shutil.copytree(folder, tmp_path / "broken")
    save_file({"a": np.zeros(1), "a/b": np.zeros(1)}, broken / "weights.safetensors")
    with pytest.raises(CheckpointError, match="damaged"):
        avfr_jax.load_model(broken)


def test_weights_of_another_family_name_both(folder, tmp_path):
    """Of a changed model.json, and of the weights of format 1, which do not name their family."""
    other = mesh_fomm.MeshFommConfig()
    for path in (shutil.copytree(folder, tmp_path / "new"), format_1(tmp_path / "old")):
        about = json.loads((path / "model.json").read_text()) | {"family": "mesh-fomm", "config": to_dict(other)}
        (path / "model.json").write_text(json.dumps(about))
        with pytest.raises(CheckpointError, match=r"to the family fomm, its model.json to mesh-fomm") as caught:
            avfr_jax.load_model(path)
        assert "\n" not in str(caught.value)


def test_folders_that_may_not_be_read_are_passed_over(folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / "models" / "little")
    closed = tmp_path / "closed"
    (closed / "other").mkdir(parents=True)
    monkeypatch.setattr(model_store, "model_folders", lambda: [closed, tmp_path / "models"])
    listed = pathlib.Path.iterdir

    def refuse(path):
        if path == closed:
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(pathlib.Path, "iterdir", refuse)
    assert {info.name for info in model_store.list_models()} >= {"little", "landmark-warp"}
    with pytest.raises(ConfigError, match="did you mean little"):
        model_store.describe_model("litle")


def test_overwritten_folder_stays_where_the_new_one_cannot_take_its_place(folder, tmp_path, monkeypatch):
    target = tmp_path / "kept"
    shutil.copytree(folder, target)
    before = (target / "model.json").read_bytes()
    rename = pathlib.Path.rename

    def refuse(path, to):
        if pathlib.Path(to) == target and not path.name.endswith("-former"):
            raise OSError(28, "No space left on device")
        return rename(path, to)

    monkeypatch.setattr(pathlib.Path, "rename", refuse)
    with pytest.raises(OutputError, match="No space left"):
        model_store.save_model(target, "landmark-warp", landmark_warp.LandmarkWarpConfig(), {}, overwrite=True)
    assert (target / "model.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    monkeypatch.setattr(pathlib.Path, "rename", rename)
    info = model_store.save_model(target, "landmark-warp", landmark_warp.LandmarkWarpConfig(), {}, overwrite=True)
    assert info.family == "landmark-warp"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({"num_keypoints": 10**9}, "num_keypoints must be from 0"),
        ({"generator": {"num_bottleneck_blocks": 10**6}}, "64"),
    ],
)
def test_configs_of_absurd_sizes_are_refused(folder, tmp_path, config, wanted):
    shutil.copytree(folder, tmp_path / "large")
    about = json.loads((folder / "model.json").read_text())
    (tmp_path / "large" / "model.json").write_text(json.dumps(about | {"config": config}))
    with pytest.raises(ConfigError, match=wanted):
        model_store.load_model(tmp_path / "large")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format": ' + "9" * 5000 + "}"])
def test_hostile_descriptions_are_refused(tmp_path, text):
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(CheckpointError, match="no model folder"):
        model_store.describe_model(tmp_path)
