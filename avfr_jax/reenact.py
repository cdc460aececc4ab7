"""Reenactment: a source picture moves as the face in a driving clip does. The library's front door."""

import contextlib
import dataclasses
import itertools
import logging
import os
import pathlib
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, get_args, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.errors import ConfigError, FaceError, InputError
from avfr_jax.landmarks import normalise_landmarks
from avfr_jax.model_store import DEFAULT_MODEL, load_model
from avfr_jax.models.base import Animator, EncodedSource, Explanation, Priors
from avfr_jax.motion import Motion, MotionMode
from avfr_jax.ops.matrices import hull_area
from avfr_jax.typing import Float, UInt8

T = TypeVar("T")
Frame = UInt8[np.ndarray, "h w 3"]
MissingFace = Literal["hold", "skip", "fail"]
CropMode = Literal["auto", "none"]
Mouth = Literal["auto", "driver", "sound"]

_log = logging.getLogger("avfr_jax")
_LARGEST_PASTE = 1280  # pixels: a larger portrait is reduced before results are pasted into it
_SAMPLES = 48  # frames looked at to place the one crop of a clip and to find its reference frame
_SETTLE = 8  # times a tracker sees its first frame: its landmarks move by a pixel until then


@runtime_checkable
class _View(Protocol):
    """A part of a frame, brought to the model's size: a crop, or the whole."""

    def apply(self, image: Any, size: int) -> Any: ...

    def to_crop(self, points: Any, size: int) -> Any: ...


@dataclasses.dataclass(frozen=True)
class _Whole:
    """The whole frame resized to a square, as `--crop none` asks."""

    width: int
    height: int

    def apply(self, image: Any, size: int) -> Any:
        import cv2

        if image.shape[:2] == (size, size):
            return image
        shrinks = image.shape[0] > size or image.shape[1] > size
        return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)

    def to_crop(self, points: Any, size: int) -> Any:
        scale = np.asarray([size / self.width, size / self.height, size / self.width], np.float32)
        shift = np.asarray([0.5, 0.5, 0], np.float32)
        return (points + shift) * scale - shift


@dataclasses.dataclass(frozen=True)
class Step:
    """One frame of the result.

    Attributes:
      frame: the result, uint8 `[S, S, 3]`, or the source's own size with `paste_back`.
      generated: what the model drew, uint8 `[S, S, 3]`.
      driving: the driving frame as the model saw it, uint8 `[S, S, 3]`; None where an `.avfr` file drives.
      source: the source as the model saw it, uint8 `[S, S, 3]`.
      index: number of the driving frame.
      held: no face was in view, so the last pose was held.
    """

    frame: Any
    generated: Any
    driving: Any
    source: Any
    index: int
    held: bool


@dataclasses.dataclass(frozen=True)
class Explained:
    """One frame of the result and how it came about.

    Attributes:
      source: as the model saw it, uint8 `[S, S, 3]`.
      driving: as the model saw it, uint8 `[S, S, 3]`.
      source_keypoints: of the source, one frame.
      driving_keypoints: of the driving frame, before they were fitted to the source.
      index: number of the driving frame.
      behind: the frame, displacement, occlusion and attention.
    """

    source: Any
    driving: Any
    source_keypoints: Motion
    driving_keypoints: Motion
    index: int
    behind: Explanation


@dataclasses.dataclass
class Report:
    """What happened; filled in while frames are drawn.

    Attributes:
      frames: frames drawn, the held ones included.
      missing: numbers of the driving frames in which no face was found.
      held: how many of them repeat the last pose.
      skipped: how many of them were left out.
      reference: number of the driving frame that stands for the source's pose.
      first_frame_seconds: from the start to the first frame.
      seconds: from the start to the last frame so far.
      warnings: sentences for the user.
    """

    frames: int = 0
    missing: list[int] = dataclasses.field(default_factory=list)
    held: int = 0
    skipped: int = 0
    reference: int | None = None
    first_frame_seconds: float | None = None
    seconds: float = 0.0
    warnings: list[str] = dataclasses.field(default_factory=list)

    @property
    def frames_per_second(self) -> float:
        """Of the whole run, start-up included."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0


@dataclasses.dataclass(frozen=True)
class Seen:
    """A driving frame after tracking and cropping.

    Attributes:
      index: its number.
      view: uint8 `[S, S, 3]`; None where there is no more than a pose.
      landmarks: `[478, 3]` normalised in the crop; None where no face is seen or looked for.
      mask: of the person, `[S, S]` in [0, 1]; None where the model does not look at it.
      pose: recorded motion, see `TrackedFrame.motion`; None for an image.
    """

    index: int
    view: Any
    landmarks: Any
    mask: Any = None
    pose: Any = None


@dataclasses.dataclass(frozen=True)
class _Source:
    """The source, cropped and encoded."""

    full: Any
    view: Any
    crop: Any
    keypoints: Motion
    encoded: EncodedSource
    landmarks: Any


class _Begun(NamedTuple):
    """What is known before the first frame is drawn: the source; driving frames spread over the clip, numbered, and the
    faces in them; the crop; the keypoints of the frame that stands for the source's pose (see `_reference`)."""

    source: _Source
    samples: Sequence[tuple[int, Any]]
    faces: Sequence[Any]
    view: _View
    initial: Motion | None


