"""Discriminators. FOMM's is pix2pix-like, optionally conditioned on the driving keypoints (reference program
`modules/discriminator.py`)."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from avfr_jax.motion import Keypoints
from avfr_jax.nn.layers import Conv, InstanceNorm
from avfr_jax.ops.grids import corner_grid
from avfr_jax.ops.heatmaps import gaussian_heatmaps
from avfr_jax.ops.resize import antialias_downsample, average_pool
from avfr_jax.typing import Array, Float


@dataclasses.dataclass(frozen=True)
class DiscriminatorConfig:
    """Settings of the discriminator; the defaults are those of FOMM's `vox-adv-256`.

    Attributes:
      block_expansion: width before the first doubling.
      num_blocks: convolution blocks.
      max_features: widest block.
      scales: image scales that get a discriminator each.
      use_keypoints: Gaussian heatmaps of the driving keypoints are further input channels.
      keypoint_variance: of those heatmaps.
      spectral: spectral normalisation of every convolution.
    """

    block_expansion: int = 32
    num_blocks: int = 4
    max_features: int = 512
    scales: tuple[float, ...] = (1.0,)
    use_keypoints: bool = True
    keypoint_variance: float = 0.01
    spectral: bool = False


def judgement_size(config: DiscriminatorConfig, side: int) -> int:
    """Side of the smallest map of logits for square pictures of `side` pixels; below 1 where they are too small."""
    side = round(side * min(config.scales))
    for i in range(config.num_blocks):
        side = (side - 3) // (2 if i < config.num_blocks - 1 else 1)
    return side


class DiscriminatorBlock(nn.Module):
    """4 × 4 convolution without padding, instance normalisation, leaky ReLU 0.2, 2 × 2 average pooling."""

    features: int
    norm: bool
    pool: bool
    spectral: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], train: bool = False) -> Float[Array, "n h2 w2 features"]:
        x = Conv(self.features, (4, 4), spectral=self.spectral, dtype=self.dtype, name="conv")(x, train)
        if self.norm:
            x = InstanceNorm(name="norm")(x)
        x = nn.leaky_relu(x, 0.2)
        return average_pool(x, (2, 2)) if self.pool else x


class Discriminator(nn.Module):
    """One scale: image -> feature maps of every block and a map of logits."""

    config: DiscriminatorConfig
    dtype: Any = None

    @nn.compact
    def __call__(
        self, image: Float[Array, "n h w c"], keypoints: Keypoints | None = None, train: bool = False
    ) -> tuple[list[Any], Float[Array, "n h2 w2 1"]]:
        c = self.config
        x = image
        if c.use_keypoints:
            if keypoints is None:
                raise ValueError("this discriminator needs keypoints; none were given")
            heat = gaussian_heatmaps(keypoints.value, corner_grid(*x.shape[1:3]), c.keypoint_variance)
            x = jnp.concatenate([x, heat.astype(x.dtype)], axis=-1)
        maps = []
        for i in range(c.num_blocks):
            width = min(c.max_features, c.block_expansion * 2 ** (i + 1))
            block = DiscriminatorBlock(
                width, i > 0, i < c.num_blocks - 1, c.spectral, self.dtype, name=f"down_blocks_{i}"
            )
            x = block(x, train)
            maps.append(x)
        logits = Conv(1, (1, 1), spectral=c.spectral, dtype=self.dtype, name="conv")(x, train)
        return maps, logits


def scale_name(scale: float) -> str:
    """The name of a scale in parameter trees: 1 -> `1`, 0.5 -> `0-5`, as in FOMM's checkpoints."""
    return f"{scale:g}".replace(".", "-")


class MultiScaleDiscriminator(nn.Module):
    """One discriminator a scale; the image is downsampled as FOMM's pyramid is."""

    config: DiscriminatorConfig
    dtype: Any = None

    @nn.compact
    def __call__(
        self, image: Float[Array, "n h w c"], keypoints: Keypoints | None = None, train: bool = False
    ) -> dict[str, tuple[list[Any], Any]]:
        """Logits of images in [0, 1].

        Returns:
          For each scale's name, the feature maps of its blocks (after pooling) and its map of logits.
        """
        out = {}
        for scale in self.config.scales:
            one = Discriminator(self.config, self.dtype, name=f"discs_{scale_name(scale)}")
            out[scale_name(scale)] = one(antialias_downsample(image, scale), keypoints, train)
        return out
