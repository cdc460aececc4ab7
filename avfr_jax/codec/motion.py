"""Motion as whole numbers: quantised in a closed loop, predicted from the frames before, written with `symbols`.

Sender and receiver hold the same numbers and predict from those, never from what only one of them knows: they cannot
drift apart, and since all of it is integer arithmetic no two machines differ.
"""

import dataclasses
import functools

import numpy as np

from avfr_jax.codec.range_coder import Reader, Writer
from avfr_jax.codec.symbols import Contexts, get_vector, put_vector
from avfr_jax.typing import Float, Int

LARGEST = 1 << 18
"""Magnitude of a quantised number, beyond which it is cut off."""


def step_of(index: int) -> float:
    """The quantiser's step: four indices are an octave, index 0 is a step of one."""
    return float(2.0 ** (index / 4))


@dataclasses.dataclass(frozen=True, eq=False)
class MotionFormat:
    """How a stream writes motion.

    Attributes:
      levels: of the coder's first contexts at a step of one, int `[2, C]`: for a vector after a refresh, and for what
        prediction leaves.
      step: index of the quantiser's step, see `step_of`; a number for each component.
      slope: in 1/256, how much of the last change is expected to happen again.
    """

    levels: Int[np.ndarray, "2 c"]
    step: Int[np.ndarray, "c"]
    slope: int = 128

    @functools.cached_property
    def steps(self) -> Float[np.ndarray, "c"]:
        """The steps, float32."""
        return np.array([step_of(int(index)) for index in self.step], np.float32)


class _Loop:
    """What both ends know: the last two vectors, and the contexts."""

    def __init__(self, form: MotionFormat) -> None:
        self.form = form
        self.refresh()

    def refresh(self) -> None:
        """Forget all: the next vector is read by itself."""
        count = len(self.form.step)
        self._fresh = True
        self._last = np.zeros(count, np.int64)
        self._change = np.zeros(count, np.int64)
        self._first = Contexts.of(self.form.levels[0] - self.form.step)
        self._later = Contexts.of(self.form.levels[1] - self.form.step)

    def _predicted(self) -> Int[np.ndarray, "c"]:
        return self._last + ((self._change * self.form.slope + 128) >> 8)

    def _take(self, vector: Int[np.ndarray, "c"]) -> Int[np.ndarray, "c"]:
        vector = np.clip(vector, -LARGEST, LARGEST)
        self._change = np.zeros_like(vector) if self._fresh else vector - self._last
        self._last, self._fresh = vector, False
        return vector


class MotionWriter(_Loop):
    """The sender's end.

    Args:
      form: how motion is written.
      dead_zone: in steps, by how much what prediction leaves has to exceed half a step before it is sent at all.
    """

    def __init__(self, form: MotionFormat, dead_zone: float = 0.15) -> None:
        super().__init__(form)
        self.dead_zone = dead_zone

    def put(self, writer: Writer, motion: Float[np.ndarray, "c"]) -> Int[np.ndarray, "c"]:
        """Write one frame's motion; what the receiver will hold, in steps, int64."""
        wanted = np.clip(np.asarray(motion, np.float64) / self.form.steps, -LARGEST, LARGEST)
        predicted = self._predicted()
        left = wanted - predicted
        zone = 0.0 if self._fresh else self.dead_zone
        symbols = (np.sign(left) * np.floor(np.maximum(np.abs(left) + 0.5 - zone, 0))).astype(np.int64)
        put_vector(writer, self._first if self._fresh else self._later, symbols)
        return self._take(predicted + symbols)


class MotionReader(_Loop):
    """The receiver's end."""

    def get(self, reader: Reader) -> Int[np.ndarray, "c"]:
        """Read one frame's motion, in steps, int64. Any bytes give some vector."""
        contexts = self._first if self._fresh else self._later
        return self._take(self._predicted() + get_vector(reader, contexts))
