"""Binary residual coding: the paper's layout, and what is sent and left out."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from avfr_jax.errors import ConfigError, InputError
from avfr_jax.models import residual
from avfr_jax.models.discriminators import DiscriminatorConfig
from avfr_jax.training.composed import ComposedObjective
from avfr_jax.training.objectives.residual import TASK
from avfr_jax.training.terms import PyramidL1
from tests.models.test_fomm import weights

CONFIG = residual.ResidualConfig(
    image_size=32,
    halvings=2,
    width=8,
    bits=6,
    decoder_width=16,
    conditional=True,
    discriminator=DiscriminatorConfig(block_expansion=4, num_blocks=1, max_features=8, use_keypoints=False),
)


@functools.lru_cache
def random_weights(conditional=True):
    """Random weights, those of the last layer too, which starts at zero."""
    return weights(dataclasses.replace(CONFIG, conditional=conditional), 0, residual.init)


def frames(count=2, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.uniform(0.2, 0.8, (count, 32, 32, 3)).astype(np.float32) for _ in range(2)]


def test_the_papers_layout():
    """32 × 64 × 64 bits of a frame of 512², three convolutions each way."""
    config = residual.ResidualConfig()
    assert (config.side, config.bits) == (64, 32)
    shapes = jax.eval_shape(lambda: residual.init(config, jax.random.key(0)))["generator"]["params"]
    kernels = {name: tree["kernel"].shape for name, tree in shapes.items()}
    assert kernels["down_0"] == (3, 3, 3, 32)
    assert kernels["down_2"] == (3, 3, 32, 32)
    assert kernels["up_0"] == kernels["up_2"] == (3, 3, 32, 128)
    assert kernels["final"] == (3, 3, 32, 3)
    assert not any(name.startswith("shown") for name in kernels)


@pytest.mark.parametrize("conditional", [True, False])
def test_both_ends_agree_with_training(conditional):
    config = dataclasses.replace(CONFIG, conditional=conditional)
    model = residual.ResidualCodec(config, random_weights(conditional))
    true, rendered = frames()
    signs = model.encode(true, rendered)
    assert (signs.shape, signs.dtype) == ((2, 8, 8, 6), np.int8)
    assert set(np.unique(signs)) == {-1, 1}
    kept = np.zeros(signs.shape, np.int8)
    kept[:, :4, :, :3] = 1
    want = residual.generator(config).apply(
        random_weights(conditional)["generator"], true, rendered, kept.astype(float)
    )
    np.testing.assert_allclose(model.decode(signs * kept, rendered), np.clip(want, 0, 1), atol=1e-5)


def test_an_untrained_network_changes_nothing_and_bytes_come_back_as_bytes():
    model = residual.ResidualCodec(CONFIG, jax.jit(lambda key: residual.init(CONFIG, key))(jax.random.key(0)))
    true, rendered = ((255 * x).astype(np.uint8) for x in frames())
    np.testing.assert_array_equal(model.decode(model.encode(true, rendered), rendered), rendered)


def test_what_is_left_out_far_away_does_not_matter():
    """A cell's signs change what lies around it alone."""
    model = residual.ResidualCodec(CONFIG, random_weights())
    true, rendered = frames(1)
    signs = model.encode(true, rendered)
    fewer = signs.copy()
    fewer[:, 0, 0] = 0
    change = np.abs(model.decode(fewer, rendered) - model.decode(signs, rendered))[0].max(-1)
    assert change[:4, :4].max() > 0
    assert change[16:].max() == change[:, 16:].max() == 0


def test_the_worst_cells_are_kept_first():
    true, rendered = frames()
    rendered = true.copy()
    rendered[0, 4:8, 12:16] += 0.2
    rendered[1, 28:, :4] += 0.2
    kept = np.asarray(residual.kept_signs(CONFIG, true, rendered, np.float32([1 / 64, 1]), np.int32([2, 6])))
    assert kept[0].sum() == 2
    assert kept[0, 1, 3, :2].all()
    assert kept[1].all()
    none = residual.kept_signs(CONFIG, true, rendered, np.float32([0, 1]), np.int32([6, 0]))
    assert not np.asarray(none).any()


def test_gradients_reach_every_parameter():
    true, rendered = frames()
    params = random_weights()["generator"]["params"]
    kept = np.ones((2, 8, 8, 6), np.float32)

    def loss(params):
        return ((residual.generator(CONFIG).apply({"params": params}, true, rendered, kept) - true) ** 2).mean()

    for path, grad in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(params)):
        assert np.abs(grad).max() > 0, path


def test_the_objective_repairs_what_landmark_warp_draws():
    """A source without a face is shown as it is; the loss is its distance to the driving frame until trained."""
    config = dataclasses.replace(CONFIG, image_size=64)
    objective = ComposedObjective(TASK, config, (PyramidL1(1.0, scales=(1.0,)),))
    rng = np.random.default_rng(0)
    batch = {name: rng.random((2, 64, 64, 5), np.float32) for name in ("source", "driving")}
    batch |= {f"{name}_landmarks": np.full((2, 478, 3), np.nan, np.float32) for name in ("source", "driving")}
    variables = objective.init(jax.random.key(0))
    draws = objective.sample(jax.random.key(1), 2)
    assert ((np.asarray(draws[0]) <= 1) & (np.asarray(draws[1]) >= 1) & (np.asarray(draws[1]) <= 6)).all()
    result = jax.jit(objective.gradients)(variables, objective.frozen, batch, draws)  # compiling it takes the time
    apart = np.abs(batch["source"] - batch["driving"])[..., :3].mean()
    np.testing.assert_allclose(result.metrics["l1"], apart, rtol=1e-4)


def test_impossible_settings_and_frames_are_one_sentence():
    with pytest.raises(ConfigError, match="multiple of the cells' 8 pixels, not 36"):
        residual.ResidualConfig(image_size=36)
    with pytest.raises(ConfigError, match="decoder_width must be a multiple of 4, not 6"):
        residual.ResidualConfig(decoder_width=6)
    with pytest.raises(ConfigError, match="bits of a residual coder must be at least 1"):
        residual.ResidualConfig(bits=0)
    model = residual.ResidualCodec(CONFIG, random_weights())
    true, rendered = frames()
    with pytest.raises(ConfigError, match="corrects frames of 32 × 32"):
        model.encode(true[:, :16], rendered[:, :16])
    with pytest.raises(InputError, match=r"rendered frame must be \[N, H, W, 3\]"):
        model.decode(np.zeros((2, 8, 8, 6), np.int8), rendered[..., :1])
