"""Coordinate grids. Two conventions place pixels in [-1, 1]; each has its own function, so that the choice is
visible where it is made.

* *pixel centres* (`align_corners=False`, the convention of this package): pixel i of N lies at -1 + (2i + 1)/N,
  so that ±1 are the outer edges of the image.
* *corners* (`align_corners=True`): pixel i of N lies at -1 + 2i/(N - 1), so that ±1 are the centres of the border
  pixels. FOMM's and face-vid2vid's networks build their identity grids this way.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from avfr_jax.typing import Array, Float


def pixel_centres(size: int) -> Float[np.ndarray, " size"]:
    """Coordinates of `size` pixels, -1 + (2i + 1)/size, float32."""
    return ((2 * np.arange(size) + 1) / size - 1).astype(np.float32)


def corner_aligned(size: int) -> Float[np.ndarray, " size"]:
    """Coordinates of `size` pixels, -1 + 2i/(size - 1), float32; a single pixel lies at 0."""
    if size == 1:
        return np.zeros(1, np.float32)
    return (2 * (np.arange(size) / (size - 1)) - 1).astype(np.float32)


def _grid(axes: list[np.ndarray]) -> Float[Array, "*space dims"]:
    mesh = np.meshgrid(*axes, indexing="ij")
    return jnp.asarray(np.stack(mesh[::-1], axis=-1))


def pixel_grid(*shape: int) -> Float[Array, "*space dims"]:
    """Pixel-centre grid (`align_corners=False`).

    Args:
      *shape: `height, width` or `depth, height, width`.

    Returns:
      `[h, w, 2]` of (x, y) or `[d, h, w, 3]` of (x, y, z), float32 in (-1, 1).
    """
    return _grid([pixel_centres(n) for n in shape])


def corner_grid(*shape: int) -> Float[Array, "*space dims"]:
    """Corner grid (`align_corners=True`), the one inside FOMM's networks (`make_coordinate_grid`).

    Args:
      *shape: `height, width` or `depth, height, width`.

    Returns:
      `[h, w, 2]` of (x, y) or `[d, h, w, 3]` of (x, y, z), float32 in [-1, 1].
    """
    return _grid([corner_aligned(n) for n in shape])


def to_pixels(coordinates: Any, size: int, *, align_corners: bool = False) -> Any:
    """[-1, 1] -> index coordinates 0 … size - 1 (fractions allowed) along one axis, for arrays of any kind."""
    if align_corners:
        return (coordinates + 1) * ((size - 1) / 2)
    return ((coordinates + 1) * size - 1) / 2


def to_normalised(pixels: Any, size: int, *, align_corners: bool = False) -> Any:
    """Index coordinates -> [-1, 1] along one axis; the inverse of `to_pixels`."""
    if align_corners:
        return pixels * (2 / (size - 1)) - 1
    return (2 * pixels + 1) / size - 1
