"""Mel spectrogram of Wav2Lip, the input of lip-sync and audio-driven networks.

Prajwal et al., "A Lip Sync Expert Is All You Need" (2020), `hparams.py` and `audio.py` of their program: 16 kHz,
pre-emphasis 0.97, Hann windows of 800 samples every 200 (80 columns a second), magnitudes in 80 Slaney mel bands
from 55 to 7600 Hz, decibels less 20, of which [-100, 0] is mapped to [-4, 4].
"""

import functools
from typing import Any, Literal

import numpy as np

from avfr_jax.arguments import LOUDEST, mono_sound
from avfr_jax.errors import ConfigError, InputError
from avfr_jax.packages import importing
from avfr_jax.typing import Float, Int

RATE = 16000
"""Samples per second of the audio."""
BANDS = 80
COLUMNS_PER_SECOND = 80
WINDOW_COLUMNS = 16
"""Columns of the window around a video frame: 200 ms, which are five frames at 25 a second."""
SILENCE = -4.0
"""The spectrogram's value for silence."""

PadMode = Literal["reflect", "constant"]

_WINDOW, _HOP = 800, RATE // COLUMNS_PER_SECOND
_PREEMPHASIS = 0.97
_LOWEST, _HIGHEST = 55.0, 7600.0  # Hz
_FLOOR, _REFERENCE, _RANGE, _PEAK = 1e-5, 20.0, 100.0, 4.0


def mel_spectrogram(audio: Any, pad_mode: PadMode = "reflect") -> Float[np.ndarray, "80 m"]:
    """Audio to Wav2Lip's mel spectrogram, float32 [80, M] in [-4, 4], M = 1 + T // 200.

    Column m is centred on sample 200 m. Empty audio (T = 0) gives one column of silence.

    Args:
        audio: [T] in [-1, 1] at 16 kHz, as `avfr_jax.media.audio.read_audio` gives it; other arrays of sound, such as
            [T, channels] and int16, are converted, see `arguments.mono_sound`.
        pad_mode: padding at both ends: "reflect" as by librosa 0.7, with which Wav2Lip's weights were trained;
            "constant" (zeros) as by librosa 0.10 and later.

    Raises:
        InputError: the audio has NaN or infinity, or is not such an array.
        ConfigError: another pad mode.
    """
    if pad_mode not in ("reflect", "constant"):
        raise ConfigError(f'there is no pad mode "{pad_mode}": use "reflect" or "constant"')
    audio = _mono(audio)
    if not np.isfinite(audio).all():
        wrong = int((~np.isfinite(audio)).sum())
        raise InputError(f"{wrong} of the sound's {len(audio)} samples are NaN or infinite: give an intact recording")
    if len(audio) == 0:
        return silence(1)
    librosa = _librosa()
    samples = audio.astype(np.float64)
    samples[1:] -= _PREEMPHASIS * samples[:-1]
    padded = np.pad(samples, _WINDOW // 2, mode=pad_mode)
    spectrum = librosa.stft(padded, n_fft=_WINDOW, hop_length=_HOP, win_length=_WINDOW, window="hann", center=False)
    bands = _mel_basis() @ np.abs(spectrum)
    decibels = 20.0 * np.log10(np.maximum(_FLOOR, bands)) - _REFERENCE
    scaled = 2.0 * _PEAK * (decibels + _RANGE) / _RANGE - _PEAK
    return np.asarray(np.clip(scaled, -_PEAK, _PEAK), np.float32)


def _mono(audio: Any) -> Float[np.ndarray, "t"]:
    """Mono floats as they are, since decoded sound may exceed 1 a little; anything else as `mono_sound` makes it."""
    as_it_is = isinstance(audio, np.ndarray) and audio.ndim == 1 and np.issubdtype(audio.dtype, np.floating)
    if as_it_is and not (np.isfinite(audio).all() and np.abs(audio).max(initial=0) > LOUDEST):
        return audio
    return mono_sound(audio)


def mel_window(
    mel: Float[np.ndarray, "80 m"], frame: int, fps: float = 25.0, columns: int = WINDOW_COLUMNS
) -> Float[np.ndarray, "80 {columns}"]:
    """The window around one video frame: see `mel_windows`."""
    return np.asarray(mel_windows(mel, np.array([frame]), fps, columns)[0])


def mel_windows(
    mel: Float[np.ndarray, "80 m"], frames: Int[np.ndarray, "n"], fps: float = 25.0, columns: int = WINDOW_COLUMNS
) -> Float[np.ndarray, "n 80 {columns}"]:
    """Windows of a spectrogram centred on video frames, [n, 80, columns].

    Frame i is on screen from i/fps to (i + 1)/fps; its window begins at column floor(80 (i + 1/2)/fps - columns/2).
    At 25 frames a second and 16 columns that is int(80 (i - 2)/25): Wav2Lip's window of the five frames of which i
    is the third. Beyond the spectrogram the border column is repeated.

    Args:
        mel: [80, M] with M >= 1, whose column 0 belongs to the beginning of frame 0.
        frames: numbers from 0 on, also beyond the end.
        fps: frames per second of the video.
        columns: length of the window.

    Raises:
        InputError: a spectrogram without columns.
        ConfigError: a negative frame, or a rate or length that is not positive.
    """
    if mel.shape[1] == 0:
        raise InputError("the mel spectrogram has no columns: give that of a recording, or silence(1)")
    if not fps > 0 or columns < 1 or (len(frames) and frames.min() < 0):
        raise ConfigError(f"no mel window at frame {frames.min(initial=0)}, {fps} frames a second, {columns} columns")
    first = first_columns(frames, fps, columns)
    index = np.clip(first[:, None] + np.arange(columns), 0, mel.shape[1] - 1)
    return np.ascontiguousarray(mel[:, index].transpose(1, 0, 2))


def first_columns(
    frames: Int[np.ndarray, "n"], fps: float = 25.0, columns: int = WINDOW_COLUMNS
) -> Int[np.ndarray, "n"]:
    """First columns of the windows of `mel_windows`, int64; negative before the audio's beginning."""
    return np.floor((COLUMNS_PER_SECOND * frames + COLUMNS_PER_SECOND / 2) / fps - columns / 2).astype(np.int64)


def silence(columns: int = WINDOW_COLUMNS) -> Float[np.ndarray, "80 {columns}"]:
    """The spectrogram of silence, float32 [80, columns]."""
    return np.full((BANDS, columns), SILENCE, np.float32)


@functools.cache
def _mel_basis() -> Float[np.ndarray, "80 401"]:
    return _librosa().filters.mel(sr=RATE, n_fft=_WINDOW, n_mels=BANDS, fmin=_LOWEST, fmax=_HIGHEST)


def _librosa() -> Any:
    with importing("librosa"):
        import librosa

        _ = librosa.stft, librosa.filters  # loaded when first used
    return librosa
