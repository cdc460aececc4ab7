"""The motion in an `.avfr` file, for driving a portrait. No picture in it is decoded, and a template has none."""

import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from avfr_jax.codec.bitstream import BitstreamError, Kind
from avfr_jax.codec.files import Stream, open_stream
from avfr_jax.codec.receiver import Receiver
from avfr_jax.codec.spaces import MESH, Pose
from avfr_jax.errors import ConfigError, InputError
from avfr_jax.model_store import current_fingerprint
from avfr_jax.models.base import Animator

_RATE = 25
"""Frames a second of everything that drives."""


class RecordedMotion:
    """A face's poses as a stream tells them, at 25 frames a second.

    Memory does not grow with the stream, but for the file's bytes.

    Args:
      path: the `.avfr` file, a template or not.
      model: to be driven.

    Raises:
      InputError: the file cannot be read, or holds no motion.
      ConfigError: the model needs more of the driver than the stream holds.
    """

    def __init__(self, path: str | os.PathLike[str], model: Animator) -> None:
        self.name = str(path)
        self._stream: Stream = open_stream(path)
        self._mesh_alone = not any(part.model_specific for part in model.motion_spec.components)
        if not self._drives(model):
            raise ConfigError(
                f"{self.name} does not hold what {model.name} needs of the driver; drive {self._driven()} with it, or "
                f"{model.name} with the video."
            )
        self._step = self._stream.rate / _RATE  # frames of the stream in one of ours
        self.frames = math.ceil(self._stream.frames / self._step)
        if not self.frames:
            raise InputError(f"{self.name} holds no motion.")

    def _drives(self, model: Animator) -> bool:
        header = self._stream.header
        if self._mesh_alone:
            return MESH in header.space
        if model.name != header.model:
            return False
        return model.fingerprint == current_fingerprint(header.model_identity)

    def _driven(self) -> str:
        names = {self._stream.header.model}
        if MESH in self._stream.header.space:
            names.add("landmark-warp")
        return " or ".join(sorted(names))

    def __iter__(self) -> Iterator[Pose]:
        """The poses, in one pass. Raises InputError for a stream without a pivot."""
        shown = 0
        for number, pose in enumerate(self._told()):
            while int(shown * self._step) == number:
                yield Pose(pose.mesh) if self._mesh_alone else pose
                shown += 1

    def sample(self, count: int) -> list[tuple[int, Pose]]:
        """At most `count` poses spread over the stream, with their numbers."""
        wanted = set(np.linspace(0, self.frames - 1, min(count, self.frames)).round().astype(int).tolist())
        return [(i, pose) for i, pose in enumerate(self) if i in wanted]

    def __getitem__(self, index: int) -> Pose:
        """The pose of one frame. Raises ConfigError where there is no such frame."""
        for number, pose in enumerate(self):
            if number == index:
                return pose
        raise ConfigError(f"{self.name} has no frame {index}.")

    def _told(self) -> Iterator[Pose]:
        """A pose for each of the stream's own frames."""
        receiver = Receiver(None)
        for packet in self._stream.packets():
            try:
                receiver.push(packet)
            except BitstreamError:
                continue
            if packet.kind is Kind.MOTION and receiver.can_draw:
                yield from receiver.poses(receiver.known)
        if not receiver.can_draw:
            raise InputError(f"{self.name} ends before its first pivot; there is no motion in it.")
        yield from receiver.poses(self._stream.frames)

    def sound_file(self) -> Any:
        """See `Stream.sound_file`."""
        return self._stream.sound_file()
