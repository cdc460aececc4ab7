"""`mesh-fomm` behind the interface that every model shares."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from avfr_jax.models import mesh_fomm
from avfr_jax.models.base import (
    Capabilities,
    EncodedSource,
    Explanation,
    FindPriors,
    Priors,
    face_priors,
    model_fingerprint,
    person_mask,
)
from avfr_jax.models.mesh_fomm import MeshFommConfig
from avfr_jax.motion import FaceMesh, MeshKeypoints
from avfr_jax.nn.inference import quick_convolutions


class MeshFommAnimator:
    """A `mesh-fomm` with weights; see `Animator`.

    The mesh comes from the priors, which a face backend computes where they are not given.
    """

    family = "mesh-fomm"
    capabilities = Capabilities(landmarks=True, mesh_driven=True)
    batch_size = 4

    def __init__(
        self, config: MeshFommConfig, variables: Any, find_priors: FindPriors | None = None, name: str = "mesh-fomm"
    ) -> None:
        self.config, self.name, self._find = config, name, find_priors
        self.image_size, self.motion_spec = config.image_size, mesh_fomm.motion_spec(config)
        self.fingerprint = model_fingerprint(self.family, config, variables)
        self._weights = jax.tree.map(jnp.asarray, {k: variables[k] for k in ("keypoint_detector", "generator")})

    def keypoints(self, frames: Any, priors: Priors | None = None) -> MeshKeypoints:
        """See `Animator.keypoints`; FaceError where a frame shows no face and no priors were given."""
        landmarks = face_priors(frames, priors, self._find).landmarks
        return _detect(self.config, self._weights, jnp.asarray(frames, jnp.float32), jnp.asarray(landmarks))

    def encode_source(
        self, source: Any, source_keypoints: MeshKeypoints, priors: Priors | None = None
    ) -> EncodedSource:
        """See `Animator.encode_source`."""
        image = jnp.asarray(source, jnp.float32)
        mask = person_mask(image, priors, self._find)[None]
        return EncodedSource(image, _encode(self.config, self._weights, image[None], mask, source_keypoints))

    def animate(
        self, source: Any, source_keypoints: MeshKeypoints, driving_keypoints: MeshKeypoints, mel: Any = None
    ) -> Any:
        """See `Animator.animate`."""
        encoded = source if isinstance(source, EncodedSource) else self.encode_source(source, source_keypoints)
        return _animate(self.config, self._weights, encoded.content, source_keypoints, driving_keypoints)

    def explain(
        self, source: EncodedSource, source_keypoints: MeshKeypoints, driving_keypoints: MeshKeypoints, mel: Any = None
    ) -> Explanation:
        """See `Animator.explain`; the displacement is that of the dense warp, which shares the frame with two other
        pictures."""
        out = _generate(self.config, self._weights, source.content, source_keypoints, driving_keypoints)
        return Explanation(out.prediction, out.motion.displacement, out.motion.occlusion_map)


@partial(jax.jit, static_argnums=0)
def _detect(config: MeshFommConfig, weights: Any, frames: Any, landmarks: Any) -> MeshKeypoints:
    inputs = mesh_fomm.detector_input(frames, landmarks, config)
    with quick_convolutions():
        learned, _ = mesh_fomm.keypoint_detector(config).apply(weights["keypoint_detector"], inputs)
    return MeshKeypoints(learned, FaceMesh.from_landmarks(landmarks))


@partial(jax.jit, static_argnums=0)
def _encode(config: MeshFommConfig, weights: Any, image: Any, mask: Any, keypoints: MeshKeypoints) -> Any:
    module = mesh_fomm.generator(config)
    return module.apply(weights["generator"], image, keypoints.mesh.landmarks, mask, method=module.encode)


@partial(jax.jit, static_argnums=0)
def _generate(config: MeshFommConfig, weights: Any, encoded: Any, source: MeshKeypoints, driving: MeshKeypoints) -> Any:
    with quick_convolutions():
        return mesh_fomm.generator(config).apply(weights["generator"], encoded, source, driving)


@partial(jax.jit, static_argnums=0)
def _animate(config: MeshFommConfig, weights: Any, encoded: Any, source: MeshKeypoints, driving: MeshKeypoints) -> Any:
    return _generate(config, weights, encoded, source, driving).prediction
