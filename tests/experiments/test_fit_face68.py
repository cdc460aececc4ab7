"""The rigid shape behind landmarks of many frames."""

import numpy as np

from avfr_jax.faces.pose import rotation_from_angles
from avfr_jax.faces.pose68 import SHAPE68
from experiments.fit_face68 import fit, mirror


def test_a_known_shape_comes_back():
    """Projected under rotations of both signs and three axes, the shape is found up to its upright pose."""
    rng = np.random.default_rng(0)
    frames = []
    for yaw, pitch, roll in zip(*(rng.uniform(-a, a, 60) for a in (35, 15, 10)), strict=True):
        seen = SHAPE68 @ rotation_from_angles(float(yaw), float(pitch), float(roll)).T
        frames.append(seen[:, :2] * rng.uniform(50, 200) + rng.uniform(0, 300, 2))
    shape, error = fit(np.stack(frames), rounds=80)
    assert error < 2e-3
    lengths = [np.linalg.norm(s[:, None] - s[None], axis=-1) for s in (shape, SHAPE68)]
    np.testing.assert_allclose(*lengths, atol=0.02)
    np.testing.assert_allclose(shape[mirror()] * [-1, 1, 1], shape, atol=1e-9)
    assert shape[3, 2] < -0.4  # the nose's tip is in front of the eyes
