"""Patch-wise super-resolution (Agarwal et al., "Compressing video calls using synthetic talking heads", 2022, section
"Patch-wise super-resolution network").

The paper's: the architecture of the frame interpolation, trained to take away the blur of k × k crops (k = 64) that
were bicubically downsampled by a random factor from 2 to 6 and upsampled back; to use it, the whole frame is enlarged
bicubically to any size, and the network goes over it in k × k windows. Ours: its output is added to the enlarged frame,
so that an untrained network gives bicubic interpolation; windows overlap and are blended, so that no seams appear.
"""

import copy
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
from avfr_jax.nn.unet import UNet, UNetConfig
from avfr_jax.ops.resize import cubic_weights, resize_cubic
from avfr_jax.ops.windows import over_windows
from avfr_jax.typing import Array, Float


@dataclasses.dataclass(frozen=True)
class SuperResolutionConfig:
    """The whole model.

    Attributes:
      patch_size: k, side of the crops and windows.
      overlap: pixels that neighbouring windows share, over which they are blended.
      min_factor: smallest downscaling of training.
      max_factor: largest.
      batch_size: windows at a time in use.
      num_channels: of a picture.
      factor_input: the factor is an input of the network (ours): the residuals of twice and of six times the size
        differ.
      network: the U-Net.
      discriminator: of single crops.
    """

    RENAMED: ClassVar[dict[str, str]] = {
        "told": "factor_input",
        "least_factor": "min_factor",
        "largest_factor": "max_factor",
    }
    patch_size: int = 64
    overlap: int = 16
    min_factor: float = 2.0
    max_factor: float = 6.0
    batch_size: int = 16
    num_channels: int = 3
    factor_input: bool = False
    network: UNetConfig = UNetConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig(use_keypoints=False)

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.patch_size:
            raise ConfigError(f"overlap must be from 0 to below patch_size ({self.patch_size}), not {self.overlap}.")
        if not 1 <= self.min_factor <= self.max_factor <= self.patch_size:
            raise ConfigError(
                f"min_factor ({self.min_factor:g}) must be at least 1 and at most max_factor "
                f"({self.max_factor:g}), and that at most patch_size ({self.patch_size})."
            )
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, not {self.batch_size}.")


class Generator(nn.Module):
    """Blurred pictures -> sharp ones of the same size."""

    config: SuperResolutionConfig
    axis_name: str | None = None
    dtype: Any = None

    def setup(self) -> None:
        c = self.config
        self.unet = UNet(c.network, c.num_channels, self.axis_name, self.dtype)

    def detail(
        self, blurred: Float[Array, "n h w c"], factors: Float[Array, " n"], train: bool = False
    ) -> Float[Array, "n h w c"]:
        """Detail to be added to pictures in [0, 1] that were enlarged by `factors`."""
        if self.config.factor_input:
            least, largest = self.config.min_factor, self.config.max_factor
            octaves = jnp.log2(jnp.clip(factors, least, largest)).astype(blurred.dtype)[:, None, None, None]
            blurred = jnp.concatenate([blurred, jnp.broadcast_to(octaves, (*blurred.shape[:3], 1))], axis=-1)
        return self.unet(blurred, train)

    def __call__(
        self, blurred: Float[Array, "n h w c"], factors: Float[Array, " n"], train: bool = False
    ) -> Float[Array, "n h w c"]:
        """Pictures in [0, 1] that were enlarged by `factors` -> sharper ones, which may leave [0, 1] a little."""
        return blurred + self.detail(blurred, factors, train)


def generator(config: SuperResolutionConfig, *, axis_name: str | None = None, dtype: Any = None) -> Generator:
    """The generator a config describes."""
    return Generator(config, axis_name, dtype)


def discriminator(config: SuperResolutionConfig, *, dtype: Any = None) -> MultiScaleDiscriminator:
    """The discriminator a config describes."""
    return MultiScaleDiscriminator(config.discriminator, dtype)


def init(config: SuperResolutionConfig, key: Array) -> dict[str, Any]:
    """Random weights `{"generator": …, "discriminator": …}`, each a dictionary of Flax collections."""
    keys = jax.random.split(key)
    patch = jnp.zeros((1, config.patch_size, config.patch_size, config.num_channels), jnp.float32)
    return {
        "generator": generator(config).init(keys[0], patch, jnp.ones(1, jnp.float32)),
        "discriminator": discriminator(config).init(keys[1], patch),
    }


@functools.lru_cache(maxsize=8)
def _down_and_up(side: int, least: float, largest: float) -> tuple[int, np.ndarray, np.ndarray]:
    """The smallest side that a crop is downsampled to, and for it and each larger one the matrices `[F, most, side]`
    down and `[F, side, most]` up, filled up with zeros to the size of the largest."""
    low, most = max(1, round(side / largest)), max(1, round(side / least))
    down, up = np.zeros((most - low + 1, most, side), np.float32), np.zeros((most - low + 1, side, most), np.float32)
    for i, small in enumerate(range(low, most + 1)):
        down[i, :small], up[i, :, :small] = cubic_weights(side, small), cubic_weights(small, side)
    return low, down, up


