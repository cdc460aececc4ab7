"""AVFR-GAN: audio-visual face reenactment (Agarwal, Mukhopadhyay, Namboodiri and Jawahar, 2023).

FOMM with three additions, each of which can be switched off: structural priors (the face's mesh and the person's mask)
as further input channels of the keypoint detector; the audio around the driving frame, as features beside the warped
source and as attention over it; and an identity-aware generator, a U-Net over the source of SPADE blocks, in the place
of FOMM's decoder. With all of them off the networks are FOMM's, parameter for parameter.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from avfr_jax.errors import ConfigError
from avfr_jax.media.mel import BANDS, SILENCE, WINDOW_COLUMNS
from avfr_jax.models import fomm
from avfr_jax.models.dense_motion import Motion
from avfr_jax.models.fomm import FommConfig, SourceFeatures
from avfr_jax.motion import Keypoints
from avfr_jax.nn.blocks import DownBlock, SameBlock, UpBlock
from avfr_jax.nn.layers import Conv
from avfr_jax.nn.spade import NormKind, SpadeResBlock
from avfr_jax.ops.precision import widen
from avfr_jax.ops.resize import average_pool
from avfr_jax.typing import Array, Bool, Float


@dataclasses.dataclass(frozen=True)
class AudioConfig:
    """Settings of both audio networks.

    Attributes:
      block_expansion: width of the first layer; doubled by each of the four halvings of the spectrogram.
      max_features: widest level.
      features: channels of the map that goes beside the moved source (c).
    """

    block_expansion: int = 32
    max_features: int = 256
    features: int = 256


@dataclasses.dataclass(frozen=True)
class IdentityConfig:
    """Settings of the identity-aware generator.

    Attributes:
      block_expansion: width at the frame's size; doubled by each halving.
      max_features: widest level.
      num_bottleneck_blocks: SPADE residual blocks at a quarter of the frame's size.
      condition: channels to which the fused features are brought before they modulate.
      hidden: width of the modulating networks.
      norm: of SPADE: `batch` (synchronised) or `instance`.
      warped_skips: warp the features of the identity encoder by the motion before the decoder takes them.
    """

    RENAMED: ClassVar[dict[str, str]] = {"moved_skips": "warped_skips"}
    block_expansion: int = 64
    max_features: int = 512
    num_bottleneck_blocks: int = 2
    condition: int = 64
    hidden: int = 64
    norm: NormKind = "batch"
    warped_skips: bool = True


@dataclasses.dataclass(frozen=True)
class AvfrConfig(FommConfig):
    """A whole AVFR-GAN; the networks that it shares with FOMM are set as there.

    Attributes:
      structural_prior: mesh image and person mask are two more input channels of the keypoint detector.
      audio_encoder: the audio as a map of features beside the warped source.
      audio_attention: the audio as attention over the warped source.
      identity_aware_generator: the U-Net of SPADE blocks; else FOMM's decoder.
      mouth_masking: share of training pairs in which the colours of the driving mouth are masked in the keypoint
        detector's input (`mask_mouth`), so that mesh image and audio determine the mouth. A model trained so can be
        dubbed: the mesh image shows the mouth of the speech (`faces.spoken_mouth`). Without the structural prior the
        audio alone determines it, and mouths are masked only in clips with audio.
      audio: settings of the audio networks.
      identity: settings of the identity-aware generator.
    """

    RENAMED: ClassVar[dict[str, str]] = {"hidden_mouths": "mouth_masking"}
    structural_prior: bool = True
    audio_encoder: bool = True
    audio_attention: bool = True
    identity_aware_generator: bool = True
    mouth_masking: float = 0.0
    audio: AudioConfig = AudioConfig()
    identity: IdentityConfig = IdentityConfig()

    def __post_init__(self) -> None:
        if not 0 <= self.mouth_masking <= 1:
            raise ConfigError(f"mouth_masking is a share, 0 to 1, not {self.mouth_masking}.")

    @property
    def masks_mouths(self) -> bool:
        """Whether the mouth can be driven by audio."""
        return (self.uses_audio or self.structural_prior) and self.mouth_masking > 0

    @property
    def uses_audio(self) -> bool:
        """Whether any network takes audio."""
        return self.audio_encoder or self.audio_attention

    @property
    def detector_channels(self) -> int:
        """Channels of the keypoint detector's input."""
        return self.num_channels + 2 * self.structural_prior


