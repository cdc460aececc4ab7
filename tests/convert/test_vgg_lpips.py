"""Files in the layout of torchvision and LPIPS, through `avfr import`."""

import numpy as np
import pytest

from avfr_jax.backbones import weights
from avfr_jax.backbones.lpips import CHANNELS
from avfr_jax.backbones.stack import shapes
from avfr_jax.backbones.vgg import vgg19
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
