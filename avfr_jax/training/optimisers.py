"""Adam with the learning-rate schedules of the papers, for each network."""

import dataclasses
from collections.abc import Iterable
from typing import Literal

import optax

from avfr_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class OptimiserConfig:
    """Adam and its learning rate; the defaults are FOMM's.

    Attributes:
      learning_rate: after warm-up.
      b1: decay of the first moment.
      b2: decay of the second moment.
      schedule: `milestones` multiplies the rate by `gamma` at each milestone; `cosine` goes down to `gamma` times the
        rate over `decay_steps`.
      milestones: in steps.
      gamma: see `schedule`.
      decay_steps: length of the cosine, in steps, warm-up included; 0 takes the length of the run.
      warmup_steps: of a linear rise from 0.
      clip_norm: largest global norm of the gradients; 0 does not clip.
    """

    learning_rate: float = 2e-4
    b1: float = 0.5
    b2: float = 0.999
    schedule: Literal["milestones", "cosine"] = "milestones"
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    decay_steps: int = 0
    warmup_steps: int = 0
    clip_norm: float = 0.0


def learning_rate(config: OptimiserConfig) -> optax.Schedule:
    """Learning rate as a function of the step.

    Raises:
      ConfigError: milestones out of order, or a cosine without a length.
    """
    if list(config.milestones) != sorted(set(config.milestones)):
        raise ConfigError(f"Milestones must grow: {list(config.milestones)}.")
    if config.schedule == "cosine":
        if config.decay_steps <= config.warmup_steps:
            raise ConfigError("A cosine schedule needs decay_steps larger than warmup_steps.")
        length = config.decay_steps - config.warmup_steps
        rate = optax.cosine_decay_schedule(config.learning_rate, length, config.gamma)
    else:
        # Counted from the end of the warm-up, as join_schedules does.
        later = {m - config.warmup_steps: config.gamma for m in config.milestones}
        rate = optax.piecewise_constant_schedule(config.learning_rate, later)
    if not config.warmup_steps:
        return rate
    rise = optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps)
    return optax.join_schedules([rise, rate], [config.warmup_steps])


def make_optimisers(config: OptimiserConfig, networks: Iterable[str]) -> dict[str, optax.GradientTransformation]:
    """Make one Adam a network."""
    adam = optax.adam(learning_rate(config), config.b1, config.b2)
    clipped = optax.chain(optax.clip_by_global_norm(config.clip_norm), adam) if config.clip_norm else adam
    return dict.fromkeys(networks, clipped)
