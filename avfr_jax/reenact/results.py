"""Results of a run: its frames, its report, and the explanation of a single frame."""

import dataclasses
import logging
from typing import Any

import numpy as np

from avfr_jax.models.base import Explanation
from avfr_jax.motion import Motion
from avfr_jax.typing import UInt8


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One frame of the result.

    Attributes:
      frame: the result, uint8 `[S, S, 3]`; with `paste_back` of the source's size, at most 1280 on the longer side.
      generated: output of the model, uint8 `[S, S, 3]`.
      driving: driving crop, uint8 `[S, S, 3]`; None for recorded motion.
      source: source crop, uint8 `[S, S, 3]`.
      index: number of the driving frame.
      held: no face was in view and the last pose was held.
    """

    frame: UInt8[np.ndarray, "h w 3"]
    generated: UInt8[np.ndarray, "s s 3"]
    driving: UInt8[np.ndarray, "s s 3"] | None
    source: UInt8[np.ndarray, "s s 3"]
    index: int
    held: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Explained:
    """One frame of the result with its intermediate results.

    Attributes:
      source: source crop, uint8 `[S, S, 3]`.
      driving: driving crop, uint8 `[S, S, 3]`.
      source_keypoints: motion of the source, one frame.
      driving_keypoints: motion of the driving frame before retargeting.
      index: number of the driving frame.
      behind: frame, displacement, occlusion and attention.
    """

    source: Any
    driving: Any
    source_keypoints: Motion
    driving_keypoints: Motion
    index: int
    behind: Explanation


@dataclasses.dataclass
class Report:
    """Statistics of a run, updated while it is iterated.

    Attributes:
      frames: rendered frames, the held ones included.
      missing: numbers of the driving frames without a face.
      held: how many of them repeat the last pose.
      skipped: how many of them were left out.
      reference: number of the driving frame that corresponds to the source's pose.
      first_frame_seconds: from the start to the first frame.
      seconds: from the start to the last frame so far.
      warnings: sentences for the user.
    """

    frames: int = 0
    missing: list[int] = dataclasses.field(default_factory=list)
    held: int = 0
    skipped: int = 0
    reference: int | None = None
    first_frame_seconds: float | None = None
    seconds: float = 0.0
    warnings: list[str] = dataclasses.field(default_factory=list)

    @property
    def frames_per_second(self) -> float:
        """Of the whole run, start-up included."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0

    def warn(self, sentence: str) -> None:
        """Add a warning and log it."""
        self.warnings.append(sentence)
        logging.getLogger("avfr_jax").warning(sentence)