class Reenactor:
    """Moves a source picture as a driving clip moves.

    The source's features are computed once, and frames in batches of one size, so that nothing is compiled anew.
    Memory does not grow with the clip.

    Args:
      model: a model, its folder or its name.
      motion: `relative` moves the source from its own pose as the driving face moves from its reference frame;
        `absolute` takes over the driving face's pose.
      adapt_scale: scale the motion by the ratio of the faces' sizes.
      best_frame: the driving frame that stands for the source's pose: a number; `first`, the first that shows a face;
        or `auto`, the most similar to the source of 48 frames spread over the clip, where the model or the crop has
        faces looked for at all (else the first).
      crop: `auto` finds the face and crops to it, once a clip; `none` takes frames that are face crops already and
        only resizes them.
      missing_face: what becomes of driving frames without a face: `hold` the last pose, `skip` them, or `fail`.
      source_face: which face of the source, where it shows several: `largest`, `left`, `right`, `center` or a number
        counted from the left; None takes the largest and says so.
      driving_face: the same for the driving clip.
      smooth: steady the driving landmarks over time (One-Euro filter), for clips that are noisy; on good ones it
        costs a little accuracy. Models that read pixels alone are not affected.
      mouth: what moves the mouth: the `driver`'s, or the `sound` alone (`faces.spoken_mouth`), for models that the face
        mesh moves or that were trained with hidden mouths (`AvfrConfig.mouth_masking`); `auto` leaves it to the sound
        where such a model is given another sound than the driving clip's own.
      paste_back: put the result back into the whole source picture.
      batch_size: frames at once; None takes what suits the model.
      face_backend: see `avfr_jax.faces.open_face_backend`.

    Raises:
      ConfigError: a setting is impossible, or there is no such model.
      CheckpointError: the model's folder is broken.
    """

    def __init__(
        self,
        model: Animator | str | os.PathLike[str] = DEFAULT_MODEL,
        *,
        motion: MotionMode = "relative",
        adapt_scale: bool = True,
        best_frame: int | Literal["auto", "first"] = "auto",
        crop: CropMode = "auto",
        missing_face: MissingFace = "hold",
        source_face: Any = None,
        driving_face: Any = None,
        smooth: bool = False,
        mouth: Mouth = "auto",
        paste_back: bool = False,
        batch_size: int | None = None,
        face_backend: Literal["auto", "solutions", "tasks"] = "auto",
    ) -> None:
        for name, value, known in (
            ("motion", motion, ("absolute", "relative")),
            ("crop", crop, ("auto", "none")),
            ("missing_face", missing_face, ("hold", "skip", "fail")),
            ("mouth", mouth, get_args(Mouth)),
        ):
            if value not in known:
                raise ConfigError(f"{name} must be one of {', '.join(known)}, not {value!r}.")
        if paste_back and crop == "none":
            raise ConfigError("Pasting back needs a crop: a face crop is the whole picture already.")
        if not (best_frame in ("auto", "first") or (isinstance(best_frame, int) and best_frame >= 0)):
            raise ConfigError(f"best_frame must be auto, first, or a number from 0, not {best_frame!r}.")
        self.model = load_model(model) if isinstance(model, str | os.PathLike) else model
        self.motion, self.adapt_scale, self.best_frame = motion, adapt_scale, best_frame
        self.crop, self.missing_face, self.smooth, self.paste_back = crop, missing_face, smooth, paste_back
        self.source_face, self.driving_face, self.face_backend = source_face, driving_face, face_backend
        self.batch_size = batch_size or self.model.batch_size
        if mouth == "sound" and not self.model.capabilities.dubbing:
            raise ConfigError(f"{self.model.name} cannot leave the mouth to the sound; leave mouth out.")
        self.mouth, self._dubbed = mouth, False
        self._speech: _Speech | None = None
        self.report = Report()

    @contextlib.contextmanager
    def _priors(self) -> Iterator[Any]:
        """The face backend, or None where no face is looked for."""
        if not self._needs_faces:
            yield None
            return
        from avfr_jax.faces import open_face_backend

        with open_face_backend(self.face_backend) as priors:
            yield priors

    @property
    def _needs_faces(self) -> bool:
        return self.crop == "auto" or self.model.capabilities.landmarks

    def reenact(self, source: Any, driving: Any, audio: Any = "driving") -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        """Draw the frames one after another.

        Args:
          source: a picture's path, or an image `[H, W, 3]`, uint8 or float in [0, 1]; a video's path stands for its
            first frame.
          driving: a video's path (read at 25 frames a second), an array `[N, H, W, 3]`, or an iterable of images; or an
            `.avfr` file's path, whose motion takes the place of face tracking.
          audio: what is heard: `driving` the driving video's own sound, another file's path, mono samples `[T]` in
            [-1, 1] at 16 kHz, or None for silence. Frame i is heard at i / 25 s. A model that listens is given it, and
            the mouth is moved by it where it is left to the sound; else it is of no use.

        Yields:
          uint8 frames: `[S, S, 3]` with S the model's size, or the source's size with `paste_back`.

        Raises:
          InputError, FaceError: at the first frame, or (with `missing_face="fail"`) at the frame without a face.
          ConfigError: at the first frame: the clip has no such best frame, or an `.avfr` file cannot drive this model,
            or not with these settings.
        """
        for step in self.steps(source, driving, audio):
            yield step.frame

    def steps(self, source: Any, driving: Any, audio: Any = "driving") -> Generator[Step, None, None]:
        """As `reenact`, with the source and driving crops beside each frame."""
        self.report = report = Report()
        start = time.perf_counter()
        recorded = self._recorded(driving)
        clip = _Clip.of(driving) if recorded is None else recorded
        sound = self._begin_sound(driving, audio, recorded is None)
        with contextlib.ExitStack() as stack:
            priors = stack.enter_context(self._priors())
            if recorded is None:
                prepared, _, _, view, initial = self._begin(source, clip, _SAMPLES if priors else 1, priors)
                frames = self._track(clip, view, priors)
            else:
                prepared = self._prepare_source(_read_source(source), priors, str(_name(source, "the source")))
                initial = self._recorded_reference(recorded, prepared)
                frames = (Seen(frame.index, None, None, pose=frame.motion) for frame in recorded)
            seen = stack.enter_context(contextlib.closing(_ahead(frames, 2 * self.batch_size)))
            for step in self._draw(seen, prepared, initial, sound):
                report.seconds = time.perf_counter() - start
                report.first_frame_seconds = report.first_frame_seconds or report.seconds
                report.frames += 1
                yield step
        if not report.frames:
            raise FaceError(f"No face was found in any frame of {clip.name}.")
        if report.missing:
            what = "the last pose was held" if self.missing_face == "hold" else "they were left out"
            self._warn(f"No face was found in {len(report.missing)} of the driving frames; {what}.")

    def watch(self, driving: Any) -> Generator[Seen, None, None]:
        """The driving frames as the model sees them: cropped alike, each with its face.

        Args:
          driving: as in `reenact`.

        Raises:
          InputError: it cannot be read.
          FaceError: no sampled frame shows a face, where the model or the crop needs one.
        """
        clip = _Clip.of(driving)
        with contextlib.ExitStack() as stack:
            priors = stack.enter_context(self._priors())
            samples = clip.sample(_SAMPLES if priors else 1)
            view = self._driving_view(samples[0][1].shape, self._sampled_faces(samples, clip, priors), clip)
            track = _ahead(self._track(clip, view, priors), 2 * self.batch_size)
            yield from stack.enter_context(contextlib.closing(track))

    def explain(self, source: Any, driving: Any, audio: Any = "driving", at: int | None = None) -> Explained:
        """One frame, and how it came about.

        Args:
          source: as in `reenact`.
          driving: as in `reenact`.
          audio: as in `reenact`.
          at: number of the driving frame; None takes the one in the middle of those sampled from the clip.

        Raises:
          InputError: as in `reenact`.
          FaceError: no face in that frame, where the model or the crop needs one.
          ConfigError: the clip has no such frame.
        """
        self.report = Report()
        clip = _Clip.of(driving)
        sound = self._begin_sound(driving, audio)
        with self._priors() as priors:
            prepared, samples, faces, view, initial = self._begin(source, clip, _SAMPLES, priors)
            if initial is None:
                index, frame = samples[0]
                initial = self._initial(self._look(index, frame, priors, view, faces[0] if faces else None))
            if at is None:
                index, frame = samples[len(samples) // 2]
            else:
                index, frame = at, self._frame(clip, at)
            (face,) = self._sampled_faces([(index, frame)], clip, priors) or [None]
            seen = self._look(index, frame, priors, view, face)
        keypoints = self._keypoints([seen if self._speech is None else self._speech(seen)])
        target = self._retargeted(prepared, keypoints, initial)
        mel = None if sound is None else _heard(sound, [seen])
        behind = self.model.explain(prepared.encoded, prepared.keypoints, target, mel)
        return Explained(prepared.view, seen.view, prepared.keypoints, keypoints, index, behind)

    def _begin(self, source: Any, clip: "_Clip", sampled: int, priors: Any) -> _Begun:
        prepared = self._prepare_source(_read_source(source), priors, str(_name(source, "the source")))
        samples = clip.sample(sampled)
        faces = self._sampled_faces(samples, clip, priors)
        view = self._driving_view(samples[0][1].shape, faces, clip)
        initial = self._reference(clip, samples, faces, view, priors, prepared)
        return _Begun(prepared, samples, faces, view, initial)

    def _begin_sound(self, driving: Any, audio: Any, tracked: bool = True) -> Any:
        """What the model hears, as a mel spectrogram; None where it hears nothing. The mouth of a tracked driver may be
        left to it."""
        self._dubbed, self._speech = tracked and self._leaves_mouth(driving, audio), None
        by_mesh, hears = self._dubbed and self.model.capabilities.landmarks, self.model.capabilities.audio
        sound = self._sound(driving, audio) if by_mesh or hears else None
        if by_mesh:
            self._speech = _Speech(sound)
        return sound if hears else None

    def _sound(self, driving: Any, audio: Any) -> Any:
        """A sound's mel spectrogram; None where there is none."""
        from avfr_jax.media.audio import has_audio, read_audio
        from avfr_jax.media.mel import RATE, mel_spectrogram

        if isinstance(audio, str) and audio == "driving" and _is_stream(driving):
            from avfr_jax.codec.files import open_stream

            with open_stream(driving).sound_file() as spoken:
                if spoken is not None:
                    return self._sound(driving, os.fspath(spoken))
        if isinstance(audio, str) and audio == "driving":
            is_file = isinstance(driving, str | os.PathLike) and not _is_stream(driving)
            audio = driving if is_file and has_audio(driving) else None
            if audio is None:
                hears = self.model.capabilities.audio
                told = "this model listens; it is given silence" if hears else "the mouth was left to it; it stays shut"
                self._warn(f"The driving clip has no sound, and {told}.")
        if audio is None:
            return None
        samples = read_audio(audio) if isinstance(audio, str | os.PathLike) else np.asarray(audio, np.float32)
        # Windows repeat the border column, which is to be a silent one where the sound ends before the picture.
        return mel_spectrogram(np.pad(samples, (0, RATE // 5)))

    def _leaves_mouth(self, driving: Any, audio: Any) -> bool:
        """Whether the mouth is left to the sound."""
        if self.mouth != "auto" or not self.model.capabilities.dubbing:
            return self.mouth == "sound"
        paths = [value for value in (driving, audio) if isinstance(value, str | os.PathLike)]
        same = len(paths) == 2 and pathlib.Path(paths[0]) == pathlib.Path(paths[1])
        return not (audio is None or same or (isinstance(audio, str) and audio == "driving"))

    # --- source ---------------------------------------------------------------------------------------------------

    def _prepare_source(self, image: Any, priors: Any, name: str) -> _Source:
        size = self.model.image_size
        if min(image.shape[:2]) < 2:
            raise InputError(f"{name} is {image.shape[1]}×{image.shape[0]} pixels; that is too small for a portrait.")
        height, width = image.shape[:2]
        crop: Any = None
        view: _View = _Whole(width, height)
        landmarks = mask = None
        if priors is not None:
            from avfr_jax.faces import choose_face, crop_for_face

            face = _settled(priors, image, choose_face(priors.detect(image), self.source_face, name=name, width=width))
            if self.crop == "auto":
                view = crop = crop_for_face(face, image.shape)
            landmarks = self._placed_landmarks(face.landmarks, view)
        square = view.apply(image, size)
        if priors is not None and self.model.capabilities.landmarks:
            mask = priors.person_mask(square)
        given = None if landmarks is None else Priors(landmarks[None], None if mask is None else mask[None])
        pixels = square.astype(np.float32) / 255
        keypoints = self.model.keypoints(pixels[None], given)
        encoded = self.model.encode_source(pixels, keypoints, given)
        full, crop = _reduced(image, crop) if self.paste_back else (None, crop)
        return _Source(full, square, crop, keypoints, encoded, landmarks)

    # --- driving --------------------------------------------------------------------------------------------------

    def _sampled_faces(self, samples: Sequence[tuple[int, Any]], clip: "_Clip", priors: Any) -> list[Any]:
        """The followed face in each of some frames spread over the clip, or None."""
        if priors is None:
            return []
        from avfr_jax.faces import choose_face

        faces: list[Any] = []
        last = None
        for _, frame in samples:
            found = priors.detect(frame)
            if found and last is None:
                last = choose_face(found, self.driving_face, name=clip.name, width=frame.shape[1])
            elif found:
                last = _nearest(found, last)
            faces.append(last if found else None)
        if last is None:
            where = clip.name if len(samples) > 1 else f"frame {samples[0][0]} of {clip.name}"
            raise FaceError(f"No face was found in {where}; choose one that shows a face from the front.")
        return faces

    def _driving_view(self, shape: tuple[int, ...], faces: Sequence[Any], clip: "_Clip") -> _View:
        """One crop for the whole clip."""
        if self.crop == "none":
            return _Whole(shape[1], shape[0])
        from avfr_jax.faces import crop_for_clip

        crop = crop_for_clip([face for face in faces if face is not None], shape)
        outside = crop.outside(shape)
        if outside > 0.25:
            self._warn(f"{outside:.0%} of the crop lies outside {clip.name}; its border was repeated there.")
        return crop

    def _track(self, clip: "_Clip", view: _View, priors: Any) -> Iterator[Seen]:
        size, settled, steady = self.model.image_size, False, None
        if priors is not None:
            priors.reset()
            steady = self._steady()
        for index, frame in enumerate(clip):
            landmarks = None
            if priors is not None:
                if not settled and self.driving_face not in (None, "largest"):
                    self._follow_chosen(frame, priors, clip.name)
                face = priors.track(frame)
                if face is not None and not settled:
                    face, settled = _settled(priors, frame, None), True
                points = None if face is None else face.landmarks
                points = steady(points) if steady is not None else points
                if points is not None:
                    landmarks = self._placed_landmarks(points, view)
            seen = view.apply(frame, size)
            yield Seen(index, seen, landmarks, None if landmarks is None else self._person_mask(seen, priors))

    def _follow_chosen(self, frame: Any, priors: Any, name: str) -> None:
        from avfr_jax.faces import choose_face

        if found := priors.detect(frame):
            with contextlib.suppress(FaceError):
                priors.follow(choose_face(found, self.driving_face, name=name, width=frame.shape[1]))

    def _reference(
        self,
        clip: "_Clip",
        samples: Sequence[tuple[int, Any]],
        faces: Sequence[Any],
        view: _View,
        priors: Any,
        source: _Source,
    ) -> Motion | None:
        """Keypoints of the driving frame that stands for the source's pose; None leaves it to the first one."""
        if self.best_frame == "first":
            return None
        if self.best_frame == "auto":
            apart = [np.inf if f is None else _unlike(source.landmarks, f.landmarks) for f in faces]
            best = int(np.argmin(apart)) if apart else 0
            if best == 0:
                return None
            index, frame = samples[best]
            face = faces[best]
        else:
            index = int(self.best_frame)
            frame = self._frame(clip, index)
            (face,) = self._sampled_faces([(index, frame)], clip, priors) or [None]
        self.report.reference = index
        return self._initial(self._look(index, frame, priors, view, face))

    def _initial(self, seen: Seen) -> Motion:
        """Keypoints of the frame that stands for the source's pose. Its mouth is its own."""
        if self._speech is not None:
            self._speech.begin(seen)
        return self._keypoints([seen])

    def _look(self, index: int, frame: Any, priors: Any, view: _View, face: Any) -> Seen:
        """A single driving frame, its face known."""
        seen = view.apply(frame, self.model.image_size)
        if priors is None:
            return Seen(index, seen, None)
        landmarks = self._placed_landmarks(_settled(priors, frame, face).landmarks, view)
        return Seen(index, seen, landmarks, self._person_mask(seen, priors))

    def _person_mask(self, seen: Any, priors: Any) -> Any:
        return priors.person_mask(seen) if self.model.capabilities.person_masks else None

    def _frame(self, clip: "_Clip", index: int) -> Any:
        if not clip.repeatable:
            raise ConfigError("A best frame needs a clip that can be read twice: pass a path or an array.")
        frame = next(itertools.islice(iter(clip), index, None), None)
        if frame is None:
            raise ConfigError(f"{clip.name} has no frame {index}.")
        return frame

    def _placed_landmarks(self, landmarks: Any, view: _View) -> Any:
        """Landmarks in pixels of a whole frame -> normalised in the crop."""
        size = self.model.image_size
        return normalise_landmarks(view.to_crop(landmarks, size), size, size)

    def _steady(self) -> Any:
        from avfr_jax.faces import LandmarkFilter

        return LandmarkFilter(min_cutoff=3.0, beta=80.0) if self.smooth else None

    # --- motion that was recorded ---------------------------------------------------------------------------------

    def _recorded(self, driving: Any) -> Any:
        """The motion in an `.avfr` file; None for any other driving clip."""
        if not _is_stream(driving):
            return None
        from avfr_jax.codec.stream_source import StreamSource

        for name, used in (
            ("driving_face", self.driving_face is not None),
            ("missing_face", self.missing_face != "hold"),
            ("smooth", self.smooth),
            ("mouth", self.mouth == "sound"),
        ):
            if used:
                raise ConfigError(f"{driving} holds one face, tracked when it was made; leave {name} out.")
        return StreamSource(driving, self.model)

    def _recorded_reference(self, recorded: Any, source: _Source) -> Motion | None:
        """As `_reference`."""
        if self.best_frame == "first":
            return None
        if self.best_frame == "auto":
            samples = recorded.sample(_SAMPLES)
            if source.landmarks is None or not samples or samples[0].landmarks is None:
                return None
            frame = min(samples, key=lambda sample: _unlike(source.landmarks, sample.landmarks))
        else:
            frame = recorded.frame(int(self.best_frame))
        self.report.reference = frame.index
        return self._keypoints([Seen(frame.index, None, None, pose=frame.motion)])

    # --- drawing --------------------------------------------------------------------------------------------------

    def _keypoints(self, seen: Sequence[Seen]) -> Motion:
        if seen[0].pose is not None:
            motion: Motion = self.model.motion_spec.unflatten(np.stack([s.pose for s in seen]))
            return motion
        frames = np.stack([s.view for s in seen]).astype(np.float32) / 255
        if seen[0].landmarks is None:
            return self.model.keypoints(frames, None)
        masks = None if seen[0].mask is None else np.stack([s.mask for s in seen])
        return self.model.keypoints(frames, Priors(np.stack([s.landmarks for s in seen]), masks, self._dubbed))

    def _draw(self, frames: Iterable[Seen], source: _Source, initial: Motion | None, sound: Any) -> Iterator[Step]:
        last = source.view
        for run in self._batches(frames):
            found = [s for s in run if not self._is_missing(s)]
            drawn: list[Any] = []
            if found:
                if initial is None and self._speech is not None:
                    initial, self.report.reference = self._initial(found[0]), found[0].index
                told = found if self._speech is None else [self._speech(seen) for seen in found]
                padded = told + [told[-1]] * (self.batch_size - len(told))
                keypoints = self._keypoints(padded)
                if initial is None:
                    initial, self.report.reference = keypoints[0], found[0].index
                mel = None if sound is None else _heard(sound, padded)
                drawn = list(self._animate(source, keypoints, initial, mel)[: len(found)])
            for seen in run:
                missing = self._is_missing(seen)
                if missing:
                    self._note_missing(seen)
                    if self.missing_face == "skip":
                        continue
                else:
                    last = drawn.pop(0)
                yield Step(self._placed(last, source), last, seen.view, source.view, seen.index, missing)

    def _animate(self, source: _Source, keypoints: Motion, initial: Motion, mel: Any) -> Any:
        target = self._retargeted(source, keypoints, initial)
        return np.asarray(_to_bytes(self.model.animate(source.encoded, source.keypoints, target, mel)))

    def _retargeted(self, source: _Source, keypoints: Motion, initial: Motion) -> Motion:
        spec = self.model.motion_spec
        return spec.retarget(source.keypoints, keypoints, initial, mode=self.motion, adapt_scale=self.adapt_scale)

    def _is_missing(self, seen: Seen) -> bool:
        return self._needs_faces and seen.landmarks is None and seen.pose is None

    def _note_missing(self, seen: Seen) -> None:
        if self.missing_face == "fail":
            raise FaceError(
                f"No face was found in driving frame {seen.index} ({seen.index / 25:.2f} s); "
                "pass --missing-face hold or skip to go on without it."
            )
        self.report.missing.append(seen.index)
        if self.missing_face == "skip":
            self.report.skipped += 1
        else:
            self.report.held += 1

    def _batches(self, frames: Iterable[Seen]) -> Iterator[list[Seen]]:
        """Runs of frames with at most `batch_size` faces in each; the frames without a face come on top."""
        run: list[Seen] = []
        faces = 0
        for seen in frames:
            run.append(seen)
            faces += not self._is_missing(seen)
            if faces == self.batch_size or len(run) >= 4 * self.batch_size:
                yield run
                run, faces = [], 0
        if run:
            yield run

    def _placed(self, generated: Any, source: _Source) -> Any:
        if not self.paste_back:
            return generated
        from avfr_jax.faces import paste_back

        return paste_back(source.full, generated, source.crop)

    def _warn(self, sentence: str) -> None:
        self.report.warnings.append(sentence)
        _log.warning(sentence)


class _Speech:
    """Driving faces with the mouths that a sound asks for, for models that the mesh moves.

    Args:
      mel: the sound's spectrogram; None leaves the mouth shut.
    """

    def __init__(self, mel: Any) -> None:
        from avfr_jax.faces.spoken_mouth import shipped
        from avfr_jax.media.mel import COLUMNS_PER_SECOND

        self._mouth = shipped()
        count = 0 if mel is None else -(-mel.shape[1] * 25 // COLUMNS_PER_SECOND)
        self._numbers = self._mouth.numbers(mel, np.arange(count)) if count else np.zeros((0, 2))
        self._rest: Any = None

    def begin(self, seen: Seen) -> None:
        """The frame that shows what the driver's face is like."""
        from avfr_jax.faces.spoken_mouth import Placement

        self._rest = self._mouth.shut(Placement.of(seen.landmarks).removed(seen.landmarks))

    def __call__(self, seen: Seen) -> Seen:
        numbers = self._numbers[seen.index] if seen.index < len(self._numbers) else np.zeros(2)
        return dataclasses.replace(seen, landmarks=self._mouth.spoken(seen.landmarks, self._rest, numbers))


def _heard(sound: Any, frames: Sequence[Seen]) -> Any:
    from avfr_jax.media.mel import mel_windows

    return mel_windows(sound, np.asarray([seen.index for seen in frames]))


@jax.jit
def _to_bytes(frames: Any) -> Any:
    return (jnp.clip(frames, 0, 1) * 255 + 0.5).astype(jnp.uint8)


def side_by_side(step: Step) -> UInt8[np.ndarray, "h w 3"]:
    """Source, driving frame and result beside each other, for `--compare`."""
    return np.concatenate([step.source, step.driving, step.generated], axis=1)


def _reduced(image: Any, crop: Any) -> tuple[Any, Any]:
    """The picture that results are pasted into, at most 1280 pixels on its longer side, and the crop in it."""
    import cv2

    factor = _LARGEST_PASTE / max(image.shape[:2])
    if factor >= 1:
        return image, crop
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    scaled = dataclasses.replace(crop, x=crop.x * factor, y=crop.y * factor, side=crop.side * factor)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), scaled


def _settled(priors: Any, image: Any, face: Any) -> Any:
    """The face as the tracker sees it once it has settled on one frame: landmarks found in a single look differ from
    tracked ones by about a pixel, which would show as motion. `face` None goes on with the face being followed."""
    if face is not None:
        priors.reset()
        priors.follow(face)
    for _ in range(_SETTLE):
        face = priors.track(image) or face
    return face


def _nearest(faces: Sequence[Any], last: Any) -> Any:
    return min(faces, key=lambda f: float(np.hypot(*(np.subtract(f.centre, last.centre)))))


def _unlike(a: Float[np.ndarray, "k 3"], b: Float[np.ndarray, "k 3"]) -> float:
    """FOMM's measure for the best frame: squared distance of two faces' points about their mean, in units of the
    hull's size."""
    shapes = []
    for points in (a[:468, :2], b[:468, :2]):
        centred = points - points.mean(0)
        shapes.append(centred / np.sqrt(max(hull_area(centred), 1e-9)))
    return float(((shapes[0] - shapes[1]) ** 2).sum())


def _name(value: Any, otherwise: str) -> Any:
    return value if isinstance(value, str | os.PathLike) else otherwise


def _is_stream(driving: Any) -> bool:
    if not isinstance(driving, str | os.PathLike):
        return False
    from avfr_jax.codec.files import is_stream

    return is_stream(driving)


def _as_frame(image: Any, name: str) -> Any:
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
        raise InputError(f"{name} must be an image of shape [H, W, 3], not {list(image.shape)}.")
    if image.dtype == np.uint8:
        return image
    if not np.issubdtype(image.dtype, np.floating):
        raise InputError(f"{name} must be uint8, or float in [0, 1], not {image.dtype}.")
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def _read_source(source: Any) -> Any:
    if not isinstance(source, str | os.PathLike):
        return _as_frame(source, "the source")
    from avfr_jax.media.image import read_image
    from avfr_jax.media.video import VideoReader, is_image, is_video

    if pathlib.Path(source).is_file() and not is_image(source) and is_video(source):
        return next(iter(VideoReader(source)))
    return read_image(source)


class _Clip:
    """Driving frames from wherever they come, uint8."""

    def __init__(self, frames: Callable[[], Iterator[Any]], name: str, repeatable: bool, sample: Any = None) -> None:
        self._frames, self.name, self.repeatable, self._sample = frames, name, repeatable, sample

    def __iter__(self) -> Iterator[Any]:
        return self._frames()

    def sample(self, count: int) -> list[tuple[int, Any]]:
        """At most `count` frames spread over the clip, with their numbers; only the first of one that cannot be read
        twice."""
        frames = self._sample(count)
        if not frames:
            raise InputError(f"{self.name} has no frames.")
        return frames

    @classmethod
    def of(cls, driving: Any) -> "_Clip":
        if isinstance(driving, str | os.PathLike):
            from avfr_jax.media.image import read_image
            from avfr_jax.media.video import VideoReader, is_image

            if pathlib.Path(driving).is_file() and is_image(driving):
                return cls.of([read_image(driving)])
            reader = VideoReader(driving)
            return cls(lambda: iter(reader), str(driving), True, reader.sample)
        name = "the driving clip"
        if isinstance(driving, Sequence) or hasattr(driving, "shape"):

            def spread(count: int) -> list[tuple[int, Any]]:
                chosen = np.unique(np.linspace(0, len(driving) - 1, min(count, len(driving))).round().astype(int))
                return [(int(i), _as_frame(driving[int(i)], name)) for i in chosen]

            return cls(lambda: (_as_frame(f, name) for f in driving), name, True, spread)
        frames = (_as_frame(f, name) for f in driving)
        kept: list[Any] = []

        def peek(count: int) -> list[tuple[int, Any]]:
            if not kept:
                kept.extend(f for f in [next(frames, None)] if f is not None)
            return [(0, f) for f in kept]

        def all_frames() -> Iterator[Any]:
            yield from kept
            yield from frames

        return cls(all_frames, name, False, peek)


def _ahead(items: Iterator[T], depth: int) -> Generator[T, None, None]:
    """Run an iterator in a thread, at most `depth` items ahead, so that decoding and tracking overlap with drawing."""
    waiting: queue.Queue[Any] = queue.Queue(maxsize=depth)
    stop = threading.Event()
    end = object()

    def put(item: Any) -> bool:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                waiting.put(item, timeout=0.1)
                return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((end, None))
        except BaseException as error:  # handed to the reader, where it is raised
            put((end, error))

    thread = threading.Thread(target=work, name="avfr-frames", daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is end:
                return
            yield item
    finally:
        stop.set()
        thread.join()
