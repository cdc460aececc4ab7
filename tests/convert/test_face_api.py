"""Manifests of TensorFlow.js and the face networks of an npm package, through `avfr import`."""

import io
import json
import tarfile

import numpy as np
import pytest

from avfr_jax.backbones import landmarks68, weights
from avfr_jax.checkpoints import flatten
from avfr_jax.cli.main import main
from avfr_jax.convert.face_api import to_descriptor_variables
from avfr_jax.convert.weights_manifest import read_manifest_weights
from avfr_jax.errors import CheckpointError, InputError

STEM = "face_landmark_68_model"
MANIFEST = f"{STEM}-weights_manifest.json"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("AVFR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def _write(folder, entries, content, shards=1, stem=STEM):
    """A manifest and its files."""
    names = [f"{stem}.bin"] if shards == 1 else [f"{stem}-shard{i}" for i in range(shards)]
    parts = np.array_split(np.frombuffer(content, np.uint8), shards)
    for name, part in zip(names, parts, strict=True):
        (folder / name).write_bytes(part.tobytes())
    path = folder / f"{stem}-weights_manifest.json"
    path.write_text(json.dumps([{"weights": entries, "paths": names}]))
    return path


def _archive(path, folder, leave_out=()):
    with tarfile.open(path, "w:gz") as archive:
        for file in sorted(folder.iterdir()):
            if file.name not in leave_out:
                archive.add(file, f"package/model/{file.name}")
    return path


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


def _small(folder, shards=1):
    """Three tensors: float32, bytes with a scale, and 16-bit integers with a scale."""
    plain = np.array([[1.5, -2.0]], np.float32)
    entries = [
        {"name": "a", "shape": [1, 2], "dtype": "float32"},
        {"name": "b", "shape": [3], "dtype": "float32", "quantization": {"dtype": "uint8", "scale": 0.5, "min": -1}},
        {"name": "c", "shape": [1], "dtype": "float32", "quantization": {"dtype": "uint16", "scale": 2, "min": 1}},
    ]
    content = plain.tobytes() + bytes([0, 1, 255]) + np.array([1000], "<u2").tobytes()
    return _write(folder, entries, content, shards)


@pytest.mark.parametrize("shards", [1, 2])
def test_tensors_are_read_from_both(tmp_path, folder, shards):
    path = _small(folder, shards)
    archive = _archive(tmp_path / "package.tgz", folder)
    for source in (path, archive):
        tensors = read_manifest_weights(source, STEM, "it")
        np.testing.assert_array_equal(tensors["a"], [[1.5, -2.0]])
        np.testing.assert_array_equal(tensors["b"], [-1, -0.5, 126.5])
        np.testing.assert_array_equal(tensors["c"], [2001])
        assert {t.dtype for t in tensors.values()} == {np.dtype(np.float32)}


def test_broken_files_are_refused(tmp_path, folder):
    path = _small(folder)
    binary = folder / f"{STEM}.bin"

    def refused(source, words, error=CheckpointError):
        with pytest.raises(error, match=words) as caught:
            read_manifest_weights(source, STEM, "@vladmandic/face-api")
        assert "\n" not in str(caught.value)

    refused(tmp_path / "nowhere.tgz", "does not exist", InputError)
    refused(binary, "neither the archive that npm pack @vladmandic/face-api writes nor a manifest")
    refused(_archive(tmp_path / "lacks.tgz", folder, [binary.name]), "lacks package/model/face_landmark_68_model.bin")
    refused(_archive(tmp_path / "other.tgz", folder, [MANIFEST]), "is not the archive of @vladmandic/face-api")
    whole = _archive(tmp_path / "cut.tgz", folder).read_bytes()
    (tmp_path / "cut.tgz").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "cut.tgz", "damaged")
    binary.write_bytes(binary.read_bytes()[:-1])
    refused(path, "are 12 bytes, not the 13 of its manifest")
    binary.unlink()
    refused(path, "which is not beside it")
    groups = json.loads(path.read_text())
    groups[0]["paths"] = ["../secret"]
    path.write_text(json.dumps(groups))
    refused(path, "outside its folder")
    for wrong in ([{"weights": []}], [1], [{"weights": [{"name": "a", "shape": [1], "dtype": "string"}], "paths": []}]):
        path.write_text(json.dumps(wrong))
        refused(path, "no readable manifest")


