import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.ops.linear import solve

_BUSY = """
import jax
import jax.numpy as jnp
import numpy as np
from avfr_jax.ops.linear import solve
systems = jnp.asarray(np.random.default_rng(0).normal(size=(6, 8, 100, 100)), jnp.float32)
right = jnp.ones((8, 100, 2))
one_each = jax.vmap(lambda x: solve(x[None], right[:1]))
many = jax.jit(lambda a: [solve(a[i], right).sum() for i in range(5)] + [one_each(a[5])])
for _ in range(100):
    jax.block_until_ready(many(systems))
"""


def _systems(n=3, k=7, c=2):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(n, k, k))), jnp.asarray(rng.normal(size=(n, k, c)))


def test_values_and_gradients_equal_numpy():
    a, b = _systems()
    expected = np.linalg.solve(np.asarray(a, np.float64), np.asarray(b, np.float64))
    np.testing.assert_allclose(jax.jit(solve)(a, b), expected, rtol=2e-4, atol=2e-5)

    def plain(a, b):
        return (jnp.linalg.solve(a, b) ** 2).sum()

    def ours(a, b):
        return (solve(a, b) ** 2).sum()

    for got, want in zip(jax.grad(ours, (0, 1))(a, b), jax.grad(plain, (0, 1))(a, b), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-3, atol=1e-3 * np.abs(want).max())


def test_vmap_gives_what_one_call_gives():
    a, b = _systems(n=4)
    each = jax.vmap(lambda a, b: solve(a[None], b[None])[0])(a, b)
    np.testing.assert_allclose(each, solve(a, b), rtol=1e-5, atol=1e-6)
    assert np.isfinite(jax.vmap(jax.grad(lambda a, b: solve(a[None], b[None]).sum()))(a, b)).all()


@pytest.mark.slow
def test_several_batches_at_once_never_wait_for_each_other():
    """With `jnp.linalg.solve` this hangs within a second on two cores."""
    subprocess.run([sys.executable, "-c", _BUSY], check=True, timeout=120)
