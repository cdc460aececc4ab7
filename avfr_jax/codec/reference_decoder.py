"""Reference decoding at the receiver: reference frames decoded as soon as those they depend on are there."""

from collections.abc import Collection
from typing import Any

from avfr_jax.codec.bitstream import KEPT, BitstreamError, Cursor, ReferenceCoding
from avfr_jax.codec.inter_coding import InterDecoder
from avfr_jax.codec.intra_coding import decode_image
from avfr_jax.codec.motion_space import MotionSpace, Pose
from avfr_jax.codec.reference import Reference, encode_reference
from avfr_jax.codec.residual_coding import ResidualCoding
from avfr_jax.models.base import Animator

_NEWEST = KEPT + 1  # motion from the pivot that a sender has just given up follows the pivot that replaces it
_MOST = 64  # kept with those that frames depend on: a pivot every 6 frames, over the longest wait for sound


class ReferenceDecoder:
    """Decodes reference frames and keeps the newest, and older ones that frames yet to be rendered depend on, in `kept`
    by number.

    Args:
      space: of the poses.
      model: renders; None decodes poses alone.
      residual: codes residuals; None where the stream has none.

    Attributes:
      missing: numbers of reference frames that others, or motion, depend on and that have not come.
    """

    def __init__(self, space: MotionSpace, model: Animator | None, residual: ResidualCoding | None) -> None:
        self._space, self._model, self._residual = space, model, residual
        self.kept: dict[int, Reference] = {}
        self.missing: set[int] = set()
        self._waiting: dict[int, tuple[int, bytes]] = {}  # frame and bytes of those that cannot be decoded yet
        self._sequence: tuple[InterDecoder, int] | None = None  # and the number of its last frame

    def push(self, number: int, frame: int, data: bytes, needed: Collection[int] = (), shown: int = 0) -> None:
        """Take in a reference frame, and decode all that can be.

        Args:
          number: of the reference frame.
          frame: number of the frame that it shows.
          data: its bytes.
          needed: numbers of the reference frames that motion yet to be rendered depends on.
          shown: the frames before this one were rendered.

        Raises:
          BitstreamError: it cannot be decoded.
        """
        self._waiting[number] = frame, data
        while len(self._waiting) > KEPT:
            del self._waiting[next(iter(self._waiting))]
        while ready := [number for number, (_, waiting) in self._waiting.items() if self._decodable(waiting)]:
            for number in ready:
                self.kept[number] = self._decode(number, *self._waiting.pop(number))
                self.missing.discard(number)
                self._evict(needed, shown)

    def require(self, number: int) -> bool:
        """Whether a reference frame is there; noted as missing if not."""
        if number not in self.kept:
            self.missing.add(number)
        return number in self.kept

    def _evict(self, needed: Collection[int], shown: int) -> None:
        """Drop the oldest; of frames not rendered yet, those before a reference frame may be faded into it."""
        for number in [*self.kept][:-_NEWEST]:
            if number not in needed and self.kept[number].frame < shown:
                del self.kept[number]
        while len(self.kept) > _MOST:
            del self.kept[next(iter(self.kept))]

    def _decodable(self, data: bytes) -> bool:
        return len(data) < 2 or not _predicted(data[0]) or self.require(data[1])

    def _decode(self, number: int, frame: int, data: bytes) -> Reference:
        cursor = Cursor(data)
        coding = cursor.byte()
        base = cursor.byte() if _predicted(coding) else None
        image = cursor.take(cursor.number())
        pose = self._space.get_pivot(data[cursor.at :], None if base is None else self.kept[base].pose)
        if self._model is None:
            return Reference(frame, pose)
        return encode_reference(self._model, frame, pose, self._image(self._model, number, coding, base, image, pose))

    def _image(self, model: Animator, number: int, coding: int, base: int | None, data: bytes, pose: Pose) -> Any:
        if coding == ReferenceCoding.NONE:
            raise BitstreamError("a pivot has no image to render from")
        if coding == ReferenceCoding.RESIDUAL:
            assert base is not None
            if self._residual is None:
                raise BitstreamError("the stream holds residuals, and its header names no model that decodes them")
            return self._residual.decode(data, self._residual.predict(self.kept[base], pose))
        if coding == ReferenceCoding.AV1_INTER:
            sequence, self._sequence = self._sequence, None  # a frame that cannot be decoded ends the sequence
            if sequence is None or sequence[1] != base:
                raise BitstreamError("a pivot is predicted from a sequence that is not here")
            decoder = sequence[0]
        elif coding == ReferenceCoding.AV1:  # it may be the first of a sequence
            decoder = InterDecoder(model.image_size)
        else:
            return decode_image(data, coding, model.image_size)
        image = decoder.get(data)
        self._sequence = decoder, number
        return image


def _predicted(coding: int) -> bool:
    return coding in (ReferenceCoding.AV1_INTER, ReferenceCoding.RESIDUAL)
