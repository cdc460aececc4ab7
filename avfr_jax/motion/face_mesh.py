"""The face mesh as motion: landmarks, and the head pose and face shape that they decompose into."""

import dataclasses
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.landmarks import NUM_LANDMARKS, POSE_POINTS, POSE_SHAPE
from avfr_jax.motion.base import Component, Frames, Keep, MotionMode, MotionSpec
from avfr_jax.motion.keypoints import POSITION_SCALE
from avfr_jax.motion.openings import mouth_share, transfer_shape
from avfr_jax.motion.view import PoseChange, Turned, turned_rotation
from avfr_jax.typing import Array, Bool, Float

SKULL_CENTRE = np.array([0.0, 0.2, 1.1], np.float32)
"""Centre of the ellipsoid that stands for the skull, in the frame of `FaceMesh.shape`."""

SKULL_RADII = np.array([1.35, 1.75, 1.5], np.float32)
"""Its radii about that frame's axes."""


def skull_normals(shape: Float[np.ndarray | Array, "*n 3"]) -> Float[Array, "*n 3"]:
    """Outward unit normals at points of a head, in the frame of `FaceMesh.shape`; the skull counts as an ellipsoid."""
    normal = (shape - SKULL_CENTRE) / SKULL_RADII**2
    return normal / jnp.linalg.norm(normal, axis=-1, keepdims=True)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FaceMesh(Frames):
    """Face meshes of N frames under a weak-perspective camera: x = s R d + t for every landmark. A pytree; a frame
    without a face is NaN throughout.

    Attributes:
      landmarks: `[N, 478, 3]`, x and y in [-1, 1] by pixel centres, z in the units of x, growing away from the camera.
      rotation: `[N, 3, 3]` R.
      translation: `[N, 3]` (t_x, t_y, log s).
      shape: `[N, 478, 3]` d, the face in its own head's frame, where an average head measures 1.
    """

    landmarks: Any
    rotation: Any
    translation: Any
    shape: Any

    @property
    def positions(self) -> Any:
        """See `Motion.positions`: (x, y) of the landmarks."""
        return self.landmarks[..., :2]

    @classmethod
    def from_landmarks(cls, landmarks: Float[np.ndarray | Array, "n 478 3"]) -> "FaceMesh":
        """Decompose meshes into head pose and face shape: R and s are the least-squares fit (Umeyama, PAMI 1991) of an
        average head's rigid points to the mesh's.

        Args:
          landmarks: see `FaceMesh`; may be traced.

        Raises:
          ValueError: another shape.
        """
        if landmarks.ndim != 3 or landmarks.shape[1:] != (NUM_LANDMARKS, 3):
            raise ValueError(f"landmarks must be [N, {NUM_LANDMARKS}, 3], not {list(landmarks.shape)}")
        return _decompose(jnp.asarray(landmarks, jnp.float32))

    @classmethod
    def from_pose(
        cls,
        rotation: Float[Array, "n 3 3"],
        translation: Float[Array, "n 3"],
        shape: Float[Array, "n 478 3"],
    ) -> "FaceMesh":
        """The inverse of `from_landmarks`, but for a shift of z."""
        scale = jnp.exp(translation[:, 2])[:, None, None]
        turned = scale * jnp.einsum("nij,nkj->nki", rotation, shape)
        return cls(turned + translation.at[:, 2].set(0.0)[:, None], rotation, translation, shape)


@jax.jit
def _decompose(landmarks: Float[Array, "n 478 3"]) -> FaceMesh:
    model = jnp.asarray(POSE_SHAPE)
    centre_model = model.mean(0)
    rigid = landmarks[:, np.array(POSE_POINTS)]
    centre = rigid.mean(1)
    covariance = jnp.einsum("nki,kj->nij", rigid - centre[:, None], model - centre_model)
    u, singular, vt = jnp.linalg.svd(covariance)
    sign = jnp.stack([*[jnp.ones(len(landmarks), landmarks.dtype)] * 2, jnp.linalg.det(u) * jnp.linalg.det(vt)], -1)
    rotation = jnp.einsum("nij,nj,njk->nik", u, sign, vt)
    scale = (singular * sign).sum(-1) / ((model - centre_model) ** 2).sum()
    origin = centre - scale[:, None] * jnp.einsum("nij,j->ni", rotation, centre_model)
    shape = jnp.einsum("nij,nki->nkj", rotation, landmarks - origin[:, None]) / scale[:, None, None]
    translation = jnp.concatenate([origin[:, :2], jnp.log(scale)[:, None]], -1)
    return FaceMesh(landmarks, rotation, translation, shape)


