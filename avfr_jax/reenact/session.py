"""One run of a reenactor: tracking, motion, retargeting, audio, rendering and compositing in order."""

import contextlib
import dataclasses
import os
import pathlib
import time
import types
from collections.abc import Generator, Iterator
from fractions import Fraction
from typing import Any, NamedTuple

from avfr_jax.arguments import whole_number
from avfr_jax.errors import ConfigError, FaceError, InputError
from avfr_jax.reenact.audio import AudioConditioning, audio_file, is_dubbed, prepare_audio
from avfr_jax.reenact.composite import Compositor
from avfr_jax.reenact.motion import Retargeter, Source, encode_source
from avfr_jax.reenact.narration import Narration, TalkingPicture
from avfr_jax.reenact.rendering import Renderer, batches
from avfr_jax.reenact.results import Explained, Report, Step
from avfr_jax.reenact.settings import Settings
from avfr_jax.reenact.still import Still, StillPortrait
from avfr_jax.tracking import (
    SAMPLES,
    Clip,
    DrivingSource,
    Portrait,
    TrackedClip,
    TrackedFrame,
    Tracking,
    open_clip,
    prefetch,
    read_portrait,
    track_portrait,
)
from avfr_jax.tracking.clip import FrameClip

_WHOLE_FACE = 0.95
"""Share of a portrait's face in view below which its border is reported to cut it."""


class _Stages(NamedTuple):
    portrait: Portrait
    source: Source
    driving: DrivingSource
    audio: AudioConditioning
    retargeter: Retargeter


