"""Spatially-adaptive normalisation (SPADE; Park et al., "Semantic Image Synthesis with Spatially-Adaptive
Normalization", 2019; reference program `models/networks/{normalization,architecture}.py`)."""

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp

from avfr_jax.nn.layers import BatchNorm, Conv, InstanceNorm
from avfr_jax.ops.resize import resize_nearest
from avfr_jax.typing import Array, Float

NormKind = Literal["batch", "instance"]


class Spade(nn.Module):
    """Normalisation without parameters, then a gain and a bias for every position, computed by a small network from a
    conditioning map.

    Attributes:
      hidden: width of that network.
      norm: statistics over the `batch` (synchronised, with running statistics) or `instance`.
      spectral: spectral normalisation of that network.
    """

    hidden: int = 128
    norm: NormKind = "batch"
    axis_name: str | None = None
    dtype: Any = None
    spectral: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], condition: Float[Array, "n h2 w2 d"], train: bool = False
    ) -> Float[Array, "n h w c"]:
        """Normalise and modulate.

        Args:
          x: features.
          condition: any size; resized to the features' by nearest neighbour.
          train: use and update the batch's own statistics.
        """

        def conv(features: int, name: str, upsample: int = 1) -> Conv:
            settings: dict[str, Any] = {"spectral": self.spectral, "upsample": upsample, "dtype": self.dtype}
            return Conv(features, (3, 3), 1, **settings, name=name)

        if self.norm == "batch":
            plain = BatchNorm(self.axis_name, affine=False, name="norm")(x, train)
        else:
            plain = InstanceNorm(affine=False, name="norm")(x)
        (h, w), (height, width) = condition.shape[1:3], x.shape[1:3]
        factor = height // h
        if (height, width) != (factor * h, factor * w):
            condition, factor = resize_nearest(condition, (height, width)), 1
        hidden = nn.relu(conv(self.hidden, "shared", factor)(condition, train))
        gain, bias = conv(x.shape[-1], "gain")(hidden, train), conv(x.shape[-1], "bias")(hidden, train)
        return plain * (1 + gain) + bias


class SpadeResBlock(nn.Module):
    """Residual block: twice SPADE, leaky ReLU 0.2, 3 × 3 convolution. Where the width changes, the shortcut is SPADE
    and a 1 × 1 convolution.

    Attributes:
      features: width of the output.
      hidden: of each `Spade`.
      norm: of each `Spade`.
      spectral: spectral normalisation of the convolutions.
      spectral_modulation: of each `Spade`'s own network too.
    """

    features: int
    hidden: int = 128
    norm: NormKind = "batch"
    spectral: bool = False
    axis_name: str | None = None
    dtype: Any = None
    spectral_modulation: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], condition: Float[Array, "n h2 w2 d"], train: bool = False
    ) -> Float[Array, "n h w features"]:
        """See `Spade.__call__`."""

        def spade(name: str) -> Spade:
            shared = (self.axis_name, self.dtype, self.spectral_modulation)
            return Spade(self.hidden, self.norm, *shared, name=name)

        def conv(features: int, side: int, name: str) -> Conv:
            return Conv(
                features,
                (side, side),
                side // 2,
                use_bias=side > 1,
                spectral=self.spectral,
                dtype=self.dtype,
                name=name,
            )

        middle = min(x.shape[-1], self.features)
        shortcut = x
        if x.shape[-1] != self.features:
            shortcut = conv(self.features, 1, "conv_shortcut")(spade("norm_shortcut")(x, condition, train), train)
        y = conv(middle, 3, "conv_0")(nn.leaky_relu(spade("norm_0")(x, condition, train), 0.2), train)
        y = conv(self.features, 3, "conv_1")(nn.leaky_relu(spade("norm_1")(y, condition, train), 0.2), train)
        return shortcut + jnp.asarray(y, shortcut.dtype)
