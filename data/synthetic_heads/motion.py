"""Motion of a head: smooth sway, nods, saccades, blinks and syllables, sampled from a seed."""

import dataclasses

import numpy as np

from avfr_jax.typing import Float
from data.synthetic_heads.identity import Real


@dataclasses.dataclass(frozen=True)
class MotionTrack:
    """One value per frame. Angles in degrees (yaw > 0: turned to the viewer's right, pitch > 0: looks up,
    roll > 0: clockwise in the image); the rest is dimensionless."""

    yaw: Float[np.ndarray, " n"]
    pitch: Float[np.ndarray, " n"]
    roll: Float[np.ndarray, " n"]
    translation: Float[np.ndarray, "n 3"]  # cm: right, up, towards the viewer
    blink: Float[np.ndarray, "n 2"]  # 0 open .. 1 closed; [:, 0] is the eye on the image's left
    jaw: Float[np.ndarray, " n"]  # 0 closed .. 1 wide open
    lip_width: Float[np.ndarray, " n"]  # -1 rounded .. 1 spread
    smile: Float[np.ndarray, " n"]  # 0 .. 1
    brow: Float[np.ndarray, " n"]  # -1 frown .. 1 raised
    gaze: Float[np.ndarray, "n 2"]  # degrees: right, up, relative to the head
    voicing: Float[np.ndarray, " n"]  # 0 silent .. 1 speaking

    def __len__(self) -> int:
        return len(self.yaw)


def _smooth(values: np.ndarray, sigma: Real) -> np.ndarray:
    from scipy.ndimage import gaussian_filter1d

    return gaussian_filter1d(values, sigma, axis=0, mode="nearest")


def _wander(rng: np.random.Generator, frames: int, fps: Real, seconds: Real, scale: Real) -> np.ndarray:
    """Smooth noise of standard deviation `scale` that changes over about `seconds`."""
    pad = int(4 * seconds * fps)
    noise = _smooth(rng.normal(size=frames + 2 * pad), seconds * fps)[pad : pad + frames]
    return noise * scale * np.sqrt(2 * np.sqrt(np.pi) * seconds * fps)


def _blinks(rng: np.random.Generator, frames: int, fps: Real) -> np.ndarray:
    """Eyelid closure: blinks of 0.15 to 0.3 s, one every 2 to 6 s; closing is faster than opening."""
    time = np.arange(frames) / fps
    closed = np.zeros(frames)
    start = rng.uniform(0.4, 1.8)
    while start < frames / fps:
        length = rng.uniform(0.18, 0.3)
        phase = (time - start) / length
        shape = np.where(phase < 0.4, phase / 0.4, (1.0 - phase) / 0.6)
        closed = np.maximum(closed, np.clip(1.35 * np.clip(shape, 0, 1), 0, 1))
        start += rng.uniform(2.0, 6.0) if rng.random() > 0.12 else 0.45
    return closed


def _speech(rng: np.random.Generator, frames: int, fps: Real) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(jaw, lip_width, voicing): phrases of syllables at 3 to 6 Hz, parted by pauses."""
    rate = 200.0
    steps = int(np.ceil(frames / fps * rate)) + 1
    jaw, width, voice = np.zeros(steps), np.zeros(steps), np.zeros(steps)
    time = rng.uniform(0.0, 0.4)
    while time < frames / fps:
        end = time + rng.uniform(1.0, 3.2)
        while time < end:
            length = 1.0 / rng.uniform(3.0, 6.0)
            a, b = int(time * rate), min(int((time + length) * rate), steps)
            if b <= a:
                break
            hump = np.sin(np.linspace(0.0, np.pi, b - a)) ** 1.3
            jaw[a:b] = hump * (0.12 + 0.75 * rng.beta(2.0, 2.2))
            width[a:b] = rng.choice([-0.85, -0.35, 0.15, 0.5, 0.8])
            voice[a:b] = hump**0.5
            time += length
        time = end + rng.uniform(0.25, 0.8)
    at = np.arange(frames) / fps * rate
    grid = np.arange(steps)
    jaw, voice = _smooth(jaw, 3.0), _smooth(voice, 3.0)
    width = _smooth(width, 12.0)
    return np.interp(at, grid, jaw), np.interp(at, grid, width), np.interp(at, grid, voice)


def _gaze(rng: np.random.Generator, frames: int, fps: Real) -> np.ndarray:
    """Saccades: the eyes rest for 0.4 to 2 s and jump within about two frames."""
    gaze = np.zeros((frames, 2))
    start = 0.0
    while start < frames / fps:
        gaze[int(start * fps) :] = rng.normal(0, [6.0, 3.0]) * (rng.random() < 0.7)
        start += rng.uniform(0.4, 2.0)
    return _smooth(gaze, 0.5)


def sample_motion(seed: int, frames: int, fps: Real = 25.0, amplitude: Real = 1.0) -> MotionTrack:
    """Sample a talking head's motion.

    `amplitude` scales the head's turns (1: yaw mostly within 30 degrees, pitch 15, roll 10).
    Equal seeds with different `frames` give different tracks.
    """
    if frames < 1:
        raise ValueError(f"frames must be at least 1, got {frames}")
    rng = np.random.default_rng([seed, 3])
    jaw, width, voice = _speech(rng, frames, fps)
    nod = _smooth(voice, 0.25 * fps) * 2.5
    turn = rng.uniform(7.0, 15.0) * amplitude
    yaw = np.clip(rng.normal(0, 3) + _wander(rng, frames, fps, 0.7, turn), -38, 38)
    # The measured pitch of a person facing the camera is a few degrees down (see `geometry.REST_PITCH`).
    pitch = np.clip(rng.normal(-6, 1.5) + _wander(rng, frames, fps, 0.45, 4.5 * amplitude) - nod, -25, 14)
    roll = np.clip(_wander(rng, frames, fps, 0.7, 3.5 * amplitude) + 0.12 * yaw, -18, 18)
    translation = np.stack(
        [_wander(rng, frames, fps, 0.8, 0.6), _wander(rng, frames, fps, 0.8, 0.3), _wander(rng, frames, fps, 1.0, 0.8)],
        -1,
    )
    blink = _blinks(rng, frames, fps)
    gaze = np.clip(_gaze(rng, frames, fps) - 0.25 * np.stack([yaw, pitch + 6.0], -1), -22, 22)
    smile = np.clip(_wander(rng, frames, fps, 0.8, 0.35) + 0.1, 0, 1)
    brow = np.clip(_wander(rng, frames, fps, 0.5, 0.45), -1, 1)
    as32 = [np.asarray(x, np.float32) for x in (yaw, pitch, roll, translation, np.stack([blink, blink], -1), jaw)]
    rest = [np.asarray(x, np.float32) for x in (width, smile, brow, gaze, np.clip(voice, 0, 1))]
    return MotionTrack(*as32, *rest)


def still_motion(frames: int, **values: Real) -> MotionTrack:
    """Constant track: `still_motion(1, yaw=20, jaw=0.5)`. Unnamed values are 0."""
    shapes = {"translation": (frames, 3), "blink": (frames, 2), "gaze": (frames, 2)}
    fields = {
        f.name: np.full(shapes.get(f.name, (frames,)), values.get(f.name, 0.0), np.float32)
        for f in dataclasses.fields(MotionTrack)
    }
    return MotionTrack(**fields)
