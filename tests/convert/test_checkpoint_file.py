"""What people hand to `avfr import`: wrapped, prefixed and other files of weights, and files that are none."""

import gzip
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file

from avfr_jax.cli.main import main
from avfr_jax.convert import fomm
from avfr_jax.convert.checkpoint_file import read_checkpoint, state_of
from avfr_jax.convert.tree import check
from avfr_jax.errors import CheckpointError, InputError

_WEIGHTS = {
    "features.0.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "features.0.bias": np.ones(2, np.float32),
}


def _assert_same(state):
    assert state.keys() == _WEIGHTS.keys()
    for name, array in _WEIGHTS.items():
        np.testing.assert_array_equal(state[name], array)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": {"params": s}}]
)
def test_wrappers_and_prefixes_are_removed(tmp_path, save, prefix, wrap):
    path = save(tmp_path / "weights.pth", wrap({prefix + name: array for name, array in _WEIGHTS.items()}))
    _assert_same(state_of(read_checkpoint(path), "weights.pth"))


def test_prefix_of_some_names_stays():
    state = {"module.weight": np.ones(1), "other.weight": np.ones(1)}
    assert state_of(state, "x").keys() == state.keys()


def test_safetensors_is_read_whatever_its_name(tmp_path):
    save_file({f"module.{name}": array for name, array in _WEIGHTS.items()}, str(tmp_path / "weights.pth"))
    _assert_same(state_of(read_checkpoint(tmp_path / "weights.pth"), "weights.pth"))


def test_fomm_is_found_in_safetensors_and_wrappers(tmp_path, save):
    networks = dict.fromkeys(fomm.NETWORKS.values(), _WEIGHTS)
    flat = {f"module.{network}.{name}": value for network in networks for name, value in _WEIGHTS.items()}
    save_file(flat, str(tmp_path / "flat.safetensors"))
    parallel = {n: {"state_dict": {f"module.{k}": v for k, v in s.items()}} for n, s in networks.items()}
    wrapped = save(tmp_path / "wrapped.pth", {"state_dict": parallel, "epoch": 7})
    for path in (tmp_path / "flat.safetensors", wrapped):
        states = fomm.find_states(read_checkpoint(path), path.name)
        assert states.keys() == networks.keys()
        for state in states.values():
            _assert_same(state)


_OTHER_FILES = {
    "compressed with gzip": gzip.compress(b"weights"),
    "compressed with 7-Zip": b"7z\xbc\xaf\x27\x1c" + bytes(50),
    "a web page": b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>",
    "a git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1234\n",
    "a tar archive": bytes(257) + b"ustar\x0000" + bytes(248),
    "a JSON file": b'{"error": "Not found"}',
    "an HDF5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "cut short": b"PK\x03\x04" + bytes(200),
    "is an empty file": b"",
    "a damaged safetensors file": struct.pack("<Q", 30) + b'{"a": {"dtype": "F32"}}'.ljust(30) + bytes(4),
    "not a PyTorch checkpoint": b"hello, these are no weights",
}


@pytest.mark.parametrize("kind", list(_OTHER_FILES))
@pytest.mark.parametrize("command", ["vgg19", "fomm"])
def test_other_files_are_named_for_what_they_are(tmp_path, capsys, kind, command):
    path = tmp_path / "vox-adv-cpk.pth.tar"
    path.write_bytes(_OTHER_FILES[kind])
    words = ["import", command, str(path)] + ([str(tmp_path / "out")] if command == "fomm" else [])
    assert main(words) == 2
    sentence = capsys.readouterr().err.strip()
    assert kind in sentence
    assert "vox-adv-cpk.pth.tar" in sentence
    assert len(sentence) <= 300
    assert not (tmp_path / "out").exists()


def test_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        read_checkpoint(tmp_path)


def test_misfits_are_counted_and_listed(tmp_path, save, capsys):
    path = save(tmp_path / f"{'long' * 50}.pth", {"features.0.weight": np.zeros((64, 4, 3, 3))})
    words = ["import", "vgg19", str(path)]
    assert main(words) == 2
    sentence = capsys.readouterr().err.strip()
    assert "25 missing, e.g. params/features_0/bias" in sentence
    assert "\n" not in sentence
    assert len(sentence) <= 300
    assert sentence.endswith("(--verbose lists all)")
    assert main([*words, "--verbose"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 27
    assert "misshapen: params/features_0/kernel is (3, 3, 4, 64), not (3, 3, 3, 64)" in lines[-1]


def test_long_names_do_not_lengthen_the_sentence(tmp_path, save):
    name = "x" * 400
    have = {f"{name}{i}": np.zeros(1) for i in range(500)} | {f"{name}y": np.zeros(2)}
    want = {f"{name}z": np.zeros(1), f"{name}y": np.zeros(1)}
    with pytest.raises(CheckpointError, match="500 not known") as caught:
        check(have, want, name)
    assert len(str(caught.value)) <= 300
    assert len(caught.value.details) == 502
    with pytest.raises(CheckpointError, match="501 characters"):
        state_of({"x" * 501: np.ones(1)}, "weights.pth")


def test_weights_that_are_not_finite_are_refused():
    weights = {"a": np.ones(2), "b": np.array([0, np.inf]), "c": np.array([np.nan])}
    with pytest.raises(CheckpointError, match="NaN or infinity in 2 of 3 tensors, first in b") as caught:
        check(weights, weights, "weights.pth")
    assert caught.value.details == ("b", "c")
