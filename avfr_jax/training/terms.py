"""Loss terms: frozen dataclasses of a weight and settings, each with one pure function; an objective is a list of them.

`NAME` is a term's name in metrics (`loss/NAME`) and settings (`--losses.NAME.weight`). `READS` names the parts of
`Forward` beyond prediction and target that it needs: `landmarks`, `keypoints`, `jacobians`, `heads` (face-vid2vid's),
`mesh_points` (a point of the face mesh for each of its keypoints), `motion` (of the generator), `turned` (its motion of
sources that are turned at random), `turned_share` (of the warped source in these frames), `warped`, `mouth_opening`, or
`judgement`, for the terms that read the discriminator's output instead.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from avfr_jax import losses
from avfr_jax.backbones.lpips import Lpips, LpipsKind, load_lpips
from avfr_jax.backbones.perceptual import (
    FACE_VID2VID_LAYERS,
    PerceptualName,
    PerceptualNetwork,
    perceptual_network,
)
from avfr_jax.errors import MissingBackendError
from avfr_jax.faces.face_parts import face_part_masks
from avfr_jax.metrics import image
from avfr_jax.ops.precision import widen
from avfr_jax.ops.resize import upsample_nearest
from avfr_jax.ops.sampling import grid_sample_2d
from avfr_jax.training.forward import Forward, Frozen, Judgement, Reads, TurnedSources
from avfr_jax.training.head_terms import (
    Deformation,
    HeadPose,
    KeypointPrior,
    MeshCanonical,
    MeshKeypoints,
    MeshTranslation,
)
from avfr_jax.typing import Array, Float


@dataclasses.dataclass(frozen=True)
class Perceptual:
    """Distance in the features of a frozen network over an image pyramid (FOMM: VGG19, four scales, 10 a layer).

    Attributes:
      weight: factor of the layers' weights.
      network: see `avfr_jax.backbones.perceptual`.
      layers: weight of each feature layer; None takes the network's own (10 each).
      scales: of the pyramid; None takes the network's own.
      normalise: count every layer alike, whatever the magnitude of its features; None takes the network's own.
    """

    NAME: ClassVar[str] = "perceptual"
    READS: ClassVar[Reads] = ()
    weight: float = 1.0
    network: PerceptualName = "vgg19"
    layers: tuple[float, ...] | None = None
    scales: tuple[float, ...] | None = None
    normalise: bool | None = None

    def load(self, dtype: Any = None) -> PerceptualNetwork:
        """The frozen network."""
        return perceptual_network(self.network, dtype)

    def __call__(self, forward: Forward, frozen: Frozen) -> jax.Array:
        network = frozen[self.NAME]
        return losses.perceptual(
            network,
            forward.prediction,
            forward.target,
            weights=network.weights if self.layers is None else self.layers,
            scales=network.scales if self.scales is None else self.scales,
            normalise=network.normalise if self.normalise is None else self.normalise,
        )


@dataclasses.dataclass(frozen=True)
class FacePerceptual(Perceptual):
    """`Perceptual` in the features of a network that recognises faces, at the image's own size (face-vid2vid, appendix
    A.2). It is left out, which the log says, where its weights have not been imported."""

    NAME: ClassVar[str] = "face_perceptual"
    weight: float = 10.0
    network: PerceptualName = "face-vgg"

    def load(self, dtype: Any = None) -> PerceptualNetwork:
        """The frozen network; `none` where its weights are absent."""
        try:
            return super().load(dtype)
        except MissingBackendError as error:
            nothing = perceptual_network("none")
            return dataclasses.replace(nothing, description=f"losses.{self.NAME} is left out. {error}")

    def __call__(self, forward: Forward, frozen: Frozen) -> jax.Array:
        return super().__call__(forward, frozen) if frozen[self.NAME].weights else jnp.zeros(())


@dataclasses.dataclass(frozen=True)
class LpipsDistance:
    """LPIPS at the image's own size."""

    NAME: ClassVar[str] = "lpips"
    READS: ClassVar[Reads] = ()
    weight: float = 1.0
    network: LpipsKind = "alex"

    def load(self, dtype: Any = None) -> Lpips:
        """The frozen network."""
        return load_lpips(self.network, dtype)

    def __call__(self, forward: Forward, frozen: Frozen) -> jax.Array:
        distance: jax.Array = frozen[self.NAME](forward.prediction, forward.target).mean()
        return distance


@dataclasses.dataclass(frozen=True)
class PyramidL1:
    """Mean absolute difference, averaged over an image pyramid."""

    NAME: ClassVar[str] = "pyramid_l1"
    READS: ClassVar[Reads] = ()
    weight: float = 1.0
    scales: tuple[float, ...] = losses.SCALES

    def __call__(self, forward: Forward, frozen: Frozen) -> jax.Array:
        return losses.pyramid_l1(forward.prediction, forward.target, scales=self.scales)