PARTS = {
    "structural": ("structural_prior",),
    "audio": ("audio_encoder", "audio_attention"),
    "identity": ("identity_aware_generator",),
}
"""The rows of the ablation (thesis, table 2.3) and the switches of each."""
SWITCHES = tuple(switch for switches in PARTS.values() for switch in switches)


def with_parts(config: AvfrConfig, *parts: str) -> AvfrConfig:
    """The config with these of `PARTS` alone; none of them leaves FOMM."""
    on = {switch for part in parts for switch in PARTS[part]}
    switched: dict[str, Any] = {switch: switch in on for switch in SWITCHES}
    return dataclasses.replace(config, **switched)


def silence(frames: int) -> Float[Array, "frames 80 16"]:
    """The spectrogram of silence."""
    return jnp.full((frames, BANDS, WINDOW_COLUMNS), SILENCE, jnp.float32)


def has_sound(mel: Float[Array, "n 80 16"]) -> Bool[Array, "n"]:
    """Whether the audio is not silent."""
    return jnp.any(mel > SILENCE + 0.1, axis=(1, 2))


class Encoded(NamedTuple):
    """Features computed once a source: FOMM's, and every level of the identity encoder, finest first (empty
    without it)."""

    fomm: SourceFeatures
    identity: Any

    @property
    def image(self) -> Any:
        """The source itself."""
        return self.fomm.image


class Generated(NamedTuple):
    """`prediction [N, H, W, C]` in [0, 1], the `motion` behind it, and the audio-visual `attention [N, h/4, w/4, 1]` in
    [0, 1] (None without it). In training also `audio_features [N, h/4, w/4, f]` of the audio encoder."""

    prediction: Any
    motion: Motion
    attention: Any
    audio_features: Any = None


class MelEncoder(nn.Module):
    """The spectrogram -> one feature vector: four times convolution, normalisation, ReLU, halving."""

    config: AudioConfig
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, mel: Float[Array, "n 80 16"], train: bool = False) -> Float[Array, "n f"]:
        x = mel[..., None] / 4  # [-4, 4] -> [-1, 1]
        for i in range(4):
            width = min(self.config.max_features, self.config.block_expansion * 2**i)
            x = DownBlock(width, axis_name=self.axis_name, dtype=self.dtype, name=f"down_blocks_{i}")(x, train)
        return x.reshape(len(x), -1)


class AudioMap(nn.Module):
    """The audio encoder: spectrogram -> a map of features at a quarter of the frame's size, upsampled from 4 × 4."""

    config: AudioConfig
    size: int
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, mel: Float[Array, "n 80 16"], train: bool = False) -> Float[Array, "n size size f"]:
        c, shared = self.config, {"axis_name": self.axis_name, "dtype": self.dtype}
        features = MelEncoder(c, **shared, name="mel")(mel, train)
        x = nn.Dense(16 * c.max_features, dtype=self.dtype, name="spread")(features)
        x = x.reshape(len(x), 4, 4, c.max_features)
        steps = (self.size // 4).bit_length() - 1
        for i in range(steps):
            width = max(c.block_expansion, c.max_features >> (i + 1))
            x = UpBlock(width, **shared, name=f"up_blocks_{i}")(x, train)
        return Conv(c.features, (1, 1), dtype=self.dtype, name="final")(x)


class AudioQuery(nn.Module):
    """The attention encoder: spectrogram -> a query of as many features as the warped source has."""

    config: AudioConfig
    features: int
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, mel: Float[Array, "n 80 16"], train: bool = False) -> Float[Array, "n features"]:
        features = MelEncoder(self.config, self.axis_name, self.dtype, name="mel")(mel, train)
        # A small start: the sigmoid of a product of hundreds of features would stand at 0 or 1 from the beginning.
        small = nn.initializers.variance_scaling(0.01, "fan_in", "normal")
        return nn.Dense(self.features, dtype=self.dtype, kernel_init=small, name="final")(features)


