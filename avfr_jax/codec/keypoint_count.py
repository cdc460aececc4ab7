"""Adaptive number of keypoints: how many of a frame's are sent (face-vid2vid, Wang et al. 2021, appendix C.2).

A model that was trained with ordered keypoint dropout renders a frame from the first of its keypoints. The paper does
not state how the number is chosen; here it is the smallest that leaves out no keypoint that its expression moves by
more than a threshold, so that nothing is rendered at the sender.
"""

import numpy as np

from avfr_jax.codec.motion_space import Pose
from avfr_jax.errors import ConfigError
from avfr_jax.motion import Component, MotionSpec
from avfr_jax.typing import Float


def counted_component(spec: MotionSpec, name: str = "the model") -> Component:
    """The component of which a frame may have fewer rows.

    Args:
      spec: of the model.
      name: of the model, for the error.

    Raises:
      ConfigError: there is none.
    """
    for component in spec.components:
        if component.counted_by:
            return component
    raise ConfigError(f"{name} needs all of its keypoints: it was not trained with ordered keypoint dropout")


def count_rows(component: Component, rows: Float[np.ndarray, "*n k c"], threshold: float) -> np.ndarray:
    """The number of rows to send, up to the last that is longer than the threshold.

    Args:
      component: of the rows.
      rows: of one frame, or of N.
      threshold: in the component's scaled units (pixels of a 256 × 256 frame).

    Returns:
      int64 `[*n]`, from `component.min_rows` to K.
    """
    long = np.linalg.norm(np.asarray(rows, np.float64), axis=-1) * component.scale > threshold
    last = np.where(long, np.arange(1, rows.shape[-2] + 1), 0).max(-1)
    return np.maximum(last, component.min_rows)


def reduced(component: Component, pose: Pose, threshold: float) -> Pose:
    """A pose with the number of rows that `count_rows` finds."""
    count = count_rows(component, np.asarray(pose[component.name]), threshold)
    return pose | {component.counted_by: np.array([count], np.float32)}
