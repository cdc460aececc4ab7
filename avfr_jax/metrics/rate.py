"""Bits per pixel, bit rates, and Bjøntegaard's comparison of two rate-distortion curves.

The average difference between two curves (Bjøntegaard, VCEG-M33, 2001): log rate as a function of quality is
integrated over the qualities that both curves reach (delta rate), or quality as a function of log rate over the rates
that both reach (delta quality). The points are joined by piecewise cubic Hermite interpolation (PCHIP), as in JVET's
common test conditions, instead of one cubic through all of them, which swings between points that lie far apart.
"""

from collections.abc import Sequence

import numpy as np
from scipy.interpolate import PchipInterpolator

Numbers = Sequence[float | int] | np.ndarray
LEAST_POINTS = 3  # of a curve: with two, the interpolation is a straight line


def bits_per_pixel(size: float | int, frames: int, height: int, width: int) -> float:
    """Bits sent for each pixel shown.

    Args:
      size: bytes sent, all of them.
      frames: frames shown, skipped ones included.
      height, width: of a frame as it is shown.

    Raises:
      ValueError: no frame or no pixel.
    """
    if frames < 1 or height < 1 or width < 1:
        raise ValueError(f"bits per pixel of {frames} frames of {width} x {height} pixels do not exist")
    return 8 * size / (frames * height * width)


def kbits_per_second(size: float | int, frames: int, fps: float | int) -> float:
    """Bit rate, in thousands of bits a second, of `size` bytes for so many frames shown at `fps` a second.

    Raises:
      ValueError: no frame, or a rate that is not positive.
    """
    if frames < 1 or not fps > 0:
        raise ValueError(f"a bit rate of {frames} frames at {fps} a second does not exist")
    return 8 * size * fps / frames / 1000


def rising_points(rates: Numbers, qualities: Numbers) -> tuple[np.ndarray, np.ndarray]:
    """The Pareto front of a rate-distortion curve, by rising rate.

    Both interpolations need a rising curve, so a point that costs more than another and is no better is left out, as
    are points without a finite quality or a positive rate.

    Args:
      rates: of each point, any unit.
      qualities: of each point, larger is better.

    Returns:
      Rates and qualities, float64, both strictly rising.

    Raises:
      ValueError: lists of different lengths.
    """
    rate, quality = np.asarray(rates, np.float64), np.asarray(qualities, np.float64)
    if rate.shape != quality.shape or rate.ndim != 1:
        raise ValueError(f"a curve has one quality for each rate, not {rate.shape} rates and {quality.shape} qualities")
    usable = np.isfinite(rate) & np.isfinite(quality) & (rate > 0)
    rate, quality = rate[usable], quality[usable]
    order = np.lexsort((-quality, rate))
    rate, quality = rate[order], quality[order]
    better = quality > np.concatenate([[-np.inf], np.maximum.accumulate(quality)[:-1]])
    return rate[better], quality[better]


def bd_rate(anchor_rates: Numbers, anchor_qualities: Numbers, rates: Numbers, qualities: Numbers) -> float:
    """Bjøntegaard delta rate: bits of a codec over the anchor's at the same quality, in per cent; negative is fewer.

    Args:
      anchor_rates, rates: of the points of each curve, in any order and any one unit.
      anchor_qualities, qualities: of the same points, in any one measure; larger is better (PSNR, SSIM, a negated
        distance).

    Returns:
      The mean ratio of the rates, geometric over the qualities that both curves reach, minus one, in per cent.

    Raises:
      ValueError: fewer than three points that rise (`rising_points`), or no quality that both reach.
    """
    (anchor_rate, anchor_quality), (rate, quality) = _curves(anchor_rates, anchor_qualities, rates, qualities)
    low, high = _overlap(anchor_quality, quality, "quality")
    difference = _mean(quality, np.log(rate), low, high) - _mean(anchor_quality, np.log(anchor_rate), low, high)
    return float(100 * np.expm1(difference))


def bd_quality(anchor_rates: Numbers, anchor_qualities: Numbers, rates: Numbers, qualities: Numbers) -> float:
    """Bjøntegaard delta quality at the same rate, in the unit of the quality (BD-PSNR: dB).

    Arguments and errors as for `bd_rate`; the mean is over the logarithm of the rates that both curves reach.
    """
    (anchor_rate, anchor_quality), (rate, quality) = _curves(anchor_rates, anchor_qualities, rates, qualities)
    low, high = _overlap(np.log(anchor_rate), np.log(rate), "rate")
    return float(_mean(np.log(rate), quality, low, high) - _mean(np.log(anchor_rate), anchor_quality, low, high))


def _curves(
    anchor_rates: Numbers, anchor_qualities: Numbers, rates: Numbers, qualities: Numbers
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    both = rising_points(anchor_rates, anchor_qualities), rising_points(rates, qualities)
    for name, (rate, _) in zip(("anchor", "codec"), both, strict=True):
        if len(rate) < LEAST_POINTS:
            raise ValueError(f"the {name} has {len(rate)} points whose quality rises with the rate, not {LEAST_POINTS}")
    return both


def _overlap(a: np.ndarray, b: np.ndarray, what: str) -> tuple[float, float]:
    low, high = max(a[0], b[0]), min(a[-1], b[-1])
    if not low < high:
        raise ValueError(f"there is no {what} that both curves reach")
    return float(low), float(high)


def _mean(x: np.ndarray, y: np.ndarray, low: float, high: float) -> float:
    """Mean of the curve through (x, y) between two values of x."""
    return float(PchipInterpolator(x, y).integrate(low, high)) / (high - low)
