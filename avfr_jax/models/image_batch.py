"""Conversion of images between the forms of callers and of networks."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from avfr_jax.errors import InputError


def as_batch(pictures: Any, what: str, channels: int) -> tuple[Any, Callable[[Any], Any]]:
    """Images as a float batch, and the inverse for results.

    Args:
      pictures: `[H, W, C]` or `[N, H, W, C]`, uint8 or float in [0, 1].
      what: their name in error messages.
      channels: C.

    Returns:
      `[N, H, W, C]` float32 in [0, 1]; and a function from a batch `[N, …, C]` of floats to uint8 (NumPy) where the
      pictures were, without the axis N where they had none.

    Raises:
      InputError: another shape or dtype.
    """
    shape, dtype = np.shape(pictures), getattr(pictures, "dtype", np.asarray(pictures).dtype)
    if len(shape) not in (3, 4) or shape[-1] != channels or 0 in shape:
        raise InputError(f"The {what} must be [N, H, W, {channels}] or [H, W, {channels}], not {list(shape)}.")
    whole = dtype == np.uint8
    if not whole and not jnp.issubdtype(dtype, jnp.floating):
        raise InputError(f"The {what} must be uint8 or float in [0, 1], not {dtype}.")
    batch = jnp.asarray(pictures, jnp.float32) / (255 if whole else 1)

    def restore(out: Any) -> Any:
        out = out if len(shape) == 4 else out[0]
        return (np.asarray(out) * 255 + 0.5).astype(np.uint8) if whole else out

    return (batch if len(shape) == 4 else batch[None]), restore
