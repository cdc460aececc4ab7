"""Training of the frame interpolation (Agarwal et al. 2022, eqs. 1 to 3). Batches hold `source`, `between` and
`driving` `[N, H, W, 3]`; `between` lies halfway in time."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from avfr_jax.models import interpolation
from avfr_jax.models.interpolation import InterpolationConfig
from avfr_jax.training.composed import Mode
from avfr_jax.training.forward import Forward
from avfr_jax.training.objective import Variables
from avfr_jax.training.objectives.images import Predicted, image_task

FRAMES = ("source", "between", "driving")


def example_batch(config: InterpolationConfig, size: int, landmarks: bool) -> dict[str, Any]:
    """See `Task.example_batch`."""
    shape = (size, config.image_size, config.image_size, config.num_channels)
    return dict.fromkeys(FRAMES, jax.ShapeDtypeStruct(shape, jnp.float32))


def forward(
    config: InterpolationConfig, variables: Variables, batch: Mapping[str, Any], random: Any, mode: Mode
) -> Forward:
    """See `Task.forward`."""
    module = interpolation.generator(config, axis_name=mode.axis_name, dtype=mode.dtype)
    given = (batch["source"], batch["driving"])
    prediction, new = mode.apply(module, variables["generator"], *given, remat=mode.remat)
    return Forward(prediction, batch["between"], {"generator": new}, batch)


def predict(config: InterpolationConfig, variables: Variables, batch: Mapping[str, Any], mode: Mode) -> Predicted:
    """The baseline is the mean of both frames."""
    prediction = interpolation.between(config, variables, batch["source"], batch["driving"], 1)[:, 0]
    mean = (batch["source"] + batch["driving"]) / 2
    return Predicted(prediction, mean, batch["between"], {}, {name: batch[name] for name in FRAMES})


TASK = image_task(
    predict,
    "mean",
    init=interpolation.init,
    forward=forward,
    discriminator=interpolation.discriminator,
    example_batch=example_batch,
)
