"""`landmark-warp` behind the interface that every model shares."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.errors import MissingBackendError
from avfr_jax.models import landmark_warp
from avfr_jax.models.base import Encoded, FindPriors, MotionMode, Priors
from avfr_jax.models.landmark_warp import LandmarkWarpConfig
from avfr_jax.ops.keypoints import Keypoints


class LandmarkAnimator:
    """The face mesh as keypoints and a smooth warp between them; see `Animator`.

    Keypoints come from the priors, which are found by a face backend where they are not given; with given priors, or
    given keypoints, every function can be jitted. A source that is encoded under a trace, where no person mask can be
    found, is warped whole, background and all.
    """

    family = "landmark-warp"
    needs = frozenset({"priors"})
    batch_size = 8
    num_keypoints = landmark_warp.LANDMARKS

    def __init__(
        self, config: LandmarkWarpConfig, find_priors: FindPriors | None = None, name: str = "landmark-warp"
    ) -> None:
        self.config, self.name, self._find = config, name, find_priors
        self.image_size = config.size

    def _priors(self, frames: Any, with_mask: bool) -> Priors:
        if self._find is None:
            raise MissingBackendError("This model needs face landmarks: pass priors, or load it with load_model.")
        priors = self._find(np.asarray(frames), with_mask)
        priors.require()
        return priors

    def keypoints(self, frames: Any, priors: Priors | None = None) -> Keypoints:
        """See `Animator.keypoints`; FaceError where a frame shows no face and no priors were given."""
        priors = priors or self._priors(frames, False)
        return landmark_warp.keypoints_from_landmarks(priors.landmarks)

    def encode_source(self, source: Any, source_keypoints: Keypoints, priors: Priors | None = None) -> Encoded:
        """See `Animator.encode_source`."""
        image = jnp.asarray(source, jnp.float32)
        config = self._for(image)
        landmarks = _landmarks(source_keypoints)[0]
        if priors is not None and priors.person_mask is not None:
            mask = jnp.asarray(priors.person_mask[0])
        elif self._find is None or isinstance(image, jax.core.Tracer):
            mask = jnp.ones(image.shape[:2], jnp.float32)
        else:
            mask = jnp.asarray(self._find(np.asarray(image)[None], True).person_mask[0])
        return Encoded(image, landmark_warp.encode(config, image, landmarks, mask))

    def animate(self, source: Any, source_keypoints: Keypoints, driving_keypoints: Keypoints, mel: Any = None) -> Any:
        """See `Animator.animate`."""
        encoded = source if isinstance(source, Encoded) else self.encode_source(source, source_keypoints)
        return landmark_warp.animate(self._for(encoded.image), encoded.content, source_keypoints, driving_keypoints)

    def retarget(
        self,
        source: Keypoints,
        driving: Keypoints,
        initial: Keypoints,
        *,
        mode: MotionMode = "relative",
        adapt_scale: bool = True,
    ) -> Keypoints:
        """See `Animator.retarget`; head pose and expression are transferred apart from each other."""
        return landmark_warp.retarget(source, driving, initial, mode=mode, adapt_scale=adapt_scale)

    def _for(self, image: Any) -> LandmarkWarpConfig:
        """The warp works at any size: the config of this one."""
        if image.shape[0] == self.config.size:
            return self.config
        return dataclasses.replace(self.config, size=int(image.shape[0]))


def _landmarks(keypoints: Keypoints) -> Any:
    """Landmarks [N, 478, 3] of keypoints: the head's shape turned, scaled and moved to its place."""
    scale = jnp.exp(keypoints.translation[:, 2])[:, None, None]
    turned = scale * jnp.einsum("nij,nkj->nki", keypoints.rotation, keypoints.deformation)
    shift = keypoints.translation.at[:, 2].set(0.0)
    return turned + shift[:, None]
