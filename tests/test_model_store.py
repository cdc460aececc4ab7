import json
import pathlib

import jax
import numpy as np
import pytest

import avfr_jax
from avfr_jax import model_store
from avfr_jax.checkpoints import restore_tree
from avfr_jax.errors import CheckpointError, ConfigError, OutputError
from avfr_jax.models.base import Animator
from tests.models.test_fomm import small, weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "little"
    config = small()
    model_store.save_model(path, "fomm", config, weights(config), provenance={"source": "random"})
    return path


def test_a_saved_model_comes_back_whole(folder):
    info = model_store.describe_model(folder)
    assert info.family == "fomm"
    assert info.provenance["source"] == "random"
    assert len(info.provenance["weights_sha256"]) == 64
    model = avfr_jax.load_model(folder)
    assert isinstance(model, Animator)
    assert model.config == small()
    saved = restore_tree(folder / "weights", weights(small()))
    jax.tree.map(np.testing.assert_array_equal, saved, weights(small()))


def test_the_front_door_has_the_promised_shapes(folder):
    model = avfr_jax.load_model(folder)
    frames = np.random.default_rng(0).random((3, 64, 64, 3), np.float32)
    kp = model.keypoints(frames)
    assert kp.value.shape == (3, 4, 2)
    assert kp.jacobian.shape == (3, 4, 2, 2)
    out = model.animate(frames[0], kp[0], kp)
    assert out.shape == frames.shape
    cached = model.animate(model.encode_source(frames[0], kp[0]), kp[0], kp)
    np.testing.assert_allclose(out, cached, atol=1e-6)


def test_nothing_is_traced_again_for_another_frame(folder):
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
    with pytest.raises(ConfigError, match="no model 'litle'"):
        avfr_jax.load_model("litle")


def test_an_existing_folder_is_not_replaced_unasked(folder):
    config = small()
    variables = weights(config, 1)
    with pytest.raises(OutputError, match="--overwrite"):
        model_store.save_model(folder, "fomm", config, variables)
    with pytest.raises(OutputError, match="another folder"):
        model_store.save_model(folder.parent, "fomm", config, variables, overwrite=True)
    assert not [p for p in folder.parent.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("damage", ["json", "weights", "shape", "newer", "setting"])
def test_a_broken_folder_says_so_in_one_sentence(folder, tmp_path, damage):
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    about = json.loads((broken / "model.json").read_text())
    if damage == "json":
        (broken / "model.json").write_text("{")
    elif damage == "weights":
        for path in pathlib.Path(broken / "weights").rglob("*"):
            if path.is_file() and path.stat().st_size > 1000:
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        if damage == "shape":
            about["config"]["generator"]["block_expansion"] = 8
        elif damage == "newer":
            about["format"] = 99
        else:
            about["config"]["num_keypoint"] = 3
        (broken / "model.json").write_text(json.dumps(about))
    with pytest.raises((CheckpointError, ConfigError)) as caught:
        avfr_jax.load_model(broken)
    assert "\n" not in str(caught.value)
    if damage == "setting":
        assert "did you mean 'num_keypoints'" in str(caught.value)
