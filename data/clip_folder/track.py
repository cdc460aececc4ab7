"""Which stretches of a video show one face in one place: following it, finding cuts, splitting there.

The rule is VoxCeleb's (Siarohin et al., video-preprocessing): a tube of boxes lasts while they overlap its first
box by an intersection over union of 0.25. What is added here is the search for cuts by the pictures, since after
a cut another face often appears where the first was.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from avfr_jax.faces import Crop, Face, FaceBackend
from avfr_jax.typing import Bool, Float, UInt8

TUBE_OVERLAP = 0.25  # VoxCeleb's: intersection over union of a box with the tube's first one
JUMP_FRAMES = 5  # boxes that must lie elsewhere before the tube ends: fewer are a slip of the tracker
SETTLE = 8  # times the tracker sees a frame in which it finds the face anew: its points move until then
# Changes are mean absolute differences of 32×32 pictures of two frames that follow each other, in [0, 1]. In 65
# talking-head clips the fastest head motion made one of 0.08 and never one of 2.5 times the largest around it; of all
# pairs of these clips 97 % differ by more than 0.1.
SURE_CUT = 0.15  # a change that is always a cut
LIKELY_CUT = 0.025  # one that is a cut if
CUT_RATIO = 3.0  # it is so many times larger than every other
CUT_REACH = 6  # in so many frames before and after it
PEOPLE_INTERVAL = 50  # frames between two looks for other people
OTHER_SIZE = 0.35  # faces smaller than this share of the followed one do not count as other people
_THUMB = 32


@dataclasses.dataclass(frozen=True, eq=False)
class VideoTrack:
    """The followed face through a video.

    landmarks: float32 [T, 478, 3] in pixels of the video's frames, NaN where no face was found.
    cuts: numbers of the frames that begin a new shot; 0 is not among them.
    others: for some frames, by number, every other face in view.
    height, width: of the video's frames.
    """

    landmarks: Float[np.ndarray, "n 478 3"]
    cuts: tuple[int, ...]
    others: dict[int, list[Face]]
    height: int
    width: int

    @property
    def found(self) -> Bool[np.ndarray, "n"]:
        return np.isfinite(self.landmarks[:, 0, 0])


def follow(frames: Iterable[UInt8[np.ndarray, "h w 3"]], priors: FaceBackend) -> VideoTrack:
    """Follows the largest face of each shot, holding one frame at a time.

    The tracker forgets its face at a cut. Where it finds a face anew, it looks at that frame several times, until its
    points have come to rest.
    """
    landmarks: list[np.ndarray] = []
    others: dict[int, list[Face]] = {}
    changes: list[float] = []
    nobody = np.full((478, 3), np.nan, np.float32)
    shape, seen, thumb = (0, 0), False, None
    since_look = PEOPLE_INTERVAL
    priors.reset()
    for index, frame in enumerate(frames):
        shape, before, thumb = frame.shape[:2], thumb, thumbnail(frame)
        if before is not None:
            changes.append(change(before, thumb))
            if is_cut(changes, len(changes) - 1):  # as far as the past tells
                priors.reset()
                seen = False
        face = priors.track(frame)
        if face is not None and not seen:
            for _ in range(SETTLE):
                face = priors.track(frame) or face
        seen = face is not None
        since_look += 1
        if face is not None and since_look >= PEOPLE_INTERVAL:
            others[index], since_look = _other_faces(priors.detect(frame), face), 0
        landmarks.append(nobody if face is None else face.landmarks)
    points = np.stack(landmarks).astype(np.float32) if landmarks else np.zeros((0, 478, 3), np.float32)
    cuts = tuple(index + 1 for index in range(len(changes)) if is_cut(changes, index))
    return VideoTrack(points, cuts, others, *shape)


def _other_faces(faces: list[Face], followed: Face) -> list[Face]:
    """All but the one that lies where the followed face does."""
    if not faces:
        return []
    same = min(faces, key=lambda face: float(np.hypot(*np.subtract(face.centre, followed.centre))))
    return [face for face in faces if face is not same]


def thumbnail(frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "32 32 3"]:
    """The frame in 32×32 pixels: enough to see a cut."""
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
    """The video's shots and tubes as ranges [first, stop) of frames, in order, which cover it."""
    boxes = face_boxes(track.landmarks)
    edges = [0, *track.cuts, len(boxes)]
    ranges: list[tuple[int, int]] = []
    for first, stop in itertools.pairwise(edges):
        ranges += _tubes(boxes, first, stop)
    return ranges


def _tubes(boxes: Float[np.ndarray, "n 4"], first: int, stop: int) -> list[tuple[int, int]]:
    """Splits one shot where the face stays away from where it was first."""
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


def trim(found: Bool[np.ndarray, "n"], first: int, stop: int) -> tuple[int, int]:
    """The range without the frames before the first face and after the last; empty where there is none."""
    where = np.flatnonzero(found[first:stop])
    return (first, first) if len(where) == 0 else (first + int(where[0]), first + int(where[-1]) + 1)


def several_people(track: VideoTrack, crop: Crop, first: int, stop: int) -> bool:
    """Whether another face looks into the crop in most of the frames that were searched for one."""
    boxes = face_boxes(track.landmarks)
    looks = [index for index in track.others if first <= index < stop]
    crowded = 0
    for index in looks:
        size = float((boxes[index, 2:] - boxes[index, :2]).max())
        crowded += any(_inside(face, crop) and face.size > OTHER_SIZE * size for face in track.others[index])
    return crowded > len(looks) / 2


def _inside(face: Face, crop: Crop) -> bool:
    x, y = face.centre
    return crop.x <= x < crop.x + crop.side and crop.y <= y < crop.y + crop.side


def face_boxes(landmarks: Float[np.ndarray, "n 478 3"]) -> Float[np.ndarray, "n 4"]:
    """Tight boxes (x0, y0, x1, y1) of the mesh, NaN where there is no face."""
    mesh = landmarks[:, :468, :2]
    return np.concatenate([mesh.min(1), mesh.max(1)], 1) if len(mesh) else np.zeros((0, 4), np.float32)


def overlap(a: Float[np.ndarray, "4"], b: Float[np.ndarray, "4"]) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if (sides <= 0).any():
        return 0.0
    shared = float(sides.prod())
    return shared / (float((a[2:] - a[:2]).prod()) + float((b[2:] - b[:2]).prod()) - shared)
