"""A picture that talks as driving source: its face moved by a sound, for runs without a driving clip."""

import contextlib
import dataclasses
import math
import pathlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from avfr_jax.errors import ConfigError, InputError
from avfr_jax.media.mel import RATE
from avfr_jax.models import landmark_warp
from avfr_jax.models.landmark_warp import LandmarkWarpConfig
from avfr_jax.motion import FaceMesh
from avfr_jax.reenact.audio import AudioDrivenMouth, padded_mel, read_sound
from avfr_jax.reenact.idle import IdleMotion, moved
from avfr_jax.tracking import FrameRate, TrackedFrame
from avfr_jax.tracking.clip import fixed_rate
from avfr_jax.typing import Array, Float

_BATCH = 8  # frames warped at once


class Narration:
    """A sound that is to drive a picture.

    Args:
      audio: a file's path, or samples, see `Reenactor.reenact`.
      fps: frames a second; `source` stands for 25.
      picture: a driving picture, whose face is taken in place of the portrait's; None without one.

    Attributes:
      name: for messages.
      fps: frames a second.
      frames: the sound's length, rounded up to a frame.
      picture: the one given.

    Raises:
      InputError: the sound cannot be read or has no samples.
    """

    def __init__(self, audio: Any, fps: FrameRate, picture: Any = None) -> None:
        samples = read_sound(audio)
        if not len(samples):
            raise InputError("the sound has no samples: without a driving clip it gives the length of the result.")
        self.name, self.picture, self.fps = "the built-in motion", picture, fixed_rate(fps)
        self.frames = max(1, math.ceil(len(samples) * self.fps / RATE))
        mel = padded_mel(samples)
        self.mouth = AudioDrivenMouth(mel, float(self.fps))
        self.motion = IdleMotion.of_sound(mel, self.frames, float(self.fps))

    def audio_file(self) -> contextlib.AbstractContextManager[pathlib.Path | None]:
        """See `DrivingSource.audio_file`: it has none of its own."""
        return contextlib.nullcontext(None)


class TalkingPicture:
    """A tracked picture that says a narration: a `DrivingSource`.

    The face mesh turns, blinks and speaks; `landmark-warp` renders the image of it, for models that detect keypoints
    in driving images.

    Args:
      narration: the sound.
      face: the picture's crop with its landmarks and person mask.
      masks: give the person mask of each frame.
    """

    repeatable = True

    def __init__(self, narration: Narration, face: TrackedFrame, masks: bool = False) -> None:
        assert face.image is not None
        assert face.landmarks is not None
        assert face.person_mask is not None
        self.name, self.fps, self.frames = narration.name, narration.fps, narration.frames
        self.face, self._narration, self._masks = face, narration, masks
        self._config = LandmarkWarpConfig(size=len(face.image))
        image, self._mesh = face.image.astype(np.float32) / 255, FaceMesh.from_landmarks(face.landmarks[None])
        self._encoded = landmark_warp.encode(self._config, image, face.landmarks, face.person_mask)
        narration.mouth.set_reference(face)

    def audio_file(self) -> contextlib.AbstractContextManager[pathlib.Path | None]:
        """See `DrivingSource.audio_file`."""
        return self._narration.audio_file()

    def __iter__(self) -> Iterator[TrackedFrame]:
        return self._rendered(range(self.frames))

    def sample(self, count: int) -> list[TrackedFrame]:
        """See `DrivingSource.sample`."""
        chosen = np.unique(np.linspace(0, self.frames - 1, min(count, self.frames)).round().astype(int))
        return list(self._rendered([int(index) for index in chosen]))

    def frame(self, index: int) -> TrackedFrame:
        """See `DrivingSource.frame`."""
        if not 0 <= index < self.frames:
            raise ConfigError(f"{self.name} has no frame {index}.")
        return next(self._rendered([index]))

    def _rendered(self, numbers: Sequence[int]) -> Iterator[TrackedFrame]:
        for start in range(0, len(numbers), _BATCH):
            batch = numbers[start : start + _BATCH]
            meshes = np.stack([self._landmarks(index) for index in batch])
            padded = np.pad(meshes, ((0, _BATCH - len(batch)), (0, 0), (0, 0)), mode="edge")
            rendered = np.asarray(_render(self._config, self._encoded, self._mesh, FaceMesh.from_landmarks(padded)))
            images = (rendered[..., :3] * 255 + 0.5).astype(np.uint8)
            for index, image, mesh, opacity in zip(batch, images, meshes, rendered[..., 3], strict=False):
                yield TrackedFrame(index, image, mesh, opacity if self._masks else None)

    def _landmarks(self, index: int) -> Float[np.ndarray, "478 3"]:
        speaking = self._narration.mouth(dataclasses.replace(self.face, index=index))
        assert speaking.landmarks is not None
        return moved(speaking.landmarks, self._narration.motion, index)


@partial(jax.jit, static_argnums=0)
def _render(config: LandmarkWarpConfig, encoded: Any, source: FaceMesh, driving: FaceMesh) -> Float[Array, "n h w 4"]:
    return landmark_warp.render(config, encoded, source.positions[0], driving)
