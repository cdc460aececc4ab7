"""Super-resolution: training's blur, windows without seams, and pictures of every size."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.errors import ConfigError, InputError
from avfr_jax.models import super_resolution
from avfr_jax.models.discriminators import DiscriminatorConfig
from avfr_jax.nn.unet import UNetConfig
from avfr_jax.ops.resize import resize_cubic
from tests.models.test_fomm import weights

CONFIG = super_resolution.SuperResolutionConfig(
    patch_size=16,
    overlap=4,
    batch_size=3,
    network=UNetConfig(block_expansion=4, num_blocks=1, max_features=8),
    discriminator=DiscriminatorConfig(block_expansion=4, num_blocks=1, max_features=8, use_keypoints=False),
)

TOLD = dataclasses.replace(CONFIG, factor_input=True)


@functools.lru_cache
def random_weights(seed=0, config=CONFIG):
    """Random weights, those of the last layer too, which starts at zero."""
    return weights(config, seed, super_resolution.init)


def picture(height, width, count=1, seed=0):
    """Smooth, and well inside [0, 1], so that nothing is clipped."""
    coarse = np.random.default_rng(seed).uniform(0.3, 0.6, (count, 4, 5, 3)).astype(np.float32)
    return np.asarray(resize_cubic(coarse, (height, width)))


@functools.partial(jax.jit, static_argnums=(0, 3))
def enlarge(config, variables, pictures, shape):
    return super_resolution.enlarge(config, variables, pictures, shape)


@pytest.fixture(scope="module")
def untrained():
    return jax.jit(lambda key: super_resolution.init(CONFIG, key))(jax.random.key(0))


@pytest.mark.parametrize("shape", [(37, 50), (9, 30), (5, 5)])
def test_bicubic_to_the_bit_and_a_constant_detail_is_added_evenly(untrained, shape):
    """At sizes that are no multiples of a window, and smaller than one."""
    small = picture(12, 10, 2)
    plain = jax.jit(resize_cubic, static_argnums=1)(small, shape)
    np.testing.assert_array_equal(enlarge(CONFIG, untrained, small, shape), plain)
    constant = jax.tree.map(np.zeros_like, random_weights())
    constant["generator"]["params"]["unet"]["final"]["bias"][:] = [0.1, -0.1, 0.05]
    shifted = enlarge(CONFIG, constant, small, shape) - plain
    np.testing.assert_allclose(shifted, np.broadcast_to([0.1, -0.1, 0.05], shifted.shape), atol=1e-6)


def test_no_seams_where_windows_meet():
    """A random network differs most at its window's border, which it sees; no line of them is left in the result."""
    variables = random_weights(3)
    small, shape = picture(16, 16), (64, 64)
    plain = resize_cubic(small, shape)

    def jumps(config):
        detail = np.asarray(enlarge(config, variables, small, shape) - plain)[0]
        across = np.abs(np.diff(detail, axis=1)).mean((0, 2))  # from each column to the next
        seams = np.arange(15, 63, 16)
        return across[seams].mean() / np.delete(across, seams).mean()

    assert jumps(dataclasses.replace(CONFIG, overlap=0)) > 1.5  # side by side they show
    assert jumps(dataclasses.replace(CONFIG, overlap=8)) < 1.2


def test_the_same_for_every_batch_of_windows():
    small = picture(20, 24, 2)
    result = super_resolution.SuperResolver(CONFIG, random_weights())(small, 40, 48)
    assert np.abs(result - resize_cubic(small, (40, 48))).max() > 0.01
    other = enlarge(dataclasses.replace(CONFIG, batch_size=50), random_weights(), small, (40, 48))
    np.testing.assert_allclose(other, result, atol=1e-5)


