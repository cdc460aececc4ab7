"""Rates by hand, and Bjøntegaard deltas of curves of known distance."""

import numpy as np
import pytest

from avfr_jax.metrics import rate

RATES = [5.0, 10.0, 20.0, 40.0]
QUALITIES = [25.0, 28.0, 30.5, 32.0]


def test_rates_by_hand():
    # 1000 bytes are 8000 bits; 125 frames at 25 a second last five seconds.
    assert rate.kbits_per_second(1000, 125, 25) == pytest.approx(1.6)
    assert rate.bits_per_pixel(1000, 125, 256, 256) == pytest.approx(8000 / (125 * 65536))
    # Ten keypoints of two 32-bit numbers a frame: the 0.0098 of the paper.
    assert rate.bits_per_pixel(80, 1, 256, 256) == pytest.approx(0.0098, abs=5e-5)
    with pytest.raises(ValueError, match="0 frames"):
        rate.bits_per_pixel(1, 0, 8, 8)
    with pytest.raises(ValueError, match="bit rate"):
        rate.kbits_per_second(1, 5, 0)


def test_equal_curves():
    assert rate.bd_rate(RATES, QUALITIES, RATES, QUALITIES) == pytest.approx(0)
    assert rate.bd_quality(RATES, QUALITIES, RATES, QUALITIES) == pytest.approx(0)


@pytest.mark.parametrize(("factor", "percent"), [(0.5, -50), (2, 100), (1.25, 25)])
def test_a_curve_at_a_multiple_of_the_rate(factor, percent):
    other = [factor * r for r in RATES]
    assert rate.bd_rate(RATES, QUALITIES, other, QUALITIES) == pytest.approx(percent)
    assert (rate.bd_quality(RATES, QUALITIES, other, QUALITIES) < 0) == (percent > 0)


def test_a_curve_of_better_quality():
    assert rate.bd_quality(RATES, QUALITIES, RATES, [q + 1.5 for q in QUALITIES]) == pytest.approx(1.5)


def test_straight_lines_by_hand():
    # PCHIP leaves lines straight. Of the qualities 10 to 20 that both reach, log10 of the rates is q/10 and q/20, whose
    # mean difference is -0.75.
    ours = rate.bd_rate([10, 31.6227766, 100], [10, 15, 20], [1, 10**0.5, 10], [0, 10, 20])
    assert ours == pytest.approx(100 * (10**-0.75 - 1))


def test_smooth_curves_match_one_cubic():
    """Four points on smooth curves leave little to the manner of interpolation."""
    anchor = [686.76, 309.58, 157.11, 85.95], [40.28, 37.18, 34.24, 31.42]
    codec = [893.34, 407.8, 204.93, 112.75], [40.39, 37.21, 34.17, 31.24]
    assert rate.bd_rate(*anchor, *codec) == pytest.approx(_by_cubic(anchor, codec), abs=0.3)


def _by_cubic(anchor, codec) -> float:
    """Bjøntegaard's first form: one cubic through four points, integrated in closed form."""
    low = max(min(anchor[1]), min(codec[1]))
    high = min(max(anchor[1]), max(codec[1]))
    areas = []
    for rates, qualities in (anchor, codec):
        integral = np.polyint(np.polyfit(qualities, np.log(rates), 3))
        areas.append(np.polyval(integral, high) - np.polyval(integral, low))
    return 100 * (np.exp((areas[1] - areas[0]) / (high - low)) - 1)


def test_order_and_dominated_points_are_ignored():
    expected = rate.bd_rate(RATES, QUALITIES, [r / 2 for r in RATES], QUALITIES)
    shuffled = [40.0, 5.0, 30.0, 20.0, 10.0, 0.0, 15.0], [32.0, 25.0, 29.0, 30.5, 28.0, 20.0, float("nan")]
    assert rate.rising_points(*shuffled)[0].tolist() == RATES  # 30 is dearer than 20 and worse; 0 has no logarithm
    assert rate.bd_rate(*shuffled, [r / 2 for r in RATES], QUALITIES) == pytest.approx(expected)


def test_curves_that_cannot_be_compared():
    with pytest.raises(ValueError, match="codec has 2 points"):
        rate.bd_rate(RATES, QUALITIES, [1, 2, 3], [20, 22, 21])
    with pytest.raises(ValueError, match="anchor has 0 points"):
        rate.bd_rate([], [], RATES, QUALITIES)
    with pytest.raises(ValueError, match="no quality that both"):
        rate.bd_rate(RATES, QUALITIES, RATES, [q + 20 for q in QUALITIES])
    with pytest.raises(ValueError, match="no rate that both"):
        rate.bd_quality(RATES, QUALITIES, [100 * r for r in RATES], QUALITIES)
    with pytest.raises(ValueError, match="one quality for each rate"):
        rate.bd_rate(RATES, QUALITIES[:3], RATES, QUALITIES)
