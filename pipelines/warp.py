"""Geometric augmentation of pairs on the device, landmarks included: rotation, scale, shift, smooth warps of stills.

A rotation, scale and shift are sampled per pair and applied to both frames alike, which keeps the motion between them.
Where both frames of a pair are the same picture (a portrait without a second frame), the driving one is deformed by a
smooth random field and moved a little: motion for people of whom only a photograph exists.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from avfr_jax.errors import ConfigError
from avfr_jax.ops.grids import pixel_grid
from avfr_jax.ops.sampling import grid_sample_2d
from avfr_jax.typing import Array, Bool, Float

_KNOTS = 5  # of the smooth field, along each side
_STILL_SHARE = 0.8  # share of the pair's rotation, scale and shift that a still's driving frame gets in addition
_INVERSIONS = 6  # fixed-point steps of the smooth field's inverse; its slope is well below one


@dataclasses.dataclass(frozen=True)
class WarpConfig:
    """Standard deviations of the sampled motion.

    Attributes:
      rotation: degrees.
      scale: of the logarithm of the scale.
      shift: along each axis, as a share of the frame's side.
      stills: of the smooth field that deforms a still, as a share of the frame's side.
    """

    rotation: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    stills: float = 0.0

    def __post_init__(self) -> None:
        limits = {"rotation": 45.0, "scale": 0.5, "shift": 0.25, "stills": 0.05}
        for name, limit in limits.items():
            if not 0 <= getattr(self, name) <= limit:
                raise ConfigError(f"augment.warp.{name} must be between 0 and {limit:g}, not {getattr(self, name)}.")

    @property
    def moves(self) -> bool:
        """Whether anything moves."""
        return any(dataclasses.astuple(self))


def warp(key: Array, batch: dict[str, Any], config: WarpConfig) -> dict[str, Any]:
    """Move the pairs of a batch; pure and jit-able, `config` being static.

    Args:
      key: a JAX random key.
      batch: `source` and `driving` float32 [B, H, W, C] in [0, 1] and optionally `source_landmarks` and
        `driving_landmarks` [B, 478, 3], x and y in [-1, 1] from edge to edge. Frames are continued by reflection.
      config: strength.

    Returns:
      The same entries.
    """
    alike_key, own_key, field_key = jax.random.split(key, 3)
    count, height, width, _ = batch["source"].shape
    still = jnp.all(batch["source"] == batch["driving"], axis=(1, 2, 3))
    alike = _sample_affine(alike_key, count, config, 1.0)
    own = _only_where(still, _sample_affine(own_key, count, config, _STILL_SHARE))
    knots = 2 * config.stills * jax.random.normal(field_key, (count, _KNOTS, _KNOTS, 2))
    knots = jnp.where(still[:, None, None, None], knots, 0.0)
    field = jax.image.resize(knots, (count, height, width, 2), "cubic")

    to_source = _looked_up(jnp.broadcast_to(pixel_grid(height, width), (count, height, width, 2)), alike)
    to_driving = _looked_up(to_source, own)
    to_driving = to_driving + _sampled(field, to_driving)
    out = batch | {"source": _sampled(batch["source"], to_source), "driving": _sampled(batch["driving"], to_driving)}
    if "source_landmarks" in batch:
        out["source_landmarks"] = _moved(batch["source_landmarks"], alike)
        bent = _bent(batch["driving_landmarks"], field)
        out["driving_landmarks"] = _moved(_moved(bent, own), alike)
    return out


def _sample_affine(key: Array, count: int, config: WarpConfig, share: float) -> tuple[Float[Array, "b 2 2"], Any]:
    """Matrix and shift from old to new positions."""
    keys = jax.random.split(key, 3)
    turn, size = jax.random.normal(keys[0], (count,)), jax.random.normal(keys[1], (count,))
    shift = jax.random.normal(keys[2], (count, 2))
    angle = jnp.deg2rad(share * config.rotation) * turn
    scale = jnp.exp(share * config.scale * size)[:, None, None]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    matrix = scale * jnp.stack([jnp.stack([cos, -sin], -1), jnp.stack([sin, cos], -1)], 1)
    return matrix, 2 * share * config.shift * shift


def _only_where(chosen: Bool[Array, "b"], affine: tuple[Array, Array]) -> tuple[Array, Array]:
    """The identity elsewhere."""
    matrix, shift = affine
    return jnp.where(chosen[:, None, None], matrix, jnp.eye(2)), jnp.where(chosen[:, None], shift, 0.0)


def _looked_up(grid: Float[Array, "b h w 2"], affine: tuple[Array, Array]) -> Float[Array, "b h w 2"]:
    """Inverse map: positions in the old picture of a moved picture's pixels."""
    matrix, shift = affine
    inverse = matrix.transpose(0, 2, 1) / _squared_size(matrix)  # of a rotation and a scale
    return jnp.einsum("bij,bhwj->bhwi", inverse, grid - shift[:, None, None])


def _squared_size(matrix: Float[Array, "b 2 2"]) -> Float[Array, "b 1 1"]:
    return matrix[:, :1, :1] ** 2 + matrix[:, 1:, :1] ** 2


def _moved(landmarks: Float[Array, "b k 3"], affine: tuple[Array, Array]) -> Float[Array, "b k 3"]:
    """Transform landmarks; depth is scaled alike."""
    matrix, shift = affine
    places = jnp.einsum("bij,bkj->bki", matrix, landmarks[..., :2]) + shift[:, None]
    depth = landmarks[..., 2:] * jnp.sqrt(_squared_size(matrix))
    return jnp.concatenate([places, depth], -1)


def _bent(landmarks: Float[Array, "b k 3"], field: Float[Array, "b h w 2"]) -> Float[Array, "b k 3"]:
    """Landmarks in a picture whose pixel p is the old picture's p + field(p)."""
    old = landmarks[..., :2]
    new = old
    for _ in range(_INVERSIONS):
        new = old - _sampled(field, new)
    return jnp.concatenate([new, landmarks[..., 2:]], -1)


def _sampled(image: Float[Array, "b h w c"], grid: Float[Array, "b *out 2"]) -> Float[Array, "b *out c"]:
    return grid_sample_2d(image, grid, padding="reflection")
