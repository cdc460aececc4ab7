"""FOMM behind the interface that every model shares; inference runs on prepared weights (`fomm_inference`)."""

from typing import Any

import jax
import jax.numpy as jnp

from avfr_jax.models import fomm
from avfr_jax.models import fomm_inference as inference
from avfr_jax.models.base import Capabilities, EncodedSource, Explanation, Priors, model_fingerprint
from avfr_jax.models.fomm import FommConfig
from avfr_jax.motion import Keypoints

_detect = jax.jit(inference.detect, static_argnums=0)
_encode = jax.jit(inference.encode_source, static_argnums=0)
_animate = jax.jit(inference.animate, static_argnums=0)
_motion = jax.jit(inference.estimate_motion, static_argnums=0)


class FommAnimator:
    """A FOMM with weights. Keypoints and frames are computed at the model's own size; see `Animator`."""

    family = "fomm"
    capabilities = Capabilities()
    batch_size = 2

    def __init__(self, config: FommConfig, variables: Any, name: str = "fomm") -> None:
        self.config, self.name = config, name
        self.image_size, self.motion_spec = config.image_size, fomm.motion_spec(config)
        self.fingerprint = model_fingerprint(self.family, config, variables)
        self._prepared = inference.prepare(config, variables)  # the plain weights are not kept

    def keypoints(self, frames: Any, priors: Priors | None = None) -> Keypoints:
        """See `Animator.keypoints`; FOMM looks at pixels alone."""
        return _detect(self.config, self._prepared, jnp.asarray(frames, jnp.float32))

    def encode_source(self, source: Any, source_keypoints: Keypoints, priors: Priors | None = None) -> EncodedSource:
        """See `Animator.encode_source`."""
        image = jnp.asarray(source, jnp.float32)
        return EncodedSource(image, _encode(self.config, self._prepared, image[None]))

    def animate(self, source: Any, source_keypoints: Keypoints, driving_keypoints: Keypoints, mel: Any = None) -> Any:
        """See `Animator.animate`."""
        encoded = source if isinstance(source, EncodedSource) else self.encode_source(source, source_keypoints)
        return _animate(self.config, self._prepared, encoded.content, source_keypoints, driving_keypoints)

    def explain(
        self, source: EncodedSource, source_keypoints: Keypoints, driving_keypoints: Keypoints, mel: Any = None
    ) -> Explanation:
        """See `Animator.explain`."""
        given = (source.content, source_keypoints, driving_keypoints)
        motion = _motion(self.config, self._prepared, *given)
        return Explanation(_animate(self.config, self._prepared, *given), motion.displacement, motion.occlusion_map)
