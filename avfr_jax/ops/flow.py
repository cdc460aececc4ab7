"""From keypoints to a dense backward flow, in two or three dimensions (FOMM, Siarohin et al. 2019, eqs. 4–8)."""

import jax.numpy as jnp

from avfr_jax.ops.matrices import small_inverse
from avfr_jax.ops.precision import widen
from avfr_jax.ops.sampling import grid_sample_2d, grid_sample_3d
from avfr_jax.typing import Array, Float


def sparse_motions(
    source: Float[Array, "m k d"],
    driving: Float[Array, "n k d"],
    grid: Float[Array, "*space d"],
    source_jacobian: Float[Array, "m k d d"] | None = None,
    driving_jacobian: Float[Array, "n k d d"] | None = None,
) -> Float[Array, "n k1 *space d"]:
    """The K + 1 candidate backward flows T(z) = J_s J_d⁻¹ (z - kp_d) + kp_s; the first is the identity (eq. 4).

    Args:
      source: keypoints of N frames, or of one that is broadcast.
      driving: keypoints of N frames.
      grid: where each driving position z lies; FOMM uses the corner grid.
      source_jacobian: J_s; both Jacobians or none.
      driving_jacobian: J_d.

    Returns:
      For each driving position, the corresponding position in the source.
    """
    n, k, d = driving.shape
    space = grid.shape[:-1]
    spread = (1,) * len(space)
    offset = grid[None, None] - driving.reshape(n, k, *spread, d)
    if driving_jacobian is not None and source_jacobian is not None:
        local = jnp.matmul(jnp.broadcast_to(source_jacobian, driving_jacobian.shape), small_inverse(driving_jacobian))
        offset = jnp.einsum("nkij,nkpj->nkpi", local, offset.reshape(n, k, -1, d)).reshape(offset.shape)
    moved = offset + source.reshape(-1, k, *spread, d)
    identity = jnp.broadcast_to(grid, (n, 1, *space, d))
    return jnp.concatenate([identity, moved], axis=1)


def warp_by_each(
    image: Float[Array, "m *space c"], motions: Float[Array, "n k *out d"], *, align_corners: bool = False
) -> Float[Array, "n k *out c"]:
    """An image, or a volume, warped by each of the K + 1 flows, in one gather. A single one serves all N frames."""
    sample = grid_sample_2d if motions.shape[-1] == 2 else grid_sample_3d
    n, k = motions.shape[:2]
    if image.shape[0] == 1 and n > 1:
        # One image for every frame: frames become rows of one long grid and the image is read in place.
        flat = motions.reshape(1, n * k, *motions.shape[2:])
        return sample(image, flat, align_corners=align_corners).reshape(*motions.shape[:-1], -1)
    return sample(image, motions, align_corners=align_corners)


def dense_flow(mask: Float[Array, "n *space k"], motions: Float[Array, "n k *space d"]) -> Float[Array, "n *space d"]:
    """The flows averaged under the masks, which sum to 1 over the K + 1 of them (eq. 8); float32."""
    n, k, *space, d = motions.shape
    flat = jnp.einsum("npk,nkpd->npd", widen(mask).reshape(n, -1, k), motions.reshape(n, k, -1, d))
    return flat.reshape(n, *space, d)
