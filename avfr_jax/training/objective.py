"""What the training step asks of a model family."""

from typing import Any, NamedTuple, Protocol

from avfr_jax.typing import Array

Variables = dict[str, Any]


class Gradients(NamedTuple):
    """The outcome of one forward and backward pass.

    Attributes:
      grads: `{network: tree like its parameters}`.
      collections: `{network: {collection: tree}}`, the running statistics as they are afterwards.
      metrics: float32 scalars by name; `loss` is the generator's total.
    """

    grads: dict[str, Any]
    collections: Variables
    metrics: dict[str, Array]


class Objective(Protocol):
    """A model family's losses. An implementation is immutable; it holds configs and frozen networks, never weights
    that are trained.

    Attributes:
      networks: every network that is trained.
      averaged: those whose parameters are averaged over the steps.
      frozen: pytree of the frozen networks' weights; the step hands it back to `gradients` as an argument, so that it
        is not compiled into the program.
      notes: sentences for the log and the model card: which frozen networks the losses use.
    """

    networks: tuple[str, ...]
    averaged: tuple[str, ...]
    frozen: Any
    notes: tuple[str, ...]

    def init(self, key: Array) -> Variables:
        """Fresh weights: `{network: {collection: tree}}`."""
        ...

    def example_batch(self, size: int) -> dict[str, Any]:
        """Shapes of a batch of `size` samples, as it is after augmentation (images float32 in [0, 1])."""
        ...

    def draw(self, key: Array, size: int) -> Any:
        """Every random number of a step, each with `size` as its first axis."""
        ...

    def gradients(
        self, variables: Variables, frozen: Any, batch: dict[str, Any], draws: Any, axis_name: str | None = None
    ) -> Gradients:
        """Forward and backward of every network, from one forward pass where possible.

        Args:
          variables: of every network.
          frozen: `self.frozen`.
          batch: see `example_batch`; means over it are the losses.
          draws: from `draw`, for the same samples.
          axis_name: the mesh axis to take batch statistics over, inside `jax.shard_map`.
        """
        ...

    def evaluate(self, variables: Variables, batch: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """Per-sample metrics `{name: [N]}` and predictions `[N, H, W, 3]`, with running statistics."""
        ...

    def panels(self, variables: Variables, batch: dict[str, Any]) -> dict[str, Any]:
        """Pictures to look at, `{name: [N, H, W, 3]}` float32 in [0, 1]."""
        ...
