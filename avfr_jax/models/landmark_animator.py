"""`landmark-warp` behind the interface that every model shares."""

import dataclasses
from typing import Any

import jax.numpy as jnp

from avfr_jax.models import landmark_warp
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
from avfr_jax.models.landmark_warp import LandmarkWarpConfig
from avfr_jax.motion import FaceMesh, FaceMeshSpec


class LandmarkAnimator(BaseAnimator):
    """The face mesh as keypoints and a smooth warp between them; see `Animator`.

    With given priors, or given keypoints, every function can be jitted. A source that is encoded under a trace, where
    no person mask can be computed, is warped whole, background and all.
    """

    family = "landmark-warp"
    capabilities = Capabilities(landmarks=True, mesh_driven=True)
    batch_size = 8

    def __init__(
        self,
        config: LandmarkWarpConfig,
        find_priors: FindPriors | None = None,
        name: str = "landmark-warp",
        fingerprint: bytes | None = None,
    ) -> None:
        super().__init__(config, None, FaceMeshSpec(), config.size, name, find_priors, fingerprint)

    def keypoints(self, frames: Any, priors: Priors | None = None) -> FaceMesh:
        """See `Animator.keypoints`; FaceError where a frame shows no face and no priors were given."""
        return FaceMesh.from_landmarks(face_priors(frames, priors, self._find).landmarks)

    def encode_source(self, source: Any, source_keypoints: FaceMesh, priors: Priors | None = None) -> EncodedSource:
        """See `Animator.encode_source`; any size."""
        image = jnp.asarray(source, jnp.float32)
        mask = person_mask(image, priors, self._find)
        content = landmark_warp.encode(self._at_size(image), image, source_keypoints.landmarks[0], mask)
        return EncodedSource(image, content)

    def animate(self, source: Any, source_keypoints: FaceMesh, driving_keypoints: FaceMesh, mel: Any = None) -> Any:
        """See `Animator.animate`."""
        encoded = source if isinstance(source, EncodedSource) else self.encode_source(source, source_keypoints)
        config = self._at_size(encoded.image)
        return landmark_warp.animate(config, encoded.content, source_keypoints, driving_keypoints)

    def explain(
        self, source: EncodedSource, source_keypoints: FaceMesh, driving_keypoints: FaceMesh, mel: Any = None
    ) -> Explanation:
        """See `Animator.explain`."""
        frames = self.animate(source, source_keypoints, driving_keypoints)
        face = source_keypoints.positions[0]
        return Explanation(frames, landmark_warp.displacement(self._at_size(source.image), face, driving_keypoints))

    def _at_size(self, image: Any) -> LandmarkWarpConfig:
        return dataclasses.replace(self.config, size=int(image.shape[0]))
