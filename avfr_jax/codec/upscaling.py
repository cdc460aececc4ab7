"""Networks that a receiver applies to rendered frames: super-resolution and interpolation."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np

from avfr_jax.errors import ConfigError
from avfr_jax.model_store import list_models, load_interpolator, load_super_resolver
from avfr_jax.models.interpolation import Interpolator
from avfr_jax.models.super_resolution import SuperResolver
from avfr_jax.typing import UInt8

SUPER_RESOLVER, INTERPOLATOR, BICUBIC = "super_resolution64", "interpolation128", "bicubic"
_AT_ONCE = 4  # frames that are upscaled together


def choose_super_resolver(name: str | None) -> SuperResolver | None:
    """The super-resolver of that name or folder; None for `bicubic`. Without a name, `SUPER_RESOLVER` if there is one.

    Raises:
      ConfigError, CheckpointError: see `load_super_resolver`.
    """
    name = name or _present(SUPER_RESOLVER) or BICUBIC
    return None if name == BICUBIC else load_super_resolver(name)


def choose_interpolator(how: Literal["motion", "pictures"], name: str | None) -> Interpolator | None:
    """The interpolator of skipped frames: for `pictures` the named one, or `INTERPOLATOR`; None for `motion`.

    Raises:
      ConfigError: a name is given for `motion`, or there is no such model, or none for `pictures`.
      CheckpointError: see `load_interpolator`.
    """
    if how == "motion":
        if name is not None:
            raise ConfigError("An interpolator makes pictures; give --interpolate pictures with it.")
        return None
    name = name or _present(INTERPOLATOR)
    if name is None:
        raise ConfigError("--interpolate pictures needs a trained model: name one, or its folder, by --interpolator.")
    return load_interpolator(name)


def _present(name: str) -> str | None:
    return name if any(info.name == name for info in list_models()) else None


def resize_frames(
    frames: Iterable[Any], width: int, height: int, super_resolver: SuperResolver | None
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Resize frames, bicubically or, where they grow in both directions, by a super-resolver."""
    left = iter(frames)
    while some := list(itertools.islice(left, _AT_ONCE)):
        if super_resolver is None or some[0].shape[0] >= height or some[0].shape[1] >= width:
            yield from (resize_bicubic(frame, width, height) for frame in some)
        else:
            yield from super_resolver(np.stack(some), height, width)


def resize_bicubic(frame: UInt8[np.ndarray, "h w 3"], width: int, height: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Resize a frame bicubically."""
    if frame.shape[:2] == (height, width):
        return frame
    import cv2

    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC)
