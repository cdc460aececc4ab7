"""A crop for each frame of a clip whose face moves further than one crop can hold: it follows the face.

The path of the crop is the one of least acceleration within a tube around the face, so that the crop rests or moves
evenly while the face moves a little. The problem is that of Grundmann, Kwatra and Essa ("Auto-directed video
stabilization with robust L1 optimal camera paths", CVPR 2011, sec. 3), with squared in place of absolute derivatives,
solved by the alternating direction method of multipliers (Boyd et al., 2011, sec. 5.2).
"""

from collections.abc import Sequence

import numpy as np
from scipy.linalg import cho_solve_banded, cholesky_banded

from avfr_jax.errors import FaceError
from avfr_jax.faces.crop import FIT_UNION, VERTICAL_CENTRE, Crop, fit, union_and_side
from avfr_jax.typing import Bool, Float, Int

LARGEST_SIDE = 2.75  # of a crop for a whole clip, over the side of its smaller faces; ordinary clips: up to 2.3
UNWATCHED = 0.005  # share of the frames in which the face may leave a crop for a whole clip
POSITION_TUBE = 0.1  # half width, in sides of the face
SIZE_TUBE = 0.14  # half width, of the logarithm of its side
REACTION = 1.0  # seconds: weight of the acceleration over that of the speed, squared
CUT_STEP = 0.5  # sides of the face: a larger step in one frame, if it stands alone, is a cut
CUT_CONTRAST = 3.0  # and is so many times those beside it
SHORTEST_SCENE = 0.2  # seconds: the face in a shorter one is a false detection
_ROUNDS = 200  # of the solver, whose penalty for leaving the tube is the weight of the speed


def holds(crop: Crop, boxes: Float[np.ndarray, "n 4"], image_shape: Sequence[int]) -> bool:
    """Whether one crop shows the face of a clip well: whole in nearly all frames, as far as the frame shows it, and
    nowhere much smaller than the crop.

    Args:
      crop: for the clip.
      boxes: see `face_boxes`.
      image_shape: of the frames, [H, W, …].
    """
    seen = boxes[np.isfinite(boxes).all(1)]
    if len(seen) == 0:
        return True
    return bool(
        faces_outside(crop, seen, image_shape).mean() <= UNWATCHED
        and crop.side <= LARGEST_SIDE * np.percentile(_sides(seen), 5)
    )


def faces_outside(crop: Crop, boxes: Float[np.ndarray, "n 4"], image_shape: Sequence[int]) -> Bool[np.ndarray, "n"]:
    """Whether any part of a face that the image shows lies outside the crop; False for NaN. See `holds`."""
    return np.asarray((np.nan_to_num(overhang(crop, boxes, image_shape)) != 0).any(1))


def overhang(
    crop: Crop, boxes: Float[np.ndarray, "n 4"], image_shape: Sequence[int], margin: float = 0.0
) -> Float[np.ndarray, "n 2"]:
    """The shift (x, y) in pixels by which a crop would hold the part of each box that lies in the image, with a margin.
    A box larger than that is centred."""
    height, width = image_shape[:2]
    edges = np.array([width, height, width, height], np.float64)
    part = np.clip(boxes, 0, edges)
    corner = np.array([crop.x, crop.y])
    low, high = part[:, :2] - corner - margin, part[:, 2:] - corner - crop.side + margin
    shift = np.minimum(low, 0) + np.maximum(high, 0)
    return np.where(low < high, (low + high) / 2, shift)


def following_crops(boxes: Float[np.ndarray, "n 4"], image_shape: Sequence[int], fps: float) -> list[Crop]:
    """A crop for each frame of a clip that follows the face, and jumps at cuts. Its side is the same multiple of the
    face's smoothed size throughout.

    Args:
      boxes: of the face, see `face_boxes`.
      image_shape: of the frames, [H, W, …].
      fps: frames a second.

    Raises:
      FaceError: no frame has a face.
    """
    boxes = np.asarray(boxes, np.float64)
    scenes = _scenes(boxes, fps)
    if not scenes:
        raise FaceError("no frame has a face to crop to: use a clip that shows one, or crop none")
    path = np.empty((len(boxes), 3))  # centre and side of the face, smoothed
    relative = []
    for first, end, seen in scenes:
        path[first:end] = _smoothed(boxes, first, end, seen, fps)
        relative.append((boxes[seen] - np.tile(path[seen, :2], 2)) / path[seen, 2:])
    low, high, side = union_and_side(np.concatenate(relative))
    fill, shorter = float((high - low).max()) / FIT_UNION, float(min(image_shape[:2]))
    offset = (low + high) / 2
    crops = []
    for x, y, unit in path:
        length = min(side * unit, max(shorter, fill * unit))
        left, top = x + offset[0] * unit - length / 2, y + offset[1] * unit - length * VERTICAL_CENTRE
        left, top = fit(left, top, length, image_shape)
        crops.append(Crop(float(left), float(top), float(length)))
    return crops


