"""The one interface of every model that animates.

A model is pure functions and a config. It declares what it needs beyond pixels; the reenactor, the training
objectives, the codec and the evaluation read that declaration, so that a new model works everywhere at once.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.errors import FaceError, MissingBackendError
from avfr_jax.ops.keypoints import Keypoints
from avfr_jax.typing import Float

MotionMode = Literal["absolute", "relative"]


@dataclasses.dataclass(frozen=True)
class Priors:
    """What a face backend knows of N frames, in the frames' own coordinates.

    Attributes:
      landmarks: `[N, 478, 3]` float32, (x, y) in [-1, 1] by pixel centres, z in the units of x; NaN where no face
        was found.
      person_mask: `[N, H, W]` float32 in [0, 1], or None where it was not asked for.
      dubbed: the mouths in the pictures are not to be looked at: the landmarks are those of what is to be said.
    """

    landmarks: Any
    person_mask: Any = None
    dubbed: bool = False

    def require(self) -> None:
        """Raises FaceError if any frame has no face."""
        missing = np.flatnonzero(np.isnan(np.asarray(self.landmarks)).any((1, 2)))
        if missing.size:
            raise FaceError(
                f"No face was found in {missing.size} of {len(self.landmarks)} frames, the first of them frame "
                f"{missing[0]}; give frames in which a face is in view."
            )


def normalise_landmarks(landmarks: Float[np.ndarray, "*n 3"], width: int, height: int) -> Float[np.ndarray, "*n 3"]:
    """Landmarks in pixels (centres at whole numbers) -> x and y in [-1, 1], z in the units of x; NaN stays NaN."""
    scale = np.asarray([2 / width, 2 / height, 2 / width], np.float32)
    offset = np.asarray([1 / width - 1, 1 / height - 1, 0], np.float32)
    return (landmarks * scale + offset).astype(np.float32)


# Frames [N, H, W, 3] float32 in [0, 1] -> their priors. A model that needs priors is given one.
FindPriors = Callable[[Float[np.ndarray, "n h w 3"], bool], Priors]


def face_priors(frames: Any, priors: Priors | None, find: FindPriors | None, *, masks: bool = False) -> Priors:
    """The given priors, else those that are found, with a face in every frame.

    Args:
      frames: `[N, H, W, 3]` float32 in [0, 1].
      priors: those that are known.
      find: what finds them.
      masks: find the person's mask of every frame too.

    Raises:
      FaceError: a frame shows no face and no priors were given.
      MissingBackendError: none were given and there is nothing to find them with.
    """
    if priors is not None:
        return priors
    if find is None:
        raise MissingBackendError("This model needs face landmarks: pass priors, or load it with load_model.")
    found = find(np.asarray(frames), masks)
    found.require()
    return found


def moved_by_mesh(model: "Animator") -> bool:
    """Whether the face mesh is what moves a model's pictures."""
    return model.family in ("landmark-warp", "mesh-fomm")


def can_dub(model: "Animator") -> bool:
    """Whether the mouth can be left to the sound: the mesh moves the model, or it was trained not to look at the
    driver's mouth (`Priors.dubbed`), which an attribute `dubs` says."""
    return bool(getattr(model, "dubs", False)) or moved_by_mesh(model)


_DRAWN = 256  # side at which priors are drawn, at least


