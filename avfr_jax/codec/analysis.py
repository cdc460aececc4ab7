"""Analysis of a frame at the sender: its motion, and the view that the reference-frame decision compares."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from avfr_jax.codec.background import Background
from avfr_jax.codec.mesh_basis import FRAME
from avfr_jax.codec.motion_space import Pose, pose_of
from avfr_jax.codec.pivots import View
from avfr_jax.faces.pose import head_pose
from avfr_jax.landmarks import landmarks_to_pixels
from avfr_jax.models.base import Animator, Priors, driving_keypoints


class FrameAnalysis:
    """Analyses frames in order.

    Args:
      model: whose motion is sent.
      background: embeds a frame's background, see `find_embedder`; None leaves backgrounds out.
      check_interval: frames from one embedding to the next.
    """

    def __init__(self, model: Animator, background: Callable[[Any], Background] | None, check_interval: int) -> None:
        self._model, self._embed, self._interval = model, background, check_interval
        self._mesh_alone = all(component.name == "mesh" for component in model.motion_spec.components)
        self._pose: Pose | None = None
        self._background: Background | None = None

    def pose(self, frame: Any, landmarks: Any, mask: Any = None) -> Pose | None:
        """The pose of a frame; the last one where no face was detected and the model needs landmarks.

        Args:
          frame: uint8 `[S, S, 3]`.
          landmarks: `[478, 3]` in [-1, 1], or None.
          mask: of the person, `[S, S]` in [0, 1], or None.
        """
        if landmarks is None and self._model.capabilities.landmarks:
            return self._pose
        if self._mesh_alone:
            self._pose = {"mesh": np.asarray(landmarks, np.float32)}
        else:
            masks = None if mask is None else mask[None]
            priors = None if landmarks is None else Priors(np.asarray(landmarks)[None], masks)
            motion = driving_keypoints(self._model, frame[None].astype(np.float32) / 255, priors)
            self._pose = pose_of(self._model.motion_spec, motion)
        return self._pose

    def view(self, at: int, frame: Any, landmarks: Any) -> View:
        """The view of frame number `at`. Backgrounds are embedded at intervals."""
        if at % self._interval == 0:
            self._embed_background(frame)
        return View(None if landmarks is None else _angles(landmarks), self._background)

    def pivot_view(self, view: View, at: int, frame: Any) -> View:
        """The view of a frame that becomes a pivot, with its own background."""
        if at % self._interval:
            self._embed_background(frame)
        return dataclasses.replace(view, background=self._background)

    def _embed_background(self, frame: Any) -> None:
        if self._embed is not None:
            self._background = self._embed(frame)


def _angles(landmarks: Any) -> Any:
    pose = head_pose(landmarks_to_pixels(np.asarray(landmarks), FRAME), FRAME, FRAME)
    return np.array([pose.yaw, pose.pitch, pose.roll])
