"""`mesh-fomm` behind the interface that every model shares."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from avfr_jax.models import mesh_fomm
from avfr_jax.models.base import (
    BaseAnimator,
    Capabilities,
    EncodedSource,
    Explanation,
    FindPriors,
    Priors,
    face_priors,
    person_mask,
)
from avfr_jax.models.mesh_fomm import MeshFommConfig
from avfr_jax.motion import FaceMesh, MeshKeypoints
from avfr_jax.nn import inference


def prepare(config: MeshFommConfig, variables: Any, *, reduce_arithmetic: bool | None = None) -> dict[str, Any]:
    """Variables of detector and generator, folded and transformed (`nn.inference.prepare`)."""
    inputs, *generator_inputs = jax.eval_shape(lambda: mesh_fomm.example_inputs(config))
    return {
        "keypoint_detector": inference.prepare(
            mesh_fomm.keypoint_detector(config),
            variables["keypoint_detector"],
            inputs,
            reduce_arithmetic=reduce_arithmetic,
        ),
        "generator": inference.prepare(
            mesh_fomm.generator(config),
            variables["generator"],
            *generator_inputs,
            method=mesh_fomm.encode_and_animate,
            reduce_arithmetic=reduce_arithmetic,
        ),
    }


class MeshFommAnimator(BaseAnimator):
    """A `mesh-fomm` with weights; see `Animator`. The displacement that it explains is that of the dense warp, one of
    the three pictures in a frame."""

    family = "mesh-fomm"
    capabilities = Capabilities(landmarks=True, mesh_driven=True)
    batch_size = 4

    def __init__(
        self,
        config: MeshFommConfig,
        variables: Any,
        find_priors: FindPriors | None = None,
        name: str = "mesh-fomm",
        fingerprint: bytes | None = None,
    ) -> None:
        spec = mesh_fomm.motion_spec(config)
        super().__init__(config, variables, spec, config.image_size, name, find_priors, fingerprint)
        self._weights = prepare(config, variables)

    def keypoints(self, frames: Any, priors: Priors | None = None) -> MeshKeypoints:
        """See `Animator.keypoints`; FaceError where a frame shows no face and no priors were given."""
        landmarks = face_priors(frames, priors, self._find).landmarks
        return _detect(self.config, self._weights, *(jnp.asarray(x, jnp.float32) for x in (frames, landmarks)))

    def encode_source(
        self, source: Any, source_keypoints: MeshKeypoints, priors: Priors | None = None
    ) -> EncodedSource:
        """See `Animator.encode_source`."""
        image = jnp.asarray(source, jnp.float32)
        mask = person_mask(image, priors, self._find)[None]
        return EncodedSource(image, _encode(self.config, self._weights, image[None], mask, source_keypoints))

    def explain(
        self, source: EncodedSource, source_keypoints: MeshKeypoints, driving_keypoints: MeshKeypoints, mel: Any = None
    ) -> Explanation:
        """See `Animator.explain`."""
        return _generate(self.config, self._weights, source.content, source_keypoints, driving_keypoints)


@partial(jax.jit, static_argnums=0)
def _detect(config: MeshFommConfig, weights: Any, frames: Any, landmarks: Any) -> MeshKeypoints:
    inputs = mesh_fomm.detector_input(frames, landmarks, config)
    learned, _ = inference.apply(mesh_fomm.keypoint_detector(config), weights["keypoint_detector"], inputs)
    return MeshKeypoints(learned, FaceMesh.from_landmarks(landmarks))


@partial(jax.jit, static_argnums=0)
def _encode(config: MeshFommConfig, weights: Any, image: Any, mask: Any, keypoints: MeshKeypoints) -> Any:
    given = image, keypoints.mesh.landmarks, mask
    return inference.apply(mesh_fomm.generator(config), weights["generator"], *given, method="encode")


@partial(jax.jit, static_argnums=0)
def _generate(
    config: MeshFommConfig, weights: Any, encoded: Any, source: MeshKeypoints, driving: MeshKeypoints
) -> Explanation:
    out = inference.apply(mesh_fomm.generator(config), weights["generator"], encoded, source, driving)
    return Explanation(out.prediction, out.motion.displacement, out.motion.occlusion_map)
