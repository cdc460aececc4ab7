"""The sending end of a call: frames in, packets out, one frame at a time."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from avfr_jax.codec.bitstream import Header, Kind, Packet, put_number
from avfr_jax.codec.identity import model_identity
from avfr_jax.codec.mesh import FRAME, to_pixels
from avfr_jax.codec.motion import MotionFormat, MotionWriter
from avfr_jax.codec.pivots import PivotPolicy, PivotSettings, View
from avfr_jax.codec.range_coder import Writer
from avfr_jax.codec.spaces import MESH, Pose, Space, needs_learned, space_of
from avfr_jax.codec.still import Still, decode_still, encode_still
from avfr_jax.errors import ConfigError
from avfr_jax.faces.pose import head_pose
from avfr_jax.models.base import Animator, Priors
from avfr_jax.ops.keypoints import Keypoints
from avfr_jax.typing import Float, UInt8

_PART = 1100  # bytes of a pivot in one packet: a datagram passes every network unbroken


@dataclasses.dataclass(frozen=True)
class SenderSettings:
    """How a call is coded.

    Attributes:
      components: of the face mesh, 1 to 48.
      step: of the mesh's quantiser: four are an octave, 0 is one weighted pixel (`MotionFormat`).
      keypoint_step: the same for learned keypoints, in pixels.
      slope: in 1/256, how much of the last change is expected again.
      dead_zone: in steps, see `MotionWriter`.
      refresh: frames from one refresh to the next: what a lost packet may cost.
      packet: frames in one packet: what the sender waits for.
      still: coder of pivot pictures.
      quality: of pivot pictures, 0 to 100.
      pivots: when to take a new one.
    """

    components: int = 32
    step: int = 14
    keypoint_step: int = -4
    slope: int = 64
    dead_zone: float = 0.25
    refresh: int = 12
    packet: int = 3
    still: Still = Still.AV1
    quality: int = 50
    pivots: PivotSettings = PivotSettings()

    def __post_init__(self) -> None:
        for name, low, high in (
            ("step", -128, 60), ("keypoint_step", -128, 60), ("slope", 0, 256), ("dead_zone", 0, 0.5),
            ("refresh", 1, 1 << 13), ("packet", 1, 1 << 12),
        ):  # fmt: skip
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} must be {low} to {high}, not {getattr(self, name)}")


FOR_FILES = SenderSettings(refresh=250, packet=125)
"""Nothing is lost on the way to a file, and nobody waits."""


@dataclasses.dataclass
class Sent:
    """A pivot as both ends hold it: its decoded picture, its pose, and the packets it went in."""

    image: UInt8[np.ndarray, "s s 3"]
    pose: Pose
    packets: list[Packet]


class Sender:
    """Turns frames into packets; see `Receiver`.

    Memory and the time a frame takes do not grow with the call. The frames are those the model sees: square face crops
    of its size.

    Args:
      model: which will draw at the receiver.
      settings: how the call is coded.
      shown: (width, height) of the frames to be shown; None shows the model's size.
      rate: frames a second, (numerator, denominator).
      frames: how many there will be, where it is known.
      sound: channels of the sound that goes along.
    """

    def __init__(
        self,
        model: Animator,
        settings: SenderSettings = SenderSettings(),
        *,
        shown: tuple[int, int] | None = None,
        rate: tuple[int, int] = (25, 1),
        frames: int = 0,
        sound: int = 0,
    ) -> None:
        self.model, self.settings = model, settings
        self.space: Space | None = None
        self._shown = shown or (model.image_size, model.image_size)
        self._rate, self._frames, self._sound = rate, frames, sound
        self._policy = PivotPolicy(settings.pivots, rate[0] / rate[1])
        self.pivots: dict[int, Sent] = {}
        self._motion: MotionWriter | None = None
        self._writer: Writer | None = None
        self._open = (0, False)  # first frame of the packet being written, and whether it is a refresh
        self._at = 0
        self._since = 0
        self._pivot = 0
        self._pose: Pose | None = None
        self.last: Any = None

    def header(self) -> Packet:
        """The header packet. It is known from the first frame on."""
        if self.space is None or self._motion is None:
            raise ConfigError("a stream has a header once its first frame was pushed")
        settings, space = self.settings, self.space
        return Header(
            *self._shown, self._rate, self._frames, self.model.image_size, self.model.name,
            model_identity(self.model.name), tuple(part.kind for part in space.parts), space.identity, space.counts,
            tuple(settings.step if part.kind == MESH else settings.keypoint_step for part in space.parts),
            settings.slope, settings.refresh, self._sound,
        ).to_packet()  # fmt: skip

    def push(self, frame: UInt8[np.ndarray, "s s 3"], landmarks: Float[np.ndarray, "478 3"] | None) -> list[Packet]:
        """Take in the next frame.

        Args:
          frame: as the model sees it.
          landmarks: in [-1, 1] of that frame; None where no face was found: the last pose is held.

        Returns:
          The packets that can be sent now; often none.
        """
        packets: list[Packet] = []
        pose = self._look(frame, landmarks)
        if pose is None:  # no face has been seen yet
            self._at += 1
            return packets
        view = View(None if landmarks is None else _angles(landmarks))
        number, new = self._policy.choose(self._at, view)
        if new:
            packets += self._flush(self._at) + self._take_pivot(number, frame, pose)
        if new or number != self._pivot or self._since >= self.settings.refresh:
            packets += self._flush(self._at)
            self._motion.refresh()  # type: ignore[union-attr]
            self._since, self._pivot = 0, number
        packets += self._write(pose)
        self._at += 1
        return packets

    def finish(self) -> list[Packet]:
        """The packets that are left when the call ends."""
        return self._flush(self._at)

    def repeat(self, number: int) -> list[Packet]:
        """A pivot's packets again, for a receiver that has lost some; none where it is no longer kept."""
        sent = self.pivots.get(number)
        return [self.header(), *sent.packets] if sent else []

    def _look(self, frame: Any, landmarks: Any) -> Pose | None:
        if landmarks is None and "priors" in self.model.needs:
            return self._pose
        keypoints: Keypoints | None = None
        if self.space is None or needs_learned(self.space):
            priors = None if landmarks is None else Priors(np.asarray(landmarks)[None])
            keypoints = self.model.keypoints(frame[None].astype(np.float32) / 255, priors)
        if self.space is None:
            self._begin(space_of(self.model, self.settings.components, _has_jacobians(keypoints)))
        assert self.space is not None
        self._pose = self.space.pose(landmarks, keypoints)
        return self._pose

    def _begin(self, space: Space) -> None:
        self.space = space
        self._motion = MotionWriter(motion_format(space, self.settings), self.settings.dead_zone)

    def _take_pivot(self, number: int, frame: Any, pose: Pose) -> list[Packet]:
        assert self.space is not None
        picture = encode_still(frame, self.settings.still, self.settings.quality)
        told = self.space.put_pivot(pose)
        data = bytes([self.settings.still]) + put_number(len(picture)) + picture + told
        parts = [data[i : i + _PART] for i in range(0, len(data), _PART)]
        packets = [
            Packet(Kind.PIVOT, self._at, bytes([i]) + part, count=len(parts), pivot=number)
            for i, part in enumerate(parts)
        ]
        image = decode_still(picture, self.settings.still, self.model.image_size)
        self.pivots[number] = Sent(image, self.space.get_pivot(told), packets)
        for gone in set(self.pivots) - set(self._policy.kept):
            del self.pivots[gone]
        return [self.header(), *packets]

    def _write(self, pose: Pose) -> list[Packet]:
        assert self.space is not None
        assert self._motion is not None
        if self._writer is None:
            self._writer, self._open = Writer(), (self._at, self._since == 0)
        vector = self.space.vector(pose, self.pivots[self._pivot].pose)
        self.last = self._motion.put(self._writer, vector)
        self._since += 1
        if self._at + 1 - self._open[0] >= self.settings.packet:
            return self._flush(self._at + 1)
        return []

    def _flush(self, end: int) -> list[Packet]:
        """The packet being written, which holds the frames before `end`."""
        if self._writer is None:
            return []
        first, refresh = self._open
        payload, self._writer = self._writer.finish(), None
        return [Packet(Kind.MOTION, first, payload, end - first, refresh, self._pivot)]


def motion_format(space: Space, settings: SenderSettings) -> MotionFormat:
    """How the motion of a space is written with these settings."""
    steps = [settings.step if part.kind == MESH else settings.keypoint_step for part in space.parts]
    return MotionFormat(space.levels, np.repeat(steps, space.counts), settings.slope)


def _angles(landmarks: Any) -> Any:
    pose = head_pose(to_pixels(np.asarray(landmarks)), FRAME, FRAME)
    return np.array([pose.yaw, pose.pitch, pose.roll])


def _has_jacobians(keypoints: Keypoints | None) -> bool:
    return keypoints is not None and keypoints.jacobian is not None


def send_all(sender: Sender, frames: Iterable[tuple[Any, Any]]) -> Iterator[Packet]:
    """The packets of a whole clip of (frame, landmarks)."""
    for frame, landmarks in frames:
        yield from sender.push(frame, landmarks)
    yield from sender.finish()
