"""Audio in and out (PyAV): any codec, rate and channel layout to float32, on the video's time line."""

import wave
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import av
import av.error
import numpy as np

from avfr_jax.errors import InputError
from avfr_jax.media.container import audio_stream, decode, frame_time, open_input, video_origin
from avfr_jax.media.files import PathLike, atomic_file, check_output
from avfr_jax.typing import Float, Shaped

_TOLERANCE = 0.03
"""Seconds of jitter of audio time stamps (containers round them) that is not corrected by silence or a cut."""
_DISCONTINUITY = 10.0
"""Seconds from which on a jump of the time stamps inside a track is an error in the file, no pause."""


def has_audio(path: PathLike) -> bool:
    """Whether a media file has an audio track.

    Raises:
        InputError: no such file, or not a media file.
    """
    with open_input(path) as container:
        return audio_stream(container) is not None


def read_audio(path: PathLike, rate: int = 16000) -> Float[np.ndarray, "t"]:
    """The audio of an audio or video file as mono float32 [T] in [-1, 1].

    Sample 0 is at the first video frame: audio that starts later is preceded by silence, audio that starts earlier is
    cut. Channels are averaged. Gaps in the time stamps become silence.

    Args:
        path: audio or video file.
        rate: samples per second of the result.

    Raises:
        InputError: no such file, not a media file, no audio track, or one of which nothing can be decoded.
    """
    blocks = list(audio_blocks(path, rate, channels=1))
    if not blocks:
        raise InputError(f"{path} has an audio track of which nothing can be decoded: give an intact file.")
    return np.asarray(np.clip(np.concatenate([block[0] for block in blocks]), -1.0, 1.0))


def write_wav(
    path: PathLike,
    samples: Float[np.ndarray, "t"] | Iterable[Float[np.ndarray, "t"]],
    rate: int = 16000,
    overwrite: bool = False,
) -> None:
    """Write mono float samples [T] in [-1, 1], or blocks of them, as a 16-bit WAV file. Values outside the range are
    clipped.

    Raises:
        OutputError: another ending than .wav, an existing file without `overwrite`, or an unwritable place.
    """
    target = check_output(path, overwrite, (".wav",))
    with atomic_file(target, overwrite) as scratch, wave.open(str(scratch), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        for block in [samples] if isinstance(samples, np.ndarray) else samples:
            out.writeframes(np.rint(np.clip(np.nan_to_num(block), -1.0, 1.0) * 32767.0).astype("<i2").tobytes())


def audio_format(path: PathLike) -> tuple[int, int]:
    """Sample rate and number of channels of a file's audio track.

    Raises:
        InputError: no such file, not a media file, or no audio track.
    """
    with open_input(path) as container:
        stream = _require_audio(container, path)
        return int(stream.codec_context.sample_rate), int(stream.codec_context.channels)


def audio_blocks(path: PathLike, rate: int, channels: int) -> Iterator[Float[np.ndarray, "c t"]]:
    """The audio of a file, block by block, as float32 [channels, T]; see `read_audio` for the time line.

    `channels` is 1 (average) or 2 (more channels are mixed down)."""
    layout = "mono" if channels == 1 else "stereo"
    origin = video_origin(path)
    with open_input(path) as container:
        stream = _require_audio(container, path)
        resampler = None
        source_rate, position = 0, 0
        for block, block_rate in _aligned(decode(container, stream), layout, origin):
            if resampler is None or block_rate != source_rate:
                if resampler is not None:
                    yield from _arrays(resampler.resample(None))
                resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
                source_rate, position = block_rate, 0
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
            frame.sample_rate = source_rate
            frame.time_base = Fraction(1, source_rate)
            frame.pts = position
            position += block.shape[1]
            yield from _arrays(resampler.resample(frame))
        if resampler is not None:
            yield from _arrays(resampler.resample(None))


def _require_audio(container: Any, path: PathLike) -> Any:
    stream = audio_stream(container)
    if stream is None:
        raise InputError(f"{path} has no audio track: give a file with sound.")
    return stream


def _aligned(
    frames: Iterator[Any], layout: str, origin: Fraction | None
) -> Iterator[tuple[Float[np.ndarray, "c t"], int]]:
    """Decoded frames as float blocks with their rate, padded with silence and cut so that sample 0 is at `origin`."""
    mixer, mixer_input = None, None
    elapsed = Fraction(0)  # seconds yielded so far
    started = False
    for frame in frames:
        rate = frame.sample_rate
        if mixer_input != (rate, frame.format.name, frame.layout.name):
            # To floats it mixes with constant power (two equal channels 3 dB louder), to integers it averages.
            mixer = av.AudioResampler(format="s32p", layout=layout, rate=rate)
            mixer_input = (rate, frame.format.name, frame.layout.name)
        assert mixer is not None
        time = frame_time(frame)
        if origin is None:
            origin = time
        gap = Fraction(0) if time is None or origin is None else time - origin - elapsed
        if started and not _TOLERANCE < abs(gap) < _DISCONTINUITY:
            gap = Fraction(0)
        for integers in _arrays(mixer.resample(frame)):
            block = integers.astype(np.float32) / 2.0**31
            samples = round(gap * rate)
            for first in range(0, samples, rate):  # at most a second of silence at a time
                yield np.zeros((block.shape[0], min(rate, samples - first)), np.float32), rate
            kept = block[:, max(-samples, 0) :]
            elapsed += Fraction(max(samples, 0) + kept.shape[1], rate)
            gap = Fraction(min(samples + block.shape[1], 0), rate)
            if kept.shape[1]:
                started = True
                yield np.ascontiguousarray(kept), rate


def _arrays(frames: list[Any]) -> Iterator[Shaped[np.ndarray, "c t"]]:
    for frame in frames:
        if frame.samples:
            yield frame.to_ndarray()
