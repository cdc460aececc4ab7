"""Building blocks of the head's mesh: materials, atlas tiles, grids, tubes, the skull, and a mesh builder."""

import numpy as np

from avfr_jax.typing import Int
from data.synthetic_heads.expression import smoothstep
from data.synthetic_heads.identity import Real

# Materials, in the order of `texture.material_table`.
SKIN, HAIR, CLOTH, EYE, TEETH, MOUTH, FRAME, LIPS = range(8)

# Tiles of the 1024x1024 atlas: x, y, width, height.
FACE_TILE = (0, 0, 512, 512)
HAIR_TILE = (512, 0, 512, 512)
CLOTH_TILE = (0, 512, 512, 512)
EYE_TILE = (512, 512, 256, 256)
TEETH_TILE = (768, 512, 128, 128)
FRAME_TILE = (896, 512, 128, 128)
MOUTH_TILE = (768, 640, 128, 128)
NECK_TILE = (768, 768, 256, 256)

SKULL = np.array([0.0, 3.0, -6.0])


def tile_uv(uv: np.ndarray, tile: tuple[int, int, int, int]) -> np.ndarray:
    """[0,1] coordinates to atlas texels, a margin inside the tile."""
    x, y, width, height = tile
    return np.array([x + 2, y + 2]) + np.clip(uv, 0.0, 1.0) * np.array([width - 5, height - 5])


class MeshBuilder:
    """Accumulate parts into one mesh."""

    def __init__(self) -> None:
        self.parts: dict[str, slice] = {}
        self._columns: dict[str, list[np.ndarray]] = {
            k: [] for k in ("points", "uv", "tint", "weight", "triangles", "material", "threshold")
        }
        self._count = 0

    def add(self, name, points, triangles, uv, material, tint=None, threshold=0.0, weight=1.0) -> slice:
        count, faces = len(points), len(triangles)
        where = slice(self._count, self._count + count)
        if tint is None:
            tint = np.ones((count, 3))
        elif np.ndim(tint) == 1:
            tint = np.repeat(np.asarray(tint)[:, None], 3, 1)
        for key, value in (
            ("points", points),
            ("uv", uv),
            ("tint", tint),
            ("weight", np.broadcast_to(weight, count)),
            ("triangles", np.asarray(triangles) + self._count),
            ("material", np.broadcast_to(material, faces)),
            ("threshold", np.broadcast_to(threshold, faces)),
        ):
            self._columns[key].append(np.asarray(value))
        self._count += count
        self.parts[name] = where
        return where

    def column(self, key: str, dtype: type) -> np.ndarray:
        return np.ascontiguousarray(np.concatenate(self._columns[key]), dtype=dtype)


def grid_triangles(rows: int, columns: int, closed: bool = False) -> Int[np.ndarray, "t 3"]:
    """Two triangles a cell of a rows x columns grid of vertices; `closed` joins the last column to the first."""
    r, c = np.meshgrid(np.arange(rows - 1), np.arange(columns if closed else columns - 1), indexing="ij")
    a, b = r * columns + c, r * columns + (c + 1) % columns
    quads = np.stack([a, b, a + columns, b, b + columns, a + columns], -1)
    return quads.reshape(-1, 3).astype(np.int32)


def tube(path: np.ndarray, radius: Real, closed: bool, sides: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """A pipe along `path` [n,3]."""
    step = np.roll(path, -1, 0) - np.roll(path, 1, 0) if closed else np.gradient(path, axis=0)
    step /= np.linalg.norm(step, axis=1, keepdims=True) + 1e-9
    side = np.cross(step, [0.0, 0.3, 1.0])
    side /= np.linalg.norm(side, axis=1, keepdims=True) + 1e-9
    third = np.cross(step, side)
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    ring = np.cos(angle)[None, :, None] * side[:, None] + np.sin(angle)[None, :, None] * third[:, None]
    points = path[:, None] + radius * ring
    if closed:
        points = np.concatenate([points, points[:1]])
    return points.reshape(-1, 3), grid_triangles(len(points), sides, closed=True)


def _skull_radius(direction: np.ndarray, width: float) -> np.ndarray:
    """Distance from the skull's centre to its surface along unit vectors."""
    up = np.where(direction[..., 1] > 0, 8.6, 7.2)
    back = np.where(direction[..., 2] > 0, 8.0, 8.9)
    return 1.0 / np.sqrt(
        (direction[..., 0] / (7.35 * width)) ** 2 + (direction[..., 1] / up) ** 2 + (direction[..., 2] / back) ** 2
    )


def loft(boundary: np.ndarray, steps: np.ndarray, width: float) -> np.ndarray:
    """Rings [k,b,3] from the face's outline over the skull to the back of the head."""
    from scipy.ndimage import gaussian_filter1d

    d = boundary - SKULL
    radius = np.linalg.norm(d, axis=1)
    theta = np.arccos(d[:, 2] / radius)
    phi = np.arctan2(d[:, 1], d[:, 0])
    own = radius - _skull_radius(d / radius[:, None], width)
    rings = []
    for t in steps:
        angle = theta + (np.pi - theta) * t
        direction = np.stack([np.sin(angle) * np.cos(phi), np.sin(angle) * np.sin(phi), np.cos(angle)], -1)
        keep = (1.0 - smoothstep(np.full(len(own), t), 0.0, 0.55)) * own
        if t > 0.15:
            keep = gaussian_filter1d(keep, 1.5, mode="wrap")
        rings.append(SKULL + direction * (_skull_radius(direction, width) + keep)[:, None])
    return np.stack(rings)
