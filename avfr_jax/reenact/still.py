"""A portrait at rest as driving source: runs that have nothing but a view."""

import contextlib
import pathlib
from collections.abc import Iterator

import numpy as np

from avfr_jax.errors import ConfigError
from avfr_jax.motion import Orbit, View
from avfr_jax.tracking import FrameRate, TrackedFrame
from avfr_jax.tracking.clip import fixed_rate
from avfr_jax.typing import Float


class Still:
    """A portrait that holds still.

    Args:
      view: the frames are those of one turn of an `Orbit`, else there is one.
      fps: frames a second; `source` stands for 25.

    Attributes:
      name: for messages.
      fps: frames a second.
      frames: their number.
    """

    def __init__(self, view: View, fps: FrameRate) -> None:
        self.name, self.fps = "the portrait at rest", fixed_rate(fps)
        self.frames = view.frames if isinstance(view, Orbit) else 1

    def audio_file(self) -> contextlib.AbstractContextManager[pathlib.Path | None]:
        """See `DrivingSource.audio_file`: it has none."""
        return contextlib.nullcontext(None)


class StillPortrait:
    """The source's own motion in every frame: a `DrivingSource`.

    Args:
      still: the run.
      face: the portrait's crop with its landmarks.
      motion: `[1, D]`, the portrait's, in the order of `MotionSpec.flatten`.
    """

    repeatable = True

    def __init__(self, still: Still, face: TrackedFrame, motion: Float[np.ndarray, "1 d"]) -> None:
        self.name, self.fps, self.frames = still.name, still.fps, still.frames
        self._landmarks, self._motion = face.landmarks, np.asarray(motion)[0]

    def audio_file(self) -> contextlib.AbstractContextManager[pathlib.Path | None]:
        """See `DrivingSource.audio_file`."""
        return contextlib.nullcontext(None)

    def __iter__(self) -> Iterator[TrackedFrame]:
        return (self.frame(index) for index in range(self.frames))

    def sample(self, count: int) -> list[TrackedFrame]:
        """See `DrivingSource.sample`; one frame stands for all."""
        return [self.frame(0)][:count]

    def frame(self, index: int) -> TrackedFrame:
        """See `DrivingSource.frame`."""
        if not 0 <= index < self.frames:
            raise ConfigError(f"{self.name} has no frame {index}.")
        return TrackedFrame(index, landmarks=self._landmarks, motion=self._motion)
