"""Training of the super-resolution (Agarwal et al. 2022, eqs. 2 and 3 on crops). Batches hold `driving`: crops
`[N, k, k, 3]` in training, whole frames in validation."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from avfr_jax.models import super_resolution
from avfr_jax.models.super_resolution import SuperResolutionConfig
from avfr_jax.ops.resize import resize_cubic
from avfr_jax.training.composed import Mode, Task
from avfr_jax.training.objective import Variables
from avfr_jax.training.objectives.images import compare, difference
from avfr_jax.training.terms import Forward
from avfr_jax.typing import Array

FACTOR = 2
"""Scale of validation, as in the paper's tables; twice that under `x4`."""


def example_batch(config: SuperResolutionConfig, size: int, landmarks: bool) -> dict[str, Any]:
    """See `Task.example_batch`."""
    shape = (size, config.patch_size, config.patch_size, config.num_channels)
    return {"driving": jax.ShapeDtypeStruct(shape, jnp.float32)}


def sample(config: SuperResolutionConfig, key: Array, size: int) -> Array:
    """Downsampling factor of each crop, uniform between the limits."""
    return jax.random.uniform(key, (size,), minval=config.least_factor, maxval=config.largest_factor)


def forward(
    config: SuperResolutionConfig, variables: Variables, batch: Mapping[str, Any], random: Any, mode: Mode
) -> Forward:
    """See `Task.forward`."""
    module = super_resolution.generator(config, axis_name=mode.axis_name, dtype=mode.dtype)
    blurred = super_resolution.degrade(config, batch["driving"], random)
    prediction, new = mode.apply(module, variables["generator"], blurred, random, remat=mode.remat)
    return Forward(prediction, batch["driving"], {"generator": new}, batch)


def _predict(config: SuperResolutionConfig, variables: Variables, target: Any, factor: int) -> tuple[Any, Any]:
    """Frames downsampled by a factor and enlarged again: by the model, and bicubically."""
    shape = target.shape[1:3]
    small = jnp.clip(resize_cubic(target, (max(1, shape[0] // factor), max(1, shape[1] // factor))), 0, 1)
    plain = jnp.clip(resize_cubic(small, shape), 0, 1)
    return super_resolution.enlarge(config, variables, small, shape), plain


def evaluate(
    config: SuperResolutionConfig, variables: Variables, batch: dict[str, Any], mode: Mode
) -> tuple[dict[str, Any], Any]:
    """See `images.compare`; the baseline is bicubic interpolation. Also L1 of both at twice the factor (`l1_x4`,
    `l1_x4_bicubic`)."""
    target = batch["driving"]
    prediction, plain = _predict(config, variables, target, FACTOR)
    twice = dict(zip(("l1_x4", "l1_x4_bicubic"), _predict(config, variables, target, 2 * FACTOR), strict=True))
    more = {name: jnp.abs(x - target).mean((1, 2, 3)) for name, x in twice.items()}
    return {**compare(prediction, plain, target, "bicubic"), **more}, prediction


def show(config: SuperResolutionConfig, variables: Variables, batch: dict[str, Any], mode: Mode) -> dict[str, Any]:
    """See `Task.panels`; enlarged four times, where differences are visible."""
    target = batch["driving"]
    prediction, plain = _predict(config, variables, target, 2 * FACTOR)
    return {
        "driving": target,
        "output": prediction,
        "bicubic": plain,
        "difference": difference(prediction, target),
        "difference_of_bicubic": difference(plain, target),
    }


TASK = Task(
    init=super_resolution.init,
    forward=forward,
    discriminator=super_resolution.discriminator,
    example_batch=example_batch,
    evaluate=evaluate,
    panels=show,
    sample=sample,
)
