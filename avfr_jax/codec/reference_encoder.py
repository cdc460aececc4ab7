"""Reference coding at the sender: intra, inter or residual, whichever the settings allow and costs least."""

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from avfr_jax.codec.bitstream import Packet, ReferenceCoding, put_number
from avfr_jax.codec.inter_coding import MAX_CHAIN, InterDecoder, InterEncoder
from avfr_jax.codec.intra_coding import decode_image, encode_image
from avfr_jax.codec.motion_space import MotionSpace, Pose
from avfr_jax.codec.rate import RateControl
from avfr_jax.codec.reference import Reference, encode_reference, render
from avfr_jax.codec.residual_coding import ResidualCoding, lagrange_multiplier
from avfr_jax.codec.settings import SenderSettings
from avfr_jax.models.base import Animator
from avfr_jax.typing import UInt8

if TYPE_CHECKING:
    from avfr_jax.models.residual import ResidualCodec


@dataclasses.dataclass
class SentReference:
    """A reference frame that the receiver keeps.

    Attributes:
      reference: as both ends hold it.
      packets: of its parts.
      chain: residual-coded reference frames between it and an image that stands by itself.
      distortion: of the frame that it shows, rendered from it (mean absolute difference, of 1).
    """

    reference: Reference
    packets: list[Packet] = dataclasses.field(default_factory=list)
    chain: int = 0
    distortion: float = 0.0

    @property
    def pose(self) -> Pose:
        """Its pose, as transmitted."""
        return self.reference.pose

    @property
    def image(self) -> Any:
        """Its decoded image; None in a template."""
        return self.reference.image


class CodedReference(NamedTuple):
    """A reference frame before packetisation: `image` and `pose` as decoded, `chain` as in `SentReference`."""

    coding: ReferenceCoding
    base: int | None
    image_data: bytes
    pose_data: bytes
    image: UInt8[np.ndarray, "s s 3"] | None
    pose: Pose
    chain: int = 0

    @property
    def data(self) -> bytes:
        """Its bytes."""
        head = bytes([self.coding] if self.base is None else [self.coding, self.base])
        return head + put_number(len(self.image_data)) + self.image_data + self.pose_data


