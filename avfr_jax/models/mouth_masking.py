"""Masking of the driving mouth in training and in dubbing, so that audio and mesh image determine it."""

import jax.numpy as jnp

from avfr_jax.landmarks import FOREHEAD, LOWER_LIP, NOSE_BASE, UPPER_LIP
from avfr_jax.ops.grids import pixel_grid
from avfr_jax.typing import Array, Bool, Float

_COLOURS = 3  # channels of a frame; behind them lie mesh image and mask


def mouth_opening(landmarks: Float[Array, "n 478 d"]) -> Float[Array, "n"]:
    """How far the lips are apart, in units of the distance from the forehead to the base of the nose."""
    apart = landmarks[:, UPPER_LIP, :2] - landmarks[:, LOWER_LIP, :2]
    height = landmarks[:, FOREHEAD, :2] - landmarks[:, NOSE_BASE, :2]
    return jnp.linalg.norm(apart, axis=-1) / jnp.maximum(jnp.linalg.norm(height, axis=-1), 1e-6)


def mask_mouth(
    inputs: Float[Array, "n h w c"], landmarks: Float[Array, "n 478 d"], which: Bool[Array, "n"] | None = None
) -> Float[Array, "n h w c"]:
    """Frames whose colours are zero from the base of the nose to below the chin, and across the jaw; mesh image and
    mask stay.

    Position and size of the masked region come from forehead and nose alone, so that they do not depend on the mouth.

    Args:
      inputs: of the keypoint detector, for driving frames.
      landmarks: of the faces, (x, y[, z]) in [-1, 1] by pixel centres; nothing is masked where they are NaN.
      which: of the frames; None masks all.
    """
    base = landmarks[:, None, None, NOSE_BASE, :2]
    down = base - landmarks[:, None, None, FOREHEAD, :2]
    square = jnp.sum(down**2, -1)
    places = pixel_grid(*inputs.shape[1:3]) - base
    along, across = jnp.sum(places * down, -1) / square, jnp.cross(places, down) / square
    hidden = (along > 0.02) & (along < 1) & (jnp.abs(across) < 0.85)  # NaN is in no range
    if which is not None:
        hidden &= which[:, None, None]
    return jnp.where(hidden[..., None] & (jnp.arange(inputs.shape[-1]) < _COLOURS), 0, inputs)
