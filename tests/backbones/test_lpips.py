import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.backbones.lpips import Lpips


class Stub:
    """Two feature maps of four channels."""

    def apply(self, variables, images):
        mixed = jnp.maximum(images @ variables - 0.2, 0)
        return [mixed, mixed[:, ::2, ::2] ** 2]


def _lpips(dtype=jnp.float32):
    rng = np.random.default_rng(0)
    heads = [jnp.asarray(rng.random(4), dtype) for _ in range(2)]
    return Lpips(Stub(), jnp.asarray(rng.normal(size=(3, 4)), dtype), heads)


def _images(seed, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).random((2, 8, 8, 3)), dtype)


def test_equals_its_definition():
    a, b, lpips = _images(1), _images(2), _lpips()
    expected = np.zeros(2)
    features = (lpips.stack.apply(lpips.variables, x) for x in (a, b))
    for head, *maps in zip(lpips.heads, *features, strict=True):
        f, g = (np.asarray(v, np.float64) for v in maps)
        f, g = (v / (np.sqrt((v**2).sum(-1, keepdims=True)) + 1e-10) for v in (f, g))
        expected += ((f - g) ** 2 @ np.asarray(head)).mean((1, 2))
    np.testing.assert_allclose(lpips(a, b), expected, rtol=1e-4)
    assert float(jax.jit(lambda x: lpips(x, x))(a).sum()) == 0


def test_gradient_of_dead_features_is_finite():
    black = jnp.zeros((2, 8, 8, 3))
    assert np.all(np.isfinite(jax.grad(lambda x: _lpips()(x, _images(2)).sum())(black)))


def test_bfloat16_is_reduced_in_float32():
    value = _lpips(jnp.bfloat16)(_images(1, jnp.bfloat16), _images(2, jnp.bfloat16))
    assert value.dtype == jnp.float32
    assert np.all(np.isfinite(value))
