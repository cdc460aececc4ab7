"""Packetisation: motion of several frames in a packet, and reference frames in parts, sent at once or at a rate."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from avfr_jax.codec.bitstream import MAX_PARTS, Kind, Packet, ReferenceCoding, padded
from avfr_jax.codec.entropy import EntropyWriter
from avfr_jax.codec.motion import FULL, MotionFormat, MotionWriter
from avfr_jax.codec.rate import RateControl
from avfr_jax.codec.settings import SenderSettings
from avfr_jax.errors import ConfigError

_PART = 1100  # bytes of a reference frame in one packet, which fits a datagram on every network
_SMALL_PART = 200  # bytes, where a reference frame is spread over frames
_SPREAD = 3  # frames from one part to the next, or more


class MotionPacketiser:
    """Codes the motion of frames into packets.

    Args:
      form: of the motion.
      settings: how the stream is coded.
      refresh: frames between two refreshes.
      control: chooses precision and packet length at each refresh; None keeps the settings'.
    """

    def __init__(
        self, form: MotionFormat, settings: SenderSettings, refresh: int, control: RateControl | None = None
    ) -> None:
        self._settings, self._refresh, self._control = settings, refresh, control
        self._encoder = MotionWriter(form, settings.dead_zone)
        self._length = settings.packet
        self._writer: EntropyWriter | None = None
        self._first, self._refreshes = 0, False  # of the open packet
        self._since = 0
        self.pivot: int | None = None
        self.last: Any = None  # the receiver's reconstruction of the last vector

    def refresh_if_due(self, at: int, pivot: int | None) -> list[Packet]:
        """Begin anew at frame `at` where the pivot changed or a refresh is due; the packet that ends with it."""
        if pivot == self.pivot and self._since < self._refresh:
            return []
        packets = self.flush(at)
        precision = FULL
        if self._control is not None:
            precision = self._control.precision()
            self._length = self._control.packet(self._settings.packet, self._refresh)
        self._encoder.refresh(precision)
        self._since, self.pivot = 0, pivot
        return packets

    def push(self, at: int, vector: Any, skipped: int) -> list[Packet]:
        """Code the motion of frame `at`, with so many skipped after it; the packet, if it is full."""
        if self._writer is None:
            self._writer = self._encoder.form.coder.writer()
            self._first, self._refreshes = at, self._since == 0
        self.last = self._encoder.put(self._writer, vector)
        self._since += 1 + skipped
        following = at + 1 + skipped
        return self.flush(following) if following - self._first >= self._length else []

    def flush(self, end: int) -> list[Packet]:
        """The open packet, which holds the frames before `end` that are sent."""
        if self._writer is None:
            return []
        payload, self._writer = self._writer.finish(), None
        length = end - self._first
        if self._control is not None:
            self._control.moved(8 * len(payload), length)
        count = -(-length // (self._settings.skipped_frames + 1))
        return [Packet(Kind.MOTION, self._first, padded(payload, length), count, self._refreshes, self.pivot or 0)]


class ReferencePacketiser:
    """Cuts reference frames into packets and releases them.

    Args:
      rate: bits a second at which all but the first are sent; None sends them at once.
      fps: frames a second.
    """

    def __init__(self, rate: int | None, fps: float) -> None:
        self._rate, self._fps = rate, fps
        self._queue: list[Packet] = []
        self._credit = 0.0  # bits that may be sent now
        self._at_once = True

    def push(self, data: bytes, number: int, at: int, first: bool) -> list[Packet]:
        """Queue a reference frame, taken at frame `at`; all of its packets.

        Raises:
          ConfigError: it is too large.
        """
        self._at_once = first or self._rate is None
        size = _PART
        if not self._at_once:
            paced = round((self._rate or 0) / 8 / self._fps * _SPREAD)
            size = min(max(paced, _SMALL_PART, -(-len(data) // MAX_PARTS - 1)), _PART)
        parts = [data[i : i + size] for i in range(0, len(data), size)]
        if len(parts) > MAX_PARTS:
            raise ConfigError(f"a pivot of {len(data)} bytes is too large to be sent; lower the quality of pivots")
        kind = Kind.RESIDUAL if data[0] == ReferenceCoding.RESIDUAL else Kind.PIVOT
        packets = [Packet(kind, at, bytes([i]) + part, count=len(parts), pivot=number) for i, part in enumerate(parts)]
        self._queue, self._credit = list(packets), 0.0
        return packets

    @property
    def pending(self) -> bool:
        """Whether packets are queued."""
        return bool(self._queue)

    def release(self, at: int) -> Sequence[Packet]:
        """The packets that may be sent with frame `at`."""
        packets: list[Packet] = []
        if self._queue:
            self._credit += (self._rate or 0) / self._fps
        while self._queue and (self._at_once or self._credit >= 0):
            packet = dataclasses.replace(self._queue.pop(0), frame=at)
            self._credit -= 8 * len(packet.to_bytes())
            packets.append(packet)
        return packets
