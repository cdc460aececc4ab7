"""Choice of the reference frame: the driving frame that corresponds to the source's pose.

Relative motion starts there, so that a frame of another pose shifts every generated frame by the difference. The
distance that decides is therefore that of the landmarks in the crop, head pose and place included. FOMM compares faces
with place and size removed, which says little about the picture.
"""

from collections.abc import Sequence

import numpy as np

from avfr_jax.landmarks import NUM_VERTICES, POSE_POINTS, POSE_SHAPE
from avfr_jax.reenact.settings import BestFrame
from avfr_jax.tracking import DrivingSource, TrackedFrame
from avfr_jax.typing import Float

_MEASURED_TWICE = 4
"""Candidates whose landmarks are measured as the source's are: a detector's differ from them by about a pixel."""
_NOISE = 0.01  # in head sizes; half a pixel where a head fills a frame of 256 × 256


def choose_reference(
    best_frame: BestFrame, source: TrackedFrame, driving: DrivingSource, faces: Sequence[TrackedFrame]
) -> TrackedFrame | None:
    """The reference frame.

    With `auto` it is the earliest with a face unless another is clearly nearer to the source.

    Args:
      best_frame: see `Reenactor`.
      source: the tracked source.
      driving: the driving frames.
      faces: those of `driving.sample` with landmarks.

    Returns:
      The frame; None for the first frame with a face.

    Raises:
      ConfigError: `best_frame` is a number that the clip does not have.
    """
    if isinstance(best_frame, int):
        return driving.frame(best_frame)
    if best_frame != "auto" or source.landmarks is None:
        return None
    ours = source.landmarks
    if len(faces) < 2:
        return None
    nearest = sorted(faces[1:], key=lambda face: mesh_distance(ours, _landmarks(face)))[:_MEASURED_TWICE]
    if len(faces) - 1 > len(nearest):
        # A crop of one picture and one of a clip may frame the same face differently.
        alike = min(faces[1:], key=lambda face: mesh_distance(ours, _landmarks(face), placed=False))
        nearest = nearest if alike in nearest else [*nearest, alike]
    candidates = [driving.frame(face.index) for face in sorted((faces[0], *nearest), key=lambda face: face.index)]
    candidates = [face for face in candidates if face.landmarks is not None]
    chosen = _nearest(ours, candidates)
    return chosen if chosen is not None and chosen.index else None


def _landmarks(frame: TrackedFrame) -> Float[np.ndarray, "478 3"]:
    assert frame.landmarks is not None
    return frame.landmarks


def _nearest(ours: Float[np.ndarray, "478 3"], candidates: list[TrackedFrame]) -> TrackedFrame | None:
    """The same picture as the source's, else the earliest that no other is nearer than by more than the noise."""
    unplaced = [mesh_distance(ours, _landmarks(face), placed=False) for face in candidates]
    same = [face for face, distance in zip(candidates, unplaced, strict=True) if distance < _NOISE]
    pool = same[:1] or candidates
    distances = [mesh_distance(ours, _landmarks(face)) for face in pool]
    limit = min(distances, default=0.0) + _NOISE
    return next((face for face, distance in zip(pool, distances, strict=True) if distance <= limit), None)


def mesh_distance(a: Float[np.ndarray, "k 3"], b: Float[np.ndarray, "k 3"], *, placed: bool = True) -> float:
    """Mean distance of two faces' points in units of the first one's head size.

    Args:
      a: landmarks in [-1, 1] of the crop.
      b: the same.
      placed: False removes each face's place and size first.
    """
    points = np.stack([a, b])
    rigid = points[:, list(POSE_POINTS)] - points[:, list(POSE_POINTS)].mean(1, keepdims=True)
    model = POSE_SHAPE - POSE_SHAPE.mean(0)
    size = np.sqrt((rigid**2).sum((1, 2)) / (model**2).sum())
    points = points[:, :NUM_VERTICES, :2]
    points = points / size[0] if placed else (points - points.mean(1, keepdims=True)) / size[:, None, None]
    return float(np.linalg.norm(points[0] - points[1], axis=-1).mean())
