"""A view applied to the motion of one run, frame after frame."""

from collections.abc import Callable
from typing import Any

import numpy as np

from avfr_jax.errors import ConfigError
from avfr_jax.motion.base import MotionSpec
from avfr_jax.motion.view import LARGEST_TURN, FrameNumbers, View


def check_turns(spec: MotionSpec, name: str) -> None:
    """Raises ConfigError where a model of this motion cannot turn a head; `name` is the model's."""
    if not spec.max_turn:
        raise ConfigError(
            f"{name} cannot turn a head, since its motion has no head pose to change; use landmark-warp or mesh-fomm."
        )


class Turner:
    """Turns the heads of one run, and reports once where they are turned less than asked.

    Args:
      spec: of the motion.
      view: the pose asked for.
      name: the model's, for messages.
      warn: takes a sentence.

    Raises:
      ConfigError: the motion knows no head pose.
    """

    def __init__(self, spec: MotionSpec, view: View, name: str, warn: Callable[[str], None]) -> None:
        check_turns(spec, name)
        limit = LARGEST_TURN if view.mode == "absolute" else spec.max_turn
        self._spec, self._view, self._name, self._warn = spec, view.within(limit), name, warn
        self._rest: Any = None
        self._reported = self._view != view
        if self._reported:
            warn(
                f"The rotation was clamped to {limit:g}° about each axis, as far as "
                + ("any head is turned." if limit == LARGEST_TURN else f"{name} turns a head.")
            )

    def __call__(self, source: Any, moved: Any, frames: FrameNumbers) -> Any:
        """The motion of frames with the head turned.

        Args:
          source: of the picture that is animated, one frame. The first one's place and size are those from which
            absolute translation is measured throughout.
          moved: of N frames.
          frames: their numbers.
        """
        self._rest = source if self._rest is None else self._rest
        change, absolute = self._view.change(frames), self._view.mode == "absolute"
        turned = self._spec.turn(source, moved, change, absolute=absolute, rest=self._rest)
        if not self._reported and bool(np.asarray(turned.limited).any()):
            self._reported = True
            self._warn(
                f"The head is turned less than asked: {self._name} turns it by up to {self._spec.max_turn:g}° from the "
                "pose in the picture."
            )
        return turned.motion
