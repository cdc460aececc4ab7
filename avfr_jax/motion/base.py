"""Protocol of a face's motion: a pytree of N frames, and the specification that its users read.

A model family has a motion type of its own (`motion.keypoints`, `motion.face_mesh`, `motion.mesh_keypoints`,
`motion.head`). The codec, the reenactor and the objectives slice it; its numbers, units, interpolation and retargeting
come from the `MotionSpec` beside it.
"""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Protocol, Self, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.motion.view import PoseChange, Turned
from avfr_jax.typing import Array, Float

M = TypeVar("M")
MotionMode = Literal["absolute", "relative"]
Keep = Literal["pose", "expression"]


@runtime_checkable
class Motion(Protocol):
    """The motion of N frames: a pytree whose leaves all have N as their first axis."""

    @property
    def positions(self) -> Any:
        """`[N, K, 2]` or `[N, K, 3]`: points (x, y[, z]) in [-1, 1] that show where the face is."""
        ...

    def __len__(self) -> int:
        """N."""
        ...

    def __getitem__(self, index: Any) -> Self:
        """A selection of frames; an integer keeps the frame axis, so that the result is of one frame."""
        ...


class Frames:
    """Length and slicing over the first axis of every leaf, for motion types."""

    def __len__(self) -> int:
        """Number of frames."""
        return int(jax.tree.leaves(self)[0].shape[0])

    def __getitem__(self, index: Any) -> Self:
        """See `Motion.__getitem__`."""
        if isinstance(index, int | np.integer):
            index = slice(int(index), int(index) + 1 or None)
        return jax.tree.map(lambda x: x[index], self)


def concatenate(parts: Sequence[M]) -> M:
    """The motion of several runs of frames as one, in order."""
    return jax.tree.map(lambda *x: jnp.concatenate(x), *parts)


@dataclasses.dataclass(frozen=True)
class Component:
    """A named group of the numbers of a frame's motion.

    Attributes:
      name: e.g. `mesh`, `keypoints`, `jacobians`.
      shape: of one frame's numbers.
      unit: of a scaled number, for reports.
      scale: by which a number is multiplied before it is quantised, so that steps of equal size do equal harm: numbers
        in [-1, 1] become pixels of a 256 × 256 frame.
      model_specific: the numbers are meaningful only to the model whose network computed them.
      interpolation: how it changes from one time to another: each number linearly, or as Euler angles in degrees along
        the shortest arc.
      counted_by: name of the component of one number that states how many rows of this one are in use, the first ones;
        the others are zero. "" where all are.
      min_rows: of a component with `counted_by`, the fewest rows that can be in use.
    """

    name: str
    shape: tuple[int, ...]
    unit: str
    scale: float
    model_specific: bool = True
    interpolation: Literal["linear", "angles"] = "linear"
    counted_by: str = ""
    min_rows: int = 0

    @property
    def size(self) -> int:
        """Numbers a frame."""
        return int(np.prod(self.shape))


