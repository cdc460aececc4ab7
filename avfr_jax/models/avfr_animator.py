"""AVFR-GAN behind the interface that every model shares; inference runs on prepared weights (`avfr_inference`)."""

from typing import Any

import jax
import jax.numpy as jnp

from avfr_jax.models import avfr_inference as inference
from avfr_jax.models import fomm
from avfr_jax.models.avfr import AvfrConfig, mask_mouth
from avfr_jax.models.base import (
    Capabilities,
    EncodedSource,
    Explanation,
    FindPriors,
    Priors,
    face_priors,
    model_fingerprint,
)
from avfr_jax.motion import Keypoints

_detect = jax.jit(inference.detect, static_argnums=0)
_encode = jax.jit(inference.encode_source, static_argnums=0)
_generate = jax.jit(inference.generate, static_argnums=0)
_animate = jax.jit(inference.animate, static_argnums=0)


class AvfrAnimator:
    """An AVFR-GAN with weights; see `Animator`. What it needs beyond pixels follows from the parts that its config
    switches on: `priors` and `person_masks` for the structural prior, `audio` for what hears."""

    family = "avfr"
    batch_size = 2

    def __init__(
        self, config: AvfrConfig, variables: Any, find_priors: FindPriors | None = None, name: str = "avfr"
    ) -> None:
        self.config, self.name, self._find = config, name, find_priors
        self.image_size, self.motion_spec = config.image_size, fomm.motion_spec(config)
        self.fingerprint = model_fingerprint(self.family, config, variables)
        self.capabilities = Capabilities(
            landmarks=config.structural_prior,
            person_masks=config.structural_prior,
            audio=config.uses_audio,
            mouth_masking=config.masks_mouths,
        )
        self._prepared = inference.prepare(config, variables)

    def keypoints(self, frames: Any, priors: Priors | None = None) -> Keypoints:
        """See `Animator.keypoints`. A frame without a face has an empty drawing, as in training."""
        seen = jnp.asarray(frames, jnp.float32)
        if self.config.structural_prior:
            from avfr_jax.faces.mesh import structural_prior

            if priors is None or priors.person_mask is None:
                priors = face_priors(frames, None, self._find, masks=True)
            seen = jnp.concatenate(
                [seen, jnp.asarray(structural_prior(priors.landmarks, priors.person_mask, self.image_size))], axis=-1
            )
        if self.config.masks_mouths and priors is not None and priors.mask_mouth:
            seen = mask_mouth(seen, jnp.asarray(priors.landmarks))
        return _detect(self.config, self._prepared, seen)

    def encode_source(self, source: Any, source_keypoints: Keypoints, priors: Priors | None = None) -> EncodedSource:
        """See `Animator.encode_source`."""
        image = jnp.asarray(source, jnp.float32)
        return EncodedSource(image, _encode(self.config, self._prepared, image[None]))

    def animate(self, source: Any, source_keypoints: Keypoints, driving_keypoints: Keypoints, mel: Any = None) -> Any:
        """See `Animator.animate`; `mel` `[N, 80, 16]` is what is heard around each frame (`avfr_jax.media.mel`), None
        silence."""
        encoded = source if isinstance(source, EncodedSource) else self.encode_source(source, source_keypoints)
        return _animate(self.config, self._prepared, encoded.content, source_keypoints, driving_keypoints, mel)

    def explain(
        self, source: EncodedSource, source_keypoints: Keypoints, driving_keypoints: Keypoints, mel: Any = None
    ) -> Explanation:
        """See `Animator.explain`."""
        out = _generate(self.config, self._prepared, source.content, source_keypoints, driving_keypoints, mel)
        return Explanation(out.prediction, out.motion.displacement, out.motion.occlusion_map, out.attention)
