"""Rate control: what a call may spend, and on what.

A bucket of bits fills at the target rate and is drained by every packet; its level steers. The motion's quantiser is
chosen anew at each refresh from what motion cost lately and from the debt, which is to be paid back within some
seconds. A pivot may run up a debt; how large and how often is what the target allows. Where motion at its finest costs
less than it may, what is left goes into pivots: the fuller the bucket, the smaller a turn of the head is worth one.
"""

import dataclasses
import math

from avfr_jax.codec.motion import Precision
from avfr_jax.errors import ConfigError

LOWEST, HIGHEST = 300, 1_000_000
"""Bits a second that can be asked for."""
_FINEST, _COARSEST = -4, 26  # steps of the mesh: noise of the tracker, and two pixels
_OCTAVE = 4.5  # steps that halve what motion costs, measured
_SECONDS = 15.0  # in which a debt is paid back
_SAVED = 10.0  # seconds of the target that are kept where less is needed
_LEAST = 0.15  # of the target goes to motion, however deep the debt
_HEADS = 0.25  # of the target at most goes to the heads of motion's packets, where packets can be longer
_HEAD_BITS = 60  # of a packet of motion
_SCARCE = 2000  # bits a second below which refreshes are kept rare: each costs some 50 bits
_RARE = 12  # frames from one to the next
_FIRST, _LATER = 16.0, 4.0  # seconds of the target that a pivot may cost
_SHARE = 0.5  # of the target goes to pivots at most, after the first
_FILM_SHARE = 0.9  # the same, where they are told from one another
_FILM_SECONDS = 15.0  # that a film lasts at least: its first picture is as large as many others
_FILM_QUALITY = (0, 70)
_FILM_STEP = 8  # of quality, from one film to the next
_FILM_FINEST = 12  # step of the mesh: finer motion moves nothing that such pivots do not show
_QUALITY = (15, 85)  # of pivots
_PER_QUALITY = 0.037  # by which the logarithm of a pivot's size grows
_TURN = 0.2  # of the distance that is worth a pivot, with a full bucket
# Components of the mesh that are worth their bits: up to this step so many, measured on people they were not fitted on.
_COMPONENTS = ((8, 48), (14, 32), (18, 24), (22, 16), (_COARSEST, 12))


