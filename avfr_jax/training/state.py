"""Everything that a training run carries from one step to the next, as one pytree."""

import dataclasses
from typing import Any

import jax


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """A training run between two steps.

    Attributes:
      step: int32 scalar, the number of steps taken.
      variables: `{network: {collection: tree}}`: parameters and running statistics.
      opt_state: `{network: optax state}`.
      ema: `{network: parameters}` averaged over the steps; empty where none are kept.
      key: uint32 key data (`jax.random.key_data`) from which every step derives its own randomness.
    """

    step: Any
    variables: dict[str, Any]
    opt_state: dict[str, Any]
    ema: dict[str, Any]
    key: Any

    def averaged(self) -> dict[str, Any]:
        """The variables with averaged parameters where they are kept: what is validated and shipped."""
        return {
            name: {**collections, "params": self.ema.get(name, collections["params"])}
            for name, collections in self.variables.items()
        }
