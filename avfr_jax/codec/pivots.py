"""Adaptive pivots: when the picture that the receiver animates no longer serves (thesis, chapter 3).

The paper takes a new pivot when the head has turned by more than 15 degrees about any axis since the last one, or when
the background's embedding has moved by more than 0.05. Here the pivots sent so far are kept by the receiver, and going
back to one of them costs nothing; a new one is taken where none of them serves, and not too soon after the last.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from avfr_jax.codec.background import Background
from avfr_jax.errors import ConfigError
from avfr_jax.typing import Float

KEPT = 8
"""Pivots that a receiver keeps, at least and at most."""
PARTS = 256
"""Parts that one is cut into, at most."""
_TRIED = 2  # kept pivots that are drawn from, to see whether one of them does better


@dataclasses.dataclass(frozen=True)
class PivotSettings:
    """When to take a new pivot.

    Attributes:
      angle: degrees of yaw, pitch or roll; None never looks.
      background: distance of two embeddings; None never looks.
      apart: seconds between two pivots, at least: a pivot is as large as minutes of motion.
      excess: how much worse than with a fresh pivot the drawn frame may be (mean absolute difference, of 1); None
        never draws at the sender.
      every: frames from one look at background and drawn frame to the next.
      bitrate: bits a second in which a pivot is sent beside the motion, which goes on from the old one meanwhile; None
        sends it at once. The first is sent at once anyway.
    """

    angle: float | None = 15.0
    background: float | None = 0.05
    apart: float = 1.0
    excess: float | None = None
    every: int = 12
    bitrate: int | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ConfigError(f"every must be 1 or more frames, not {self.every}")
        if self.bitrate is not None and self.bitrate < 1000:
            raise ConfigError(f"a pivot is sent at 1000 bits a second or more, not {self.bitrate}")
        for name in ("angle", "background", "excess"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(f"{name} must be above 0, not {value}")


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """What a frame is judged by.

    Attributes:
      angles: (yaw, pitch, roll) in degrees, or None where no face is seen.
      background: what lies behind the person, or None where it is not looked at.
    """

    angles: Float[np.ndarray, "3"] | None
    background: Background | None = None


class Choice(NamedTuple):
    """The pivot of a frame.

    Attributes:
      pivot: number of the one to draw from; None before the first has come.
      new: number of one that has to be taken from this frame and sent; None where there is none.
      refused: a new one would have been taken if it could be afforded.
    """

    pivot: int | None
    new: int | None = None
    refused: bool = False


@dataclasses.dataclass
class PivotPolicy:
    """Chooses the pivot of each frame.

    Attributes:
      settings: when to take a new one.
      rate: frames a second.
      kept: view of every pivot the receiver still has, by number.
      current: number of the one in use; None before the first.
      coming: number and view of one that is being sent; None where there is none.
    """

    settings: PivotSettings
    rate: float
    kept: dict[int, View] = dataclasses.field(default_factory=dict)
    current: int | None = None
    coming: tuple[int, View] | None = None
    _taken: int = 0
    _next: int = 0

    def distance(self, view: View, pivot: View) -> float:
        """How far a frame is from a pivot; above one the pivot does not serve."""
        far = 0.0
        if self.settings.angle is not None and view.angles is not None and pivot.angles is not None:
            far = float(np.abs(_turn(view.angles - pivot.angles)).max()) / self.settings.angle
        if self.settings.background is not None and view.background is not None and pivot.background is not None:
            far = max(far, view.background.distance(pivot.background) / self.settings.background)
        return far

    def choose(
        self,
        frame: int,
        view: View,
        limit: float = 1.0,
        allowed: bool = True,
        excess: Callable[[int], float] | None = None,
    ) -> Choice:
        """The pivot for a frame.

        Args:
          frame: its number.
          view: what it is judged by.
          limit: distance above which a pivot does not serve.
          allowed: whether a new one can be afforded.
          excess: where pictures are compared, how much worse a frame drawn from the pivot of that number is than it
            need be, one being what is borne.
        """
        if self.current is None:
            return Choice(None, self._take(frame, view) if self.coming is None else None)
        far = {number: self.distance(view, pivot) for number, pivot in self.kept.items()}
        if far[self.current] <= limit and (excess is None or excess(self.current) <= limit):
            return Choice(self.current)
        others = sorted((n for n in far if n != self.current and far[n] <= limit), key=lambda n: far[n])
        for number in others[:_TRIED]:
            if excess is None or excess(number) <= limit:
                self.current = number
                return Choice(number)
        soon = frame - self._taken < self.settings.apart * self.rate
        if view.angles is None or soon or self.coming is not None:
            return Choice(self.current)
        if not allowed:
            return Choice(self.current, refused=True)
        return Choice(self.current, self._take(frame, view))

    def _take(self, frame: int, view: View) -> int:
        number = self._next % 256
        self._next += 1
        self.coming, self._taken = (number, view), frame
        return number

    def arrived(self) -> None:
        """The pivot that was coming has been sent whole, and is drawn from now on."""
        assert self.coming is not None
        self.current = self.coming[0]
        self.kept[self.current] = self.coming[1]
        self.coming = None
        while len(self.kept) > KEPT:
            del self.kept[next(iter(self.kept))]  # the oldest, as the receiver does


def _turn(angles: Any) -> Any:
    return (angles + 180) % 360 - 180
