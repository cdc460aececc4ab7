"""The receiving end of a call: packets in, in any order and not all of them, frames out."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from avfr_jax.codec.audio_features import AHEAD, AudioFeatureBuffer
from avfr_jax.codec.bitstream import PICTURES, BitstreamError, Cursor, Header, Kind, Packet, read_packet
from avfr_jax.codec.identity import model_identity
from avfr_jax.codec.inter_coding import NEXT, InterDecoder
from avfr_jax.codec.intra_coding import ImageCodec, decode_image
from avfr_jax.codec.motion import MotionFormat, MotionReader
from avfr_jax.codec.pivots import KEPT, PARTS
from avfr_jax.codec.range_coder import Reader
from avfr_jax.codec.residual_coding import REPAIRED, ResidualCoding
from avfr_jax.codec.spaces import Pose, Space, motion_of, moves, space_from
from avfr_jax.errors import ConfigError
from avfr_jax.model_store import current_fingerprint, load_model, load_residual_codec
from avfr_jax.models.base import Animator, EncodedSource
from avfr_jax.typing import UInt8

if TYPE_CHECKING:
    from avfr_jax.models.interpolation import Interpolator
    from avfr_jax.models.residual import ResidualCodec

_WAITING = 256  # packets kept for what must come before them
_FRAMES = 1 << 15  # frames of motion kept for being drawn
_PIVOT = 1 << 20  # bytes of one
_CHAINS = 16  # runs of motion that can go on
_GLIDE = 12  # frames over which a pose moves to the next that is known, where those between were lost
_BLENDED = 50  # frames before a pivot that are drawn from it too
_AT_ONCE = 64  # frames that are given out together, at most
_TOLD = (bytes([NEXT]), bytes([REPAIRED]))  # forms of pivots that are told from others
_PATIENCE = 250  # frames that wait for their sound in a file


@dataclasses.dataclass(frozen=True, eq=False)
class _Pivot:
    """A pivot as it is drawn from, and the frame that it shows; for a receiver that draws nothing, its pose alone."""

    frame: int
    pose: Pose
    keypoints: Any = None
    encoded: EncodedSource | None = None


class _Shot(NamedTuple):
    """What a frame is drawn from: the number of a pivot and the motion from there, in steps."""

    pivot: int
    vector: Any


@dataclasses.dataclass
class Received:
    """What happened so far.

    Attributes:
      packets: that could be read.
      broken: that could not.
      late: motion that came after its frames were drawn.
      held: frames whose motion never came: the face keeps its pose, or moves to the next that is known.
      missing_pivots: numbers of pivots that motion refers to and that have not come; the sender can repeat them.
    """

    packets: int = 0
    broken: int = 0
    late: int = 0
    held: int = 0
    missing_pivots: set[int] = dataclasses.field(default_factory=set)


class Receiver:
    """Turns packets into frames; see `Sender`.

    Memory does not grow with the call. Between two frames whose motion is known and not far apart, the face moves
    from one pose to the other in equal steps: so frames are made that the sender left out, and those that were lost.
    Before it is known where to, it keeps its pose. A model that listens is given the sound that has come.

    Attributes:
      batch_size: frames drawn at once, the model's own number where it is None. In a call they are drawn one by one.
      interpolator: where it is not None, it makes the frames that the sender left out from the drawn ones around them.
      blend: draw frames between two pivots from both, each counting the more the nearer it is in time. `ready` then
        waits for the second, two seconds at most.

    Args:
      find_model: gives the model that a header names; None looks for none: the motion can be followed (`poses`), and
        nothing is drawn.
      find_residual_codec: gives the model that a header names for repairs.

    Attributes:
      header: what the stream says of itself; None before it has come.
      model: which draws.
      space: what of a face's pose the stream tells.
      received: what happened so far.
    """

    def __init__(
        self,
        find_model: Callable[[str], Animator] | None = load_model,
        find_residual_codec: "Callable[[str], ResidualCodec]" = load_residual_codec,
    ) -> None:
        self._find, self._find_residual_codec = find_model, find_residual_codec
        self.header: Header | None = None
        self.model: Animator | None = None
        self.space: Space | None = None
        self.received = Received()
        self.batch_size: int | None = None
        self.interpolator: Interpolator | None = None
        self.blend = False
        self._hearing: AudioFeatureBuffer | None = None
        self._repairs: ResidualCoding | None = None
        self._early: list[Packet] = []  # what overtook the header
        self._form: MotionFormat | None = None
        self._parts: dict[int, dict[int, bytes]] = {}
        self._whole: dict[int, tuple[int, bytes]] = {}  # pivots that cannot be read yet, and their frames
        self._film: tuple[InterDecoder, int] | None = None  # and the number of its last pivot
        self._pivots: dict[int, _Pivot] = {}
        self._waiting: dict[int, Packet] = {}
        # Motion that goes on: by the frame that is next, its reader and its pivot. A refresh begins one.
        self._chains: dict[int, tuple[MotionReader, int]] = {}
        self.vectors: dict[int, tuple[int, Any]] = {}
        self._drawn = 0
        self._last: _Shot | None = None  # of the frame drawn last
        self._shown: tuple[_Pivot, Any, Any] | None = None  # the last picture, its pivot and motion
        self._since = 0  # frames drawn after the last whose motion was known
        self._pictures: dict[int, Any] = {}  # drawn ahead of their turn, for `interpolator`

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
        elif packet.kind in PICTURES:
            self._take_part(packet)
        elif packet.kind is Kind.MOTION:
            self._take_motion(packet)
        elif packet.kind is Kind.SOUND and self._hearing is not None:
            self._hearing.push(packet)

    @property
    def can_draw(self) -> bool:
        """Whether there is something to draw from: a pivot."""
        return bool(self._pivots)

    @property
    def known(self) -> int:
        """The frames before this one have come, or will never."""
        return max(self.vectors, default=self._drawn - 1) + 1

    @property
    def ready(self) -> int:
        """The frames before this one can be drawn with all that there will ever be of them, if nothing is lost: a model
        that listens waits for the sound, though not forever. A call draws what is due instead."""
        until = self.known
        if self.blend:
            shown = max((pivot.frame for pivot in self._pivots.values()), default=0)
            until = max(min(until, shown), self.known - _BLENDED)
        if self._hearing is None:
            return until
        return min(until, max(self._hearing.until, self.known - _PATIENCE))

    @property
    def ahead(self) -> float:
        """Seconds after a frame of what it is drawn from: the next frame that is sent, and the sound around it."""
        if self.header is None:
            return 0.0
        heard = AHEAD if self._hearing is not None else 0.0
        return max(heard, self.header.between * self.header.rate[1] / self.header.rate[0])

    def draw(self, until: int) -> Iterator[UInt8[np.ndarray, "s s 3"]]:
        """The frames up to that number, from where the last call ended. Nothing can be drawn before the first pivot.

        Raises:
          ConfigError: no header or no pivot has come yet.
        """
        self._require_pivot()
        while self._drawn < until:
            for frame in self._moved(until) if self.interpolator is None else self._painted():
                self._pass_on()
                yield frame

    def poses(self, until: int) -> Iterator[Pose]:
        """As `draw`, but the poses of the frames themselves: nothing is drawn."""
        self._require_pivot()
        assert self.space is not None
        while self._drawn < until:
            self._last = shot = self._shot(self._drawn, self._last)
            self._pass_on()
            yield self.space.pose_at(self._pivots[shot.pivot].pose, shot.vector)

    def _require_pivot(self) -> None:
        if self.header is None:
            raise ConfigError("nothing can be drawn before the stream's header has come")
        if not self._pivots:
            raise ConfigError("nothing can be drawn before a pivot has come")

    def _pass_on(self) -> None:
        """Count the next frame as shown."""
        assert self.header is not None
        self._since = self._since + 1 if self._known(self._drawn) is None else 0
        self.received.held += self._since > self.header.between
        self.vectors.pop(self._drawn, None)
        self._drawn += 1

    # --- headers and pivots ---------------------------------------------------------------------------------------

    def _take_header(self, header: Header) -> None:
        if header == self.header:
            return
        if self.header is not None:  # every other one would have a model loaded
            raise BitstreamError("the stream has two headers that differ")
        try:
            space = space_from(header.space, header.components)
        except ConfigError as error:
            raise BitstreamError(str(error)) from error
        if space.identity != header.space_identity:
            raise ConfigError("the stream was made with other components of the face mesh than this version ships")
        self.model = None if self._find is None else _checked_model(header, space, self._find)
        if self.model is not None and header.residual_codec:
            _require_identity(header.residual_codec, header.residual_codec_fingerprint)
            self._repairs = ResidualCoding(self.model, self._find_residual_codec(header.residual_codec), space)
        steps = np.repeat(header.steps, header.components)
        self.header, self.space = header, space
        self._form = MotionFormat(space.levels, steps, header.slope, space.rank, header.adaptive)
        if self.model is not None and self.model.capabilities.audio and header.sound:
            self._hearing = AudioFeatureBuffer(header.rate[0] / header.rate[1])

    def _take_part(self, packet: Packet) -> None:
        number = packet.pivot
        if number in self._pivots or not packet.payload or not 1 <= packet.count <= PARTS:
            return
        parts = self._parts.setdefault(number, {})
        parts[packet.payload[0]] = packet.payload[1:]
        while len(self._parts) > KEPT:
            del self._parts[next(iter(self._parts))]
        if len(parts) < packet.count:
            if sum(map(len, parts.values())) > _PIVOT:
                del self._parts[number]
                raise BitstreamError(f"a pivot holds more than {_PIVOT} bytes")
            return
        del self._parts[number]
        self._whole[number] = packet.frame, b"".join(parts[i] for i in sorted(parts))
        while len(self._whole) > KEPT:
            del self._whole[next(iter(self._whole))]
        self._read_pivots()
        self._go_on()

    def _read_pivots(self) -> None:
        """Read the pivots that can be read: some are told from others, which may come later."""
        while ready := [number for number in self._whole if self._can_read(self._whole[number][1])]:
            for number in ready:
                self._pivots[number] = self._read_pivot(number, *self._whole.pop(number))
                self.received.missing_pivots.discard(number)
                while len(self._pivots) > KEPT:
                    del self._pivots[next(iter(self._pivots))]

    def _can_read(self, data: bytes) -> bool:
        """Whether what a pivot is told from is here."""
        if data[:1] not in _TOLD or len(data) < 2:
            return True
        if data[1] not in self._pivots:
            self.received.missing_pivots.add(data[1])
        return data[1] in self._pivots

    def _read_pivot(self, number: int, frame: int, data: bytes) -> _Pivot:
        assert self.header is not None
        assert self.space is not None
        cursor = Cursor(data)
        form = cursor.byte()
        base = cursor.byte() if form in (NEXT, REPAIRED) else None
        picture = cursor.take(cursor.number())
        pose = self.space.get_pivot(data[cursor.at :], None if base is None else self._pivots[base].pose)
        if self.model is None:
            return _Pivot(frame, pose)
        if form == ImageCodec.NONE:
            raise BitstreamError("a pivot has no picture that could be drawn from")
        if form == REPAIRED:
            assert base is not None
            image = self._repaired(self._pivots[base], pose, picture)
        else:
            image = self._picture(number, form, base, picture)
        keypoints = motion_of(self.model.motion_spec, [pose])
        return _Pivot(frame, pose, keypoints, self.model.encode_source(image.astype(np.float32) / 255, keypoints))

    def _repaired(self, base: _Pivot, pose: Pose, data: bytes) -> Any:
        if self._repairs is None:
            raise BitstreamError("the stream holds repairs, and its header names no model that makes them")
        assert base.encoded is not None
        return self._repairs.read(data, self._repairs.drawn(base.encoded, base.pose, pose))

    def _picture(self, number: int, form: int, base: int | None, data: bytes) -> Any:
        assert self.header is not None
        if form not in (*ImageCodec, NEXT):
            raise BitstreamError(f"there is no picture coder {form}")
        if form == NEXT:
            film, self._film = self._film, None  # a film ends with a picture that cannot be read
            if film is None or film[1] != base:
                raise BitstreamError("a pivot's picture goes on from a film that is not here")
            image = film[0].get(data)
            self._film = film[0], number
            return image
        if form != ImageCodec.AV1:
            return decode_image(data, form, self.header.size)
        reader = InterDecoder(self.header.size)  # any still of AV1 may be the first of a film
        image = reader.get(data)
        self._film = reader, number
        return image

    # --- motion ---------------------------------------------------------------------------------------------------

    def _take_motion(self, packet: Packet) -> None:
        assert self.header is not None
        apart = self.header.between + 1
        if packet.end(apart - 1) <= self._drawn:
            self.received.late += 1
            return
        if packet.frame > self._drawn + _FRAMES:
            raise BitstreamError("a motion packet is of frames further ahead than a receiver keeps")
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
        assert self.header is not None
        assert self._form is not None
        apart = self.header.between + 1
        if packet.refresh:
            motion, pivot = MotionReader(self._form), packet.pivot
            if pivot not in self._pivots:
                self.received.missing_pivots.add(pivot)
        else:
            motion, pivot = self._chains.pop(packet.frame)
        reader = Reader(packet.payload)
        following = packet.frame + packet.count * apart
        for frame in range(packet.frame, following, apart):
            vector = motion.get(reader)
            if frame >= self._drawn and len(self.vectors) < _FRAMES:
                self.vectors[frame] = (pivot, vector)
        self._chains[following] = (motion, pivot)
        while len(self._chains) > _CHAINS:
            del self._chains[next(iter(self._chains))]

    # --- drawing --------------------------------------------------------------------------------------------------

    @property
    def _batch(self) -> int:
        assert self.model is not None
        return self.batch_size or self.model.batch_size

    def _moved(self, until: int) -> Sequence[Any]:
        """The next frames of one pivot, of as many poses as the model draws at once; one that stays is drawn once."""
        shots: list[_Shot] = []
        which: list[int] = []  # of the poses, for each frame
        for frame in range(self._drawn, min(until, self._drawn + _AT_ONCE)):
            shot = self._shot(frame, self._last)
            if shots and shot.pivot != shots[0].pivot:
                break
            if not shots or self._hearing is not None or (shot.vector != shots[-1].vector).any():
                if len(shots) == self._batch:
                    break
                shots.append(shot)
            which.append(len(shots) - 1)
            self._last = shot
        used, shown = self._pivots[shots[0].pivot], self._shown
        still = len(shots) == 1 and shown is not None and shown[0] is used and (shown[1] == shots[0].vector).all()
        if still and self._hearing is None and not (self.blend and self._following(self._drawn)):
            assert shown is not None
            return [shown[2].copy() for _ in which]
        drawn = self._animate(shots, range(self._drawn, self._drawn + len(which)), which)
        self._shown = used, shots[-1].vector, drawn[-1]
        return drawn

    def _known(self, frame: int) -> _Shot | None:
        """What came of a frame."""
        known = self.vectors.get(frame)
        return _Shot(*known) if known is not None and known[0] in self._pivots else None

    def _shot(self, frame: int, last: _Shot | None) -> _Shot:
        """What a frame is drawn from, given what the one before it was drawn from."""
        known = self._known(frame)
        if known is not None:
            return known
        if last is None or last.pivot not in self._pivots:
            assert self._form is not None
            return _Shot(next(iter(self._pivots)), np.zeros(len(self._form.step), np.float32))
        for left in range(1, _GLIDE + 1):
            following = self._known(frame + left)
            if following is not None:
                to = self._seen_from(following, last.pivot)
                return _Shot(last.pivot, last.vector + (to - last.vector) / (left + 1))
        return last

    def _seen_from(self, shot: _Shot, pivot: int) -> Any:
        """The motion that leads from another pivot to the same pose."""
        if shot.pivot == pivot:
            return shot.vector
        assert self.space is not None
        there = self._pivots[shot.pivot].pose
        return self.space.vector(self.space.pose_at(there, shot.vector), self._pivots[pivot].pose)

    def _painted(self) -> Sequence[Any]:
        """The next frame: drawn where its motion is known, else made from the pictures around it, else the one before
        it."""
        assert self.header is not None
        frame, apart = self._drawn, self.header.between + 1
        sent = frame - 1 - self._since
        pictures = self._pictures = {i: picture for i, picture in self._pictures.items() if i >= frame - apart}
        if frame not in pictures and self._known(frame) is not None:
            self._draw_ahead(frame)
        elif frame not in pictures and sent in pictures:
            self._paint(sent)
        if frame not in pictures:
            pictures[frame] = pictures[frame - 1] if frame - 1 in pictures else self._moved(frame + 1)[0]
        return [pictures[frame]]

    def _paint(self, sent: int) -> None:
        """The pictures between that of a frame and that of the next that is sent, where it is known."""
        assert self.header is not None
        assert self.interpolator is not None
        following = sent + self.header.between + 1
        if following not in self._pictures and self._known(following) is not None:
            self._draw_ahead(following)
        if following in self._pictures:
            two = self._pictures[sent], self._pictures[following]
            for i, picture in enumerate(self.interpolator(*two, self.header.between)):
                self._pictures[sent + 1 + i] = picture

    def _draw_ahead(self, first: int) -> None:
        """Draw the pictures of known frames, as many as the model draws at once from one pivot."""
        assert self.header is not None
        apart = self.header.between + 1
        shots: list[_Shot] = []
        for frame in range(first, first + self._batch * apart, apart):
            shot = self._known(frame)
            if shot is None or (shots and shot.pivot != shots[0].pivot):
                break
            shots.append(shot)
        frames = range(first, first + len(shots) * apart, apart)
        self._last = shots[-1]
        self._pictures.update(zip(frames, self._animate(shots, frames), strict=True))

    def _animate(self, shots: Sequence[_Shot], frames: Sequence[int], which: Sequence[int] | None = None) -> Any:
        """Frames of one pivot; the model is always given as many poses as it draws at once.

        Args:
          shots: the poses.
          frames: the frames' numbers.
          which: of the poses, for each frame; None where every frame has its own.
        """
        assert self.model is not None
        assert self.space is not None
        chosen = np.arange(len(shots)) if which is None else np.array(which)
        missing = self._batch - len(shots)
        stacked = np.stack([shot.vector for shot in [*shots, *[shots[-1]] * missing]])
        used = self._pivots[shots[0].pivot]
        driving = self.space.motion(self.model.motion_spec, used.pose, stacked)
        mel = None
        if self._hearing is not None:
            mel = self._hearing.windows(np.array([*frames, *[frames[-1]] * missing]))
        drawn = np.asarray(self.model.animate(used.encoded, used.keypoints, driving, mel))[chosen]
        following = self._following(frames[0]) if self.blend else None
        if following is not None and used.frame <= frames[0]:
            other = np.asarray(self.model.animate(following.encoded, following.keypoints, driving, mel))[chosen]
            share = (np.array(frames) - used.frame) / (following.frame - used.frame)
            drawn = drawn + np.clip(share, 0, 1).astype(np.float32)[:, None, None, None] * (other - drawn)
        return (np.clip(np.nan_to_num(drawn), 0, 1) * 255 + 0.5).astype(np.uint8)

    def _following(self, frame: int) -> _Pivot | None:
        """The next pivot that shows a later frame, if it does so soon."""
        later = [pivot for pivot in self._pivots.values() if frame < pivot.frame <= frame + _BLENDED]
        return min(later, key=lambda pivot: pivot.frame, default=None)


def _checked_model(header: Header, space: Space, find: Callable[[str], Animator]) -> Animator:
    """The model that a header names, if it is the one that the stream was made for."""
    _require_identity(header.model, header.model_identity)
    model = find(header.model)
    if model.image_size != header.size:
        raise ConfigError(f"the stream is of {header.size} × {header.size} pixels, not {header.model}'s size")
    if not moves(space, model):
        raise BitstreamError(f"the stream's motion is not of the kind that moves {header.model}")
    return model


def _require_identity(name: str, identity: bytes) -> None:
    if model_identity(name) != current_fingerprint(identity):
        raise ConfigError(f"the stream was made for another {name} than the one here; find the one it was made for")
