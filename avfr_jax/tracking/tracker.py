"""Following a face through a clip: crop, landmarks and person mask of each frame."""

import contextlib
import dataclasses
import logging
import pathlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from avfr_jax.arguments import same_size
from avfr_jax.errors import FaceError, InputError
from avfr_jax.landmarks import NUM_LANDMARKS, normalise_landmarks
from avfr_jax.models.base import Capabilities
from avfr_jax.tracking.clip import DEFAULT_FPS, Clip, Frame, FrameRate, check_frame_rate, open_clip
from avfr_jax.tracking.prefetch import prefetch
from avfr_jax.tracking.source import TrackedFrame
from avfr_jax.typing import Float, UInt8

if TYPE_CHECKING:
    from avfr_jax.faces.crop import Crop

CropMode = Literal["auto", "fixed", "none"]
_log = logging.getLogger("avfr_jax")
SAMPLES = 48
"""Frames of a clip in which faces are detected to place its crop and to choose the reference frame."""
_SETTLING = 8  # passes over the first frame after which a tracker's landmarks no longer move, by a pixel until then


@dataclasses.dataclass(frozen=True)
class WholeFrame:
    """The whole frame resized to a square, the crop mode `none`."""

    width: int
    height: int

    def apply(self, image: Frame, size: int) -> UInt8[np.ndarray, "s s 3"]:
        """See `Crop.apply`."""
        import cv2

        if image.shape[:2] == (size, size):
            return image
        shrinks = image.shape[0] > size or image.shape[1] > size
        return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)

    def to_crop(self, points: Any, size: int) -> Any:
        """See `Crop.to_crop`."""
        scale = np.asarray([size / self.width, size / self.height, size / self.width], np.float32)
        shift = np.asarray([0.5, 0.5, 0], np.float32)
        return (points + shift) * scale - shift


@dataclasses.dataclass(frozen=True)
class Tracking:
    """Settings of a tracker, see `track`."""

    size: int
    capabilities: Capabilities
    crop: CropMode = "auto"
    smooth: bool = False
    face_backend: Literal["auto", "solutions", "tasks"] = "auto"

    @property
    def needs_faces(self) -> bool:
        """Whether faces are searched for at all."""
        return self.crop != "none" or self.capabilities.landmarks

    @contextlib.contextmanager
    def open_backend(self) -> Iterator[Any]:
        """The face backend; None where no face is searched for."""
        if not self.needs_faces:
            yield None
            return
        from avfr_jax.faces import open_face_backend

        with open_face_backend(self.face_backend) as backend:
            yield backend

    def place(self, landmarks: Any, view: "Crop | WholeFrame") -> Float[np.ndarray, "478 3"]:
        """Landmarks in pixels of a whole frame to [-1, 1] of the crop."""
        return normalise_landmarks(view.to_crop(landmarks, self.size), self.size, self.size)


@dataclasses.dataclass(frozen=True)
class Portrait:
    """A source picture with its tracked face.

    Attributes:
      picture: uint8 `[H, W, 3]`.
      crop: the `Crop` of its face; None for the crop mode `none`.
      frame: the tracked crop.
      in_view: share of the face, in [0, 1], that the picture's border does not cut off.
    """

    picture: Frame
    crop: Any
    frame: TrackedFrame
    in_view: float = 1.0


def track_portrait(image: Frame, tracking: Tracking, backend: Any, which: Any = None, name: str = "") -> Portrait:
    """Crop a source picture to its face, with a backend from `Tracking.open_backend`.

    Raises:
      InputError: the picture is too small.
      FaceError: see `choose_face`.
    """
    height, width = image.shape[:2]
    if min(height, width) < 2:
        raise InputError(f"{name} is {width}×{height} pixels; that is too small for a portrait.")
    crop: Any = None
    view: Crop | WholeFrame = WholeFrame(width, height)
    landmarks = mask = None
    in_view = 1.0
    if backend is not None:
        from avfr_jax.faces import apply_filled, choose_face, crop_for_face, share_in_view

        face = _settled(backend, image, choose_face(backend.detect(image), which, name=name, width=width))
        if tracking.crop != "none":
            view = crop = crop_for_face(face, image.shape)
        landmarks = tracking.place(face.landmarks, view)
        in_view = share_in_view(face, image.shape)
    square = view.apply(image, tracking.size) if crop is None else apply_filled(crop, image, tracking.size)
    if backend is not None and tracking.capabilities.landmarks:
        mask = backend.person_mask(square)
    return Portrait(image, crop, TrackedFrame(0, square, landmarks, mask), in_view)


