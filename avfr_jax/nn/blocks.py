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
    """Convolution, normalisation, ReLU at the same resolution."""

    features: int
    kernel: int = 3
    dims: int = 2
    axis_name: str | None = None
    dtype: Any = None

    def setup(self) -> None:
        self.conv = Conv(self.features, (self.kernel,) * self.dims, self.kernel // 2, dtype=self.dtype)
        self.norm = BatchNorm(self.axis_name)

    def __call__(self, x: Float[Array, "n *space c"], train: bool = False) -> Float[Array, "n *space2 features"]:
        return nn.relu(self.norm(self.conv(x), train))


class DownBlock(SameBlock):
    """Convolution, normalisation, ReLU, then 2 × 2 average pooling."""

    def __call__(self, x: Float[Array, "n *space c"], train: bool = False) -> Float[Array, "n *space2 features"]:
        return average_pool(super().__call__(x, train), _halving(self.dims))


class UpBlock(SameBlock):
    """Nearest-neighbour upsampling by 2, then convolution, normalisation, ReLU."""

    def setup(self) -> None:
        size, pad = (self.kernel,) * self.dims, self.kernel // 2
        self.conv = Conv(self.features, size, pad, upsample=self._in_one, dtype=self.dtype)
        self.norm = BatchNorm(self.axis_name)

    @property
    def _in_one(self) -> bool:
        return (self.dims, self.kernel) == (2, 3)

    def __call__(self, x: Float[Array, "n *space c"], train: bool = False) -> Float[Array, "n *space2 features"]:
        return super().__call__(x if self._in_one else upsample_nearest(x, _halving(self.dims)), train)


class ResBlock(nn.Module):
    """Pre-activation residual block: twice normalisation, ReLU, convolution; nothing after the sum."""

    features: int
    kernel: int = 3
    dims: int = 2
    axis_name: str | None = None
    dtype: Any = None

    def setup(self) -> None:
        size, pad = (self.kernel,) * self.dims, self.kernel // 2
        self.norm1 = BatchNorm(self.axis_name)
        self.conv1 = Conv(self.features, size, pad, dtype=self.dtype)
        self.norm2 = BatchNorm(self.axis_name)
        self.conv2 = Conv(self.features, size, pad, dtype=self.dtype)

    def __call__(self, x: Float[Array, "n *space c"], train: bool = False) -> Float[Array, "n *space c"]:
        y = self.conv1(nn.relu(self.norm1(x, train)))
        return x + self.conv2(nn.relu(self.norm2(y, train)))


def _width(expansion: int, level: int, most: int) -> int:
    return min(most, expansion * 2**level)


class HourglassEncoder(nn.Module):
    """Down blocks of width expansion · 2, · 4, …, at most `max_features`; returns every level, the input first."""

    expansion: int
    num_blocks: int
    max_features: int
    dims: int = 2
    axis_name: str | None = None
    dtype: Any = None

    def setup(self) -> None:
        self.down_blocks = [
            DownBlock(_width(self.expansion, i + 1, self.max_features), 3, self.dims, self.axis_name, self.dtype)
            for i in range(self.num_blocks)
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

    def setup(self) -> None:
        self.up_blocks = [
            UpBlock(_width(self.expansion, i, self.max_features), 3, self.dims, self.axis_name, self.dtype)
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

    def setup(self) -> None:
        arguments = (
            self.expansion, self.num_blocks, self.max_features, self.dims, self.axis_name, self.dtype
        )  # fmt: skip
        self.encoder = HourglassEncoder(*arguments)
        self.decoder = HourglassDecoder(*arguments)

    def __call__(self, x: Float[Array, "n *space c"], train: bool = False) -> Float[Array, "n *space features"]:
        return self.decoder(self.encoder(x, train), train)
