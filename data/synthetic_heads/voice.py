"""Speech-like sound for a motion track: source and filter (Fant 1960; cascade formants as in Klatt 1980).

A glottal pulse train with jitter and vibrato passes four formant resonators whose centres follow jaw and lips
frame by frame; breath and fricative noise join in. Loudness follows the jaw, so sound and picture agree.
"""

import numpy as np

from avfr_jax.typing import Float
from data.synthetic_heads.identity import IdentityParams, Real
from data.synthetic_heads.motion import MotionTrack

RATE = 16000
_HOP = 80  # samples between two updates of the filters (5 ms)


def formants(jaw: np.ndarray, lip_width: np.ndarray, scale: Real) -> Float[np.ndarray, "n 4"]:
    """Four formant frequencies in Hz: an opening jaw raises F1, spread lips raise F2 and F3."""
    f1 = 290.0 + 520.0 * np.clip(jaw, 0, 1) ** 0.8
    f2 = 1350.0 + 750.0 * lip_width - 180.0 * jaw
    f3 = 2500.0 + 280.0 * lip_width
    f4 = np.full_like(f1, 3500.0)
    return np.stack([f1, np.maximum(f2, f1 + 220.0), f3, f4], -1) * scale


def _glottis(pitch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Derivative of Rosenberg's glottal pulse at the given pitch (Hz a sample), with 0.8 % jitter."""
    jitter = 1.0 + 0.008 * np.repeat(rng.normal(size=len(pitch) // 100 + 1), 100)[: len(pitch)]
    phase = np.cumsum(pitch * jitter / RATE) % 1.0
    rise = 0.5 * (1 - np.cos(np.pi * phase / 0.42))
    fall = np.cos(np.pi * (phase - 0.42) / (2 * 0.18))
    flow = np.where(phase < 0.42, rise, np.where(phase < 0.60, fall, 0.0))
    return np.diff(flow, prepend=flow[:1]) * 8.0


def _resonate(signal: np.ndarray, centres: np.ndarray, bandwidth: Real) -> np.ndarray:
    """Two-pole resonator of unit gain at 0 Hz with one centre (Hz) per hop."""
    from scipy.signal import lfilter

    out = np.empty_like(signal)
    state = np.zeros(2)
    radius = np.exp(-np.pi * bandwidth / RATE)
    for k, centre in enumerate(centres):
        a1, a2 = -2 * radius * np.cos(2 * np.pi * centre / RATE), radius**2
        part = slice(k * _HOP, (k + 1) * _HOP)
        out[part], state = lfilter([1 + a1 + a2], [1.0, a1, a2], signal[part], zi=state)
    return out


def synthesise(identity: IdentityParams, motion: MotionTrack, fps: Real = 25.0) -> Float[np.ndarray, " t"]:
    """float32 [round(n / fps * 16000)] in [-0.9, 0.9], a pure function of its arguments."""
    from scipy.signal import butter, lfilter

    rng = np.random.default_rng([identity.seed, 41])
    count = round(len(motion) / fps * RATE)
    hops = -(-count // _HOP)
    at = (np.arange(hops) + 0.5) * _HOP / RATE * fps - 0.5  # frame of each hop
    frames = np.arange(len(motion))
    jaw, width, voice = (np.interp(at, frames, v) for v in (motion.jaw, motion.lip_width, motion.voicing))
    time = np.arange(hops * _HOP) / RATE
    declination = np.interp(at, frames, np.asarray(motion.brow) * 0.06 + np.asarray(motion.pitch) * 0.006)
    pitch_hop = identity.voice_pitch * (1.0 + declination + 0.10 * jaw)
    pitch = np.interp(np.arange(hops * _HOP), np.arange(hops) * _HOP, pitch_hop)
    pitch *= 1.0 + 0.012 * np.sin(2 * np.pi * 5.2 * time)
    breath = rng.normal(size=hops * _HOP)
    source = _glottis(pitch, rng) + 0.03 * breath
    tract = formants(jaw, width, identity.vocal_tract)
    for k, bandwidth in enumerate((80.0, 100.0, 140.0, 220.0)):
        source = _resonate(source, tract[:, k], bandwidth)
    # Normalise: the level follows the jaw alone.
    level = np.sqrt(np.convolve(source**2, np.ones(800) / 800, "same")[: len(source)]) + 1e-6
    source = source / level
    b, a = butter(2, [3200 / (RATE / 2), 7000 / (RATE / 2)], "band")
    hiss = lfilter(b, a, breath)
    loud = np.interp(np.arange(hops * _HOP), (np.arange(hops) + 0.5) * _HOP, voice * (0.04 + jaw))
    # Consonants: short hisses where the mouth closes between two syllables of a phrase.
    closing = np.clip(0.16 - jaw, 0, 0.16) * np.clip(voice * 4, 0, 1) * (voice > 0.05)
    fricative = np.interp(np.arange(hops * _HOP), (np.arange(hops) + 0.5) * _HOP, closing)
    sound = 0.22 * source * loud + 0.35 * hiss * fricative + 0.0004 * breath
    peak = np.abs(sound).max()
    sound = sound * (0.85 / peak) if peak > 0.85 else sound
    return sound[:count].astype(np.float32)
