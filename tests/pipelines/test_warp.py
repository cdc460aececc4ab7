"""Geometric augmentation: landmarks stay on what they mark, motion within a pair stays, stills are bent, others not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.errors import ConfigError
from avfr_jax.ops.grids import pixel_centres
from pipelines.warp import WarpConfig, warp

SIZE = 96
CONFIG = WarpConfig(rotation=8.0, scale=0.08, shift=0.03, stills=0.015)
moved = jax.jit(warp, static_argnums=2)


def blob(points):
    """Pictures with a round spot at each of the points [B, 2] in pixels."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    distance = (x - points[:, 0, None, None]) ** 2 + (y - points[:, 1, None, None]) ** 2
    return np.exp(-distance / (2 * 4.0**2))[..., None].repeat(3, -1)


def centre(pictures):
    """Of what is bright, in the coordinates of landmarks."""
    weights = np.asarray(pictures[..., 0], np.float64)
    at = pixel_centres(SIZE)
    total = weights.sum((1, 2))
    return np.stack([(weights * at).sum((1, 2)), (weights * at[:, None]).sum((1, 2))], -1) / total[:, None]


def make_batch(source, driving):
    points = {"source": np.asarray(source, np.float32), "driving": np.asarray(driving, np.float32)}
    batch = {name: blob(p) for name, p in points.items()}
    for name, p in points.items():
        xy = (2 * p + 1) / SIZE - 1
        depth = np.full((len(p), 478, 1), 0.1, np.float32)
        batch[f"{name}_landmarks"] = np.concatenate([np.repeat(xy[:, None], 478, 1), depth], -1)
    return batch


@pytest.mark.parametrize("still", [True, False])
def test_landmarks_move_with_the_image(still):
    rng = np.random.default_rng(0)
    source = rng.uniform(30, 66, (24, 2))
    batch = make_batch(source, source if still else rng.uniform(30, 66, (24, 2)))
    out = moved(jax.random.key(1), batch, CONFIG)
    for name in ("source", "driving"):
        shown = centre(out[name])
        np.testing.assert_allclose(out[f"{name}_landmarks"][:, 0, :2], shown, atol=2 / SIZE)
        assert np.abs(shown - centre(batch[name])).mean() > 2 / SIZE  # it did move, by pixels


def test_both_frames_move_alike_except_stills():
    points = np.array([[40.0, 50.0], [55.0, 45.0]])
    batch = make_batch(points, points + np.array([[0, 0], [4, 0]]))
    out = moved(jax.random.key(3), batch, CONFIG)
    before = batch["driving_landmarks"] - batch["source_landmarks"]
    after = np.asarray(out["driving_landmarks"] - out["source_landmarks"])
    assert np.abs(after[0, :, :2]).max() > 0.5 * 2 / SIZE  # one picture became two
    # A turn and a size change the step between the frames by what they change every length.
    ratio = np.linalg.norm(after[1, 0, :2]) / np.linalg.norm(before[1, 0, :2])
    depth = out["source_landmarks"][1, 0, 2] / batch["source_landmarks"][1, 0, 2]
    assert ratio == pytest.approx(float(depth), rel=1e-3)
    assert 0.7 < ratio < 1.4


def test_pure_function_of_the_key():
    points = np.random.default_rng(2).uniform(30, 66, (3, 2))
    batch = make_batch(points, points)
    one, same, other = (moved(jax.random.key(k), batch, CONFIG)["driving"] for k in (5, 5, 6))
    np.testing.assert_array_equal(one, same)
    assert np.abs(np.asarray(one) - np.asarray(other)).max() > 0.05


def test_zero_strength_is_the_identity():
    points = np.random.default_rng(2).uniform(30, 66, (3, 2))
    batch = make_batch(points, points + 2)
    out = moved(jax.random.key(0), batch, WarpConfig())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), out, jax.tree.map(jnp.asarray, batch))
    assert not WarpConfig().moves


@pytest.mark.parametrize("name", ["rotation", "scale", "shift", "stills"])
def test_impossible_amounts(name):
    with pytest.raises(ConfigError, match=f"augment.warp.{name} must be between"):
        WarpConfig(**{name: 90.0})