class ReferenceEncoder:
    """Codes reference frames and keeps those that the receiver keeps, in `sent` by number.

    Args:
      model: renders at the receiver.
      space: of the poses.
      settings: how the stream is coded.
      residual_codec: see `Sender`.
      control: chooses the quality; None keeps the settings'.
    """

    def __init__(
        self,
        model: Animator,
        space: MotionSpace,
        settings: SenderSettings,
        residual_codec: "ResidualCodec | None",
        control: RateControl | None,
    ) -> None:
        self._model, self._space, self._settings, self._control = model, space, settings, control
        self._residual = None if residual_codec is None else ResidualCoding(model, residual_codec)
        self._renders = self._residual is not None or settings.pivots.distortion_threshold is not None
        self.sent: dict[int, SentReference] = {}
        self._sequence: tuple[InterEncoder, InterDecoder, int] | None = None  # and the number of its last frame
        self._unpredicted = False  # the next one has to stand by itself

    def encode(self, frame: Any, pose: Pose, number: int, current: int | None, at: int) -> bytes:
        """Code a reference frame and keep it.

        Args:
          frame: uint8 `[S, S, 3]`.
          pose: of the frame.
          number: of the new reference frame.
          current: number of the one in use, which a residual is coded against.
          at: number of the frame.
        """
        coded = self._plain(frame, pose, number, at)
        residual = self._residual_coded(frame, pose, current)
        if residual is not None:
            assert self._residual is not None
            multiplier = lagrange_multiplier(self._settings.quality)
            costs = (self._residual.cost(frame, c.image, len(c.data), multiplier) for c in (residual, coded))
            coded = residual if next(costs) < next(costs) else coded
        self._unpredicted = False
        reference = Reference(at, coded.pose, coded.image)
        if coded.image is not None and self._renders:
            reference = encode_reference(self._model, at, coded.pose, coded.image)
        sent = self.sent[number] = SentReference(reference, chain=coded.chain)
        if self._settings.pivots.distortion_threshold is not None:
            sent.distortion = self._distance(reference, frame, pose)
        return coded.data

    def distortion(self, number: int, frame: Any, pose: Pose) -> float:
        """Distortion of a frame rendered from a kept reference frame beyond that of the reference frame itself."""
        sent = self.sent[number]
        return self._distance(sent.reference, frame, pose) - sent.distortion

    def require_intra(self) -> None:
        """Code the next reference frame by itself: the receiver lacks one that it could depend on."""
        self.end_sequence()
        self._unpredicted = True

    def end_sequence(self) -> None:
        """End the inter-coded sequence."""
        if self._sequence is not None:
            self._sequence[0].close()
            self._sequence = None

    def _distance(self, reference: Reference, frame: Any, pose: Pose) -> float:
        """Mean absolute difference, of 1, of a frame from its rendering by the receiver."""
        vector = self._space.vector(pose, reference.pose)[None]
        shown = render(self._model, reference, self._space.poses(reference.pose, vector))[0]
        return float(np.abs(np.clip(shown, 0, 1) - frame.astype(np.float32) / 255).mean())

    def _plain(self, frame: Any, pose: Pose, number: int, at: int) -> CodedReference:
        """Intra- or inter-coded."""
        base = self._inter_base(at) if self._settings.inter_coding else None
        base_pose = None if base is None else self.sent[base].pose
        pose_data = self._space.put_pivot(pose, base_pose)
        if self._settings.inter_coding:
            data, image = self._inter(frame, number, base, at)
        else:
            data, image = self._intra(frame, len(pose_data))
        coding = self._settings.reference_coding if base is None else ReferenceCoding.AV1_INTER
        return CodedReference(coding, base, data, pose_data, image, self._space.get_pivot(pose_data, base_pose))

    def _inter_base(self, at: int) -> int | None:
        """The last reference frame of the sequence; None where a new one has to begin."""
        sequence = self._sequence
        if sequence is None or sequence[2] not in self.sent or sequence[0].count >= MAX_CHAIN:
            return None
        return None if self._control is not None and self._control.sequence_ends(at) else sequence[2]

    def _inter(self, frame: Any, number: int, base: int | None, at: int) -> tuple[bytes, Any]:
        if base is None:
            self.end_sequence()
            quality = self._settings.quality if self._control is None else self._control.begin_sequence(at)
            encoder, decoder = InterEncoder(self._model.image_size, quality), InterDecoder(self._model.image_size)
        else:
            assert self._sequence is not None
            encoder, decoder, _ = self._sequence
        data = encoder.put(frame)
        self._sequence = encoder, decoder, number
        return data, decoder.get(data)

    def _intra(self, frame: Any, beside: int) -> tuple[bytes, Any]:
        """An image of affordable quality; `beside` bytes go with it."""
        coding, control = self._settings.reference_coding, self._control
        data = encode_image(frame, coding, self._settings.quality if control is None else control.quality)
        other = None if control is None else control.other_quality(8 * (len(data) + beside))
        if control is not None and other is not None:
            control.quality = other
            data = encode_image(frame, coding, other)
        return data, None if self._settings.template else decode_image(data, coding, self._model.image_size)

    def _residual_coded(self, frame: Any, pose: Pose, current: int | None) -> CodedReference | None:
        """Residual-coded against the reference frame in use; None where there is none, or its chain is too long."""
        base = None if current is None or self._unpredicted else self.sent.get(current)
        if self._residual is None or base is None or base.reference.encoded is None or base.chain >= MAX_CHAIN:
            return None
        pose_data = self._space.put_pivot(pose, base.pose)
        decoded = self._space.get_pivot(pose_data, base.pose)
        prediction = self._residual.predict(base.reference, decoded)
        signs, image = self._residual.encode(frame, prediction, lagrange_multiplier(self._settings.quality))
        return CodedReference(ReferenceCoding.RESIDUAL, current, signs, pose_data, image, decoded, base.chain + 1)