def _sides(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n"]:
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).max(1))


def _scenes(boxes: Float[np.ndarray, "n 4"], fps: float) -> list[tuple[int, int, Int[np.ndarray, "m"]]]:
    """First frame, end and frames with a face of each scene; together all frames."""
    seen = np.flatnonzero(np.isfinite(boxes).all(1))
    if len(seen) == 0:
        return []
    while True:
        parts = np.split(seen, _cuts(boxes, seen) + 1)
        long = [part for part in parts if len(part) >= SHORTEST_SCENE * fps] or [seen]
        if len(long) == len(parts) or len(long[0]) == len(seen):
            break
        seen = np.concatenate(long)
    starts = [0, *(int(part[0]) for part in long[1:]), len(boxes)]
    return [(first, end, part) for first, end, part in zip(starts, starts[1:], long, strict=False)]


def _cuts(boxes: Float[np.ndarray, "n 4"], seen: Int[np.ndarray, "m"]) -> Int[np.ndarray, "k"]:
    """Places in `seen` after which the face is elsewhere."""
    found = boxes[seen]
    sides = _sides(found)
    centres = (found[:, :2] + found[:, 2:]) / 2
    moved = np.linalg.norm(np.diff(centres, axis=0), axis=1) / np.minimum(sides[1:], sides[:-1])
    grown = np.abs(np.diff(np.log(sides)))
    steps = np.maximum(moved, grown) / np.diff(seen)
    padded = np.pad(steps, 1)
    beside = np.maximum(padded[:-2], padded[2:])
    return np.flatnonzero((steps > CUT_STEP) & (steps > CUT_CONTRAST * beside))


def _smoothed(
    boxes: Float[np.ndarray, "n 4"], first: int, end: int, seen: Int[np.ndarray, "m"], fps: float
) -> Float[np.ndarray, "k 3"]:
    """Smooth path (x, y, side) of the face through the frames of a scene."""
    found = boxes[seen]
    sides = _sides(found)
    unit = float(np.median(sides))
    tracks = np.column_stack([(found[:, :2] + found[:, 2:]) / (2 * unit), np.log(sides)])
    width = np.column_stack([*[POSITION_TUBE * sides / unit] * 2, np.full(len(sides), SIZE_TUBE)])
    frames = np.arange(first, end)
    low, high = (
        np.column_stack([np.interp(frames, seen, column) for column in edge.T])
        for edge in (tracks - width, tracks + width)
    )
    path = steadiest(low, high, REACTION * fps)
    return np.column_stack([path[:, :2] * unit, np.exp(path[:, 2])])


def steadiest(
    low: Float[np.ndarray, "n k"], high: Float[np.ndarray, "n k"], reaction: float
) -> Float[np.ndarray, "n k"]:
    """The tracks of least Σ (Δp)² + reaction² Σ (Δ²p)² between bounds, each column by itself.

    Args:
      low: lower bounds.
      high: upper bounds.
      reaction: in frames; the larger, the earlier and the slower a change of speed.
    """
    factor = cholesky_banded(_system(len(low), reaction), lower=True)
    inside, multiplier = (low + high) / 2, np.zeros_like(low)
    for _ in range(_ROUNDS):
        path = cho_solve_banded((factor, True), inside - multiplier)
        inside = np.clip(path + multiplier, low, high)
        multiplier += path - inside
    return np.asarray(path)


def _system(count: int, reaction: float) -> Float[np.ndarray, "d {count}"]:
    """Diagonals, the main one first, of the matrix of the objective of `steadiest` with the solver's penalty."""
    diagonals = np.zeros((min(3, count), count))
    diagonals[0] = 1
    for weight, stencil in ((1.0, (1.0, -1.0)), (reaction**2, (1.0, -2.0, 1.0))):
        rows = count - len(stencil) + 1
        for i in range(len(stencil) if rows > 0 else 0):
            for j in range(i + 1):
                diagonals[i - j, j : j + rows] += weight * stencil[i] * stencil[j]
    return diagonals
