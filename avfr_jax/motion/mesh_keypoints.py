"""Learned keypoints beside the face mesh, the motion of `mesh-fomm`."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from avfr_jax.motion.base import Component, Frames, Keep, MotionMode, MotionSpec
from avfr_jax.motion.face_mesh import FaceMesh, FaceMeshSpec
from avfr_jax.motion.keypoints import Keypoints, KeypointSpec, movement_scale, relative_motion
from avfr_jax.typing import Array, Float


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MeshKeypoints(Frames):
    """Motion of N frames. A pytree.

    Attributes:
      learned: keypoints of a network, for the parts without a mesh: shoulders, hair, background.
      mesh: the face.
    """

    learned: Keypoints
    mesh: FaceMesh

    @property
    def positions(self) -> Any:
        """See `Motion.positions`: the learned keypoints."""
        return self.learned.value


@dataclasses.dataclass(frozen=True)
class MeshKeypointSpec(MotionSpec):
    """Layout of `MeshKeypoints`: the mesh, then the keypoints with their Jacobians.

    Attributes:
      num_keypoints: K.
    """

    keeps: ClassVar[tuple[Keep, ...]] = FaceMeshSpec.keeps
    num_keypoints: int

    @property
    def _keypoints(self) -> KeypointSpec:
        return KeypointSpec(self.num_keypoints)

    @property
    def components(self) -> tuple[Component, ...]:
        """See `MotionSpec.components`."""
        return (*FaceMeshSpec().components, *self._keypoints.components)

    def flatten(self, motion: MeshKeypoints) -> Float[Array, "n d"]:
        """See `MotionSpec.flatten`."""
        parts = [FaceMeshSpec().flatten(motion.mesh), self._keypoints.flatten(motion.learned)]
        return jnp.concatenate(parts, axis=1)

    def unflatten(self, numbers: Any, source: Any = None) -> MeshKeypoints:
        """See `MotionSpec.unflatten`."""
        self.split(numbers)
        mesh = FaceMeshSpec().size
        return MeshKeypoints(self._keypoints.unflatten(numbers[:, mesh:]), FaceMeshSpec().unflatten(numbers[:, :mesh]))

    def retarget(
        self,
        source: MeshKeypoints,
        driving: MeshKeypoints,
        initial: MeshKeypoints,
        *,
        mode: MotionMode = "relative",
        adapt_scale: bool = True,
        lids: Float[Array, "2"] | None = None,
    ) -> MeshKeypoints:
        """See `MotionSpec.retarget`: keypoints as FOMM's, scaled by the meshes' sizes; the mesh as `FaceMesh`."""
        mesh = FaceMeshSpec().retarget(
            source.mesh, driving.mesh, initial.mesh, mode=mode, adapt_scale=adapt_scale, lids=lids
        )
        if mode == "absolute":
            return MeshKeypoints(driving.learned, mesh)
        scale = movement_scale(source.mesh.landmarks, initial.mesh.landmarks) if adapt_scale else 1.0
        return MeshKeypoints(relative_motion(source.learned, driving.learned, initial.learned, scale), mesh)

    def keep(self, part: Keep, source: MeshKeypoints, moved: MeshKeypoints, *, speaking: bool = False) -> MeshKeypoints:
        """See `MotionSpec.keep`: the learned keypoints, of hair and shoulders, belong to the pose."""
        mesh = FaceMeshSpec().keep(part, source.mesh, moved.mesh, speaking=speaking)
        if part == "expression":
            return MeshKeypoints(moved.learned, mesh)
        still = jax.tree.map(lambda one: jnp.broadcast_to(one, (len(moved), *one.shape[1:])), source.learned)
        return MeshKeypoints(still, mesh)
