"""Reenactment: the library's front door."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from avfr_jax.packages import named_packages
from avfr_jax.reenact.results import Explained
from avfr_jax.reenact.session import Session
from avfr_jax.reenact.settings import Settings
from avfr_jax.typing import UInt8


class Reenactor(Settings):
    """Moves a source picture as a driving clip moves. A frozen dataclass: all state of a run is in its `Session`.

    The source's features are computed once, and frames in batches of one size. Memory does not grow with the clip,
    but for decoded frames of up to 512 MiB.

    Args:
      model: a model, its folder or its name.
      motion: `relative` moves the source from its own pose as the driving face moves from its reference frame;
        `absolute` takes over the driving face's pose.
      adapt_scale: scale the motion by the ratio of the faces' sizes.
      keep: the portrait's own `pose` stays and the driver gives the expression, lips and lids as openings; or its own
        `expression` stays and the driver gives the pose. A mouth that follows audio moves in either case. Only for
        models whose `MotionSpec.keeps` has it: those that the face mesh drives.
      view: a head pose asked for, `motion.View`: added to the driver's, or in its place. An `Orbit` turns the head over
        time. Only for models whose `MotionSpec.max_turn` is not 0, and no further than that.
      best_frame: the driving frame that corresponds to the source's pose: a number; `first`, the first with a face; or
        `auto`, of 48 frames spread over the clip the earliest unless another is clearly nearer to the source in pose,
        place and expression, where the model or the crop needs faces at all (else the first).
      crop: `auto` crops to the face, with one crop for a clip that holds it, else with one that follows it, to which
        motion is then relative; `fixed` with one crop in any case; `none` takes frames as face crops and only resizes
        them.
      missing_face: for driving frames without a face: `hold` the last pose, `skip` them, or `fail`.
      source_face: which face of the source, where it shows several: `largest`, `left`, `right`, `center` or a number
        counted from the left; None takes the largest and warns.
      driving_face: the same for the driving clip.
      smooth: low-pass the driving landmarks over time (One-Euro filter), for noisy clips; on good ones it costs a
        little accuracy. Models that take pixels alone are not affected.
      mouth: the mouth follows the `driver`, or the `sound` alone (`faces.spoken_mouth`) for models with
        `Capabilities.dubbing`; `auto` takes the sound where such a model is given another than the clip's own.
      paste_back: put the result back into the whole source picture.
      batch_size: frames at once; None takes the model's.
      face_backend: see `avfr_jax.faces.open_face_backend`.
      fps: frames a second at which a driving video is read, or `source` for its own rate. Frames without a rate are
        taken to have this one (25 with `source`). Audio windows and the output follow it.

    Raises:
      ConfigError: a setting is impossible, or there is no such model.
      CheckpointError: the model's folder is broken.
    """

    def reenact(self, source: Any, driving: Any, audio: Any = "driving") -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        """Render the frames one after another.

        Args:
          source: a picture's path, or an image `[H, W, 3]`, uint8 or float in [0, 1]; a video's path stands for its
            first frame.
          driving: a video's path, an array `[N, H, W, 3]`, an iterable of images or a `DrivingSource`; or an `.avfr`
            file's path, whose motion takes the place of face tracking; or None: the portrait talks by `audio`, a file
            or samples, with generated head motion and blinks, as long as that lasts. The same for a picture's path
            beside such `audio`, whose face then is the driving one. With a `view` and no audio, None is the
            portrait at rest: one frame, or the frames of an `Orbit`.
          audio: `driving` for the driving video's own, another file's path, samples at 16 kHz, or None for silence.
            Samples are `[T]` or `[T, channels]`, which are averaged; float in [-1, 1], or int16, int32 or uint8 at full
            scale. Frame i is at i / fps seconds. Only for models conditioned on audio, and for mouths
            that follow the sound.

        Yields:
          uint8 frames: `[S, S, 3]` with S the model's size, or the source's size with `paste_back`.

        Raises:
          InputError, FaceError: at the first frame, or (with `missing_face="fail"`) at the frame without a face.
          ConfigError: at the first frame: the clip has no such best frame, or an `.avfr` file cannot drive this model,
            or not with these settings; or without a driving clip.
        """
        with self.steps(source, driving, audio) as steps:
            for step in steps:
                yield step.frame

    @named_packages()
    def steps(self, source: Any, driving: Any, audio: Any = "driving") -> Session:
        """As `reenact`, with the source and driving crops beside each frame, and the run's `report`. The driving clip
        is opened at once."""
        return Session(self, source, driving, audio)

    @named_packages()
    def explain(self, source: Any, driving: Any, audio: Any = "driving", at: int | None = None) -> Explained:
        """One frame with its intermediate results.

        Args:
          source: as in `reenact`.
          driving: as in `reenact`, with images.
          audio: as in `reenact`.
          at: number of the driving frame; None takes the one in the middle of those sampled from the clip.

        Raises:
          InputError: as in `reenact`; recorded motion, which has no images.
          FaceError: no face in that frame, where the model or the crop needs one.
          ConfigError: the clip has no such frame.
        """
        return Session(self, source, driving, audio).explain(at)
