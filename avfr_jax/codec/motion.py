"""Motion as whole numbers: quantised in a closed loop, predicted from the frames before, written with `symbols`.

Sender and receiver hold the same numbers and predict from those, never from what only one of them knows: they cannot
drift apart, and since all of it is integer arithmetic no two machines differ.
"""

import dataclasses
import functools

import numpy as np

from avfr_jax.codec.range_coder import Reader, Writer, get_even, put_even
from avfr_jax.codec.symbols import Contexts, get_vector, put_vector
from avfr_jax.typing import Float, Int

LARGEST = 1 << 18
"""Magnitude of a quantised number, beyond which it is cut off."""
COARSENESS = (-128, 127)
"""Indices of steps, least and greatest."""


def step_of(index: int) -> float:
    """The quantiser's step: four indices are an octave, index 0 is a step of one."""
    return float(2.0 ** (index / 4))


@dataclasses.dataclass(frozen=True)
class Precision:
    """How precisely motion is written from one refresh to the next, where a stream says so in each.

    Attributes:
      offset: added to the index of every step, -32 to 31.
      components: of each face mesh that are written, 4 to 64 in fours; the others are zero.
    """

    offset: int = 0
    components: int = 64

    def put(self, writer: Writer) -> None:
        """Write it: ten bits."""
        writer.room(4)
        put_even(writer.registers, writer.out, self.offset + 32, 6)
        put_even(writer.registers, writer.out, self.components // 4 - 1, 4)

    @classmethod
    def get(cls, reader: Reader) -> "Precision":
        """Read it. Any bytes give some."""
        offset = int(get_even(reader.registers, reader.data, 6)) - 32
        return cls(offset, 4 * (int(get_even(reader.registers, reader.data, 4)) + 1))


FULL = Precision()
"""As the header has it."""


@dataclasses.dataclass(frozen=True, eq=False)
class MotionFormat:
    """How a stream writes motion.

    Attributes:
      levels: of the coder's first contexts at a step of one, int `[2, C]`: for a vector after a refresh, and for what
        prediction leaves.
      step: index of the quantiser's step, see `step_of`; a number for each component.
      slope: in 1/256, how much of the last change is expected to happen again.
      rank: of each number among the components of its face mesh, from 0; -1 for other numbers.
      adaptive: whether each refresh states its `Precision`.
    """

    levels: Int[np.ndarray, "2 c"]
    step: Int[np.ndarray, "c"]
    slope: int = 128
    rank: Int[np.ndarray, "c"] | None = None
    adaptive: bool = False

    @functools.cached_property
    def steps(self) -> Float[np.ndarray, "c"]:
        """The steps, float32."""
        return np.array([step_of(int(index)) for index in self.step], np.float32)

    def at(self, precision: Precision) -> tuple["MotionFormat", Int[np.ndarray, "n"]]:
        """This format at a precision, and which of its numbers are written."""
        if not self.adaptive:
            return self, np.arange(len(self.step))
        rank = np.full(len(self.step), -1) if self.rank is None else self.rank
        kept = np.flatnonzero(rank < precision.components)
        step = np.clip(self.step[kept] + precision.offset, COARSENESS[0], COARSENESS[1])
        return MotionFormat(self.levels[:, kept], step, self.slope), kept


class _Loop:
    """What both ends know: the last two vectors, and the contexts."""

    def __init__(self, form: MotionFormat) -> None:
        self.form = form
        self.refresh()

    def refresh(self, precision: Precision = FULL) -> None:
        """Forget all: the next vector is read by itself."""
        self.precision = precision
        self._now, self._kept = self.form.at(precision)
        self._fresh = True
        self._last = np.zeros(len(self._kept), np.int64)
        self._change = np.zeros(len(self._kept), np.int64)
        self._first = Contexts.of(self._now.levels[0] - self._now.step)
        self._later = Contexts.of(self._now.levels[1] - self._now.step)

    def _predicted(self) -> Int[np.ndarray, "n"]:
        return self._last + ((self._change * self.form.slope + 128) >> 8)

    def _take(self, vector: Int[np.ndarray, "n"]) -> Float[np.ndarray, "c"]:
        """Go on from the next vector; the motion that it stands for."""
        vector = np.clip(vector, -LARGEST, LARGEST)
        self._change = np.zeros_like(vector) if self._fresh else vector - self._last
        self._last, self._fresh = vector, False
        motion = np.zeros(len(self.form.step), np.float32)
        motion[self._kept] = vector * self._now.steps
        return motion


class MotionWriter(_Loop):
    """The sender's end.

    Args:
      form: how motion is written.
      dead_zone: in steps, by how much what prediction leaves has to exceed half a step before it is sent at all.
    """

    def __init__(self, form: MotionFormat, dead_zone: float = 0.15) -> None:
        super().__init__(form)
        self.dead_zone = dead_zone

    def put(self, writer: Writer, motion: Float[np.ndarray, "c"]) -> Float[np.ndarray, "c"]:
        """Write one frame's motion; what the receiver will hold, float32."""
        if self._fresh and self.form.adaptive:
            self.precision.put(writer)
        wanted = np.clip(np.asarray(motion, np.float64)[self._kept] / self._now.steps, -LARGEST, LARGEST)
        predicted = self._predicted()
        left = wanted - predicted
        zone = 0.0 if self._fresh else self.dead_zone
        symbols = (np.sign(left) * np.floor(np.maximum(np.abs(left) + 0.5 - zone, 0))).astype(np.int64)
        put_vector(writer, self._first if self._fresh else self._later, symbols)
        return self._take(predicted + symbols)


class MotionReader(_Loop):
    """The receiver's end."""

    def get(self, reader: Reader) -> Float[np.ndarray, "c"]:
        """Read one frame's motion, float32. Any bytes give some vector."""
        if self._fresh and self.form.adaptive:
            self.refresh(Precision.get(reader))
        contexts = self._first if self._fresh else self._later
        return self._take(self._predicted() + get_vector(reader, contexts))
