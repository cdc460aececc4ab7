"""Audio coding: mono Opus in packets of 20 milliseconds."""

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import av
import av.error
import numpy as np

from avfr_jax.codec.bitstream import BitstreamError, Cursor, Kind, Packet, put_number
from avfr_jax.errors import ConfigError
from avfr_jax.media.audio import audio_blocks
from avfr_jax.typing import Float

RATE = 48000
BLOCK = 960  # samples of one Opus packet
LEAD = 312  # samples that libopus puts before the sound
_EACH = 25  # Opus packets in a sound packet, at most


def encode_sound(
    path: str | os.PathLike[str], rate: Fraction, bitrate: int = 12000, length: float = 0.5
) -> Iterator[Packet]:
    """Encode a file's sound.

    Args:
      path: audio or video file.
      rate: frames a second, in which packets are numbered.
      bitrate: bits a second, 6,000 to 128,000.
      length: seconds in one packet, 0.02 to 0.5.

    Raises:
      ConfigError: an impossible bit rate.
      InputError: the file has no sound.
    """
    if not 6_000 <= bitrate <= 128_000:
        raise ConfigError(f"the sound's bit rate must be 6000 to 128000, not {bitrate}")
    context: Any = av.CodecContext.create("libopus", "w")
    context.sample_rate, context.layout, context.format = RATE, "mono", "flt"
    context.bit_rate, context.options = bitrate, {"application": "voip", "frame_duration": "20"}
    held: list[bytes] = []
    done, each = 0, min(max(round(length * RATE / BLOCK), 1), _EACH)
    for data in _opus(context, audio_blocks(path, RATE, 1)):
        held.append(data)
        if len(held) == each:
            yield _packet(held, done, rate)
            done, held = done + each, []
    if held:
        yield _packet(held, done, rate)


def _opus(context: Any, blocks: Iterable[Any]) -> Iterator[bytes]:
    rest, at = np.zeros(0, np.float32), 0
    for block in itertools.chain(blocks, [None]):  # the last block has to be filled up
        samples = np.zeros(-len(rest) % BLOCK, np.float32) if block is None else block[0]
        rest = np.concatenate([rest, samples])
        while len(rest) >= BLOCK:
            frame = av.AudioFrame.from_ndarray(np.clip(rest[None, :BLOCK], -1, 1), format="flt", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), at
            rest, at = rest[BLOCK:], at + BLOCK
            yield from (bytes(p) for p in context.encode(frame))
    yield from (bytes(p) for p in context.encode(None))


def _packet(held: list[bytes], done: int, rate: Fraction) -> Packet:
    frame = int(Fraction(done * BLOCK, RATE) * rate)
    payload = put_number(done) + b"".join(put_number(len(data)) + data for data in held)
    return Packet(Kind.SOUND, frame, payload, count=len(held))


def decode_sound(packets: Iterable[Packet], seconds: float) -> Iterator[Float[np.ndarray, "t"]]:
    """Mono samples in [-1, 1] at 48 kHz, block by block, no longer than so many seconds; silence where packets are
    missing or cannot be decoded. Packets are in the order of a file; late ones are left out."""
    end = int(np.ceil((seconds * RATE + LEAD) / BLOCK))
    decoder = Decoder()
    lead, at = LEAD, 0
    for first, data in (block for packet in packets for block in blocks_of(packet)):
        if not at <= first < end:
            continue
        lengths = (min(_EACH, first - block) * BLOCK for block in range(at, first, _EACH))
        for samples in itertools.chain((np.zeros(length, np.float32) for length in lengths), [decoder(data)]):
            yield samples[lead:]
            lead = 0
        at = first + 1


class Decoder:
    """Decodes Opus packets in their order, with the state left by those before."""

    def __init__(self) -> None:
        self._context: Any = av.CodecContext.create("libopus", "r")
        self._context.sample_rate, self._context.layout = RATE, "mono"

    def __call__(self, data: bytes) -> Float[np.ndarray, "960"]:
        """The 960 samples of a packet, in [-1, 1]; silence where it cannot be decoded."""
        out = np.zeros(BLOCK, np.float32)
        try:
            got = np.concatenate([f.to_ndarray().reshape(-1) for f in self._context.decode(av.Packet(data))] or [out])
        except (av.error.FFmpegError, ValueError):
            return out
        if got.dtype != np.float32:
            got = got.astype(np.float32) / 32768
        out[: min(BLOCK, len(got))] = np.clip(np.nan_to_num(got[:BLOCK]), -1, 1)
        return out


def blocks_of(packet: Packet) -> Iterator[tuple[int, bytes]]:
    """The Opus packets in a sound packet, numbered from the stream's start, as far as they can be read."""
    cursor = Cursor(packet.payload)
    with contextlib.suppress(BitstreamError):
        first = cursor.number()
        for i in range(min(packet.count, _EACH)):
            yield first + i, cursor.take(cursor.number(1500))
