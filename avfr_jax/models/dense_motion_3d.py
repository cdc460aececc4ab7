"""Motion field of a head in three dimensions (face-vid2vid, Wang et al. 2021, section 3.2, and its table 5's variant
with a motion field in two)."""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from avfr_jax.faces.face_surface import with_face
from avfr_jax.motion import HeadMotion
from avfr_jax.nn.blocks import Hourglass, SameBlock
from avfr_jax.nn.layers import Conv
from avfr_jax.ops.flow import warp_by_each
from avfr_jax.ops.grids import corner_grid, pixel_grid
from avfr_jax.ops.heatmaps import heatmap_difference
from avfr_jax.ops.precision import widen
from avfr_jax.ops.resize import average_pool
from avfr_jax.ops.volumes import to_image
from avfr_jax.typing import Array, Float


@dataclasses.dataclass(frozen=True)
class VolumeMotionConfig:
    """Settings of the motion network.

    Attributes:
      block_expansion: width of the hourglass before its first doubling.
      num_blocks: levels of the hourglass.
      max_features: widest level.
      compress: channels of the volume that is warped by every candidate flow.
      scale_factor: motion is estimated at this fraction of the feature volume's height and width.
      keypoint_variance: of the Gaussian heatmaps.
      kernel: side of the kernels that estimate the shares of the flows and the occlusion.
      surface: side of the grid on which the projected displacement of a face is that of its surface through the
        keypoints, which are points of the face mesh (`faces.face_surface`); 0 leaves it as it is estimated. Where a
        nose turns before a cheek the flow has an edge, which the cells of a coarse motion cannot hold: at 16 x 16 cells
        the best of them misses the tip of a nose turned by 30 degrees by a quarter of its displacement.
    """

    block_expansion: int = 32
    num_blocks: int = 5
    max_features: int = 1024
    compress: int = 4
    scale_factor: float = 1.0
    keypoint_variance: float = 0.01
    kernel: int = 7
    surface: int = 0


class VolumeMotion(NamedTuple):
    """Estimated motion of N frames.

    Attributes:
      deformation: `[N, D, h, w, 3]` backward flow, or `[N, h, w, 2]` of a motion field in two dimensions: for each
        driving position, the corresponding position in the source.
      occlusion_map: `[N, h, w, 1]` in [0, 1], 0 where the source is occluded; None if not estimated.
      mask: `[N, D, h, w, K + 1]` share of each candidate flow, the background's first.
      displacement: `[N, h, w, 2]` the flow relative to each position, projected onto the image; of four times
        `VolumeMotionConfig.surface` cells where there is one.
    """

    deformation: Any
    occlusion_map: Any
    mask: Any
    displacement: Any