class TrackedClip:
    """The frames of a clip with the followed face: a `DrivingSource`.

    Args:
      clip: the frames.
      tracking: settings.
      backend: from `Tracking.open_backend`; not to be used elsewhere during an iteration.
      which: face, see `faces.choose_face`.
      warn: takes sentences for the user; by default they are logged.

    Raises:
      FaceError: at the first use: no sampled frame shows a face where one is needed.
    """

    def __init__(
        self,
        clip: Clip,
        tracking: Tracking,
        backend: Any,
        which: Any = None,
        warn: Callable[[str], None] = _log.warning,
    ) -> None:
        self._clip, self._tracking, self._backend, self._which, self._warn = clip, tracking, backend, which, warn
        self.name, self.fps, self.frames, self.repeatable = clip.name, clip.fps, clip.frames, clip.repeatable
        self._crop: Any = None  # for all frames
        self._path: list[Crop] | None = None  # for each frame, where one does not hold the face
        self._faces: list[Any] | None = None  # followed through the clip, where that was needed for the path
        self._sampled: dict[int, tuple[Frame, Any]] | None = None
        self._sample_count = 0  # asked for

    def audio_file(self) -> contextlib.AbstractContextManager[pathlib.Path | None]:
        """See `DrivingSource.audio_file`."""
        return self._clip.audio_file()

    def sample(self, count: int = SAMPLES) -> list[TrackedFrame]:
        """See `DrivingSource.sample`; landmarks of a detector, which differ by about a pixel from tracked ones."""
        if not self._sampled or count != self._sample_count:
            samples = self._clip.sample(count)
            for _, frame in samples:
                same_size(frame, samples[0][1].shape, self.name)
            faces = [None] * len(samples) if self._backend is None else self._detect(samples)
            self._sampled = {index: (frame, face) for (index, frame), face in zip(samples, faces, strict=True)}
            self._sample_count = count
            if self._tracking.crop != "none" and self._crop is None:
                self._place(faces, samples[0][1].shape)
        return [self._tracked(index, frame, face) for index, (frame, face) in self._sampled.items()]

    def frame(self, index: int) -> TrackedFrame:
        """See `DrivingSource.frame`; with landmarks as exact as tracked ones."""
        self._prepare()
        frame, face = (self._sampled or {}).get(index) or (self._clip.frame(index), None)
        if self._backend is None:
            return self._tracked(index, frame, None)
        if face is None:
            (face,) = self._detect([(index, frame)])
        return self._with_mask(self._tracked(index, frame, _settled(self._backend, frame, face)))

    def __iter__(self) -> Iterator[TrackedFrame]:
        self._prepare()
        self._sampled = {}  # frees its frames
        smooth, follower = self._landmark_filter(), None
        followed = self._follow() if self._faces is None else zip(self._clip, self._faces, strict=False)
        for index, (frame, face) in enumerate(followed):
            if smooth is not None:
                points = smooth(None if face is None else face.landmarks)
                face = None if points is None else dataclasses.replace(face, landmarks=points)
            if index == 0 and self._tracking.crop == "auto" and self._path is None:
                from avfr_jax.faces import CropFollower

                follower = CropFollower(self._crop, frame.shape, float(self.fps), sampled=self.repeatable)
            view = None if follower is None else follower(face)
            yield self._with_mask(self._tracked(index, frame, face, view))

    def _follow(self) -> Iterator[tuple[Frame, Any]]:
        """Each frame with the followed face, or None."""
        settled = False
        shape: tuple[int, ...] | None = None
        if self._backend is not None:
            self._backend.reset()
        for frame in self._clip:
            face, shape = None, same_size(frame, shape, self.name)
            if self._backend is not None:
                if not settled and self._which not in (None, "largest"):
                    self._follow_chosen(frame)
                face = self._backend.track(frame)
                if face is not None and not settled:
                    face, settled = _settled(self._backend, frame, None), True
            yield frame, face

    def _prepare(self) -> None:
        if self._backend is not None and self._sampled is None:
            self.sample()

    def _landmark_filter(self) -> Any:
        if not self._tracking.smooth or self._backend is None:
            return None
        from avfr_jax.faces import LandmarkFilter

        return LandmarkFilter(float(self.fps), min_cutoff=3.0, beta=80.0)

    def _tracked(self, index: int, frame: Frame, face: Any, view: "Crop | WholeFrame | None" = None) -> TrackedFrame:
        whole = WholeFrame(frame.shape[1], frame.shape[0])
        view = view or (self._crop if self._path is None else self._path[index]) or whole
        landmarks = None if face is None else self._tracking.place(face.landmarks, view)
        return TrackedFrame(index, view.apply(frame, self._tracking.size), landmarks)

    def _with_mask(self, frame: TrackedFrame) -> TrackedFrame:
        if frame.landmarks is None or not self._tracking.capabilities.person_masks:
            return frame
        return dataclasses.replace(frame, person_mask=self._backend.person_mask(frame.image))

    def _detect(self, samples: Sequence[tuple[int, Frame]]) -> list[Any]:
        """The followed face in each of some frames spread over the clip, or None."""
        from avfr_jax.faces import choose_face

        faces: list[Any] = []
        last: Any = None
        for _, frame in samples:
            detected = self._backend.detect(frame)
            if detected and last is None:
                last = choose_face(detected, self._which, name=self.name, width=frame.shape[1])
            elif detected:
                last = min(detected, key=lambda f: float(np.hypot(*np.subtract(f.centre, last.centre))))
            faces.append(last if detected else None)
        if last is None:
            where = self.name if len(samples) > 1 else f"frame {samples[0][0]} of {self.name}"
            raise FaceError(f"No face was found in {where}; choose one that shows a face from the front.")
        return faces

    def _place(self, faces: Sequence[Any], shape: tuple[int, ...]) -> None:
        """Choose one crop, or a path of crops, from the faces of sampled frames."""
        from avfr_jax.faces import crop_for_clip, face_boxes, faces_outside, following_crops, holds

        self._crop = crop_for_clip(faces, shape)
        boxes = face_boxes(faces)
        if self._tracking.crop == "fixed":
            outside = faces_outside(self._crop, boxes, shape)
            if outside.mean() > 0.1:
                self._warn(
                    f"The face leaves the fixed crop in {outside.mean():.0%} of {self.name}; --crop auto follows it."
                )
        elif self.repeatable and not holds(self._crop, boxes, shape):
            # Samples may show somebody else, and are too far apart for a path.
            self._faces = [face for _, face in self._follow()]
            boxes = face_boxes(self._faces)
            if not holds(self._crop, boxes, shape):
                self._path = following_crops(boxes, shape, float(self.fps))
        crops = self._path or [self._crop]
        empty = sum(crop.outside(shape) for crop in crops) / len(crops)
        if empty > 0.25:
            self._warn(f"{empty:.0%} of the crop lies outside {self.name}; its border was repeated there.")

    def _follow_chosen(self, frame: Frame) -> None:
        from avfr_jax.faces import choose_face

        if detected := self._backend.detect(frame):
            with contextlib.suppress(FaceError):
                self._backend.follow(choose_face(detected, self._which, name=self.name, width=frame.shape[1]))


