"""Augmentation of pairs on the device: FOMM's colour jitter and flip, crops, and warps, as a pure function of a key.

Siarohin et al. (2019) train with brightness, contrast, saturation and hue jittered by 0.1 in random order, alike on
both frames of a pair, and mirror a quarter of the pairs. The operations are those of PIL and torchvision: brightness is
a factor, contrast scales around the frame's mean grey, saturation around each pixel's grey. These three have the form
a·x + b·grey(x) + c, which is closed under composition, so that a jitter in any order is one such map, a hue rotation
(dm-pix), and another such map: three cheap steps instead of the sixteen that a `switch` over the operations becomes
under `vmap`. Values are clipped to [0, 1] before the rotation and at the end; PIL rounds and clips after every
operation.
"""

import dataclasses
from typing import Any

import dm_pix as pix
import jax
import jax.numpy as jnp

from avfr_jax.errors import ConfigError
from avfr_jax.typing import Array, Bool, Float, Int, UInt8
from pipelines.warp import WarpConfig, warp

Batch = dict[str, Any]
# ITU-R 601, as PIL's conversion to grey.
_GREY = (0.299, 0.587, 0.114)
_FRAMES = ("source", "between", "driving")
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Strength of the augmentation.

    Attributes:
      brightness, contrast, saturation: the factor is uniform in [1 - x, 1 + x].
      hue: rotations are uniform in [-x, x], 1 being the whole circle.
      flip: whether pairs that are not reversed in time are mirrored with probability one half.
      crop: side of a random crop, alike for every frame of a pair, in pixels; 0 keeps the whole frames.
      warp: geometric augmentation.
    """

    brightness: float = 0.1
    contrast: float = 0.1
    saturation: float = 0.1
    hue: float = 0.1
    flip: bool = True
    crop: int = 0
    warp: WarpConfig = WarpConfig()

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation", "hue"):
            limit = 0.5 if name == "hue" else 1.0
            if not 0 <= getattr(self, name) <= limit:
                raise ConfigError(f"augment.{name} must be between 0 and {limit}, not {getattr(self, name)}.")
        if self.crop < 0 or (self.crop and self.warp.moves):
            raise ConfigError("augment.crop must be at least 0, and frames that are cropped cannot be warped too.")

    @property
    def jitters(self) -> bool:
        """Whether any colour changes."""
        return any((self.brightness, self.contrast, self.saturation, self.hue))


def augment(key: Array, batch: Batch, config: AugmentConfig, mirror: Int[Array, "478"] | None = None) -> Batch:
    """Crop, jitter, mirror and warp the pairs of a batch; images become float32 in [0, 1].

    All frames of a pair are changed alike, each pair on its own. Pure and jit-able, `config` being static; the
    random numbers of a pair depend on the key, its row and the size of the batch alone.

    Args:
      key: a JAX random key.
      batch: as `pipelines.loader` gives it: `source` and `driving` (and `between`, or `driving` alone) uint8
        [B, H, W, 3 or 5], `swapped` bool [B], and optionally landmarks and mel. The channels after RGB are mirrored
        but keep their values.
      config: strength.
      mirror: index of each landmark's mirror image; needed with landmarks and flip.

    Returns:
      The same entries.

    Raises:
      ConfigError: landmarks to be mirrored without `mirror`; a crop larger than the frames, or of frames with
        landmarks; a warp of frames other than pairs.
    """
    jitter_key, flip_key = jax.random.split(key)
    warp_key = jax.random.fold_in(key, 2)
    names = [name for name in _FRAMES if name in batch]
    _check(batch, names, config)
    pair = jnp.stack([batch[name] for name in names], axis=1)
    if config.crop:
        pair = _cropped(jax.random.fold_in(key, 3), pair, config.crop)
    pair = to_float(pair)
    if config.jitters:
        rgb = jax.vmap(apply_jitter)(pair[..., :3], *sample_jitter(jitter_key, pair.shape[0], config))
        pair = rgb if pair.shape[-1] == 3 else jnp.concatenate([rgb, pair[..., 3:]], axis=-1)
    out = dict(batch)
    if config.flip:
        flipped = jax.random.bernoulli(flip_key, 0.5, batch["swapped"].shape) & ~batch["swapped"]
        pair = jnp.where(flipped[:, None, None, None, None], pix.flip_left_right(pair), pair)
        for name in ("source_landmarks", "driving_landmarks"):
            if name in batch:
                out[name] = _mirrored(batch[name], flipped, mirror)
    out |= {name: pair[:, i] for i, name in enumerate(names)}
    return warp(warp_key, out, config.warp) if config.warp.moves else out


def _check(batch: Batch, names: list[str], config: AugmentConfig) -> None:
    side = min(batch[names[-1]].shape[1:3])
    if config.crop > side:
        raise ConfigError(f"augment.crop is {config.crop}, and the frames are {side} x {side}.")
    if config.crop and any(f"{name}_landmarks" in batch for name in names):
        raise ConfigError("augment.crop is for frames without landmarks: set it 0, or data.landmarks false.")
    if config.warp.moves and len(names) != 2:
        raise ConfigError("augment.warp moves pairs of frames alone; set it to 0 for triplets and single frames.")


def _cropped(key: Array, frames: UInt8[Array, "b n h w c"], side: int) -> UInt8[Array, "b n side side c"]:
    """Random square crop of each sample's frames, uniform over positions."""
    b, n, h, w, c = frames.shape
    corners = jax.random.randint(key, (b, 2), 0, jnp.asarray([h - side + 1, w - side + 1]))

    def one(sample: Array, corner: Array) -> Array:
        return jax.lax.dynamic_slice(sample, (0, corner[0], corner[1], 0), (n, side, side, c))

    return jax.vmap(one)(frames, corners)