class Session(Iterator[Step]):
    """A run with all of its state, see `Reenactor.steps`: an iterator, and a context manager that closes it.

    Attributes:
      report: statistics so far.
      fps: frames a second of the driving clip.
      frames: their expected number; None where it is unknown.

    Raises:
      InputError: the driving clip cannot be read.
      ConfigError: recorded motion does not fit the model or the settings.
    """

    def __init__(self, settings: Settings, source: Any, driving: Any, audio: Any) -> None:
        self.report = Report()
        self._settings, self._source, self._audio = settings, source, audio
        self._batch_size = settings.batch_size or settings.model.batch_size
        self._driving: Any = _open_driving(settings, driving, audio)
        self.fps: Fraction = self._driving.fps
        self.frames = self._driving.frames
        needs, size = settings.model.capabilities, settings.model.image_size
        self._dubbed = isinstance(self._driving, Clip) and is_dubbed(settings.mouth, driving, audio, needs.dubbing)
        if isinstance(self._driving, Narration):  # moves the mesh of a picture, whatever the model needs
            needs = dataclasses.replace(needs, landmarks=True)
        self._tracking = Tracking(size, needs, settings.crop, settings.smooth, settings.face_backend)
        self._steps = self._run()

    def __next__(self) -> Step:
        return next(self._steps)

    def close(self) -> None:
        """End the run and its tracking thread."""
        self._steps.close()

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()

    def audio_file(self) -> contextlib.AbstractContextManager[pathlib.Path | None]:
        """The file with the audio of the run for as long as the context; None for none, and for samples."""
        return audio_file(self._driving, self._audio)

    def explain(self, at: int | None) -> Explained:
        """See `Reenactor.explain`."""
        model, at = self._settings.model, None if at is None else whole_number(at, "at", 0)
        if not isinstance(self._driving, Clip | Narration):
            raise InputError(f"{self._driving.name} holds motion and no images; explain a frame of the video.")
        with self._tracking.open_backend() as backend:
            _, source, driving, audio, retargeter = self._prepare(backend)
            samples = driving.sample(SAMPLES)
            faces = [f for f in samples if not self._is_missing(f)] or samples
            if self.report.reference is None:
                retargeter.set_reference(driving.frame(faces[0].index))
            frame = driving.frame(samples[len(samples) // 2].index if at is None else at)
        motion = retargeter.motion([frame])
        target = retargeter.retarget(motion, [frame.index])
        behind = model.explain(source.encoded, source.keypoints, target, audio.windows([frame]))
        return Explained(source.frame.image, frame.image, source.keypoints, motion, frame.index, behind)

    def _prepare(self, backend: Any) -> _Stages:
        settings = self._settings
        model = settings.model
        audio = prepare_audio(self._driving, self._audio, self._dubbed, model.capabilities, self.report.warn)
        portrait = self._track_picture(self._source, settings.source_face, "the source", backend)
        source = encode_source(model, portrait)
        driving: Any = self._driving
        speaking = self._dubbed or isinstance(driving, Narration)
        retargeter = Retargeter(settings, source, audio, self.report, speaking)
        if isinstance(driving, Narration):
            face = portrait.frame
            if driving.picture is not None:
                face = self._track_picture(driving.picture, settings.driving_face, driving.name, backend).frame
            driving = TalkingPicture(driving, face, model.capabilities.person_masks)
            retargeter.set_reference(face)
        elif isinstance(driving, Still):
            driving = StillPortrait(driving, portrait.frame, model.motion_spec.flatten(source.keypoints))
        else:
            if isinstance(driving, Clip):
                driving = TrackedClip(driving, self._tracking, backend, settings.driving_face, self.report.warn)
            retargeter.choose_reference(driving)
        return _Stages(portrait, source, driving, audio, retargeter)

    def _track_picture(self, picture: Any, which: Any, name: str, backend: Any) -> Portrait:
        name = str(picture) if isinstance(picture, str | os.PathLike) else name
        portrait = track_portrait(read_portrait(picture), self._tracking, backend, which, name)
        if portrait.in_view < _WHOLE_FACE:
            self.report.warn(
                f"The border of {name} cuts off about {1 - portrait.in_view:.0%} of the face, which cannot be shown: "
                "a picture with the whole face gives a better result."
            )
        return portrait

    def _run(self) -> Generator[Step, None, None]:
        start, report, batch_size = time.perf_counter(), self.report, self._batch_size
        with contextlib.ExitStack() as stack:
            stages = self._prepare(stack.enter_context(self._tracking.open_backend()))
            renderer = Renderer(self._settings.model, stages.source, stages.retargeter, stages.audio, batch_size)
            frames = stack.enter_context(contextlib.closing(prefetch(iter(stages.driving), 2 * batch_size)))
            for step in self._render(frames, renderer, stages.portrait):
                report.seconds = time.perf_counter() - start
                report.first_frame_seconds = report.first_frame_seconds or report.seconds
                report.frames += 1
                yield step
        if not report.frames:
            raise FaceError(f"No face was found in any frame of {self._driving.name}.")
        if report.missing:
            outcome = "the last pose was held" if self._settings.missing_face == "hold" else "they were left out"
            report.warn(f"No face was found in {len(report.missing)} of the driving frames; {outcome}.")

    def _render(self, frames: Iterator[TrackedFrame], renderer: Renderer, portrait: Portrait) -> Iterator[Step]:
        composite = Compositor(portrait, self._settings.paste_back)
        source: Any = portrait.frame.image
        last = source
        for batch in batches(frames, self._batch_size, self._is_missing):
            faces = [frame for frame in batch if not self._is_missing(frame)]
            generated = renderer(faces) if faces else []
            for frame in batch:
                missing = self._is_missing(frame)
                if not missing:
                    last = generated.pop(0)
                elif self._skips(frame.index):
                    continue
                yield Step(composite(last), last, frame.image, source, frame.index, missing)
        if composite.reduced:
            self.report.warn(composite.reduced)

    def _is_missing(self, frame: TrackedFrame) -> bool:
        return self._tracking.needs_faces and frame.landmarks is None and frame.motion is None

    def _skips(self, index: int) -> bool:
        """Note a frame without a face; whether it is left out."""
        mode = self._settings.missing_face
        if mode == "fail":
            raise FaceError(
                f"No face was found in driving frame {index} ({index / float(self.fps):.2f} s); "
                "pass --missing-face hold or skip to go on without it."
            )
        self.report.missing.append(index)
        self.report.skipped += mode == "skip"
        self.report.held += mode == "hold"
        return mode == "skip"


def _open_driving(settings: Settings, driving: Any, audio: Any) -> Clip | DrivingSource | Narration | Still:
    """A clip to be tracked, recorded motion, a sound alone, or nothing but a view."""
    silent = audio is None or (isinstance(audio, str) and audio == "driving")
    if driving is None and silent and settings.view is not None:
        _refuse_clip_settings(settings)
        return Still(settings.view, settings.fps)
    if driving is None:
        return _open_narration(settings, None, audio)
    if isinstance(driving, str | os.PathLike):
        from avfr_jax.codec.files import is_stream

        if is_stream(driving):
            return _open_stream(settings, driving)
    elif isinstance(driving, DrivingSource) and not isinstance(driving, Clip):
        return driving
    clip = open_clip(driving, settings.fps)
    still = isinstance(driving, str | os.PathLike) and isinstance(clip, FrameClip) and clip.frames == 1
    if still and not silent:
        return _open_narration(settings, driving, audio)
    return clip


def _open_narration(settings: Settings, picture: Any, audio: Any) -> Narration:
    if audio is None or (isinstance(audio, str) and audio == "driving"):
        raise ConfigError("Without a driving clip the sound moves the portrait: give audio, a file or samples.")
    _refuse_clip_settings(settings, picture)
    return Narration(audio, settings.fps, picture)


def _refuse_clip_settings(settings: Settings, picture: Any = None) -> None:
    """Raises ConfigError for settings that choose among the frames of a driving clip, where there is none."""
    for name, used in (
        ("best_frame", not isinstance(settings.best_frame, str)),
        ("driving_face", picture is None and settings.driving_face is not None),
        ("missing_face", settings.missing_face != "hold"),
        ("smooth", settings.smooth),
        ("mouth", settings.mouth == "driver"),
    ):
        if used:
            raise ConfigError(f"There is no driving clip, but {name} is about one: leave it out.")


def _open_stream(settings: Settings, path: str | os.PathLike[str]) -> DrivingSource:
    from avfr_jax.codec.stream_source import StreamSource

    for name, used in (
        ("driving_face", settings.driving_face is not None),
        ("missing_face", settings.missing_face != "hold"),
        ("smooth", settings.smooth),
        ("mouth", settings.mouth == "sound"),
    ):
        if used:
            raise ConfigError(f"{path} holds one face, tracked when it was made; leave {name} out.")
    return StreamSource(path, settings.model, settings.fps)
