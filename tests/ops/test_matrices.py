import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.ops.matrices import hull_area, small_inverse


@pytest.mark.parametrize("side", [2, 3])
def test_inverse_is_exact_and_finite_for_singular_matrices(side):
    m = jnp.eye(side) + 0.3 * jax.random.normal(jax.random.key(0), (50, side, side))
    np.testing.assert_allclose(small_inverse(m), np.linalg.inv(m), rtol=2e-4, atol=2e-4)
    singular = jnp.ones((side, side))
    assert np.isfinite(small_inverse(singular)).all()
    assert np.isfinite(jax.grad(lambda x: small_inverse(x).sum())(singular)).all()


def test_matrices_of_another_size_are_refused():
    with pytest.raises(ValueError, match="2 × 2 or 3 × 3"):
        small_inverse(jnp.eye(4))


def test_hull_area():
    assert hull_area(np.asarray([[0, 0], [2, 0], [0, 2], [2, 2], [1.0, 1]])) == pytest.approx(4)
    assert hull_area(np.stack([np.linspace(-1, 1, 6)] * 2, -1)) == 0