class IdentityEncoder(nn.Module):
    """SPADE residual blocks on the source, modulated by the source itself, at the frame's size and each halving."""

    config: IdentityConfig
    levels: int
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, source: Float[Array, "n h w c"], train: bool = False) -> list[Any]:
        c, shared = self.config, {"axis_name": self.axis_name, "dtype": self.dtype}
        x = SameBlock(c.block_expansion, 7, **shared, name="first")(source, train)
        levels = []
        for i in range(self.levels):
            x = average_pool(x, (2, 2)) if i else x
            condition = average_pool(source, (2**i, 2**i)) if i else source
            block = SpadeResBlock(_width(c, i), c.hidden, c.norm, **shared, name=f"blocks_{i}")
            levels.append(x := block(x, condition, train))
        return levels


class IdentityDecoder(nn.Module):
    """The fused features and the identity encoder's levels -> a frame, by SPADE residual blocks modulated by the fused
    features."""

    config: IdentityConfig
    channels: int
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(
        self, fused: Float[Array, "n h4 w4 f"], identity: list[Any], train: bool = False
    ) -> Float[Array, "n h w channels"]:
        """Decode.

        Args:
          fused: `Enc_dec`.
          identity: the encoder's levels where the motion puts them, finest first.
          train: use and update the batch's own statistics.
        """
        c, shared = self.config, {"axis_name": self.axis_name, "dtype": self.dtype}

        def block(i: int, name: str) -> SpadeResBlock:
            return SpadeResBlock(_width(c, i), c.hidden, c.norm, **shared, name=name)

        deepest = len(identity) - 1
        condition = nn.relu(Conv(c.condition, (1, 1), dtype=self.dtype, name="condition")(fused))
        x = jnp.concatenate([identity[-1].astype(fused.dtype), fused], axis=-1)
        x = Conv(_width(c, deepest), (1, 1), dtype=self.dtype, name="join")(x)
        for i in range(c.num_bottleneck_blocks):
            x = block(deepest, f"bottleneck_{i}")(x, condition, train)
        for i in reversed(range(deepest)):
            x = UpBlock(_width(c, i), **shared, name=f"up_blocks_{i}")(x, train)
            x = Conv(_width(c, i), (1, 1), dtype=self.dtype, name=f"skip_{i}")(
                jnp.concatenate([x, identity[i].astype(x.dtype)], axis=-1)
            )
            x = block(i, f"blocks_{i}")(x, condition, train)
        out = Conv(self.channels, (7, 7), 3, dtype=self.dtype, name="final")(nn.leaky_relu(x, 0.2))
        return nn.sigmoid(widen(out))


def _width(config: IdentityConfig, level: int) -> int:
    return min(config.max_features, config.block_expansion * 2**level)


