"""Augmentation: what PIL's operations do, alike on a pair, different between pairs, in every order, flips as FOMM's."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from avfr_jax.errors import ConfigError
from avfr_jax.landmarks import mirror_indices
from pipelines.augment import AugmentConfig, apply_jitter, augment, sample_jitter
from pipelines.warp import WarpConfig
from tests.media_fixtures import astronaut

STILL = AugmentConfig(0.0, 0.0, 0.0, 0.0, flip=False)
SIZE = 24


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.asarray(Image.fromarray(astronaut()).resize((64, 64)))


def make_batch(size: int, channels: int = 3, swapped: Any = False) -> dict[str, Any]:
    rng = np.random.default_rng(size)
    frames = rng.integers(60, 190, (2, size, SIZE, SIZE, channels), np.uint8)
    return {"source": frames[0], "driving": frames[1], "swapped": np.broadcast_to(swapped, size)}


def turn_hue(image: Image.Image, turn: float) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    turned = (np.asarray(hue).astype(int) + int(turn * 255)) % 256
    return Image.merge("HSV", (Image.fromarray(turned.astype(np.uint8)), saturation, value)).convert("RGB")


def by_pil(image: np.ndarray, factors: Any, turn: float, order: Any) -> np.ndarray:
    """The same with PIL, operation after operation, rounded to 8 bits after each, as FOMM has it."""
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    out = Image.fromarray(image)
    for operation in order:
        out = turn_hue(out, turn) if operation == 3 else enhancers[operation](out).enhance(factors[operation])
    return np.asarray(out) / 255.0


@pytest.mark.parametrize(
    ("factors", "turn", "mean", "most"),
    [
        # FOMM's amounts. PIL rounds to 8 bits and clips after each operation, and has 256 hues.
        ((0.9, 1.1, 0.92), 0.08, 2.0, 12.0),
        ((1.1, 0.9, 1.1), -0.1, 2.0, 12.0),
        # So much that the order shows, on colours of which none is clipped.
        ((0.8, 1.2, 0.5), 0.3, 2.0, 6.0),
    ],
)
def test_jitter_in_every_order_equals_pil(picture, factors, turn, mean, most):
    colourful = turn == 0.3
    if colourful:
        picture = np.random.default_rng(0).choice(np.uint8([[190, 90, 70], [90, 80, 200], [100, 180, 90]]), (64, 64))
    orders = list(itertools.permutations(range(4)))
    change = jax.jit(jax.vmap(apply_jitter, (None, None, None, 0)))
    frames = np.stack([picture, picture[:, ::-1]]) / np.float32(255)
    ours = np.asarray(change(frames, np.float32(factors), np.float32(turn), np.array(orders)))
    expected = np.array([by_pil(picture, factors, turn, order) for order in orders])
    difference = 255 * np.abs(ours[:, 0] - expected)
    assert difference.mean((1, 2, 3)).max() < mean
    assert np.percentile(difference, 99, axis=(1, 2, 3)).max() < most
    np.testing.assert_allclose(ours[:, 1], ours[:, 0, :, ::-1], atol=1e-5)  # the other frame is changed alike
    if colourful:  # turning the hue first or last is not the same
        assert 255 * np.abs(expected[-1] - expected[0]).mean() > 3 * mean


def test_single_operations(picture):
    x = picture[None] / np.float32(255)
    grey = x @ np.float32([0.299, 0.587, 0.114])
    order = jnp.array([3, 0, 1, 2])

    jitted = jax.jit(apply_jitter)

    def change(*factors: float) -> np.ndarray:
        return np.asarray(jitted(x, jnp.array(factors), jnp.float32(0), order))

    np.testing.assert_allclose(change(1.0, 1.0, 1.0), x, atol=2e-6)
    np.testing.assert_allclose(change(0.9, 1.0, 1.0), 0.9 * x, atol=2e-6)
    np.testing.assert_allclose(change(1.0, 0.9, 1.0), 0.9 * x + 0.1 * grey.mean(), atol=2e-6)
    np.testing.assert_allclose(change(1.0, 1.0, 0.9), 0.9 * x + 0.1 * grey[..., None], atol=2e-6)
    turned = np.asarray(jitted(x, jnp.ones(3), jnp.float32(1 / 3), order))
    np.testing.assert_allclose(turned, x[..., [2, 0, 1]], atol=2e-6)  # a third of the circle: red takes green's place


def test_orders_and_amounts_are_random():
    """Every order comes equally often, each amount fills its range, and each pair has its own."""
    factors, turns, orders = jax.device_get(sample_jitter(jax.random.key(3), 2400, AugmentConfig()))
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert ((counts - 100) ** 2 / 100).sum() < 50  # chi-squared with 23 degrees of freedom: p < 0.001
    for values in (factors - 1.0, turns[:, None]):
        assert (np.abs(values) <= 0.1 + 1e-6).all()
        assert (np.abs(values.mean(0)) < 0.005).all()
        np.testing.assert_allclose(values.std(0), 0.1 / np.sqrt(3), rtol=0.05)
    assert np.abs(np.corrcoef(factors.T) - np.eye(3)).max() < 0.08


def test_frames_of_a_pair_change_alike_pairs_differ():
    frame = make_batch(1)["source"][0]
    batch = {"source": np.stack([frame] * 6), "driving": np.stack([frame] * 6), "swapped": np.ones(6, bool)}
    out = jax.jit(augment, static_argnums=2)(jax.random.key(0), batch, AugmentConfig())
    np.testing.assert_array_equal(out["source"], out["driving"])
    assert out["source"].dtype == jnp.float32
    distances = np.abs(np.asarray(out["source"])[:, None] - np.asarray(out["source"])[None]).mean((2, 3, 4))
    assert distances[~np.eye(6, dtype=bool)].min() > 1e-3
    again = jax.jit(augment, static_argnums=2)(jax.random.key(0), batch, AugmentConfig())
    other = jax.jit(augment, static_argnums=2)(jax.random.key(1), batch, AugmentConfig())
    np.testing.assert_array_equal(out["source"], again["source"])
    assert np.abs(np.asarray(out["source"]) - np.asarray(other["source"])).max() > 1e-3


def test_zero_strength_is_the_identity():
    batch = make_batch(3, channels=5)
    out = augment(jax.random.key(0), batch, STILL)
    np.testing.assert_allclose(255 * out["source"], batch["source"], rtol=1e-6)
    np.testing.assert_allclose(255 * out["driving"], batch["driving"], rtol=1e-6)


def test_half_of_the_unswapped_pairs_are_flipped():
    size = 400
    swapped = np.arange(size) % 2 == 0
    batch = make_batch(size, channels=5, swapped=swapped)
    rng = np.random.default_rng(0)
    marks = rng.uniform(-1, 1, (2, size, 478, 3)).astype(np.float32)
    marks[0, :, 7] = np.nan
    batch |= {"source_landmarks": marks[0], "driving_landmarks": marks[1], "mel": np.ones((size, 80, 16), np.float32)}
    mirror = mirror_indices()
    config = AugmentConfig(0.0, 0.0, 0.0, 0.0)
    out = jax.device_get(jax.jit(augment, static_argnums=2)(jax.random.key(5), batch, config, mirror))
    flipped = (np.rint(255 * out["source"]) == batch["source"][:, :, ::-1]).all((1, 2, 3))
    assert not flipped[swapped].any()
    assert abs(flipped[~swapped].mean() - 0.5) < 0.12  # 3.4 standard deviations
    for name in ("source", "driving"):
        expected = np.where(flipped[:, None, None, None], batch[name][:, :, ::-1], batch[name])
        np.testing.assert_array_equal(np.rint(255 * out[name]), expected)
        was = batch[f"{name}_landmarks"]
        turned = was[:, mirror] * np.float32([-1, 1, 1])
        np.testing.assert_array_equal(out[f"{name}_landmarks"], np.where(flipped[:, None, None], turned, was))
    np.testing.assert_array_equal(out["mel"], batch["mel"])


def test_priors_keep_their_values_under_jitter():
    batch = make_batch(4, channels=5, swapped=True)
    out = jax.jit(augment, static_argnums=2)(jax.random.key(0), batch, AugmentConfig())
    np.testing.assert_allclose(255 * out["driving"][..., 3:], batch["driving"][..., 3:], rtol=1e-6)
    assert np.abs(np.asarray(out["driving"])[..., :3] - batch["driving"][..., :3] / 255).max() > 1e-3


def test_bad_settings():
    with pytest.raises(ConfigError, match=r"augment\.hue must be between 0 and 0\.5"):
        AugmentConfig(hue=0.7)
    batch = make_batch(2) | {"source_landmarks": np.zeros((2, 478, 3), np.float32)}
    with pytest.raises(ConfigError, match="without the table"):
        augment(jax.random.key(0), batch, AugmentConfig(0.0, 0.0, 0.0, 0.0))


def test_crops_are_the_same_square_of_every_frame_of_a_triplet():
    """Frames whose pixels are their places, so that a crop says where it was cut."""
    places = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE), [0], indexing="ij"), -1)[:, :, 0].astype(np.uint8)
    batch = {name: np.broadcast_to(places, (64, SIZE, SIZE, 3)) for name in ("source", "between", "driving")}
    batch["swapped"] = np.zeros(64, bool)
    cut = AugmentConfig(0.0, 0.0, 0.0, 0.0, flip=False, crop=17)
    out = jax.jit(augment, static_argnums=2)(jax.random.key(0), batch, cut)
    rows, columns = np.rint(np.moveaxis(np.asarray(out["source"])[..., :2], -1, 0) * 255).astype(int)
    assert rows.shape == (64, 17, 17)
    along = np.broadcast_to(np.arange(17), rows.shape)
    np.testing.assert_array_equal(rows, rows[:, :1, :1] + along.transpose(0, 2, 1))
    np.testing.assert_array_equal(columns, columns[:, :1, :1] + along)
    for found in (rows, columns):
        assert set(found[:, 0, 0].tolist()) == set(range(SIZE - 17 + 1))  # every place occurs, the last one too
    assert (rows[:, 0, 0] != columns[:, 0, 0]).any()
    for name in ("between", "driving"):
        np.testing.assert_array_equal(out[name], out["source"])
    again = augment(jax.random.key(1), batch, cut)
    assert (np.asarray(again["source"]) != np.asarray(out["source"])).any()


def test_single_frames_are_augmented_like_pairs():
    batch = make_batch(6)
    config = AugmentConfig(hue=0.0)
    run = jax.jit(augment, static_argnums=2)
    both = run(jax.random.key(3), batch, config)
    alone = run(jax.random.key(3), {name: batch[name] for name in ("driving", "swapped")}, config)
    assert set(alone) == {"driving", "swapped"}
    np.testing.assert_allclose(alone["driving"], both["driving"], atol=1e-6)


def test_unsupported_crops_and_warps():
    batch = make_batch(2)
    with pytest.raises(ConfigError, match=f"augment.crop is 99, and the frames are {SIZE} x {SIZE}"):
        augment(jax.random.key(0), batch, AugmentConfig(crop=99))
    with pytest.raises(ConfigError, match="for frames without landmarks"):
        augment(jax.random.key(0), batch | {"driving_landmarks": np.zeros((2, 478, 3))}, AugmentConfig(crop=8))
    with pytest.raises(ConfigError, match="moves pairs of frames alone"):
        augment(jax.random.key(0), batch | {"between": batch["source"]}, AugmentConfig(warp=WarpConfig(rotation=3.0)))
    with pytest.raises(ConfigError, match="cropped cannot be warped"):
        AugmentConfig(crop=8, warp=WarpConfig(rotation=3.0))