@dataclasses.dataclass(frozen=True)
class FaceMeshSpec(MotionSpec):
    """Layout of `FaceMesh`: its landmarks; pose and shape follow from them."""

    keeps: ClassVar[tuple[Keep, ...]] = ("pose", "expression")

    @property
    def max_turn(self) -> float:
        """See `MotionSpec.max_turn`: what the warp of a picture bears. The far side of a face is not in it."""
        return 20.0

    @property
    def components(self) -> tuple[Component, ...]:
        """See `MotionSpec.components`; any model that the mesh drives can use it."""
        return (Component("mesh", (NUM_LANDMARKS, 3), "pixels at 256 × 256", POSITION_SCALE, model_specific=False),)

    def flatten(self, motion: FaceMesh) -> Float[Array, "n d"]:
        """See `MotionSpec.flatten`."""
        return jnp.asarray(motion.landmarks, jnp.float32).reshape(len(motion), -1)

    def unflatten(self, numbers: Any, source: Any = None) -> FaceMesh:
        """See `MotionSpec.unflatten`."""
        return FaceMesh.from_landmarks(self.split(numbers)["mesh"])

    def retarget(
        self,
        source: FaceMesh,
        driving: FaceMesh,
        initial: FaceMesh,
        *,
        mode: MotionMode = "relative",
        adapt_scale: bool = True,
        lids: Float[Array, "2"] | None = None,
    ) -> FaceMesh:
        """Head pose and expression transferred apart from each other; lips and lids as openings, so that the source's
        shut where the driver's do, whatever the reference frame (`motion.openings`).

        Args:
          source: one frame.
          driving: N frames.
          initial: one driving frame, the one that corresponds to the source picture (usually the first).
          mode: `absolute`: the driving head's pose and place in the frame; `relative`: the source's, changed as the
            driving head's has changed since `initial`.
          adapt_scale: absolute: keep the source's facial proportions and add only the driving expression; without it
            the driving landmarks are taken as they are, proportions included. Relative: measure the head's
            translation in head sizes, so that a small driving head moves a large one further.
          lids: see `MotionSpec.retarget`.

        Returns:
          N frames. With `relative` and driving == initial they are the source's, up to rounding, but for lips and lids.

        Raises:
          ValueError: unknown mode.
        """
        if mode not in ("absolute", "relative"):
            raise ValueError(f"mode must be absolute or relative, not {mode!r}")
        if mode == "absolute" and not adapt_scale:
            return driving
        return _retarget(source, driving, initial, lids, mode == "relative", adapt_scale)

    def keep(self, part: Keep, source: FaceMesh, moved: FaceMesh, *, speaking: bool = False) -> FaceMesh:
        """See `MotionSpec.keep`: the pose is rotation, place and size, the expression is the face's shape, of which
        lips and jaw are the mouth."""
        if part not in self.keeps:
            raise ValueError(f"part must be one of {', '.join(self.keeps)}, not {part!r}")
        return _keep(source, moved, part == "pose", speaking)

    def head_rotation(self, motion: FaceMesh) -> Float[Array, "n 3 3"]:
        """See `MotionSpec.head_rotation`."""
        return jnp.asarray(motion.rotation)

    def _turned(
        self, source: FaceMesh, moved: FaceMesh, rest: FaceMesh, change: PoseChange, limit: Any, absolute: bool
    ) -> Turned:
        """See `MotionSpec.turn`: the mesh turns about the centre of the skull, which stays in its place."""
        return Turned(*_turn(source, moved, rest, change, limit, absolute))


@partial(jax.jit, static_argnums=(4, 5))
def _retarget(
    source: FaceMesh,
    driving: FaceMesh,
    initial: FaceMesh,
    lids: Float[Array, "2"] | None,
    relative: bool,
    adapt: bool,
) -> FaceMesh:
    shape = transfer_shape(source.shape, driving.shape, initial.shape, lids)
    if not relative:
        return FaceMesh.from_pose(driving.rotation, driving.translation, shape)
    turn = jnp.einsum("nij,mkj->nik", driving.rotation, initial.rotation)
    rotation = jnp.einsum("nij,mjk->nik", turn, source.rotation)
    change = driving.translation - initial.translation
    if adapt:
        ratio = jnp.exp(source.translation[:, 2:] - initial.translation[:, 2:])
        change = jnp.concatenate([change[:, :2] * ratio, change[:, 2:]], -1)
    return FaceMesh.from_pose(rotation, source.translation + change, shape)


@partial(jax.jit, static_argnums=(2, 3))
def _keep(source: FaceMesh, moved: FaceMesh, pose: bool, speaking: bool) -> FaceMesh:
    if pose:
        frames = len(moved)
        rotation = jnp.broadcast_to(source.rotation, (frames, 3, 3))
        return FaceMesh.from_pose(rotation, jnp.broadcast_to(source.translation, (frames, 3)), moved.shape)
    share = jnp.asarray(mouth_share()) if speaking else 0.0
    return FaceMesh.from_pose(moved.rotation, moved.translation, source.shape + share * (moved.shape - source.shape))


def skull_centre(mesh: FaceMesh) -> Float[Array, "n 2"]:
    """Where the centre of the skull lies in the image, (x, y) in [-1, 1]."""
    scale = jnp.exp(mesh.translation[:, 2:])
    return mesh.translation[:, :2] + scale * jnp.einsum("nij,j->ni", mesh.rotation, SKULL_CENTRE)[:, :2]


@partial(jax.jit, static_argnums=5)
def _turn(
    source: FaceMesh, moved: FaceMesh, rest: FaceMesh, change: PoseChange, limit: Any, absolute: bool
) -> tuple[FaceMesh, Bool[Array, " n"]]:
    rotation, limited = turned_rotation(moved.rotation, source.rotation, change.rotation, limit, absolute)
    centre, size = skull_centre(moved), moved.translation[:, 2:]
    if change.translation is not None:
        if absolute:
            centre, size = (
                jnp.broadcast_to(skull_centre(rest), centre.shape),
                jnp.broadcast_to(rest.translation[:, 2:], size.shape),
            )
        centre, size = centre + change.translation[:2], size + jnp.log(change.translation[2])
    place = centre - jnp.exp(size) * jnp.einsum("nij,j->ni", rotation, SKULL_CENTRE)[:, :2]
    return FaceMesh.from_pose(rotation, jnp.concatenate([place, size], -1), moved.shape), limited
