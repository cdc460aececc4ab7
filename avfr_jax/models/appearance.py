"""Appearance feature extractor (face-vid2vid, Wang et al. 2021, section 3.1 and appendix A): a picture to a volume of
features."""

from typing import Any

import flax.linen as nn

from avfr_jax.nn.blocks import DownBlock, ResBlock, SameBlock, level_width
from avfr_jax.nn.layers import Conv
from avfr_jax.ops.volumes import to_volume
from avfr_jax.typing import Array, Float


class AppearanceExtractor(nn.Module):
    """Downsampling blocks, a 1 × 1 convolution to a volume, 3-D residual blocks.

    Attributes:
      block_expansion: width of the first layer.
      num_down_blocks: halvings.
      max_features: widest level.
      channels: C of the volume.
      depth: D of the volume.
      num_resblocks: residual blocks on the volume.
      kernel: side of the first layer's kernel.
      dims: 3; 2 leaves the features an image of C · D channels.
    """

    block_expansion: int
    num_down_blocks: int
    max_features: int
    channels: int
    depth: int
    num_resblocks: int
    kernel: int = 7
    dims: int = 3
    spectral: bool = False
    axis_name: str | None = None
    dtype: Any = None

    def setup(self) -> None:
        shared = (self.axis_name, self.dtype, self.spectral)
        self.first = SameBlock(self.block_expansion, self.kernel, 2, *shared)
        self.down_blocks = [
            DownBlock(level_width(self.block_expansion, i + 1, self.max_features), 3, 2, *shared)
            for i in range(self.num_down_blocks)
        ]
        self.second = Conv(self.channels * self.depth, (1, 1), spectral=self.spectral, dtype=self.dtype)
        width = self.channels if self.dims == 3 else self.channels * self.depth
        self.resblocks = [ResBlock(width, 3, self.dims, *shared) for _ in range(self.num_resblocks)]

    def __call__(self, source: Float[Array, "n h w c"], train: bool = False) -> Float[Array, "n *space f"]:
        """Pictures in [0, 1] -> `[N, D, h, w, C]`, or `[N, h, w, C · D]` with `dims=2`."""
        x = self.first(source, train)
        for down in self.down_blocks:
            x = down(x, train)
        x = self.second(x, train)
        if self.dims == 3:
            x = to_volume(x, self.depth)
        for block in self.resblocks:
            x = block(x, train)
        return x
