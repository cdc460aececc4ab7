"""What `mesh-fomm` is trained for: FOMM's losses, with the face mesh beside the pixels."""

from typing import Any

import jax
import jax.numpy as jnp

from avfr_jax import losses
from avfr_jax.metrics import image
from avfr_jax.models import mesh_fomm
from avfr_jax.models.discriminators import MultiScaleDiscriminator
from avfr_jax.motion import FaceMesh, Keypoints, MeshKeypoints
from avfr_jax.training.objective import Variables
from avfr_jax.training.objectives.fomm import FommObjective
from avfr_jax.training.objectives.pictures import apply_module
from avfr_jax.typing import Array


class MeshFommObjective(FommObjective):
    """Losses of `mesh-fomm`. Batches carry `source_landmarks` and `driving_landmarks` `[N, 478, 3]`, (x, y) in
    [-1, 1] by pixel centres, NaN where no face was found, and behind the frames' colours the mesh's drawing and the
    person's mask."""

    config: mesh_fomm.MeshFommConfig

    def init_networks(self, key: Array) -> Variables:
        """See `FommObjective.init_networks`."""
        return mesh_fomm.init(self.config, key)

    def example_batch(self, size: int) -> dict[str, Any]:
        """See `Objective.example_batch`."""
        side = self.config.image_size
        frames = jax.ShapeDtypeStruct((size, side, side, 5), jnp.float32)
        return {"source": frames, "driving": frames, **self.example_landmarks(size)}

    def prepare(self, batch: dict[str, Any], draws: Any = None) -> dict[str, Any]:
        """See `FommObjective.prepare`."""
        frames = {name: batch[name][..., :3] for name in ("source", "driving")}
        return {**batch, **frames, "source_mask": batch["source"][..., 4]}

    def detector_input(self, frames: Any, batch: dict[str, Any], which: str) -> Any:
        """See `FommObjective.detector_input`."""
        return mesh_fomm.detector_input(frames, batch[f"{which}_landmarks"], self.config)

    def detect(self, variables: Variables, frames: Any, train: bool, axis_name: str | None) -> Any:
        """See `FommObjective.detect`."""
        module = mesh_fomm.keypoint_detector(self.config, axis_name=axis_name, dtype=self.dtype)
        (keypoints, _), collections = apply_module(module, variables["keypoint_detector"], train, frames)
        return keypoints, collections

    def generate(
        self, variables: Variables, batch: dict[str, Any], source: Keypoints, driving: Keypoints, train: bool, axis: Any
    ) -> Any:
        """See `FommObjective.generate`."""
        module = mesh_fomm.generator(self.config, axis_name=axis, dtype=self.dtype)
        both = [
            MeshKeypoints(learned, FaceMesh.from_landmarks(batch[f"{which}_landmarks"]))
            for which, learned in (("source", source), ("driving", driving))
        ]
        given = (batch["source"], batch["source_landmarks"], batch["source_mask"], *both)
        return apply_module(module, variables["generator"], train, *given, method=mesh_fomm.encode_and_animate)

    def make_discriminator(self) -> MultiScaleDiscriminator:
        """See `FommObjective.make_discriminator`."""
        return mesh_fomm.discriminator(self.config, dtype=self.dtype)

    def evaluate(self, variables: Variables, batch: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """See `FommObjective.evaluate`; and the L1 of what `landmark-warp` makes of the same pair."""
        forward = self.predict(variables, batch)
        metrics = self.compare(forward.prediction, batch)
        target = batch["driving"][..., :3]
        return {**metrics, "l1_layered": image.l1(forward.generated.layered, target)}, forward.prediction

    def further_terms(self, generated: Any, source: Keypoints, driving: Keypoints, batch: Any) -> dict[str, Any]:
        """See `FommObjective.further_terms`; and the warped source, which may have little share in the frame, compared
        with it."""
        terms, loss = super().further_terms(generated, source, driving, batch), self.loss
        if loss.warped:
            warped = losses.pyramid_l1(generated.warped, batch["driving"], scales=loss.scales)
            terms["warped"] = loss.warped * warped
        return terms
