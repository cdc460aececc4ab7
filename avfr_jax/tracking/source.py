"""The protocol of everything that drives a portrait: tracked frames, or recorded motion, at a constant rate."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Protocol, runtime_checkable

import numpy as np

from avfr_jax.typing import Float, UInt8


@dataclasses.dataclass(frozen=True, eq=False)
class TrackedFrame:
    """A driving frame after tracking and cropping, or the motion recorded of one.

    Attributes:
      index: its number in the clip.
      image: uint8 `[S, S, 3]`, cropped to the model's size; None for recorded motion.
      landmarks: float32 `[478, 3]`, in [-1, 1] of the crop; None where there is no face or none is searched for.
      person_mask: float32 `[S, S]` in [0, 1]; None for models that do not take it.
      motion: float32 `[D]`, recorded motion in the order of `MotionSpec.flatten`; None for an image.
    """

    index: int
    image: UInt8[np.ndarray, "s s 3"] | None = None
    landmarks: Float[np.ndarray, "478 3"] | None = None
    person_mask: Float[np.ndarray, "s s"] | None = None
    motion: Float[np.ndarray, " d"] | None = None


@runtime_checkable
class DrivingSource(Protocol):
    """Tracked frames in order.

    Attributes:
      name: for messages.
      fps: frames a second of the iteration.
      frames: their expected number; None where it is unknown.
      repeatable: whether it can be iterated more than once.
    """

    name: str
    fps: Fraction
    frames: int | None
    repeatable: bool

    def __iter__(self) -> Iterator[TrackedFrame]: ...

    def sample(self, count: int) -> list[TrackedFrame]:
        """At most `count` frames spread over the clip, in ascending order; only the first if it is not repeatable."""
        ...

    def frame(self, index: int) -> TrackedFrame:
        """A single frame. Raises ConfigError where there is no such frame or the clip is not repeatable."""
        ...

    def audio_file(self) -> contextlib.AbstractContextManager[pathlib.Path | None]:
        """Its own audio as a file that exists as long as the context; None without audio."""
        ...
