"""Checks of the arrays and numbers that callers of the Python API pass."""

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np

from avfr_jax.errors import ConfigError, InputError
from avfr_jax.typing import Float, UInt8

MOST_CHANNELS = 8
LOUDEST = 4.0
"""Largest magnitude of float samples (12 dB above full scale): what is larger was not scaled to [-1, 1]."""
OVERSHOOT = 0.5
"""How far float pixels may lie outside [0, 1], as resampling leaves them; they are clipped."""

_FULL_SCALE = {"uint8": (128, 128), "int16": (0, 1 << 15), "int32": (0, 1 << 31)}


def whole_number(value: Any, name: str, least: int) -> int:
    """A whole number of Python or NumPy as int. Raises ConfigError for bool, another type, or one below `least`."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise ConfigError(f"{name} must be a whole number from {least}, not {value!r:.60}.") from None
    if number < least:
        raise ConfigError(f"{name} must be a whole number from {least}, not {number}.")
    return number


def set_whole_numbers(settings: Any, least: Mapping[str, int], where: str = "") -> None:
    """Check fields of a frozen dataclass in its `__post_init__` with `whole_number`; those that are None stay so."""
    for name, lowest in least.items():
        value = getattr(settings, name)
        if value is not None:
            object.__setattr__(settings, name, whole_number(value, where + name, lowest))


def _array(values: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError:  # lists of unequal lengths
        raise InputError(f"{name} must be an array, not lists of unequal lengths.") from None


def mono_sound(samples: Any, name: str = "the sound") -> Float[np.ndarray, "t"]:
    """Samples as mono float32 [T] in [-1, 1]; the rate is left as it is.

    Args:
      samples: [T] or [T, channels] with up to 8 channels, which are averaged; float in [-1, 1], or uint8, int16 or
        int32 at full scale.
      name: for messages.

    Raises:
      InputError: another shape or dtype, NaN or infinity, or floats that are not scaled to [-1, 1].
    """
    samples = _array(samples, name)
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not 1 <= samples.shape[1] <= MOST_CHANNELS):
        wanted = f"[T] or [T, channels] with up to {MOST_CHANNELS} channels"
        raise InputError(f"{name} must have the shape {wanted}, not {list(samples.shape)}.")
    if samples.dtype.name in _FULL_SCALE:
        middle, scale = _FULL_SCALE[samples.dtype.name]
        samples = ((samples.astype(np.float64) - middle) / scale).astype(np.float32)
    elif not np.issubdtype(samples.dtype, np.floating):
        raise InputError(f"{name} must be float in [-1, 1], int16, int32 or uint8, not {samples.dtype}.")
    peak = float(np.abs(samples).max(initial=0))
    if not peak <= LOUDEST:  # also for NaN
        found = f"up to {peak:g}" if np.isfinite(peak) else "NaN or infinity"
        raise InputError(f"{name} has samples of {found}: give floats in [-1, 1].")
    mono = samples if samples.ndim == 1 else samples.mean(axis=1, dtype=np.float64)
    return np.clip(mono, -1, 1).astype(np.float32)


def rgb_frame(image: Any, name: str) -> UInt8[np.ndarray, "h w 3"]:
    """An image [H, W, 3], uint8 or float in [0, 1], as uint8.

    Raises:
      InputError: another shape or dtype, NaN or infinity, or floats that are not scaled to [0, 1].
    """
    image = _array(image, name)
    if image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
        raise InputError(f"{name} must be an image of shape [H, W, 3], not {list(image.shape)}.")
    if image.dtype == np.uint8:
        return image
    if not np.issubdtype(image.dtype, np.floating):
        raise InputError(f"{name} must be uint8, or float in [0, 1], not {image.dtype}.")
    low, high = float(image.min()), float(image.max())
    if not (low >= -OVERSHOOT and high <= 1 + OVERSHOOT):  # also for NaN
        raise InputError(f"{name} has values from {low:g} to {high:g}: give floats in [0, 1].")
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def same_size(frame: np.ndarray, shape: tuple[int, ...] | None, name: str) -> tuple[int, ...]:
    """The frame's shape. Raises InputError where it differs from `shape`, that of the frames before it."""
    if shape is not None and frame.shape != tuple(shape):
        before, now = (f"{s[1]}×{s[0]}" for s in (shape, frame.shape))
        raise InputError(f"The frames of {name} change size from {before} to {now}: give frames of one size.")
    return frame.shape
