"""What loss terms read: the forward pass of a family's networks, and its discriminator's output."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from avfr_jax.ops.tps import RandomWarp
from avfr_jax.training.objective import Variables


class Forward(NamedTuple):
    """The generator side's forward pass, as the terms read it.

    Attributes:
      prediction: generated images `[N, H, W, C]` in [0, 1].
      target: true images.
      collections: `{network: {collection: tree}}`, the updated running statistics.
      batch: the batch behind it.
      source: learned `Keypoints` of the source frames.
      driving: of the driving frames.
      transformed: of the driving frames under `warp`.
      warp: random warp of the equivariance terms.
      outputs: further outputs of the family's generator by name.
      condition: further inputs of the discriminator; no gradient flows into them.
    """

    prediction: Any
    target: Any
    collections: Variables
    batch: Mapping[str, Any] = {}
    source: Any = None
    driving: Any = None
    transformed: Any = None
    warp: RandomWarp | None = None
    outputs: Mapping[str, Any] = {}
    condition: tuple[Any, ...] = ()


class Heads(NamedTuple):
    """`Forward.outputs["heads"]` of face-vid2vid, each of the source and of the driving frames.

    Attributes:
      motion: `HeadMotion`.
      angles: `[N, 3]` yaw, pitch and roll in degrees as `ops.rotations` takes them.
      meshes: `MeshHead` of the face meshes, with a point for each keypoint; None in a batch without landmarks.
    """

    motion: tuple[Any, Any]
    angles: tuple[Any, Any]
    meshes: tuple[Any, Any] | None = None


class TurnedSources(NamedTuple):
    """`Forward.outputs["turned"]` of face-vid2vid: the sources turned at random.

    Attributes:
      landmarks: `[N, 478, 2]` where the face mesh has them then; NaN where they are not in view.
      motion: `VolumeMotion` to these heads.
      share: `[N, H, W, 1]` of the warped source in their frames; None unless a term reads it.
    """

    landmarks: Any
    motion: Any
    share: Any = None


class Judgement(NamedTuple):
    """Discriminator outputs: feature maps (of each scale's layers in turn) and one map of logits a scale, of targets
    (`real`) and predictions (`fake`)."""

    real_maps: Any
    real_logits: Any
    fake_maps: Any
    fake_logits: Any


Frozen = Mapping[str, Any]  # frozen networks by the name of their term
Reads = tuple[str, ...]
