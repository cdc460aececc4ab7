"""Rate control: a leaky bucket that steers the quantiser of the motion and the number and quality of pivots.

The bucket fills at the target rate and is drained by every packet. The motion's quantiser is chosen anew at each
refresh from the recent cost of motion and from the debt, which is repaid within some seconds. A pivot may run up a
debt, limited by the target. Where the finest motion costs less than its share, the rest goes into pivots: the fuller
the bucket, the smaller a turn of the head is worth one.
"""

import dataclasses
import math

from avfr_jax.codec.motion import Precision
from avfr_jax.errors import ConfigError

LOWEST, HIGHEST = 300, 1_000_000
"""Bits a second that can be asked for."""
_FINEST, _COARSEST = -4, 26  # steps of the mesh: the tracker's noise, and two pixels
_OCTAVE = 4.5  # steps that halve the cost of motion, measured
_SECONDS = 15.0  # in which a debt is repaid
_SAVED = 10.0  # seconds of the target that the bucket holds
_LEAST = 0.15  # of the target goes to motion, however deep the debt
_HEADS = 0.25  # of the target at most goes to the heads of motion's packets, where packets can be longer
_HEAD_BITS = 60  # of a packet of motion
_SCARCE = 2000  # bits a second below which refreshes are kept rare: each costs some 50 bits
_RARE = 12  # frames from one to the next
_FIRST, _LATER = 16.0, 4.0  # seconds of the target that a pivot may cost
_SHARE = 0.5  # of the target goes to pivots at most, after the first
_INTER_SHARE = 0.9  # the same, where they are inter- or residual-coded
_SEQUENCE_SECONDS = 15.0  # of an inter-coded sequence, at least: its key frame is as large as many others
_INTER_QUALITY = (0, 70)
_QUALITY_STEP = 8  # from one sequence to the next
_INTER_FINEST = 12  # step of the mesh: such pivots show everything that finer motion would
_QUALITY = (15, 85)  # of pivots
_PER_QUALITY = 0.037  # by which the logarithm of a pivot's size grows
_TURN = 0.2  # of the distance that asks for a pivot, with a full bucket
# (step, components of the mesh that are worth their bits up to it), measured on unseen identities.
_COMPONENTS = ((8, 48), (14, 32), (18, 24), (22, 16), (_COARSEST, 12))


