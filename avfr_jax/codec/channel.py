"""A network that loses and delays packets, for trying out what a call survives."""

import collections
import dataclasses
import heapq
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from avfr_jax.codec.audio_coding import BLOCK, RATE
from avfr_jax.codec.bitstream import PICTURES, Header, Kind, Packet, read_packet
from avfr_jax.codec.receiver import Receiver
from avfr_jax.errors import ConfigError
from avfr_jax.typing import UInt8

RELIABLE = (Kind.HEADER, *PICTURES)
"""Packets that a sender sends again until it is told that they have come."""


@dataclasses.dataclass(frozen=True)
class Channel:
    """How packets travel.

    Attributes:
      loss: share of packets that never come, 0 to 1, each by itself.
      jitter: seconds; a packet takes between none and this much longer than the fastest, so that some overtake others.
      delay: seconds that the fastest take.
      bursts: (from, to) in seconds of the call: what is sent then is lost.
      seed: of the dice.
    """

    loss: float = 0.0
    jitter: float = 0.0
    delay: float = 0.05
    bursts: Sequence[tuple[float, float]] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.loss < 1:
            raise ConfigError(f"the share of lost packets must be 0 or more and below 1, not {self.loss}")
        if not (0 <= self.jitter <= 10 and 0 <= self.delay <= 10):
            raise ConfigError("jitter and delay must be 0 to 10 seconds")


class Line:
    """One way through a network: packets put in at a time, taken out when they have come."""

    def __init__(self, network: Channel) -> None:
        self._network = network
        self._random = np.random.default_rng(network.seed)
        self._coming: list[tuple[float, int, bytes]] = []
        self._count = 0
        self.sent = self.lost = 0

    def send(self, packet: Packet, now: float) -> None:
        """Put a packet in, at a time in seconds."""
        data = packet.to_bytes()
        while self._is_lost(now):
            self.lost += 1
            if packet.kind not in RELIABLE:
                return
            now += 2 * (self._network.delay + self._network.jitter)  # until it is missed, and asked for again
        arrival = now + self._network.delay + self._network.jitter * self._random.random()
        heapq.heappush(self._coming, (arrival, self._count, data))
        self._count += 1

    def _is_lost(self, now: float) -> bool:
        self.sent += 1
        cut = any(start <= now < end for start, end in self._network.bursts)
        return bool(self._random.random() < self._network.loss) or cut

    def receive(self, now: float) -> Iterator[bytes]:
        """What has come by then, in the order in which it came."""
        while self._coming and self._coming[0][0] <= now:
            yield heapq.heappop(self._coming)[2]


def play_call(
    packets: Iterable[Packet], network: Channel, rate: float, frames: int, wait: float = 0.25, receiver: Any = None
) -> Iterator[UInt8[np.ndarray, "s s 3"]]:
    """The frames that a receiver shows at the other end.

    A packet is sent when the last frame in it has been seen (or its sound been heard), and frame i is shown at
    i / rate + `wait` + `Receiver.ahead`, whatever has come by then. Nothing is shown before there is a pivot; frames
    until then are shown as the first one that is.

    Args:
      packets: of a whole call, in the order in which they were made.
      network: between the two.
      rate: frames a second.
      frames: how many to show.
      wait: seconds from seeing what a frame is drawn from to showing it; more rides out more jitter.
      receiver: the one that shows them; None takes a new one that draws frame by frame.
    """
    if receiver is None:
        receiver = Receiver()
        receiver.batch_size = 1
    line = Line(network)
    waiting = collections.deque(_by_time(packets, rate))

    def come(now: float) -> None:
        while waiting and waiting[0][0] <= now:
            ready, packet = waiting.popleft()
            line.send(packet, ready)
        for data in line.receive(now):
            receiver.push_bytes(data)

    for frame in range(frames):
        come(frame / rate + wait)
        come(frame / rate + wait + receiver.ahead)  # which the header tells
        if receiver.can_draw:
            yield from receiver.draw(frame + 1)


def come_through(packets: Iterable[Packet], network: Channel, rate: float) -> list[Packet]:
    """The packets that come sooner or later, in their order; the very ones that `play_call` is given."""
    line = Line(network)
    for ready, packet in _by_time(packets, rate):
        line.send(packet, ready)
    return [read_packet(data)[0] for data in line.receive(math.inf)]


def _by_time(packets: Iterable[Packet], rate: float) -> list[tuple[float, Packet]]:
    """Packets with the seconds at which they can be sent, in that order."""
    between, timed = 0, []
    for packet in packets:
        ready = packet.frame / rate
        if packet.kind is Kind.HEADER:
            between = Header.of(packet).between
        elif packet.kind is Kind.MOTION:
            ready = packet.end(between) / rate
        elif packet.kind is Kind.SOUND:
            ready += packet.count * BLOCK / RATE
        timed.append((ready, packet))
    return sorted(timed, key=lambda one: one[0])
