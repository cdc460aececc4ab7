"""Pasting of a generated square into the frame of its crop."""

import functools
from collections.abc import Sequence

import cv2
import numpy as np

from avfr_jax.errors import ConfigError
from avfr_jax.faces.crop import Crop
from avfr_jax.typing import Float, UInt8

FEATHER = 0.08  # width of the blend along the border, as a fraction of the side
CORNER = 0.25  # radius of the rounded corners, likewise
LOBES = 3  # of the Lanczos kernel


def paste_back(
    frame: UInt8[np.ndarray, "h w 3"],
    generated: UInt8[np.ndarray, "s t 3"],
    crop: Crop,
) -> UInt8[np.ndarray, "h w 3"]:
    """A copy of `frame` with `generated` blended in at `crop`.

    The weight falls to zero at the square's border, along a feathered rounded rectangle, but not where that border is
    the frame's own or lies outside it: there is nothing to blend with. Placed to subpixel precision with a Lanczos
    kernel, widened where the square shrinks; parts outside the frame are dropped.

    Raises:
      ConfigError: the image is not square.
    """
    size = generated.shape[0]
    if generated.shape != (size, size, 3):
        raise ConfigError(f"a generated square must be [s, s, 3], not {list(generated.shape)}")
    height, width = frame.shape[:2]
    x0, x1 = max(0, int(np.floor(crop.x))), min(width, int(np.ceil(crop.x + crop.side)))
    y0, y1 = max(0, int(np.floor(crop.y))), min(height, int(np.ceil(crop.y + crop.side)))
    result = frame.copy()
    if x0 >= x1 or y0 >= y1:
        return result
    place = (crop.side / size, x0 - crop.x, x1 - x0, y0 - crop.y, y1 - y0)
    share = _placed_border(size, open_sides(crop, frame.shape), *place)
    pixels = np.ascontiguousarray(_placed(generated, *place))
    if pixels.dtype != np.uint8:
        pixels = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    part = np.ascontiguousarray(frame[y0:y1, x0:x1])
    result[y0:y1, x0:x1] = cv2.blendLinear(pixels, part, np.ascontiguousarray(share), 1 - share)
    return result


def open_sides(crop: Crop, image_shape: Sequence[int]) -> tuple[bool, bool, bool, bool]:
    """Whether the left, right, upper and lower side of a crop are those of the image [H, W, …], or lie outside it."""
    height, width = image_shape[:2]
    right, lower = crop.x + crop.side >= width - 0.5, crop.y + crop.side >= height - 0.5
    return crop.x <= 0.5, right, crop.y <= 0.5, lower


def border_distance(size: int, ends: tuple[bool, bool, bool, bool]) -> Float[np.ndarray, "{size} {size}"]:
    """Distance of each pixel of a square from its rounded border, in sides, at most `CORNER`; the left, right, upper
    or lower side does not count where the frame ends there."""
    position = (2 * np.arange(size) + 1) / size - 1  # -1 and 1 at the border
    straight = 1 - 2 * CORNER
    left, right, upper, lower = (np.maximum(sign * position - straight, 0) for sign in (-1, 1, -1, 1))
    across = np.where(ends[0], 0, left) + np.where(ends[1], 0, right)
    x, y = np.meshgrid(across, np.where(ends[2], 0, upper) + np.where(ends[3], 0, lower))
    return np.asarray(CORNER - np.hypot(x, y) / 2)


@functools.lru_cache(maxsize=8)
def _border(size: int, ends: tuple[bool, bool, bool, bool]) -> Float[np.ndarray, "{size} {size}"]:
    """Weight 1 inside a rounded rectangle, smoothly 0 at the border of the square, except at its left, right, upper
    or lower side where the frame ends there."""
    ramp = np.clip(border_distance(size, ends) / FEATHER, 0, 1)
    weight: np.ndarray = (ramp * ramp * (3 - 2 * ramp)).astype(np.float32)
    weight.setflags(write=False)
    return weight


@functools.lru_cache(maxsize=8)
def _placed_border(
    size: int, ends: tuple[bool, bool, bool, bool], scale: float, left: float, width: int, top: float, height: int
) -> Float[np.ndarray, "{height} {width}"]:
    share = _placed(_border(size, ends), scale, left, width, top, height)
    share.setflags(write=False)
    return share


def _placed(
    image: Float[np.ndarray, "s s *c"] | UInt8[np.ndarray, "s s *c"],
    scale: float,
    left: float,
    width: int,
    top: float,
    height: int,
) -> Float[np.ndarray, "{height} {width} *c"] | UInt8[np.ndarray, "{height} {width} *c"]:
    """Resample a square, of samples `scale` pixels wide, at width x height pixels from (left, top) pixels after its
    corner on. A weight, [s, s], stays in [0, 1]."""
    size = image.shape[0]
    if scale >= 1:
        method = cv2.INTER_LINEAR if image.ndim == 2 else cv2.INTER_CUBIC
        side, x, y = scale * size, left, top
        if all(abs(value - round(value)) < 1e-6 for value in (x, y, side)):  # several times faster
            whole = cv2.resize(image, (round(side), round(side)), interpolation=method)
            return whole[round(y) : round(y) + height, round(x) : round(x) + width]
        there = np.array([[1 / scale, 0, (left + 0.5) / scale - 0.5], [0, 1 / scale, (top + 0.5) / scale - 0.5]])
        flags = method | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(image, there, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    across, down = _kernel(size, scale, left, width), _kernel(size, scale, top, height)
    result = _resample(image.reshape(size, size, -1).astype(np.float32), down, across)
    return np.clip(result[..., 0], 0, 1) if image.ndim == 2 else result


@functools.lru_cache(maxsize=16)
def _kernel(size: int, scale: float, offset: float, count: int) -> Float[np.ndarray, "{count} {size}"]:
    """Lanczos weights of `size` samples, each `scale` pixels wide, at `count` pixels that begin `offset` after them."""
    centres = (offset + np.arange(count) + 0.5) / scale - 0.5
    stretch = max(1.0, 1 / scale)  # more samples than pixels: average
    taps = np.arange(-int(np.ceil(LOBES * stretch)), int(np.ceil(LOBES * stretch)) + 2)
    columns = np.floor(centres).astype(int)[:, None] + taps
    distance = (columns - centres[:, None]) / stretch
    weights = np.where(np.abs(distance) < LOBES, np.sinc(distance) * np.sinc(distance / LOBES), 0)
    weights /= weights.sum(1, keepdims=True)
    matrix = np.zeros((count, size), np.float32)
    np.add.at(matrix, (np.arange(count)[:, None], np.clip(columns, 0, size - 1)), weights)
    matrix.setflags(write=False)
    return matrix


def _resample(
    image: Float[np.ndarray, "s t c"], down: Float[np.ndarray, "h s"], across: Float[np.ndarray, "w t"]
) -> Float[np.ndarray, "h w c"]:
    """Separable resampling by one matrix for rows and one for columns."""
    rows, columns, channels = image.shape
    wide = across @ image.transpose(1, 0, 2).reshape(columns, rows * channels)
    tall = wide.reshape(-1, rows, channels).transpose(1, 0, 2).reshape(rows, -1)
    return np.asarray((down @ tall).reshape(len(down), len(across), channels))
