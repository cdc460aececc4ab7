"""Channel simulation: packet loss, jitter and bursts."""

import collections
import dataclasses
import heapq
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from avfr_jax.arguments import set_whole_numbers
from avfr_jax.codec.audio_coding import BLOCK, RATE
from avfr_jax.codec.bitstream import REFERENCES, Kind, Packet, read_packet
from avfr_jax.codec.header import Header
from avfr_jax.codec.receiver import Receiver
from avfr_jax.errors import ConfigError
from avfr_jax.typing import UInt8

RELIABLE = (Kind.HEADER, *REFERENCES)
"""Packets that are retransmitted until they arrive."""


@dataclasses.dataclass(frozen=True)
class Channel:
    """Properties of a channel.

    Attributes:
      loss: share of packets that are lost, 0 to 1, independently.
      jitter: seconds by which a packet takes longer than the fastest, at most, so that packets are reordered.
      delay: seconds that the fastest packets take.
      bursts: (from, to) in seconds of the call, in which everything is lost.
      seed: of the random numbers.
    """

    loss: float = 0.0
    jitter: float = 0.0
    delay: float = 0.05
    bursts: Sequence[tuple[float, float]] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        set_whole_numbers(self, {"seed": 0})
        if not 0 <= self.loss < 1:
            raise ConfigError(f"the share of lost packets must be 0 or more and below 1, not {self.loss}")
        if not (0 <= self.jitter <= 10 and 0 <= self.delay <= 10):
            raise ConfigError("jitter and delay must be 0 to 10 seconds")


class ChannelSimulator:
    """One direction of a channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._random = np.random.default_rng(channel.seed)
        self._in_flight: list[tuple[float, int, bytes]] = []
        self._count = 0
        self.sent = self.lost = 0

    def send(self, packet: Packet, now: float) -> None:
        """Send a packet, at a time in seconds."""
        data = packet.to_bytes()
        while self._is_lost(now):
            self.lost += 1
            if packet.kind not in RELIABLE:
                return
            now += 2 * (self._channel.delay + self._channel.jitter)  # until it is missed and requested again
        arrival = now + self._channel.delay + self._channel.jitter * self._random.random()
        heapq.heappush(self._in_flight, (arrival, self._count, data))
        self._count += 1

    def _is_lost(self, now: float) -> bool:
        self.sent += 1
        cut = any(start <= now < end for start, end in self._channel.bursts)
        return bool(self._random.random() < self._channel.loss) or cut

    def receive(self, now: float) -> Iterator[bytes]:
        """The packets that have arrived by then, in order of arrival."""
        while self._in_flight and self._in_flight[0][0] <= now:
            yield heapq.heappop(self._in_flight)[2]


def play_call(
    packets: Iterable[Packet], channel: Channel, rate: float, frames: int, wait: float = 0.25, receiver: Any = None
) -> Iterator[UInt8[np.ndarray, "s s 3"]]:
    """The frames that a receiver displays at the other end.

    A packet is sent after the last frame or sound in it, and frame i is rendered at i / rate + `wait` +
    `Receiver.lookahead` from the packets that have arrived. Nothing is displayed before there is a pivot.

    Args:
      packets: of a whole call, in the sender's order.
      channel: between the two.
      rate: frames a second.
      frames: how many to display.
      wait: seconds of the jitter buffer.
      receiver: renders them; None takes a new one that renders frame by frame.
    """
    if receiver is None:
        receiver = Receiver(batch_size=1)
    simulator = ChannelSimulator(channel)
    waiting = collections.deque(_by_time(packets, rate))

    def deliver(now: float) -> None:
        while waiting and waiting[0][0] <= now:
            ready, packet = waiting.popleft()
            simulator.send(packet, ready)
        for data in simulator.receive(now):
            receiver.push_bytes(data)

    for frame in range(frames):
        deliver(frame / rate + wait)
        deliver(frame / rate + wait + receiver.lookahead)  # which the header decides
        if receiver.can_render:
            yield from receiver.render(frame + 1)


def received_packets(packets: Iterable[Packet], channel: Channel, rate: float) -> list[Packet]:
    """The packets that arrive at all, in order of arrival; the same ones as in `play_call`."""
    simulator = ChannelSimulator(channel)
    for ready, packet in _by_time(packets, rate):
        simulator.send(packet, ready)
    return [read_packet(data)[0] for data in simulator.receive(math.inf)]


def _by_time(packets: Iterable[Packet], rate: float) -> list[tuple[float, Packet]]:
    """Packets with the seconds at which they can be sent, in that order."""
    skipped, timed = 0, []
    for packet in packets:
        ready = packet.frame / rate
        if packet.kind is Kind.HEADER:
            skipped = Header.from_packet(packet).skipped_frames
        elif packet.kind is Kind.MOTION:
            ready = packet.end(skipped) / rate
        elif packet.kind is Kind.SOUND:
            ready += packet.count * BLOCK / RATE
        timed.append((ready, packet))
    return sorted(timed, key=lambda one: one[0])