def structure(priors: Priors, size: int) -> Float[np.ndarray, "n size size 2"]:
    """The structural prior of N square frames: the mesh drawn as lines, and the person's mask, both in [0, 1]. A frame
    without a face (NaN) has no lines.

    Lines are a pixel wide in a drawing of some 256 × 256, of which smaller frames get the mean: datasets are drawn at
    their own size and read at a fraction of it.
    """
    from avfr_jax.faces.mesh import mesh_image

    fold = max(1, _DRAWN // size)
    drawn = size * fold
    scale = np.asarray([drawn / 2, drawn / 2, drawn / 2], np.float32)
    offset = np.asarray([(drawn - 1) / 2, (drawn - 1) / 2, 0], np.float32)
    meshes = np.stack([mesh_image(one * scale + offset, drawn) for one in np.asarray(priors.landmarks)])
    meshes = meshes.reshape(-1, size, fold, size, fold).mean((2, 4))
    return np.stack([meshes, np.asarray(priors.person_mask, np.float32)], axis=-1)


def person_mask(image: Any, priors: Priors | None, find: FindPriors | None) -> Any:
    """The person's mask [H, W] of a source picture [H, W, 3] in [0, 1]: the one in `priors`, else one that is found.

    Where none can be, under a trace or without a face backend, it is one everywhere: the whole picture moves.
    """
    if priors is not None and priors.person_mask is not None:
        return jnp.asarray(priors.person_mask[0])
    if find is None or isinstance(image, jax.core.Tracer):
        return jnp.ones(image.shape[:2], jnp.float32)
    return jnp.asarray(find(np.asarray(image)[None], True).person_mask[0])


class Encoded(NamedTuple):
    """A source with everything that a model computes once for it; `content` is the model's own pytree."""

    image: Any
    content: Any


class Explanation(NamedTuple):
    """How N frames came about.

    Attributes:
      frames: `[N, H, W, 3]` in [0, 1], what `Animator.animate` gives.
      displacement: `[N, h, w, 2]`: how far from each place of a frame, in half frames (x, y), to look in the source.
      occlusion: `[N, h, w, 1]` in [0, 1], 0 where the source shows nothing of use; None where it is not estimated.
      attention: `[N, h, w, 1]` in [0, 1], where the sound draws the network to; None for models that do not listen.
    """

    frames: Any
    displacement: Any
    occlusion: Any = None
    attention: Any = None


@runtime_checkable
class Animator(Protocol):
    """A model that animates a source image by keypoints.

    Attributes:
      name: by which it is found.
      family: which implementation it is (`landmark-warp`, `fomm`, …).
      needs: what it wants beyond pixels, of {"priors", "person_masks", "audio"}: landmarks of every frame and the
        person's mask of the source; the mask of every frame; the sound around every driving frame.
      image_size: side of the square frames it was made for, in pixels.
      num_keypoints: K.
      batch_size: frames at once that suit a small machine.
    """

    name: str
    family: str
    needs: frozenset[str]
    image_size: int
    num_keypoints: int
    batch_size: int

    def keypoints(self, frames: Any, priors: Priors | None = None) -> Keypoints:
        """Keypoints of frames `[N, H, W, 3]` float32 in [0, 1]. Priors that are needed and not given are found."""
        ...

    def encode_source(self, source: Any, source_keypoints: Keypoints, priors: Priors | None = None) -> Encoded:
        """What depends on the source `[H, W, 3]` alone, for reuse with many driving frames."""
        ...

    def animate(self, source: Any, source_keypoints: Keypoints, driving_keypoints: Keypoints, mel: Any = None) -> Any:
        """Frames `[N, H, W, 3]` float32 in [0, 1]: the source `[H, W, 3]` (or its `Encoded`) posed as the driving
        keypoints of N frames say, `mel` `[N, 80, 16]` being heard around each."""
        ...

    def explain(
        self, source: Encoded, source_keypoints: Keypoints, driving_keypoints: Keypoints, mel: Any = None
    ) -> Explanation:
        """As `animate`, with what lies behind the frames."""
        ...

    def retarget(
        self,
        source: Keypoints,
        driving: Keypoints,
        initial: Keypoints,
        *,
        mode: MotionMode = "relative",
        adapt_scale: bool = True,
    ) -> Keypoints:
        """Driving keypoints of N frames as keypoints for this source.

        Args:
          source: of the source, one frame.
          driving: of N driving frames.
          initial: of the driving frame that shows the source's pose, one frame.
          mode: `absolute` takes the driving keypoints as they are; `relative` moves the source's own as the driving
            ones have moved since `initial`.
          adapt_scale: scale relative motion by the ratio of the two faces' sizes.
        """
        ...
