"""Frames between frames (Agarwal et al., "Compressing video calls using synthetic talking heads", 2022, section
"Frame interpolation at the receiver's end", eq. 1).

The paper's: a GAN of 2-D convolutions whose generator sees the frames v_i and v_{i+2} one behind the other in the
channels and synthesises v_{i+1}; more frames between by applying it to its own results. The paper shows an encoder and
a decoder without their widths. Ours: the network is a U-Net whose output is added to the mean of the two frames, the
result of an untrained one. With `matching` the frames are first brought to where they match halfway (`halfway_motion`),
the network takes them from there and estimates for every pixel a further displacement in each and the weight of each,
so that moving pixels need not be synthesised anew; an untrained one gives the mean of the matched frames.
"""

import dataclasses
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.errors import ConfigError, InputError
from avfr_jax.models.base import model_fingerprint
from avfr_jax.models.discriminators import DiscriminatorConfig, MultiScaleDiscriminator
from avfr_jax.models.image_batch import as_batch
from avfr_jax.nn.inference import apply, prepare
from avfr_jax.nn.unet import UNet, UNetConfig
from avfr_jax.ops.matching import halfway_motion, look_up
from avfr_jax.typing import Array, Float

MOST_BETWEEN = 3


@dataclasses.dataclass(frozen=True)
class InterpolationConfig:
    """The whole model.

    Attributes:
      image_size: side of the square frames it is trained on; others can be given to it.
      num_channels: of a frame.
      matching: match the frames and estimate residual flow (ours), or the difference from their mean alone.
      network: the U-Net.
      discriminator: of single frames (eq. 2).
    """

    RENAMED: ClassVar[dict[str, str]] = {"moved": "matching"}
    image_size: int = 256
    num_channels: int = 3
    matching: bool = False
    network: UNetConfig = UNetConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig(use_keypoints=False)


class Generator(nn.Module):
    """G_FI: two frames -> the one halfway between them."""

    config: InterpolationConfig
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(
        self, first: Float[Array, "n h w c"], second: Float[Array, "n h w c"], train: bool = False
    ) -> Float[Array, "n h w c"]:
        """Frames in [0, 1] -> the frame between; it may leave [0, 1] a little."""
        c, colours = self.config, first.shape[-1]
        network = UNet(c.network, colours + 5 * c.matching, self.axis_name, self.dtype, name="unet")
        if not c.matching:
            return (first + second) / 2 + network(jnp.concatenate([first, second], axis=-1), train)
        motion = halfway_motion(first, second)
        matched = [look_up(first, motion), look_up(second, -motion), motion / 8]
        estimate = network(jnp.concatenate(matched, axis=-1), train)
        paint, share, moves = jnp.split(estimate, (colours, colours + 1), axis=-1)
        share = nn.sigmoid(share)
        one, other = look_up(first, motion + moves[..., :2]), look_up(second, moves[..., 2:] - motion)
        return share * one + (1 - share) * other + paint


def generator(config: InterpolationConfig, *, axis_name: str | None = None, dtype: Any = None) -> Generator:
    """The generator a config describes."""
    return Generator(config, axis_name, dtype)


def discriminator(config: InterpolationConfig, *, dtype: Any = None) -> MultiScaleDiscriminator:
    """The discriminator a config describes."""
    return MultiScaleDiscriminator(config.discriminator, dtype)


def init(config: InterpolationConfig, key: Array) -> dict[str, Any]:
    """Random weights `{"generator": …, "discriminator": …}`, each a dictionary of Flax collections."""
    keys = jax.random.split(key)
    frame = jnp.zeros((1, config.image_size, config.image_size, config.num_channels), jnp.float32)
    return {
        "generator": generator(config).init(keys[0], frame, frame),
        "discriminator": discriminator(config).init(keys[1], frame),
    }


def between(
    config: InterpolationConfig,
    variables: dict[str, Any],
    first: Float[Array, "n h w c"],
    second: Float[Array, "n h w c"],
    count: int,
) -> Float[Array, "n count h w c"]:
    """One, two or three frames between each two, in their order; pure, and jit-able with `config` and `count` static.

    The network gives the halfway frame alone, so that the others are made from its results: with m = G(first, second),

    * one frame is m;
    * three are G(first, m), m and G(m, second): a quarter, half and three quarters of the way;
    * two are the outer ones of the three, m being thrown away. They stand at a quarter and three quarters of the way
      where a third and two thirds would be right: a twelfth of the way, a quarter of a frame's time, too near to the
      frames that are known. The paper does not say which it takes; these two are alike when time runs backwards, and
      neither is made from the other.

    Args:
      config: the model.
      variables: weights, as from `init`; the generator's are used.
      first: frames in [0, 1].
      second: the next ones received.
      count: 1, 2 or 3.

    Returns:
      Frames in [0, 1].

    Raises:
      ConfigError: another count.
    """
    if count not in range(1, MOST_BETWEEN + 1):
        raise ConfigError(f"1 to {MOST_BETWEEN} frames can be put between two, not {count}.")
    module, n = generator(config), len(first)

    def halfway(a: Array, b: Array) -> Array:
        return jnp.clip(apply(module, variables["generator"], a, b), 0, 1)

    middle = halfway(first, second)
    if count == 1:
        return middle[:, None]
    # Both outer frames in one batch.
    outer = halfway(jnp.concatenate([first, middle]), jnp.concatenate([middle, second]))
    frames = [outer[:n], middle, outer[n:]] if count == MOST_BETWEEN else [outer[:n], outer[n:]]
    return jnp.stack(frames, axis=1)


_between = jax.jit(between, static_argnums=(0, 4))


class Interpolator:
    """An interpolation network with its weights."""

    family = "interpolation"

    def __init__(
        self,
        config: InterpolationConfig,
        variables: dict[str, Any],
        name: str = "interpolation",
        fingerprint: bytes | None = None,
    ) -> None:
        """`variables` as from `init`; the generator's are enough. `fingerprint` is computed where it is not given."""
        self.config, self.name = config, name
        self.fingerprint = fingerprint or model_fingerprint(self.family, config, variables)
        side = min(config.image_size, 2 << config.network.num_blocks)  # any size will do to trace the network
        frame = jax.ShapeDtypeStruct((1, side, side, config.num_channels), jnp.float32)
        self._variables = {"generator": prepare(generator(config), variables["generator"], frame, frame)}

    def __call__(self, first: Any, second: Any, count: int = 1) -> Any:
        """Frames between two, or between each two of N; see `between`.

        Args:
          first: `[H, W, 3]` or `[N, H, W, 3]`, uint8 or float in [0, 1]; any size.
          second: the same.
          count: 1, 2 or 3.

        Returns:
          `[count, H, W, 3]` or `[N, count, H, W, 3]`: uint8 (NumPy) where the frames are, else float32 in [0, 1].

        Raises:
          InputError: other shapes or dtypes, or the two differ.
          ConfigError: another count.
        """
        if np.shape(first) != np.shape(second):
            raise InputError(f"The two frames differ in shape: {list(np.shape(first))} and {list(np.shape(second))}.")
        a, restore = as_batch(first, "first frame", self.config.num_channels)
        b, _ = as_batch(second, "second frame", self.config.num_channels)
        return restore(_between(self.config, self._variables, a, b, count))
