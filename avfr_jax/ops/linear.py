"""Linear systems that are solved many at a time."""

import jax
import jax.numpy as jnp

from avfr_jax.ops.platform import by_platform
from avfr_jax.typing import Array, Float


def solve(matrices: Float[Array, "n k k"], right: Float[Array, "n k c"]) -> Float[Array, "n k c"]:
    """`x` with `matrices @ x = right`, by LU decomposition; differentiable in both, a NaN or infinity where a matrix is
    singular.

    On a CPU one system after the other: jaxlib 0.10 decomposes a batch of larger matrices in parallel by waiting, on a
    thread of the pool, for work that it has queued in the same pool. Two such calls at once on two cores wait for
    each other for ever; a batch of one is decomposed at once, in the calling thread.
    """

    def times(x: Array) -> Array:
        return matrices @ x

    def forwards(_: object, b: Array) -> Array:
        return _solve(matrices, b)

    def transposed(_: object, b: Array) -> Array:
        return _solve(matrices.swapaxes(1, 2), b)

    return jax.lax.custom_linear_solve(times, right, forwards, transposed)


def _solve(a: Array, b: Array) -> Array:
    return by_platform(a, b, cpu=_one_by_one, default=jnp.linalg.solve)


def _one_by_one(a: Array, b: Array) -> Array:
    return jax.lax.map(lambda pair: _alone(*pair), (a, b))


# Under `jax.vmap` too: that would make a batch of it again.
@jax.custom_batching.sequential_vmap  # type: ignore[untyped-decorator]
def _alone(a: Array, b: Array) -> Array:
    return jnp.linalg.solve(a[None], b[None])[0]
