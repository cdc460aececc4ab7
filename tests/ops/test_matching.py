"""Motion between two frames without a network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.ops.matching import halfway_motion, look_up
from tests.media_fixtures import astronaut

PORTRAIT = astronaut(160).astype(np.float32)[None] / 255


def _cut(x, y, height=104, width=96):
    return PORTRAIT[:, y : y + height, x : x + width]


@pytest.mark.parametrize("shift", [(0, 0), (2, 0), (0, -3), (-6, 4)])
def test_a_picture_that_moves_as_a_whole_is_followed(shift):
    x, y = shift
    first, second = _cut(32 - x, 28 - y), _cut(32 + x, 28 + y)
    motion = np.asarray(jax.jit(halfway_motion)(first, second))
    assert motion.shape == (1, 104, 96, 2)
    inside = motion[:, 24:-24, 24:-24]
    np.testing.assert_allclose(np.median(inside, (0, 1, 2)), shift, atol=0.5)
    both = (look_up(first, motion) + look_up(second, -motion)) / 2
    truth = _cut(32, 28)
    assert np.abs(both - truth).mean() <= 0.3 * np.abs((first + second) / 2 - truth).mean() + 1e-3


def test_time_backwards_is_the_other_way():
    first, second = _cut(30, 28), _cut(34, 27)
    match = jax.jit(halfway_motion)
    np.testing.assert_allclose(match(first, second), -match(second, first), atol=1e-4)


def test_any_size_and_no_gradient():
    first, second = _cut(30, 28, 37, 21), _cut(33, 28, 37, 21)
    assert jax.eval_shape(halfway_motion, first, second).shape == (1, 37, 21, 2)
    grad = jax.jit(jax.grad(lambda x: (halfway_motion(x, second, 1) ** 2).sum()))(jnp.asarray(first))
    assert not np.asarray(grad).any()


def test_looking_up_repeats_the_border():
    frame = np.arange(4, dtype=np.float32).reshape(1, 1, 4, 1)
    moves = np.zeros((1, 1, 4, 2), np.float32)
    moves[..., 0] = 1.5
    np.testing.assert_allclose(look_up(frame, moves)[0, 0, :, 0], [1.5, 2.5, 3, 3])
