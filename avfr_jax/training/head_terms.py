"""Loss terms of face-vid2vid's heads (Wang et al. 2021, section 3.3 and appendix A.2), and of training them with the
face mesh. See `avfr_jax.training.terms`. None reads the generated images (`GENERATED`): with these terms alone the
generator is not run, and the detectors are trained by themselves at a fifth of the cost."""

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax import losses
from avfr_jax.backbones import hopenet
from avfr_jax.backbones.hopenet import PoseNetwork
from avfr_jax.backbones.weights import is_imported
from avfr_jax.landmarks import HEAD_KEYPOINTS, RIGID
from avfr_jax.ops.rotations import matrix_to_euler
from avfr_jax.training.forward import Forward, Frozen, Heads, Reads


@dataclasses.dataclass(frozen=True)
class KeypointPrior:
    """face-vid2vid's keypoint prior loss, of the driving frames' keypoints: a sum over pairs, with a prior of their
    mean depth (see `losses.keypoint_prior`).

    Attributes:
      weight: the paper's.
      least: squared distance below which a pair is penalised.
      depth: mean depth of the keypoints, from -1 (nearest to the camera) to 1.
    """

    NAME: ClassVar[str] = "keypoint_prior"
    GENERATED: ClassVar[bool] = False
    READS: ClassVar[Reads] = ("keypoints",)
    weight: float = 10.0
    least: float = 0.1
    depth: float = 0.33

    def __call__(self, forward: Forward, frozen: Frozen) -> jax.Array:
        return losses.keypoint_prior(forward.driving.value, least=self.least, depth=self.depth)


@dataclasses.dataclass(frozen=True)
class Deformation:
    """L1 norm of the driving frames' expression offsets (face-vid2vid's deformation prior loss)."""

    NAME: ClassVar[str] = "deformation"
    GENERATED: ClassVar[bool] = False
    READS: ClassVar[Reads] = ("heads",)
    weight: float = 5.0

    def __call__(self, forward: Forward, frozen: Frozen) -> jax.Array:
        return losses.deformation(forward.outputs["heads"].motion[1].expression)


@dataclasses.dataclass(frozen=True)
class HeadPose:
    """Difference of the estimated angles from those of a solver or a frozen network, in degrees (face-vid2vid's head
    pose loss).

    Attributes:
      weight: the paper's.
      target: `mesh`, the pose that `avfr_jax.faces.mesh_head` solves from the face mesh; `hopenet`, Hopenet's, as the
        paper; `auto`, Hopenet's where its weights have been imported, else the mesh's.
      frames: whose angles count: the driving frames', as in the paper, or those of both.
      as_published: take Hopenet's pitch as it is, as the unofficial program does. It grows upwards, but downwards in a
        rotation of the volume; without this the sign is changed.
    """

    NAME: ClassVar[str] = "head_pose"
    GENERATED: ClassVar[bool] = False
    weight: float = 20.0
    target: Literal["auto", "mesh", "hopenet"] = "auto"
    frames: Literal["driving", "both"] = "driving"
    as_published: bool = False

    @property
    def READS(self) -> Reads:
        """Landmarks too, unless the target is Hopenet's."""
        return ("heads",) if self.target == "hopenet" else ("heads", "landmarks")

    def load(self, dtype: Any = None) -> PoseNetwork:
        """Hopenet; one without weights where the target is the mesh's.

        Raises:
          MissingBackendError: `target` is `hopenet` and its weights are absent.
        """
        if self.target == "hopenet" or (self.target == "auto" and is_imported(hopenet.NAME)):
            return hopenet.load_hopenet(dtype)
        note = "head pose of the face mesh (perspective-n-point)"
        if self.target == "auto":
            note += f", not Hopenet's: {hopenet.SOURCE.advice}"
        return PoseNetwork(None, description=note)

    def __call__(self, forward: Forward, frozen: Frozen) -> jax.Array:
        heads: Heads = forward.outputs["heads"]
        which = (1,) if self.frames == "driving" else (0, 1)
        terms = [losses.head_pose(heads.angles[i], self._wanted(forward, frozen, i)) for i in which]
        return sum(terms, jnp.zeros(())) / len(terms)

    def _wanted(self, forward: Forward, frozen: Frozen, which: int) -> jax.Array:
        network: PoseNetwork = frozen[self.NAME]
        if network.variables is None:
            rotation = forward.outputs["heads"].meshes[which].rotation
            return jnp.stack(matrix_to_euler(rotation), axis=-1)
        angles = network(forward.batch[("source", "driving")[which]][..., :3])
        return angles if self.as_published else angles * jnp.asarray([1, -1, 1], angles.dtype)


@dataclasses.dataclass(frozen=True)
class MeshKeypoints:
    """Distance of the composed keypoints of both frames from points of the face mesh, in three dimensions. With
    `MeshCanonical`, `MeshTranslation` and `HeadPose` it makes keypoints out of real points of the face, which few
    clips alone do not. Needs no more keypoints than `landmarks.HEAD_KEYPOINTS` has points."""

    NAME: ClassVar[str] = "mesh_keypoints"
    GENERATED: ClassVar[bool] = False
    READS: ClassVar[Reads] = ("keypoints", "mesh_points", "landmarks")
    weight: float = 10.0

    def __call__(self, forward: Forward, frozen: Frozen) -> jax.Array:
        source, driving = forward.outputs["heads"].meshes
        value = losses.known_l1(forward.source.value, source.positions)
        return (value + losses.known_l1(forward.driving.value, driving.positions)) / 2


@dataclasses.dataclass(frozen=True)
class MeshCanonical:
    """Distance of the canonical keypoints from points of the source's face mesh, turned to the front. Only points that
    move with the skull count: the source's expression is no part of the canonical keypoints."""

    NAME: ClassVar[str] = "mesh_canonical"
    GENERATED: ClassVar[bool] = False
    READS: ClassVar[Reads] = ("mesh_points", "landmarks")
    weight: float = 10.0

    def __call__(self, forward: Forward, frozen: Frozen) -> jax.Array:
        heads: Heads = forward.outputs["heads"]
        assert heads.meshes is not None
        canonical = heads.motion[0].canonical
        rigid = np.array([i for i, point in enumerate(HEAD_KEYPOINTS[: canonical.shape[1]]) if point in RIGID])
        return losses.known_l1(canonical[:, rigid], heads.meshes[0].canonical[:, rigid])


@dataclasses.dataclass(frozen=True)
class MeshTranslation:
    """Distance of the translation of both frames from the face mesh's centre, at depth 0."""

    NAME: ClassVar[str] = "mesh_translation"
    GENERATED: ClassVar[bool] = False
    READS: ClassVar[Reads] = ("heads", "landmarks")
    weight: float = 10.0

    def __call__(self, forward: Forward, frozen: Frozen) -> jax.Array:
        heads: Heads = forward.outputs["heads"]
        assert heads.meshes is not None
        pairs = zip(heads.motion, heads.meshes, strict=True)
        return sum((losses.known_l1(a.translation, b.translation) / 2 for a, b in pairs), jnp.zeros(()))
