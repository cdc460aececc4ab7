import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from PIL import Image

from avfr_jax.ops.resize import (
    antialias_downsample,
    antialias_kernel,
    average_pool,
    cubic_weights,
    depth_to_space,
    max_pool,
    pyramid,
    resize_cubic,
    resize_linear,
    space_to_depth,
    upsample_nearest,
)
from tests.reference import channels_last


def test_interpolation_equals_the_reference(golden_dir):
    z = np.load(golden_dir / "ops_misc.npz")
    x = channels_last(z["interp2d/input_NCHW"])
    for h, w in ((12, 20), (3, 5), (9, 13), (4, 7)):
        for corners, tag in ((False, "F"), (True, "T")):
            want = channels_last(z[f"interp2d/bilinear_ac{tag}_{h}x{w}"])
            np.testing.assert_allclose(resize_linear(x, (h, w), align_corners=corners), want, atol=1e-5)
    np.testing.assert_allclose(upsample_nearest(x, (2, 2)), channels_last(z["interp2d/nearest_x2"]), atol=1e-6)
    np.testing.assert_allclose(average_pool(x, (2, 2)), channels_last(z["avgpool2d_2"]), atol=1e-6)
    odd = channels_last(z["avgpool_odd_input_NCHW"])
    np.testing.assert_allclose(average_pool(odd, (2, 2)), channels_last(z["avgpool_odd_2"]), atol=1e-6)
    v = channels_last(z["interp3d/input_NCDHW"])
    for shape in ((8, 7, 9), (4, 10, 12)):
        want = channels_last(z["interp3d/trilinear_acF_" + "x".join(map(str, shape))])
        np.testing.assert_allclose(resize_linear(v, shape), want, atol=1e-5)
    np.testing.assert_allclose(upsample_nearest(v, (1, 2, 2)), channels_last(z["interp3d/nearest_1x2x2"]), atol=1e-6)


@pytest.mark.parametrize("scale", [0.5, 0.25, 0.125, 1.0])
def test_antialiasing_equals_the_reference(golden_dir, scale):
    z = np.load(golden_dir / "ops_misc.npz")
    x = channels_last(z["antialias/input_NCHW"])
    if scale != 1:
        np.testing.assert_allclose(antialias_kernel(scale), z[f"antialias/scale{scale:g}_kernel_C1hw"][0, 0], atol=1e-6)
    want = x if scale == 1 else channels_last(z[f"antialias/scale{scale:g}_output_NCHW"])
    np.testing.assert_allclose(antialias_downsample(x, scale), want, atol=1e-5)


def test_downsampling_keeps_a_flat_image_flat_away_from_the_border():
    out = antialias_downsample(jnp.full((1, 64, 64, 2), 0.3), 0.25)
    assert out.shape == (1, 16, 16, 2)
    np.testing.assert_allclose(out[:, 2:-2, 2:-2], 0.3, atol=1e-5)


def test_pyramid_sizes_and_bfloat16():
    levels = pyramid(jnp.ones((1, 64, 64, 3), jnp.bfloat16))
    assert [l.shape[1] for l in levels] == [64, 32, 16, 8]
    assert all(l.dtype == jnp.bfloat16 for l in levels)


def test_linear_resize_is_differentiable_and_jits():
    f = jax.jit(lambda x: resize_linear(x, (5, 9)))
    x = jax.random.normal(jax.random.key(0), (2, 7, 6, 3))
    check_grads(f, (x,), 1, ["rev"], 1e-2, 1e-2)


def test_a_scale_that_is_no_fraction_is_refused():
    with pytest.raises(ValueError, match="whole number"):
        antialias_downsample(jnp.zeros((1, 8, 8, 1)), 0.3)


def test_max_pool_and_the_place_of_its_gradient():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 7, 9, 3)), jnp.float32)
    want = np.asarray(x)[:, :6, :8].reshape(2, 3, 2, 4, 2, 3).max((2, 4))
    np.testing.assert_array_equal(max_pool(x, 2), want)
    assert max_pool(x, 3).shape == (2, 2, 3, 3)
    check_grads(lambda x: max_pool(x, 2), (x,), order=1, modes=["rev"], eps=1e-3, rtol=1e-2)
    flat = jnp.ones((1, 4, 4, 1))
    grad = jax.grad(lambda x: max_pool(x, 2).sum())(flat)
    np.testing.assert_array_equal(grad[0, :, :, 0], [[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]])
    assert max_pool(x.astype(jnp.bfloat16), 2).dtype == jnp.bfloat16


@pytest.mark.parametrize("shape", [(7, 5), (32, 40), (24, 9), (1, 1)])
def test_bicubic_is_that_of_jax_and_of_pil(shape):
    x = np.random.default_rng(0).random((2, 24, 18, 3), np.float32)
    out = jax.jit(resize_cubic, static_argnums=1)(x, shape)
    want = jax.image.resize(x, (2, *shape, 3), "cubic", antialias=True, precision="highest")
    np.testing.assert_allclose(out, want, atol=2e-5)
    by_pil = Image.fromarray(x[0, ..., 0]).resize(shape[::-1], Image.Resampling.BICUBIC)
    np.testing.assert_allclose(out[0, ..., 0], np.asarray(by_pil), atol=2e-5)


def test_bicubic_keeps_what_it_should():
    x = jax.random.uniform(jax.random.key(0), (1, 9, 11, 2))
    np.testing.assert_array_equal(resize_cubic(x, (9, 11)), x)
    np.testing.assert_allclose(resize_cubic(jnp.full((1, 9, 11, 2), 0.3), (31, 4)), 0.3, atol=1e-6)
    # A straight ramp stays one where the kernel fits inside.
    ramp = jnp.broadcast_to(jnp.arange(16.0)[:, None, None], (1, 16, 4, 1))
    np.testing.assert_allclose(resize_cubic(ramp, (32, 4))[0, 6:-6, 0, 0], np.arange(6, 26) / 2 - 0.25, atol=1e-5)
    assert cubic_weights(9, 4).dtype == np.float32
    with pytest.raises(ValueError, match="0 x 4 pixels"):
        resize_cubic(x, (0, 4))


def test_squares_become_channels_and_pixels_again():
    x = jnp.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
    folded = space_to_depth(x, 2)
    assert folded.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(folded[1, 1, 2].reshape(2, 2, 3), x[1, 2:4, 4:6])
    np.testing.assert_array_equal(depth_to_space(folded, 2), x)
