"""The stream's header: format, model and motion layout.

Version 1 is written where it can state everything; version 2 adds the entropy coder and named motion components.
"""

import dataclasses
from typing import NamedTuple

from avfr_jax.codec.bitstream import LARGEST_SIDE, MAX_SKIPPED, BitstreamError, Cursor, Kind, Packet, put_number

VERSIONS = (1, 2)
_NAMED = 4  # kinds of parts from here on state the component's name and scale
_SCALE = 256  # of a scale of one


class PartHeader(NamedTuple):
    """A part of a frame's motion.

    Attributes:
      kind: see `motion_space`.
      size: numbers a frame.
      step: index of the quantiser's step.
      name: of the motion component; kinds 4 and 5 alone state it.
      scale: by which a number is multiplied before it is quantised, to 1/256; kinds 4 and 5 alone.
    """

    kind: int
    size: int
    step: int
    name: str = ""
    scale: float = 0.0


@dataclasses.dataclass(frozen=True)
class Header:
    """Everything a receiver needs before the first packet.

    Attributes:
      width: of the displayed frames, pixels.
      height: the same.
      rate: frames a second, (numerator, denominator).
      size: side of the model's square frames.
      model: name of the model that renders.
      fingerprint: its `Animator.fingerprint`, eight bytes; in older streams its version 1 identity.
      parts: of a frame's motion, in order.
      space_identity: of the principal components that the motion is stated in, eight bytes.
      slope: in 1/256, see `MotionFormat`.
      refresh: frames between two refreshes at most.
      sound: channels of the sound; 0 without sound.
      skipped_frames: frames between two whose motion is sent, 0 to 3; the receiver interpolates them.
      adaptive: whether each refresh states its own precision.
      residual_codec: name of the model that codes residuals; "" where there are none.
      residual_codec_fingerprint: as `fingerprint`.
      entropy_coder: id of the coder of motion and poses, see `entropy`.
    """

    width: int
    height: int
    rate: tuple[int, int]
    size: int
    model: str
    fingerprint: bytes
    parts: tuple[PartHeader, ...]
    space_identity: bytes
    slope: int
    refresh: int
    sound: int = 0
    skipped_frames: int = 0
    adaptive: bool = False
    residual_codec: str = ""
    residual_codec_fingerprint: bytes = b""
    entropy_coder: int = 0

    @property
    def frames_per_second(self) -> float:
        """`rate` as a number."""
        return self.rate[0] / self.rate[1]

    @property
    def version(self) -> int:
        """The lowest version that can state it."""
        return 2 if self.entropy_coder or any(part.kind >= _NAMED for part in self.parts) else 1

    def to_packet(self) -> Packet:
        """Serialise as a header packet."""
        out = bytes([self.version]) + (bytes([self.entropy_coder]) if self.version > 1 else b"")
        out += b"".join(put_number(f) for f in (self.width, self.height, *self.rate, self.size))
        out += _put_name(self.model) + self.fingerprint
        out += put_number(len(self.parts)) + self.space_identity
        for part in self.parts:
            out += bytes([part.kind]) + put_number(part.size) + bytes([part.step + 128])
            if part.kind >= _NAMED:
                out += _put_name(part.name) + put_number(max(part.scale > 0, round(part.scale * _SCALE)))
        out += b"".join(put_number(f) for f in (self.slope, self.refresh, self.sound, self.skipped_frames))
        out += bytes([self.adaptive])
        if self.residual_codec:
            out += _put_name(self.residual_codec) + self.residual_codec_fingerprint
        return Packet(Kind.HEADER, 0, out)

    @classmethod
    def from_packet(cls, packet: Packet) -> "Header":
        """Parse a header packet. Raises BitstreamError for another version or impossible values."""
        cursor = Cursor(packet.payload)
        version = cursor.byte()
        if version not in VERSIONS:
            raise BitstreamError(f"the stream is of version {version}; this program reads versions 1 and 2")
        entropy_coder = cursor.byte() if version > 1 else 0
        width, height = cursor.number(LARGEST_SIDE), cursor.number(LARGEST_SIDE)
        rate = (cursor.number(), cursor.number())
        size = cursor.number(LARGEST_SIDE)
        model, fingerprint = _get_name(cursor), cursor.take(8)
        count, space_identity = cursor.number(4), cursor.take(8)
        parts = tuple(_get_part(cursor, version) for _ in range(count))
        slope, refresh, sound = cursor.number(256), cursor.number(), cursor.number(2)
        skipped, adaptive = cursor.number(MAX_SKIPPED), cursor.byte()
        residual_codec = (_get_name(cursor), cursor.take(8)) if cursor.at < len(cursor.data) else ("", b"")
        if not (width and height and size >= 16 and rate[0] and rate[1] and parts and refresh):
            raise BitstreamError("the stream's header holds a zero where none can be")
        if adaptive > 1:
            raise BitstreamError("the stream's header does not state whether its precision changes")
        if not 1 <= rate[0] / rate[1] <= 240:
            raise BitstreamError(f"the stream has {rate[0]}/{rate[1]} frames a second; 1 to 240 can be shown")
        return cls(
            width, height, rate, size, model, fingerprint, parts, space_identity, slope, refresh, sound, skipped,
            bool(adaptive), *residual_codec, entropy_coder,
        )  # fmt: skip


def _get_part(cursor: Cursor, version: int) -> PartHeader:
    kind, count, step = cursor.byte(), cursor.number(1024), cursor.byte() - 128
    if version == 1 or kind < _NAMED:
        return PartHeader(kind, count, step)
    name, scale = _get_name(cursor), cursor.number()
    if not scale:
        raise BitstreamError(f"the stream's motion component {name} has a scale of zero")
    return PartHeader(kind, count, step, name, scale / _SCALE)


def _put_name(name: str) -> bytes:
    return put_number(len(name.encode())) + name.encode()


def _get_name(cursor: Cursor) -> str:
    """A name, which is no path. Raises BitstreamError for an impossible one."""
    try:
        name = cursor.take(cursor.number(255)).decode()
    except UnicodeDecodeError:
        raise BitstreamError("the name of the stream's model cannot be read") from None
    if not name.isprintable() or not name or name[0] == "." or "/" in name or "\\" in name:
        raise BitstreamError(f"the stream's model has an impossible name, {name!r}")
    return name
