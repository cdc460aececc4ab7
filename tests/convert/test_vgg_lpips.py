"""Files in the layout of torchvision, LPIPS, VGG-Face and Hopenet, through `avfr import`."""

import re

import numpy as np
import pytest

from avfr_jax.backbones import hopenet, weights
from avfr_jax.backbones.lpips import CHANNELS
from avfr_jax.backbones.perceptual import perceptual_network
from avfr_jax.backbones.stack import shapes
from avfr_jax.backbones.vgg import vgg19
from avfr_jax.checkpoints import flatten
from avfr_jax.cli.main import main
from avfr_jax.convert.vgg import check_published
from avfr_jax.errors import CheckpointError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("AVFR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def _vgg19_state():
    """torchvision's names and layout; numbers in the first layer alone, and a stub of a classifier."""
    state = {"classifier.6.bias": np.zeros(1000)}
    for name, leaves in shapes(vgg19())["params"].items():
        layer = name.replace("_", ".")
        state[f"{layer}.weight"] = np.zeros([leaves["kernel"].shape[i] for i in (3, 2, 0, 1)])
        state[f"{layer}.bias"] = np.zeros(leaves["bias"].shape)
    rng = np.random.default_rng(0)
    return state | {"features.0.weight": rng.normal(size=(64, 3, 3, 3)), "features.0.bias": rng.normal(size=64)}


def _refused(capsys, *words):
    """Run a command that must fail; gives its one sentence."""
    assert main([str(w) for w in words]) == 2
    captured = capsys.readouterr()
    sentences = captured.err.strip().splitlines()
    assert len(sentences) == 1, captured.err
    assert captured.out == ""
    return sentences[0]


def test_vgg19_is_imported(tmp_path, home, save, capsys):
    state = _vgg19_state()
    path = save(tmp_path / "vgg19.pth", state)
    assert main(["import", "vgg19", str(path)]) == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == str(home / "backbones" / "vgg19")
    assert weights.sha256(path) in captured.err
    params = weights.load_weights("vgg19")["params"]
    assert sum(leaf.size for layer in params.values() for leaf in layer.values()) == 12_944_960
    first = params["features_0"]
    np.testing.assert_allclose(first["kernel"], state["features.0.weight"].transpose(2, 3, 1, 0), rtol=1e-6)
    np.testing.assert_allclose(first["bias"], state["features.0.bias"], rtol=1e-6)


def test_wrong_file_is_refused(tmp_path, save, capsys):
    assert "does not exist" in _refused(capsys, "import", "vgg19", tmp_path / "nowhere.pth")
    text = tmp_path / "text.pth"
    text.write_text("hello, these are no weights")
    assert "text.pth is not a PyTorch checkpoint" in _refused(capsys, "import", "vgg19", text)
    other = save(tmp_path / "other.pth", {"layer1.0.weight": np.zeros((64, 3, 7, 7))})
    assert "other.pth does not fit the network" in _refused(capsys, "import", "vgg19", other)
    wide = save(tmp_path / "wide.pth", {"features.0.weight": np.zeros((64, 4, 3, 3))})
    sentence = _refused(capsys, "import", "vgg19", wide)
    assert "1 misshapen: " in sentence
    assert "features_0/kernel is (3, 3, 4, 64), not (3, 3, 3, 64)" in sentence
    assert "not one of LPIPS's files" in _refused(capsys, "import", "lpips", other)
    assert "avfr import vgg19 takes FILE" in _refused(capsys, "import", "vgg19")
    assert not weights.is_imported("vgg19")


def test_checksum_of_published_names(tmp_path, save, capsys):
    path = save(tmp_path / "vgg19-dcbb9e9d.pth", {"features.0.bias": np.zeros(64)})
    assert "is not the published file of that name" in _refused(capsys, "import", "vgg19", path)
    true = path.with_name(f"vgg19-{weights.sha256(path)[:8]}.pth")
    path.rename(true)
    check_published(true)
    with pytest.raises(CheckpointError, match="checksum differs"):
        check_published(true.rename(path))


@pytest.mark.parametrize("kind", list(CHANNELS))
def test_lpips_variant_is_recognised(tmp_path, home, save, capsys, kind):
    heads = {f"lin{i}.model.1.weight": np.full((1, c, 1, 1), i + 1.0) for i, c in enumerate(CHANNELS[kind])}
    path = save(tmp_path / "heads.pth", heads)
    assert main(["import", "lpips", str(path)]) == 0
    assert capsys.readouterr().out.strip() == str(home / "backbones" / f"lpips-{kind}")
    stored = weights.load_weights(f"lpips-{kind}")
    assert {name: (head.shape, head[0]) for name, head in stored.items()} == {
        f"lin{i}": ((c,), i + 1) for i, c in enumerate(CHANNELS[kind])
    }
    heads["lin2.model.1.weight"][0, 5] = np.nan
    diverged = save(tmp_path / "nan.pth", heads)
    assert "NaN or infinity in 1 of 5 tensors, first in lin2" in _refused(capsys, "import", "lpips", diverged)
    heads["lin2.model.1.weight"][0, 5] = -0.1
    negative = save(tmp_path / "negative.pth", heads)
    assert "negative weights" in _refused(capsys, "import", "lpips", negative)


def test_face_vgg_is_imported(tmp_path, home, save, capsys):
    widths = {1: (3, 64, 2), 2: (64, 128, 2), 3: (128, 256, 3), 4: (256, 512, 3), 5: (512, 512, 1)}
    state = {"fc8.bias": np.zeros(2622)}
    for group, (inputs, outputs, count) in widths.items():
        for layer in range(1, count + 1):
            state[f"conv{group}_{layer}.weight"] = np.zeros((outputs, inputs if layer == 1 else outputs, 3, 3))
            state[f"conv{group}_{layer}.bias"] = np.full(outputs, 10 * group + layer)
    state["conv1_1.weight"][:, :, 1, 1] = 1  # the sum of the three colours, from 0 to 255 less the mean
    assert main(["import", "face-vgg", str(save(tmp_path / "vgg_face_dag.pth", state))]) == 0
    assert capsys.readouterr().out.strip() == str(home / "backbones" / "face-vgg")
    network = perceptual_network("face-vgg")
    first, *_, last = network(np.ones((1, 32, 32, 3), np.float32))
    np.testing.assert_allclose(first[0, 8, 8], 765 - (129.1863 + 104.7624 + 93.5940) + 11, rtol=1e-5)
    assert last.shape == (1, 2, 2, 512)
    np.testing.assert_allclose(last, 51)
    assert network.description.startswith("VGG-Face from vgg_face_dag.pth (SHA-256 ")
    del state["conv3_2.weight"]
    broken = save(tmp_path / "broken.pth", state)
    assert "1 missing: params/features_12/kernel" in _refused(capsys, "import", "face-vgg", broken)


def _hopenet_state():
    """The published names and layout, the data-parallel prefix and the unused head included."""
    state = {"fc_finetune.bias": np.zeros(3)}
    published = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    for path, leaf in flatten(hopenet.shapes()).items():
        _, *module, name = path.split("/")
        shape = leaf.shape if len(leaf.shape) < 2 else (*leaf.shape[:-3:-1], *leaf.shape[:-2])
        module = re.sub(r"_(\d)", r".\1", ".".join(module))
        state[f"{module}.{published[name]}"] = np.zeros(shape)
    return {f"module.{name}": value for name, value in state.items()}


def test_hopenet_is_imported(tmp_path, home, save, capsys):
    state = _hopenet_state()
    state["module.fc_yaw.bias"] = np.arange(66.0)
    assert main(["import", "hopenet", str(save(tmp_path / "hopenet_robust_alpha1.pkl", state))]) == 0
    assert capsys.readouterr().out.strip() == str(home / "backbones" / "hopenet")
    network = hopenet.load_hopenet()
    np.testing.assert_array_equal(network.variables["params"]["fc_yaw"]["bias"], state["module.fc_yaw.bias"])
    assert network.description.startswith("Hopenet from hopenet_robust_alpha1.pkl (SHA-256 ")
    other = save(tmp_path / "other.pkl", {"module.conv1.weight": np.zeros((64, 3, 7, 7))})
    assert "other.pkl does not fit the network" in _refused(capsys, "import", "hopenet", other)
