"""Motion coding: closed-loop quantisation, linear prediction from the frames before, entropy coding.

Encoder and decoder predict from the same quantised integers, so that they cannot drift apart, on any machine.
"""

import dataclasses
import functools
from typing import Any

import numpy as np

from avfr_jax.codec.entropy import RANGE_CODER, EntropyCoder, EntropyReader, EntropyWriter
from avfr_jax.typing import Float, Int

LARGEST = 1 << 18
"""Magnitude at which quantised numbers are clipped."""
STEP_RANGE = (-128, 127)
"""Indices of steps, least and greatest."""


def step_of(index: int) -> float:
    """The quantiser's step: four indices are an octave, index 0 is a step of one."""
    return float(2.0 ** (index / 4))


def quantise(values: Float[np.ndarray, "*n"], step: float = 1.0) -> Int[np.ndarray, "*n"]:
    """The nearest integers in units of a step, clipped to ±2^18."""
    return np.clip(np.round(values / step), -LARGEST, LARGEST).astype(np.int64)


@dataclasses.dataclass(frozen=True)
class Precision:
    """Precision of the motion from one refresh to the next, where each refresh states it.

    Attributes:
      offset: added to the index of every step, -32 to 31.
      components: principal components of the mesh that are coded, 4 to 64 in fours; the others are zero.
    """

    offset: int = 0
    components: int = 64

    def put(self, writer: EntropyWriter) -> None:
        """Encode it in ten bits."""
        writer.put_bits(self.offset + 32, 6)
        writer.put_bits(self.components // 4 - 1, 4)

    @classmethod
    def get(cls, reader: EntropyReader) -> "Precision":
        """Decode it; any bytes give some."""
        offset = reader.get_bits(6) - 32
        return cls(offset, 4 * (reader.get_bits(4) + 1))


FULL = Precision()
"""The header's precision."""


@dataclasses.dataclass(frozen=True, eq=False)
class MotionFormat:
    """How a stream codes motion.

    Attributes:
      levels: of the coder's initial contexts at a step of one, int `[2, C]`: for a vector after a refresh, and for
        prediction residuals.
      step: index of the quantiser's step of each number, see `step_of`.
      slope: in 1/256, the share of the last change that is predicted to repeat.
      rank: of each number among the principal components of the mesh, from 0; -1 for other numbers.
      adaptive: whether each refresh states its `Precision`.
      coder: of the vectors.
      row: of each number, the row of a component of which each frame states how many it leaves out, the last ones; -1
        for numbers that every frame has. None where there is no such component.
      left_out: index of the number that states it.
    """

    levels: Int[np.ndarray, "2 c"]
    step: Int[np.ndarray, "c"]
    slope: int = 128
    rank: Int[np.ndarray, "c"] | None = None
    adaptive: bool = False
    coder: EntropyCoder = RANGE_CODER
    row: Int[np.ndarray, "c"] | None = None
    left_out: int = 0

    @functools.cached_property
    def steps(self) -> Float[np.ndarray, "c"]:
        """The steps, float32."""
        return np.array([step_of(int(index)) for index in self.step], np.float32)

    @functools.cached_property
    def groups(self) -> list[Int[np.ndarray, "n"]]:
        """Indices of the numbers of each vector that is coded for a frame; the second has whole rows."""
        if self.row is None:
            return [np.arange(len(self.step))]
        return [np.flatnonzero(self.row < 0), np.flatnonzero(self.row >= 0)]

    def rows(self, left_out: int) -> tuple[int, int]:
        """Of a frame that states to leave out so many rows: the rows that are coded, and how many numbers these are."""
        assert self.row is not None
        rows = int(self.row.max()) + 1
        used = min(max(rows - left_out, 0), rows)
        return used, used * (len(self.groups[1]) // rows)

    def at(self, precision: Precision) -> tuple["MotionFormat", Int[np.ndarray, "n"]]:
        """This format at a precision, and the indices of the numbers that are coded."""
        if not self.adaptive:
            return self, np.arange(len(self.step))
        rank = np.full(len(self.step), -1) if self.rank is None else self.rank
        kept = np.flatnonzero(rank < precision.components)
        step = np.clip(self.step[kept] + precision.offset, *STEP_RANGE)
        if self.row is None:
            return MotionFormat(self.levels[:, kept], step, self.slope, coder=self.coder), kept
        left_out = int(np.searchsorted(kept, self.left_out))
        step[left_out] = self.step[self.left_out]
        row = self.row[kept]
        return MotionFormat(self.levels[:, kept], step, self.slope, coder=self.coder, row=row, left_out=left_out), kept


class _Predictor:
    """The state that both ends share: the last two vectors, and the contexts."""

    def __init__(self, form: MotionFormat) -> None:
        self.form = form
        self.refresh()

    def refresh(self, precision: Precision = FULL) -> None:
        """Reset: the next vector is coded by itself."""
        self.precision = precision
        self._now, self._kept = self.form.at(precision)
        self._fresh = True
        self._last = np.zeros(len(self._kept), np.int64)
        self._change = np.zeros(len(self._kept), np.int64)
        self._first, self._later = (
            [self.form.coder.contexts((levels - self._now.step)[group]) for group in self._now.groups]
            for levels in self._now.levels
        )

    @property
    def _contexts(self) -> list[Any]:
        return self._first if self._fresh else self._later

    def _predicted(self) -> Int[np.ndarray, "n"]:
        return self._last + ((self._change * self.form.slope + 128) >> 8)

    def _take(self, vector: Int[np.ndarray, "n"]) -> Float[np.ndarray, "c"]:
        """Advance by a vector; the motion it stands for."""
        vector = np.clip(vector, -LARGEST, LARGEST)
        if self._now.row is not None:
            used, _ = self._now.rows(int(vector[self._now.left_out]))
            vector = np.where(self._now.row >= used, self._last, vector)
        self._change = np.zeros_like(vector) if self._fresh else vector - self._last
        self._last, self._fresh = vector, False
        motion = np.zeros(len(self.form.step), np.float32)
        motion[self._kept] = vector * self._now.steps
        return motion


class MotionWriter(_Predictor):
    """The encoder.

    Args:
      form: how motion is coded.
      dead_zone: in steps, the excess over half a step below which a prediction residual is coded as zero.
    """

    def __init__(self, form: MotionFormat, dead_zone: float = 0.15) -> None:
        super().__init__(form)
        self.dead_zone = dead_zone

    def put(self, writer: EntropyWriter, motion: Float[np.ndarray, "c"]) -> Float[np.ndarray, "c"]:
        """Encode one frame's motion; the receiver's reconstruction, float32."""
        if self._fresh and self.form.adaptive:
            self.precision.put(writer)
        wanted = np.clip(np.asarray(motion, np.float64)[self._kept] / self._now.steps, -LARGEST, LARGEST)
        predicted = self._predicted()
        residual = wanted - predicted
        zone = 0.0 if self._fresh else self.dead_zone
        symbols = (np.sign(residual) * np.floor(np.maximum(np.abs(residual) + 0.5 - zone, 0))).astype(np.int64)
        self._put(writer, symbols, predicted)
        return self._take(predicted + symbols)

    def _put(self, writer: EntropyWriter, symbols: Int[np.ndarray, "n"], predicted: Int[np.ndarray, "n"]) -> None:
        form = self._now
        writer.put_vector(self._contexts[0], symbols[form.groups[0]])
        if form.row is not None:
            _, count = form.rows(int((predicted + symbols)[form.left_out]))
            writer.put_vector(self._contexts[1], symbols[form.groups[1][:count]])


class MotionReader(_Predictor):
    """The decoder."""

    def get(self, reader: EntropyReader) -> Float[np.ndarray, "c"]:
        """Decode one frame's motion, float32. Any bytes give some vector."""
        if self._fresh and self.form.adaptive:
            self.refresh(Precision.get(reader))
        form, vector = self._now, self._predicted()
        vector[form.groups[0]] += reader.get_vector(self._contexts[0])
        if form.row is not None:
            _, count = form.rows(int(vector[form.left_out]))
            vector[form.groups[1][:count]] += reader.get_vector(self._contexts[1], count)
        return self._take(vector)
