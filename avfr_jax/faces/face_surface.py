"""The average face's surface, laid through the keypoints of a head (`faces.mesh_head`), and its flow."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.spatial

from avfr_jax.faces.mesh_head import average_face
from avfr_jax.landmarks import FACE_OVAL, NUM_VERTICES
from avfr_jax.ops.grids import pixel_grid
from avfr_jax.ops.precision import widen
from avfr_jax.ops.rasterise import rasterise
from avfr_jax.ops.resize import resize_linear
from avfr_jax.ops.sampling import grid_sample_2d
from avfr_jax.typing import Array, Float, Int

LEAST_KEYPOINTS = 8
VERTICES = tuple(dict.fromkeys((*FACE_OVAL, *range(NUM_VERTICES))))
"""Landmarks that are the surface's vertices, the face's outline first."""

_AXIS = 1.0  # depth of the axis around which the face is unrolled, in root-mean-square radii of the face
_FINER = 4
_NEAR, _REACH = 0.1, 0.25  # half frames: over which an outline's values mix, and fade out


class FaceSurface(NamedTuple):
    """A triangle mesh whose vertices are linear in K keypoints.

    Attributes:
      weights: float32 `[V, K]`; rows sum to 1.
      triangles: `[T, 3]` indices of vertices.
    """

    weights: Float[np.ndarray, "v k"]
    triangles: Int[np.ndarray, "t 3"]


@functools.cache
def face_surface(points: tuple[int, ...]) -> FaceSurface:
    """The face mesh through keypoints, with neither eyes nor mouth left open.

    The vertices follow the keypoints by the smoothest interpolation of positions in space (biharmonic radial basis
    functions with an affine part), so that every affine motion of the keypoints, a rotation of the head among them,
    moves them all alike. Triangles are Delaunay's of the face unrolled around a vertical axis, which needs no table of
    mediapipe's.

    Args:
      points: the keypoints' landmarks.

    Raises:
      ValueError: fewer than 8, which say too little.
    """
    if len(points) < LEAST_KEYPOINTS:
        raise ValueError(f"a face's surface needs {LEAST_KEYPOINTS} keypoints or more, not {len(points)}")
    face = average_face()
    face = face / np.sqrt((face**2).sum(1).mean())
    vertices = face[list(VERTICES)]
    around = np.arctan2(vertices[:, 0], _AXIS - vertices[:, 2])
    unrolled = np.stack([around * np.hypot(vertices[:, 0], _AXIS - vertices[:, 2]).mean(), vertices[:, 1]], axis=1)
    weights = _interpolation(face[list(points)], vertices)
    return FaceSurface(weights.astype(np.float32), scipy.spatial.Delaunay(unrolled).simplices)


def _interpolation(known: Float[np.ndarray, "k 3"], wanted: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "v k"]:
    """Matrix from values at known positions to those at others."""

    def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.linalg.norm(a[:, None] - b[None], axis=-1)

    k = len(known)
    affine = np.concatenate([np.ones((k, 1)), known], axis=1)
    system = np.block([[distance(known, known), affine], [affine.T, np.zeros((4, 4))]])
    basis = np.concatenate([distance(wanted, known), np.ones((len(wanted), 1)), wanted], axis=1)
    return np.linalg.solve(system.T, basis.T).T[:, :k]


def with_face(
    displacement: Float[Array, "n h w 2"],
    source: Float[Array, "m k 3"],
    driving: Float[Array, "n k 3"],
    points: tuple[int, ...],
    size: int,
) -> Float[Array, "n s s 2"]:
    """A displacement from driving frames to source frames, on the face that of the face's surface.

    Around the face the given displacement is corrected so that it continues that of the outline: what stands beside
    the far cheek of a turned head is what stands beside the source's, not more of the cheek. The correction fades out
    with the distance from the face.

    Args:
      displacement: (x, y) in half frames.
      source, driving: keypoints (x, y, z) of the heads; one source, or N.
      points: the keypoints' landmarks.
      size: of the grid on which the face is rasterised. The result is four times as fine, with a smooth edge between
        face and surroundings, which are interpolated apart.
    """
    surface, grid = face_surface(points), pixel_grid(size, size)
    there, here = (jnp.einsum("vk,nkd->nvd", surface.weights, widen(x)) for x in (source, driving))
    moved = (there - here)[..., :2]
    face = rasterise(here, surface.triangles, moved, grid)
    outline = here[:, : len(FACE_OVAL), :2]
    lacking = moved[:, : len(FACE_OVAL)] - grid_sample_2d(displacement, outline[:, None], padding="border")[:, 0]
    around = resize_linear(displacement, (size, size)) + _continued(lacking, outline, grid)
    covered = face.covered[..., None].astype(jnp.float32)
    # The edge of the blurred cells is smooth, where that of the cells themselves has steps.
    share, finer = _summed(_summed(covered)) / 81, (_FINER * size,) * 2
    on_face, around, share = (resize_linear(x, finer) for x in (_grown(face.values, covered), around, share))
    return jnp.where(share > 0.5, on_face, around)


def _summed(x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Sums over 3 x 3 cells."""
    return jax.lax.reduce_window(x, np.float32(0), jax.lax.add, (1, 3, 3, 1), (1, 1, 1, 1), "SAME")


def _grown(values: Float[Array, "n h w c"], covered: Float[Array, "n h w 1"]) -> Float[Array, "n h w c"]:
    """Values of covered cells, and in the cells beside them the mean of their covered neighbours."""
    mean = _summed(values * covered) / jnp.maximum(_summed(covered), 1)
    return jnp.where(covered > 0, values, mean)


def _continued(
    values: Float[Array, "n v c"], places: Float[Array, "n v 2"], grid: Float[Array, "h w 2"]
) -> Float[Array, "n h w c"]:
    """Values at places, continued to all positions: those of the nearest, fading out with the distance from it."""
    distance = jnp.sum((grid[None, :, :, None] - places[:, None, None]) ** 2, axis=-1)
    shares = jax.nn.softmax(-distance / (2 * _NEAR**2), axis=-1)
    fading = jnp.exp(-distance.min(-1, keepdims=True) / (2 * _REACH**2))
    return fading * jnp.einsum("nhwv,nvc->nhwc", shares, values)
