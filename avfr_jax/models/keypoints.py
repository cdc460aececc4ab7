"""Keypoint detector (FOMM, Siarohin et al. 2019, section 3.1; reference program `modules/keypoint_detector.py`)."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from avfr_jax.motion import Keypoints
from avfr_jax.nn.blocks import Hourglass
from avfr_jax.nn.layers import Conv, WeightedConvSums
from avfr_jax.ops.grids import corner_grid
from avfr_jax.ops.heatmaps import soft_argmax, spatial_softmax
from avfr_jax.ops.precision import widen
from avfr_jax.ops.resize import antialias_downsample
from avfr_jax.typing import Array, Float


@dataclasses.dataclass(frozen=True)
class KeypointDetectorConfig:
    """Settings of the detector; the defaults are those of FOMM's `vox-256`.

    Attributes:
      block_expansion: width of the hourglass before its first doubling.
      num_blocks: levels of the hourglass.
      max_features: widest level.
      temperature: of the softmax over positions.
      scale_factor: the frame is downsampled by this first (0.25 at 256², 0.125 at 512²).
      single_jacobian_map: one Jacobian map shared by all keypoints.
      head_kernel: side of the heads' kernels.
      padding: of the heads; 0 leaves a heatmap `head_kernel - 1` cells smaller than the feature map.
    """

    block_expansion: int = 32
    num_blocks: int = 5
    max_features: int = 1024
    temperature: float = 0.1
    scale_factor: float = 0.25
    single_jacobian_map: bool = False
    head_kernel: int = 7
    padding: int = 0


def _identity_bias(key: Any, shape: tuple[int, ...]) -> Any:
    return jnp.asarray(np.tile([1.0, 0, 0, 1], shape[0] // 4), jnp.float32)


class KeypointDetector(nn.Module):
    """Frames -> K keypoints with, if wanted, a 2 × 2 Jacobian each.

    The grid of the soft-argmax spans [-1, 1] over the heatmap's cells, corners aligned, so that ±1 are the outermost
    *valid* cells, three pixels inside the feature map. That is FOMM's own convention, on which trained weights rely.
    """

    config: KeypointDetectorConfig
    num_keypoints: int = 10
    estimate_jacobian: bool = True
    axis_name: str | None = None
    dtype: Any = None

    def setup(self) -> None:
        c = self.config
        self.predictor = Hourglass(c.block_expansion, c.num_blocks, c.max_features, 2, self.axis_name, self.dtype)
        kernel = (c.head_kernel,) * 2
        self.kp = Conv(self.num_keypoints, kernel, c.padding, dtype=self.dtype)
        if self.estimate_jacobian:
            maps = 1 if c.single_jacobian_map else self.num_keypoints
            self.jacobian = WeightedConvSums(4, maps, kernel, c.padding, nn.initializers.zeros, _identity_bias)

    def features(self, frames: Float[Array, "n h w c"], train: bool = False) -> Float[Array, "n h2 w2 f"]:
        """The hourglass's feature map, at `scale_factor` of the frame's size."""
        return self.predictor(antialias_downsample(frames, self.config.scale_factor), train)

    def __call__(
        self, frames: Float[Array, "n h w c"], train: bool = False
    ) -> tuple[Keypoints, Float[Array, "n h2 w2 k"]]:
        """Detect.

        Args:
          frames: in [0, 1]; three channels of colour, and any further prior channels the network was built with.
          train: use and update the batch's own statistics.

        Returns:
          Keypoints of N frames (float32) and the heatmaps they were read from.
        """
        features = self.features(frames, train)
        heatmap = spatial_softmax(widen(self.kp(features)), self.config.temperature)
        value = soft_argmax(heatmap, corner_grid(*heatmap.shape[1:3]))
        if not self.estimate_jacobian:
            return Keypoints(value), heatmap
        jacobian = self.jacobian(features, heatmap)
        return Keypoints(value, jacobian.reshape(*jacobian.shape[:2], 2, 2)), heatmap
