"""The one interface of every model that animates.

A model is pure functions and a config. It declares what it needs beyond pixels; the reenactor, the training
objectives, the codec and the evaluation read that declaration, so that a new model works everywhere at once.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.checkpoints import flatten
from avfr_jax.config import changed_settings
from avfr_jax.errors import FaceError, MissingBackendError
from avfr_jax.motion import Motion, MotionSpec
from avfr_jax.typing import Float


@dataclasses.dataclass(frozen=True)
class Priors:
    """A face backend's results for N frames, in the frames' own coordinates.

    Attributes:
      landmarks: `[N, 478, 3]` float32, (x, y) in [-1, 1] by pixel centres, z in the units of x; NaN without a
        face.
      person_mask: `[N, H, W]` float32 in [0, 1], or None where it was not computed.
      mask_mouth: hide the mouths in the frames from the network: the landmarks are those of the speech to be shown.
    """

    landmarks: Any
    person_mask: Any = None
    mask_mouth: bool = False

    def require(self) -> None:
        """Raises FaceError if any frame has no face."""
        missing = np.flatnonzero(np.isnan(np.asarray(self.landmarks)).any((1, 2)))
        if missing.size:
            raise FaceError(
                f"No face was found in {missing.size} of {len(self.landmarks)} frames, the first of them frame "
                f"{missing[0]}; give frames in which a face is in view."
            )


# Frames [N, H, W, 3] float32 in [0, 1] -> their priors. A model that needs priors is given one.
FindPriors = Callable[[Float[np.ndarray, "n h w 3"], bool], Priors]


def face_priors(frames: Any, priors: Priors | None, find: FindPriors | None, *, masks: bool = False) -> Priors:
    """The given priors, else those of a face backend, with a face in every frame.

    Args:
      frames: `[N, H, W, 3]` float32 in [0, 1].
      priors: those given, or None.
      find: face backend.
      masks: find the person's mask of every frame too.

    Raises:
      FaceError: a frame shows no face and no priors were given.
      MissingBackendError: no priors and no face backend were given.
    """
    if priors is not None:
        return priors
    if find is None:
        raise MissingBackendError("This model needs face landmarks: pass priors, or load it with load_model.")
    found = find(np.asarray(frames), masks)
    found.require()
    return found


def person_mask(image: Any, priors: Priors | None, find: FindPriors | None) -> Any:
    """The person's mask [H, W] of a source picture [H, W, 3] in [0, 1]: the one in `priors`, else a face backend's.

    Where none can be, under a trace or without a face backend, it is one everywhere: the whole picture moves.
    """
    if priors is not None and priors.person_mask is not None:
        return jnp.asarray(priors.person_mask[0], jnp.float32)
    if find is None or isinstance(image, jax.core.Tracer):
        return jnp.ones(image.shape[:2], jnp.float32)
    return jnp.asarray(find(np.asarray(image)[None], True).person_mask[0], jnp.float32)


class EncodedSource(NamedTuple):
    """A source with everything that a model computes once for it; `content` is the model's own pytree."""

    image: Any
    content: Any


class Explanation(NamedTuple):
    """How N frames came about.

    Attributes:
      frames: `[N, H, W, 3]` in [0, 1], the result of `Animator.animate`.
      displacement: `[N, h, w, 2]`: from each position of a frame to the corresponding one of the source, in half
        frames (x, y).
      occlusion: `[N, h, w, 1]` in [0, 1], 0 where the source is occluded; None where it is not estimated.
      attention: `[N, h, w, 1]` in [0, 1], of the audio over the image; None for models without audio attention.
    """

    frames: Any
    displacement: Any
    occlusion: Any = None
    attention: Any = None


def driving_keypoints(model: "Animator", frames: Any, priors: Priors | None = None) -> Motion:
    """`Animator.keypoints` of frames that drive and are no source.

    A model whose keypoints have parts that only a source needs (face-vid2vid's canonical ones) has a method of this
    name that leaves them out: zeros stand for them.
    """
    find = getattr(model, "driving_keypoints", model.keypoints)
    motion: Motion = find(frames, priors)
    return motion


