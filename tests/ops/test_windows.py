"""Windows cover every pixel, their weights sum to one, and what they disagree on shows no edge."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.ops.windows import blending_weights, over_windows, window_starts

SIZE, OVERLAP, BATCH = 8, 3, 4


def run(function, pictures, size=SIZE, overlap=OVERLAP, batch=BATCH):
    return jax.jit(functools.partial(over_windows, function, size=size, overlap=overlap, batch=batch))(pictures)


@pytest.mark.parametrize(("length", "overlap"), [(8, 3), (9, 3), (13, 3), (14, 3), (40, 0), (41, 7)])
def test_the_fewest_windows_cover_every_pixel_with_weights_that_sum_to_one(length, overlap):
    starts, weights = window_starts(length, SIZE, overlap), blending_weights(length, SIZE, overlap)
    assert (starts[0], starts[-1]) == (0, length - SIZE)
    assert max(np.diff(starts), default=0) <= SIZE - overlap
    assert (len(starts) - 1) * (SIZE - overlap) < length - SIZE + (SIZE - overlap)
    total = np.zeros(length)
    for start, weight in zip(starts, weights, strict=True):
        total[start : start + SIZE] += weight
    np.testing.assert_allclose(total, 1, atol=1e-6)
    assert (weights >= 0).all()


@pytest.mark.parametrize("shape", [(8, 8), (9, 21), (30, 13)])
def test_the_blend_is_exact_for_functions_of_pixels(shape):
    pictures = jax.random.uniform(jax.random.key(0), (3, *shape, 2))
    np.testing.assert_allclose(run(lambda x: x, pictures), pictures, atol=1e-6)
    np.testing.assert_allclose(run(lambda x: x + 0.25, pictures), pictures + 0.25, atol=1e-6)
    one = run(lambda x: x[..., :1] * 3, pictures, batch=7)
    assert one.shape == (3, *shape, 1)
    np.testing.assert_allclose(one, pictures[..., :1] * 3, atol=1e-6)


def test_windows_that_disagree_show_no_seam():
    """Each window is given a grey of its own, 0 or 1 by turns: side by side they would jump by 1."""
    size, overlap = 16, 8

    def greys(windows):
        turn = jnp.round(windows[:, 0, 0] / (size - overlap)).sum(-1) % 2  # the picture's pixels are their places
        return jnp.broadcast_to(turn[:, None, None, None], (*windows.shape[:3], 1))

    places = jnp.stack(jnp.meshgrid(jnp.arange(40.0), jnp.arange(56.0), indexing="ij"), -1)[None]
    hard = run(greys, places, size - overlap, 0)
    assert np.abs(np.diff(hard[0, ..., 0], axis=1)).max() == 1
    soft = np.asarray(run(greys, places, size, overlap)[0, ..., 0])
    assert soft.min() < 0.1
    assert soft.max() > 0.9
    steepest = np.pi / 2 / overlap  # of a raised cosine from 0 to 1
    for axis in (0, 1):
        assert np.abs(np.diff(soft, axis=axis)).max() < 1.1 * steepest


def test_the_function_is_traced_once_for_one_shape():
    shapes = []

    def seen(x):
        shapes.append(x.shape)
        return x

    for shape in ((9, 20), (33, 12)):
        run(seen, jnp.zeros((2, *shape, 3)))
    assert set(shapes) == {(BATCH, SIZE, SIZE, 3)}


def test_windows_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not cover 7"):
        run(lambda x: x, jnp.zeros((1, 7, 9, 3)))
    with pytest.raises(ValueError, match="share 8"):
        window_starts(20, 8, 8)
