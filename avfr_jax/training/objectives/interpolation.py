"""Training of the frame interpolation (Agarwal et al. 2022, eqs. 1 to 3). Batches hold `source`, `between` and
`driving` `[N, H, W, 3]`; `between` lies halfway in time."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from avfr_jax.models import interpolation
from avfr_jax.models.interpolation import InterpolationConfig
from avfr_jax.training.composed import Mode, Task
from avfr_jax.training.objective import Variables
from avfr_jax.training.objectives.images import compare, difference
from avfr_jax.training.terms import Forward


def example_batch(config: InterpolationConfig, size: int, landmarks: bool) -> dict[str, Any]:
    """See `Task.example_batch`."""
    shape = (size, config.image_size, config.image_size, config.num_channels)
    return dict.fromkeys(("source", "between", "driving"), jax.ShapeDtypeStruct(shape, jnp.float32))


def forward(
    config: InterpolationConfig, variables: Variables, batch: Mapping[str, Any], random: Any, mode: Mode
) -> Forward:
    """See `Task.forward`."""
    module = interpolation.generator(config, axis_name=mode.axis_name, dtype=mode.dtype)
    given = (batch["source"], batch["driving"])
    prediction, new = mode.apply(module, variables["generator"], *given, remat=mode.remat)
    return Forward(prediction, batch["between"], {"generator": new}, batch)


def _predict(config: InterpolationConfig, variables: Variables, batch: dict[str, Any]) -> tuple[Any, Any]:
    """The frames between, and the mean of both frames."""
    prediction = interpolation.between(config, variables, batch["source"], batch["driving"], 1)[:, 0]
    return prediction, (batch["source"] + batch["driving"]) / 2


def evaluate(
    config: InterpolationConfig, variables: Variables, batch: dict[str, Any], mode: Mode
) -> tuple[dict[str, Any], Any]:
    """See `images.compare`; the baseline is the mean of both frames."""
    prediction, mean = _predict(config, variables, batch)
    return compare(prediction, mean, batch["between"], "mean"), prediction


def show(config: InterpolationConfig, variables: Variables, batch: dict[str, Any], mode: Mode) -> dict[str, Any]:
    """See `Task.panels`."""
    (prediction, mean), target = _predict(config, variables, batch), batch["between"]
    return {
        **{name: batch[name] for name in ("source", "between", "driving")},
        "output": prediction,
        "mean": mean,
        "difference": difference(prediction, target),
        "difference_of_mean": difference(mean, target),
    }


TASK = Task(
    init=interpolation.init,
    forward=forward,
    discriminator=interpolation.discriminator,
    example_batch=example_batch,
    evaluate=evaluate,
    panels=show,
)
