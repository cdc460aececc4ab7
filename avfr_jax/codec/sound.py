"""The sound of a call: Opus in packets of 20 milliseconds, mono."""

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
_EACH = 25  # Opus packets in one of ours
_LEAD = 312  # samples that libopus puts before the sound


def encode_sound(path: str | os.PathLike[str], rate: Fraction, bitrate: int = 12000) -> Iterator[Packet]:
    """The packets of a file's sound, half a second each.

    Args:
      path: audio or video file.
      rate: frames a second, which packets are numbered by.
      bitrate: bits a second, 6,000 to 128,000.

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
    done = 0
    for data in _opus(context, audio_blocks(path, RATE, 1)):
        held.append(data)
        if len(held) == _EACH:
            yield _packet(held, done, rate)
            done, held = done + _EACH, []
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


def decode_sound(packets: Iterable[Packet], seconds: float) -> Float[np.ndarray, "t"]:
    """Mono samples in [-1, 1] at 48 kHz, no longer than so many seconds; silence where packets are missing or cannot be
    read."""
    end = int(np.ceil((seconds * RATE + _LEAD) / BLOCK))
    context: Any = av.CodecContext.create("libopus", "r")
    context.sample_rate, context.layout = RATE, "mono"
    parts: list[Any] = []
    at = 0
    for first, data in sorted(_unpack(packets)):
        if not at <= first < end:
            continue
        parts.append(np.zeros((first - at) * BLOCK, np.float32))
        parts.append(_decode(context, data))
        at = first + 1
    samples = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    return samples[_LEAD:]


def _decode(context: Any, data: bytes) -> Any:
    out = np.zeros(BLOCK, np.float32)
    try:
        got = np.concatenate([f.to_ndarray().reshape(-1) for f in context.decode(av.Packet(data))] or [out])
    except (av.error.FFmpegError, ValueError):
        return out
    if got.dtype != np.float32:
        got = got.astype(np.float32) / 32768
    out[: min(BLOCK, len(got))] = np.clip(np.nan_to_num(got[:BLOCK]), -1, 1)
    return out


def _unpack(packets: Iterable[Packet]) -> Iterator[tuple[int, bytes]]:
    for packet in packets:
        cursor = Cursor(packet.payload)
        try:
            first = cursor.number()
            for i in range(min(packet.count, _EACH)):
                yield first + i, cursor.take(cursor.number(1500))
        except BitstreamError:
            continue