@dataclasses.dataclass
class RateControl:
    """Steers a sender to a target.

    Attributes:
      bitrate: the target, bits a second of everything but sound.
      rate: frames a second.
      step: of the mesh in the stream's header, to which offsets are added.
      quality: of pivots, where nothing is known yet.
      film: whether pivots are told from one another: most of the target is theirs then.
      debt: bits sent beyond the target so far; below zero where less was sent.
    """

    bitrate: int
    rate: float
    step: int
    quality: int
    film: bool = False
    debt: float = 0.0

    def __post_init__(self) -> None:
        if not LOWEST <= self.bitrate <= HIGHEST:
            raise ConfigError(f"the bit rate must be {LOWEST} to {HIGHEST} bits a second, not {self.bitrate}")
        self._precision = self._at(14.0)
        self._cost: float | None = None  # logarithm of the motion's bits a frame at step 0, as they were lately
        self._payload = 0.0
        self._frames = 0
        self._pivot = -1e9  # the frame of the last pivot
        self._pivot_bits = 0.0
        self._film: int | None = None  # the frame with which the film of pivots began
        self._wanted = self._refused = 0  # pivots since then

    @property
    def refresh(self) -> int:
        """Frames from one refresh of the motion to the next, at least."""
        return _RARE if self.bitrate < _SCARCE else 1

    def frame(self) -> None:
        """A frame's time has passed."""
        self.debt = max(self.debt - self.bitrate / self.rate, -self.bitrate * _SAVED)

    def spent(self, bits: int) -> None:
        """A packet was sent."""
        self.debt += bits

    def moved(self, bits: int, frames: int) -> None:
        """Motion was written: its payload, without the packet's head."""
        self._payload += bits
        self._frames += frames

    def precision(self) -> Precision:
        """Of the motion up to the next refresh."""
        if self._frames:
            paid = math.log2(max(self._payload / self._frames, 0.05)) + (self.step + self._precision.offset) / _OCTAVE
            weight = 1.0 if self._cost is None else min(1.0, self._frames / self.rate)
            self._cost = paid if self._cost is None else self._cost + weight * (paid - self._cost)
            self._payload = self._frames = 0
            self._precision = self._at(_OCTAVE * (self._cost - math.log2(self._motion_bits())))
        return self._precision

    def packet(self, shortest: int, longest: int) -> int:
        """Frames in one packet: more where heads would take too much of the target."""
        wanted = math.ceil(_HEAD_BITS * self.rate / (_HEADS * self.bitrate))
        return min(max(shortest, wanted), max(shortest, longest))

    def _motion_bits(self) -> float:
        """That a frame's motion may cost now."""
        heads = _HEAD_BITS / self.packet(1, round(self.rate / 2))
        bits = (self.bitrate - self.debt / _SECONDS) / self.rate - heads
        return max(bits, _LEAST * self.bitrate / self.rate)

    def _at(self, step: float) -> Precision:
        finest = _FILM_FINEST if self.film else _FINEST
        whole = min(max(round(step), finest), _COARSEST)
        components = next(count for up_to, count in _COMPONENTS if whole <= up_to)
        return Precision(min(max(whole - self.step, -32), 31), components)

    # --- pivots ---------------------------------------------------------------------------------------------------

    def limit(self) -> float:
        """The distance from a pivot, one being the settings', from which on a new one is worth its bits."""
        return min(1.0, 1.0 - (1.0 - _TURN) * -self.debt / (self.bitrate * _SAVED))

    def may_take(self, frame: int) -> bool:
        """Whether a pivot can be paid for."""
        share = _FILM_SHARE if self.film else _SHARE
        paid = (frame - self._pivot) / self.rate * share * self.bitrate >= self._pivot_bits
        return paid and self.debt <= _LATER * self.bitrate

    def pivot_bits(self) -> float:
        """That the next pivot may cost: what is saved may go into it."""
        return _FIRST * self.bitrate if self._pivot < 0 else _LATER * self.bitrate + max(-self.debt, 0.0)

    def other_quality(self, bits: int) -> int | None:
        """Quality at which a pivot that has come to so many bits would cost what it may; None where it is near that."""
        change = math.log(self.pivot_bits() / bits) / _PER_QUALITY
        quality = min(max(round(self.quality + change), _QUALITY[0]), _QUALITY[1])
        return None if abs(quality - self.quality) <= 3 else quality

    def begin_film(self, frame: int) -> int:
        """A film of pivots begins, and keeps its quality, which this gives."""
        if self._film is None:
            self.quality = round(self.bitrate / 500 - 2)
        else:
            self.quality += self._change()
        self.quality = min(max(self.quality, _FILM_QUALITY[0]), _FILM_QUALITY[1])
        self._film, self._wanted, self._refused = frame, 0, 0
        return self.quality

    def film_ends(self, frame: int) -> bool:
        """Whether another film, of another quality, should begin: bits are left over, or pivots had to be refused."""
        change = self._change()
        lasted = self._film is not None and frame - self._film >= _FILM_SECONDS * self.rate
        return lasted and change != 0 and _FILM_QUALITY[0] <= self.quality + change <= _FILM_QUALITY[1]

    def _change(self) -> int:
        if self.debt <= -0.9 * _SAVED * self.bitrate:
            return _FILM_STEP
        return -_FILM_STEP if self._wanted >= 8 and self._refused > 0.5 * self._wanted else 0

    def asked(self, allowed: bool) -> None:
        """A pivot was wanted."""
        self._wanted += 1
        self._refused += not allowed

    def took(self, frame: int, bits: int) -> None:
        """A pivot was taken."""
        self._pivot, self._pivot_bits = frame, bits
