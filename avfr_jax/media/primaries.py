"""Colour primaries and transfer functions, by name and by the code points of ITU-T H.273."""

from typing import Literal

import numpy as np

from avfr_jax.typing import Float

# CIE xy of red, green, blue and white.
_D65 = (0.3127, 0.3290)
PRIMARIES = {
    "bt709": ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _D65),
    "bt2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),
    "dci": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),
    "p3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),
}
HDR_TRANSFERS: dict[int, Literal["pq", "hlg"]] = {16: "pq", 18: "hlg"}
"""Those of high dynamic range by code point (table 3): SMPTE ST 2084 and ARIB STD-B67."""


def white_of(primaries: str) -> Float[np.ndarray, "3"]:
    """CIE XYZ of the white of one of `PRIMARIES`, with Y = 1."""
    return _xyz(PRIMARIES[primaries][-1])


def rgb_to_xyz(primaries: str) -> Float[np.ndarray, "3 3"]:
    """From linear RGB to CIE XYZ: columns are the primaries, scaled so that their sum is white."""
    xyz = np.stack([_xyz(corner) for corner in PRIMARIES[primaries][:-1]], 1)
    return np.asarray(xyz * np.linalg.solve(xyz, white_of(primaries)))


def _xyz(corner: tuple[float, float]) -> Float[np.ndarray, "3"]:
    x, y = corner
    return np.array([x / y, 1.0, (1 - x - y) / y])
