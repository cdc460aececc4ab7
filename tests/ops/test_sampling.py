import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from avfr_jax.ops.grids import corner_grid, pixel_grid
from avfr_jax.ops.sampling import PADDINGS, grid_sample_2d, grid_sample_3d
from tests.reference import channels_last

CASES = list(itertools.product(PADDINGS, (False, True)))


@pytest.mark.parametrize(("padding", "corners"), CASES)
@pytest.mark.parametrize(("name", "layout", "sample"), [
    ("grid_sample_2d", "NCHW", grid_sample_2d), ("grid_sample_3d", "NCDHW", grid_sample_3d),
])  # fmt: skip
def test_values_and_gradients_equal_the_reference(golden_dir, name, layout, sample, padding, corners):
    z = np.load(golden_dir / f"{name}.npz")
    image, seed = channels_last(z[f"input_{layout}"]), channels_last(z[f"grad_output_{layout}"])
    out, pull = jax.vjp(lambda i, g: sample(i, g, padding, corners), jnp.asarray(image), jnp.asarray(z["grid"]))
    by_image, by_grid = pull(jnp.asarray(seed))
    tag = f"{padding}_ac{int(corners)}"
    np.testing.assert_allclose(out, channels_last(z[f"{tag}_output"]), atol=1e-5)
    np.testing.assert_allclose(by_image, channels_last(z[f"{tag}_grad_input"]), atol=1e-5)
    np.testing.assert_allclose(by_grid, z[f"{tag}_grad_grid"], atol=1e-5)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("shape", [(5, 7), (3, 5, 4)])
def test_the_identity_grid_of_each_convention_returns_the_image(padding, shape):
    image = jax.random.normal(jax.random.key(0), (2, *shape, 3))
    sample = grid_sample_2d if len(shape) == 2 else grid_sample_3d
    for make, corners in ((pixel_grid, False), (corner_grid, True)):
        grid = jnp.broadcast_to(make(*shape), (2, *shape, len(shape)))
        np.testing.assert_allclose(sample(image, grid, padding, corners), image, atol=2e-6)


def test_many_warps_in_one_gather_equal_one_after_another():
    keys = jax.random.split(jax.random.key(1))
    image = jax.random.normal(keys[0], (2, 8, 9, 3))
    grid = jax.random.uniform(keys[1], (2, 4, 5, 6, 2), minval=-1.4, maxval=1.4)
    together = grid_sample_2d(image, grid)
    for k in range(4):
        np.testing.assert_allclose(together[:, k], grid_sample_2d(image, grid[:, k]), atol=1e-6)


def test_jit_vmap_and_bfloat16_agree_with_the_plain_call():
    keys = jax.random.split(jax.random.key(2))
    image = jax.random.uniform(keys[0], (2, 64, 64, 4))
    grid = jax.random.uniform(keys[1], (2, 10, 10, 2), minval=-1.2, maxval=1.2)
    plain = grid_sample_2d(image, grid, "border")
    np.testing.assert_allclose(jax.jit(grid_sample_2d, static_argnums=2)(image, grid, "border"), plain, atol=1e-6)
    one = jax.vmap(lambda i, g: grid_sample_2d(i[None], g[None], "border")[0])(image, grid)
    np.testing.assert_allclose(one, plain, atol=1e-6)
    half = grid_sample_2d(image.astype(jnp.bfloat16), grid, "border")
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), plain, atol=2e-2)


@pytest.mark.parametrize("padding", PADDINGS)
def test_gradients_equal_finite_differences(padding):
    image = jax.random.normal(jax.random.key(3), (1, 6, 6, 2))
    # Away from the kinks at pixel centres, where the derivative jumps.
    grid = (pixel_grid(6, 6)[None] * 1.3) + 0.03
    check_grads(lambda i, g: grid_sample_2d(i, g, padding), (image, grid), 1, ["rev"], 1e-2, 1e-2, 1e-3)


def test_wrong_arguments_are_refused():
    image, grid = jnp.zeros((1, 4, 4, 1)), jnp.zeros((2, 3, 3, 2))
    with pytest.raises((ValueError, TypeError), match="grid"):  # TypeError where shapes are checked at the call
        grid_sample_2d(image, grid)
