"""The sending end of a call: frames in, packets out, one frame at a time."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from avfr_jax.codec.background import Background
from avfr_jax.codec.bitstream import LARGEST_RUN, MOST_BETWEEN, Header, Kind, Packet, padded, put_number
from avfr_jax.codec.identity import model_identity
from avfr_jax.codec.inter_coding import LONGEST, NEXT, InterDecoder, InterEncoder
from avfr_jax.codec.intra_coding import ImageCodec, decode_image, encode_image
from avfr_jax.codec.mesh_basis import FRAME, MOTIONS
from avfr_jax.codec.motion import FULL, MotionFormat, MotionWriter
from avfr_jax.codec.pivots import PARTS, PivotPolicy, PivotSettings, View
from avfr_jax.codec.range_coder import Writer
from avfr_jax.codec.rate import RateControl
from avfr_jax.codec.residual_coding import REPAIRED, ResidualCoding, price_of
from avfr_jax.codec.spaces import MESH, Pose, Space, motion_of, needs_learned, space_of
from avfr_jax.errors import ConfigError
from avfr_jax.faces.pose import head_pose
from avfr_jax.landmarks import landmarks_to_pixels
from avfr_jax.models.base import Animator, EncodedSource, Priors
from avfr_jax.motion import Motion
from avfr_jax.typing import Float, UInt8

if TYPE_CHECKING:
    from avfr_jax.models.residual import ResidualCodec

_PART = 1100  # bytes of a pivot in one packet: a datagram passes every network unbroken
_SMALL_PART = 200  # bytes, where a pivot is spread over frames
_SPREAD = 3  # frames from one part to the next, or more
_STEERED = 50  # frames from one refresh to the next, at most, where a bit rate is held
_INDEXED = 24  # bits of a refresh in a file's index


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
      between: frames left out between two whose motion is sent, 0 to 3; the receiver makes them. `refresh` and `packet`
        count frames that are shown, these included, and are rounded up to whole ones that are sent.
      still: coder of pivot pictures; `ImageCodec.NONE` makes a template, which moves other portraits than the sender's.
      quality: of pivot pictures, 0 to 100.
      film: code the picture of a pivot from the one before it, which makes it a third or less as large; AV1 alone.
      pivots: when to take a new one.
      bitrate: bits a second that everything but sound may cost: step, components, frames in a packet and the quality of
        pivots then follow from it, `components` being the most; None takes them as they are.
    """

    components: int = 32
    step: int = 14
    keypoint_step: int = -4
    slope: int = 64
    dead_zone: float = 0.25
    refresh: int = 6
    packet: int = 3
    between: int = 0
    still: ImageCodec = ImageCodec.AV1
    quality: int = 50
    film: bool = False
    pivots: PivotSettings = PivotSettings(bitrate=32000)
    bitrate: int | None = None

    def __post_init__(self) -> None:
        for name, low, high in (
            ("step", -128, 60), ("keypoint_step", -128, 60), ("slope", 0, 256), ("dead_zone", 0, 0.5),
            ("refresh", 1, 1 << 13), ("packet", 1, LARGEST_RUN), ("between", 0, MOST_BETWEEN),
        ):  # fmt: skip
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} must be {low} to {high}, not {getattr(self, name)}")
        if self.film and self.still is not ImageCodec.AV1:
            raise ConfigError("pivots can be told from one another in AV1 alone")
        if self.still is ImageCodec.NONE and self.pivots.excess is not None:
            raise ConfigError("a template has no pictures that the sender could compare")


FAITHFUL = PivotSettings(excess=0.01, every=6, apart=0.24, background=None)
"""Pivots that follow the picture, told from one another (`film`): a few a second, where the drawn frame needs them."""
FAITHFUL_QUALITY = 13
"""Of the pictures of such pivots: AV1's CRF 55."""
REPAIR_QUALITY = 40
"""Of the first picture and the repairs, where such pivots are repairs instead."""
FOR_FILES = SenderSettings(refresh=250, packet=125, pivots=PivotSettings())
"""Nothing is lost on the way to a file, and nobody waits."""
FOR_TEMPLATES = dataclasses.replace(
    FOR_FILES, still=ImageCodec.NONE, components=MOTIONS, step=4, pivots=PivotSettings(background=None)
)
"""There is no picture to be paid for, and other faces are moved than the one that was seen: as exact as is of use."""


