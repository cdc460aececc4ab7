"""Binary residual coding: the error of a rendered frame, in bits (Wang et al., "One-shot free-view neural talking-head
synthesis for video conferencing", 2021, appendix C.3).

The paper's: three convolutions of stride 2 take the difference between the true and the rendered frame to 32 maps of
an eighth of its side, whose signs are sent; three convolutions of 128 with pixel shuffle bring them back, and the
corrected frame is the source of motion from then on. Ours, as settings: encoder and decoder are conditioned on the
rendered frame, so that bits need not repeat its content; and any part of the signs can be left out, cell by cell and
from the last map on, so that a sender can spend any number of bits. Signs left out are zero; training leaves out at
random.
"""

import dataclasses
import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.errors import ConfigError
from avfr_jax.models.base import model_fingerprint
from avfr_jax.models.discriminators import DiscriminatorConfig, MultiScaleDiscriminator
from avfr_jax.models.image_batch import as_batch
from avfr_jax.nn.inference import apply, prepare
from avfr_jax.nn.layers import Conv
from avfr_jax.ops.precision import widen
from avfr_jax.ops.resize import depth_to_space, space_to_depth
from avfr_jax.typing import Array, Float, Int


@dataclasses.dataclass(frozen=True)
class ResidualConfig:
    """The whole model; the defaults are the paper's.

    Attributes:
      image_size: side of the square frames.
      num_channels: of a frame.
      fold: squares of `fold` pixels a side become channels before the first layer and pixels again after the last.
      halvings: convolutions of stride 2; a cell is a square of `fold · 2^halvings` pixels a side.
      width: of the encoder's maps between.
      bits: signs of a cell.
      decoder_width: of the decoder's maps before each pixel shuffle, a multiple of four.
      conditional: the generated frame is an input of encoder and decoder (ours).
      discriminator: of corrected frames.
    """

    RENAMED: ClassVar[dict[str, str]] = {"sees_drawn": "conditional"}
    image_size: int = 512
    num_channels: int = 3
    fold: int = 1
    halvings: int = 3
    width: int = 32
    bits: int = 32
    decoder_width: int = 128
    conditional: bool = False
    discriminator: DiscriminatorConfig = DiscriminatorConfig(use_keypoints=False)

    def __post_init__(self) -> None:
        for name in ("fold", "halvings", "width", "bits"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} of a residual coder must be at least 1, not {getattr(self, name)}.")
        if self.decoder_width < 4 or self.decoder_width % 4:
            raise ConfigError(f"decoder_width must be a multiple of 4, not {self.decoder_width}.")
        if self.image_size % self.cell:
            raise ConfigError(f"image_size must be a multiple of the cells' {self.cell} pixels, not {self.image_size}.")

    @property
    def cell(self) -> int:
        """Side of a cell in pixels."""
        return self.fold << self.halvings

    @property
    def side(self) -> int:
        """Cells along a side of the frame."""
        return self.image_size // self.cell