@dataclasses.dataclass
class RateControl:
    """Steers a sender to a target rate.

    Attributes:
      bitrate: the target, bits a second of everything but sound.
      rate: frames a second.
      step: of the mesh in the stream's header, to which offsets are added.
      quality: of the first pivot.
      inter: whether pivots are inter- or residual-coded: most of the target is theirs then.
      debt: bits sent beyond the target so far; below zero where less was sent.
    """

    bitrate: int
    rate: float
    step: int
    quality: int
    inter: bool = False
    debt: float = 0.0

    def __post_init__(self) -> None:
        if not LOWEST <= self.bitrate <= HIGHEST:
            raise ConfigError(f"the bit rate must be {LOWEST} to {HIGHEST} bits a second, not {self.bitrate}")
        self._precision = _precision_at(14.0, self.step, self.inter)
        self._cost: float | None = None  # logarithm of the motion's recent bits a frame at step 0
        self._payload = 0.0
        self._frames = 0
        self._pivot = -1e9  # the frame of the last pivot
        self._pivot_bits = 0.0
        self._sequence: int | None = None  # first frame of the inter-coded sequence
        self._wanted = self._refused = 0  # pivots in this sequence

    @property
    def refresh(self) -> int:
        """Frames from one refresh of the motion to the next, at least."""
        return _RARE if self.bitrate < _SCARCE else 1

    def frame(self) -> None:
        """Advance by the time of a frame."""
        self.debt = max(self.debt - self.bitrate / self.rate, -self.bitrate * _SAVED)

    def spent(self, bits: int) -> None:
        """Account for a packet."""
        self.debt += bits

    def moved(self, bits: int, frames: int) -> None:
        """Account for a payload of motion, without the packet's head."""
        self._payload += bits
        self._frames += frames

    def precision(self) -> Precision:
        """Precision of the motion up to the next refresh."""
        if self._frames:
            paid = math.log2(max(self._payload / self._frames, 0.05)) + (self.step + self._precision.offset) / _OCTAVE
            weight = 1.0 if self._cost is None else min(1.0, self._frames / self.rate)
            self._cost = paid if self._cost is None else self._cost + weight * (paid - self._cost)
            self._payload = self._frames = 0
            heads = _HEAD_BITS / self.packet(1, round(self.rate / 2))
            bits = (self.bitrate - self.debt / _SECONDS) / self.rate - heads  # that a frame's motion may cost now
            bits = max(bits, _LEAST * self.bitrate / self.rate)
            self._precision = _precision_at(_OCTAVE * (self._cost - math.log2(bits)), self.step, self.inter)
        return self._precision

    def packet(self, shortest: int, longest: int) -> int:
        """Frames in one packet: more where heads would take too much of the target."""
        wanted = math.ceil(_HEAD_BITS * self.rate / (_HEADS * self.bitrate))
        return min(max(shortest, wanted), max(shortest, longest))

    # --- pivots ---------------------------------------------------------------------------------------------------

    def limit(self) -> float:
        """Distance from a pivot, in units of the thresholds, from which on a new one is worth its bits."""
        return min(1.0, 1.0 - (1.0 - _TURN) * -self.debt / (self.bitrate * _SAVED))

    def may_take(self, frame: int) -> bool:
        """Whether a pivot is affordable."""
        share = _INTER_SHARE if self.inter else _SHARE
        paid = (frame - self._pivot) / self.rate * share * self.bitrate >= self._pivot_bits
        return paid and self.debt <= _LATER * self.bitrate

    def other_quality(self, bits: int) -> int | None:
        """Quality at which a pivot of so many bits would meet its budget; None where it nearly does."""
        budget = _FIRST * self.bitrate if self._pivot < 0 else _LATER * self.bitrate + max(-self.debt, 0.0)
        change = math.log(budget / bits) / _PER_QUALITY
        quality = min(max(round(self.quality + change), _QUALITY[0]), _QUALITY[1])
        return None if abs(quality - self.quality) <= 3 else quality

    def begin_sequence(self, frame: int) -> int:
        """Quality of the inter-coded sequence that begins."""
        if self._sequence is None:
            self.quality = round(self.bitrate / 500 - 2)
        else:
            self.quality += self._change()
        self.quality = min(max(self.quality, _INTER_QUALITY[0]), _INTER_QUALITY[1])
        self._sequence, self._wanted, self._refused = frame, 0, 0
        return self.quality

    def sequence_ends(self, frame: int) -> bool:
        """Whether a sequence of another quality should begin: bits are left over, or pivots had to be refused."""
        change = self._change()
        lasted = self._sequence is not None and frame - self._sequence >= _SEQUENCE_SECONDS * self.rate
        return lasted and change != 0 and _INTER_QUALITY[0] <= self.quality + change <= _INTER_QUALITY[1]

    def _change(self) -> int:
        if self.debt <= -0.9 * _SAVED * self.bitrate:
            return _QUALITY_STEP
        return -_QUALITY_STEP if self._wanted >= 8 and self._refused > 0.5 * self._wanted else 0

    def asked(self, allowed: bool) -> None:
        """Account for a request for a pivot."""
        self._wanted += 1
        self._refused += not allowed

    def took(self, frame: int, bits: int) -> None:
        """Account for a pivot."""
        self._pivot, self._pivot_bits = frame, bits


def _precision_at(step: float, base: int, inter: bool) -> Precision:
    """The precision nearest to a step of the mesh, `base` being the header's."""
    whole = min(max(round(step), _INTER_FINEST if inter else _FINEST), _COARSEST)
    components = next(count for up_to, count in _COMPONENTS if whole <= up_to)
    return Precision(min(max(whole - base, -32), 31), components)
