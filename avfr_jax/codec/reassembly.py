"""Reassembly at the receiver: parts of reference frames, arriving in any order, joined again."""

from avfr_jax.codec.bitstream import KEPT, MAX_PARTS, BitstreamError, Packet

_LARGEST = 1 << 20  # bytes of a reference frame


class Reassembler:
    """Joins the parts of reference frames; memory is bounded."""

    def __init__(self) -> None:
        self.parts: dict[int, dict[int, bytes]] = {}

    def push(self, packet: Packet) -> bytes | None:
        """Take in a part; the reference frame's bytes if it was the last one missing.

        Raises:
          BitstreamError: the reference frame is too large.
        """
        number = packet.pivot
        if not packet.payload or not 1 <= packet.count <= MAX_PARTS:
            return None
        parts = self.parts.setdefault(number, {})
        parts[packet.payload[0]] = packet.payload[1:]
        while len(self.parts) > KEPT:
            del self.parts[next(iter(self.parts))]
        if len(parts) < packet.count:
            if sum(map(len, parts.values())) > _LARGEST:
                del self.parts[number]
                raise BitstreamError(f"a pivot holds more than {_LARGEST} bytes")
            return None
        self.parts.pop(number, None)
        return b"".join(parts[i] for i in sorted(parts))
