"""The sending end of a call: frames in, packets out, one frame at a time.

Stages: analysis (`analysis`), reference-frame decision (`pivots`), reference coding (`reference_encoder`), motion
coding and packetisation (`packetisation`, `motion`), rate control (`rate`).
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from avfr_jax.arguments import whole_number
from avfr_jax.codec.analysis import FrameAnalysis
from avfr_jax.codec.background import Background
from avfr_jax.codec.bitstream import Packet
from avfr_jax.codec.header import Header
from avfr_jax.codec.keypoint_count import counted_component, reduced
from avfr_jax.codec.motion_space import Pose, space_of
from avfr_jax.codec.packetisation import MotionPacketiser, ReferencePacketiser
from avfr_jax.codec.pivots import PivotPolicy
from avfr_jax.codec.rate import RateControl
from avfr_jax.codec.reference_encoder import ReferenceEncoder, SentReference
from avfr_jax.codec.settings import FOR_CALLS, SenderSettings
from avfr_jax.errors import ConfigError, InputError
from avfr_jax.models.base import Animator
from avfr_jax.typing import Float, UInt8

if TYPE_CHECKING:
    from avfr_jax.models.residual import ResidualCodec

_MAX_REFRESH = 50  # frames between two refreshes, where a bit rate is held
_INDEX_BITS = 24  # of a refresh in a file's index


class Sender:
    """Turns frames into packets; see `Receiver`.

    Memory and time per frame do not grow with the call. The frames are the model's: square face crops of its size.

    Args:
      model: renders at the receiver.
      settings: how the stream is coded.
      shown: (width, height) of the displayed frames; None displays the model's size.
      rate: frames a second, (numerator, denominator).
      sound: channels of the sound that goes along.
      background: embeds a frame's background, see `find_embedder`; None decides by the head alone.
      indexed: a file's index states every refresh, which counts towards the bit rate.
      residual_codec: codes pivots as residuals of the frame that the receiver renders, where that costs less than an
        intra-coded image; None sends images alone.

    Attributes:
      pivots: reference frames that the receiver keeps, by number.
      control: rate control; None without a target.

    Raises:
      ConfigError: a keypoint_threshold for a model that needs all keypoints; a residual_codec beside inter-coding or a
        template, or one of another size than the model's; or sizes, rate or sound that are not whole numbers.
    """

    def __init__(
        self,
        model: Animator,
        settings: SenderSettings = FOR_CALLS,
        *,
        shown: tuple[int, int] | None = None,
        rate: tuple[int, int] = (25, 1),
        sound: int = 0,
        background: Callable[[Any], Background] | None = None,
        indexed: bool = False,
        residual_codec: "ResidualCodec | None" = None,
    ) -> None:
        if residual_codec is not None and (settings.inter_coding or settings.template):
            raise ConfigError("reference frames are residual-coded or inter-coded, and a template has none of either")
        shown = shown or (model.image_size, model.image_size)
        shown = (whole_number(shown[0], "shown width", 1), whole_number(shown[1], "shown height", 1))
        rate = (whole_number(rate[0], "rate", 1), whole_number(rate[1], "rate's denominator", 1))
        sound = whole_number(sound, "sound", 0)
        self.model, self.settings, self.space = model, settings, space_of(model.motion_spec, settings.components)
        threshold = settings.keypoint_threshold
        self._rows = [0.0, 0]  # keypoints sent, and frames, where the number changes
        self._counted = None if threshold is None else counted_component(model.motion_spec, model.name)
        fps = rate[0] / rate[1]
        embed = None if settings.pivots.background is None else background
        self.control: RateControl | None = None
        refresh = settings.refresh
        if settings.bitrate is not None:
            predicted = settings.inter_coding or residual_codec is not None
            self.control = RateControl(settings.bitrate, fps, settings.step, settings.quality, predicted)
            refresh = min(max(settings.refresh, self.control.refresh), _MAX_REFRESH)
        parts = self.space.headers(settings.step, settings.keypoint_step)
        self._header = Header(
            *shown, rate, model.image_size, model.name, model.fingerprint,
            parts, self.space.identity, settings.slope, refresh, sound, settings.skipped_frames,
            self.control is not None, *(("", b"") if residual_codec is None else
                                        (residual_codec.name, residual_codec.fingerprint)),
            entropy_coder=self.space.coder.id,
        ).to_packet()  # fmt: skip
        form = self.space.format(parts, settings.slope, self.control is not None)
        self._analysis = FrameAnalysis(model, embed, settings.pivots.check_interval)
        self._policy = PivotPolicy(settings.pivots, fps)
        self._references = ReferenceEncoder(model, self.space, settings, residual_codec, self.control)
        self._parts = ReferencePacketiser(settings.pivots.bitrate, fps)
        self._motion = MotionPacketiser(form, settings, refresh, self.control)
        self._indexed = indexed
        self._shape = (model.image_size, model.image_size, 3)
        self._at = 0
        self._to_skip = 0

    @property
    def pivots(self) -> dict[int, SentReference]:
        """See `Sender`."""
        return self._references.sent

    @property
    def pivot_count(self) -> int:
        """Pivots sent so far."""
        return self._policy.count

    @property
    def keypoints(self) -> float | None:
        """Mean number of keypoints a frame that was sent; None without `SenderSettings.keypoint_threshold`."""
        return self._rows[0] / self._rows[1] if self._rows[1] else None

    @property
    def last(self) -> Any:
        """The receiver's reconstruction of the last frame's vector."""
        return self._motion.last

    def header(self) -> Packet:
        """The header packet."""
        return self._header

    def push(
        self,
        frame: UInt8[np.ndarray, "s s 3"],
        landmarks: Float[np.ndarray, "478 3"] | None,
        mask: Float[np.ndarray, "s s"] | None = None,
    ) -> list[Packet]:
        """Take in the next frame.

        Args:
          frame: as the model takes it.
          landmarks: in [-1, 1] of that frame; None where no face was detected: the last pose is held.
          mask: of the person, in [0, 1], for models that need it; computed where it is not given.

        Returns:
          The packets that can be sent now; often none.

        Raises:
          InputError: the frame is not uint8 of the model's size.
        """
        frame = np.asarray(frame)
        if frame.dtype != np.uint8 or frame.shape != self._shape:
            wanted = "×".join(map(str, self._shape))
            raise InputError(f"A frame must be uint8 {wanted}, not {frame.dtype} {'×'.join(map(str, frame.shape))}.")
        if self.control is not None:
            self.control.frame()
        packets: list[Packet] = []
        skip = self._to_skip > 0
        pose = None if skip else self._analysis.pose(frame, landmarks, mask)
        if skip or pose is not None:
            packets += self._release()
        if skip:
            self._to_skip -= 1
        elif pose is not None:
            packets += self._decide(frame, pose, landmarks)
            packets += self._motion.refresh_if_due(self._at, self._policy.current)
            self._to_skip = self.settings.skipped_frames
            assert self._motion.pivot is not None
            if self._counted is not None:
                pose = reduced(self._counted, pose, self.settings.keypoint_threshold or 0.0)
                self._rows = [self._rows[0] + float(pose[self._counted.counted_by][0]), self._rows[1] + 1]
            vector = self.space.vector(pose, self.pivots[self._motion.pivot].pose)
            packets += self._motion.push(self._at, vector, self._to_skip)
        self._at += 1
        return self._accounted(packets)

    def finish(self) -> list[Packet]:
        """The packets that are left when the call ends."""
        self._references.end_sequence()
        return self._motion.flush(self._at)

    def repeat(self, number: int) -> list[Packet]:
        """A pivot's packets again, for a receiver that lost some; none where it is no longer kept."""
        sent = self.pivots.get(number)
        if sent is None:
            self._references.require_intra()
            return []
        return [self._header, *sent.packets]

    def _decide(self, frame: Any, pose: Pose, landmarks: Any) -> list[Packet]:
        """Choose the frame's pivot; the packets of a new one that are sent at once."""
        threshold, check = self.settings.pivots.distortion_threshold, None
        if threshold is not None and self._at % self.settings.pivots.check_interval == 0:
            bound = threshold

            def check(number: int) -> float:
                return self._references.distortion(number, frame, pose) / bound

        limit = 1.0 if self.control is None else self.control.limit()
        allowed = self.control is None or self.control.may_take(self._at)
        view = self._analysis.view(self._at, frame, landmarks)
        choice = self._policy.choose(self._at, view, limit, allowed, check)
        if self.control is not None and (choice.new is not None or choice.refused):
            self.control.asked(not choice.refused)
        if choice.new is None:
            return []
        self._policy.pending = choice.new, self._analysis.pivot_view(view, self._at, frame)
        first = not self.pivots
        data = self._references.encode(frame, pose, choice.new, choice.pivot, self._at)
        packets = self._parts.push(data, choice.new, self._at, first)
        self.pivots[choice.new].packets = packets
        if self.control is not None:
            self.control.took(self._at, 8 * sum(len(packet.to_bytes()) for packet in packets))
        return [self._header, *self._release()]

    def _release(self) -> list[Packet]:
        """Packets of a pending pivot that may be sent now."""
        if not self._parts.pending:
            return []
        packets = list(self._parts.release(self._at))
        if not self._parts.pending:
            self._policy.arrived()
            for number in self.pivots.keys() - self._policy.kept.keys():
                del self.pivots[number]
        return packets

    def _accounted(self, packets: list[Packet]) -> list[Packet]:
        if self.control is not None:
            for packet in packets:
                index = _INDEX_BITS if packet.refresh and self._indexed else 0
                self.control.spent(8 * len(packet.to_bytes()) + index)
        return packets


def send_all(sender: Sender, frames: Iterable[tuple[Any, ...]]) -> Iterator[Packet]:
    """The packets of a whole clip of (frame, landmarks) or (frame, landmarks, mask)."""
    for analysed in frames:
        yield from sender.push(*analysed)
    yield from sender.finish()
