"""Rendering at the receiver: frames from reference frames and motion, in batches."""

import functools
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from avfr_jax.arguments import whole_number
from avfr_jax.codec.audio_features import AudioFeatureBuffer
from avfr_jax.codec.concealment import Concealment
from avfr_jax.codec.motion_decoder import FrameMotion
from avfr_jax.codec.motion_space import MotionSpace
from avfr_jax.codec.reference import Reference, render, to_uint8
from avfr_jax.models.base import Animator
from avfr_jax.motion import View
from avfr_jax.motion.turner import Turner

if TYPE_CHECKING:
    from avfr_jax.models.interpolation import Interpolator

FADE = 50
"""Frames before a reference frame that are rendered from it too, with `cross_fade`."""
_MAX_RUN = 64  # frames that are given out together


class Renderer:
    """Renders the frames of a stream in order.

    Args:
      model: renders.
      space: of the motion.
      references: reference frames by number.
      motion: gives each frame's.
      skipped: frames between two whose motion is sent.
      audio: features of the sound around each frame, for audio-conditioned models.
      batch_size: frames rendered at once; None takes the model's.
      interpolator: synthesises skipped frames from the rendered ones around them; None interpolates their motion.
      cross_fade: blend the renderings of the frames between two reference frames, weighted by distance in time.
      view: pose that the viewer asks for; None shows the head as it was sent.

    Raises:
      ConfigError: the model cannot turn a head.
    """

    def __init__(
        self,
        model: Animator,
        space: MotionSpace,
        references: dict[int, Reference],
        motion: Concealment,
        skipped: int,
        audio: AudioFeatureBuffer | None,
        *,
        batch_size: int | None,
        interpolator: "Interpolator | None",
        cross_fade: bool,
        view: View | None = None,
    ) -> None:
        self._model, self._space, self._references, self._motion = model, space, references, motion
        self._interval, self._audio = skipped + 1, audio
        self._batch = model.batch_size if batch_size is None else whole_number(batch_size, "batch_size", 1)
        self._interpolator, self._cross_fade = interpolator, cross_fade
        self._turn: Any = None
        if view is not None:  # the same for all frames
            turner = Turner(model.motion_spec, view, model.name, logging.getLogger("avfr_jax").warning)
            self._turn = functools.partial(turner, frames=(0,))
        self._previous: tuple[Reference, Any, Any] | None = None  # reference, vector and image of the last frame
        self.images: dict[int, Any] = {}  # rendered before their turn, for the interpolator

    def next_frames(self, until: int) -> Sequence[Any]:
        """The next frames, one or more, of those before `until`; uint8 `[S, S, 3]` each."""
        return self._by_motion(until) if self._interpolator is None else [self._by_interpolator(self._motion.at)]

    def _by_motion(self, until: int) -> Sequence[Any]:
        """A batch of poses relative to one reference frame; a pose that repeats is rendered once."""
        poses: list[FrameMotion] = []
        which: list[int] = []  # of the poses, for each frame
        first = self._motion.at
        for frame in range(first, min(until, first + _MAX_RUN)):
            motion = self._motion.motion(frame, self._motion.last)
            if poses and motion.pivot != poses[0].pivot:
                break
            if not poses or self._audio is not None or (motion.vector != poses[-1].vector).any():
                if len(poses) == self._batch:
                    break
                poses.append(motion)
            which.append(len(poses) - 1)
            self._motion.last = motion
        reference, previous = self._references[poses[0].pivot], self._previous
        repeats = (
            len(poses) == 1
            and self._audio is None
            and previous is not None
            and previous[0] is reference
            and (previous[1] == poses[0].vector).all()
            and not (self._cross_fade and self._following(first))
        )
        if repeats:
            assert previous is not None
            return [previous[2].copy() for _ in which]
        images = self._animate(poses, range(first, first + len(which)), which)
        self._previous = reference, poses[-1].vector, images[-1]
        return images

    def _by_interpolator(self, frame: int) -> Any:
        """One frame: rendered where its motion is known, else interpolated between images, else the one before it."""
        sent = frame - 1 - self._motion.since
        images = self.images = {i: image for i, image in self.images.items() if i >= frame - self._interval}
        if frame not in images and self._motion.known(frame) is not None:
            self._render_ahead(frame)
        elif frame not in images and sent in images:
            self._interpolate(sent)
        if frame not in images:
            images[frame] = images[frame - 1] if frame - 1 in images else self._by_motion(frame + 1)[0]
        return images[frame]

    def _interpolate(self, sent: int) -> None:
        """Synthesise the images between a frame's and the next one's that is sent, where that is known."""
        assert self._interpolator is not None
        following = sent + self._interval
        if following not in self.images and self._motion.known(following) is not None:
            self._render_ahead(following)
        if following in self.images:
            two = self.images[sent], self.images[following]
            for i, image in enumerate(self._interpolator(*two, self._interval - 1)):
                self.images[sent + 1 + i] = image

    def _render_ahead(self, first: int) -> None:
        """Render a batch of frames whose motion is known."""
        poses: list[FrameMotion] = []
        for frame in range(first, first + self._batch * self._interval, self._interval):
            motion = self._motion.known(frame)
            if motion is None or (poses and motion.pivot != poses[0].pivot):
                break
            poses.append(motion)
        frames = range(first, first + len(poses) * self._interval, self._interval)
        self._motion.last = poses[-1]
        self.images.update(zip(frames, self._animate(poses, frames, range(len(poses))), strict=True))

    def _animate(self, poses: Sequence[FrameMotion], frames: Sequence[int], which: Sequence[int]) -> Sequence[Any]:
        """Frames of one reference frame; the batch is padded to its full size.

        Args:
          poses: relative to it.
          frames: numbers of the frames.
          which: index of the pose of each frame.
        """
        missing, chosen = self._batch - len(poses), np.array(which)
        vectors = np.stack([pose.vector for pose in [*poses, *[poses[-1]] * missing]])
        reference = self._references[poses[0].pivot]
        driving = self._space.poses(reference.pose, vectors)
        mel = None
        if self._audio is not None:
            mel = self._audio.windows(np.array([*frames, *[frames[-1]] * missing]))
        images = render(self._model, reference, driving, mel, self._turn)[chosen]
        following = self._following(frames[0]) if self._cross_fade else None
        if following is not None and reference.frame <= frames[0]:
            other = render(self._model, following, driving, mel, self._turn)[chosen]
            share = (np.array(frames) - reference.frame) / (following.frame - reference.frame)
            images = images + np.clip(share, 0, 1).astype(np.float32)[:, None, None, None] * (other - images)
        return list(to_uint8(images))

    def _following(self, frame: int) -> Reference | None:
        """The next reference frame that shows a later frame, if it does so soon."""
        later = [reference for reference in self._references.values() if frame < reference.frame <= frame + FADE]
        return min(later, key=lambda reference: reference.frame, default=None)
