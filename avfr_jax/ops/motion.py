"""From keypoints to a dense backward flow (FOMM, Siarohin et al. 2019, eqs. 4–8)."""

import jax.numpy as jnp

from avfr_jax.ops.keypoints import Keypoints, gaussian_heatmaps, inverse_2x2
from avfr_jax.ops.precision import widen
from avfr_jax.ops.sampling import grid_sample_2d
from avfr_jax.typing import Array, Float


def heatmap_difference(
    source: Keypoints, driving: Keypoints, grid: Float[Array, "h w 2"], variance: float = 0.01
) -> Float[Array, "n h w k"]:
    """Driving minus source heatmaps, with an all-zero map for the background in front: K + 1 maps (eq. 6)."""
    difference = gaussian_heatmaps(driving.value, grid, variance) - gaussian_heatmaps(source.value, grid, variance)
    return jnp.pad(difference, ((0, 0), (0, 0), (0, 0), (1, 0)))


def sparse_motions(source: Keypoints, driving: Keypoints, grid: Float[Array, "h w 2"]) -> Float[Array, "n k h w 2"]:
    """The K + 1 candidate backward flows T(z) = J_s J_d⁻¹ (z - kp_d) + kp_s; the first is the identity (eq. 4).

    Args:
      source: N frames, or one that is broadcast.
      driving: N frames.
      grid: where each driving position z lies; FOMM uses the corner grid.

    Returns:
      `[N, K + 1, h, w, 2]`: for each driving position, where to look in the source.
    """
    n = driving.value.shape[0]
    h, w = grid.shape[:2]
    offset = grid[None, None] - driving.value[:, :, None, None, :]
    if driving.jacobian is not None:
        local = jnp.matmul(jnp.broadcast_to(source.jacobian, driving.jacobian.shape), inverse_2x2(driving.jacobian))
        offset = jnp.einsum("nkij,nkhwj->nkhwi", local, offset)
    moved = offset + source.value[:, :, None, None, :]
    identity = jnp.broadcast_to(grid, (n, 1, h, w, 2))
    return jnp.concatenate([identity, moved], axis=1)


def warp_by_each(
    image: Float[Array, "m h w c"], motions: Float[Array, "n k h w 2"], *, align_corners: bool = False
) -> Float[Array, "n k h w c"]:
    """The image warped by each of the K + 1 flows, in one gather. A single image serves all N frames."""
    n, k, h, w, _ = motions.shape
    if image.shape[0] == 1 and n > 1:
        # One image for every frame: frames become rows of one long grid and the image is read in place.
        flat = motions.reshape(1, n * k, h, w, 2)
        return grid_sample_2d(image, flat, align_corners=align_corners).reshape(n, k, h, w, -1)
    return grid_sample_2d(image, motions, align_corners=align_corners)


def dense_flow(mask: Float[Array, "n h w k"], motions: Float[Array, "n k h w 2"]) -> Float[Array, "n h w 2"]:
    """The flows averaged under the masks, which sum to 1 over the K + 1 of them (eq. 8); float32."""
    return jnp.einsum("nhwk,nkhwd->nhwd", widen(mask), motions)
