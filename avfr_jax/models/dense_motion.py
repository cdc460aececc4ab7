"""Dense motion (FOMM, Siarohin et al. 2019, section 3.2; reference program `modules/dense_motion.py`)."""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from avfr_jax.motion import Keypoints
from avfr_jax.nn.blocks import Hourglass
from avfr_jax.nn.layers import Conv
from avfr_jax.ops.flow import dense_flow, sparse_motions, warp_by_each
from avfr_jax.ops.grids import corner_grid
from avfr_jax.ops.heatmaps import heatmap_difference
from avfr_jax.ops.precision import widen
from avfr_jax.ops.resize import antialias_downsample
from avfr_jax.typing import Array, Float


@dataclasses.dataclass(frozen=True)
class DenseMotionConfig:
    """Settings of the motion network; the defaults are those of FOMM's `vox-256`.

    Attributes:
      block_expansion: width of the hourglass before its first doubling.
      num_blocks: levels of the hourglass.
      max_features: widest level.
      scale_factor: motion is estimated at this fraction of the frame's size.
      keypoint_variance: of the Gaussian heatmaps.
    """

    block_expansion: int = 64
    num_blocks: int = 5
    max_features: int = 1024
    scale_factor: float = 0.25
    keypoint_variance: float = 0.01


class Motion(NamedTuple):
    """Estimated motion of N frames.

    Attributes:
      deformation: `[N, h, w, 2]` backward flow: for each driving position, the corresponding position in the source.
      occlusion_map: `[N, h, w, 1]` in [0, 1], 0 where the source is occluded; None if not estimated.
      mask: `[N, h, w, K + 1]` share of each candidate flow.
      sparse_deformed: `[N, K + 1, h, w, C]` the source warped by each candidate flow.
    """

    deformation: Any
    occlusion_map: Any
    mask: Any
    sparse_deformed: Any

    @property
    def displacement(self) -> Float[Array, "n h w 2"]:
        """`[N, h, w, 2]`: the flow relative to each position."""
        return self.deformation - corner_grid(*self.deformation.shape[1:3])


class DenseMotion(nn.Module):
    """Keypoints of source and driving + the source -> dense backward flow and occlusion."""

    config: DenseMotionConfig
    estimate_occlusion: bool = True
    align_corners: bool = False
    axis_name: str | None = None
    dtype: Any = None
    num_keypoints: int = 10

    def setup(self) -> None:
        c = self.config
        self.hourglass = Hourglass(c.block_expansion, c.num_blocks, c.max_features, 2, self.axis_name, self.dtype)
        self.mask = Conv(self.num_keypoints + 1, (7, 7), 3, dtype=self.dtype)
        if self.estimate_occlusion:
            self.occlusion = Conv(1, (7, 7), 3, dtype=self.dtype)

    def shrink(self, source: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
        """The source at the motion network's size."""
        return antialias_downsample(source, self.config.scale_factor)

    def __call__(
        self, small: Float[Array, "m h w c"], source: Keypoints, driving: Keypoints, train: bool = False
    ) -> Motion:
        """Estimate the motion.

        Args:
          small: the source at the network's size (`shrink`); one for all frames, or one a frame.
          source: keypoints of the source; one frame, or N.
          driving: keypoints of N frames.
          train: use and update the batch's own statistics.
        """
        n, (h, w) = driving.value.shape[0], small.shape[1:3]
        grid = corner_grid(h, w)
        motions = sparse_motions(source.value, driving.value, grid, source.jacobian, driving.jacobian)
        deformed = warp_by_each(small, motions, align_corners=self.align_corners)
        heat = heatmap_difference(source.value, driving.value, grid, self.config.keypoint_variance)
        # Interleaved a keypoint: one heatmap, then the channels of the warped image.
        inputs = jnp.concatenate([heat[..., None], jnp.moveaxis(deformed, 1, 3)], axis=-1)
        features = self.hourglass(inputs.reshape(n, h, w, -1), train)
        mask = jax.nn.softmax(widen(self.mask(features)), axis=-1)
        occlusion = nn.sigmoid(self.occlusion(features)) if self.estimate_occlusion else None
        return Motion(dense_flow(mask, motions), occlusion, mask, deformed)
