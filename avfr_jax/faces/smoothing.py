"""Low-pass filtering of landmarks over time: less jitter on a still face, little lag on a moving one."""

import math

import numpy as np

from avfr_jax.errors import ConfigError
from avfr_jax.landmarks import NUM_VERTICES
from avfr_jax.typing import Float

_SPEED_CUTOFF = 2.0  # hertz
_REST = 0.05  # face sizes a second: the speed of jitter


class LandmarkFilter:
    """A One-Euro filter (Casiez, Roussel and Vogel, CHI 2012) on each landmark, in units of the face's size.

    The cut-off of the low-pass is min_cutoff + beta · max(0, speed − 0.05), in hertz, with the landmark's own
    low-passed speed in face sizes a second (the paper has no such offset for jitter). Causal: call it with the
    landmarks of each frame, or None for a frame without a face, which resets it.

    Raises:
      ConfigError: a setting is not positive.
    """

    def __init__(self, fps: float = 25.0, *, min_cutoff: float = 0.8, beta: float = 40.0) -> None:
        if not (fps > 0 and min_cutoff > 0 and beta >= 0):
            raise ConfigError("a landmark filter needs a positive frame rate and positive cut-offs")
        self.fps, self.min_cutoff, self.beta = fps, min_cutoff, beta
        self.reset()

    def reset(self) -> None:
        """Restart with the next frame."""
        self._smooth: np.ndarray | None = None
        self._raw: np.ndarray | None = None
        self._velocity: np.ndarray | None = None

    def __call__(self, landmarks: Float[np.ndarray, "478 3"] | None) -> Float[np.ndarray, "478 3"] | None:
        """The filtered landmarks of the next frame, float32; None for None."""
        if landmarks is None or not np.isfinite(landmarks).all():
            self.reset()
            return None
        raw = landmarks.astype(np.float64)
        if self._smooth is None or self._raw is None or self._velocity is None:
            self._smooth, self._raw, self._velocity = raw, raw, np.zeros_like(raw)
            return landmarks.astype(np.float32)
        size = max(1e-6, float(np.ptp(raw[:NUM_VERTICES, :2], axis=0).max()))
        step = (raw - self._raw) * (self.fps / size)
        self._velocity = self._velocity + self._share(_SPEED_CUTOFF) * (step - self._velocity)
        speed = np.linalg.norm(self._velocity, axis=1, keepdims=True)
        share = self._share(self.min_cutoff + self.beta * np.maximum(0, speed - _REST))
        self._smooth = self._smooth + share * (raw - self._smooth)
        self._raw = raw
        return self._smooth.astype(np.float32)

    def _share(self, cutoff: float | np.ndarray) -> float | np.ndarray:
        """Weight of the new value in a first-order low-pass with this cut-off in hertz."""
        return 1 / (1 + self.fps / (2 * math.pi * cutoff))