@dataclasses.dataclass
class Sent:
    """A pivot as both ends hold it.

    Attributes:
      image: its decoded picture; a template has none.
      pose: its pose.
      packets: those that it went in.
      repairs: how many repairs lie between it and a picture that stands by itself.
      encoded: as the model draws from it; None where the sender draws nothing.
      off: how far it is drawn from the frame that it shows (mean absolute difference, of 1).
    """

    image: UInt8[np.ndarray, "s s 3"] | None
    pose: Pose
    packets: list[Packet]
    repairs: int = 0
    encoded: EncodedSource | None = None
    off: float = 0.0


class _Told(NamedTuple):
    """A pivot on its way into packets: its bytes before the picture's length, the picture's and the pose's; picture and
    pose as they come back; `repairs` as in `Sent`."""

    head: bytes
    picture: bytes
    pose: bytes
    image: UInt8[np.ndarray, "s s 3"] | None
    got: Pose
    repairs: int = 0

    @property
    def data(self) -> bytes:
        return self.head + put_number(len(self.picture)) + self.picture + self.pose


class Sender:
    """Turns frames into packets; see `Receiver`.

    Memory and the time a frame takes do not grow with the call. The frames are those the model sees: square face crops
    of its size.

    Args:
      model: which will draw at the receiver.
      settings: how the call is coded.
      shown: (width, height) of the frames to be shown; None shows the model's size.
      rate: frames a second, (numerator, denominator).
      sound: channels of the sound that goes along.
      background: embeds a frame's background, see `find_embedder`; None looks at the head alone.
      indexed: whether a file's index will tell every refresh, which counts towards the bit rate.
      residual_codec: codes pivots as residuals of the frame that the receiver renders, where that is worth more than an
        intra-coded picture; None sends pictures alone.

    Raises:
      ConfigError: a residual_codec beside a film or a template, or one of another size than the model's.
    """

    def __init__(
        self,
        model: Animator,
        settings: SenderSettings = SenderSettings(),
        *,
        shown: tuple[int, int] | None = None,
        rate: tuple[int, int] = (25, 1),
        sound: int = 0,
        background: Callable[[Any], Background] | None = None,
        indexed: bool = False,
        residual_codec: "ResidualCodec | None" = None,
    ) -> None:
        if residual_codec is not None and (settings.film or settings.still is ImageCodec.NONE):
            raise ConfigError("a template has nothing to be repaired, and a film tells its pictures in its own way")
        self.model, self.settings, self._residual_codec = model, settings, residual_codec
        self.space: Space | None = None
        self._shown = shown or (model.image_size, model.image_size)
        self._rate, self._sound = rate, sound
        self._fps = rate[0] / rate[1]
        self._policy = PivotPolicy(settings.pivots, self._fps)
        self._embed = None if settings.pivots.background is None else background
        self._background: Background | None = None
        self._indexed = indexed
        self.control: RateControl | None = None
        if settings.bitrate is not None:
            told = settings.film or residual_codec is not None  # from one another
            self.control = RateControl(settings.bitrate, self._fps, settings.step, settings.quality, told)
        self.pivots: dict[int, Sent] = {}
        self._film: tuple[InterEncoder, InterDecoder, int] | None = None  # and the number of its last pivot
        self._repairs: ResidualCoding | None = None
        self._alone = False  # the next pivot's picture has to stand by itself
        self._coming: list[Packet] = []  # of a pivot, not sent yet
        self._room = 0.0  # bits of it that may be sent now
        self._motion: MotionWriter | None = None
        self._writer: Writer | None = None
        self._open = (0, False)  # first frame of the packet being written, and whether it is a refresh
        self._packet = settings.packet
        self._at = 0
        self._since = 0
        self._left_out = 0  # frames still to be left out before the next that is sent
        self._pivot: int | None = None
        self._pose: Pose | None = None
        self.last: Any = None

    def header(self) -> Packet:
        """The header packet. It is known from the first frame on."""
        if self.space is None or self._motion is None:
            raise ConfigError("a stream has a header once its first frame was pushed")
        settings, space = self.settings, self.space
        return Header(
            *self._shown, self._rate, self.model.image_size, self.model.name,
            model_identity(self.model.name), tuple(part.kind for part in space.parts), space.identity, space.counts,
            tuple(settings.step if part.kind == MESH else settings.keypoint_step for part in space.parts),
            settings.slope, self._refresh, self._sound, settings.between, self.control is not None,
            *self._residual_identity(),
        ).to_packet()  # fmt: skip

    def _residual_identity(self) -> tuple[str, bytes]:
        if self._residual_codec is None:
            return "", b""
        return self._residual_codec.name, model_identity(self._residual_codec.name)

    def push(
        self,
        frame: UInt8[np.ndarray, "s s 3"],
        landmarks: Float[np.ndarray, "478 3"] | None,
        mask: Float[np.ndarray, "s s"] | None = None,
    ) -> list[Packet]:
        """Take in the next frame.

        Args:
          frame: as the model sees it.
          landmarks: in [-1, 1] of that frame; None where no face was found: the last pose is held.
          mask: of the person, in [0, 1], for models that look at it; found where it is not given.

        Returns:
          The packets that can be sent now; often none.
        """
        packets: list[Packet] = []
        if self.control is not None:
            self.control.frame()
        if self._left_out:
            self._left_out -= 1
            packets += self._some_of_pivot()
            self._at += 1
            return self._counted(packets)
        pose = self._look(frame, landmarks, mask)
        if pose is not None:  # a face has been seen
            packets += self._some_of_pivot()
            packets += self._choose_pivot(frame, pose, None if landmarks is None else _angles(landmarks))
            if self._policy.current != self._pivot or self._since >= self._refresh:
                packets += self._begin_again()
            packets += self._write(pose)
            self._left_out = self.settings.between
        self._at += 1
        return self._counted(packets)

    def finish(self) -> list[Packet]:
        """The packets that are left when the call ends."""
        self._end_film()
        return self._flush(self._at)

    def repeat(self, number: int) -> list[Packet]:
        """A pivot's packets again, for a receiver that has lost some; none where it is no longer kept."""
        sent = self.pivots.get(number)
        if sent is None:
            self._end_film()  # what is told from it cannot be read either
            self._alone = True
            return []
        return [self.header(), *sent.packets]

    @property
    def _refresh(self) -> int:
        if self.control is None:
            return self.settings.refresh
        return min(max(self.settings.refresh, self.control.refresh), _STEERED)

    def _look(self, frame: Any, landmarks: Any, mask: Any) -> Pose | None:
        if landmarks is None and self.model.capabilities.landmarks:
            return self._pose
        keypoints: Motion | None = None
        if self.space is None or needs_learned(self.space):
            priors = (
                None if landmarks is None else Priors(np.asarray(landmarks)[None], None if mask is None else mask[None])
            )
            keypoints = self.model.keypoints(frame[None].astype(np.float32) / 255, priors)
        if self.space is None:
            self._begin(space_of(self.model, self.settings.components))
        assert self.space is not None
        self._pose = self.space.pose(landmarks, keypoints, self.model.motion_spec)
        return self._pose

    def _begin(self, space: Space) -> None:
        self.space = space
        form = motion_format(space, self.settings)
        self._motion = MotionWriter(form, self.settings.dead_zone)
        if self._residual_codec is not None:
            self._repairs = ResidualCoding(self.model, self._residual_codec, space)

    def _counted(self, packets: list[Packet]) -> list[Packet]:
        """Packets that are sent now, told to the rate control."""
        if self.control is not None:
            for packet in packets:
                self.control.spent(8 * len(packet.to_bytes()) + (_INDEXED if packet.refresh and self._indexed else 0))
        return packets

    # --- pivots ---------------------------------------------------------------------------------------------------

    def _choose_pivot(self, frame: Any, pose: Pose, angles: Any) -> list[Packet]:
        settings = self.settings.pivots
        looks = self._at % settings.every == 0
        if self._embed is not None and looks:
            self._background = self._embed(frame)
        excess = None
        if settings.excess is not None and looks:
            bearable = settings.excess

            def excess(number: int) -> float:
                return self._excess(number, frame, pose) / bearable

        view = View(angles, self._background)
        limit = 1.0 if self.control is None else self.control.limit()
        allowed = self.control is None or self.control.may_take(self._at)
        choice = self._policy.choose(self._at, view, limit, allowed, excess)
        new = choice.new
        if self.control is not None and (new is not None or choice.refused):
            self.control.asked(not choice.refused)
        if new is None:
            return []
        if self._embed is not None and not looks:
            self._background = self._embed(frame)
            self._policy.coming = (new, View(angles, self._background))
        return self._take_pivot(new, frame, pose)

    def _take_pivot(self, number: int, frame: Any, pose: Pose) -> list[Packet]:
        """Code a pivot; what of it is sent at once."""
        told = self._pivot_told(frame, pose, number)
        data = told.data
        pace = self.settings.pivots.bitrate if self.pivots else None
        size = _PART
        if pace is not None:
            size = min(max(round(pace / 8 / self._fps * _SPREAD), _SMALL_PART, -(-len(data) // PARTS - 1)), _PART)
        parts = [data[i : i + size] for i in range(0, len(data), size)]
        if len(parts) > PARTS:
            raise ConfigError(f"a pivot of {len(data)} bytes is too large to be sent; lower the quality of pivots")
        kind = Kind.RESIDUAL if told.repairs else Kind.PIVOT
        packets = [
            Packet(kind, self._at, bytes([i]) + part, count=len(parts), pivot=number) for i, part in enumerate(parts)
        ]
        sent = self.pivots[number] = Sent(told.image, told.got, packets, told.repairs)
        self._draw_from(sent, frame, pose)
        if self.control is not None:
            self.control.took(self._at, 8 * sum(len(packet.to_bytes()) for packet in packets))
        self._coming, self._room = list(packets), 0.0
        return [self.header(), *self._some_of_pivot(at_once=pace is None)]

    def _draw_from(self, sent: Sent, frame: Any, pose: Pose) -> None:
        """Keep of a pivot what the sender needs to see what the receiver draws."""
        looks = self.settings.pivots.excess is not None
        if sent.image is None or not (looks or self._repairs is not None):
            return
        assert self.space is not None
        own = motion_of(self.model.motion_spec, [sent.pose])
        sent.encoded = self.model.encode_source(sent.image.astype(np.float32) / 255, own)
        if looks:
            sent.off = self._off(sent, frame, pose)

    def _pivot_told(self, frame: Any, pose: Pose, number: int) -> _Told:
        """A pivot in the form that costs least for what it shows."""
        assert self.space is not None
        base = self._base()
        base_pose = None if base is None else self.pivots[base].pose
        coded = self.space.put_pivot(pose, base_pose)
        picture, image = self._picture(frame, len(coded), number, base)
        head = bytes([self.settings.still]) if base is None else bytes([NEXT, base])
        told = _Told(head, picture, coded, image, self.space.get_pivot(coded, base_pose))
        repair = self._repair(frame, pose)
        if repair is not None:
            assert self._repairs is not None
            price = price_of(self.settings.quality)
            one, other = (self._repairs.cost(frame, t.image, len(t.data), price) for t in (told, repair))
            told = repair if other < one else told
        self._alone = False
        return told

    def _repair(self, frame: Any, pose: Pose) -> _Told | None:
        """A pivot as a repair of what is drawn from the one in use; None where there is none, or it is of too many
        repairs already."""
        number = self._policy.current
        base = None if number is None or self._alone else self.pivots.get(number)
        if self._repairs is None or base is None or base.encoded is None or base.repairs >= LONGEST:
            return None
        assert self.space is not None
        assert number is not None
        coded = self.space.put_pivot(pose, base.pose)
        got = self.space.get_pivot(coded, base.pose)
        drawn = self._repairs.drawn(base.encoded, base.pose, got)
        signs, image = self._repairs.write(frame, drawn, price_of(self.settings.quality))
        return _Told(bytes([REPAIRED, number]), signs, coded, image, got, base.repairs + 1)

    def _base(self) -> int | None:
        """The pivot that the next one is told from: the one before it in the film; None where a film has to begin."""
        if self._film is None or self._film[2] not in self.pivots or self._film[0].count >= LONGEST:
            return None
        return None if self.control is not None and self.control.film_ends(self._at) else self._film[2]

    def _picture(self, frame: Any, beside: int, number: int, base: int | None) -> tuple[bytes, Any]:
        """A pivot's picture, coded and as it comes back."""
        if not self.settings.film:
            picture, still = self._still(frame, beside), self.settings.still
            return picture, None if still is ImageCodec.NONE else decode_image(picture, still, self.model.image_size)
        if base is None:
            self._end_film()
            quality = self.settings.quality if self.control is None else self.control.begin_film(self._at)
            writer, reader = InterEncoder(self.model.image_size, quality), InterDecoder(self.model.image_size)
        else:
            assert self._film is not None
            writer, reader, _ = self._film
        picture = writer.put(frame)
        self._film = writer, reader, number
        return picture, reader.get(picture)

    def _end_film(self) -> None:
        if self._film is not None:
            self._film[0].close()
            self._film = None

    def _still(self, frame: Any, beside: int) -> bytes:
        """A picture of the quality that can be afforded; `beside` bytes go with it."""
        settings, control = self.settings, self.control
        if control is None:
            return encode_image(frame, settings.still, settings.quality)
        picture = encode_image(frame, settings.still, control.quality)
        other = control.other_quality(8 * (len(picture) + beside))
        if other is None:
            return picture
        control.quality = other
        return encode_image(frame, settings.still, other)

    def _some_of_pivot(self, at_once: bool = False) -> list[Packet]:
        """What may be sent now of a pivot that is being sent."""
        if not self._coming:
            return []
        self._room += (self.settings.pivots.bitrate or 0) / self._fps
        now = []
        while self._coming and (at_once or self._room >= 0):
            packet = dataclasses.replace(self._coming.pop(0), frame=self._at)
            self._room -= 8 * len(packet.to_bytes())
            now.append(packet)
        if not self._coming:
            self._policy.arrived()
            kept = self._policy.kept
            self.pivots = {number: sent for number, sent in self.pivots.items() if number in kept}
        return now

    def _excess(self, number: int, frame: Any, pose: Pose) -> float:
        """How much further from the frame the receiver draws it than it drew the pivot from its own frame."""
        sent = self.pivots[number]
        return self._off(sent, frame, pose) - sent.off

    def _off(self, sent: Sent, frame: Any, pose: Pose) -> float:
        """How far from the frame the receiver draws it from a pivot."""
        assert self.space is not None
        assert sent.encoded is not None
        vector = self.space.vector(pose, sent.pose)[None]
        spec = self.model.motion_spec
        own, driving = motion_of(spec, [sent.pose]), self.space.motion(spec, sent.pose, vector)
        drawn = np.clip(np.asarray(self.model.animate(sent.encoded, own, driving))[0], 0, 1)
        return float(np.abs(drawn - frame.astype(np.float32) / 255).mean())

    # --- motion ---------------------------------------------------------------------------------------------------

    def _begin_again(self) -> list[Packet]:
        """A refresh; the packet that ends with it."""
        assert self._motion is not None
        packets = self._flush(self._at)
        precision = FULL
        if self.control is not None:
            precision = self.control.precision()
            self._packet = self.control.packet(self.settings.packet, self._refresh)
        self._motion.refresh(precision)
        self._since, self._pivot = 0, self._policy.current
        return packets

    def _write(self, pose: Pose) -> list[Packet]:
        assert self.space is not None
        assert self._motion is not None
        assert self._pivot is not None
        if self._writer is None:
            self._writer, self._open = Writer(), (self._at, self._since == 0)
        vector = self.space.vector(pose, self.pivots[self._pivot].pose)
        self.last = self._motion.put(self._writer, vector)
        following = self._at + 1 + self.settings.between
        self._since += 1 + self.settings.between
        if following - self._open[0] >= self._packet:
            return self._flush(following)
        return []

    def _flush(self, end: int) -> list[Packet]:
        """The packet being written, which holds the frames before `end` that are sent."""
        if self._writer is None:
            return []
        first, refresh = self._open
        payload, self._writer = self._writer.finish(), None
        if self.control is not None:
            self.control.moved(8 * len(payload), end - first)
        count = -(-(end - first) // (self.settings.between + 1))
        return [Packet(Kind.MOTION, first, padded(payload, end - first), count, refresh, self._pivot or 0)]


def motion_format(space: Space, settings: SenderSettings) -> MotionFormat:
    """How the motion of a space is written with these settings."""
    steps = [settings.step if part.kind == MESH else settings.keypoint_step for part in space.parts]
    each = np.repeat(steps, space.counts)
    return MotionFormat(space.levels, each, settings.slope, space.rank, settings.bitrate is not None)


def _angles(landmarks: Any) -> Any:
    pose = head_pose(landmarks_to_pixels(np.asarray(landmarks), FRAME), FRAME, FRAME)
    return np.array([pose.yaw, pose.pitch, pose.roll])


def send_all(sender: Sender, frames: Iterable[tuple[Any, ...]]) -> Iterator[Packet]:
    """The packets of a whole clip of (frame, landmarks) or (frame, landmarks, mask)."""
    for seen in frames:
        yield from sender.push(*seen)
    yield from sender.finish()
