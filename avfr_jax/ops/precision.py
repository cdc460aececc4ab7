"""Precision of intermediate results."""

import jax
import jax.numpy as jnp

from avfr_jax.typing import Array


def widen(x: Array) -> jax.Array:
    """At least float32: half precisions are widened, float64 is kept."""
    return jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32))
