"""What FOMM is trained for (Siarohin et al. 2019, section 3.3; reference program `modules/model.py` and `train.py`).

One forward pass serves both sides: the generator and the keypoint detector are updated from one backward pass, the
discriminator from another, and the discriminator judges each picture once.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from avfr_jax import losses
from avfr_jax.backbones.lpips import Lpips
from avfr_jax.faces.face_parts import face_part_masks
from avfr_jax.metrics import image
from avfr_jax.models import fomm
from avfr_jax.models.discriminators import MultiScaleDiscriminator
from avfr_jax.motion import Keypoints
from avfr_jax.ops.resize import upsample_nearest
from avfr_jax.ops.tps import RandomWarp, draw_warp, warp_frames
from avfr_jax.training import panels
from avfr_jax.training.objective import Gradients, Variables
from avfr_jax.training.objectives.pictures import (
    FeatureNetwork,
    PictureLossConfig,
    adversaries,
    apply_module,
    frozen_networks,
    picture_terms,
)
from avfr_jax.typing import Array

GENERATOR_SIDE = ("keypoint_detector", "generator")


@dataclasses.dataclass(frozen=True)
class FommLossConfig(PictureLossConfig):
    """Weights of the losses; the defaults are those of `vox-adv-256`. See `PictureLossConfig` for those of the picture.

    Attributes:
      parts: how much more the inside of lips, mouth and eyes counts in a mean absolute difference of its own.
        Batches then carry the face's landmarks (`data.landmarks`).
      warped: of the mean absolute difference of the warped source over the pyramid (`mesh-fomm`).
      heard: of how far the first channel of what the audio encoder makes of the sound is, on the mean, from how far the
        mouth is open (`avfr`). It says at once what the sound is about; pixels alone take long to.
      apart: of keypoints that come close to each other.
      equivariance_value: of keypoints under random warps.
      equivariance_jacobian: of their Jacobians.
      sigma_affine: spread of the warps' affine part.
      sigma_tps: spread of their bending.
      points_tps: control points a side.
    """

    parts: float = 0.0
    warped: float = 0.0
    heard: float = 0.0
    apart: float = 0.0
    equivariance_value: float = 10.0
    equivariance_jacobian: float = 10.0
    sigma_affine: float = 0.05
    sigma_tps: float = 0.005
    points_tps: int = 5


class Forward(NamedTuple):
    """What the generator's side computes: the `prediction`, the keypoints of `source` and `driving`, updated
    `collections`, and the model's own output (`generated`)."""

    prediction: Any
    source: Keypoints
    driving: Keypoints
    collections: Variables
    generated: Any


