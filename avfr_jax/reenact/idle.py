"""Head motion and blinks of somebody who talks, from the sound alone: curves over time, and a face mesh moved by them.

Nothing here is learned. A head that talks turns by a few degrees, slowly, with quicker nods at stressed syllables, and
less in silence; the lids shut every two to six seconds, faster than they open.
"""

import dataclasses
import zlib

import numpy as np

from avfr_jax.faces.spoken_mouth import Placement
from avfr_jax.landmarks import APERTURES, LEFT_BROW, LEFT_LIDS, RIGHT_BROW, RIGHT_LIDS
from avfr_jax.media.mel import COLUMNS_PER_SECOND, SILENCE
from avfr_jax.typing import Float

_TURN = np.array([2.2, 1.4, 1.0])  # degrees: standard deviation of yaw, pitch and roll while talking
_CALM = 0.6  # the share of them in silence
_SLOW, _QUICK = 0.5, 0.15  # seconds: widths of the Gaussians that limit the bands of slow and quick motion
_QUICK_SHARE = 0.25  # of the standard deviation
_NOD = 1.5  # degrees down at a stressed syllable
_BROW = 0.15  # centimetres that brows rise there
_ONSET = 1.0  # seconds until the motion has its full size: the first frame has the portrait's pose
_NECK = np.array([0.0, 8.0, 9.0])  # centimetres (`landmarks.canonical_face`): the joint about which a head turns
_INTERVAL = (2.0, 6.0)  # seconds from blink to blink
_CLOSING, _SHUT, _OPENING = 0.08, 0.05, 0.16  # seconds of the parts of a blink
_LOWER_LID = 0.15  # share of the gap that the lower lid closes
_FOLD = 0.45  # share of the upper lid's way that the fold above it goes


@dataclasses.dataclass(frozen=True, eq=False)
class IdleMotion:
    """Motion of N frames.

    Attributes:
      turn: yaw, pitch and roll of the head in degrees, with the signs of `faces.HeadPose`, from the pose at rest.
      lids: 0 as at rest to 1 shut.
      brows: centimetres upwards.
    """

    turn: Float[np.ndarray, "n 3"]
    lids: Float[np.ndarray, " n"]
    brows: Float[np.ndarray, " n"]

    def __len__(self) -> int:
        """N."""
        return len(self.lids)

    @classmethod
    def of_sound(cls, mel: Float[np.ndarray, "80 m"], frames: int, fps: float) -> "IdleMotion":
        """The motion that goes with a sound, the same for the same sound. It does not repeat itself.

        Args:
          mel: its spectrogram, see `media.mel.mel_spectrogram`.
          frames: N; frame i is at (i + 1/2) / fps seconds.
          fps: frames a second.
        """
        random = np.random.default_rng(zlib.crc32(np.ascontiguousarray(mel).tobytes()))
        times = (np.arange(frames) + 0.5) / fps
        count = int(np.ceil(times[-1] * COLUMNS_PER_SECOND)) + 2
        talking, stress = _speech(mel, count)
        slow, quick = (_noise(random, count, seconds) for seconds in (_SLOW, _QUICK))
        turn = _TURN * (_CALM + (1 - _CALM) * talking)[:, None] * (slow + _QUICK_SHARE * talking[:, None] * quick)
        turn[:, 1] -= _NOD * stress
        columns = np.arange(count) / COLUMNS_PER_SECOND
        turn *= _smoothstep(columns / _ONSET)[:, None]
        at = times * COLUMNS_PER_SECOND
        sampled = np.stack([np.interp(at, np.arange(count), row) for row in (*turn.T, _BROW * stress)], 1)
        return cls(sampled[:, :3], _blinks(random, times, 1 / fps), sampled[:, 3])


def moved(landmarks: Float[np.ndarray, "478 3"], motion: IdleMotion, index: int) -> Float[np.ndarray, "478 3"]:
    """A face mesh, with one unit for x, y and z, with the motion of one frame, float32."""
    from avfr_jax.faces.pose import rotation_from_angles

    place = Placement.of(landmarks)
    face = np.array(landmarks, np.float64)
    up = place.scale * place.rotation @ np.array([0.0, -1.0, 0.0])
    face[list(RIGHT_BROW + LEFT_BROW)] += motion.brows[index] * up
    _shut_eyes(face, motion.lids[index])
    neck = place.placed(_NECK)
    return np.asarray((face - neck) @ rotation_from_angles(*motion.turn[index]).T + neck, np.float32)


def _shut_eyes(face: Float[np.ndarray, "478 3"], share: float) -> None:
    """Close the eyes by a share of their gaps, in place."""
    for (upper, lower), fold in zip(APERTURES[1:], (RIGHT_LIDS[0], LEFT_LIDS[0]), strict=True):
        up, low = list(upper[1:-1]), list(lower[1:-1])
        gap = face[low] - face[up]
        face[list(fold)] += share * (1 - _LOWER_LID) * _FOLD * gap
        face[up] += share * (1 - _LOWER_LID) * gap
        face[low] -= share * _LOWER_LID * gap


def _speech(mel: Float[np.ndarray, "80 m"], count: int) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """How much is said, in [0, 1], and the stress of syllables, from 0 to about 1, in each column; 0 after the end."""
    from scipy.ndimage import gaussian_filter1d

    loudness = mel.mean(0) - SILENCE
    loudness = np.pad(loudness, (0, max(count - len(loudness), 0)))[:count]
    level = loudness / max(float(np.percentile(loudness, 95)), 1.0)

    def smooth(seconds: float) -> Float[np.ndarray, " m"]:
        return np.asarray(gaussian_filter1d(level, seconds * COLUMNS_PER_SECOND, mode="constant"))

    stress = np.maximum(smooth(0.12) - smooth(0.6) - 0.1, 0) / 0.3
    return _smoothstep(smooth(0.4) / 0.5), np.asarray(np.minimum(stress, 1))


def _noise(random: np.random.Generator, count: int, seconds: float) -> Float[np.ndarray, "m 3"]:
    """Band-limited noise of standard deviation 1 in three columns."""
    from scipy.ndimage import gaussian_filter1d

    width = seconds * COLUMNS_PER_SECOND
    margin = int(np.ceil(4 * width))
    white = random.standard_normal((count + 2 * margin, 3))
    smooth = gaussian_filter1d(white, width, axis=0)[margin : margin + count]
    return np.asarray(smooth * np.sqrt(2 * width * np.sqrt(np.pi)))


def _blinks(random: np.random.Generator, times: Float[np.ndarray, " n"], frame: float) -> Float[np.ndarray, " n"]:
    """How far the lids are shut at each time; a frame lasts `frame` seconds, and each blink has one of them shut."""
    lids = np.zeros(len(times))
    start = random.uniform(1.0, 3.0)
    shut = max(_SHUT, frame)
    while start < times[-1]:
        after = times - start
        closing = _smoothstep(after / _CLOSING)
        opening = _smoothstep((after - _CLOSING - shut) / _OPENING)
        lids = np.maximum(lids, closing - opening)
        start += float(np.clip(random.gamma(4.0, 0.9), *_INTERVAL))
    return lids


def _smoothstep(x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """0 up to 0, 1 from 1 on, smooth between."""
    x = np.clip(x, 0, 1)
    return np.asarray(x * x * (3 - 2 * x))
