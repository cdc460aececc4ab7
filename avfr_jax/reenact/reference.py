"""Choice of the reference frame: the driving frame that corresponds to the source's pose."""

import numpy as np

from avfr_jax.landmarks import NUM_VERTICES
from avfr_jax.ops.matrices import hull_area
from avfr_jax.reenact.settings import BestFrame
from avfr_jax.tracking import SAMPLES, DrivingSource, TrackedFrame
from avfr_jax.typing import Float


def choose_reference(best_frame: BestFrame, source: TrackedFrame, driving: DrivingSource) -> int | None:
    """The number of the reference frame.

    Args:
      best_frame: see `Reenactor`.
      source: the tracked source.
      driving: the driving frames.

    Returns:
      The number; None for the first frame with a face.
    """
    if isinstance(best_frame, int):
        return best_frame
    if best_frame != "auto" or source.landmarks is None:
        return None
    samples = driving.sample(SAMPLES)
    distances = [(shape_distance(source.landmarks, f.landmarks), f.index) for f in samples if f.landmarks is not None]
    return min(distances, default=(0.0, 0))[1] or None


def shape_distance(a: Float[np.ndarray, "k 3"], b: Float[np.ndarray, "k 3"]) -> float:
    """FOMM's measure for the best frame: squared distance of two faces' points about their mean, each in units of the
    square root of its convex hull's area."""
    shapes = []
    for points in (a[:NUM_VERTICES, :2], b[:NUM_VERTICES, :2]):
        centred = points - points.mean(0)
        shapes.append(centred / np.sqrt(max(hull_area(centred), 1e-9)))
    return float(((shapes[0] - shapes[1]) ** 2).sum())