class FommObjective:
    """FOMM's losses; see `avfr_jax.training.objective.Objective`."""

    config: Any
    networks: tuple[str, ...]
    averaged: tuple[str, ...]
    notes: tuple[str, ...]

    def __init__(
        self,
        config: Any,
        loss: FommLossConfig | None = None,
        features: FeatureNetwork | None = None,
        *,
        lpips: Lpips | None = None,
        dtype: Any = None,
        remat: bool = False,
    ) -> None:
        """Args:
        config: the networks, of the family's own kind.
        loss: weights of the losses.
        features: the perceptual network; None leaves that loss out.
        lpips: the network of `loss.lpips`.
        dtype: of the computation; parameters stay float32.
        remat: recompute the generator's activations in the backward pass instead of keeping them.

        Raises:
          ConfigError: see `frozen_networks`.
        """
        loss = loss or FommLossConfig()
        self.config, self.loss, self.dtype, self.remat = config, loss, dtype, remat
        self.features = features
        self.frozen, self.notes = frozen_networks(loss, features, lpips, config.discriminator)
        self.adversarial = loss.generator_gan > 0
        self.networks = (*GENERATOR_SIDE, "discriminator") if self.adversarial else GENERATOR_SIDE
        self.averaged = GENERATOR_SIDE

    # ------------------------------------------------------------------------- what another family does otherwise

    def init(self, key: Array) -> Variables:
        """See `Objective.init`."""
        variables = self.init_networks(key)
        return {name: variables[name] for name in self.networks}

    def init_networks(self, key: Array) -> Variables:
        """Random weights of all that the family has, the discriminator included."""
        return fomm.init(self.config, key)

    def example_batch(self, size: int) -> dict[str, Any]:
        """See `Objective.example_batch`."""
        side, channels = self.config.image_size, self.config.num_channels
        frames = jax.ShapeDtypeStruct((size, side, side, channels), jnp.float32)
        return {"source": frames, "driving": frames, **(self.example_landmarks(size) if self.needs_landmarks else {})}

    @property
    def needs_landmarks(self) -> bool:
        """Whether batches carry the faces' landmarks."""
        return self.loss.parts > 0

    def example_landmarks(self, size: int) -> dict[str, Any]:
        """The landmarks of a batch, where a loss or a network needs them."""
        face = jax.ShapeDtypeStruct((size, 478, 3), jnp.float32)
        return {"source_landmarks": face, "driving_landmarks": face}

    def prepare(self, batch: dict[str, Any], draws: Any = None) -> dict[str, Any]:
        """A batch as it is read -> with `source` and `driving` as RGB and what else this family takes from it; `draws`
        are a training step's."""
        return batch

    def detector_input(self, frames: Any, batch: dict[str, Any], which: str) -> Any:
        """What the keypoint detector sees of the `source` or `driving` frames."""
        return frames

    def detect(self, variables: Variables, frames: Any, train: bool, axis_name: str | None) -> Any:
        """Keypoints, and the updated collections if `train`."""
        module = fomm.keypoint_detector(self.config, axis_name=axis_name, dtype=self.dtype)
        (keypoints, _), collections = apply_module(module, variables["keypoint_detector"], train, frames)
        return keypoints, collections

    def generate(
        self, variables: Variables, batch: dict[str, Any], source: Keypoints, driving: Keypoints, train: bool, axis: Any
    ) -> Any:
        """The generator's output, and its updated collections."""
        module = fomm.generator(self.config, axis_name=axis, dtype=self.dtype)
        return apply_module(module, variables["generator"], train, batch["source"], source, driving)

    def make_discriminator(self) -> MultiScaleDiscriminator:
        """The discriminator."""
        return fomm.discriminator(self.config, dtype=self.dtype)

    def further_terms(self, generated: Any, source: Keypoints, driving: Keypoints, batch: Any) -> dict[str, Any]:
        """Losses of faces and keypoints, weighted, by name: the parts of the face that speak and look, which are small,
        counted by themselves; keypoints that come too close to each other."""
        loss, target, terms = self.loss, batch["driving"], {}
        if loss.parts:
            drawing = face_part_masks(batch["driving_landmarks"], target.shape[1] // 2)
            share = drawing[..., 1:2] + drawing[..., 3:4]  # lips with the mouth inside, and eyes
            share = upsample_nearest(share, (2, 2))
            terms["parts"] = loss.parts * losses.weighted_l1(generated.prediction, target, share)
        if loss.apart:
            terms["apart"] = loss.apart * losses.keypoints_apart(driving.value, 0.1)
        return terms

    # --------------------------------------------------------------------------------------------------- the losses

    def draw(self, key: Array, size: int) -> Any:
        """See `Objective.draw`: one random warp a sample."""
        loss = self.loss
        warp = draw_warp(
            key, size, sigma_affine=loss.sigma_affine, sigma_tps=loss.sigma_tps, points_tps=loss.points_tps
        )
        return {"theta": warp.theta, "bend": warp.control_params}

    def gradients(
        self, variables: Variables, frozen: Any, batch: dict[str, Any], draws: Any, axis_name: str | None = None
    ) -> Gradients:
        """See `Objective.gradients`."""
        batch = self.prepare(batch, draws)
        side = {name: variables[name]["params"] for name in GENERATOR_SIDE}

        def generator_side(params: dict[str, Any]) -> Any:
            own = {name: {**variables[name], "params": params[name]} for name in GENERATOR_SIDE}
            forward, terms = self._forward(own, frozen, batch, draws, axis_name)
            return (sum(terms.values(), jnp.zeros(())), forward.prediction), (forward, terms)

        (_, prediction), pull, (forward, terms) = jax.vjp(generator_side, side, has_aux=True)
        if self.adversarial:
            towards, more, grads_d, collections_d = adversaries(
                self.loss, self.make_discriminator(), variables["discriminator"], prediction, batch["driving"],
                Keypoints(forward.driving.value),
            )  # fmt: skip
            terms.update(more)
        else:
            towards, grads_d, collections_d = jnp.zeros_like(prediction), {}, {}
        one = jnp.ones((), jax.tree.leaves(terms)[0].dtype)
        (grads,) = pull((one, towards))
        total = sum((value for name, value in terms.items() if name != "discriminator"), jnp.zeros(()))
        metrics = {f"loss/{name}": value for name, value in terms.items()}
        metrics |= {"loss": total, "l1": losses.l1(prediction, batch["driving"])}
        return Gradients({**grads, **grads_d}, {**forward.collections, **collections_d}, metrics)

    def _forward(
        self, variables: Variables, frozen: Any, batch: dict[str, Any], draws: Any, axis: str | None
    ) -> tuple[Forward, dict[str, Any]]:
        """The generator's side up to every loss that needs no discriminator."""
        inputs = {which: self.detector_input(batch[which], batch, which) for which in ("source", "driving")}
        state = variables["keypoint_detector"]
        source, new = self.detect(variables, inputs["source"], True, axis)
        driving, new = self.detect({"keypoint_detector": {**state, **new}}, inputs["driving"], True, axis)
        generate = jax.checkpoint(self._generate_pure, static_argnums=(4,)) if self.remat else self._generate_pure
        generated, new_generator = generate(variables, batch, source, driving, axis)
        terms = picture_terms(self.loss, self.features, frozen, generated.prediction, batch["driving"])
        terms |= self.further_terms(generated, source, driving, batch)
        if self.loss.equivariance_value or self.loss.equivariance_jacobian:
            more, new = self._equivariance({**state, **new}, inputs["driving"], driving, draws, axis)
            terms |= more
        collections = {"keypoint_detector": new, "generator": new_generator}
        return Forward(generated.prediction, source, driving, collections, generated), terms

    def _generate_pure(self, variables: Variables, batch: dict[str, Any], source: Any, driving: Any, axis: Any) -> Any:
        return self.generate(variables, batch, source, driving, True, axis)

    def _equivariance(
        self, state: dict[str, Any], frames: Any, driving: Keypoints, draws: Any, axis: str | None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        loss = self.loss
        sample = draw_warp(jax.random.key(0), 1, points_tps=loss.points_tps)
        warp = RandomWarp(draws["theta"], sample.control_points.astype(draws["theta"].dtype), draws["bend"])
        moved, new = self.detect({"keypoint_detector": state}, warp_frames(warp, frames), True, axis)
        terms = {}
        if loss.equivariance_value:
            value = losses.equivariance_value(driving.value, moved.value, warp)
            terms["equivariance_value"] = loss.equivariance_value * value
        if loss.equivariance_jacobian and driving.jacobian is not None:
            jacobian = losses.equivariance_jacobian(driving.jacobian, moved.jacobian, moved.value, warp)
            terms["equivariance_jacobian"] = loss.equivariance_jacobian * jacobian
        return terms, new

    # ----------------------------------------------------------------------------------------- looking at the model

    def predict(self, variables: Variables, batch: dict[str, Any]) -> Forward:
        """The model's frames with running statistics."""
        batch = self.prepare(batch)
        found = {}
        for which in ("source", "driving"):
            inputs = self.detector_input(batch[which], batch, which)
            found[which], _ = self.detect(variables, inputs, False, None)
        generated, _ = self.generate(variables, batch, found["source"], found["driving"], False, None)
        return Forward(generated.prediction, found["source"], found["driving"], {}, generated)

    def evaluate(self, variables: Variables, batch: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """See `Objective.evaluate`: L1, PSNR and SSIM, and L1 of copying the source, which says how hard a pair is."""
        prediction = self.predict(variables, batch).prediction
        return self.compare(prediction, batch), prediction

    def compare(self, prediction: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """Figures of predicted frames."""
        source, target = (batch[name][..., : prediction.shape[-1]] for name in ("source", "driving"))
        return {
            "l1": image.l1(prediction, target),
            "l1_copy": image.l1(source, target),
            "psnr": image.psnr(prediction, target),
            "ssim": image.ssim(prediction, target),
        }

    def panels(self, variables: Variables, batch: dict[str, Any]) -> dict[str, Any]:
        """See `Objective.panels`."""
        forward = self.predict(variables, batch)
        motion, shape = forward.generated.motion, batch["source"].shape[1:3]
        pictures = {
            "source": panels.draw_keypoints(batch["source"][..., :3], forward.source.value),
            "driving": panels.draw_keypoints(batch["driving"][..., :3], forward.driving.value),
            "output": forward.prediction,
            "flow": panels.draw_displacement(motion.displacement, shape),
        }
        if motion.occlusion_map is not None:
            pictures["occlusion"] = panels.draw_occlusion(motion.occlusion_map, shape)
        return {**pictures, **self.further_panels(forward.generated, shape)}

    def further_panels(self, generated: Any, shape: tuple[int, int]) -> dict[str, Any]:
        """Further pictures of this family, of the given height and width."""
        return {}
