"""Validation on held-out clips: a fixed list of pairs, metrics averaged in each clip and then over the clips."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from avfr_jax.errors import InputError
from avfr_jax.training.objective import Objective, Variables
from avfr_jax.training.sharding import put_batch, replicated


class Pair(NamedTuple):
    """A source frame and a driving frame of one clip, by their numbers."""

    clip: int
    source: int
    driving: int


class ValidationSource(Protocol):
    """Held-out clips."""

    names: Sequence[str]
    frames: Sequence[int]

    def samples(self, pairs: Sequence[Pair]) -> dict[str, np.ndarray]:
        """Read pairs as host arrays: the entries that the objective's `evaluate` takes, images float32 in [0, 1]."""
        ...


@dataclasses.dataclass(frozen=True)
class ValidationConfig:
    """Choice of validation pairs.

    Attributes:
      stride: frames between two driving frames of a clip.
      frames_per_clip: most driving frames of a clip, spread over it.
      clips: most clips, spread over the list; 0 for all.
      batch_size: pairs evaluated at once, over all devices; 0 for the training batch size.
      span: frames from source to driving; 0 takes each clip's first frame as the source.
    """

    stride: int = 10
    frames_per_clip: int = 20
    clips: int = 0
    batch_size: int = 0
    span: int = 0


def spread(count: int, most: int) -> list[int]:
    """At most `most` of the numbers 0 … count - 1, evenly spread from 0; `most` = 0 means all."""
    if most <= 0 or count <= most:
        return list(range(count))
    return [i * count // most for i in range(most)]


def validation_pairs(frames: Sequence[int], config: ValidationConfig) -> list[Pair]:
    """Choose pairs, always the same: driving frames at a stride, the source the first frame or that `span` before.

    Args:
      frames: number of frames of each clip.
      config: the choice.

    Raises:
      InputError: no clip has two frames, or the frames of a span.
    """
    usable = [i for i, n in enumerate(frames) if n > max(1, config.span)]
    if not usable:
        least = max(2, config.span + 1)
        many = "two" if least == 2 else str(least)
        raise InputError(f"There is no validation clip with {many} frames; add clips or turn the validation off.")
    pairs = []
    for place in spread(len(usable), config.clips):
        clip = usable[place]
        # A clip shorter than the stride still gives its last frame.
        driving = list(range(max(config.stride, config.span), frames[clip], config.stride)) or [frames[clip] - 1]
        chosen = [driving[i] for i in spread(len(driving), config.frames_per_clip)]
        pairs += [Pair(clip, frame - config.span if config.span else 0, frame) for frame in chosen]
    return pairs


class Validator:
    """Evaluation of weights over a list of pairs, on all devices and processes."""

    def __init__(
        self, objective: Objective, source: ValidationSource, mesh: Mesh, config: ValidationConfig, batch_size: int
    ) -> None:
        """Choose the pairs, without reading them; `batch_size` counts where the config has none.

        Raises:
          InputError: no clip can be used.
        """
        self._source, self._mesh = source, mesh
        self.pairs = validation_pairs(source.frames, config)
        # No larger than the list, but a whole number of samples a device.
        size = min(config.batch_size or batch_size, len(self.pairs))
        self._size = -(-size // mesh.size) * mesh.size
        # Replicated: each process then reads the metrics of the whole batch.
        self._evaluate: Callable[[Variables, Any], Any] = jax.jit(
            lambda variables, batch: objective.evaluate(variables, batch)[0], out_shardings=replicated(mesh)
        )
        self._panels: Callable[[Variables, Any], Any] = jax.jit(objective.panels, out_shardings=replicated(mesh))

    def _batches(self, pairs: Sequence[Pair]) -> Iterator[tuple[list[Pair], dict[str, Any]]]:
        """This process's share of each batch as global arrays; the last one is filled up with its last pair."""
        local = self._size // jax.process_count()
        start = jax.process_index() * local
        for first in range(0, len(pairs), self._size):
            part = list(pairs[first : first + self._size])
            full = part + [part[-1]] * (self._size - len(part))
            yield part, put_batch(self._mesh, self._source.samples(full[start : start + local]))

    def __call__(self, variables: Variables) -> dict[str, float]:
        """Average metrics over the frames of each clip, then over the clips; `variables` hold averaged parameters where
        they are kept."""
        values_of: dict[str, dict[int, list[float]]] = {}
        for part, batch in self._batches(self.pairs):
            metrics: Mapping[str, Any] = jax.device_get(self._evaluate(variables, batch))
            for name, values in metrics.items():
                for pair, value in zip(part, np.asarray(values), strict=False):
                    values_of.setdefault(name, {}).setdefault(pair.clip, []).append(float(value))
        # Plain float64 sums in the order of the list: the same value on any number of devices.
        return {name: float(np.mean([np.mean(v) for v in clips.values()])) for name, clips in sorted(values_of.items())}

    def panels(self, variables: Variables, rows: int) -> dict[str, np.ndarray]:
        """Render panels of `rows` pairs: the last driving frame of clips spread over the list."""
        last = list({pair.clip: pair for pair in self.pairs}.values())
        pairs = [last[i] for i in spread(len(last), rows)]
        _, batch = next(self._batches(pairs))
        return {name: np.asarray(x)[: len(pairs)] for name, x in self._panels(variables, batch).items()}
