"""Heads of normalised face meshes, many at a time and in JAX: rotation, place and a few points in three dimensions, as
face-vid2vid's networks are trained to find them in pixels.

A head's frame is that of `landmarks.canonical_face`: x to the image's right, y down, z away from the camera. Volumes
whose depth axis a motion network samples have the same sign: depth -1 is nearest to the camera.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.landmarks import NUM_LANDMARKS, RIGID, canonical_face
from avfr_jax.motion import FaceMesh, HeadMotion
from avfr_jax.motion.face_mesh import skull_normals
from avfr_jax.ops.precision import widen
from avfr_jax.typing import Array, Float

FOCAL = 2.6
"""Focal length in sides of the frame. Crops around a face come from cameras further away than a focal length of one
side implies, which measures a fifth too little of every turn: turned by the relative rotation from one frame to another
(3,000 pairs of 100 clips), the mesh misses the other frame's by 2.0 px of 256 with 1, by 1.2 px with 2.6."""

DEPTH_SCALE = 1.2
"""Factor of the mesh's depth with which that distance is smallest."""

_LENS = 2 * FOCAL  # in the landmarks' units, in which the frame is 2 wide
_LEAST_FACING = 0.15  # cosine of the angle between a landmark's normal and the direction to the camera
_ITERATIONS = 10
_PARAMETERS = 6  # of a rotation and a translation


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MeshHead:
    """Heads of N frames as x = R x_c + t for every point; NaN throughout where there is no face. A pytree.

    Attributes:
      rotation: `[N, 3, 3]` R.
      translation: `[N, 3]` t: the centre of the points that move with the skull, at depth 0.
      positions: `[N, K, 3]` x: (x, y) of the landmarks in [-1, 1], z in their units from the centre, `DEPTH_SCALE`
        times the mesh's.
      points: the landmarks' indices.
    """

    rotation: Any
    translation: Any
    positions: Any
    points: tuple[int, ...] = dataclasses.field(metadata={"static": True})

    @property
    def canonical(self) -> Any:
        """`[N, K, 3]` x_c, expression included: the points of the head seen from the front, around its centre."""
        return jnp.einsum("nji,nkj->nki", self.rotation, self.positions - self.translation[:, None])

    def motion(self) -> HeadMotion:
        """The heads as canonical keypoints, rotation, translation and expression, whose composition (face-vid2vid, eq.
        1) is `positions`. Canonical keypoints that move with the skull are the person's own; the others, which the
        expression moves, are the average face's at the person's size.
        """
        own, rigid = self.canonical, np.isin(self.points, RIGID)
        average = average_face()[list(self.points)].astype(own.dtype)
        among = average[rigid]
        size = jnp.einsum("nkd,kd->n", own[:, rigid], among) / (among**2).sum()
        canonical = jnp.where(rigid[:, None], own, size[:, None, None] * average)
        turned = jnp.einsum("nij,nkj->nki", self.rotation, canonical)
        expression = self.positions - turned - self.translation[:, None]
        return HeadMotion(canonical, self.rotation, self.translation, expression)


def mesh_head(landmarks: Float[Array, "n 478 3"], points: tuple[int, ...]) -> MeshHead:
    """Heads of normalised landmarks, with the points of these indices."""
    landmarks = widen(landmarks)
    centre = landmarks[:, np.array(RIGID)].mean(1)
    depth = DEPTH_SCALE * (landmarks[:, np.array(points), 2] - centre[:, 2:])
    positions = jnp.concatenate([landmarks[:, np.array(points), :2], depth[..., None]], -1)
    return MeshHead(mesh_rotations(landmarks), centre * jnp.asarray([1, 1, 0], centre.dtype), positions, points)


def turned_landmarks(landmarks: Float[Array, "n 478 3"], rotation: Float[Array, "n 3 3"]) -> Float[Array, "n 478 2"]:
    """(x, y) of the landmarks after heads are turned about their centres, as `HeadMotion` turns its keypoints.

    Args:
      landmarks: normalised; NaN without a face.
      rotation: applied to heads as they are in the frames.

    Returns:
      NaN for landmarks that face away from the camera afterwards or leave the frame, and without a face.
    """
    head = mesh_head(landmarks, tuple(range(NUM_LANDMARKS)))
    centre = head.translation[:, None]
    turned = (jnp.einsum("nij,nkj->nki", rotation, head.positions - centre) + centre)[..., :2]
    facing = -jnp.einsum("nj,kj->nk", (rotation @ head.rotation)[:, 2], _normals())
    seen = (facing > _LEAST_FACING) & (jnp.abs(turned) < 1).all(-1)
    return jnp.where(seen[..., None], turned, jnp.nan)


@functools.cache
def _normals() -> np.ndarray:
    """Outward unit normals of the average face at its landmarks, in its own frame."""
    with jax.ensure_compile_time_eval():
        mesh = FaceMesh.from_landmarks(canonical_face()[None])
        return np.asarray(skull_normals(mesh.shape[0]) @ mesh.rotation[0].T)