def degrade(
    config: SuperResolutionConfig, crops: Float[Array, "n k k c"], factors: Float[Array, " n"]
) -> Float[Array, "n k k c"]:
    """Training's input: each crop downsampled bicubically by its own factor and upsampled back.

    Every factor takes the same program: both steps are products with matrices, which are picked by the factor.

    Args:
      config: its limits of the factor.
      crops: square pictures in [0, 1].
      factors: of each; the small side is rounded to whole pixels. Factors beyond the limits count as the limits.

    Returns:
      Pictures in [0, 1].
    """
    side = crops.shape[1]
    low, down, up = _down_and_up(side, config.min_factor, config.max_factor)
    which = jnp.clip(jnp.round(side / factors).astype(jnp.int32) - low, 0, len(down) - 1)

    def both_ways(matrices: np.ndarray, x: Array) -> Array:
        chosen = jnp.asarray(matrices, x.dtype)[which]
        x = jnp.einsum("nyh,nhwc->nywc", chosen, x, precision="highest")
        return jnp.clip(jnp.einsum("nxw,nywc->nyxc", chosen, x, precision="highest"), 0, 1)

    return both_ways(up, both_ways(down, crops))


def enlarge(
    config: SuperResolutionConfig, variables: dict[str, Any], pictures: Float[Array, "n h w c"], shape: tuple[int, int]
) -> Float[Array, "n h2 w2 c"]:
    """Pictures at another size: bicubic, then the network's detail, window by window; pure, and jit-able with `config`
    and `shape` static.

    Args:
      config: the model.
      variables: weights, as from `init`; the generator's are used.
      pictures: in [0, 1], of any size.
      shape: height and width, any; where they are smaller than a window, border pixels fill it up.

    Returns:
      Pictures in [0, 1].
    """
    side, (h, w) = config.patch_size, shape
    plain = jnp.clip(resize_cubic(pictures, shape), 0, 1)
    filled = jnp.pad(plain, ((0, 0), (0, max(0, side - h)), (0, max(0, side - w)), (0, 0)), "edge")
    module = generator(config)

    factor = float(np.sqrt(h * w / (pictures.shape[1] * pictures.shape[2])))

    def detail(windows: Array) -> Array:
        factors = jnp.full(len(windows), factor, windows.dtype)
        return apply(module, variables["generator"], windows, factors, method=Generator.detail)

    added = over_windows(detail, filled, side, config.overlap, config.batch_size)
    return jnp.clip(plain + added[:, :h, :w], 0, 1)


_enlarge = jax.jit(enlarge, static_argnums=(0, 3))


class SuperResolver:
    """A super-resolution network with its weights."""

    family = "super-resolution"

    def __init__(
        self,
        config: SuperResolutionConfig,
        variables: dict[str, Any],
        name: str = "super-resolution",
        fingerprint: bytes | None = None,
    ) -> None:
        """`variables` as from `init`; the generator's are enough. `fingerprint` is computed where it is not given."""
        self.config, self.name = config, name
        self.fingerprint = fingerprint or model_fingerprint(self.family, config, variables)
        patch = jax.ShapeDtypeStruct((1, config.patch_size, config.patch_size, config.num_channels), jnp.float32)
        factors = jax.ShapeDtypeStruct((1,), jnp.float32)
        self._variables = {"generator": prepare(generator(config), variables["generator"], patch, factors)}

    def with_windows(self, side: int) -> "SuperResolver":
        """The same network in windows of another size, a quarter of which overlaps. Raises ConfigError for a size that
        the network cannot take."""
        other = copy.copy(self)
        other.config = dataclasses.replace(self.config, patch_size=side, overlap=side // 4)
        return other

    def __call__(self, frames: Any, height: int, width: int) -> Any:
        """Frames at another size, one after the other by one program; see `enlarge`.

        Args:
          frames: `[H, W, 3]` or `[N, H, W, 3]`, uint8 or float in [0, 1]; any size.
          height: of the result in pixels, any.
          width: likewise.

        Returns:
          `[height, width, 3]` or `[N, height, width, 3]`: uint8 (NumPy) where the frames are, else float32 in [0, 1].

        Raises:
          InputError: another shape or dtype.
          ConfigError: a size below one pixel.
        """
        if min(height, width) < 1:
            raise ConfigError(f"A frame cannot be enlarged to {width} x {height} pixels.")
        batch, restore = as_batch(frames, "frames", self.config.num_channels)
        shape = (int(height), int(width))
        return restore(jnp.concatenate([_enlarge(self.config, self._variables, one[None], shape) for one in batch]))
