"""Motion decoding at the receiver: packets in any order, vectors by frame."""

from typing import Any, NamedTuple

from avfr_jax.codec.bitstream import BitstreamError, Packet
from avfr_jax.codec.motion import MotionFormat, MotionReader

_MAX_WAITING = 256  # packets kept for those that must come before them
_MAX_FRAMES = 1 << 15  # frames of motion kept until they are rendered
_MAX_CHAINS = 16  # runs of motion that can continue


class FrameMotion(NamedTuple):
    """The number of a reference frame, and the motion from there as a vector of the stream's space."""

    pivot: int
    vector: Any


class MotionDecoder:
    """Decodes motion packets as soon as those before them were.

    Args:
      form: of the motion.
      skipped: frames between two whose motion is sent.

    Attributes:
      frames: decoded motion by frame.
      late: packets that came after their frames were rendered.
    """

    def __init__(self, form: MotionFormat, skipped: int) -> None:
        self._form, self.skipped, self._interval = form, skipped, skipped + 1
        self.frames: dict[int, FrameMotion] = {}
        self.late = 0
        self.waiting: dict[int, Packet] = {}
        self.chains: dict[int, tuple[MotionReader, int]] = {}  # decoder and pivot, by the frame that continues it

    def pivots(self, shown: int) -> set[int]:
        """Numbers of the reference frames that motion depends on; frames before `shown` were rendered."""
        decoded = {motion.pivot for frame, motion in self.frames.items() if frame >= shown}
        continued = {pivot for following, (_, pivot) in self.chains.items() if following >= shown}
        return decoded | continued | {packet.pivot for packet in self.waiting.values() if packet.refresh}

    def push(self, packet: Packet, shown: int) -> list[int]:
        """Take in a packet; frames before `shown` were rendered. The pivots of the refreshes that were decoded.

        Raises:
          BitstreamError: it is of frames too far ahead.
        """
        if packet.end(self.skipped) <= shown:
            self.late += 1
            return []
        if packet.frame > shown + _MAX_FRAMES:
            raise BitstreamError("a motion packet is of frames further ahead than a receiver keeps")
        self.waiting[packet.frame] = packet
        while len(self.waiting) > _MAX_WAITING:
            del self.waiting[min(self.waiting)]
        pivots = []
        while ready := [p for p in self.waiting.values() if p.refresh or p.frame in self.chains]:
            for packet in ready:
                del self.waiting[packet.frame]
                self._decode(packet, shown)
                if packet.refresh:
                    pivots.append(packet.pivot)
        return pivots

    def _decode(self, packet: Packet, shown: int) -> None:
        if packet.refresh:
            motion, pivot = MotionReader(self._form), packet.pivot
        else:
            motion, pivot = self.chains.pop(packet.frame)
        reader = self._form.coder.reader(packet.payload)
        following = packet.frame + packet.count * self._interval
        for frame in range(packet.frame, following, self._interval):
            vector = motion.get(reader)
            if frame >= shown and len(self.frames) < _MAX_FRAMES:
                self.frames[frame] = FrameMotion(pivot, vector)
        self.chains[following] = (motion, pivot)
        while len(self.chains) > _MAX_CHAINS:
            del self.chains[next(iter(self.chains))]
