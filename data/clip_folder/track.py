"""Face tracking through a video and its division into shots and tubes.

The rule is VoxCeleb's (Siarohin et al., video-preprocessing): a tube of boxes lasts while they overlap its first box by
an intersection over union of 0.25. In addition cuts are detected in the frames, since after a cut another face often
appears in the same place.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from avfr_jax.faces import Crop, Face, FaceBackend
from avfr_jax.landmarks import NUM_LANDMARKS, NUM_VERTICES
from avfr_jax.typing import Bool, Float, UInt8

TUBE_OVERLAP = 0.25  # VoxCeleb's: intersection over union of a box with the tube's first one
JUMP_FRAMES = 5  # consecutive boxes elsewhere that end a tube: fewer are a slip of the tracker
SETTLE = 8  # tracker passes over the first frame of a face, until its points have converged
# Changes are mean absolute differences of 32×32 thumbnails of consecutive frames, in [0, 1]. In 65 talking-head clips
# the fastest head motion reached 0.08 and never 2.5 times the largest change around it; 97 % of all pairs of these
# clips differ by more than 0.1.
SURE_CUT = 0.15  # a larger change is always a cut
LIKELY_CUT = 0.025  # a larger change is a cut if it is CUT_RATIO times every other within CUT_REACH frames
CUT_RATIO = 3.0
CUT_REACH = 6
PEOPLE_INTERVAL = 50  # frames between two detections of other people
OTHER_SIZE = 0.35  # faces smaller than this share of the tracked one do not count as other people
_THUMB = 32


@dataclasses.dataclass(frozen=True, eq=False)
class VideoTrack:
    """The tracked face of a video.

    landmarks: float32 [T, 478, 3] in pixels of the video's frames, NaN without a detected face.
    cuts: numbers of the frames that begin a new shot, without 0.
    others: for some frames, by number, every other face in view.
    height, width: of the video's frames.
    """

    landmarks: Float[np.ndarray, "n 478 3"]
    cuts: tuple[int, ...]
    others: dict[int, list[Face]]
    height: int
    width: int

    @property
    def detected(self) -> Bool[np.ndarray, "n"]:
        return np.isfinite(self.landmarks[:, 0, 0])


def track_faces(frames: Iterable[UInt8[np.ndarray, "h w 3"]], priors: FaceBackend) -> VideoTrack:
    """Track the largest face of each shot in constant memory.

    The tracker is reset at cuts and runs over the first frame of a face several times, until its points have converged.
    """
    landmarks: list[np.ndarray] = []
    others: dict[int, list[Face]] = {}
    changes: list[float] = []
    no_face = np.full((NUM_LANDMARKS, 3), np.nan, np.float32)
    shape, tracked, thumb = (0, 0), False, None
    since_detection = PEOPLE_INTERVAL
    priors.reset()
    for index, frame in enumerate(frames):
        shape, before, thumb = frame.shape[:2], thumb, thumbnail(frame)
        if before is not None:
            changes.append(change(before, thumb))
            if is_cut(changes, len(changes) - 1):  # from past frames alone
                priors.reset()
                tracked = False
        face = priors.track(frame)
        if face is not None and not tracked:
            for _ in range(SETTLE):
                face = priors.track(frame) or face
        tracked = face is not None
        since_detection += 1
        if face is not None and since_detection >= PEOPLE_INTERVAL:
            others[index], since_detection = _other_faces(priors.detect(frame), face), 0
        landmarks.append(no_face if face is None else face.landmarks)
    points = np.stack(landmarks).astype(np.float32) if landmarks else np.zeros((0, NUM_LANDMARKS, 3), np.float32)
    cuts = tuple(index + 1 for index in range(len(changes)) if is_cut(changes, index))
    return VideoTrack(points, cuts, others, *shape)


def _other_faces(faces: list[Face], tracked: Face) -> list[Face]:
    """All but the one at the tracked face's place."""
    if not faces:
        return []
    same = min(faces, key=lambda face: float(np.hypot(*np.subtract(face.centre, tracked.centre))))
    return [face for face in faces if face is not same]


