"""The fast depthwise convolution against XLA's, in value and gradient."""

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
    for taps, stride in ((1, 1), (3, 1), (3, 2), (4, 3)):
        x = jnp.asarray(rng.normal(size=(2, 7, 8, 4)), jnp.float32)
        kernel = jnp.asarray(rng.normal(size=(taps, taps, 4)), jnp.float32)
        ours, vjp = jax.vjp(jax.jit(lambda x, k: depthwise(x, k, (stride, 1), padding)), x, kernel)  # noqa: B023
        reference, reference_vjp = jax.vjp(lambda x, k: _reference(x, k, (stride, 1), padding), x, kernel)  # noqa: B023
        np.testing.assert_allclose(ours, reference, atol=1e-5)
        cotangent = jnp.asarray(rng.normal(size=ours.shape), jnp.float32)
        for a, b in zip(vjp(cotangent), reference_vjp(cotangent), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)


def test_vmap_and_dtype():
    x, kernel = jnp.ones((3, 2, 5, 5, 4), jnp.bfloat16), jnp.ones((3, 3, 4), jnp.bfloat16)
    y = jax.vmap(depthwise, in_axes=(0, None))(x, kernel)
    assert y.shape == (3, 2, 5, 5, 4)
    assert y.dtype == jnp.bfloat16
    assert float(y[0, 0, 2, 2, 0]) == 9
    assert float(y[0, 0, 0, 0, 0]) == 4
