"""What the residual coder is trained for: frames that `landmark-warp` draws, repaired with some of the bits."""

from typing import Any

import jax
import jax.numpy as jnp

from avfr_jax.landmarks import NUM_LANDMARKS
from avfr_jax.models import landmark_warp, residual
from avfr_jax.motion import FaceMesh
from avfr_jax.training.objective import Variables
from avfr_jax.training.objectives.pictures import PictureObjective, compared, difference
from avfr_jax.typing import Array

_FEW = (0.25, 8)  # share of the cells and maps that validation looks at beside all of them


class ResidualObjective(PictureObjective):
    """Losses of `residual`. Batches carry `source` and `driving` `[N, S, S, 5]` (colours, the mesh's drawing, the
    person's mask) and `source_landmarks` and `driving_landmarks` `[N, 478, 3]` in [-1, 1], NaN where no face was
    found."""

    config: residual.ResidualConfig

    def init_networks(self, key: Array) -> Variables:
        """See `PictureObjective.init_networks`."""
        return residual.init(self.config, key)

    def generator(self, axis_name: str | None = None) -> Any:
        """See `PictureObjective.generator`."""
        return residual.generator(self.config, dtype=self.dtype)

    def discriminator(self) -> Any:
        """See `PictureObjective.discriminator`."""
        return residual.discriminator(self.config, dtype=self.dtype)

    def example_batch(self, size: int) -> dict[str, Any]:
        """See `Objective.example_batch`."""
        side = self.config.image_size
        frames = jax.ShapeDtypeStruct((size, side, side, 5), jnp.float32)
        points = jax.ShapeDtypeStruct((size, NUM_LANDMARKS, 3), jnp.float32)
        return {"source": frames, "driving": frames, "source_landmarks": points, "driving_landmarks": points}

    def draw(self, key: Array, size: int) -> Any:
        """See `Objective.draw`: which share of the cells is repaired, and with how many maps."""
        one, two = jax.random.split(key)
        most = jnp.log2(jnp.float32(self.config.bits))
        maps = jnp.round(2 ** (most * jax.random.uniform(two, (size,)))).astype(jnp.int32)
        return jax.random.uniform(one, (size,), minval=0.05, maxval=1.3).clip(0, 1), maps

    def example(self, batch: dict[str, Any], draws: Any) -> tuple[tuple[Any, ...], Any]:
        """See `PictureObjective.example`."""
        drawn, true = drawn_frames(batch), batch["driving"][..., :3]
        return (true, drawn, residual.kept_signs(self.config, true, drawn, *draws)), true

    def predict(self, variables: Variables, batch: dict[str, Any], cells: float, maps: int) -> tuple[Any, Any]:
        """Frames repaired with a share of the cells and some maps, and as they were drawn."""
        n = len(batch["driving"])
        (true, drawn, kept), _ = self.example(batch, (jnp.full(n, cells), jnp.full(n, maps)))
        repaired: Any = self.generator().apply(variables["generator"], true, drawn, kept)
        return jnp.clip(repaired, 0, 1), drawn

    def evaluate(self, variables: Variables, batch: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """See `Objective.evaluate`: L1, PSNR and SSIM with all the bits, and of the drawn frames (`l1_drawn`,
        `psnr_drawn`); L1 with eight maps in a quarter of the cells (`l1_few`)."""
        target = batch["driving"][..., :3]
        prediction, drawn = self.predict(variables, batch, 1.0, self.config.bits)
        few, _ = self.predict(variables, batch, *_FEW)
        return {
            **compared(prediction, drawn, target, "drawn"),
            "l1_few": jnp.abs(few - target).mean((1, 2, 3)),
        }, prediction

    def panels(self, variables: Variables, batch: dict[str, Any]) -> dict[str, Any]:
        """See `Objective.panels`."""
        target = batch["driving"][..., :3]
        prediction, drawn = self.predict(variables, batch, 1.0, self.config.bits)
        few, _ = self.predict(variables, batch, *_FEW)
        return {
            "driving": target,
            "drawn": drawn,
            "output": prediction,
            "few_bits": few,
            "difference": difference(prediction, target),
            "difference_of_drawn": difference(drawn, target),
        }


def drawn_frames(batch: dict[str, Any]) -> Any:
    """What `landmark-warp` makes of each source and the driving landmarks; no gradient."""
    config = landmark_warp.LandmarkWarpConfig(size=batch["source"].shape[1])

    def one(source: Array, face: Array, moved: Array) -> Array:
        layers = landmark_warp.encode_traced(config, source[..., :3], face, source[..., 4])
        mesh = FaceMesh.from_landmarks(moved[None])
        return landmark_warp.render(config, layers, face[:, :2], mesh)[0, ..., :3]

    frames = jax.vmap(one)(batch["source"], batch["source_landmarks"], batch["driving_landmarks"])
    return jax.lax.stop_gradient(frames)
