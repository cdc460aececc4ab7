"""First Order Motion Model (Siarohin et al. 2019): generator, configs and the model's pure functions.

The networks equal the reference program's (`modules/generator.py` and its neighbours) parameter for parameter, so that
its published checkpoints can be read; `avfr_jax.convert.fomm` holds the table of names.
"""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from avfr_jax.models.dense_motion import DenseMotion, DenseMotionConfig, Motion
from avfr_jax.models.discriminators import DiscriminatorConfig, MultiScaleDiscriminator
from avfr_jax.models.keypoints import KeypointDetector, KeypointDetectorConfig
from avfr_jax.motion import Keypoints, KeypointSpec
from avfr_jax.nn.blocks import DownBlock, ResBlock, SameBlock, UpBlock
from avfr_jax.nn.inference import prepare
from avfr_jax.nn.layers import Conv
from avfr_jax.ops.precision import widen
from avfr_jax.ops.resize import resize_linear
from avfr_jax.ops.sampling import grid_sample_2d
from avfr_jax.typing import Array, Float


@dataclasses.dataclass(frozen=True)
class GeneratorConfig:
    """Settings of the generator; the defaults are those of FOMM's `vox-256`.

    Attributes:
      block_expansion: width of the first layer.
      num_down_blocks: halvings before the features are warped.
      max_features: widest level.
      num_bottleneck_blocks: residual blocks after the warp.
      estimate_occlusion_map: multiply the warped features by an estimated occlusion map.
    """

    block_expansion: int = 64
    num_down_blocks: int = 2
    max_features: int = 512
    num_bottleneck_blocks: int = 6
    estimate_occlusion_map: bool = True


@dataclasses.dataclass(frozen=True)
class FommConfig:
    """A whole FOMM; the defaults are `vox-adv-256`.

    Attributes:
      image_size: side of the square frames in pixels.
      num_channels: of the generated image.
      num_keypoints: K.
      estimate_jacobian: a 2 × 2 Jacobian for each keypoint; False is the variant that sends positions only.
      align_corners: the sampling convention the weights were trained with. The published weights come from a time
        when PyTorch sampled with corners aligned (True); the reference program run today uses False.
    """

    image_size: int = 256
    num_channels: int = 3
    num_keypoints: int = 10
    estimate_jacobian: bool = True
    align_corners: bool = False
    keypoint_detector: KeypointDetectorConfig = KeypointDetectorConfig()
    dense_motion: DenseMotionConfig = DenseMotionConfig()
    generator: GeneratorConfig = GeneratorConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()

    @property
    def detector_channels(self) -> int:
        """Channels of the keypoint detector's input."""
        return self.num_channels


def vox_adv_256() -> FommConfig:
    """FOMM's `config/vox-adv-256.yaml`."""
    return FommConfig()


def vox_256() -> FommConfig:
    """FOMM's `config/vox-256.yaml`: no adversarial loss, so the discriminator has no effect; it has spectral
    normalisation and no keypoint input."""
    return FommConfig(discriminator=DiscriminatorConfig(use_keypoints=False, spectral=True))


def without_jacobian(config: FommConfig) -> FommConfig:
    """The variant with keypoint positions only (as used for video calls)."""
    return dataclasses.replace(config, estimate_jacobian=False)


def at_size(config: FommConfig, size: int) -> FommConfig:
    """The same networks for frames of another size: keypoints and motion stay at the resolution they had, because
    their `scale_factor` shrinks as the frame grows (0.125 at 512²)."""
    factor = config.image_size / size
    return dataclasses.replace(
        config,
        image_size=size,
        keypoint_detector=dataclasses.replace(
            config.keypoint_detector, scale_factor=config.keypoint_detector.scale_factor * factor
        ),
        dense_motion=dataclasses.replace(config.dense_motion, scale_factor=config.dense_motion.scale_factor * factor),
    )


class SourceFeatures(NamedTuple):
    """Features computed once a source.

    Attributes:
      image: `[N, H, W, C]` the source itself.
      small: `[N, h, w, C]` the source at the motion network's size.
      features: `[N, H/4, W/4, F]` the generator's encoded source.
    """

    image: Any
    small: Any
    features: Any


class Generated(NamedTuple):
    """The generator's output: `prediction [N, H, W, C]` in [0, 1], the `motion` behind it, and the features before
    (`bottleneck_in`) and after (`bottleneck_out`) the residual blocks."""

    prediction: Any
    motion: Motion
    bottleneck_in: Any
    bottleneck_out: Any


