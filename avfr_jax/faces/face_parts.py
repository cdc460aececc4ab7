"""Masks of a face's parts, rasterised from its landmarks: a structural prior that a network reads beside the pixels."""

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax import landmarks as points
from avfr_jax.typing import Array, Float

CHANNELS = 6  # face, lips, mouth, eyes, irises, brows


def _ring(upper: tuple[int, ...], lower: tuple[int, ...]) -> tuple[int, ...]:
    """A closed outline from two that share their corners."""
    return (*upper, *reversed(lower[1:-1]))


_EYES = (_ring(points.RIGHT_EYE_UPPER, points.RIGHT_EYE_LOWER), _ring(points.LEFT_EYE_UPPER, points.LEFT_EYE_LOWER))
_BROWS = (
    _ring((70, 63, 105, 66, 107), (70, 46, 53, 52, 65, 55, 107)),
    _ring((336, 296, 334, 293, 300), (336, 285, 295, 282, 283, 276, 300)),
)
# The shipped weights were trained with an upper lip that runs from left to right, so that the polygon crosses itself.
_LIPS = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409,
)  # fmt: skip
# The polygons of each channel.
_PARTS: tuple[tuple[tuple[int, ...], ...], ...] = (
    (points.FACE_OVAL,),
    (_LIPS,),
    (_ring(points.MOUTH_UPPER, points.MOUTH_LOWER),),
    _EYES,
    (points.RIGHT_IRIS, points.LEFT_IRIS),
    _BROWS,
)


def _coverage(corners: Float[Array, "n k 2"], size: int) -> Float[Array, "n size size"]:
    """How much of each pixel a closed polygon covers, by the signed areas to the right of its edges.

    Args:
      corners: in pixels, pixel i covering [i, i + 1].
      size: side of the masks.
    """
    row = jnp.arange(size, dtype=jnp.float32)[:, None]
    column = jnp.arange(size, dtype=jnp.float32)
    a, b = corners[:, None], jnp.roll(corners, -1, axis=1)[:, None]  # [N, 1, K, 2]
    low, high = jnp.clip(a[..., 1] - row, 0, 1), jnp.clip(b[..., 1] - row, 0, 1)
    rise = b[..., 1] - a[..., 1]
    along = ((low + high) / 2 + row - a[..., 1]) / jnp.where(rise == 0, 1.0, rise)
    crossing = a[..., 0] + along * (b[..., 0] - a[..., 0])  # [N, rows, K]
    total = jnp.zeros((corners.shape[0], size, size), corners.dtype)
    for k in range(corners.shape[1]):  # unrolled: one fused loop over the pixels
        share = jnp.clip(column + 1 - crossing[..., k, None], 0, 1)
        total = total + (high - low)[..., k, None] * share
    return jnp.clip(jnp.abs(total), 0, 1)


def face_part_masks(landmarks: Float[Array, "n 478 d"], size: int) -> Float[Array, "n size size 6"]:
    """Face, lips, inside of the mouth, eyes, irises and brows as filled, anti-aliased outlines.

    Args:
      landmarks: (x, y[, z]) in [-1, 1] by pixel centres; a frame with NaN (without a face) has empty masks.
      size: side of the masks in pixels.

    Returns:
      Float32 in [0, 1], one channel a part.
    """
    known = jnp.isfinite(landmarks).all((1, 2))
    # [-1, 1] spans the masks from edge to edge.
    pixels = (jnp.where(known[:, None, None], landmarks[..., :2], 0).astype(jnp.float32) + 1) * (size / 2)
    parts = []
    for polygons in _PARTS:
        covered = [_coverage(pixels[:, np.array(polygon)], size) for polygon in polygons]
        parts.append(sum(covered[1:], covered[0]))
    masks = jnp.stack(parts, axis=-1) * known[:, None, None, None]
    return jax.lax.stop_gradient(jnp.clip(masks, 0, 1))
