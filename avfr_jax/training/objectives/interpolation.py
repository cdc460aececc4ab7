"""What the frame interpolation is trained for (Agarwal et al. 2022, eqs. 1 to 3)."""

from typing import Any

import jax
import jax.numpy as jnp

from avfr_jax.models import interpolation
from avfr_jax.training.objective import Variables
from avfr_jax.training.objectives.pictures import PictureObjective, compared, difference
from avfr_jax.typing import Array


class InterpolationObjective(PictureObjective):
    """Losses of `interpolation`. Batches carry `source`, `between` and `driving` `[N, H, W, 3]`, of which `between`
    stands halfway in time."""

    config: interpolation.InterpolationConfig

    def init_networks(self, key: Array) -> Variables:
        """See `PictureObjective.init_networks`."""
        return interpolation.init(self.config, key)

    def generator(self, axis_name: str | None = None) -> Any:
        """See `PictureObjective.generator`."""
        return interpolation.generator(self.config, axis_name=axis_name, dtype=self.dtype)

    def discriminator(self) -> Any:
        """See `PictureObjective.discriminator`."""
        return interpolation.discriminator(self.config, dtype=self.dtype)

    def example_batch(self, size: int) -> dict[str, Any]:
        """See `Objective.example_batch`."""
        side, channels = self.config.image_size, self.config.num_channels
        frames = jax.ShapeDtypeStruct((size, side, side, channels), jnp.float32)
        return {"source": frames, "between": frames, "driving": frames}

    def example(self, batch: dict[str, Any], draws: Any) -> tuple[tuple[Any, ...], Any]:
        """See `PictureObjective.example`."""
        return (batch["source"], batch["driving"]), batch["between"]

    def predict(self, variables: Variables, batch: dict[str, Any]) -> Any:
        """The frames between, with running statistics."""
        return interpolation.between(self.config, variables, batch["source"], batch["driving"], 1)[:, 0]

    def evaluate(self, variables: Variables, batch: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """See `Objective.evaluate`: L1, PSNR and SSIM, and those of the two frames' mean (`l1_mean`, `psnr_mean`)."""
        prediction = self.predict(variables, batch)
        mean = (batch["source"] + batch["driving"]) / 2
        return compared(prediction, mean, batch["between"], "mean"), prediction

    def panels(self, variables: Variables, batch: dict[str, Any]) -> dict[str, Any]:
        """See `Objective.panels`."""
        prediction, target = self.predict(variables, batch), batch["between"]
        mean = (batch["source"] + batch["driving"]) / 2
        return {
            "source": batch["source"],
            "between": target,
            "driving": batch["driving"],
            "output": prediction,
            "mean": mean,
            "difference": difference(prediction, target),
            "difference_of_mean": difference(mean, target),
        }
