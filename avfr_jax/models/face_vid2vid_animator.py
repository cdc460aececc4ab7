"""face-vid2vid behind the interface that every model shares, and its inference as pure functions:

    weights = prepare(config, variables)
    head = detect(config, weights, source)                  # canonical keypoints, pose and expression
    encoded = encode_source(config, weights, source)        # the feature volume, once a source
    out = generate(config, weights, encoded, head, estimate(config, weights, driving))

The functions take a network's own variables or what `prepare` returned; jit them with the config static.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from avfr_jax.faces.mesh_head import mesh_head
from avfr_jax.models import face_vid2vid
from avfr_jax.models.base import (
    BaseAnimator,
    Capabilities,
    EncodedSource,
    Explanation,
    FindPriors,
    Priors,
    face_priors,
)
from avfr_jax.models.face_vid2vid import FaceVid2VidConfig, SourceFeatures
from avfr_jax.motion import HeadMotion
from avfr_jax.nn import inference
from avfr_jax.typing import Array, Float


def prepare(config: FaceVid2VidConfig, variables: Any, *, reduce_arithmetic: bool | None = None) -> dict[str, Any]:
    """Variables of the networks but the discriminator, folded and transformed (`nn.inference.prepare`)."""
    image, head = jax.eval_shape(lambda: face_vid2vid.example_inputs(config))
    networks: dict[str, tuple[Any, tuple[Any, ...], str]] = {
        "keypoint_detector": (face_vid2vid.keypoint_detector(config), (image,), "positions"),
        "head_pose": (face_vid2vid.head_pose(config), (image,), "__call__"),
        "generator": (face_vid2vid.generator(config), (image, head, head), "__call__"),
    }
    return {
        name: inference.prepare(
            network, variables[name], *examples, method=method, reduce_arithmetic=reduce_arithmetic
        )
        for name, (network, examples, method) in networks.items()
        if name in variables
    }  # fmt: skip


def _canonical(config: FaceVid2VidConfig, variables: Any, frames: Array) -> Array:
    network = face_vid2vid.keypoint_detector(config)
    positions: Array = inference.apply(network, variables["keypoint_detector"], frames, method="positions")
    return positions


def _composed(config: FaceVid2VidConfig, variables: Any, canonical: Array, frames: Array) -> HeadMotion:
    pose = inference.apply(face_vid2vid.head_pose(config), variables["head_pose"], frames)
    return face_vid2vid.composed(config, canonical, pose)


@partial(jax.jit, static_argnums=0)
def detect(config: FaceVid2VidConfig, variables: Any, frames: Float[Array, "n h w c"]) -> HeadMotion:
    """Heads of N frames in [0, 1], each with its own canonical keypoints."""
    positions = _canonical(config, variables, frames)
    if config.keypoints == "direct":
        return face_vid2vid.detected(positions)
    return _composed(config, variables, positions, frames)


@partial(jax.jit, static_argnums=0)
def estimate(config: FaceVid2VidConfig, variables: Any, frames: Float[Array, "n h w c"]) -> HeadMotion:
    """Heads of N frames in [0, 1] without canonical keypoints, which are zero: those of the source count."""
    if config.keypoints == "direct":
        return face_vid2vid.detected(_canonical(config, variables, frames))
    none = jnp.zeros((1, config.num_keypoints, 3), jnp.float32)
    return _composed(config, variables, none, frames)


@partial(jax.jit, static_argnums=0)
def mesh_motion(config: FaceVid2VidConfig, landmarks: Float[Array, "n 478 3"]) -> HeadMotion:
    """Heads of N frames from normalised landmarks, with `keypoints="mesh"`."""
    return mesh_head(landmarks, config.mesh_points).motion()


@partial(jax.jit, static_argnums=0)
def encode_source(config: FaceVid2VidConfig, variables: Any, source: Float[Array, "m h w c"]) -> SourceFeatures:
    """Everything that depends on the source's picture alone, but its keypoints."""
    return inference.apply(face_vid2vid.generator(config), variables["generator"], source, method="encode")


@partial(jax.jit, static_argnums=0)
def generate(
    config: FaceVid2VidConfig, variables: Any, encoded: SourceFeatures, source: HeadMotion, driving: HeadMotion
) -> Explanation:
    """N frames, with the motion behind them; on a CPU one after the other.

    Args:
      config: the model.
      variables: see above.
      encoded: from `encode_source`, of one source or of N.
      source: the source's head; one frame, or N.
      driving: heads of N frames, retargeted if wanted; their canonical keypoints are replaced by the source's.
    """
    module, weights = face_vid2vid.generator(config), variables["generator"]
    driving = dataclasses.replace(driving, canonical=jnp.broadcast_to(source.canonical, driving.expression.shape))

    def one(shared: tuple[SourceFeatures, HeadMotion], head: HeadMotion) -> Explanation:
        features, here = shared
        motion = inference.apply(module, weights, features, here, head, method="motion")
        frames = inference.apply(module, weights, features, motion, method="decode").prediction
        return Explanation(frames, motion.displacement, motion.occlusion_map)

    out: Explanation = inference.frame_by_frame(one, (encoded, source), driving)
    return out


class FaceVid2VidAnimator(BaseAnimator):
    """A face-vid2vid with weights. Keypoints and frames are computed at the model's own size; see `Animator`."""

    family = "face-vid2vid"
    batch_size = 4

    def __init__(
        self,
        config: FaceVid2VidConfig,
        variables: Any,
        find_priors: FindPriors | None = None,
        name: str = "face-vid2vid",
        fingerprint: bytes | None = None,
    ) -> None:
        spec, mesh = face_vid2vid.motion_spec(config), config.keypoints == "mesh"
        super().__init__(config, variables, spec, config.image_size, name, find_priors, fingerprint)
        self.capabilities = Capabilities(landmarks=mesh, mesh_driven=mesh, free_view=spec.turns)
        self._weights = prepare(config, variables)

    def keypoints(self, frames: Any, priors: Priors | None = None) -> HeadMotion:
        """See `Animator.keypoints`; priors count with keypoints of the face mesh alone, where FaceError is raised if a
        frame shows no face and none were given. Every frame gets its own canonical keypoints, so that each can be a
        source."""
        if self.config.keypoints == "mesh":
            landmarks = face_priors(frames, priors, self._find).landmarks
            return mesh_motion(self.config, jnp.asarray(landmarks, jnp.float32))
        return detect(self.config, self._weights, jnp.asarray(frames, jnp.float32))

    def driving_keypoints(self, frames: Any, priors: Priors | None = None) -> HeadMotion:
        """See `models.base.driving_keypoints`: without canonical keypoints, in a third of the time."""
        if self.config.keypoints == "mesh":
            return self.keypoints(frames, priors)
        return estimate(self.config, self._weights, jnp.asarray(frames, jnp.float32))

    def encode_source(self, source: Any, source_keypoints: HeadMotion, priors: Priors | None = None) -> EncodedSource:
        """See `Animator.encode_source`."""
        image = jnp.asarray(source, jnp.float32)
        return EncodedSource(image, encode_source(self.config, self._weights, image[None]))

    def explain(
        self, source: EncodedSource, source_keypoints: HeadMotion, driving_keypoints: HeadMotion, mel: Any = None
    ) -> Explanation:
        """See `Animator.explain`; the displacement is the flow projected onto the image."""
        return generate(self.config, self._weights, source.content, source_keypoints, driving_keypoints)