def test_the_handle_takes_bytes_and_single_frames():
    model = super_resolution.SuperResolver(CONFIG, random_weights())
    frame = (255 * picture(12, 10)[0]).astype(np.uint8)
    result = model(frame, 30, 20)
    assert (result.shape, result.dtype) == ((30, 20, 3), np.uint8)
    np.testing.assert_allclose(result / 255, model(frame / np.float32(255), 30, 20), atol=0.6 / 255)
    np.testing.assert_array_equal(model(frame, 30, 20), result)


def test_crops_are_blurred_as_pictures_are_that_were_small():
    crops = np.random.default_rng(0).random((4, 16, 16, 3), np.float32)
    factors = np.float32([2, 3.2, 4, 6])
    degrade = jax.jit(functools.partial(super_resolution.degrade, CONFIG))
    blurred = degrade(crops, factors)
    for crop, factor, got in zip(crops, factors, blurred, strict=True):
        side = round(16 / factor)
        want = np.clip(resize_cubic(np.clip(resize_cubic(crop[None], (side, side)), 0, 1), (16, 16)), 0, 1)[0]
        np.testing.assert_allclose(got, want, atol=1e-5)
    beyond = degrade(crops, np.float32([1, 2, 6, 99]))
    inside = degrade(crops, np.float32([2, 2, 6, 6]))
    np.testing.assert_array_equal(beyond, inside)


def test_the_factor_input_reaches_the_network():
    variables, large = random_weights(config=TOLD), picture(24, 24)
    small, tiny = resize_cubic(large, (12, 12)), resize_cubic(large, (6, 6))
    module = super_resolution.generator(TOLD)
    blurred = jnp.clip(resize_cubic(small, (24, 24)), 0, 1)[:, :16, :16]

    def detail(factor):
        return module.apply(variables["generator"], blurred, jnp.full(1, factor), method="detail")

    assert np.abs(detail(2.0) - detail(4.0)).max() > 1e-3
    np.testing.assert_array_equal(detail(6.0), detail(60.0))  # beyond what it has seen
    whole = super_resolution.enlarge(dataclasses.replace(TOLD, patch_size=24, overlap=0), variables, small, (24, 24))
    result = module.apply(variables["generator"], resize_cubic(small, (24, 24)), jnp.full(1, 2.0))
    np.testing.assert_allclose(whole, jnp.clip(result, 0, 1), atol=1e-5)
    assert enlarge(TOLD, variables, tiny, (24, 24)).shape == (1, 24, 24, 3)


@pytest.mark.parametrize("config", [CONFIG, TOLD])
def test_gradients_reach_every_parameter(config):
    own = random_weights(config=config)["generator"]
    state = {name: tree for name, tree in own.items() if name != "params"}
    crops = np.random.default_rng(0).random((4, 16, 16, 3), np.float32)

    def loss(params):
        module, factors = super_resolution.generator(config), jnp.asarray([2.0, 3.0, 4.0, 6.0])
        out, _ = module.apply({**state, "params": params}, crops, factors, train=True, mutable=list(state))
        return ((out - 0.3) ** 2).mean()

    for path, grad in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(own["params"])):
        name = "/".join(str(key.key) for key in path)
        assert np.isfinite(grad).all(), name
        if not name.endswith("conv/bias"):  # a bias before a normalisation has none
            assert np.abs(grad).max() > 0, name


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"overlap": 16}, "overlap must be from 0 to below patch_size"),
        ({"min_factor": 7.0}, r"min_factor \(7\) must be"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
    ],
)
def test_impossible_settings(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        dataclasses.replace(CONFIG, **settings)
    with pytest.raises(ConfigError, match="num_blocks of a U-Net must be at least 1"):
        UNetConfig(num_blocks=0)


def test_bad_input_is_one_sentence():
    model = super_resolution.SuperResolver(CONFIG, random_weights())
    with pytest.raises(ConfigError, match="cannot be enlarged to 0 x 4 pixels"):
        model(picture(8, 8), 4, 0)
    with pytest.raises(InputError, match=r"frames must be \[N, H, W, 3\]"):
        model(np.zeros((8, 8)), 4, 4)