def to_float(images: UInt8[Array, "*shape"]) -> Float[Array, "*shape"]:
    """uint8 -> float32 in [0, 1]."""
    return images.astype(jnp.float32) / 255


def sample_jitter(
    key: Array, count: int, config: AugmentConfig
) -> tuple[Float[Array, "b 3"], Float[Array, "b"], Int[Array, "b 4"]]:
    """Sample factors, hue rotation and order of `count` pairs, for `apply_jitter`."""
    factor_key, turn_key, order_key = jax.random.split(key, 3)
    spread = jnp.array([config.brightness, config.contrast, config.saturation])
    factors = 1 + spread * jax.random.uniform(factor_key, (count, 3), minval=-1, maxval=1)
    turns = jax.random.uniform(turn_key, (count,), minval=-config.hue, maxval=config.hue)
    orders = jnp.argsort(jax.random.uniform(order_key, (count, 4)), axis=-1)
    return factors, turns, orders


def apply_jitter(
    frames: Float[Array, "n h w 3"], factors: Float[Array, "3"], turn: Float[Array, ""], order: Int[Array, "4"]
) -> Float[Array, "n h w 3"]:
    """Apply one colour jitter to several frames.

    Args:
      frames: in [0, 1].
      factors: of brightness, contrast and saturation; 1 is the identity.
      turn: hue rotation, in circles.
      order: of the operations, a permutation of 0 brightness, 1 contrast, 2 saturation, 3 hue.
    """
    before = jnp.argmax(order == _HUE) > jnp.arange(4)
    # Colour planes with all pixels on one axis, which vectorise on a CPU.
    planes = jnp.moveaxis(frames, -1, 0).reshape(3, frames.shape[0], -1)
    planes = _linear(planes, factors, order, before)
    planes = _turned(planes, turn)
    planes = _linear(planes, factors, order, ~before)
    return jnp.moveaxis(planes.reshape(3, *frames.shape[:-1]), 0, -1)


def _linear(
    planes: Float[Array, "3 n p"], factors: Float[Array, "3"], order: Int[Array, "4"], active: Bool[Array, "4"]
) -> Float[Array, "3 n p"]:
    """Compose the active operations, without hue, into one map a·x + b·grey(x) + c, clipped to [0, 1]."""
    grey = _GREY[0] * planes[0] + _GREY[1] * planes[1] + _GREY[2] * planes[2]
    mean = jnp.mean(grey, axis=-1)
    a, b, c = jnp.ones(()), jnp.zeros(()), jnp.zeros_like(mean)
    for step in range(4):
        operation = order[step]
        f = jnp.where(active[step] & (operation != _HUE), factors[jnp.minimum(operation, _SATURATION)], 1.0)
        # Blended in: black, the frame's current mean grey, or each pixel's own grey.
        b_blend = jnp.where(operation == _SATURATION, a + b, 0.0)
        c_blend = jnp.where(operation == _SATURATION, c, jnp.where(operation == _CONTRAST, (a + b) * mean + c, 0.0))
        a, b, c = f * a, f * b + (1 - f) * b_blend, f * c + (1 - f) * c_blend
    # Without the barrier XLA computes these few numbers again for every pixel.
    a, b, c = jax.lax.optimization_barrier((a, b, c))
    return jnp.clip(a * planes + (b * grey + c[:, None]), 0.0, 1.0)


def _turned(planes: Float[Array, "3 n p"], turn: Float[Array, ""]) -> Float[Array, "3 n p"]:
    """`pix.adjust_hue` in its three parts; without the barriers XLA on a CPU recomputes one for each value of the next,
    ten times the work."""
    hsv = jax.lax.optimization_barrier(pix.rgb_to_hsv(planes, channel_axis=0))
    hsv = jax.lax.optimization_barrier(hsv + jnp.stack([turn, 0.0, 0.0])[:, None, None])
    return pix.hsv_to_rgb(hsv, channel_axis=0)


def _mirrored(
    landmarks: Float[Array, "b 478 3"], flipped: Bool[Array, "b"], mirror: Int[Array, "478"] | None
) -> Float[Array, "b 478 3"]:
    if mirror is None:
        raise ConfigError("Landmarks cannot be mirrored without the table of mirrored indices.")
    turned = jnp.asarray(landmarks)[:, jnp.asarray(mirror)] * jnp.array([-1.0, 1.0, 1.0])
    return jnp.where(flipped[:, None, None], turned, landmarks)