def _landmark_tensors():
    """The network's tensors under the published names, filled with each one's number."""
    tensors = {}
    for number, (path, leaf) in enumerate(sorted(flatten(landmarks68.shapes()).items())):
        _, module, *rest = path.split("/")
        name = module.replace("_", "/") + "/"
        last = {"depthwise": "depthwise_filter", "pointwise/kernel": "pointwise_filter", "pointwise/bias": "bias"}
        ours = "/".join(rest)
        name += last.get(ours, ("weights" if module == "fc" else "filters") if ours == "kernel" else ours)
        shape = (*leaf.shape, 1) if ours == "depthwise" else leaf.shape
        tensors[name] = (path, np.full(shape, number, np.float32))
    return tensors


def test_landmarks_are_imported(tmp_path, folder, home, capsys):
    tensors = _landmark_tensors()
    entries = [{"name": n, "shape": list(t.shape), "dtype": "float32"} for n, (_, t) in tensors.items()]
    path = _write(folder, entries, b"".join(t.tobytes() for _, t in tensors.values()))
    archive = _archive(tmp_path / "vladmandic-face-api-1.7.15.tgz", folder)
    assert main(["import", "landmarks68", str(archive)]) == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == str(home / "backbones" / "landmarks68")
    assert weights.sha256(archive) in captured.err
    stored = flatten(weights.load_weights("landmarks68"))
    for at, tensor in tensors.values():
        np.testing.assert_array_equal(stored[at], tensor.reshape(stored[at].shape))

    assert main(["import", "face-recognition", str(path)]) == 2
    assert "is not of the network face-recognition; avfr import landmarks68 takes it." in capsys.readouterr().err
    wide = [entry | {"shape": [*entry["shape"][:2], 1, entry["shape"][2]]} if "depth" in entry["name"] else entry
            for entry in entries]  # fmt: skip
    other = [{"name": "fc", "shape": [1], "dtype": "float32"}, *wide]
    content = bytes(4) + b"".join(t.tobytes() for _, t in tensors.values())
    assert main(["import", "landmarks68", str(_write(folder, other, content))]) == 2
    assert "15 misshapen, e.g." in capsys.readouterr().err
    del entries[-1]
    content = b"".join(tensors[entry["name"]][1].tobytes() for entry in entries)
    assert main(["import", "landmarks68", str(_write(folder, entries, content))]) == 2
    assert "1 missing" in capsys.readouterr().err


def test_scale_is_multiplied_into_the_convolution():
    tensors = {
        "conv32_down/conv/filters": np.ones((7, 7, 3, 32), np.float32),
        "conv32_down/conv/bias": np.full(32, 3, np.float32),
        "conv32_down/scale/weights": np.arange(32, dtype=np.float32),
        "conv32_down/scale/biases": np.full(32, 5, np.float32),
    }
    with pytest.raises(CheckpointError) as caught:
        to_descriptor_variables(tensors, "it")
    assert "57 missing" in str(caught.value)  # two for each of 28 convolutions, and the last layer
    tensors["conv32_down/scale/weights"] = np.ones(5, np.float32)
    with pytest.raises(CheckpointError, match="sizes in conv32_down that do not match"):
        to_descriptor_variables(tensors, "it")


def test_no_archive_at_all(tmp_path):
    path = tmp_path / "text.tgz"
    path.write_bytes(b"\x1f\x8b" + io.BytesIO(b"nothing").getvalue())
    with pytest.raises(CheckpointError, match="no tar archive, or a damaged one"):
        read_manifest_weights(path, STEM, "it")
