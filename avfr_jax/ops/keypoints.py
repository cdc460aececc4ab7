"""Keypoints: what they are, how they are read off heatmaps and drawn as heatmaps, and how one face's motion is given
to another (FOMM, Siarohin et al. 2019, sections 3.1–3.3)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.ops.precision import widen
from avfr_jax.typing import Array, Float


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Keypoints:
    """Keypoints of N frames. A pytree: it passes through jit, vmap and grad.

    Attributes:
      value: `[N, K, 2]` (or `[N, K, 3]` for 3-D models), (x, y[, z]) in [-1, 1].
      jacobian: `[N, K, 2, 2]`, row-major local affine maps, or None.
      rotation: `[N, 3, 3]` head rotation, or None.
      translation: `[N, 3]` head translation, or None.
      deformation: `[N, K, 3]` expression offsets or the shape in the head's own frame, or None.
    """

    value: Any
    jacobian: Any = None
    rotation: Any = None
    translation: Any = None
    deformation: Any = None

    def __len__(self) -> int:
        return self.value.shape[0]

    def __getitem__(self, index: Any) -> "Keypoints":
        """Select frames; an integer keeps the frame axis, so that the result is Keypoints of one frame."""
        if isinstance(index, int | np.integer):
            index = slice(int(index), int(index) + 1 or None)
        return jax.tree.map(lambda x: x[index], self)


def concatenate(parts: list[Keypoints]) -> Keypoints:
    """Keypoints of several runs of frames as one, in order."""
    return jax.tree.map(lambda *x: jnp.concatenate(x), *parts)


def soft_argmax(heatmap: Float[Array, "n h w k"], grid: Float[Array, "h w 2"]) -> Float[Array, "n k 2"]:
    """Expected position under each heatmap.

    Args:
      heatmap: non-negative, each map sums to 1 over space.
      grid: the coordinates of the heatmap's cells.
    """
    return jnp.einsum("nhwk,hwd->nkd", heatmap, jnp.asarray(grid, heatmap.dtype))


def spatial_softmax(logits: Float[Array, "n h w k"], temperature: float) -> Float[Array, "n h w k"]:
    """Softmax over the positions of each map, computed in at least float32, returned in the logits' dtype."""
    n, h, w, k = logits.shape
    flat = widen(logits.reshape(n, h * w, k)) / temperature
    return jax.nn.softmax(flat, axis=1).reshape(n, h, w, k).astype(logits.dtype)


def gaussian_heatmaps(
    value: Float[Array, "n k 2"], grid: Float[Array, "h w 2"], variance: float = 0.01
) -> Float[Array, "n h w k"]:
    """exp(-|z - kp|² / (2 variance)) over the grid, one map a keypoint; peak 1 (FOMM eq. 6)."""
    difference = grid[None, :, :, None, :] - widen(value[:, None, None, :, :])
    return jnp.exp(-0.5 * jnp.sum(difference**2, axis=-1) / variance)


def inverse_2x2(matrix: Float[Array, "*batch 2 2"], epsilon: float = 1e-12) -> Float[Array, "*batch 2 2"]:
    """Closed-form inverse. A determinant nearer to zero than `epsilon` is moved to ±epsilon, so that neither the
    value nor the gradient becomes infinite; away from that the inverse is exact."""
    a, b = matrix[..., 0, 0], matrix[..., 0, 1]
    c, d = matrix[..., 1, 0], matrix[..., 1, 1]
    determinant = a * d - b * c
    small = jnp.abs(determinant) < epsilon
    determinant = jnp.where(small, jnp.where(determinant < 0, -epsilon, epsilon), determinant)
    rows = [jnp.stack([d, -b], axis=-1), jnp.stack([-c, a], axis=-1)]
    return jnp.stack(rows, axis=-2) / determinant[..., None, None]


def hull_area(value: Float[np.ndarray, "k 2"]) -> float:
    """Area of the convex hull of 2-D points (on the host). Points on one line have area 0."""
    from scipy.spatial import ConvexHull, QhullError

    try:
        return float(ConvexHull(np.asarray(value, np.float64)).volume)  # in 2-D Qhull's volume is the area
    except QhullError:
        return 0.0


def movement_scale(source: Keypoints, initial: Keypoints) -> float:
    """FOMM's adaptive scale: sqrt(hull area of the source) / sqrt(hull area of the first driving frame); 1 if either
    hull is empty. Computed on the host, once a clip."""
    ours = hull_area(np.asarray(source.value[0, :, :2]))
    theirs = hull_area(np.asarray(initial.value[0, :, :2]))
    return float(np.sqrt(ours) / np.sqrt(theirs)) if ours > 0 and theirs > 0 else 1.0


def relative_motion(
    source: Keypoints,
    driving: Keypoints,
    initial: Keypoints,
    scale: float | Array = 1.0,
    *,
    use_jacobian: bool = True,
) -> Keypoints:
    """Move the source's keypoints as the driving ones have moved since `initial` (FOMM, section 3.3).

    value = source + scale * (driving - initial); jacobian = driving · initial⁻¹ · source. The Jacobian is not scaled.

    Args:
      source: one frame.
      driving: N frames.
      initial: one frame, the driving pose that corresponds to the source's.
      scale: see `movement_scale`.
      use_jacobian: False keeps the driving Jacobians as they are.

    Returns:
      Keypoints of N frames.
    """
    value = (driving.value - initial.value) * scale + source.value
    jacobian = driving.jacobian
    if jacobian is not None and use_jacobian:
        change = jnp.einsum("nkij,nkjl->nkil", jacobian, inverse_2x2(initial.jacobian))
        jacobian = jnp.einsum("nkij,nkjl->nkil", change, jnp.broadcast_to(source.jacobian, change.shape))
    return Keypoints(value, jacobian)
