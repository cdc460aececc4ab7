"""Networks of perceptual losses, by name."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax import losses
from avfr_jax.backbones import mediapipe_nets, weights
from avfr_jax.backbones.perceptual import perceptual_network
from avfr_jax.errors import ConfigError, MissingBackendError
from tests.media_fixtures import astronaut, moved

needs_wheel = pytest.mark.skipif(
    mediapipe_nets.wheel_file("face_landmark") is None or importlib.util.find_spec("tflite") is None,
    reason="the installed mediapipe carries no models, or tflite is not installed",
)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("AVFR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def _import_vgg19(folder):
    source = folder / "vgg19-dcbb9e9d.pth"
    source.write_bytes(b"a published file")
    weights.save_weights("vgg19", {"params": {"features_0": {"bias": np.ones(64)}}}, source)
    return source


def test_names():
    with pytest.raises(ConfigError, match="no perceptual network 'resnet': choose one of auto, face, vgg19"):
        perceptual_network("resnet")
    nothing = perceptual_network("none")
    images = jnp.ones((1, 16, 16, 3))
    assert nothing(images) == []


def test_missing_vgg19_weights_name_the_file_to_fetch():
    with pytest.raises(MissingBackendError, match=r"fetch https://\S+/vgg19-dcbb9e9d\.pth and run avfr import vgg19"):
        perceptual_network("vgg19")


@needs_wheel
def test_auto_falls_back_to_the_face_network(tmp_path):
    assert perceptual_network("auto").name == "face"
    source = _import_vgg19(tmp_path)
    network = perceptual_network("auto")
    assert network.name == "vgg19"
    assert source.name in network.description
    assert weights.sha256(source)[:12] in network.description
    np.testing.assert_array_equal(network.variables["params"]["features_0"]["bias"], np.ones(64))


def test_auto_without_any_network_is_reported(monkeypatch):
    monkeypatch.setattr(mediapipe_nets, "wheel_file", lambda name: None)
    with pytest.raises(MissingBackendError, match="avfr import mediapipe-nets"):
        perceptual_network("auto")


@needs_wheel
def test_face_network_loss():
    """Zero for equal images, more for a larger rotation, and a finite gradient; the network is an argument."""
    face = astronaut(64)
    target, near, far = (jnp.asarray(moved(face, step)[None] / 255, jnp.float32) for step in (0, 1, 4))
    settings = {"scales": (1.0, 0.5), "normalise": True}

    @jax.jit
    @jax.value_and_grad
    def step(prediction, target, network):
        return losses.perceptual(network, prediction, target, weights=network.weights, **settings)

    network = perceptual_network("face")
    (same, _), (little, gradient), (much, _) = (step(picture, target, network) for picture in (target, near, far))
    assert float(same) < 1e-3 < float(little) < float(much)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


def test_random_vgg19_depends_on_the_seed_alone():
    first, again, other = (perceptual_network("vgg19-random", seed=seed) for seed in (3, 3, 4))
    assert "random weights (seed 3)" in first.description
    a, b, c = (network.variables["params"]["features_28"]["kernel"] for network in (first, again, other))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    maps = jax.jit(lambda network, images: network(images))(first, jnp.full((1, 16, 16, 3), 0.5))
    assert [x.shape[1:] for x in maps] == [(16, 16, 64), (8, 8, 128), (4, 4, 256), (2, 2, 512), (1, 1, 512)]
    assert all(np.isfinite(x).all() and np.abs(x).max() > 0 for x in maps)
