"""What the super-resolution is trained for (Agarwal et al. 2022, eqs. 2 and 3 on crops)."""

from typing import Any

import jax
import jax.numpy as jnp

from avfr_jax.models import super_resolution
from avfr_jax.ops.resize import resize_cubic
from avfr_jax.training.objective import Variables
from avfr_jax.training.objectives.pictures import PictureObjective, compared, difference
from avfr_jax.typing import Array

FACTOR = 2
"""By which validation enlarges, as the paper's tables do; and twice that, under `x4`."""


class SuperResolutionObjective(PictureObjective):
    """Losses of `super-resolution`. Batches carry `driving`: crops `[N, k, k, 3]` in training, whole frames in
    validation."""

    config: super_resolution.SuperResolutionConfig

    def init_networks(self, key: Array) -> Variables:
        """See `PictureObjective.init_networks`."""
        return super_resolution.init(self.config, key)

    def generator(self, axis_name: str | None = None) -> Any:
        """See `PictureObjective.generator`."""
        return super_resolution.generator(self.config, axis_name=axis_name, dtype=self.dtype)

    def discriminator(self) -> Any:
        """See `PictureObjective.discriminator`."""
        return super_resolution.discriminator(self.config, dtype=self.dtype)

    def example_batch(self, size: int) -> dict[str, Any]:
        """See `Objective.example_batch`."""
        side, channels = self.config.patch_size, self.config.num_channels
        return {"driving": jax.ShapeDtypeStruct((size, side, side, channels), jnp.float32)}

    def draw(self, key: Array, size: int) -> Any:
        """See `Objective.draw`: by how much each crop is downsampled, evenly between the limits."""
        c = self.config
        return jax.random.uniform(key, (size,), minval=c.least_factor, maxval=c.largest_factor)

    def example(self, batch: dict[str, Any], draws: Any) -> tuple[tuple[Any, ...], Any]:
        """See `PictureObjective.example`."""
        return (super_resolution.degrade(self.config, batch["driving"], draws), draws), batch["driving"]

    def predict(self, variables: Variables, target: Any, factor: int) -> tuple[Any, Any]:
        """Frames made smaller by a factor and enlarged again: by the model, and bicubically alone."""
        shape = target.shape[1:3]
        small = jnp.clip(resize_cubic(target, (max(1, shape[0] // factor), max(1, shape[1] // factor))), 0, 1)
        plain = jnp.clip(resize_cubic(small, shape), 0, 1)
        return super_resolution.enlarge(self.config, variables, small, shape), plain

    def evaluate(self, variables: Variables, batch: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """See `Objective.evaluate`: L1, PSNR and SSIM of frames enlarged twice, and those of bicubic interpolation
        (`l1_bicubic`, `psnr_bicubic`); L1 of both for frames enlarged four times (`l1_x4`, `l1_x4_bicubic`)."""
        target = batch["driving"]
        prediction, plain = self.predict(variables, target, FACTOR)
        more = dict(zip(("l1_x4", "l1_x4_bicubic"), self.predict(variables, target, 2 * FACTOR), strict=True))
        further = {name: jnp.abs(x - target).mean((1, 2, 3)) for name, x in more.items()}
        return {**compared(prediction, plain, target, "bicubic"), **further}, prediction

    def panels(self, variables: Variables, batch: dict[str, Any]) -> dict[str, Any]:
        """See `Objective.panels`; enlarged four times, where the eye sees more."""
        target = batch["driving"]
        prediction, plain = self.predict(variables, target, 2 * FACTOR)
        return {
            "driving": target,
            "output": prediction,
            "bicubic": plain,
            "difference": difference(prediction, target),
            "difference_of_bicubic": difference(plain, target),
        }
