"""Motion of driving frames, retargeted to the source."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from avfr_jax.models.base import Animator, EncodedSource, Priors, driving_keypoints
from avfr_jax.motion import FaceMesh, Motion
from avfr_jax.motion.openings import lid_levels
from avfr_jax.reenact.audio import AudioConditioning
from avfr_jax.reenact.reference import choose_reference
from avfr_jax.reenact.results import Report
from avfr_jax.reenact.settings import Settings
from avfr_jax.tracking import SAMPLES, DrivingSource, Portrait, TrackedFrame

_LEAST_SAMPLES = 8
"""Frames that show how far a driver's eyes are open at rest."""


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """The source: its crop, its motion (one frame) and its features."""

    frame: TrackedFrame
    keypoints: Motion
    encoded: EncodedSource


def encode_source(model: Animator, portrait: Portrait) -> Source:
    """Run the source through the model's networks."""
    frame = portrait.frame
    assert frame.image is not None
    priors = None
    if frame.landmarks is not None:
        priors = Priors(frame.landmarks[None], None if frame.person_mask is None else frame.person_mask[None])
    pixels = frame.image.astype(np.float32) / 255
    keypoints = model.keypoints(pixels[None], priors)
    return Source(frame, keypoints, model.encode_source(pixels, keypoints, priors))


class Retargeter:
    """Motion of driving frames as motion of the source, see `MotionSpec.retarget`."""

    def __init__(
        self, settings: Settings, source: Source, audio: AudioConditioning, report: Report, speaking: bool
    ) -> None:
        """`speaking`: the mouth follows audio."""
        self._settings, self._source, self._audio, self._report = settings, source, audio, report
        self._speaking = speaking
        self._model: Animator = settings.model
        self._lids: Any = None  # see `MotionSpec.retarget`
        self._initial: Motion | None = None  # of the reference frame; else the first frame becomes it

    def choose_reference(self, driving: DrivingSource) -> None:
        """Choose the driving frame that corresponds to the source's pose, and measure the driver's eyes at rest."""
        faces = [] if self._source.frame.landmarks is None else driving.sample(SAMPLES)
        faces = [frame for frame in faces if frame.landmarks is not None]
        if len(faces) >= _LEAST_SAMPLES:
            meshes = np.stack([frame.landmarks for frame in faces if frame.landmarks is not None])
            self._lids = lid_levels(FaceMesh.from_landmarks(meshes).shape)
        frame = choose_reference(self._settings.best_frame, self._source.frame, driving, faces)
        if frame is not None:
            self.set_reference(frame)

    def set_reference(self, frame: TrackedFrame) -> None:
        """Take a frame for the source's pose. Its mouth is not replaced."""
        if self._audio.mouth is not None:
            self._audio.mouth.set_reference(frame)
        self._initial, self._report.reference = self._detect([frame]), frame.index

    def motion(self, frames: Sequence[TrackedFrame]) -> Motion:
        """Motion of the driving frames, with audio-driven mouths in a dubbed run."""
        mouth = self._audio.mouth
        if mouth is None:
            return self._detect(frames)
        if self._initial is None:
            self.set_reference(frames[0])
        return self._detect([mouth(frame) for frame in frames])

    def retarget(self, motion: Motion, first: int) -> Motion:
        """Motion of frames, of which the first has this number, as motion of the source."""
        if self._initial is None:
            self._initial, self._report.reference = motion[0], first
        source, settings, spec = self._source.keypoints, self._settings, self._model.motion_spec
        retargeted: Motion = spec.retarget(
            source, motion, self._initial, mode=settings.motion, adapt_scale=settings.adapt_scale, lids=self._lids
        )
        if settings.keep is not None:
            retargeted = spec.keep(settings.keep, source, retargeted, speaking=self._speaking)
        return retargeted

    def _detect(self, frames: Sequence[TrackedFrame]) -> Motion:
        if frames[0].motion is not None:
            recorded: Any = np.stack([frame.motion for frame in frames])
            unflattened: Motion = self._model.motion_spec.unflatten(recorded, self._source.keypoints)
            return unflattened
        pixels = np.stack([frame.image for frame in frames]).astype(np.float32) / 255
        if frames[0].landmarks is None:
            return driving_keypoints(self._model, pixels)
        masks = None if frames[0].person_mask is None else np.stack([frame.person_mask for frame in frames])
        landmarks = np.stack([frame.landmarks for frame in frames])
        return driving_keypoints(self._model, pixels, Priors(landmarks, masks, self._audio.dubbed))
