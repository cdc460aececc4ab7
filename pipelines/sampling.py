"""Sampling of frame pairs as a pure function of (seed, epoch, index).

FOMM's sampling (Siarohin et al., 2019, with `id_sampling`): an epoch contains every identity 75 times in random order;
each time a random clip of that identity gives two random frames, with replacement, the earlier one as the source; with
probability one half the pair is reversed in time. Identities are sampled alike, however many clips they have. For
interpolation the two frames lie a given distance apart instead, with one halfway between them.

Each pair has its own counter of the Philox generator, so that any process or worker can compute any pair, and a resumed
run continues exactly. Only the generator's raw words are used, which NumPy guarantees never to change.
"""

import dataclasses
import functools

import numpy as np

SAME_IDENTITY_ATTEMPTS = 3  # replacements of an unreadable pair by the same identity, before any other
_ORDER, _PAIR = 1, 2  # last word of the counter: purpose of the numbers


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two frames of one clip.

    Attributes:
      clip: number of the clip in the dataset.
      source, driving: frame numbers; source ≤ driving unless swapped, then source ≥ driving.
      swapped: whether the pair was reversed in time.
    """

    clip: int
    source: int
    driving: int
    swapped: bool


@dataclasses.dataclass(frozen=True)
class PairSampler:
    """The order of an epoch and the pairs in it.

    Attributes:
      groups: numbers of the clips of each identity.
      frames: number of frames of each clip.
      repeats: pairs of each identity in an epoch.
      seed: 0 ≤ seed < 2**64.
      time_flip: whether half of the pairs are reversed in time.
      spans: distances between the frames of a pair, uniform over those that fit into the clip; empty samples any two
        frames. Every clip is longer than the shortest span.
    """

    groups: tuple[tuple[int, ...], ...]
    frames: tuple[int, ...]
    repeats: int = 75
    seed: int = 0
    time_flip: bool = True
    spans: tuple[int, ...] = ()

    @property
    def epoch_length(self) -> int:
        """Pairs in an epoch."""
        return len(self.groups) * self.repeats

    def sample(self, epoch: int, index: int, attempt: int = 0) -> Pair:
        """Compute one pair.

        Args:
          epoch: from 0.
          index: 0 ≤ index < epoch_length.
          attempt: 0 for the pair itself, 1 and up for its replacements.
        """
        which, clip, first, second, flip = _words(self.seed, epoch, index, attempt, _PAIR, 5)
        if attempt <= SAME_IDENTITY_ATTEMPTS:
            group = self.groups[_order(self.seed, epoch, self.epoch_length)[index] % len(self.groups)]
        else:
            group = self.groups[_below(which, len(self.groups))]
        number = group[_below(clip, len(group))]
        early, late = self._frames(self.frames[number], first, second)
        swapped = self.time_flip and _below(flip, 2) == 1
        return Pair(number, late, early, True) if swapped else Pair(number, early, late, False)

    def _frames(self, length: int, first: int, second: int) -> tuple[int, int]:
        """Two frames of a clip in temporal order, from two random words."""
        if not self.spans:
            early, late = sorted(_below(word, length) for word in (first, second))
            return early, late
        fitting = [span for span in self.spans if span < length]
        span = fitting[_below(first, len(fitting))]
        early = _below(second, length - span)
        return early, early + span


def _words(seed: int, epoch: int, index: int, attempt: int, purpose: int, count: int) -> list[int]:
    """Random 64-bit words of one counter of the generator, whose first word counts them."""
    key = np.array([seed, epoch], np.uint64)
    counter = np.array([0, attempt, index, purpose], np.uint64)
    return np.random.Philox(key=key, counter=counter).random_raw(count).tolist()


def _below(word: int, limit: int) -> int:
    """Map a 64-bit word to [0, limit), uniform to one part in 2**64 / limit."""
    return (word * limit) >> 64


@functools.lru_cache(maxsize=2)  # prefetching spans two epochs at most
def _order(seed: int, epoch: int, length: int) -> np.ndarray:
    """Permutation of an epoch: position -> number of the identity (modulo their count)."""
    key = np.array([seed, epoch], np.uint64)
    counter = np.array([0, 0, 0, _ORDER], np.uint64)
    return np.argsort(np.random.Philox(key=key, counter=counter).random_raw(length), kind="stable")
