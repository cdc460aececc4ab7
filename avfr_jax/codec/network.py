"""A network that loses and delays packets, for trying out what a call survives."""

import dataclasses
import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from avfr_jax.codec.bitstream import Kind, Packet
from avfr_jax.codec.receiver import Receiver
from avfr_jax.errors import ConfigError
from avfr_jax.typing import UInt8

RELIABLE = (Kind.HEADER, Kind.PIVOT)
"""Packets that a sender sends again until it is told that they have come."""


@dataclasses.dataclass(frozen=True)
class Network:
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

    def __init__(self, network: Network) -> None:
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
    packets: Iterable[Packet], network: Network, rate: float, frames: int, wait: float = 0.2, receiver: Any = None
) -> Iterator[UInt8[np.ndarray, "s s 3"]]:
    """The frames that a receiver shows at the other end.

    A packet is sent when the last frame in it has been seen, and frame i is shown at i / rate + `wait`, whatever has
    come by then. Nothing is shown before there is a pivot; the frames until then are shown as the first one that is.

    Args:
      packets: of a whole call, in the order in which they were made.
      network: between the two.
      rate: frames a second.
      frames: how many to show.
      wait: seconds from seeing a frame to showing it; more rides out more jitter.
      receiver: the one that shows them; None takes a new one.
    """
    receiver = Receiver() if receiver is None else receiver
    line = Line(network)
    waiting = iter(sorted(packets, key=_ready))
    following = next(waiting, None)
    for frame in range(frames):
        now = frame / rate + wait
        while following is not None and _ready(following) / rate <= now:
            line.send(following, _ready(following) / rate)
            following = next(waiting, None)
        for data in line.receive(now):
            receiver.push_bytes(data)
        if receiver.can_draw:
            yield from receiver.draw(frame + 1)


def _ready(packet: Packet) -> int:
    """The frame after which a packet can be sent."""
    return packet.frame + (packet.count if packet.kind is Kind.MOTION else 0)
