"""Head pose and expression estimator (face-vid2vid, Wang et al. 2021, section 3.1 and appendix A): a residual network
with bottlenecks as Hopenet's (Ruiz et al. 2018), angles as expectations over bins of three degrees."""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from avfr_jax.nn.blocks import BottleneckBlock, SameBlock
from avfr_jax.nn.layers import Conv
from avfr_jax.ops.grids import pixel_grid
from avfr_jax.ops.heatmaps import soft_argmax, spatial_softmax
from avfr_jax.ops.precision import widen
from avfr_jax.ops.resize import antialias_downsample
from avfr_jax.ops.rotations import binned_angles
from avfr_jax.typing import Array, Float


@dataclasses.dataclass(frozen=True)
class HeadPoseConfig:
    """Settings of the estimator.

    Attributes:
      block_expansion: width of the first layer.
      max_features: width of the last of four stages; each is half as wide as the next.
      stage_blocks: residual blocks of each stage.
      num_bins: of each angle.
      scale_factor: the picture is downsampled by this first.
      positions: beside each channel's mean, the heads read its expected position under a softmax over the last feature
        map (Levine et al., "End-to-End Training of Deep Visuomotor Policies", 2016): a mean hardly tells where a head
        is, which takes long to learn.
    """

    block_expansion: int = 64
    max_features: int = 2048
    stage_blocks: tuple[int, ...] = (3, 4, 6, 3)
    num_bins: int = 66
    scale_factor: float = 1.0
    positions: bool = False


class HeadPose(NamedTuple):
    """Poses and expressions of N heads, float32.

    Attributes:
      angles: `[N, 3]` yaw, pitch and roll in degrees.
      translation: `[N, 3]` in the units of [-1, 1].
      expression: `[N, K, 3]` offsets of the keypoints.
      logits: `[N, 3, bins]` of the three angles.
    """

    angles: Any
    translation: Any
    expression: Any
    logits: Any


class HeadPoseEstimator(nn.Module):
    """Pictures -> head pose and expression.

    Attributes:
      config: settings.
      num_keypoints: K.
      spectral: spectral normalisation of every convolution.
    """

    config: HeadPoseConfig
    num_keypoints: int = 20
    spectral: bool = False
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, frames: Float[Array, "n h w c"], train: bool = False) -> HeadPose:
        """Estimate.

        Args:
          frames: in [0, 1].
          train: use and update the batch's own statistics.
        """
        c, shared = self.config, (self.axis_name, self.dtype, self.spectral)
        x = antialias_downsample(frames, c.scale_factor)
        x = SameBlock(c.block_expansion, 7, 2, *shared, strides=2, name="stem")(x, train)
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        stages = len(c.stage_blocks)
        for i, blocks in enumerate(c.stage_blocks):
            width = c.max_features >> (stages - 1 - i)
            x = SameBlock(width, 1, 2, *shared, name=f"widen_{i}")(x, train)
            for j in range(blocks):
                x = BottleneckBlock(width, 2 if i and not j else 1, *shared, name=f"stage_{i}_{j}")(x, train)
        x = widen(x)
        pooled = jnp.mean(x, axis=(1, 2))
        if c.positions:
            places = soft_argmax(spatial_softmax(x, 1.0), pixel_grid(*x.shape[1:3]))
            pooled = jnp.concatenate([pooled, places.reshape(len(x), -1)], axis=-1)
        x = pooled[:, None, None]

        def head(features: int, name: str) -> Array:
            return Conv(features, (1, 1), name=name)(x)[:, 0, 0]

        logits = jnp.stack([head(c.num_bins, name) for name in ("yaw", "pitch", "roll")], axis=1)
        expression = head(3 * self.num_keypoints, "expression").reshape(-1, self.num_keypoints, 3)
        return HeadPose(binned_angles(logits), head(3, "translation"), expression, logits)