class AvfrGenerator(fomm.Generator):
    """FOMM's generator with the parts that the config switches on."""

    config: AvfrConfig

    def setup(self) -> None:
        super().setup()  # a part of it that is never called has no parameters
        c, shared = self.config, {"axis_name": self.axis_name, "dtype": self.dtype}
        moved = min(c.generator.max_features, c.generator.block_expansion * 2**c.generator.num_down_blocks)
        if c.audio_encoder:
            self.audio_encoder = AudioMap(c.audio, c.image_size >> c.generator.num_down_blocks, **shared)
        if c.audio_attention:
            self.audio_attention = AudioQuery(c.audio, moved, **shared)
        if c.identity_aware_generator:
            self.identity_encoder = IdentityEncoder(c.identity, c.generator.num_down_blocks + 1, **shared)
            self.identity_decoder = IdentityDecoder(c.identity, c.num_channels, **shared)
        elif c.uses_audio:
            self.join = Conv(moved, (1, 1), dtype=self.dtype)

    def encode_source(self, source: Float[Array, "n h w c"], train: bool = False) -> Encoded:
        """Everything that depends on the source alone."""
        levels = self.identity_encoder(source, train) if self.config.identity_aware_generator else []
        return Encoded(self.encode(source, train), levels)

    def animate(
        self,
        encoded: Encoded,
        source: Keypoints,
        driving: Keypoints,
        mel: Float[Array, "n 80 16"] | None = None,
        train: bool = False,
    ) -> Generated:
        """Frames from one encoded source, or N.

        Args:
          encoded: of `encode_source`.
          source: its keypoints.
          driving: of N frames.
          mel: mel window around each of the N frames, in [-4, 4]; None is silence.
          train: use and update the batch's own statistics.
        """
        motion = self.motion(encoded.fomm, source, driving, train)
        moved = self.move(encoded.fomm, motion)
        fused, attention, audio_features = self.fuse(moved, mel, train)
        prediction = self.render(fused, encoded.identity, motion.deformation, train)
        return Generated(prediction, motion, attention, audio_features)

    def render(
        self, fused: Float[Array, "n h w f"], identity: list[Any], flow: Float[Array, "n h2 w2 2"], train: bool = False
    ) -> Float[Array, "n h4 w4 c"]:
        """Decode fused features to frames, with the identity encoder's levels where there are any."""
        if not self.config.identity_aware_generator:
            return self.decode_features(fused, Motion(flow, None, None, None), train).prediction
        return self.identity_decoder(fused, [self._placed(level, flow) for level in identity], train)

    def fuse(
        self, moved: Float[Array, "n h w f"], mel: Float[Array, "n 80 16"] | None, train: bool = False
    ) -> tuple[Any, Any, Any]:
        """The decoder's input: `Enc_dec`, for FOMM's decoder brought back to its width; and the attention and the audio
        encoder's map in it (None without them)."""
        c, parts, attention, audio_features = self.config, [moved], None, None
        audio = jnp.asarray(silence(len(moved)) if mel is None else mel, moved.dtype)
        if c.audio_encoder:
            audio_features = self.audio_encoder(audio, train)
            parts.append(audio_features.astype(moved.dtype))
        if c.audio_attention:
            query = self.audio_attention(audio, train)
            attention = nn.sigmoid(jnp.einsum("nc,nhwc->nhw", query, moved)[..., None])
            parts.append(attention.astype(moved.dtype))
        fused = jnp.concatenate(parts, axis=-1) if c.uses_audio else moved
        return self.join(fused) if c.uses_audio and not c.identity_aware_generator else fused, attention, audio_features

    def _placed(self, level: Array, flow: Array) -> Array:
        """A level of the identity encoder for each of N frames."""
        if self.config.identity.warped_skips:
            return self.deform(level, flow)
        n = flow.shape[0]
        return jnp.broadcast_to(level, (n, *level.shape[1:])) if len(level) != n else level

    def __call__(  # type: ignore[override]
        self,
        source: Float[Array, "m h w c"],
        source_kp: Keypoints,
        driving_kp: Keypoints,
        train: bool = False,
        mel: Float[Array, "n 80 16"] | None = None,
    ) -> Generated:
        """Source images in [0, 1], both sets of keypoints and the sound -> N generated frames."""
        return self.animate(self.encode_source(source, train), source_kp, driving_kp, mel, train)


def generator(config: AvfrConfig, *, axis_name: str | None = None, dtype: Any = None) -> AvfrGenerator:
    """The generator a config describes, its motion network inside."""
    return AvfrGenerator(config, axis_name, dtype)


def init(config: AvfrConfig, key: Array) -> dict[str, Any]:
    """Random weights, in the form of `fomm.init`."""
    return fomm.init_with(config, key, generator(config))
