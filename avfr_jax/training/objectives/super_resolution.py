"""Training of the super-resolution (Agarwal et al. 2022, eqs. 2 and 3 on crops). Batches hold `driving`: crops
`[N, k, k, 3]` in training, whole frames in validation."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from avfr_jax.metrics import image
from avfr_jax.models import super_resolution
from avfr_jax.models.super_resolution import SuperResolutionConfig
from avfr_jax.ops.resize import resize_cubic
from avfr_jax.training.composed import Mode
from avfr_jax.training.forward import Forward
from avfr_jax.training.objective import Variables
from avfr_jax.training.objectives.images import Predicted, image_task
from avfr_jax.typing import Array


def example_batch(config: SuperResolutionConfig, size: int, landmarks: bool) -> dict[str, Any]:
    """See `Task.example_batch`."""
    shape = (size, config.patch_size, config.patch_size, config.num_channels)
    return {"driving": jax.ShapeDtypeStruct(shape, jnp.float32)}


def sample(config: SuperResolutionConfig, key: Array, size: int) -> Array:
    """Downsampling factor of each crop, uniform between the limits."""
    return jax.random.uniform(key, (size,), minval=config.min_factor, maxval=config.max_factor)


def forward(
    config: SuperResolutionConfig, variables: Variables, batch: Mapping[str, Any], random: Any, mode: Mode
) -> Forward:
    """See `Task.forward`."""
    module = super_resolution.generator(config, axis_name=mode.axis_name, dtype=mode.dtype)
    blurred = super_resolution.degrade(config, batch["driving"], random)
    prediction, new = mode.apply(module, variables["generator"], blurred, random, remat=mode.remat)
    return Forward(prediction, batch["driving"], {"generator": new}, batch)


def predict(config: SuperResolutionConfig, variables: Variables, batch: Mapping[str, Any], mode: Mode) -> Predicted:
    """Frames downsampled by two, as in the paper's tables, and enlarged again; the baseline is bicubic interpolation.
    Also four times, as `l1_x4` and `l1_x4_bicubic`."""
    target = batch["driving"]
    shape = target.shape[1:3]

    def enlarged(factor: int) -> tuple[Array, Array]:
        small = jnp.clip(resize_cubic(target, (max(1, shape[0] // factor), max(1, shape[1] // factor))), 0, 1)
        plain = jnp.clip(resize_cubic(small, shape), 0, 1)
        return super_resolution.enlarge(config, variables, small, shape), plain

    ours, plain = enlarged(4)
    metrics = {"l1_x4": image.l1(ours, target), "l1_x4_bicubic": image.l1(plain, target)}
    panels = {"driving": target, "output_x4": ours, "bicubic_x4": plain}
    return Predicted(*enlarged(2), target, metrics, panels)


TASK = image_task(
    predict,
    "bicubic",
    init=super_resolution.init,
    forward=forward,
    discriminator=super_resolution.discriminator,
    example_batch=example_batch,
    sample=sample,
)
