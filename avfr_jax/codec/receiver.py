"""The receiving end of a call: packets in, in any order and not all of them, frames out."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from avfr_jax.codec.bitstream import BitstreamError, Cursor, Header, Kind, Packet, read_packet
from avfr_jax.codec.identity import model_identity
from avfr_jax.codec.motion import MotionFormat, MotionReader
from avfr_jax.codec.pivots import KEPT
from avfr_jax.codec.range_coder import Reader
from avfr_jax.codec.spaces import Pose, Space, space_from
from avfr_jax.codec.still import decode_still
from avfr_jax.errors import ConfigError
from avfr_jax.model_store import load_model
from avfr_jax.models.base import Animator, Encoded
from avfr_jax.ops.keypoints import Keypoints
from avfr_jax.typing import UInt8

_WAITING = 256  # packets kept for what must come before them
_FRAMES = 1 << 15  # frames of motion kept for being drawn
_PARTS = 256  # of one pivot
_CHAINS = 16  # runs of motion that can go on


@dataclasses.dataclass(frozen=True, eq=False)
class _Pivot:
    """A pivot as it is drawn from."""

    pose: Pose
    keypoints: Keypoints
    encoded: Encoded


@dataclasses.dataclass
class Received:
    """What happened so far.

    Attributes:
      packets: that could be read.
      broken: that could not.
      late: motion that came after its frames were drawn.
      held: frames drawn with an earlier pose, since their own never came.
      missing_pivots: numbers of pivots that motion refers to and that have not come; the sender can repeat them.
    """

    packets: int = 0
    broken: int = 0
    late: int = 0
    held: int = 0
    missing_pivots: set[int] = dataclasses.field(default_factory=set)


class Receiver:
    """Turns packets into frames; see `Sender`.

    Memory does not grow with the call. Frames whose motion never came hold the pose before them.

    Args:
      find_model: gives the model that a header names.
    """

    def __init__(self, find_model: Callable[[str], Animator] = load_model) -> None:
        self._find = find_model
        self.header: Header | None = None
        self.model: Animator | None = None
        self.space: Space | None = None
        self.received = Received()
        self._early: list[Packet] = []  # what overtook the header
        self._form: MotionFormat | None = None
        self._parts: dict[int, dict[int, bytes]] = {}
        self._pivots: dict[int, _Pivot] = {}
        self._waiting: dict[int, Packet] = {}
        # Motion that goes on: by the frame that is next, its reader and its pivot. A refresh begins one.
        self._chains: dict[int, tuple[MotionReader, int]] = {}
        self.vectors: dict[int, tuple[int, Any]] = {}
        self._drawn = 0
        self._last: tuple[int, Any] | None = None

    def push_bytes(self, data: bytes) -> None:
        """One packet as it came off a network; a broken one is counted and forgotten."""
        try:
            packet, _ = read_packet(data, 0, max([self._drawn, *self._chains]))
            self.push(packet)
        except BitstreamError:
            self.received.broken += 1

    def push(self, packet: Packet) -> None:
        """Take in a packet.

        Raises:
          BitstreamError: its content cannot be read.
          ConfigError: it names a model that is not here, or another version of one that is.
        """
        self.received.packets += 1
        if packet.kind is Kind.HEADER:
            self._take_header(Header.of(packet))
            early, self._early = self._early, []
            for one in early:
                self.push(one)
        elif self.header is None:
            self._early = [*self._early, packet][-_WAITING:]
        elif packet.kind is Kind.PIVOT:
            self._take_part(packet)
        elif packet.kind is Kind.MOTION:
            self._take_motion(packet)

    @property
    def can_draw(self) -> bool:
        """Whether there is something to draw from: a pivot."""
        return bool(self._pivots)

    @property
    def known(self) -> int:
        """The frames before this one have come, or will never."""
        return max(self.vectors, default=self._drawn - 1) + 1

    def draw(self, until: int) -> Iterator[UInt8[np.ndarray, "s s 3"]]:
        """The frames up to that number, from where the last call ended. Nothing can be drawn before the first pivot.

        Raises:
          ConfigError: no header or no pivot has come yet.
        """
        if self.model is None or self.header is None:
            raise ConfigError("nothing can be drawn before the stream's header has come")
        if not self._pivots:
            raise ConfigError("nothing can be drawn before a pivot has come")
        batch = self.model.batch_size
        while self._drawn < until:
            wanted = [self._pose_of(i) for i in range(self._drawn, min(until, self._drawn + batch))]
            count = 1
            while count < len(wanted) and wanted[count][0] == wanted[0][0]:
                count += 1
            for frame in self._animate(wanted[0][0], [vector for _, vector in wanted[:count]], batch):
                self.vectors.pop(self._drawn, None)
                self._drawn += 1
                yield frame

    # --- headers and pivots ---------------------------------------------------------------------------------------

    def _take_header(self, header: Header) -> None:
        if header == self.header:
            return
        try:
            space = space_from(header.space, header.components)
        except ConfigError as error:
            raise BitstreamError(str(error)) from error
        if space.identity != header.space_identity:
            raise ConfigError("the stream was made with other components of the face mesh than this version ships")
        model = self._find(header.model)
        if model_identity(header.model) != header.model_identity:
            raise ConfigError(
                f"the stream was made for another {header.model} than the one here; find the one it was made for"
            )
        if model.image_size != header.size:
            raise ConfigError(f"the stream is of {header.size} × {header.size} pixels, not {header.model}'s size")
        steps = np.repeat(header.steps, header.components)
        self.header, self.model, self.space = header, model, space
        self._form = MotionFormat(space.levels, steps, header.slope)
        self._parts, self._pivots, self._waiting, self._chains = {}, {}, {}, {}

    def _take_part(self, packet: Packet) -> None:
        number = packet.pivot
        if number in self._pivots or not packet.payload or not 1 <= packet.count <= _PARTS:
            return
        parts = self._parts.setdefault(number, {})
        parts[packet.payload[0]] = packet.payload[1:]
        while len(self._parts) > KEPT:
            del self._parts[next(iter(self._parts))]
        if len(parts) < packet.count:
            return
        del self._parts[number]
        self._pivots[number] = self._read_pivot(b"".join(parts[i] for i in sorted(parts)))
        self.received.missing_pivots.discard(number)
        while len(self._pivots) > KEPT:
            del self._pivots[next(iter(self._pivots))]
        self._go_on()

    def _read_pivot(self, data: bytes) -> _Pivot:
        assert self.header is not None
        assert self.model is not None
        assert self.space is not None
        cursor = Cursor(data)
        form = cursor.byte()
        if form > 2:
            raise BitstreamError(f"there is no picture coder {form}")
        image = decode_still(cursor.take(cursor.number()), form, self.header.size)
        pose = self.space.get_pivot(data[cursor.at :])
        keypoints = self.space.pivot_keypoints(pose)
        return _Pivot(pose, keypoints, self.model.encode_source(image.astype(np.float32) / 255, keypoints))

    # --- motion ---------------------------------------------------------------------------------------------------

    def _take_motion(self, packet: Packet) -> None:
        if packet.frame + packet.count <= self._drawn:
            self.received.late += 1
            return
        if packet.count > _FRAMES or packet.frame > self._drawn + _FRAMES:
            raise BitstreamError("a motion packet holds more frames than a receiver keeps")
        self._waiting[packet.frame] = packet
        while len(self._waiting) > _WAITING:
            del self._waiting[min(self._waiting)]
        self._go_on()

    def _go_on(self) -> None:
        """Read all the motion that can be read now, in whatever order it came."""
        while True:
            ready = [p for p in self._waiting.values() if p.refresh or p.frame in self._chains]
            if not ready:
                return
            for packet in ready:
                del self._waiting[packet.frame]
                self._read(packet)

    def _read(self, packet: Packet) -> None:
        assert self._form is not None
        if packet.refresh:
            motion, pivot = MotionReader(self._form), packet.pivot
            if pivot not in self._pivots:
                self.received.missing_pivots.add(pivot)
        else:
            motion, pivot = self._chains.pop(packet.frame)
        reader = Reader(packet.payload)
        for frame in range(packet.frame, packet.frame + packet.count):
            vector = motion.get(reader)
            if frame >= self._drawn and len(self.vectors) < _FRAMES:
                self.vectors[frame] = (pivot, vector)
        self._chains[packet.frame + packet.count] = (motion, pivot)
        while len(self._chains) > _CHAINS:
            del self._chains[next(iter(self._chains))]

    def _pose_of(self, frame: int) -> tuple[int, Any]:
        known = self.vectors.get(frame)
        if known is not None and known[0] in self._pivots:
            self._last = known
            return known
        self.received.held += 1
        if self._last is None or self._last[0] not in self._pivots:
            assert self._form is not None
            return next(iter(self._pivots)), np.zeros(len(self._form.step), np.int64)
        return self._last

    def _animate(self, pivot: int, vectors: Sequence[Any], batch: int) -> Any:
        assert self.model is not None
        assert self.space is not None
        assert self._form is not None
        stacked = np.stack([*vectors, *[vectors[-1]] * (batch - len(vectors))])
        used = self._pivots[pivot]
        driving = self.space.keypoints(used.pose, stacked * self._form.steps)
        frames = np.asarray(self.model.animate(used.encoded, used.keypoints, driving))[: len(vectors)]
        return (np.clip(frames, 0, 1) * 255 + 0.5).astype(np.uint8)
