"""Adaptive pivots: when the picture that the receiver animates no longer serves (thesis, chapter 3).

The paper takes a new pivot when the head has turned by more than 15 degrees about any axis since the last one, or when
the background's embedding has moved by more than 0.05. Here the pivots sent so far are kept by the receiver, and going
back to one of them costs nothing; a new one is taken where none of them serves, and not too soon after the last.
"""

import dataclasses
from typing import Any

import numpy as np

from avfr_jax.typing import Float

KEPT = 8
"""Pivots that a receiver keeps, at least and at most."""


@dataclasses.dataclass(frozen=True)
class PivotSettings:
    """When to take a new pivot.

    Attributes:
      angle: degrees of yaw, pitch or roll; None never looks.
      background: distance of two embeddings; None never looks.
      apart: seconds between two pivots, at least: a pivot is as large as minutes of motion.
    """

    angle: float | None = 15.0
    background: float | None = 0.05
    apart: float = 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """What a frame is judged by.

    Attributes:
      angles: (yaw, pitch, roll) in degrees, or None where no face is seen.
      background: embedding, or None where it is not looked at.
    """

    angles: Float[np.ndarray, "3"] | None
    background: Float[np.ndarray, "c"] | None = None


@dataclasses.dataclass
class PivotPolicy:
    """Chooses the pivot of each frame.

    Attributes:
      settings: when to take a new one.
      rate: frames a second.
      kept: view of every pivot the receiver still has, by number.
      current: number of the one in use; None before the first.
    """

    settings: PivotSettings
    rate: float
    kept: dict[int, View] = dataclasses.field(default_factory=dict)
    current: int | None = None
    _taken: int = 0
    _next: int = 0

    def distance(self, view: View, pivot: View) -> float:
        """How far a frame is from a pivot; above one the pivot does not serve."""
        far = 0.0
        if self.settings.angle is not None and view.angles is not None and pivot.angles is not None:
            far = float(np.abs(_turn(view.angles - pivot.angles)).max()) / self.settings.angle
        if self.settings.background is not None and view.background is not None and pivot.background is not None:
            far = max(far, float(np.linalg.norm(view.background - pivot.background)) / self.settings.background)
        return far

    def choose(self, frame: int, view: View) -> tuple[int, bool]:
        """The pivot for a frame, and whether it has to be taken from this frame and sent."""
        if self.current is None:
            return self._take(frame, view), True
        apart = {number: self.distance(view, pivot) for number, pivot in self.kept.items()}
        nearest = min(apart, key=lambda number: apart[number])
        if apart[self.current] <= 1:
            return self.current, False
        if apart[nearest] <= 1:
            self.current = nearest
            return nearest, False
        if view.angles is None or frame - self._taken < self.settings.apart * self.rate:
            return self.current, False
        return self._take(frame, view), True

    def _take(self, frame: int, view: View) -> int:
        number = self._next % 256
        self._next += 1
        self.kept[number] = view
        while len(self.kept) > KEPT:
            del self.kept[next(iter(self.kept))]  # the oldest, as the receiver does
        self.current, self._taken = number, frame
        return number


def _turn(angles: Any) -> Any:
    return (angles + 180) % 360 - 180
