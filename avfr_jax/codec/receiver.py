"""The receiving end of a call: packets in, in any order and with losses, frames out.

Stages: reassembly (`reassembly`), motion decoding (`motion_decoder`), reference decoding (`reference_decoder`),
concealment and interpolation (`concealment`), rendering (`rendering`).
"""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from avfr_jax.arguments import whole_number
from avfr_jax.codec.audio_features import LOOKAHEAD, AudioFeatureBuffer
from avfr_jax.codec.bitstream import REFERENCES, BitstreamError, Kind, Packet, read_packet
from avfr_jax.codec.concealment import Concealment
from avfr_jax.codec.entropy import entropy_coder
from avfr_jax.codec.header import Header
from avfr_jax.codec.motion_decoder import MotionDecoder
from avfr_jax.codec.motion_space import MotionSpace, Pose, space_from
from avfr_jax.codec.reassembly import Reassembler
from avfr_jax.codec.reference_decoder import ReferenceDecoder
from avfr_jax.codec.rendering import FADE, Renderer
from avfr_jax.codec.residual_coding import ResidualCoding
from avfr_jax.codec.stream_model import stream_model, stream_residual_codec
from avfr_jax.errors import ConfigError
from avfr_jax.models.base import Animator
from avfr_jax.motion import Orbit, View
from avfr_jax.typing import UInt8

if TYPE_CHECKING:
    from avfr_jax.models.interpolation import Interpolator
    from avfr_jax.models.residual import ResidualCodec

_MAX_EARLY = 256  # packets kept that came before the header
_MAX_AUDIO_WAIT = 250  # frames that wait for their sound in a file


@dataclasses.dataclass
class ReceiverStatistics:
    """Counts of a receiver.

    Attributes:
      packets: that could be read.
      broken: that could not.
      late: motion that came after its frames were rendered.
      held: frames whose motion never came: the pose is held or interpolated.
      missing_pivots: numbers of pivots that motion or other pivots depend on and that have not come; the sender can
        repeat them.
    """

    packets: int = 0
    broken: int = 0
    late: int = 0
    held: int = 0
    missing_pivots: set[int] = dataclasses.field(default_factory=set)