def model_fingerprint(family: str, config: Any, variables: Any = None) -> bytes:
    """Eight bytes that two models share only if they compute the same.

    SHA-256 over the family, the settings that differ from their defaults and the weights, the discriminator's left out.
    Settings that a config gains later change nothing; a changed default does.

    Args:
      family: its registry record.
      config: its config dataclass.
      variables: weights by network, `{network: {collection: tree}}`, or None.
    """
    settings = changed_settings(config)
    settings.pop("discriminator", None)
    digest = hashlib.sha256(json.dumps([family, settings], sort_keys=True, separators=(",", ":")).encode())
    networks = {name: tree for name, tree in (variables or {}).items() if name != "discriminator"}
    for name, leaf in sorted(flatten(networks).items()):
        array = np.asarray(leaf)
        digest.update(f"|{name}|{array.dtype.str}|{array.shape}|".encode())
        digest.update(array.tobytes())
    return digest.digest()[:8]


@dataclasses.dataclass(frozen=True)
class Capabilities:
    """Inputs that a model needs beyond pixels, and its abilities.

    Attributes:
      landmarks: it needs the landmarks of every frame and the person's mask of the source (`Priors`).
      person_masks: it needs the person's mask of every frame.
      audio: it needs the audio around every driving frame, as mel windows.
      mesh_driven: the face mesh moves its frames.
      mouth_masking: it was trained with masked mouths (`Priors.mask_mouth`), so that audio alone can drive the mouth.
      free_view: its head can be turned to any pose (`avfr reenact --rotate`).
    """

    landmarks: bool = False
    person_masks: bool = False
    audio: bool = False
    mesh_driven: bool = False
    mouth_masking: bool = False
    free_view: bool = False

    @property
    def dubbing(self) -> bool:
        """Whether audio can drive the mouth."""
        return self.mesh_driven or self.mouth_masking


@runtime_checkable
class Animator(Protocol):
    """A model that animates a source image.

    Attributes:
      name: as in the model store.
      family: its registry record (`avfr_jax.families`).
      fingerprint: eight bytes that two models share only if they compute the same: of family, config and weights.
      capabilities: inputs that it needs, and its abilities.
      motion_spec: layout, interpolation and retargeting of its motion.
      image_size: side of the square frames it was made for, in pixels.
      batch_size: frames at once that suit a small machine.
    """

    name: str
    family: str
    fingerprint: bytes
    capabilities: Capabilities
    motion_spec: MotionSpec
    image_size: int
    batch_size: int

    def keypoints(self, frames: Any, priors: Priors | None = None) -> Motion:
        """The motion of frames `[N, H, W, 3]` float32 in [0, 1]. Priors that are needed and not given are computed."""
        ...

    def encode_source(self, source: Any, source_keypoints: Motion, priors: Priors | None = None) -> EncodedSource:
        """Everything that depends on the source `[H, W, 3]` alone, for reuse with many driving frames."""
        ...

    def animate(self, source: Any, source_keypoints: Motion, driving_keypoints: Motion, mel: Any = None) -> Any:
        """Render frames.

        Args:
          source: `[H, W, 3]` float32 in [0, 1], or its `EncodedSource`.
          source_keypoints: motion of the source, one frame.
          driving_keypoints: motion of N frames, retargeted if wanted.
          mel: `[N, 80, 16]`, the mel window around each frame, for models with `Capabilities.audio`; None is silence.

        Returns:
          `[N, H, W, 3]` float32 in [0, 1].
        """
        ...

    def explain(
        self, source: EncodedSource, source_keypoints: Motion, driving_keypoints: Motion, mel: Any = None
    ) -> Explanation:
        """`animate` with its intermediate results."""
        ...


class BaseAnimator:
    """The part of `Animator` that all models share. A subclass has a `family`, `keypoints`, `encode_source` and
    `explain`."""

    family: str
    capabilities = Capabilities()
    batch_size = 2

    def __init__(
        self,
        config: Any,
        variables: Any,
        motion_spec: MotionSpec,
        image_size: int,
        name: str,
        find_priors: FindPriors | None = None,
        fingerprint: bytes | None = None,
    ) -> None:
        """`fingerprint` is computed where it is not given, as by the model store, which has just checked it."""
        self.config, self.name, self._find = config, name, find_priors
        self.motion_spec, self.image_size = motion_spec, image_size
        self.fingerprint = fingerprint or model_fingerprint(self.family, config, variables)

    def animate(self, source: Any, source_keypoints: Any, driving_keypoints: Any, mel: Any = None) -> Any:
        """See `Animator.animate`."""
        if not isinstance(source, EncodedSource):
            source = self.encode_source(source, source_keypoints)  # type: ignore[attr-defined]
        return self.explain(source, source_keypoints, driving_keypoints, mel).frames  # type: ignore[attr-defined]
