"""The followed face over a whole clip."""

import dataclasses
import logging
from collections.abc import Iterable, Iterator

import numpy as np

from avfr_jax.errors import FaceError, InputError
from avfr_jax.faces.backend import Box, Face, FaceBackend
from avfr_jax.faces.choose import Which, check_size, choose_face
from avfr_jax.landmarks import NUM_LANDMARKS
from avfr_jax.typing import Bool, Float, UInt8


@dataclasses.dataclass(frozen=True, eq=False)
class ClipFaces:
    """One face in each frame of a clip.

    landmarks: float32, in pixels of the frames, NaN where the face was not found.
    found: whether it was.
    scores: the detector's confidence when the face was last detected, NaN where it was not found.
    height, width: of the frames.
    """

    landmarks: Float[np.ndarray, "n 478 3"]
    found: Bool[np.ndarray, "n"]
    scores: Float[np.ndarray, "n"]
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[Face | None]:
        return (self.face(index) for index in range(len(self)))

    @property
    def coverage(self) -> float:
        """The share of frames in which the face was found."""
        return float(self.found.mean())

    @property
    def missing(self) -> int:
        """The number of frames in which it was not."""
        return int((~self.found).sum())

    def face(self, index: int) -> Face | None:
        """The face in one frame, or None."""
        if not self.found[index]:
            return None
        return Face(self.landmarks[index], float(self.scores[index]))

    def boxes(self) -> list[Box | None]:
        """(x0, y0, x1, y1) in each frame, or None."""
        return [None if face is None else face.box for face in self]

    def check(self, name: str = "the clip") -> None:
        """Raises FaceError if no frame has a face, or the face is smaller than 32 pixels in most of them."""
        if not self.found.any():
            raise FaceError(f"no face was found in {name}: use a clip that shows one from the front")
        sizes = [face.size for face in self if face is not None]
        check_size(self._nearest_to(float(np.median(sizes))), name)

    def _nearest_to(self, size: float) -> Face:
        return min((face for face in self if face is not None), key=lambda face: abs(face.size - size))


def track_clip(
    frames: Iterable[UInt8[np.ndarray, "h w 3"]],
    priors: FaceBackend,
    which: Which | None = None,
    *,
    name: str = "the clip",
) -> ClipFaces:
    """Follows one face through a clip, holding one frame at a time.

    which: as in `choose_face`, decided in the first frame that shows a face; a number or side that this frame
        lacks is an error. name: how to call the clip in messages.

    Raises InputError for a clip without frames, or whose frames change size, and FaceError as `choose_face`.
    A clip in which no face is found is no error here: see `ClipFaces.check`.
    """
    landmarks, scores = [], []
    nobody = np.full((NUM_LANDMARKS, 3), np.nan, np.float32)
    chosen = False
    shape: tuple[int, ...] | None = None
    priors.reset()
    for frame in frames:
        if shape not in (None, frame.shape):
            raise InputError(f"the frames of {name} change size from {shape} to {frame.shape}: convert it first")
        shape = frame.shape
        if not chosen:
            chosen = _choose(frame, priors, which, name)
        face = priors.track(frame) if chosen else None
        landmarks.append(nobody if face is None else face.landmarks)
        scores.append(np.nan if face is None else face.score)
    if shape is None:
        raise InputError(f"{name} has no frames")
    points = np.stack(landmarks).astype(np.float32)
    found = np.isfinite(points[:, 0, 0])
    if chosen and not found.all():
        logging.getLogger("avfr_jax").warning(
            "the face was not found in %d of %d frames of %s", int((~found).sum()), len(found), name
        )
    return ClipFaces(points, found, np.array(scores, np.float32), shape[0], shape[1])


def _choose(frame: UInt8[np.ndarray, "h w 3"], priors: FaceBackend, which: Which | None, name: str) -> bool:
    """Names the face to follow if the frame shows one."""
    # Following looks for small faces now and then only: in a clip without a face, that saves seconds.
    faces = [] if priors.track(frame) is None else priors.detect(frame)
    if not faces:
        return False
    priors.follow(choose_face(faces, which, name=name, width=frame.shape[1]))
    return True