class VolumeDenseMotion(nn.Module):
    """Heads of source and driving + the source's feature volume -> dense backward flow and occlusion.

    The K + 1 candidate flows are affine, `w_k(p) = J (p - x_d,k) + x_s,k` with one J = R_s R_d⁻¹ for all keypoints (a
    canonical Jacobian J_c cancels: (R_s J_c)(R_d J_c)⁻¹ = R_s R_d⁻¹), so neither they nor their weighted sum are ever
    laid out a keypoint: the composite flow is `m_0 p + (1 - m_0) J p + Σ m_k (x_s,k - J x_d,k)`.

    Peak memory: the hourglass's input, (K + 1)(compress + 1) channels, 21 MB a frame at 16 × 64 × 64 cells, K = 15 and
    float32, and its two widest layers; the warped volumes are made one candidate at a time from `compress` channels
    (gradients recompute each sampling from its flow), the feature volume itself is sampled once.

    Attributes:
      config: settings.
      num_keypoints: K.
      rotate: J is the relative rotation of the two heads; False: the identity.
      dims: 3, or 2 for features and keypoints without depth.
      estimate_occlusion: estimate the occlusion map.
      estimate_depth: learn which depth an image position shows, for the projection of the flow; otherwise each depth
        counts by the share of its flows that is not the background's.
      corners: ±1 are the centres of the outermost cells in the grid of positions (the unofficial program), not their
        edges.
      align_corners: the same of the sampling.
      points: landmarks of the face mesh that the keypoints are, for `VolumeMotionConfig.surface`.
    """

    config: VolumeMotionConfig
    num_keypoints: int = 20
    rotate: bool = True
    dims: int = 3
    estimate_occlusion: bool = True
    estimate_depth: bool = False
    corners: bool = False
    align_corners: bool = False
    spectral: bool = False
    axis_name: str | None = None
    dtype: Any = None
    points: tuple[int, ...] = ()

    def setup(self) -> None:
        c, shared = self.config, (self.axis_name, self.dtype, self.spectral)
        self.compressor = SameBlock(c.compress, 1, self.dims, *shared)
        self.hourglass = Hourglass(c.block_expansion, c.num_blocks, c.max_features, self.dims, *shared)
        inputs = (self.num_keypoints + 1) * (c.compress + 1)
        self.refine = SameBlock(c.block_expansion + inputs, 3, self.dims, *shared)
        self.mask = self._head(self.num_keypoints + 1, c.kernel, self.dims)
        if self.estimate_occlusion:
            self.occlusion = self._head(1, c.kernel, 2)
        if self.estimate_depth and self.dims == 3:
            self.depth = self._head(1, 3, 3)

    def _head(self, features: int, side: int, dims: int) -> Conv:
        return Conv(features, (side,) * dims, side // 2, spectral=self.spectral, dtype=self.dtype)

    def compress(self, volume: Float[Array, "m *space c"], train: bool = False) -> Float[Array, "m *space2 c2"]:
        """The volume that the candidate flows warp, at the network's size: a function of the source alone."""
        x, step = self.compressor(volume, train), round(1 / self.config.scale_factor)
        return x if step == 1 else average_pool(x, (1,) * (self.dims - 2) + (step, step))

    def __call__(
        self, compressed: Float[Array, "m *space c"], source: HeadMotion, driving: HeadMotion, train: bool = False
    ) -> VolumeMotion:
        """Estimate the motion.

        Args:
          compressed: from `compress`; one source for all frames, or one a frame.
          source: heads of the sources; one frame, or N.
          driving: heads of N frames, with the source's canonical keypoints. Where they state a count, the other
            keypoints have no heatmap, no warped volume and no share of the flow (appendix C.2).
          train: use and update the batch's own statistics.
        """
        space = compressed.shape[1:-1]
        grid = (corner_grid if self.corners else pixel_grid)(*space)
        moved, offsets = self._candidates(source, driving, grid)
        warped = self._warp_by_each(compressed, grid, moved, offsets)
        points = source.positions[..., : self.dims], driving.positions[..., : self.dims]
        heat = heatmap_difference(*points, grid, self.config.keypoint_variance)
        # Interleaved a keypoint: one heatmap, then the channels of the warped volume.
        inputs = jnp.concatenate([heat[..., None].astype(warped.dtype), warped], axis=-1)
        used = None
        if driving.count is not None:
            used = jnp.pad(driving.in_use, ((0, 0), (1, 0)), constant_values=True)  # the background always
            used = used.reshape(-1, *(1,) * self.dims, self.num_keypoints + 1)
            inputs = jnp.where(used[..., None], inputs, 0)
        features = self.refine(self.hourglass(inputs.reshape(*inputs.shape[:-2], -1), train), train)
        mask = jax.nn.softmax(widen(self.mask(features, train)), axis=-1, where=used)
        flow = mask[..., :1] * grid + (1 - mask[..., :1]) * moved
        flow = flow + jnp.einsum("n...k,nkd->n...d", mask[..., 1:], offsets)
        displacement = self._project(flow, grid, mask, features)
        if self.config.surface:
            heads = source.positions, driving.positions
            displacement = with_face(displacement, *heads, self.points, self.config.surface)
        return VolumeMotion(flow, self._occlusion(features, train), mask, displacement)

    def _candidates(
        self, source: HeadMotion, driving: HeadMotion, grid: Float[Array, "*space d"]
    ) -> tuple[Float[Array, "m *space d"], Float[Array, "n k d"]]:
        """J p for every position, and x_s,k - J x_d,k: keypoint k's flow is their sum."""
        dims = self.dims
        points, other = widen(source.positions)[..., :dims], widen(driving.positions)[..., :dims]
        if not self.rotate:
            return grid[None], points - other
        local = jnp.einsum("nij,nkj->nik", widen(source.rotation), widen(driving.rotation))[:, :dims, :dims]
        flat = jnp.einsum("nij,pj->npi", local, grid.reshape(-1, dims), precision="highest")
        offsets = points - jnp.einsum("nij,nkj->nki", local, other, precision="highest")
        return flat.reshape(-1, *grid.shape), offsets

    def _warp_by_each(self, volume: Array, grid: Array, moved: Array, offsets: Array) -> Any:
        """The volume warped by each of the K + 1 flows, one after the other: `[N, *space, K + 1, c]`."""
        n = offsets.shape[0]

        @jax.checkpoint
        def warp(offset: Float[Array, "n d"]) -> Any:
            flow = moved + offset.reshape(n, *(1,) * self.dims, self.dims)
            return warp_by_each(volume, flow[:, None], align_corners=self.align_corners)[:, 0]

        each = jax.lax.map(warp, jnp.moveaxis(offsets, 1, 0))
        still = volume
        if self.corners != self.align_corners:  # the grid's own positions are not the cells
            flow = jnp.broadcast_to(grid, (volume.shape[0], 1, *grid.shape))
            still = warp_by_each(volume, flow, align_corners=self.align_corners)[:, 0]
        still = jnp.broadcast_to(still, each.shape[1:])[None]
        return jnp.moveaxis(jnp.concatenate([still, each]), 0, -2)

    def _occlusion(self, features: Float[Array, "n *space c"], train: bool) -> Float[Array, "n h w 1"] | None:
        if not self.estimate_occlusion:
            return None
        image = to_image(features) if self.dims == 3 else features
        return nn.sigmoid(widen(self.occlusion(image, train)))

    def _project(self, flow: Array, grid: Array, mask: Array, features: Array) -> Float[Array, "n h w 2"]:
        """Displacement on the image: of three-dimensional flows the mean over depth, weighted by what is seen there."""
        displacement = (flow - grid)[..., :2]
        if self.dims == 2:
            return displacement
        if self.estimate_depth:
            share = jax.nn.softmax(widen(self.depth(features)), axis=1)
        else:
            share = 1 - mask[..., :1] + 1e-6
            share = share / jnp.sum(share, axis=1, keepdims=True)
        return jnp.sum(displacement * share, axis=1)
