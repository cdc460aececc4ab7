"""Reference frames as both ends hold them, and what the model renders from them."""

import dataclasses
from typing import Any

import numpy as np

from avfr_jax.codec.motion_space import Pose, motion_of, stack
from avfr_jax.models.base import Animator, EncodedSource
from avfr_jax.motion import Motion
from avfr_jax.typing import Float, UInt8


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """A reference frame.

    Attributes:
      frame: number of the frame that it shows.
      pose: its pose, as transmitted.
      image: its decoded image; None in a template.
      motion: `pose` as the model's motion; None where nothing is rendered.
      encoded: the image, encoded by the model; None where nothing is rendered.
    """

    frame: int
    pose: Pose
    image: UInt8[np.ndarray, "s s 3"] | None = None
    motion: Motion | None = None
    encoded: EncodedSource | None = None


def encode_reference(model: Animator, frame: int, pose: Pose, image: UInt8[np.ndarray, "s s 3"]) -> Reference:
    """A reference frame, encoded for rendering. Parts of the motion that are not transmitted come from its image."""
    source = image.astype(np.float32) / 255
    spec = model.motion_spec
    own = model.keypoints(source[None]) if spec.needs_source else None
    motion = motion_of(spec, stack(pose), own)
    return Reference(frame, pose, image, motion, model.encode_source(source, motion))


def render(
    model: Animator, reference: Reference, poses: dict[str, Any], mel: Any = None, turn: Any = None
) -> Float[np.ndarray, "n s s 3"]:
    """Render N stacked poses from a reference frame; about [0, 1]. `turn(source, motion)` edits their motion."""
    assert reference.encoded is not None
    assert reference.motion is not None
    driving = motion_of(model.motion_spec, poses, reference.motion)
    if turn is not None:
        driving = turn(reference.motion, driving)
    return np.asarray(model.animate(reference.encoded, reference.motion, driving, mel))


def to_uint8(frames: Any) -> UInt8[np.ndarray, "*n s s 3"]:
    """Rendered frames as bytes."""
    return (np.clip(np.nan_to_num(frames), 0, 1) * 255 + 0.5).astype(np.uint8)
