"""Canonical keypoint detector (face-vid2vid, Wang et al. 2021, section 3.1 and appendix A): K keypoints in three
dimensions of the neutral head seen from the front, from one picture."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from avfr_jax.motion import Keypoints
from avfr_jax.nn.blocks import DownBlock, UpBlock, level_width
from avfr_jax.nn.layers import Conv
from avfr_jax.ops.grids import corner_grid, pixel_grid
from avfr_jax.ops.heatmaps import soft_argmax, spatial_softmax
from avfr_jax.ops.precision import widen
from avfr_jax.ops.resize import antialias_downsample
from avfr_jax.ops.volumes import to_volume
from avfr_jax.typing import Array, Float


@dataclasses.dataclass(frozen=True)
class CanonicalDetectorConfig:
    """Settings of the detector.

    Attributes:
      block_expansion: width of the encoder before its first doubling.
      num_blocks: levels of the encoder and of the decoder.
      max_features: widest level.
      temperature: of the softmax over positions.
      scale_factor: the picture is downsampled by this first.
      depth: D, cells of the volume along z.
      head_kernel: side of the heads' kernels.
      single_jacobian_map: one Jacobian map shared by all keypoints.
    """

    block_expansion: int = 32
    num_blocks: int = 5
    max_features: int = 1024
    temperature: float = 0.1
    scale_factor: float = 0.25
    depth: int = 16
    head_kernel: int = 3
    single_jacobian_map: bool = False


def _identity_bias(key: Any, shape: tuple[int, ...]) -> Any:
    return jnp.asarray(np.tile(np.eye(3).ravel(), shape[0] // 9), jnp.float32)


class CanonicalDetector(nn.Module):
    """Pictures -> K keypoints (x, y, z) in [-1, 1] with, if wanted, a 3 × 3 Jacobian each.

    A 2-D encoder, a 1 × 1 convolution to a volume, a 3-D decoder without skip connections that enlarges height and
    width alone, and a soft-argmax over the volume's cells.

    Attributes:
      config: settings.
      num_keypoints: K.
      estimate_jacobian: whether there is a head for Jacobians.
      corners: ±1 are the centres of the outermost cells (the unofficial program), not their edges.
      spectral: spectral normalisation of every convolution.
    """

    config: CanonicalDetectorConfig
    num_keypoints: int = 20
    estimate_jacobian: bool = False
    corners: bool = False
    spectral: bool = False
    axis_name: str | None = None
    dtype: Any = None

    def setup(self) -> None:
        c = self.config
        shared = (self.axis_name, self.dtype, self.spectral)
        widths = [level_width(c.block_expansion, i, c.max_features) for i in range(c.num_blocks + 1)]
        self.down_blocks = [DownBlock(w, 3, 2, *shared) for w in widths[1:]]
        self.to_volume = Conv(widths[-1] * c.depth, (1, 1), spectral=self.spectral, dtype=self.dtype)
        self.up_blocks = [UpBlock(w, 3, 3, *shared) for w in widths[-2::-1]]
        kernel, pad = (c.head_kernel,) * 3, c.head_kernel // 2
        self.kp = Conv(self.num_keypoints, kernel, pad, spectral=self.spectral, dtype=self.dtype)
        if self.estimate_jacobian:
            maps = 1 if c.single_jacobian_map else self.num_keypoints
            self.jacobian = Conv(
                9 * maps, kernel, pad, kernel_init=nn.initializers.zeros, bias_init=_identity_bias, dtype=self.dtype
            )  # fmt: skip

    def features(self, frames: Float[Array, "n h w c"], train: bool = False) -> Float[Array, "n d h2 w2 f"]:
        """The decoder's volume, at `scale_factor` of the frame's height and width."""
        x = antialias_downsample(frames, self.config.scale_factor)
        for down in self.down_blocks:
            x = down(x, train)
        x = to_volume(self.to_volume(x, train), self.config.depth)
        for up in self.up_blocks:
            x = up(x, train)
        return x

    def heatmap(self, features: Float[Array, "n d h w f"], train: bool = False) -> Float[Array, "n d h w k"]:
        """A distribution over the volume's cells for each keypoint."""
        return spatial_softmax(widen(self.kp(features, train)), self.config.temperature)

    def positions(self, frames: Float[Array, "n h w c"], train: bool = False) -> Float[Array, "n k 3"]:
        """Keypoints alone, float32: all that animation needs, since the canonical Jacobians cancel in J_s J_d⁻¹."""
        return self._read(self.heatmap(self.features(frames, train), train))

    def _read(self, heatmap: Float[Array, "n d h w k"]) -> Float[Array, "n k 3"]:
        grid = corner_grid if self.corners else pixel_grid
        return soft_argmax(heatmap, grid(*heatmap.shape[1:4]))

    def __call__(
        self, frames: Float[Array, "n h w c"], train: bool = False
    ) -> tuple[Keypoints, Float[Array, "n d h2 w2 k"]]:
        """Detect.

        Args:
          frames: in [0, 1].
          train: use and update the batch's own statistics.

        Returns:
          Keypoints of N frames (float32), with Jacobians where they are estimated, and the heatmaps they were read
          from.
        """
        features = self.features(frames, train)
        heatmap = self.heatmap(features, train)
        value = self._read(heatmap)
        if not self.estimate_jacobian:
            return Keypoints(value), heatmap
        maps = widen(self.jacobian(features, train))
        n, k = value.shape[:2]
        maps = maps.reshape(n, -1, maps.shape[-1] // 9, 9)
        maps = jnp.broadcast_to(maps, (n, maps.shape[1], k, 9))
        jacobian = jnp.einsum("npk,npkj->nkj", heatmap.reshape(n, -1, k), maps)
        return Keypoints(value, jacobian.reshape(n, k, 3, 3)), heatmap