class Receiver:
    """Turns packets into frames; see `Sender`.

    Memory does not grow with the call. Skipped and lost frames between two that are known and near are interpolated;
    before the next is known, the pose is held. An audio-conditioned model is given the sound that has come.

    Args:
      model: renders; its fingerprint has to be the stream's. None finds the stream's among the models known by name.
      residual_codec: decodes residuals; None finds the stream's in the same way.
      rendering: False decodes the motion alone (`poses`), and no model is needed.
      batch_size: frames rendered at once; None takes the model's. In a call they are rendered one by one.
      interpolator: synthesises skipped frames from the rendered ones around them; None interpolates their motion.
      cross_fade: render frames between two pivots from both, weighted by distance in time. `ready` then waits for the
        second, two seconds at most.
      view: head pose that the viewer asks for, added to the caller's or in its place; None shows the head as it was
        sent. `push` raises ConfigError where the stream's model cannot turn a head.

    Raises:
      ConfigError: the batch size is not a whole number from 1; the view is an `Orbit`.

    Attributes:
      header: of the stream; None before it has come.
      model: renders; None without a header.
      space: of the transmitted motion; None without a header.
    """

    def __init__(
        self,
        model: Animator | None = None,
        residual_codec: "ResidualCodec | None" = None,
        *,
        rendering: bool = True,
        batch_size: int | None = None,
        interpolator: "Interpolator | None" = None,
        cross_fade: bool = False,
        view: View | None = None,
    ) -> None:
        self._given, self._given_residual_codec, self._rendering = model, residual_codec, rendering
        if batch_size is not None:
            batch_size = whole_number(batch_size, "batch_size", 1)
        if isinstance(view, Orbit):
            raise ConfigError("A receiver shows a call from one side: give a View, not an Orbit.")
        self._options: dict[str, Any] = {"batch_size": batch_size, "interpolator": interpolator, "view": view}
        self._cross_fade = cross_fade
        self.header: Header | None = None
        self.model: Animator | None = None
        self.space: MotionSpace | None = None
        self._counts = ReceiverStatistics()
        self._audio: AudioFeatureBuffer | None = None
        self._early: list[Packet] = []
        self._parts = Reassembler()
        # The stages below exist from the header on.
        self._references: ReferenceDecoder | None = None
        self._motion: MotionDecoder | None = None
        self._timeline: Concealment | None = None
        self._renderer: Renderer | None = None

    @property
    def received(self) -> ReceiverStatistics:
        """Counts so far."""
        counts = self._counts
        if self._references is not None and self._motion is not None and self._timeline is not None:
            counts.late, counts.held = self._motion.late, self._timeline.held
            counts.missing_pivots = self._references.missing
        return counts

    def push_bytes(self, data: bytes) -> None:
        """Take in one packet as it came off a network; a broken one is counted and dropped."""
        near = 0 if self._timeline is None or self._motion is None else max([self._timeline.at, *self._motion.chains])
        try:
            self.push(read_packet(data, 0, near)[0])
        except BitstreamError:
            self._counts.broken += 1

    def push(self, packet: Packet) -> None:
        """Take in a packet.

        Raises:
          BitstreamError: its content cannot be read.
          ConfigError: it names a model that is not here, or has another fingerprint than the one here.
        """
        self._counts.packets += 1
        if packet.kind is Kind.HEADER:
            self._start(Header.from_packet(packet))
            early, self._early = self._early, []
            for one in early:
                self.push(one)
        elif self._references is None or self._motion is None or self._timeline is None:
            self._early = [*self._early, packet][-_MAX_EARLY:]
        elif packet.kind in REFERENCES and packet.pivot not in self._references.kept:
            data = self._parts.push(packet)
            if data is not None:
                shown = self._timeline.at
                self._references.push(packet.pivot, packet.frame, data, self._motion.pivots(shown), shown)
        elif packet.kind is Kind.MOTION:
            for pivot in self._motion.push(packet, self._timeline.at):
                self._references.require(pivot)
        elif packet.kind is Kind.SOUND and self._audio is not None:
            self._audio.push(packet)

    @property
    def can_render(self) -> bool:
        """Whether a pivot has come."""
        return self._references is not None and bool(self._references.kept)

    @property
    def known(self) -> int:
        """The frames before this one have come, or will never."""
        return 0 if self._timeline is None else self._timeline.until

    @property
    def ready(self) -> int:
        """The frames before this one can be rendered with everything they depend on, if nothing is lost: an
        audio-conditioned model waits for the sound, for a bounded time. A call renders what is due instead."""
        until = self.known
        if self._cross_fade and self._references is not None:
            shown = max((pivot.frame for pivot in self._references.kept.values()), default=0)
            until = max(min(until, shown), self.known - FADE)
        if self._audio is None:
            return until
        return min(until, max(self._audio.until, self.known - _MAX_AUDIO_WAIT))

    @property
    def lookahead(self) -> float:
        """Seconds after a frame that its rendering depends on: to the next frame that is sent, and of sound."""
        if self.header is None:
            return 0.0
        audio = LOOKAHEAD if self._audio is not None else 0.0
        return max(audio, self.header.skipped_frames / self.header.frames_per_second)

    def render(self, until: int) -> Iterator[UInt8[np.ndarray, "s s 3"]]:
        """The frames before that number, from where the last call ended.

        Raises:
          ConfigError: no header or no pivot has come yet.
        """
        timeline = self._ready_timeline()
        while timeline.at < until:
            assert self._renderer is not None
            for frame in self._renderer.next_frames(until):
                timeline.advance()
                yield frame

    draw = render

    def poses(self, until: int) -> Iterator[Pose]:
        """As `render`, but the poses of the frames; nothing is rendered."""
        timeline = self._ready_timeline()
        assert self._references is not None
        assert self.space is not None
        while timeline.at < until:
            timeline.last = motion = timeline.motion(timeline.at, timeline.last)
            timeline.advance()
            yield self.space.pose_at(self._references.kept[motion.pivot].pose, motion.vector)

    def _ready_timeline(self) -> Concealment:
        if self._timeline is None:
            raise ConfigError("nothing can be rendered before the stream's header has come")
        if not self.can_render:
            raise ConfigError("nothing can be rendered before a pivot has come")
        return self._timeline

    def _start(self, header: Header) -> None:
        """Set up the stages."""
        if header == self.header:
            return
        if self.header is not None:  # every other one would have a model loaded
            raise BitstreamError("the stream has two headers that differ")
        try:
            space = space_from(header.parts, entropy_coder(header.entropy_coder))
        except ConfigError as error:
            raise BitstreamError(str(error)) from error
        if space.identity != header.space_identity:
            raise ConfigError("the stream was made with other components of the face mesh than this version ships")
        residual: ResidualCoding | None = None
        if self._rendering:
            self.model = stream_model(header, space, self._given)
            if header.residual_codec:
                residual = ResidualCoding(self.model, stream_residual_codec(header, self._given_residual_codec))
            if self.model.capabilities.audio and header.sound:
                self._audio = AudioFeatureBuffer(header.frames_per_second)
        self.header, self.space = header, space
        self._references = ReferenceDecoder(space, self.model, residual)
        self._motion = MotionDecoder(space.format(header.parts, header.slope, header.adaptive), header.skipped_frames)
        self._timeline = Concealment(space, self._motion, self._references)
        if self.model is not None:
            self._renderer = Renderer(
                self.model, space, self._references.kept, self._timeline, header.skipped_frames, self._audio,
                cross_fade=self._cross_fade, **self._options,
            )  # fmt: skip
