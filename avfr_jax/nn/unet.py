"""A 2-D convolutional encoder-decoder with skip connections from pictures to pictures (U-Net; Ronneberger et al. 2015),
made of FOMM's blocks."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from avfr_jax.errors import ConfigError
from avfr_jax.nn.blocks import Hourglass
from avfr_jax.nn.layers import Conv
from avfr_jax.ops.precision import widen
from avfr_jax.ops.resize import depth_to_space, space_to_depth
from avfr_jax.typing import Array, Float


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """Settings of the network.

    Attributes:
      block_expansion: width at the finest level; doubled by each halving.
      num_blocks: halvings.
      max_features: widest level.
      fold: squares of `fold` pixels a side become channels before the first layer and pixels again after the last: a
        quarter of the work at 2, for pictures without much detail of one pixel.
    """

    block_expansion: int = 32
    num_blocks: int = 4
    max_features: int = 256
    fold: int = 1

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) < 1:
                raise ConfigError(f"{field.name} of a U-Net must be at least 1, not {getattr(self, field.name)}.")


class UNet(nn.Module):
    """Pictures of any height and width -> maps of the same size, any real numbers; zero everywhere at first.

    Sizes that the halvings do not divide are filled up with border pixels and cut back.
    """

    config: UNetConfig
    channels: int
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], train: bool = False) -> Float[Array, "n h w channels"]:
        c, (h, w) = self.config, x.shape[1:3]
        unit = c.fold << c.num_blocks
        x = jnp.pad(x, ((0, 0), (0, -h % unit), (0, -w % unit), (0, 0)), "edge")
        body = Hourglass(
            c.block_expansion, c.num_blocks, c.max_features, axis_name=self.axis_name, dtype=self.dtype, name="body"
        )
        # The last layer starts at zero, so that an untrained network leaves unchanged what its output is added to.
        last = Conv(
            self.channels * c.fold**2, (3, 3), 1, kernel_init=nn.initializers.zeros, bias_init=nn.initializers.zeros,
            dtype=self.dtype, name="final",
        )  # fmt: skip
        y = widen(last(body(space_to_depth(x, c.fold), train)))
        return depth_to_space(y, c.fold)[:, :h, :w]