def track(
    driving: Any,
    size: int,
    *,
    capabilities: Capabilities,
    crop: CropMode = "auto",
    fps: FrameRate = DEFAULT_FPS,
    face: Any = None,
    smooth: bool = False,
    face_backend: Literal["auto", "solutions", "tasks"] = "auto",
) -> Generator[TrackedFrame, None, None]:
    """The frames of a clip as a model takes them, tracked ahead in a thread: close it after use.

    Args:
      driving: see `open_clip`.
      size: side of the crops, in pixels.
      capabilities: of the model: whether it needs landmarks and person masks.
      crop: `auto` crops to the face, with one crop for a clip that holds it, else with one that follows it; `fixed`
        with one crop in any case; `none` takes frames as face crops.
      fps: see `open_clip`.
      face: which face, see `faces.choose_face`.
      smooth: low-pass the landmarks over time (One-Euro filter).
      face_backend: see `open_face_backend`.

    Raises:
      InputError: the clip cannot be read.
      FaceError: no sampled frame shows a face where one is needed.
      ConfigError: an impossible frame rate.
    """
    check_frame_rate(fps)
    clip = open_clip(driving, fps)
    tracking = Tracking(size, capabilities, crop, smooth, face_backend)
    with tracking.open_backend() as backend:
        tracked = TrackedClip(clip, tracking, backend, face)
        with contextlib.closing(prefetch(iter(tracked), 8)) as frames:
            yield from frames


def track_landmarks(frames: Iterable[Frame], backend: Any) -> Float[np.ndarray, "n 478 3"]:
    """Landmarks of the largest face in each frame of a clip, in pixels, NaN in frames without it.

    Raises:
      InputError: there are no frames.
    """
    backend.reset()
    faces = [backend.track(frame) for frame in frames]
    if not faces:
        raise InputError("the clip has no frames")
    nobody = np.full((NUM_LANDMARKS, 3), np.nan, np.float32)
    return np.stack([nobody if face is None else face.landmarks for face in faces]).astype(np.float32)


def _settled(backend: Any, image: Frame, face: Any) -> Any:
    """The face as tracked over copies of one frame, comparable with tracked ones; None continues the current face."""
    if face is not None:
        backend.reset()
        backend.follow(face)
    for _ in range(_SETTLING):
        face = backend.track(image) or face
    return face
