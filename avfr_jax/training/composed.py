"""An objective composed of a family's forward pass (`Task`) and a list of loss terms.

One forward pass serves both sides of the adversarial game: the generator's side is updated from one backward pass, the
discriminator from another, and the discriminator judges each image once.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from avfr_jax import losses
from avfr_jax.errors import ConfigError
from avfr_jax.models.discriminators import judgement_size
from avfr_jax.training.forward import Forward, Frozen, Judgement
from avfr_jax.training.objective import Gradients, Variables
from avfr_jax.training.terms import Adversarial, DiscriminatorTerm, Term
from avfr_jax.typing import Array

Turn = Literal["", "motion", "picture"]


class Mode(NamedTuple):
    """How a forward pass is run.

    Attributes:
      train: use and update the batch's own statistics; else the running ones.
      axis_name: mesh axis to take batch statistics over.
      dtype: of the computation.
      remat: recompute the generator's activations in the backward pass.
      transform: detect keypoints of randomly warped driving frames too.
      turn: of randomly turned sources too, estimate the `motion` or generate the `picture`.
      generate: a loss term reads the generated images. A family may leave its generator out otherwise.
    """

    train: bool = False
    axis_name: str | None = None
    dtype: Any = None
    remat: bool = False
    transform: bool = False
    generate: bool = True
    turn: Turn = ""

    def apply(
        self, module: Any, variables: Any, *arguments: Any, remat: bool = False, method: Any = None, **named: Any
    ) -> tuple[Any, Any]:
        """Apply a Flax module.

        Returns:
          Its output, and its updated collections (none in evaluation).
        """
        if not self.train:
            return module.apply(variables, *arguments, train=False, method=method, **named), {}
        mutable = [name for name in variables if name != "params"]

        def run(variables: Any, arguments: Any, named: Any) -> Any:
            return module.apply(variables, *arguments, train=True, mutable=mutable, method=method, **named)

        out: tuple[Any, Any] = (jax.checkpoint(run) if remat else run)(variables, arguments, named)
        return out


@dataclasses.dataclass(frozen=True)
class Task:
    """Training of one model family, without its losses.

    Attributes:
      init: (config, key) -> fresh weights of all networks, the discriminator included.
      forward: (config, variables, batch, random, mode) -> what the loss terms read.
      discriminator: (config, dtype) -> the discriminator module.
      example_batch: (config, size, landmarks) -> shapes of a batch, with face landmarks if asked for.
      evaluate: (config, variables, batch, mode) -> metrics of each sample, predictions.
      panels: (config, variables, batch, mode) -> images by name.
      sample: (config, key, size) -> random numbers of a step, `size` being the first axis of each.
      networks: config -> those trained by the generator's side of the losses; their parameters are averaged.
      provides: config -> names that terms may find in `READS`.
    """

    init: Callable[[Any, Array], Variables]
    forward: Callable[[Any, Variables, Mapping[str, Any], Any, Mode], Forward]
    discriminator: Callable[..., Any]
    example_batch: Callable[[Any, int, bool], dict[str, Any]]
    evaluate: Callable[[Any, Variables, dict[str, Any], Mode], tuple[dict[str, Any], Any]]
    panels: Callable[[Any, Variables, dict[str, Any], Mode], dict[str, Any]]
    sample: Callable[[Any, Array, int], Any] = lambda config, key, size: {}
    networks: Callable[[Any], tuple[str, ...]] = lambda config: ("generator",)
    provides: Callable[[Any], tuple[str, ...]] = lambda config: ()


def check_terms(task: Task, config: Any, terms: Sequence[Term]) -> None:
    """Raises ConfigError where terms do not fit the model or each other."""
    active = {term.NAME: term for term in terms if term.weight}
    if not active:
        raise ConfigError("losses holds no term with a weight.")
    if len({term.NAME for term in terms}) < len(terms):
        raise ConfigError("losses holds two terms of one kind.")
    given = {*task.provides(config), "landmarks", "judgement"}
    for term in active.values():
        if lacking := [name for name in term.READS if name not in given]:
            raise ConfigError(f"losses.{term.NAME} reads {lacking[0]}, which this {type(config).__name__} has none of.")
        if "judgement" in term.READS and Adversarial.NAME not in active:
            raise ConfigError(f"losses.{term.NAME} needs losses.{Adversarial.NAME}, which trains the discriminator.")
    blocks = config.discriminator.num_blocks
    side = jax.tree.leaves(task.example_batch(config, 1, False))[0].shape[1]
    if Adversarial.NAME in active and judgement_size(config.discriminator, side) < 1:
        raise ConfigError(
            f"Images of {side} x {side} are too small for a discriminator of {blocks} blocks; lower "
            "model.discriminator.num_blocks."
        )


class ComposedObjective:
    """See `avfr_jax.training.objective.Objective`."""

    def __init__(
        self,
        task: Task,
        config: Any,
        terms: Sequence[Term],
        *,
        frozen: Frozen | None = None,
        dtype: Any = None,
        remat: bool = False,
    ) -> None:
        """Args:
        task: of the family.
        config: of its networks.
        terms: losses; those without a weight are left out.
        frozen: frozen networks by the name of their term; None loads them.
        dtype: of the computation; parameters stay float32.
        remat: recompute the generator's activations in the backward pass instead of keeping them.

        Raises:
          ConfigError: see `check_terms`.
          MissingBackendError: the weights of a frozen network are absent.
        """
        check_terms(task, config, terms)
        self.task, self.config, self.dtype, self.remat = task, config, dtype, remat
        self.terms = tuple(term for term in terms if term.weight)
        loaded = {t.NAME: t.load(dtype) for t in self.terms if hasattr(t, "load")} if frozen is None else frozen
        self.frozen: Frozen = dict(loaded)
        self.notes = tuple(network.description for network in self.frozen.values())
        self.adversarial = next((t for t in self.terms if isinstance(t, Adversarial)), None)
        self.averaged = task.networks(config)
        self.networks = (*self.averaged, "discriminator") if self.adversarial else self.averaged
        self._read = {name for term in self.terms for name in term.READS}

    def init(self, key: Array) -> Variables:
        """See `Objective.init`."""
        variables = self.task.init(self.config, key)
        return {name: variables[name] for name in self.networks}

    def example_batch(self, size: int) -> dict[str, Any]:
        """See `Objective.example_batch`."""
        return self.task.example_batch(self.config, size, "landmarks" in self._read)

    def sample(self, key: Array, size: int) -> Any:
        """See `Objective.sample`."""
        return self.task.sample(self.config, key, size)

    def gradients(
        self, variables: Variables, frozen: Any, batch: dict[str, Any], random: Any, axis_name: str | None = None
    ) -> Gradients:
        """See `Objective.gradients`."""
        generate = any(getattr(term, "GENERATED", True) for term in self.terms)
        transform = "transformed" in self._read
        turn: Turn = "picture" if "turned_share" in self._read else "motion" if "turned" in self._read else ""
        mode = Mode(True, axis_name, self.dtype, self.remat, transform, generate, turn)

        def generator_side(params: dict[str, Any]) -> Any:
            own = {name: {**variables[name], "params": params[name]} for name in self.averaged}
            forward = self.task.forward(self.config, own, batch, random, mode)
            terms = {
                term.NAME: term.weight * term(forward, frozen)
                for term in self.terms
                if not isinstance(term, DiscriminatorTerm)
            }
            return (_total(terms), forward.prediction), (forward, terms)

        params = {name: variables[name]["params"] for name in self.averaged}
        (value, prediction), vjp, (forward, terms) = jax.vjp(generator_side, params, has_aux=True)
        cotangent, adversarial = jnp.zeros_like(prediction), Gradients({}, {}, {})
        if self.adversarial:
            cotangent, adversarial = self._adversarial(variables["discriminator"], forward)
        (grads,) = vjp((jnp.ones_like(value), cotangent))
        metrics = {f"loss/{name}": term for name, term in terms.items()} | adversarial.metrics
        total = _total({n: x for n, x in metrics.items() if n != "loss/discriminator"})
        return Gradients(
            grads | adversarial.grads,
            forward.collections | adversarial.collections,
            {**metrics, "loss": total, "l1": losses.l1(prediction, forward.target)},
        )

    def _adversarial(self, variables: dict[str, Any], forward: Forward) -> tuple[Array, Gradients]:
        """Both sides of the game from one judgement of each image: the cotangent of the generated images, and the
        discriminator's gradients."""
        module, mode = self.task.discriminator(self.config, dtype=self.dtype), Mode(train=True)
        condition = jax.lax.stop_gradient(forward.condition)

        def discriminate(params: Any, state: Any, picture: Any) -> Any:
            out, new = mode.apply(module, {**state, "params": params}, picture, *condition)
            maps = [m for one, _ in out.values() for m in one]
            return (maps, [logits for _, logits in out.values()]), {**state, **new}

        params, state = variables["params"], {name: tree for name, tree in variables.items() if name != "params"}
        fake, vjp_fake, state = jax.vjp(
            lambda p, x: discriminate(p, state, x), params, forward.prediction, has_aux=True
        )  # fmt: skip
        real, vjp_real, state = jax.vjp(lambda p: discriminate(p, state, forward.target), params, has_aux=True)

        def generator_terms(fake: Any) -> dict[str, Array]:
            judgement = Judgement(*real, *fake)
            return {t.NAME: t.weight * t(judgement) for t in self.terms if isinstance(t, DiscriminatorTerm)}

        def discriminator_loss(real: Any, fake: Any) -> Array:
            assert self.adversarial is not None
            return self.adversarial.discriminator(real[1], fake[1])

        terms, vjp_terms = jax.vjp(generator_terms, fake)
        _, cotangent = vjp_fake(vjp_terms(jax.tree.map(jnp.ones_like, terms))[0])
        value, vjp_loss = jax.vjp(discriminator_loss, real, fake)
        real_cotangent, fake_cotangent = vjp_loss(jnp.ones_like(value))
        grads = jax.tree.map(jnp.add, vjp_real(real_cotangent)[0], vjp_fake(fake_cotangent)[0])
        metrics = {f"loss/{name}": term for name, term in {**terms, "discriminator": value}.items()}
        return cotangent, Gradients({"discriminator": grads}, {"discriminator": state}, metrics)

    def evaluate(self, variables: Variables, batch: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """See `Objective.evaluate`."""
        return self.task.evaluate(self.config, variables, batch, Mode(dtype=self.dtype))

    def panels(self, variables: Variables, batch: dict[str, Any]) -> dict[str, Any]:
        """See `Objective.panels`."""
        return self.task.panels(self.config, variables, batch, Mode(dtype=self.dtype))


def _total(terms: Mapping[str, Array]) -> Array:
    return sum(terms.values(), jnp.zeros(()))