class Generator(nn.Module):
    """(true frame, rendered frame) -> signs -> corrected frame."""

    config: ResidualConfig
    dtype: Any = None

    def setup(self) -> None:
        c = self.config

        def halving(features: int) -> Conv:
            return Conv(features, (3, 3), 1, strides=2, dtype=self.dtype)

        def plain(features: int, **more: Any) -> Conv:
            return Conv(features, (3, 3), 1, dtype=self.dtype, **more)

        self.down = [halving(c.width) for _ in range(c.halvings - 1)] + [halving(c.bits)]
        self.shown = [halving(c.width) for _ in range(c.halvings)] if c.conditional else []
        self.up = [plain(c.decoder_width) for _ in range(c.halvings)]
        zeros = nn.initializers.zeros
        self.final = plain(c.num_channels * c.fold**2, kernel_init=zeros, bias_init=zeros)

    def encode(self, true: Float[Array, "n h w c"], rendered: Float[Array, "n h w c"]) -> Float[Array, "n a b bits"]:
        """Frames in [0, 1] -> numbers in [-1, 1] whose signs are sent."""
        left = true - rendered
        x = jnp.concatenate([left, rendered - 0.5], axis=-1) if self.config.conditional else left
        x = space_to_depth(x, self.config.fold)
        for layer in self.down[:-1]:
            x = nn.leaky_relu(layer(x))
        return jnp.tanh(widen(self.down[-1](x)))

    def decode(self, signs: Float[Array, "n a b bits"], rendered: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        """Signs (-1, 1; 0 where left out) and the rendered frame -> the corrected one, which may leave [0, 1]."""
        c = self.config
        levels = []
        shown = space_to_depth(rendered - 0.5, c.fold)
        for layer in self.shown:
            shown = nn.leaky_relu(layer(shown))
            levels.append(shown)
        x = signs
        for layer in self.up:
            if levels:
                x = jnp.concatenate([x, levels.pop()], axis=-1)
            x = depth_to_space(nn.leaky_relu(layer(x)), 2)
        return rendered + depth_to_space(widen(self.final(x)), c.fold)

    def __call__(
        self,
        true: Float[Array, "n h w c"],
        rendered: Float[Array, "n h w c"],
        kept: Float[Array, "n a b bits"],
        train: bool = False,
    ) -> Float[Array, "n h w c"]:
        """Correct, `kept` being 1 for the signs that are sent and 0 for others. Gradients go through the signs as if
        they were the numbers themselves."""
        numbers = self.encode(true, rendered)
        signs = numbers + jax.lax.stop_gradient(jnp.where(numbers < 0, -1.0, 1.0) - numbers)
        return self.decode(signs * kept, rendered)


def generator(config: ResidualConfig, *, dtype: Any = None) -> Generator:
    """The generator a config describes."""
    return Generator(config, dtype)


def discriminator(config: ResidualConfig, *, dtype: Any = None) -> MultiScaleDiscriminator:
    """The discriminator a config describes."""
    return MultiScaleDiscriminator(config.discriminator, dtype)


def example_inputs(config: ResidualConfig) -> tuple[Array, Array, Array]:
    """Zeros of the shapes of the generator's inputs."""
    frame = jnp.zeros((1, config.image_size, config.image_size, config.num_channels), jnp.float32)
    return frame, frame, jnp.zeros((1, config.side, config.side, config.bits), jnp.float32)


def init(config: ResidualConfig, key: Array) -> dict[str, Any]:
    """Random weights `{"generator": …, "discriminator": …}`, each a dictionary of Flax collections."""
    keys = jax.random.split(key)
    frame, *others = example_inputs(config)
    return {
        "generator": generator(config).init(keys[0], frame, *others),
        "discriminator": discriminator(config).init(keys[1], frame),
    }


def kept_signs(
    config: ResidualConfig,
    true: Float[Array, "n h w c"],
    rendered: Float[Array, "n h w c"],
    cells: Float[Array, " n"],
    maps: Int[Array, " n"],
) -> Float[Array, "n a b bits"]:
    """1 for the signs that are sent, 0 for others: the first maps, in the cells of the largest error.

    Args:
      config: the model.
      true: frames in [0, 1].
      rendered: the same.
      cells: share of the cells, 0 to 1.
      maps: how many, 0 to `bits`.
    """
    n, side = len(true), config.side
    wrong = jnp.abs(true - rendered).mean(-1).reshape(n, side, config.cell, side, config.cell).mean((2, 4))
    rank = jnp.argsort(jnp.argsort(-wrong.reshape(n, -1), axis=-1), axis=-1).reshape(n, side, side)
    chosen = rank < jnp.round(cells * side**2)[:, None, None]
    return (chosen[..., None] & (jnp.arange(config.bits) < maps[:, None, None, None])).astype(jnp.float32)


@functools.partial(jax.jit, static_argnums=0)
def _encode(config: ResidualConfig, variables: Any, true: Array, rendered: Array) -> Any:
    return apply(generator(config), variables["generator"], true, rendered, method="encode")


@functools.partial(jax.jit, static_argnums=0)
def _decode(config: ResidualConfig, variables: Any, signs: Array, rendered: Array) -> Any:
    return jnp.clip(apply(generator(config), variables["generator"], signs, rendered, method="decode"), 0, 1)


class ResidualCodec:
    """A residual coder with its weights."""

    family = "residual"

    def __init__(
        self,
        config: ResidualConfig,
        variables: dict[str, Any],
        name: str = "residual",
        fingerprint: bytes | None = None,
    ) -> None:
        """`variables` as from `init`; the generator's are enough. `fingerprint` is computed where it is not given."""
        self.config, self.name = config, name
        self.fingerprint = fingerprint or model_fingerprint(self.family, config, variables)
        examples = jax.eval_shape(lambda: example_inputs(config))
        self._variables = {"generator": prepare(generator(config), variables["generator"], *examples)}

    def encode(self, true: Any, rendered: Any) -> Int[np.ndarray, "n a b bits"]:
        """The signs of frames, int8, -1 and 1; setting some to 0 leaves them out.

        Args:
          true: `[N, S, S, 3]`, uint8 or float in [0, 1], S the model's size.
          rendered: the same.

        Raises:
          InputError: other shapes or dtypes.
          ConfigError: another size.
        """
        a, b = self._frames(true, "true frame"), self._frames(rendered, "rendered frame")
        return np.where(np.asarray(_encode(self.config, self._variables, a, b)) < 0, -1, 1).astype(np.int8)

    def decode(self, signs: Int[np.ndarray, "n a b bits"], rendered: Any) -> Any:
        """Corrected frames, of the rendered ones' dtype; arguments and errors as in `encode`."""
        frames, restore = as_batch(rendered, "rendered frame", self.config.num_channels)
        self._frames(rendered, "rendered frame")
        return restore(_decode(self.config, self._variables, jnp.asarray(signs, jnp.float32), frames))

    def _frames(self, frames: Any, what: str) -> Any:
        batch, _ = as_batch(frames, what, self.config.num_channels)
        side = self.config.image_size
        if batch.shape[1:3] != (side, side):
            raise ConfigError(f"{self.name} corrects frames of {side} × {side} pixels, not {list(batch.shape[1:3])}.")
        return batch