def thumbnail(frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "32 32 3"]:
    """Downscale a frame to 32×32 pixels, for cut detection."""
    return cv2.resize(frame, (_THUMB, _THUMB), interpolation=cv2.INTER_AREA)


def change(a: UInt8[np.ndarray, "32 32 3"], b: UInt8[np.ndarray, "32 32 3"]) -> float:
    """Mean absolute difference of two thumbnails, in [0, 1]."""
    return float(cv2.absdiff(a, b).mean()) / 255.0


def is_cut(changes: Sequence[float], index: int) -> bool:
    """Whether the change from frame `index` to the next is a cut: a large one, or one that stands alone."""
    here = changes[index]
    around = [*changes[max(0, index - CUT_REACH) : index], *changes[index + 1 : index + 1 + CUT_REACH]]
    return here > SURE_CUT or (here > LIKELY_CUT and bool(around) and here > CUT_RATIO * max(around))


def split(track: VideoTrack) -> list[tuple[int, int]]:
    """Shots and tubes as consecutive ranges [first, stop) of frames that cover the video."""
    boxes = face_boxes(track.landmarks)
    edges = [0, *track.cuts, len(boxes)]
    ranges: list[tuple[int, int]] = []
    for first, stop in itertools.pairwise(edges):
        ranges += _tubes(boxes, first, stop)
    return ranges


def _tubes(boxes: Float[np.ndarray, "n 4"], first: int, stop: int) -> list[tuple[int, int]]:
    """Split one shot where the face moves away from its first place."""
    ranges, anchor = [], None
    away: list[int] = []
    for index in range(first, stop):
        box = boxes[index]
        if np.isnan(box[0]):
            continue
        if anchor is None:
            anchor = box
        if overlap(box, anchor) >= TUBE_OVERLAP:
            away = []
            continue
        away.append(index)
        if len(away) == JUMP_FRAMES:
            ranges.append((first, away[0]))
            first, anchor, away = away[0], boxes[away[0]], []
    return [*ranges, (first, stop)]


def trim(detected: Bool[np.ndarray, "n"], first: int, stop: int) -> tuple[int, int]:
    """Range from the first detected face to the last; empty where there is none."""
    where = np.flatnonzero(detected[first:stop])
    return (first, first) if len(where) == 0 else (first + int(where[0]), first + int(where[-1]) + 1)


def several_people(track: VideoTrack, crop: Crop, first: int, stop: int) -> bool:
    """Whether another face lies in the crop in most of the frames searched."""
    boxes = face_boxes(track.landmarks)
    searched = [index for index in track.others if first <= index < stop]
    crowded = 0
    for index in searched:
        size = float((boxes[index, 2:] - boxes[index, :2]).max())
        crowded += any(_inside(face, crop) and face.size > OTHER_SIZE * size for face in track.others[index])
    return crowded > len(searched) / 2


def _inside(face: Face, crop: Crop) -> bool:
    x, y = face.centre
    return crop.x <= x < crop.x + crop.side and crop.y <= y < crop.y + crop.side


def face_boxes(landmarks: Float[np.ndarray, "n 478 3"]) -> Float[np.ndarray, "n 4"]:
    """Tight boxes (x0, y0, x1, y1) of the mesh, NaN where there is no face."""
    mesh = landmarks[:, :NUM_VERTICES, :2]
    return np.concatenate([mesh.min(1), mesh.max(1)], 1) if len(mesh) else np.zeros((0, 4), np.float32)


def overlap(a: Float[np.ndarray, "4"], b: Float[np.ndarray, "4"]) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if (sides <= 0).any():
        return 0.0
    shared = float(sides.prod())
    return shared / (float((a[2:] - a[:2]).prod()) + float((b[2:] - b[:2]).prod()) - shared)
