"""Generator (face-vid2vid, Wang et al. 2021, section 3.2 and appendix A): a warped feature volume to a picture, by
plain residual and upsampling blocks or by SPADE blocks (the unofficial program's better one)."""

import dataclasses
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from avfr_jax.models.dense_motion_3d import VolumeMotion
from avfr_jax.nn.blocks import ResBlock, SameBlock, UpBlock
from avfr_jax.nn.layers import Conv
from avfr_jax.nn.spade import SpadeResBlock
from avfr_jax.ops.grids import pixel_grid
from avfr_jax.ops.precision import widen
from avfr_jax.ops.resize import average_pool, resize_linear, upsample_nearest
from avfr_jax.ops.sampling import grid_sample_2d
from avfr_jax.ops.volumes import to_image
from avfr_jax.typing import Array, Float


@dataclasses.dataclass(frozen=True)
class VolumeGeneratorConfig:
    """Settings of appearance extractor and generator.

    Attributes:
      kind: decoder, `plain` or `spade`.
      block_expansion: width at full resolution.
      num_down_blocks: halvings before the features become a volume.
      max_features: widest level of the extractor.
      volume_channels: C of the feature volume.
      volume_depth: D of the feature volume.
      num_resblocks: residual blocks on the volume, and as many in the plain decoder.
      num_spade_blocks: SPADE blocks before the first upsampling.
      spade_hidden: width of the networks that compute gains and biases.
      estimate_occlusion_map: multiply the features by an estimated occlusion map.
      source_skip: mix the picture decoded with the source itself, warped at full resolution by the flow projected onto
        the image, so that the decoder need only paint what the source does not show.
      reduce: the networks see the source and paint at 1 / reduce of the frames' size; the warped source of
        `source_skip` alone has the whole size. Weights fit any value.
    """

    kind: Literal["plain", "spade"] = "plain"
    block_expansion: int = 64
    num_down_blocks: int = 2
    max_features: int = 512
    volume_channels: int = 32
    volume_depth: int = 16
    num_resblocks: int = 6
    num_spade_blocks: int = 6
    spade_hidden: int = 128
    estimate_occlusion_map: bool = True
    source_skip: bool = False
    reduce: int = 1

    @property
    def decoder_width(self) -> int:
        """Channels of the warped features after their projection to the image plane."""
        return self.block_expansion * 2**self.num_down_blocks


class Projection(nn.Module):
    """A warped volume to features on the image plane, masked where the source is occluded."""

    features: int
    spectral: bool = False
    axis_name: str | None = None
    dtype: Any = None

    def setup(self) -> None:
        self.third = SameBlock(self.features, 3, 2, self.axis_name, self.dtype, self.spectral, slope=0.01)
        self.fourth = Conv(self.features, (1, 1), spectral=self.spectral, dtype=self.dtype)

    def __call__(
        self, warped: Float[Array, "n *space c"], occlusion: Float[Array, "n h2 w2 1"] | None, train: bool = False
    ) -> Float[Array, "n h w features"]:
        image = to_image(warped) if warped.ndim == 5 else warped
        x = self.fourth(self.third(image, train), train)
        if occlusion is not None:
            x = x * resize_linear(occlusion, x.shape[1:3]).astype(x.dtype)
        return x


class PlainDecoder(nn.Module):
    """Residual blocks, upsampling blocks: features -> features at full resolution."""

    config: VolumeGeneratorConfig
    spectral: bool = False
    axis_name: str | None = None
    dtype: Any = None

    def setup(self) -> None:
        c, shared = self.config, (self.axis_name, self.dtype, self.spectral)
        self.resblocks = [ResBlock(c.decoder_width, 3, 2, *shared) for _ in range(c.num_resblocks)]
        self.up_blocks = [UpBlock(c.decoder_width >> (i + 1), 3, 2, *shared) for i in range(c.num_down_blocks)]

    def __call__(self, x: Float[Array, "n h w c"], train: bool = False) -> Float[Array, "n h2 w2 c2"]:
        for block in (*self.resblocks, *self.up_blocks):
            x = block(x, train)
        return x


class SpadeDecoder(nn.Module):
    """SPADE residual blocks conditioned on the features themselves, with nearest-neighbour upsampling between the last
    ones. The convolutions of the blocks always have spectral normalisation."""

    config: VolumeGeneratorConfig
    spectral: bool = False
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, features: Float[Array, "n h w c"], train: bool = False) -> Float[Array, "n h2 w2 c2"]:
        c = self.config

        def block(width: int, name: str) -> SpadeResBlock:
            settings = (c.spade_hidden, "instance", True, self.axis_name, self.dtype, self.spectral)
            return SpadeResBlock(width, *settings, name=name)  # type: ignore[arg-type]

        width, shared = c.decoder_width, {"spectral": self.spectral, "dtype": self.dtype}
        x = Conv(2 * width, (3, 3), 1, **shared, name="fc")(features, train)
        for i in range(c.num_spade_blocks):
            x = block(2 * width, f"middle_{i}")(x, features, train)
        for i in range(c.num_down_blocks):
            last = i == c.num_down_blocks - 1
            x = upsample_nearest(x, (2, 2))
            x = block(c.block_expansion if last else width >> i, f"up_{i}")(x, features, train)
        return nn.leaky_relu(x, 0.2)


def reduced(image: Float[Array, "n h w c"], factor: int) -> Float[Array, "n h2 w2 c"]:
    """Means over squares of `factor` pixels."""
    return image if factor == 1 else average_pool(image, (factor, factor))


class Painted(NamedTuple):
    """N pictures `[N, H, W, C]` in [0, 1]: the `prediction`; and where the source is mixed in, the source `warped` and
    its `share` `[N, H, W, 1]` in the prediction, else None."""

    prediction: Any
    warped: Any = None
    share: Any = None


class Painter(nn.Module):
    """Features at full resolution to colours, mixed with the warped source where that is wanted.

    Attributes:
      channels: of the picture.
      kernel: side of the kernel.
      source_skip: see `VolumeGeneratorConfig`; the source starts out with nine tenths of the picture.
    """

    channels: int
    kernel: int
    source_skip: bool = False
    spectral: bool = False
    dtype: Any = None

    def setup(self) -> None:
        size, pad = (self.kernel,) * 2, self.kernel // 2
        self.colours = Conv(self.channels, size, pad, spectral=self.spectral, dtype=self.dtype)
        if self.source_skip:
            bias = nn.initializers.constant(2.2)
            self.share = Conv(1, size, pad, spectral=self.spectral, bias_init=bias, dtype=self.dtype)

    def __call__(
        self, x: Float[Array, "n h w c"], source: Float[Array, "m h2 w2 c2"], motion: VolumeMotion, train: bool = False
    ) -> Painted:
        if not self.source_skip:
            return Painted(nn.sigmoid(widen(self.colours(x, train))))
        size = source.shape[1:3]
        flow = pixel_grid(*size) + resize_linear(motion.displacement, size)
        source = jnp.broadcast_to(source, (len(x), *source.shape[1:]))
        warped = grid_sample_2d(source, flow, padding="border")
        seen = reduced(warped, size[0] // x.shape[1])
        x = jnp.concatenate([x, seen.astype(x.dtype)], axis=-1)
        share = resize_linear(nn.sigmoid(widen(self.share(x, train))), size)
        colours = resize_linear(nn.sigmoid(widen(self.colours(x, train))), size)
        return Painted(share * warped + (1 - share) * colours, warped, share)