def average_face() -> Float[np.ndarray, "478 3"]:
    """The average face around its centre, with the depth of `MeshHead.positions`."""
    face = canonical_face().astype(np.float64)
    return (face - face[list(RIGID)].mean(0)) * [1, 1, DEPTH_SCALE]


@functools.cache
def _model() -> np.ndarray:
    """The rigid points of the average face around their centre, with a root-mean-square distance of 1."""
    points = canonical_face()[list(RIGID)].astype(np.float64)
    points -= points.mean(0)
    return (points / np.sqrt((points**2).sum(1).mean())).astype(np.float32)


def _first_guess(rigid: Float[Array, "n k 3"]) -> Float[Array, "n 3 3"]:
    """Rotations whose first two rows are those of the least-squares affine map of the average face to the mesh, made
    orthonormal: without a singular value decomposition, which accelerators compute slowly."""
    points = _model().astype(np.float64)
    inverse = (points @ np.linalg.inv(points.T @ points)).astype(np.float32)
    affine = jnp.einsum("nki,kj->nij", rigid - rigid.mean(1, keepdims=True), jnp.asarray(inverse, rigid.dtype))
    right = _unit(affine[:, 0])
    down = _unit(affine[:, 1] - (affine[:, 1] * right).sum(-1, keepdims=True) * right)
    return jnp.stack([right, down, jnp.cross(right, down)], 1)


def _unit(vector: Float[Array, "n 3"]) -> Float[Array, "n 3"]:
    return vector / jnp.linalg.norm(vector, axis=-1, keepdims=True)


@jax.jit
def mesh_rotations(landmarks: Float[Array, "n 478 3"]) -> Float[Array, "n 3 3"]:
    """Rotations of heads from normalised landmarks of square frames: those of `faces.pose.head_pose` with a focal
    length of `FOCAL`, the least-squares solution of the perspective-n-point problem with its points and face, by Gauss
    and Newton's method from a weak-perspective fit. NaN where there is no face."""
    rigid = widen(landmarks)[:, np.array(RIGID)]
    seen, model = rigid[..., :2], jnp.asarray(_model(), rigid.dtype)
    rotation = _first_guess(rigid)
    spread = jnp.sqrt(((seen - seen.mean(1, keepdims=True)) ** 2).sum((1, 2)) / (model[:, :2] ** 2).sum())
    away = _LENS / spread[:, None]
    translation = jnp.concatenate([seen.mean(1) * away / _LENS, away], axis=1)

    def step(_: Any, pose: tuple[Array, Array]) -> tuple[Array, Array]:
        return _refined(model, seen, *pose)

    rotation, _ = jax.lax.fori_loop(0, _ITERATIONS, step, (rotation, translation))
    return rotation


def _refined(
    model: Float[Array, "k 3"], seen: Float[Array, "n k 2"], rotation: Float[Array, "n 3 3"], shift: Float[Array, "n 3"]
) -> tuple[Array, Array]:
    """One step towards the least squares of the projection's errors."""
    turned = jnp.einsum("nij,kj->nki", rotation, model)
    x, y, z = jnp.moveaxis(turned + shift[:, None], -1, 0)
    error = seen - _LENS * jnp.stack([x, y], -1) / z[..., None]
    nothing = jnp.zeros_like(z)
    by_place = _LENS / z[..., None, None] * jnp.stack(
        [jnp.stack([jnp.ones_like(z), nothing, -x / z], -1), jnp.stack([nothing, jnp.ones_like(z), -y / z], -1)], -2
    )  # fmt: skip
    # A small turn w moves a point p by w × p.
    by_turn = jnp.cross(turned[..., None, :], by_place)
    slope = jnp.concatenate([by_turn, by_place], -1)
    normal = jnp.einsum("nkri,nkrj->nij", slope, slope)
    change = _solved(normal, jnp.einsum("nkri,nkr->ni", slope, error))
    return _turn(change[:, :3]) @ rotation, shift + change[:, 3:]


def _solved(matrix: Float[Array, "n p p"], right: Float[Array, "n p"]) -> Float[Array, "n p"]:
    """Solutions of positive definite systems, by elimination: they are too small and too many for LAPACK."""
    rows = jnp.concatenate([matrix, right[..., None]], -1)
    for i in range(_PARAMETERS):
        row = rows[:, i] / rows[:, i, i, None]
        rows = (rows - rows[:, :, i, None] * row[:, None]).at[:, i].set(row)
    return rows[..., -1]


def _turn(vector: Float[Array, "n 3"]) -> Float[Array, "n 3 3"]:
    """Rotations about vectors by their lengths in radians (Rodrigues' formula)."""
    angle = jnp.sqrt((vector**2).sum(-1) + 1e-20)[:, None, None]
    x, y, z = jnp.moveaxis(vector, -1, 0)
    zero = jnp.zeros_like(x)
    cross = jnp.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3) / angle
    return jnp.eye(3, dtype=vector.dtype) + jnp.sin(angle) * cross + (1 - jnp.cos(angle)) * (cross @ cross)
