"""Poses asked for a head: what the viewer sees of it, whatever moves the face.

The user's edit of face-vid2vid (Wang et al. 2021, section 3: R ← R_u R, t ← t + t_u) for every motion that knows a head
pose. Angles have the signs of `faces.HeadPose`, as the viewer sees them: yaw > 0 turns the head to the image's right,
pitch > 0 up, roll > 0 clockwise; the order is that of `ops.rotations`.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax.numpy as jnp
import numpy as np

from avfr_jax.errors import ConfigError
from avfr_jax.ops.rotations import euler_to_matrix, matrix_to_euler
from avfr_jax.typing import Array, Bool, Float

ViewMode = Literal["relative", "absolute"]
FrameNumbers = Sequence[int] | np.ndarray
LARGEST_TURN = 60.0
"""Degrees about each axis; poses further from the front are clamped to it."""
_LARGEST_SHIFT, _LARGEST_SCALE = 2.0, 4.0
_TOLERANCE = 2.0  # degrees of a clamp that is not reported: a driver who hardly moves passes a limit that is asked for


class PoseChange(NamedTuple):
    """A view of N frames as numbers. A pytree.

    Attributes:
      rotation: `[1 or N, 3, 3]`, in axes x to the image's right, y down, z away from the camera; None leaves it.
      translation: `[3]`, x and y in [-1, 1] units and a factor of the head's size; None leaves place and size.
    """

    rotation: Any = None
    translation: Any = None


class Turned(NamedTuple):
    """Motion of N frames after `MotionSpec.turn`, and which of them, bool `[N]`, were turned less than asked, by more
    than two degrees."""

    motion: Any
    limited: Any


@dataclasses.dataclass(frozen=True)
class View:
    """A head pose asked for.

    Attributes:
      rotate: yaw, pitch and roll in degrees; None leaves the rotation to the driver.
      translate: x and y in half frames, to the image's right and down, and the factor by which the head is larger;
        None leaves place and size to the driver.
      mode: `relative` adds both to the driver's pose: the rotation is applied after the driver's, about the head's
        centre. `absolute` gives the head exactly this rotation from the front, and the portrait's own place and size
        with this change, whatever the driver's.

    Raises:
      ConfigError: three finite numbers are wanted, a shift up to 2 half frames, a factor from 1/4 to 4.
    """

    rotate: tuple[float, float, float] | None = None
    translate: tuple[float, float, float] | None = None
    mode: ViewMode = "relative"

    def __post_init__(self) -> None:
        if self.mode not in get_args(ViewMode):
            raise ConfigError(f"The mode of a view must be relative or absolute, not {self.mode!r:.60}.")
        object.__setattr__(self, "rotate", _triple(self.rotate, "rotate", "yaw, pitch and roll in degrees"))
        object.__setattr__(self, "translate", _triple(self.translate, "translate", "x, y and a factor of the size"))
        if self.translate is None:
            return
        *shift, scale = self.translate
        if max(map(abs, shift)) > _LARGEST_SHIFT:
            raise ConfigError(f"translate moves a head by up to {_LARGEST_SHIFT:g} half frames, not by {shift}.")
        if not 1 / _LARGEST_SCALE <= scale <= _LARGEST_SCALE:
            raise ConfigError(
                f"translate scales a head by 1/{_LARGEST_SCALE:g} to {_LARGEST_SCALE:g}, not by {scale:g}."
            )

    def within(self, limit: float) -> "View":
        """The same view with no angle beyond ±limit degrees."""
        if self.rotate is None:
            return self
        yaw, pitch, roll = (min(max(angle, -limit), limit) for angle in self.rotate)
        return dataclasses.replace(self, rotate=(yaw, pitch, roll))

    def angles(self, frames: FrameNumbers) -> Float[np.ndarray, "m 3"] | None:
        """Yaw, pitch and roll of frames of these numbers, or of one that stands for all; None without a rotation."""
        return None if self.rotate is None else np.array([self.rotate], np.float32)

    def change(self, frames: FrameNumbers) -> PoseChange:
        """The pose change of frames of these numbers."""
        angles = self.angles(frames)
        moved = None if self.translate is None else np.array(self.translate, np.float32)
        return PoseChange(None if angles is None else rotation_of(angles), moved)


@dataclasses.dataclass(frozen=True)
class Orbit(View):
    """A head turned from side to side: yaw `degrees · sin(2π i / frames)` in frame i, added to the rest of the view.

    Attributes:
      degrees: largest yaw.
      frames: of one turn to both sides and back.

    Raises:
      ConfigError: see `View`; fewer than two frames, or degrees that are not finite.
    """

    degrees: float = 30.0
    frames: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        if not math.isfinite(self.degrees):
            raise ConfigError(f"The largest angle of an orbit must be a number of degrees, not {self.degrees!r:.60}.")
        if self.frames < 2:
            raise ConfigError(f"An orbit takes two frames or more, not {self.frames}.")

    def within(self, limit: float) -> "Orbit":
        """See `View.within`."""
        rotate = super().within(limit).rotate
        return dataclasses.replace(self, rotate=rotate, degrees=min(max(self.degrees, -limit), limit))

    def angles(self, frames: FrameNumbers) -> Float[np.ndarray, "m 3"] | None:
        """See `View.angles`."""
        yaw = self.degrees * np.sin(2 * np.pi * np.asarray(frames) / self.frames)
        still = np.array(self.rotate or (0.0, 0.0, 0.0))
        return np.asarray(still + yaw[:, None] * np.array([1, 0, 0]), np.float32)


def _triple(values: Any, name: str, meaning: str) -> tuple[float, float, float] | None:
    if values is None:
        return None
    try:
        first, second, third = (float(value) for value in values)
        if all(map(math.isfinite, (first, second, third))):
            return first, second, third
    except (TypeError, ValueError):
        pass
    raise ConfigError(f"{name} must be three numbers, {meaning}, not {values!r:.60}.")


def rotation_of(angles: Float[np.ndarray | Array, "n 3"]) -> Float[Array, "n 3 3"]:
    """Rotations in axes x to the image's right, y down, z away from the camera, of yaw, pitch and roll in degrees with
    the signs of `faces.HeadPose`."""
    yaw, pitch, roll = jnp.asarray(angles, jnp.float32).T
    return euler_to_matrix(-yaw, -pitch, roll)


def angles_of(rotation: Float[np.ndarray | Array, "n 3 3"]) -> Float[Array, "n 3"]:
    """The inverse of `rotation_of`. Of the two triples of angles that give a rotation the one with less pitch and roll:
    a yaw beyond 90° is no head upside down."""
    yaw, pitch, roll = matrix_to_euler(jnp.asarray(rotation))
    other = jnp.abs(pitch) + jnp.abs(roll) > 180
    yaw = jnp.where(other, jnp.where(yaw < 0, -180 - yaw, 180 - yaw), yaw)
    pitch, roll = (jnp.where(other, _wrapped(angle + 180), angle) for angle in (pitch, roll))
    return jnp.stack([-yaw, -pitch, roll], -1)


def _wrapped(angle: Array) -> Array:
    return (angle + 180) % 360 - 180


def turned_rotation(
    rotation: Float[Array, "n 3 3"],
    source: Float[Array, "1 3 3"],
    asked: Float[Array, "m 3 3"] | None,
    limit: float | Array,
    absolute: bool,
) -> tuple[Float[Array, "n 3 3"], Bool[Array, " n"]]:
    """Head rotations with a view's, no further from the picture's than a model can show.

    The angles from the picture's pose are clamped to ±limit, or to the driver's own where those are larger, so that a
    rotation by 0 changes nothing and the result is continuous in both.

    Args:
      rotation: of the heads before, as the driver has them.
      source: of the head in the picture.
      asked: of the view, for all frames or each; None leaves the heads as they are.
      limit: degrees.
      absolute: see `View.mode`.

    Returns:
      Rotations, and which of them were clamped by more than two degrees.
    """
    if asked is None:
        return rotation, jnp.zeros(len(rotation), bool)
    target = jnp.broadcast_to(asked, rotation.shape) if absolute else asked @ rotation
    back = jnp.swapaxes(source, -1, -2)
    wanted = angles_of(target @ back)
    own = jnp.zeros_like(wanted) if absolute else angles_of(rotation @ back)
    kept = jnp.clip(wanted, jnp.minimum(own, -limit), jnp.maximum(own, limit))
    excess = jnp.abs(kept - wanted).max(-1)
    return jnp.where(excess[:, None, None] > 0, rotation_of(kept) @ source, target), excess > _TOLERANCE
