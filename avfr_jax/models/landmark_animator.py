"""`landmark-warp` behind the interface that every model shares."""

import dataclasses
from typing import Any

import jax.numpy as jnp

from avfr_jax.models import landmark_warp
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
from avfr_jax.models.landmark_warp import LandmarkWarpConfig
from avfr_jax.motion import FaceMesh, FaceMeshSpec


class LandmarkAnimator:
    """The face mesh as keypoints and a smooth warp between them; see `Animator`.

    FaceMesh come from the priors, which are found by a face backend where they are not given; with given priors, or
    given keypoints, every function can be jitted. A source that is encoded under a trace, where no person mask can be
    found, is warped whole, background and all.
    """

    family = "landmark-warp"
    capabilities = Capabilities(landmarks=True, mesh_driven=True)
    motion_spec = FaceMeshSpec()
    batch_size = 8

    def __init__(
        self, config: LandmarkWarpConfig, find_priors: FindPriors | None = None, name: str = "landmark-warp"
    ) -> None:
        self.config, self.name, self._find = config, name, find_priors
        self.image_size = config.size
        self.fingerprint = model_fingerprint(self.family, config, None)

    def keypoints(self, frames: Any, priors: Priors | None = None) -> FaceMesh:
        """See `Animator.keypoints`; FaceError where a frame shows no face and no priors were given."""
        return FaceMesh.from_landmarks(face_priors(frames, priors, self._find).landmarks)

    def encode_source(self, source: Any, source_keypoints: FaceMesh, priors: Priors | None = None) -> EncodedSource:
        """See `Animator.encode_source`."""
        image = jnp.asarray(source, jnp.float32)
        config = self._for(image)
        landmarks = source_keypoints.landmarks[0]
        mask = person_mask(image, priors, self._find)
        return EncodedSource(image, landmark_warp.encode(config, image, landmarks, mask))

    def animate(self, source: Any, source_keypoints: FaceMesh, driving_keypoints: FaceMesh, mel: Any = None) -> Any:
        """See `Animator.animate`."""
        encoded = source if isinstance(source, EncodedSource) else self.encode_source(source, source_keypoints)
        return landmark_warp.animate(self._for(encoded.image), encoded.content, source_keypoints, driving_keypoints)

    def explain(
        self, source: EncodedSource, source_keypoints: FaceMesh, driving_keypoints: FaceMesh, mel: Any = None
    ) -> Explanation:
        """See `Animator.explain`."""
        frames = self.animate(source, source_keypoints, driving_keypoints)
        face = source_keypoints.positions[0]
        displacement = landmark_warp.displacement(self._for(source.image), face, driving_keypoints)
        return Explanation(frames, displacement)

    def _for(self, image: Any) -> LandmarkWarpConfig:
        """The warp works at any size: the config of this one."""
        if image.shape[0] == self.config.size:
            return self.config
        return dataclasses.replace(self.config, size=int(image.shape[0]))
