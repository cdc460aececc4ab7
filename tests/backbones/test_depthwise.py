"""The fast depthwise convolution is XLA's own in value and gradient."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.backbones.depthwise import depthwise


def _reference(x, kernel, strides, padding):
    return jax.lax.conv_general_dilated(
        *(x, kernel[:, :, None], strides, padding), feature_group_count=4, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_values_and_gradients(padding):
    rng = np.random.default_rng(0)
    for taps, stride, size in itertools.product((1, 3, 4), (1, 2, 3), ((7, 8),)):
        x = jnp.asarray(rng.normal(size=(2, *size, 4)), jnp.float32)
        kernel = jnp.asarray(rng.normal(size=(taps, taps, 4)), jnp.float32)
        ours, pull = jax.vjp(jax.jit(lambda x, k: depthwise(x, k, (stride, 1), padding)), x, kernel)  # noqa: B023
        theirs, pull_theirs = jax.vjp(lambda x, k: _reference(x, k, (stride, 1), padding), x, kernel)  # noqa: B023
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
        towards = jnp.asarray(rng.normal(size=ours.shape), jnp.float32)
        for a, b in zip(pull(towards), pull_theirs(towards), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)


def test_it_is_vectorised_and_keeps_its_dtype():
    x, kernel = jnp.ones((3, 2, 5, 5, 4), jnp.bfloat16), jnp.ones((3, 3, 4), jnp.bfloat16)
    y = jax.vmap(depthwise, in_axes=(0, None))(x, kernel)
    assert y.shape == (3, 2, 5, 5, 4)
    assert y.dtype == jnp.bfloat16
    assert float(y[0, 0, 2, 2, 0]) == 9
    assert float(y[0, 0, 0, 0, 0]) == 4
