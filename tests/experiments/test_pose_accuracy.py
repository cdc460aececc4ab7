import numpy as np
import pytest

from avfr_jax.errors import FaceError
from experiments.pose_accuracy import ANGLES, figures


def test_figures_by_hand():
    """A solver that measures 0.9 of every angle, 3 degrees beside it, and misses one face."""
    measured = np.array(ANGLES) * 0.9 + 3
    measured[0] = np.nan  # yaw -40
    slope, inside, error, rest = figures([measured, measured], 0)
    assert slope == pytest.approx(0.9)
    assert inside == pytest.approx((1 + 2) / 2)
    assert error == pytest.approx((1 + 1 + 2 + 2 + 3 + 3 + 4) / 7)
    assert rest == pytest.approx(3)
    assert figures([measured], 1)[1] == pytest.approx(1.5)
    with pytest.raises(FaceError, match="no face"):
        figures([np.full((len(ANGLES), 2), np.nan)], 0)
