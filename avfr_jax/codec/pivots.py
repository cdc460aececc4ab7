"""Reference-frame decision: which pivot a frame is rendered from, and when to send a new one (thesis, chapter 3).

The paper takes a new pivot when the head has turned by more than 15 degrees about any axis since the last one, or when
the background's embedding has moved by more than 0.05. Here the receiver keeps the pivots sent so far, and going back
to one of them is free; a new one is taken where none of them serves, at a minimum interval.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from avfr_jax.arguments import set_whole_numbers
from avfr_jax.codec.background import Background
from avfr_jax.codec.bitstream import KEPT
from avfr_jax.codec.motion_space import wrapped
from avfr_jax.errors import ConfigError
from avfr_jax.typing import Float

_CANDIDATES = 2  # kept pivots that are compared by rendering
_TURN = np.full(3, 360.0, np.float32)


@dataclasses.dataclass(frozen=True)
class PivotSettings:
    """When to take a new pivot.

    Attributes:
      angle: threshold in degrees of yaw, pitch or roll; None disables it.
      background: threshold of the distance of two background embeddings; None disables it.
      min_interval: seconds between two pivots, at least: a pivot is as large as minutes of motion.
      distortion_threshold: distortion beyond a fresh pivot's from which on a new one is taken (mean absolute
        difference, of 1); None never renders at the sender.
      check_interval: frames from one check of background and distortion to the next.
      bitrate: bits a second at which a pivot is sent beside the motion, which continues from the old one meanwhile;
        None sends it at once. The first is sent at once anyway.
    """

    angle: float | None = 15.0
    background: float | None = 0.05
    min_interval: float = 1.0
    distortion_threshold: float | None = None
    check_interval: int = 12
    bitrate: int | None = None

    def __post_init__(self) -> None:
        set_whole_numbers(self, {"check_interval": 1, "bitrate": 1})
        if self.bitrate is not None and self.bitrate < 1000:
            raise ConfigError(f"a pivot is sent at 1000 bits a second or more, not {self.bitrate}")
        for name in ("angle", "background", "distortion_threshold"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(f"{name} must be above 0, not {value}")


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """Head pose and background of a frame.

    Attributes:
      angles: (yaw, pitch, roll) in degrees; None without a face.
      background: its embedding; None where it is not computed.
    """

    angles: Float[np.ndarray, "3"] | None
    background: Background | None = None


class Choice(NamedTuple):
    """The pivot of a frame.

    Attributes:
      pivot: number of the one to render from; None before the first has been sent.
      new: number of one to take from this frame and send; None where there is none.
      refused: a new one was needed and not affordable.
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
      kept: view of every pivot that the receiver has, by number.
      current: number of the one in use; None before the first.
      pending: number and view of one that is being sent; None where there is none.
      count: pivots taken so far.
    """

    settings: PivotSettings
    rate: float
    kept: dict[int, View] = dataclasses.field(default_factory=dict)
    current: int | None = None
    pending: tuple[int, View] | None = None
    count: int = 0
    _taken: int = 0

    def distance(self, view: View, pivot: View) -> float:
        """Distance of a frame from a pivot in units of the thresholds; above one the pivot does not serve."""
        far = 0.0
        if self.settings.angle is not None and view.angles is not None and pivot.angles is not None:
            far = float(np.abs(wrapped(view.angles - pivot.angles, _TURN)).max()) / self.settings.angle
        if self.settings.background is not None and view.background is not None and pivot.background is not None:
            far = max(far, view.background.distance(pivot.background) / self.settings.background)
        return far

    def choose(
        self,
        frame: int,
        view: View,
        limit: float = 1.0,
        allowed: bool = True,
        distortion: Callable[[int], float] | None = None,
    ) -> Choice:
        """The pivot for a frame.

        Args:
          frame: its number.
          view: of the frame.
          limit: distance above which a pivot does not serve.
          allowed: whether a new one is affordable.
          distortion: of the frame rendered from the pivot of a number, in units of the threshold; None skips the check.
        """
        if self.current is None:
            return Choice(None, self._take(frame, view) if self.pending is None else None)
        far = {number: self.distance(view, pivot) for number, pivot in self.kept.items()}
        if far[self.current] <= limit and (distortion is None or distortion(self.current) <= limit):
            return Choice(self.current)
        others = sorted((n for n in far if n != self.current and far[n] <= limit), key=lambda n: far[n])
        for number in others[:_CANDIDATES]:
            if distortion is None or distortion(number) <= limit:
                self.current = number
                return Choice(number)
        soon = frame - self._taken < self.settings.min_interval * self.rate
        if view.angles is None or soon or self.pending is not None:
            return Choice(self.current)
        if not allowed:
            return Choice(self.current, refused=True)
        return Choice(self.current, self._take(frame, view))

    def _take(self, frame: int, view: View) -> int:
        number = self.count % 256
        self.count += 1
        self.pending, self._taken = (number, view), frame
        return number

    def arrived(self) -> None:
        """Use the pending pivot, now that it has been sent completely."""
        assert self.pending is not None
        self.current = self.pending[0]
        self.kept[self.current] = self.pending[1]
        self.pending = None
        while len(self.kept) > KEPT:
            del self.kept[next(iter(self.kept))]  # the oldest, as the receiver does
