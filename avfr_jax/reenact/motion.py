"""Motion of driving frames, retargeted to the source."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from avfr_jax.errors import FaceError
from avfr_jax.models.base import Animator, EncodedSource, Priors, driving_keypoints
from avfr_jax.motion import FaceMesh, Motion
from avfr_jax.motion.openings import lid_levels
from avfr_jax.motion.turner import Turner
from avfr_jax.motion.view import angles_of
from avfr_jax.reenact.audio import AudioConditioning
from avfr_jax.reenact.reference import choose_reference
from avfr_jax.reenact.results import Report
from avfr_jax.reenact.settings import Settings
from avfr_jax.tracking import SAMPLES, DrivingSource, Portrait, TrackedFrame

_LEAST_SAMPLES = 8
"""Frames that show how far a driver's eyes are open at rest."""
_TURNED, _PROFILE = 30.0, 48.0
"""Degrees of yaw of a source beyond which a view is warned about, and refused. The face mesh measures too little of
large turns: rendered heads turned by 50° as 38° to 47°, by 60° as 44° to 54°, by 70° as 39° to 58°."""


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
        self._turner: Turner | None = None
        if settings.view is not None:
            self._check_source()
            self._turner = Turner(self._model.motion_spec, settings.view, self._model.name, report.warn)

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

    def retarget(self, motion: Motion, indices: Sequence[int]) -> Motion:
        """Motion of frames of these numbers as motion of the source."""
        if self._initial is None:
            self._initial, self._report.reference = motion[0], indices[0]
        source, settings, spec = self._source.keypoints, self._settings, self._model.motion_spec
        retargeted: Motion = spec.retarget(
            source, motion, self._initial, mode=settings.motion, adapt_scale=settings.adapt_scale, lids=self._lids
        )
        if settings.keep is not None:
            retargeted = spec.keep(settings.keep, source, retargeted, speaking=self._speaking)
        return retargeted if self._turner is None else self._turner(source, retargeted, indices)

    def _check_source(self) -> None:
        """Warn of a source that shows half a face, and refuse a profile: nothing of the other half is known."""
        rotation = self._model.motion_spec.head_rotation(self._source.keypoints)
        yaw = abs(float(angles_of(rotation)[0, 0]))
        if yaw > _PROFILE:
            raise FaceError(
                f"The source shows its face in profile (yaw {yaw:.0f}°), so that the far side cannot be turned into "
                "view; give a picture in which both eyes are seen."
            )
        if yaw > _TURNED:
            self._report.warn(
                f"The source shows its head turned by {yaw:.0f}°: the picture has little of the far side of its face, "
                "and what is turned into view there is stretched."
            )

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
