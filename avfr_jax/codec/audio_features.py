"""Audio features at the receiver: mel windows around each frame, of the packets that have come."""

import math

import numpy as np

from avfr_jax.codec.audio_coding import BLOCK, LEAD, RATE, Decoder, blocks_of
from avfr_jax.codec.bitstream import Packet
from avfr_jax.media import mel
from avfr_jax.typing import Float, Int

_MAX_WAITING = 1 << 13  # Opus packets that wait to be decoded: 164 s
_THIRD = RATE // mel.RATE  # samples of the stream's sound for one of the model's
_COLUMN = RATE // mel.COLUMNS_PER_SECOND  # samples from one column to the next
_MARGIN = 3  # columns computed on either side, whose own windows reach beyond them
LOOKAHEAD = 0.125
"""Seconds after the middle of a frame that its window reaches: half of 200 ms, and half a column's own window."""


class AudioFeatureBuffer:
    """Buffers sound packets, in any order and with losses; gives mel windows, frame after frame.

    Lost or late sound is silence. Memory does not grow with the call.

    Args:
      rate: frames a second.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._decoder = Decoder()
        self._waiting: dict[int, bytes] = {}
        self._decoded: dict[int, np.ndarray] = {}
        self._at = 0  # the block that is decoded next
        self._end = 0  # after the last block that has come

    @property
    def until(self) -> int:
        """The windows of the frames before this one are complete."""
        seconds = (self._end * BLOCK - LEAD) / RATE - LOOKAHEAD
        return max(0, math.floor(seconds * self._rate + 0.5))

    def push(self, packet: Packet) -> None:
        """Take in a sound packet; one that comes after a later one was decoded is dropped."""
        for number, data in blocks_of(packet):
            if number >= self._at:
                self._waiting[number] = data
                self._end = max(self._end, number + 1)
        while len(self._waiting) > _MAX_WAITING:
            del self._waiting[max(self._waiting)]

    def windows(self, frames: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n 80 16"]:
        """Mel windows around frames, whose numbers only grow from call to call; as `avfr_jax.media.mel.mel_windows` of
        the whole sound."""
        first = mel.first_columns(frames, self._rate)
        low = max(0, int(first.min()) - _MARGIN)
        high = int(first.max()) + mel.WINDOW_COLUMNS + _MARGIN
        columns = mel.mel_spectrogram(self._samples(low * _COLUMN, high * _COLUMN))
        index = np.maximum(first[:, None] + np.arange(mel.WINDOW_COLUMNS), 0) - low
        return np.ascontiguousarray(columns[:, index].transpose(1, 0, 2))

    def _samples(self, start: int, end: int) -> Float[np.ndarray, "t"]:
        """The samples of a range of the stream's sound, at the model's rate."""
        from scipy.signal import resample_poly

        start, end = start + LEAD, end + LEAD
        first, last = start // BLOCK, -(-end // BLOCK)
        self._decode(last)
        for old in [number for number in self._decoded if number < first]:
            del self._decoded[old]
        none = np.zeros(BLOCK, np.float32)
        whole = np.concatenate([self._decoded.get(number, none) for number in range(first, last)])
        return resample_poly(whole[start - first * BLOCK : end - first * BLOCK], 1, _THIRD).astype(np.float32)

    def _decode(self, last: int) -> None:
        """Decode the waiting blocks before `last`."""
        for number in sorted(number for number in self._waiting if number < last):
            self._decoded[number] = self._decoder(self._waiting.pop(number))
            self._at = number + 1
