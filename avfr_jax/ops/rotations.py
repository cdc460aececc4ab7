"""Head rotations: Euler angles in degrees to matrices and back.

R = R_x(pitch) · R_y(yaw) · R_z(roll), the order of face-vid2vid's published programs. That program turns degrees to
radians with 3.14; `exact=False` reproduces it, which its trained weights need.
"""

import jax
import jax.numpy as jnp

from avfr_jax.ops.precision import widen
from avfr_jax.typing import Array, Float

ANGLE_BINS = 66
"""Of three degrees from -99 degrees up: those of Hopenet and of face-vid2vid's head-pose estimator."""


def _radians(angle: Array, exact: bool) -> Array:
    return angle * (jnp.pi / 180) if exact else angle / 180 * 3.14


def _axis_rotation(angle: Array, axis: int) -> Array:
    c, s, one, zero = jnp.cos(angle), jnp.sin(angle), jnp.ones_like(angle), jnp.zeros_like(angle)
    rows = {
        0: [[one, zero, zero], [zero, c, -s], [zero, s, c]],
        1: [[c, zero, s], [zero, one, zero], [-s, zero, c]],
        2: [[c, -s, zero], [s, c, zero], [zero, zero, one]],
    }[axis]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def euler_to_matrix(
    yaw: Float[Array, "*batch"], pitch: Float[Array, "*batch"], roll: Float[Array, "*batch"], *, exact: bool = True
) -> Float[Array, "*batch 3 3"]:
    """Rotation matrices from angles in degrees.

    Args:
      yaw: about y.
      pitch: about x.
      roll: about z.
      exact: False takes 3.14 for pi, as face-vid2vid's program does.
    """
    x, y, z = (_axis_rotation(_radians(jnp.asarray(a), exact), i) for i, a in enumerate((pitch, yaw, roll)))
    return x @ y @ z


def matrix_to_euler(
    matrix: Float[Array, "*batch 3 3"],
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"], Float[Array, "*batch"]]:
    """(yaw, pitch, roll) in degrees of R = R_x(pitch) R_y(yaw) R_z(roll); yaw in [-90, 90]."""
    degrees = 180 / jnp.pi
    yaw = jnp.arcsin(jnp.clip(matrix[..., 0, 2], -1, 1))
    pitch = jnp.arctan2(-matrix[..., 1, 2], matrix[..., 2, 2])
    roll = jnp.arctan2(-matrix[..., 0, 1], matrix[..., 0, 0])
    return yaw * degrees, pitch * degrees, roll * degrees


def binned_angles(logits: Float[Array, "*batch bins"]) -> Float[Array, "*batch"]:
    """Angles in degrees from logits over bins of three degrees around 0, e.g. `ANGLE_BINS`: the expectation over the
    bins (Ruiz et al. 2018), Σ softmax(logits)_i · 3 i - 3 · bins / 2."""
    bins = logits.shape[-1]
    share = jax.nn.softmax(widen(logits), axis=-1)
    return share @ jnp.arange(bins, dtype=share.dtype) * 3 - 1.5 * bins
