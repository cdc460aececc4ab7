"""Weights of frozen networks on disk."""

import json

import numpy as np
import pytest

from avfr_jax.backbones import weights
from avfr_jax.backbones.lpips import load_lpips
from avfr_jax.errors import CheckpointError, MissingBackendError, OutputError

TREE = {"params": {"features_0": {"kernel": np.arange(6.0).reshape(2, 3), "bias": np.ones(3)}}}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("AVFR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "vgg19-dcbb9e9d.pth"
    path.write_bytes(b"a published file")
    return path


@pytest.mark.parametrize("name", list(weights.SOURCES))
def test_absent_weights_name_the_file_to_fetch(home, name):
    assert not weights.is_imported(name)
    with pytest.raises(MissingBackendError) as caught:
        weights.load_weights(name)
    message, wanted = str(caught.value), weights.SOURCES[name]
    assert str(home / "backbones" / name) in message
    assert (wanted.fetched_by or f"fetch {wanted.address}{wanted.file}") in message
    assert message.endswith(f" avfr import {wanted.command} {wanted.file}.")
    assert "\n" not in message


def test_weights_round_trip(home, source):
    folder = weights.save_weights("vgg19", TREE, source)
    assert folder == home / "backbones" / "vgg19"
    assert sorted(path.name for path in folder.iterdir()) == ["about.json", "weights.npz"]
    assert weights.is_imported("vgg19")
    assert not weights.is_imported("vgg16")
    again = weights.load_weights("vgg19")["params"]["features_0"]
    for name, value in TREE["params"]["features_0"].items():
        np.testing.assert_array_equal(again[name], value)
        assert again[name].dtype == np.float32
    facts = weights.describe("vgg19")
    assert facts["source"] == source.name
    assert facts["source_sha256"] == weights.sha256(source)
    assert weights.origin("vgg19") == f"{source.name} (SHA-256 {weights.sha256(source)[:12]})"


def test_saving_replaces(source):
    weights.save_weights("vgg19", TREE, source)
    weights.save_weights("vgg19", {"params": {"other": np.zeros(2)}}, source)
    assert list(weights.load_weights("vgg19")["params"]) == ["other"]


def test_changed_weights_are_refused(source):
    path = weights.save_weights("vgg19", TREE, source) / "weights.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(
        CheckpointError, match=r"checksum differs.*run avfr import vgg19 again with vgg19-dcbb9e9d\.pth"
    ):
        weights.load_weights("vgg19")


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"source": "x"}), None])
def test_damaged_record_is_refused(source, content):
    path = weights.save_weights("vgg19", TREE, source) / "about.json"
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(CheckpointError, match=r"about\.json is missing or damaged; run avfr import vgg19 again"):
        weights.load_weights("vgg19")


def test_unwritable_folder_is_refused(home, source):
    home.write_text("a file where the folder should be")
    with pytest.raises(OutputError, match="cannot be written to"):
        weights.save_weights("vgg19", TREE, source)


def test_lpips_names_the_missing_weights(source):
    with pytest.raises(MissingBackendError, match="avfr import alexnet"):
        load_lpips("alex")
    weights.save_weights("alexnet", TREE, source)
    with pytest.raises(MissingBackendError, match=r"avfr import lpips alex\.pth"):
        load_lpips("alex")
    weights.save_weights("lpips-alex", {f"lin{i}": np.full(3, i) for i in range(5)}, source)
    metric = load_lpips("alex")
    assert [float(head[0]) for head in metric.heads] == [0, 1, 2, 3, 4]
    assert weights.sha256(source)[:12] in metric.description
