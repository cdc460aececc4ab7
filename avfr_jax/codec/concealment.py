"""Concealment and interpolation at the receiver: the motion of frames that were skipped or lost."""

import numpy as np

from avfr_jax.codec.motion_decoder import FrameMotion, MotionDecoder
from avfr_jax.codec.motion_space import MotionSpace, wrapped
from avfr_jax.codec.reference_decoder import ReferenceDecoder

_REACH = 12  # frames over which the motion is interpolated to the next that is known


class Concealment:
    """Gives the motion of every frame: decoded, else interpolated in equal steps towards the next decoded one where
    that is near (angles along the shortest arc), else held.

    Attributes:
      at: number of the next frame to be shown.
      last: motion of the frame before it; None at the beginning.
      since: frames shown after the last whose motion was decoded.
      held: frames shown whose motion never came, skipped ones aside.
    """

    def __init__(self, space: MotionSpace, motion: MotionDecoder, references: ReferenceDecoder) -> None:
        self._space, self._motion, self._references = space, motion, references
        self.at = self.since = self.held = 0
        self.last: FrameMotion | None = None

    @property
    def until(self) -> int:
        """The number after the last frame whose motion has come."""
        return max(self._motion.frames, default=self.at - 1) + 1

    def advance(self) -> None:
        """Count the next frame as shown."""
        self.since = self.since + 1 if self.known(self.at) is None else 0
        self.held += self.since > self._motion.skipped
        self._motion.frames.pop(self.at, None)
        self.at += 1

    def known(self, frame: int) -> FrameMotion | None:
        """The decoded motion of a frame, if its reference frame is there."""
        known = self._motion.frames.get(frame)
        return known if known is not None and known.pivot in self._references.kept else None

    def motion(self, frame: int, last: FrameMotion | None) -> FrameMotion:
        """The motion of a frame, given that of the frame before it."""
        known = self.known(frame)
        if known is not None:
            return known
        kept = self._references.kept
        if last is None or last.pivot not in kept:
            return FrameMotion(next(iter(kept)), np.zeros(sum(self._space.counts), np.float32))
        for left in range(1, _REACH + 1):
            following = self.known(frame + left)
            if following is not None:
                change = wrapped(self._relative_to(following, last.pivot) - last.vector, self._space.period)
                return FrameMotion(last.pivot, last.vector + change / (left + 1))
        return last

    def _relative_to(self, motion: FrameMotion, pivot: int) -> np.ndarray:
        """The vector of the same pose relative to another reference frame."""
        if motion.pivot == pivot:
            return np.asarray(motion.vector)
        kept = self._references.kept
        pose = self._space.pose_at(kept[motion.pivot].pose, motion.vector)
        return self._space.vector(pose, kept[pivot].pose)