class MotionSpec(abc.ABC):
    """How a motion type is laid out, interpolated and given to another face. Immutable and hashable.

    Attributes:
      needs_source: a part of the motion comes from the source alone, and `unflatten` has to be given its motion.
      keeps: parts of the source's own motion that `keep` can put back.
    """

    needs_source: ClassVar[bool] = False
    keeps: ClassVar[tuple[Keep, ...]] = ()

    @property
    @abc.abstractmethod
    def components(self) -> tuple[Component, ...]:
        """Groups of numbers in the order in which `flatten` lays them out."""

    @abc.abstractmethod
    def flatten(self, motion: Any) -> Float[Array, "n d"]:
        """The numbers of N frames, float32, components one after another, each in row-major order."""

    @abc.abstractmethod
    def unflatten(self, numbers: Any, source: Any = None) -> Any:
        """The motion of numbers: the inverse of `flatten`.

        Args:
          numbers: `[N, D]`.
          source: motion of the source frame, for types of which a part comes from the source alone; others ignore it.

        Raises:
          ValueError: another number of numbers, or a source that is needed and missing.
        """

    @abc.abstractmethod
    def retarget(
        self,
        source: Any,
        driving: Any,
        initial: Any,
        *,
        mode: MotionMode = "relative",
        adapt_scale: bool = True,
        lids: Float[Array, "2"] | None = None,
    ) -> Any:
        """The motion of N driving frames as motion of the source's face.

        Args:
          source: of the source, one frame.
          driving: of N driving frames.
          initial: of the driving frame that shows the source's pose, one frame.
          mode: `absolute` takes the driving motion as it is; `relative` moves the source as the driving face has moved
            since `initial`.
          adapt_scale: scale relative motion by the ratio of the two faces' sizes.
          lids: how far the driver's eyes are open at rest, from `motion.openings.lid_levels`, for motion that knows
            eyelids; None takes it from `initial`.
        """

    def keep(self, part: Keep, source: Any, moved: Any, *, speaking: bool = False) -> Any:
        """Retargeted motion with the source's own pose or expression in place of the driving face's.

        Args:
          part: one of `keeps`.
          source: of the source, one frame.
          moved: of N frames, from `retarget`.
          speaking: the mouth follows audio and stays as it is with a kept expression, where it is a part by itself.

        Raises:
          ValueError: this type of motion has no such part.
        """
        raise ValueError(f"{type(self).__name__} does not divide a face into pose and expression")

    @property
    def max_turn(self) -> float:
        """Degrees about each axis by which `turn` can turn a head away from the source picture's pose; 0 for motion
        that knows no head pose."""
        return 0.0

    def head_rotation(self, motion: Any) -> Float[Array, "n 3 3"]:
        """Rotations of the heads of N frames from the front, in axes x to the image's right, y down, z away from the
        camera; `motion.view.angles_of` gives their angles.

        Raises:
          ValueError: this type of motion knows no head pose.
        """
        raise ValueError(f"{type(self).__name__} knows no head pose")

    def turn(
        self,
        source: Any,
        moved: Any,
        change: PoseChange,
        *,
        absolute: bool = False,
        rest: Any = None,
        limit: Any = None,
    ) -> Turned:
        """Retargeted motion with its heads turned, moved and scaled (`motion.view`).

        Args:
          source: of the picture that is animated, one frame: its pose is what the limit is measured from.
          moved: of N frames, from `retarget` or `keep`.
          change: from `View.change`, for all frames or each.
          absolute: see `View.mode`.
          rest: one frame that has the place and size from which absolute translation is measured; None takes `source`.
          limit: degrees; None takes `max_turn`.

        Raises:
          ValueError: this type of motion knows no head pose.
        """
        if not self.max_turn:
            raise ValueError(f"{type(self).__name__} knows no head pose")
        rest, limit = source if rest is None else rest, self.max_turn if limit is None else limit
        return self._turned(source, moved, rest, change, limit, absolute)

    def _turned(self, source: Any, moved: Any, rest: Any, change: PoseChange, limit: Any, absolute: bool) -> Turned:
        """`turn` with its defaults filled in: what motion types with a `max_turn` implement."""
        raise NotImplementedError

    @property
    def size(self) -> int:
        """D, numbers a frame."""
        return sum(component.size for component in self.components)

    def interpolate(self, first: Any, second: Any, weight: Float[Array, " n"] | float) -> Any:
        """The motion between two, frame by frame.

        Args:
          first: of N frames, or of one that is broadcast.
          second: the same.
          weight: 0 (first) to 1 (second), for each frame or for all.
        """
        a, b = self.flatten(first), self.flatten(second)
        share = jnp.reshape(jnp.asarray(weight, jnp.float32), (-1, 1))
        change = b - a
        wrapped = (change + 180) % 360 - 180
        angles = np.concatenate([np.full(c.size, c.interpolation == "angles") for c in self.components])
        return self.unflatten(a + share * jnp.where(angles, wrapped, change), first)

    def split(self, numbers: Any) -> dict[str, Any]:
        """The numbers `[N, D]` of each component, `{name: [N, *shape]}`.

        Raises:
          ValueError: another number of numbers than `size`.
        """
        if numbers.ndim != 2 or numbers.shape[1] != self.size:
            raise ValueError(f"the motion of a frame is {self.size} numbers, not {list(numbers.shape[1:])}")
        ends = np.cumsum([component.size for component in self.components])[:-1]
        library = np if isinstance(numbers, np.ndarray) else jnp
        parts = library.split(numbers, ends, axis=1)
        return {c.name: part.reshape(-1, *c.shape) for c, part in zip(self.components, parts, strict=True)}
