"""Description of a TFLite graph."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

Options = tuple[tuple[str, Any], ...]


@dataclasses.dataclass(frozen=True)
class Operator:
    """One operator: TFLite's name of its kind, its input and output tensors, its options."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    options: Options = ()


@dataclasses.dataclass(frozen=True)
class Graph:
    """A graph's structure and its constants, which take no part in comparison, hash or printing.

    Attributes:
      operators: in an order in which they can run.
      inputs: names of the input tensors.
      outputs: names of the output tensors.
      shapes: shape of every tensor by name, as the file gives it (batch 1).
      integers: constant integer tensors (paddings, sizes, shapes) by name, flat.
      constants: constant float tensors by name, float32.
    """

    operators: tuple[Operator, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    integers: tuple[tuple[str, tuple[int, ...]], ...] = ()
    constants: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, as the file gives it (batch 1)."""
        return dict(self.shapes)[name]


def options(values: Mapping[str, Any]) -> Options:
    """Options in a fixed order, hashable."""
    return tuple(sorted((n, tuple(v) if isinstance(v, list) else v) for n, v in values.items()))
