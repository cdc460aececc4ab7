"""The cheaper convolutions against the plain ones they replace."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.nn import fast
from avfr_jax.nn.allocator import keep_freed_memory


def _random(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _exact(x: np.ndarray, kernel: np.ndarray, padding: int) -> np.ndarray:
    """Convolution as a plain sum over the taps in float64."""
    x = np.pad(x.astype(np.float64), ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    kh, kw = kernel.shape[:2]
    h, w = x.shape[1] - kh + 1, x.shape[2] - kw + 1
    return sum(x[:, i : i + h, j : j + w] @ kernel[i, j].astype(np.float64) for i in range(kh) for j in range(kw))


def _error(ours, exact: np.ndarray) -> float:
    assert ours.shape == exact.shape
    assert ours.dtype == jnp.float32
    return float(np.abs(np.asarray(ours, np.float64) - exact).max() / np.abs(exact).max())


def test_toom_cook_is_exact_for_any_points():
    a, g, b = fast.toom_cook((0.0, 1.0, -1.0, 0.5), 3)
    d, taps = np.random.default_rng(0).standard_normal((5,)), np.array([0.3, -1.2, 0.7])
    np.testing.assert_allclose(a @ ((g @ taps) * (b @ d)), np.correlate(d, taps, "valid"), atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 8, 12, 5, 7), (2, 9, 6, 3, 4), (1, 1, 1, 2, 2), (3, 16, 16, 64, 32)])
def test_winograd_equals_the_convolution(shape):
    n, h, w, c, o = shape
    x, kernel = _random(1, n, h, w, c), _random(2, 3, 3, c, o)
    ours = jax.jit(fast.conv3x3_winograd)(x, fast.winograd_kernel(kernel))
    assert _error(ours, _exact(x, kernel, 1)) < 1e-5


def test_winograd_error_at_the_width_of_the_generator():
    """256 channels of one sign (behind a ReLU), where cancellation in the transforms would show."""
    x, kernel = np.abs(_random(3, 1, 16, 16, 256)), _random(4, 3, 3, 256, 64)
    ours = jax.jit(fast.conv3x3_winograd)(x, fast.winograd_kernel(kernel))
    assert _error(ours, _exact(x, kernel, 1)) < 1e-5


@pytest.mark.parametrize("shape", [(1, 4, 6, 5, 7), (2, 3, 5, 2, 3), (1, 1, 1, 2, 2), (2, 8, 8, 64, 16)])
def test_upsample_convolution_equals_the_two_steps(shape):
    n, h, w, c, o = shape
    x, kernel, bias = _random(5, n, h, w, c), _random(6, 3, 3, c, o), _random(7, o)
    large = x.repeat(2, axis=1).repeat(2, axis=2)
    exact = _exact(large, kernel, 1) + bias
    transformed = fast.upsample_kernel(kernel)
    assert sum(np.size(part) for part in transformed) == kernel.size
    assert _error(jax.jit(fast.upsample_conv3x3)(x, transformed, bias), exact) < 2e-6
    cut = jax.jit(lambda a, b, k: fast.upsample_conv3x3(a, k, b, relu=True))(x, bias, transformed)
    assert _error(cut, np.maximum(exact, 0)) < 2e-6


@pytest.mark.parametrize(("size", "padding"), [((7, 7), 3), ((7, 7), 0), ((5, 3), 1)])
def test_few_outputs_equal_the_convolution(size, padding):
    x, kernel = _random(8, 2, 11, 13, 6), _random(9, *size, 6, 4)
    ours = jax.jit(fast.conv_few_outputs, static_argnums=2)(x, fast.tap_kernel(kernel), padding)
    assert _error(ours, _exact(x, kernel, padding)) < 2e-6


@pytest.mark.parametrize("groups", [3, 1])
def test_weighted_sums_equal_the_convolution_then_the_sums(groups):
    x, weights, kernel = _random(20, 2, 9, 8, 5), _random(21, 2, 5, 6, 3), _random(22, 5, 3, 5, groups, 4)
    maps = np.broadcast_to(_exact(x, kernel.reshape(5, 3, 5, -1), 0).reshape(2, 5, 6, groups, 4), (2, 5, 6, 3, 4))
    exact = np.einsum("nyxk,nyxkj->nkj", weights, maps)
    assert _error(jax.jit(fast.weighted_conv_sums)(x, weights, kernel), exact) < 2e-6
    with pytest.raises(ValueError, match="do not give"):
        fast.weighted_conv_sums(x, weights[:, 1:], kernel)


def test_batch_normalisation_with_fixed_statistics_is_affine():
    x, kernel, bias = _random(10, 1, 6, 6, 3), _random(11, 3, 3, 3, 4), _random(12, 4)
    scale, beta, mean, var = _random(13, 4), _random(14, 4), _random(15, 4), np.abs(_random(16, 4)) + 0.1
    exact = (_exact(x, kernel, 1) + bias - mean) / np.sqrt(var + 1e-5) * scale + beta
    gain, shift = fast.batch_norm_affine(scale, beta, mean, var)
    np.testing.assert_allclose((_exact(x, kernel, 1) + bias) * gain + shift, exact, atol=1e-9)


def test_the_products_are_the_ones_saved():
    """The compiled program counts 2.25 multiplications an output channel pair, not 9 (transforms apart)."""

    def flops(function, *arguments) -> float:
        return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]

    x, kernel = _random(17, 1, 32, 32, 128), _random(18, 3, 3, 128, 128)
    plain = flops(lambda x, k: fast.convolve(x, k, 1), x, kernel)
    assert flops(fast.conv3x3_winograd, x, fast.winograd_kernel(kernel)) < 0.4 * plain
    small = x[:, :16, :16]
    assert flops(fast.upsample_conv3x3, small, fast.upsample_kernel(kernel)) < 0.4 * plain


def test_the_allocator_is_left_alone_when_the_user_chose_one(monkeypatch):
    monkeypatch.setenv("MALLOC_TOP_PAD_", "0")
    assert keep_freed_memory() is False


def test_the_allocator_is_left_alone_without_glibc(monkeypatch):
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    assert keep_freed_memory() is False
