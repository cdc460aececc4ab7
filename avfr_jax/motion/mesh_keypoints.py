"""Learned keypoints beside the face mesh, the motion of `mesh-fomm`."""

import dataclasses
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from avfr_jax.motion.base import Component, Frames, Keep, MotionMode, MotionSpec
from avfr_jax.motion.face_mesh import FaceMesh, FaceMeshSpec, skull_centre
from avfr_jax.motion.keypoints import Keypoints, KeypointSpec, movement_scale, relative_motion
from avfr_jax.motion.view import PoseChange, Turned
from avfr_jax.ops.matrices import small_inverse
from avfr_jax.typing import Array, Float

_SKULL = 1.5  # radius in head units; a keypoint within it is the head's
_NECK = 2.4  # from there on shoulders and background, which stay
_SIDEWAYS = 0.1  # of a head seen nearly from the side, whose frontal plane has no inverse


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
    def max_turn(self) -> float:
        """See `MotionSpec.max_turn`."""
        return FaceMeshSpec().max_turn

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

    def head_rotation(self, motion: MeshKeypoints) -> Float[Array, "n 3 3"]:
        """See `MotionSpec.head_rotation`."""
        return FaceMeshSpec().head_rotation(motion.mesh)

    def _turned(
        self,
        source: MeshKeypoints,
        moved: MeshKeypoints,
        rest: MeshKeypoints,
        change: PoseChange,
        limit: Any,
        absolute: bool,
    ) -> Turned:
        """See `MotionSpec.turn`: the mesh as `FaceMesh`; learned keypoints on the head, hair included, move as the
        head's outline does, those of shoulders and background stay."""
        mesh, limited = FaceMeshSpec().turn(
            source.mesh, moved.mesh, change, absolute=absolute, rest=rest.mesh, limit=limit
        )
        return Turned(MeshKeypoints(_follow(moved.learned, moved.mesh, mesh), mesh), limited)


@jax.jit
def _follow(learned: Keypoints, before: FaceMesh, after: FaceMesh) -> Keypoints:
    """Keypoints moved with a head, and their Jacobians with the derivative of that motion.

    The motion is that of the head's frontal plane through the centre of the skull, where the outline of the hair is.
    The mesh moves what is in front of it; keypoints that do so too tear the hair.
    """
    size, moved_size = (jnp.exp(mesh.translation[:, 2]) for mesh in (before, after))
    plane = small_inverse(before.rotation[:, :2, :2], _SIDEWAYS)
    affine = (moved_size / size)[:, None, None] * after.rotation[:, :2, :2] @ plane
    centres = skull_centre(before), skull_centre(after)

    def frame(points: Array, *pose: Array) -> tuple[Array, Array]:
        one = partial(_on_head, affine=pose[0], centre=pose[1], moved_centre=pose[2], size=pose[3])
        return jax.vmap(one)(points), jax.vmap(jax.jacfwd(one))(points)

    value, change = jax.vmap(frame)(jnp.asarray(learned.value), affine, *centres, size)
    jacobian = learned.jacobian
    return Keypoints(value, None if jacobian is None else jnp.einsum("nkij,nkjl->nkil", change, jacobian))


def _on_head(point: Array, affine: Array, centre: Array, moved_centre: Array, size: Array) -> Float[Array, "2"]:
    """Where a point (x, y) goes: with the head up to its outline, less and less down the neck, not at all beyond."""
    moved = moved_centre + affine @ (point - centre)
    square = ((point - centre) ** 2).sum() / size**2
    radius = jnp.sqrt(jnp.maximum(square, _SKULL**2))  # the root of 0 has no derivative
    share = jnp.clip((_NECK - radius) / (_NECK - _SKULL), 0, 1)
    return point + share * (moved - point)