@dataclasses.dataclass(frozen=True)
class Structural:
    """1 - SSIM."""

    NAME: ClassVar[str] = "structural"
    READS: ClassVar[Reads] = ()
    weight: float = 1.0

    def __call__(self, forward: Forward, frozen: Frozen) -> jax.Array:
        return 1 - image.ssim_map(forward.prediction, forward.target).mean()


@dataclasses.dataclass(frozen=True)
class FaceParts:
    """Mean absolute difference over lips, inside of the mouth and eyes, which are small but decide the expression."""

    NAME: ClassVar[str] = "face_parts"
    READS: ClassVar[Reads] = ("landmarks",)
    weight: float = 1.0

    def __call__(self, forward: Forward, frozen: Frozen) -> jax.Array:
        masks = face_part_masks(forward.batch["driving_landmarks"], forward.target.shape[1] // 2)
        weight = upsample_nearest(masks[..., 1:2] + masks[..., 3:4], (2, 2))  # lips with the mouth inside, and eyes
        return losses.weighted_l1(forward.prediction, forward.target, weight)


@dataclasses.dataclass(frozen=True)
class WarpedL1:
    """`PyramidL1` of the source warped by the dense flow, which may have little share in the prediction."""

    NAME: ClassVar[str] = "warped_l1"
    READS: ClassVar[Reads] = ("warped",)
    weight: float = 1.0
    scales: tuple[float, ...] = losses.SCALES

    def __call__(self, forward: Forward, frozen: Frozen) -> jax.Array:
        return losses.pyramid_l1(forward.outputs["warped"], forward.target, scales=self.scales)


def _at_points(maps: Float[Array, "n h w c"], points: Float[Array, "n k 2"]) -> Float[Array, "n k c"]:
    """Values of maps at points in [-1, 1]; anything for points of NaN."""
    return grid_sample_2d(maps, jnp.nan_to_num(points)[:, None], padding="border")[:, 0]


@dataclasses.dataclass(frozen=True)
class MeshFlow:
    """Distance of the dense flow at the driving face's landmarks from the displacement to the source's, in half frames:
    without it a motion network trained on few pairs moves a turning head too little."""

    NAME: ClassVar[str] = "mesh_flow"
    READS: ClassVar[Reads] = ("landmarks", "motion")
    weight: float = 20.0

    def __call__(self, forward: Forward, frozen: Frozen) -> jax.Array:
        source, driving = (widen(forward.batch[f"{name}_landmarks"])[..., :2] for name in ("source", "driving"))
        flow = forward.outputs["motion"].displacement
        return losses.known_l1(_at_points(flow, driving), source - driving)


@dataclasses.dataclass(frozen=True)
class TurnedFlow:
    """`MeshFlow` of sources turned at random (`FaceVid2VidConfig.turned`), at the landmarks that stay in view: the face
    mesh, turned as a rigid body, says where each of them goes."""

    NAME: ClassVar[str] = "turned_flow"
    READS: ClassVar[Reads] = ("landmarks", "turned")
    weight: float = 20.0

    def __call__(self, forward: Forward, frozen: Frozen) -> jax.Array:
        turned: TurnedSources = forward.outputs["turned"]
        source = widen(forward.batch["source_landmarks"])[..., :2]
        flow = _at_points(turned.motion.displacement, turned.landmarks)
        return losses.known_l1(flow, source - turned.landmarks)


@dataclasses.dataclass(frozen=True)
class TurnedShare:
    """What the warped source lacks to the whole picture at the landmarks in view of sources turned at random: no target
    shows large turns, and what a generator paints there is blurred. It doubles the cost of generation."""

    NAME: ClassVar[str] = "turned_share"
    READS: ClassVar[Reads] = ("landmarks", "turned", "turned_share")
    weight: float = 1.0

    def __call__(self, forward: Forward, frozen: Frozen) -> jax.Array:
        turned: TurnedSources = forward.outputs["turned"]
        whole = jnp.where(jnp.isfinite(turned.landmarks[..., :1]), 1.0, jnp.nan)
        return losses.known_l1(_at_points(turned.share, turned.landmarks), whole)


@dataclasses.dataclass(frozen=True)
class MouthOpening:
    """Distance of the mean of the audio encoder's first channel from the opening of the driving mouth, where there is
    sound and a face: a direct signal of what the audio is about."""

    NAME: ClassVar[str] = "mouth_opening"
    READS: ClassVar[Reads] = ("landmarks", "mouth_opening")
    weight: float = 1.0

    def __call__(self, forward: Forward, frozen: Frozen) -> jax.Array:
        estimate, opening, known = forward.outputs["mouth_opening"]
        return jnp.mean(jnp.abs(estimate - opening) * known)


@dataclasses.dataclass(frozen=True)
class KeypointSpread:
    """Penalty on pairs of keypoints whose squared distance is below `least` (face-vid2vid's keypoint prior loss)."""

    NAME: ClassVar[str] = "keypoint_spread"
    READS: ClassVar[Reads] = ("keypoints",)
    weight: float = 10.0
    least: float = 0.1

    def __call__(self, forward: Forward, frozen: Frozen) -> jax.Array:
        return losses.keypoint_spread(forward.driving.value, self.least)


@dataclasses.dataclass(frozen=True)
class EquivarianceValue:
    """Equivariance of keypoint positions under random warps (FOMM, section 3.3)."""

    NAME: ClassVar[str] = "equivariance_value"
    READS: ClassVar[Reads] = ("keypoints", "transformed")
    weight: float = 10.0

    def __call__(self, forward: Forward, frozen: Frozen) -> jax.Array:
        assert forward.warp is not None
        return losses.equivariance_value(forward.driving.value, forward.transformed.value, forward.warp)


@dataclasses.dataclass(frozen=True)
class EquivarianceJacobian:
    """Equivariance of keypoint Jacobians under random warps (FOMM, section 3.3)."""

    NAME: ClassVar[str] = "equivariance_jacobian"
    READS: ClassVar[Reads] = ("jacobians", "transformed")
    weight: float = 10.0

    def __call__(self, forward: Forward, frozen: Frozen) -> jax.Array:
        driving, moved = forward.driving, forward.transformed
        assert forward.warp is not None
        return losses.equivariance_jacobian(driving.jacobian, moved.jacobian, moved.value, forward.warp)


@dataclasses.dataclass(frozen=True)
class Adversarial:
    """The adversarial game: the generator's term, and the discriminator's own loss.

    Attributes:
      weight: of the generator's term; 0 trains no discriminator.
      kind: form of both; see `losses.gan_generator_loss`.
      discriminator_weight: of the discriminator's loss.
    """

    NAME: ClassVar[str] = "adversarial"
    READS: ClassVar[Reads] = ("judgement",)
    weight: float = 1.0
    kind: losses.GanKind = "least_squares"
    discriminator_weight: float = 1.0

    def __call__(self, judgement: Judgement) -> jax.Array:
        return losses.gan_generator_loss(judgement.fake_logits, self.kind)

    def discriminator(self, real_logits: Any, fake_logits: Any) -> jax.Array:
        """The discriminator's loss, weighted."""
        return self.discriminator_weight * losses.gan_discriminator_loss(real_logits, fake_logits, self.kind)


@dataclasses.dataclass(frozen=True)
class FeatureMatching:
    """L1 between the discriminator's feature maps of real and generated images, `weight` for each layer."""

    NAME: ClassVar[str] = "feature_matching"
    READS: ClassVar[Reads] = ("judgement",)
    weight: float = 10.0

    def __call__(self, judgement: Judgement) -> jax.Array:
        return losses.feature_matching(judgement.real_maps, judgement.fake_maps, (1.0,) * len(judgement.fake_maps))


ImageTerm = (
    Perceptual
    | FacePerceptual
    | PyramidL1
    | LpipsDistance
    | Structural
    | FaceParts
    | WarpedL1
    | MeshFlow
    | TurnedFlow
    | TurnedShare
    | MouthOpening
)
KeypointTerm = KeypointSpread | KeypointPrior | EquivarianceValue | EquivarianceJacobian
HeadTerm = Deformation | HeadPose | MeshKeypoints | MeshCanonical | MeshTranslation
DiscriminatorTerm = Adversarial | FeatureMatching
Term = ImageTerm | KeypointTerm | HeadTerm | DiscriminatorTerm

FOMM_TERMS: tuple[Term, ...] = (
    Perceptual(),
    Adversarial(),
    FeatureMatching(),
    EquivarianceValue(),
    EquivarianceJacobian(),
)
"""FOMM's losses with the weights of `vox-adv-256`."""

FACE_VID2VID_TERMS: tuple[Term, ...] = (
    Perceptual(10.0, layers=FACE_VID2VID_LAYERS),
    FacePerceptual(10.0),
    Adversarial(1.0, "hinge"),
    FeatureMatching(10.0),
    EquivarianceValue(20.0),
    KeypointPrior(10.0),
    HeadPose(20.0),
    Deformation(5.0),
)
"""face-vid2vid's losses with the paper's weights (appendix A.2); that of feature matching, for which it gives none, is
FOMM's."""
