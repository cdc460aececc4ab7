"""Interface between the training step and a model family's losses."""

from typing import Any, NamedTuple, Protocol

from avfr_jax.typing import Array

Variables = dict[str, Any]


class Gradients(NamedTuple):
    """Result of one forward and backward pass.

    Attributes:
      grads: `{network: tree like its parameters}`.
      collections: `{network: {collection: tree}}`, the updated running statistics.
      metrics: float32 scalars by name; `loss` is the generator's total.
    """

    grads: dict[str, Any]
    collections: Variables
    metrics: dict[str, Array]


class Objective(Protocol):
    """The losses of a model family. An implementation is immutable and holds no trained weights.

    Attributes:
      networks: all trained networks.
      averaged: networks whose parameters are averaged over the steps.
      frozen: pytree of the frozen networks; the step passes it to `gradients` as an argument, so that its weights are
        not compiled into the program.
      notes: descriptions of the frozen networks, for the log and the model card.
    """

    networks: tuple[str, ...]
    averaged: tuple[str, ...]
    frozen: Any
    notes: tuple[str, ...]

    def init(self, key: Array) -> Variables:
        """Fresh weights: `{network: {collection: tree}}`."""
        ...

    def example_batch(self, size: int) -> dict[str, Any]:
        """Shapes of a batch of `size` samples after augmentation (images float32 in [0, 1])."""
        ...

    def sample(self, key: Array, size: int) -> Any:
        """All random numbers of a step, each with `size` as its first axis."""
        ...

    def gradients(
        self, variables: Variables, frozen: Any, batch: dict[str, Any], random: Any, axis_name: str | None = None
    ) -> Gradients:
        """Forward and backward pass of every network.

        Args:
          variables: of every network.
          frozen: `self.frozen`.
          batch: see `example_batch`; losses are means over it.
          random: from `sample`, for the same samples.
          axis_name: mesh axis to take batch statistics over, inside `jax.shard_map`.
        """
        ...

    def evaluate(self, variables: Variables, batch: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """Metrics of each sample `{name: [N]}` and predictions `[N, H, W, 3]`, with running statistics."""
        ...

    def panels(self, variables: Variables, batch: dict[str, Any]) -> dict[str, Any]:
        """Images for the contact sheet, `{name: [N, H, W, 3]}` float32 in [0, 1]."""
        ...
