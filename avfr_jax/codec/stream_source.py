"""Recorded motion of an `.avfr` file, to drive a portrait; no reference frame is decoded."""

import contextlib
import math
import os
import pathlib
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from avfr_jax.codec.bitstream import BitstreamError, Kind
from avfr_jax.codec.files import Stream, open_stream
from avfr_jax.codec.motion_space import MESH, Pose, numbers_of, stack
from avfr_jax.codec.receiver import Receiver
from avfr_jax.errors import ConfigError, InputError
from avfr_jax.model_store import current_fingerprint
from avfr_jax.models.base import Animator
from avfr_jax.tracking import FrameRate, TrackedFrame


class StreamSource:
    """The motion of a stream as a `DrivingSource`.

    Args:
      path: the `.avfr` file, a template or not.
      model: to be driven.
      fps: frames a second, or `source` for the stream's own rate.

    Raises:
      InputError: the file cannot be read, or holds no motion.
      ConfigError: the stream lacks motion that the model needs.
    """

    repeatable = True

    def __init__(self, path: str | os.PathLike[str], model: Animator, fps: FrameRate = 25) -> None:
        self.name, self._spec = str(path), model.motion_spec
        self._stream: Stream = open_stream(path)
        if not self._drives(model):
            names = {self._stream.header.model} | ({"landmark-warp"} if self._has_mesh else set())
            raise ConfigError(
                f"{self.name} does not hold what {model.name} needs of the driver; drive {' or '.join(sorted(names))} "
                f"with it, or {model.name} with the video."
            )
        self.fps = self._stream.rate if fps == "source" else Fraction(fps).limit_denominator(1001)
        self._step = self._stream.rate / self.fps  # frames of the stream in one of ours
        self.frames: int | None = math.ceil(self._stream.frames / self._step)
        if not self.frames:
            raise InputError(f"{self.name} holds no motion.")

    @property
    def _has_mesh(self) -> bool:
        return any(part.kind == MESH for part in self._stream.header.parts)

    def _drives(self, model: Animator) -> bool:
        """Whether the model's motion is in the stream: the mesh for any model, other components for their own alone."""
        if any(component.model_specific for component in self._spec.components):
            return model.fingerprint == current_fingerprint(self._stream.header.fingerprint)
        return self._has_mesh

    def __iter__(self) -> Iterator[TrackedFrame]:
        """Raises InputError for a stream without a pivot."""
        index = 0
        for number, pose in enumerate(self._poses()):
            while int(index * self._step) == number:
                motion = numbers_of(self._spec, stack(pose))[0]
                yield TrackedFrame(index, landmarks=pose.get("mesh"), motion=motion)
                index += 1

    def sample(self, count: int) -> list[TrackedFrame]:
        """See `DrivingSource.sample`."""
        total = self.frames or 0
        wanted = set(np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist())
        return [frame for frame in self if frame.index in wanted]

    def frame(self, index: int) -> TrackedFrame:
        """See `DrivingSource.frame`."""
        for frame in self:
            if frame.index == index:
                return frame
        raise ConfigError(f"{self.name} has no frame {index}.")

    def _poses(self) -> Iterator[Pose]:
        """The pose of each of the stream's own frames."""
        receiver = Receiver(rendering=False)
        for packet in self._stream.packets():
            try:
                receiver.push(packet)
            except BitstreamError:
                continue
            if packet.kind is Kind.MOTION and receiver.can_render:
                yield from receiver.poses(receiver.known)
        if not receiver.can_render:
            raise InputError(f"{self.name} ends before its first pivot; there is no motion in it.")
        yield from receiver.poses(self._stream.frames)

    def audio_file(self) -> contextlib.AbstractContextManager[pathlib.Path | None]:
        """See `Stream.sound_file`."""
        return self._stream.sound_file()