class Generator(nn.Module):
    """Occlusion-aware generator: encode the source, warp its features by the dense motion, decode."""

    config: FommConfig
    axis_name: str | None = None
    dtype: Any = None

    def setup(self) -> None:
        c, g = self.config, self.config.generator
        shared = {"axis_name": self.axis_name, "dtype": self.dtype}
        widths = [min(g.max_features, g.block_expansion * 2**i) for i in range(g.num_down_blocks + 1)]
        self.dense_motion_network = DenseMotion(
            c.dense_motion, g.estimate_occlusion_map, c.align_corners, num_keypoints=c.num_keypoints, **shared
        )
        self.first = SameBlock(g.block_expansion, 7, **shared)
        self.down_blocks = [DownBlock(w, **shared) for w in widths[1:]]
        self.bottleneck = [ResBlock(widths[-1], **shared) for _ in range(g.num_bottleneck_blocks)]
        self.up_blocks = [UpBlock(w, **shared) for w in widths[-2::-1]]
        self.final = Conv(c.num_channels, (7, 7), 3, dtype=self.dtype)

    def encode(self, source: Float[Array, "n h w c"], train: bool = False) -> SourceFeatures:
        """Everything that depends on the source alone."""
        x = self.first(source, train)
        for block in self.down_blocks:
            x = block(x, train)
        return SourceFeatures(source, self.dense_motion_network.shrink(source), x)

    def motion(self, encoded: SourceFeatures, source: Keypoints, driving: Keypoints, train: bool = False) -> Motion:
        """Dense motion and occlusion at the motion network's size."""
        return self.dense_motion_network(encoded.small, source, driving, train)

    def decode(self, encoded: SourceFeatures, motion: Motion, train: bool = False) -> Generated:
        """Warp the features, mask the occluded ones, and decode to an image."""
        return self.decode_features(self.move(encoded, motion), motion, train)

    def move(self, encoded: SourceFeatures, motion: Motion) -> Float[Array, "n h w f"]:
        """The source's features warped by the motion, the occluded ones masked."""
        x = self.deform(encoded.features, motion.deformation)
        if motion.occlusion_map is not None:
            x = x * resize_linear(motion.occlusion_map, x.shape[1:3]).astype(x.dtype)
        return x

    def decode_features(self, x: Float[Array, "n h w f"], motion: Motion, train: bool = False) -> Generated:
        """Decode warped features to frames."""
        before = x
        for block in self.bottleneck:
            x = block(x, train)
        after = x
        for up in self.up_blocks:
            x = up(x, train)
        prediction = nn.sigmoid(widen(self.final(x)))
        return Generated(prediction, motion, before, after)

    def deform(self, image: Float[Array, "m h w c"], flow: Float[Array, "n h2 w2 2"]) -> Float[Array, "n h w c"]:
        """Backward warp; the flow is resized to the image, and one image serves all N flows."""
        n, (h, w) = flow.shape[0], image.shape[1:3]
        flow = resize_linear(flow, (h, w))
        if image.shape[0] == 1 and n > 1:
            out = grid_sample_2d(image, flow.reshape(1, n, h, w, 2), align_corners=self.config.align_corners)
            return out.reshape(n, h, w, -1)
        return grid_sample_2d(image, flow, align_corners=self.config.align_corners)

    def __call__(
        self, source: Float[Array, "n h w c"], source_kp: Keypoints, driving_kp: Keypoints, train: bool = False
    ) -> Generated:
        """Source images in [0, 1] and both sets of keypoints -> N generated frames."""
        encoded = self.encode(source, train)
        return self.decode(encoded, self.motion(encoded, source_kp, driving_kp, train), train)


def keypoint_detector(config: FommConfig, *, axis_name: str | None = None, dtype: Any = None) -> KeypointDetector:
    """The detector a config describes."""
    return KeypointDetector(config.keypoint_detector, config.num_keypoints, config.estimate_jacobian, axis_name, dtype)


def generator(config: FommConfig, *, axis_name: str | None = None, dtype: Any = None) -> Generator:
    """The generator a config describes, its motion network inside."""
    return Generator(config, axis_name, dtype)


def discriminator(config: FommConfig, *, dtype: Any = None) -> MultiScaleDiscriminator:
    """The discriminator a config describes."""
    return MultiScaleDiscriminator(config.discriminator, dtype)


def example_inputs(config: FommConfig) -> tuple[Array, Array, Keypoints]:
    """Zeros of the shapes of the detector's and the generator's inputs: detector input, source, keypoints."""
    image = jnp.zeros((1, config.image_size, config.image_size, config.num_channels), jnp.float32)
    jacobian = jnp.broadcast_to(jnp.eye(2, dtype=jnp.float32), (1, config.num_keypoints, 2, 2))
    keypoints = Keypoints(
        jnp.zeros((1, config.num_keypoints, 2), jnp.float32), jacobian if config.estimate_jacobian else None
    )
    return jnp.zeros((*image.shape[:3], config.detector_channels), jnp.float32), image, keypoints


def init(config: FommConfig, key: Array) -> dict[str, Any]:
    """Random weights.

    Args:
      config: the model.
      key: a PRNG key.

    Returns:
      `{"keypoint_detector": …, "generator": …, "discriminator": …}`, each a dictionary of Flax collections (`params`,
      `batch_stats`, and `spectral` where a convolution is spectrally normalised).
    """
    return init_with(config, key, generator(config))


def init_with(config: FommConfig, key: Array, module: Generator) -> dict[str, Any]:
    """`init` with another generator of the same arguments."""
    keys = jax.random.split(key, 3)
    inputs, image, kp = example_inputs(config)
    return {
        "keypoint_detector": keypoint_detector(config).init(keys[0], inputs),
        "generator": module.init(keys[1], image, kp, kp),
        "discriminator": discriminator(config).init(keys[2], image, kp),
    }


def prepare_with(
    config: FommConfig, module: Generator, variables: Any, reduce_arithmetic: bool | None = None
) -> dict[str, Any]:
    """Variables of the detector and of a generator, folded and transformed by `nn.inference.prepare`."""
    inputs, image, kp = jax.eval_shape(lambda: example_inputs(config))
    networks = {"keypoint_detector": (keypoint_detector(config), inputs), "generator": (module, image, kp, kp)}
    return {
        name: prepare(network, variables[name], *examples, reduce_arithmetic=reduce_arithmetic)
        for name, (network, *examples) in networks.items()
    }


def motion_spec(config: FommConfig) -> KeypointSpec:
    """Layout of the keypoints that a config's detector gives."""
    return KeypointSpec(config.num_keypoints, config.estimate_jacobian)
