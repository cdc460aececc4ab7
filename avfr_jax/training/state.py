"""State of a training run between two steps, as one pytree."""

import dataclasses
from typing import Any

import jax


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """State between two steps.

    Attributes:
      step: int32 scalar, steps taken.
      variables: `{network: {collection: tree}}`: parameters and running statistics.
      opt_state: `{network: optax state}`.
      ema: `{network: parameters}`, exponential moving averages; empty where none are kept.
      key: uint32 key data (`jax.random.key_data`), folded with the step.
    """

    step: Any
    variables: dict[str, Any]
    opt_state: dict[str, Any]
    ema: dict[str, Any]
    key: Any

    def averaged(self) -> dict[str, Any]:
        """Variables with averaged parameters where they are kept, for validation and export."""
        return {
            name: {**collections, "params": self.ema.get(name, collections["params"])}
            for name, collections in self.variables.items()
        }
