"""Blocks that FOMM's networks are made of (Siarohin et al. 2019, supplementary A; reference program
`modules/util.py`). They work on images and, with `dims=3`, on volumes whose depth is kept."""

from typing import Any

import flax.linen as nn
import jax

from avfr_jax.nn.layers import BatchNorm, Conv
from avfr_jax.ops.resize import average_pool, upsample_nearest
from avfr_jax.typing import Array, Float


def _halving(dims: int) -> tuple[int, ...]:
    return (1,) * (dims - 2) + (2, 2)


class SameBlock(nn.Module):
    """Convolution, normalisation, ReLU at the same resolution.

    Attributes:
      features: output channels.
      kernel: side of the kernel.
      dims: 2 for images, 3 for volumes.
      axis_name: mesh axis of the batch statistics, see `BatchNorm`.
      dtype: of the computation.
      spectral: spectral normalisation of the convolution.
      strides: step of the convolution along every axis.
      slope: of the ReLU below zero.
    """

    features: int
    kernel: int = 3
    dims: int = 2
    axis_name: str | None = None
    dtype: Any = None
    spectral: bool = False
    strides: int = 1
    slope: float = 0.0

    def setup(self) -> None:
        self.conv = Conv(
            self.features, (self.kernel,) * self.dims, self.kernel // 2, self.strides, spectral=self.spectral,
            dtype=self.dtype,
        )  # fmt: skip
        self.norm = BatchNorm(self.axis_name)

    def __call__(self, x: Float[Array, "n *space c"], train: bool = False) -> Float[Array, "n *space2 features"]:
        x = self.norm(self.conv(x, train), train)
        return nn.leaky_relu(x, self.slope) if self.slope else nn.relu(x)


class DownBlock(SameBlock):
    """Convolution, normalisation, ReLU, then 2 × 2 average pooling."""

    def __call__(self, x: Float[Array, "n *space c"], train: bool = False) -> Float[Array, "n *space2 features"]:
        return average_pool(super().__call__(x, train), _halving(self.dims))


class UpBlock(SameBlock):
    """Nearest-neighbour upsampling by 2, then convolution, normalisation, ReLU."""

    def setup(self) -> None:
        size, pad = (self.kernel,) * self.dims, self.kernel // 2
        self.conv = Conv(
            self.features, size, pad, spectral=self.spectral, upsample=2 if self._in_one else 1, dtype=self.dtype
        )  # fmt: skip
        self.norm = BatchNorm(self.axis_name)

    @property
    def _in_one(self) -> bool:
        return self.kernel == 3

    def __call__(self, x: Float[Array, "n *space c"], train: bool = False) -> Float[Array, "n *space2 features"]:
        return super().__call__(x if self._in_one else upsample_nearest(x, _halving(self.dims)), train)


class ResBlock(nn.Module):
    """Pre-activation residual block: twice normalisation, ReLU, convolution; nothing after the sum."""

    features: int
    kernel: int = 3
    dims: int = 2
    axis_name: str | None = None
    dtype: Any = None
    spectral: bool = False

    def setup(self) -> None:
        size, pad = (self.kernel,) * self.dims, self.kernel // 2
        self.norm1 = BatchNorm(self.axis_name)
        self.conv1 = Conv(self.features, size, pad, spectral=self.spectral, dtype=self.dtype)
        self.norm2 = BatchNorm(self.axis_name)
        self.conv2 = Conv(self.features, size, pad, spectral=self.spectral, dtype=self.dtype)

    def __call__(self, x: Float[Array, "n *space c"], train: bool = False) -> Float[Array, "n *space c"]:
        y = self.conv1(nn.relu(self.norm1(x, train)), train)
        return x + self.conv2(nn.relu(self.norm2(y, train)), train)


class BottleneckBlock(nn.Module):
    """Bottleneck of a residual network (He et al. 2016): 1 × 1 to a quarter of the width, 3 × 3, 1 × 1 back, each with
    normalisation; with a stride the shortcut is a strided 1 × 1 convolution with normalisation. ReLU after the sum."""

    features: int
    strides: int = 1
    axis_name: str | None = None
    dtype: Any = None
    spectral: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], train: bool = False) -> Float[Array, "n h2 w2 c"]:
        def conv(features: int, side: int, strides: int, name: str) -> Conv:
            return Conv(
                features, (side, side), side // 2, strides, spectral=self.spectral, dtype=self.dtype, name=name
            )  # fmt: skip

        def norm(name: str) -> BatchNorm:
            return BatchNorm(self.axis_name, name=name)

        y = nn.relu(norm("norm1")(conv(self.features // 4, 1, 1, "conv1")(x, train), train))
        y = nn.relu(norm("norm2")(conv(self.features // 4, 3, self.strides, "conv2")(y, train), train))
        y = norm("norm3")(conv(self.features, 1, 1, "conv3")(y, train), train)
        if self.strides != 1:
            x = norm("norm4")(conv(self.features, 1, self.strides, "skip")(x, train), train)
        return nn.relu(x + y)


def level_width(expansion: int, level: int, most: int) -> int:
    """Channels of a level of an encoder that doubles them: expansion · 2^level, at most `most`."""
    return min(most, expansion * 2**level)


class HourglassEncoder(nn.Module):
    """Down blocks of width expansion · 2, · 4, …, at most `max_features`; returns every level, the input first."""

    expansion: int
    num_blocks: int
    max_features: int
    dims: int = 2
    axis_name: str | None = None
    dtype: Any = None
    spectral: bool = False

    def setup(self) -> None:
        shared = (3, self.dims, self.axis_name, self.dtype, self.spectral)
        self.down_blocks = [
            DownBlock(level_width(self.expansion, i + 1, self.max_features), *shared) for i in range(self.num_blocks)
        ]

    def __call__(self, x: Float[Array, "n *space c"], train: bool = False) -> list[Any]:
        levels = [x]
        for block in self.down_blocks:
            levels.append(block(levels[-1], train))
        return levels


class HourglassDecoder(nn.Module):
    """Up blocks, each followed by concatenation with the encoder's level of the same size, the raw input included:
    `expansion + input channels` come out."""

    expansion: int
    num_blocks: int
    max_features: int
    dims: int = 2
    axis_name: str | None = None
    dtype: Any = None
    spectral: bool = False

    def setup(self) -> None:
        shared = (3, self.dims, self.axis_name, self.dtype, self.spectral)
        self.up_blocks = [
            UpBlock(level_width(self.expansion, i, self.max_features), *shared)
            for i in reversed(range(self.num_blocks))
        ]

    def __call__(self, levels: list[Any], train: bool = False) -> Any:
        x = levels[-1]
        for block, skip in zip(self.up_blocks, reversed(levels[:-1]), strict=True):
            x = jax.lax.concatenate([block(x, train), skip.astype(x.dtype)], dimension=x.ndim - 1)
        return x


class Hourglass(nn.Module):
    """Encoder and decoder with skip connections (Newell et al. 2016, as FOMM uses it)."""

    expansion: int
    num_blocks: int
    max_features: int
    dims: int = 2
    axis_name: str | None = None
    dtype: Any = None
    spectral: bool = False

    def setup(self) -> None:
        arguments = (
            self.expansion, self.num_blocks, self.max_features, self.dims, self.axis_name, self.dtype, self.spectral
        )  # fmt: skip
        self.encoder = HourglassEncoder(*arguments)
        self.decoder = HourglassDecoder(*arguments)

    def __call__(self, x: Float[Array, "n *space c"], train: bool = False) -> Float[Array, "n *space features"]:
        return self.decoder(self.encoder(x, train), train)
