"""Frames between frames: what an untrained network gives, which frame is made from which, and every size of frame."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.errors import ConfigError, InputError
from avfr_jax.models import interpolation
from avfr_jax.models.discriminators import DiscriminatorConfig
from avfr_jax.nn.unet import UNetConfig
from tests.media_fixtures import astronaut
from tests.models.test_fomm import weights

CONFIG = interpolation.InterpolationConfig(
    image_size=16,
    network=UNetConfig(block_expansion=4, num_blocks=1, max_features=8),
    discriminator=DiscriminatorConfig(block_expansion=4, num_blocks=1, max_features=8, use_keypoints=False),
)
MOVED = dataclasses.replace(CONFIG, matching=True, network=dataclasses.replace(CONFIG.network, fold=2))


def frames(count=2, height=16, width=16, seed=0):
    return np.random.default_rng(seed).random((count, height, width, 3), np.float32)


@functools.lru_cache
def random_weights(config, seed=0):
    """Random weights, those of the last layer too, which starts at zero."""
    return weights(config, seed, interpolation.init)


@functools.partial(jax.jit, static_argnums=(0, 4))
def between(config, variables, first, second, count):
    return interpolation.between(config, variables, first, second, count)


def test_an_untrained_network_gives_the_mean():
    variables = jax.jit(lambda key: interpolation.init(CONFIG, key))(jax.random.key(0))
    first, second = frames(), frames(seed=1)
    middle = between(CONFIG, variables, first, second, 1)
    assert middle.shape == (2, 1, 16, 16, 3)
    np.testing.assert_allclose(middle[:, 0], (first + second) / 2, atol=1e-6)


def test_an_untrained_network_that_matches_follows_what_moves():
    variables = jax.jit(lambda key: interpolation.init(MOVED, key))(jax.random.key(0))
    portrait = astronaut(128).astype(np.float32)[None] / 255
    first, truth, second = (portrait[:, 16:112, x : x + 96] for x in (10, 16, 22))
    middle = np.asarray(between(MOVED, variables, first, second, 1))[:, 0]
    assert np.abs(middle - truth).mean() < 0.3 * np.abs((first + second) / 2 - truth).mean()


@pytest.mark.parametrize("config", [CONFIG, MOVED])
def test_gradients_reach_every_parameter(config):
    own = random_weights(config)["generator"]
    state = {name: tree for name, tree in own.items() if name != "params"}

    def loss(params):
        module = interpolation.generator(config)
        out, _ = module.apply({**state, "params": params}, frames(), frames(seed=1), train=True, mutable=list(state))
        return ((out - 0.3) ** 2).mean()

    for path, grad in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(own["params"])):
        name = "/".join(str(key.key) for key in path)
        assert np.isfinite(grad).all(), name
        if not name.endswith("conv/bias"):  # a bias before a normalisation has none
            assert np.abs(grad).max() > 0, name


def test_which_frame_is_made_from_which():
    """With G(a, b) = 3/4 a + 1/4 b in place of the network."""
    first, second = jnp.zeros((1, 4, 4, 3)), jnp.ones((1, 4, 4, 3))

    class Mixture(nn.Module):
        def __call__(self, a, b):
            return 0.75 * a + 0.25 * b

    def levels(count):
        result = interpolation.between(CONFIG, {"generator": {}}, first, second, count)
        assert result.shape == (1, count, 4, 4, 3)
        return result[0, :, 0, 0, 0].tolist()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpolation, "generator", lambda config: Mixture())
        assert levels(1) == [0.25]
        assert levels(3) == [0.0625, 0.25, 0.4375]  # G(first, m), m, G(m, second)
        assert levels(2) == [0.0625, 0.4375]


def test_any_size_any_batch_and_the_same_every_time():
    model = interpolation.Interpolator(CONFIG, random_weights(CONFIG))
    first, second = frames(3, 13, 22), frames(3, 13, 22, seed=1)
    result = model(first, second, 3)
    assert result.shape == (3, 3, 13, 22, 3)
    assert ((result >= 0) & (result <= 1)).all()
    assert np.abs(result[:, 1] - (first + second) / 2).max() > 0.01
    np.testing.assert_array_equal(model(first, second, 3), result)
    alone = model(first[1], second[1], 3)
    np.testing.assert_allclose(alone, result[1], atol=1e-5)


def test_bytes_come_back_as_bytes():
    model = interpolation.Interpolator(CONFIG, random_weights(CONFIG))
    first, second = ((255 * x).astype(np.uint8) for x in (frames(1)[0], frames(1, seed=1)[0]))
    result = model(first, second, 2)
    assert (result.shape, result.dtype) == ((2, 16, 16, 3), np.uint8)
    floats = model(first / np.float32(255), second / np.float32(255), 2)
    np.testing.assert_allclose(result / 255, floats, atol=0.6 / 255)


@pytest.mark.parametrize("matched", [0, 0.5, 2])
def test_what_moved_is_looked_up_where_it_was(matched, monkeypatch):
    """A bright column that stands 4 pixels further in the second frame; what the matching has not found of that, the
    network says."""
    motion = np.broadcast_to(np.float32([-matched, 0]), (1, 16, 16, 2))
    monkeypatch.setattr(interpolation, "halfway_motion", lambda first, second: motion)
    first, second = np.zeros((2, 1, 16, 16, 3), np.float32)
    first[:, :, 4], second[:, :, 8] = 1, 1
    variables = jax.tree.map(np.zeros_like, random_weights(MOVED))
    bias = variables["generator"]["params"]["unet"]["final"]["bias"].reshape(2, 2, 8)
    bias[..., 4], bias[..., 6] = matched - 2, 2 - matched  # (x, y) of both frames, in pixels
    middle = interpolation.between(MOVED, variables, first, second, 1)[0, 0]
    np.testing.assert_allclose(middle[:, 6], 1, atol=1e-5)
    np.testing.assert_allclose(np.delete(middle, 6, axis=1), 0, atol=1e-5)


@pytest.mark.parametrize(
    ("first", "second", "count", "error", "sentence"),
    [
        (frames(), frames(), 4, ConfigError, "1 to 3 frames can be put between two, not 4"),
        (frames(), frames(), 0, ConfigError, "not 0"),
        (frames(), frames(3), 1, InputError, "differ in shape"),
        (frames()[..., :1], frames()[..., :1], 1, InputError, r"must be \[N, H, W, 3\] or \[H, W, 3\], not"),
        (frames().astype(int), frames().astype(int), 1, InputError, "uint8 or float in"),
    ],
)
def test_bad_input_is_one_sentence(first, second, count, error, sentence):
    model = interpolation.Interpolator(CONFIG, random_weights(CONFIG))
    with pytest.raises(error, match=sentence):
        model(first, second, count)
