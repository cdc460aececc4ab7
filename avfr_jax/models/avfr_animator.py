"""AVFR-GAN behind the interface that every model shares, and its inference as pure functions, as `fomm_animator`'s."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from avfr_jax.models import avfr, fomm
from avfr_jax.models.avfr import AvfrConfig, Encoded
from avfr_jax.models.base import (
    BaseAnimator,
    Capabilities,
    EncodedSource,
    Explanation,
    FindPriors,
    Priors,
    face_priors,
)
from avfr_jax.models.fomm_animator import detect
from avfr_jax.models.mouth_masking import mask_mouth
from avfr_jax.motion import Keypoints
from avfr_jax.nn import inference
from avfr_jax.typing import Array, Float


def prepare(config: AvfrConfig, variables: Any, *, reduce_arithmetic: bool | None = None) -> dict[str, Any]:
    """Variables of detector and generator, folded and transformed (`nn.inference.prepare`)."""
    return fomm.prepare_with(config, avfr.generator(config), variables, reduce_arithmetic)


@partial(jax.jit, static_argnums=0)
def encode_source(config: AvfrConfig, variables: Any, source: Float[Array, "m h w c"]) -> Encoded:
    """Everything that depends on the source alone."""
    return inference.apply(avfr.generator(config), variables["generator"], source, method="encode_source")


@partial(jax.jit, static_argnums=0)
def generate(
    config: AvfrConfig,
    variables: Any,
    encoded: Encoded,
    source: Keypoints,
    driving: Keypoints,
    mel: Float[Array, "n 80 16"] | None = None,
) -> Explanation:
    """N frames, with motion and attention behind them; arguments as `fomm_animator.generate`'s.

    `mel` is the mel window around each frame, in [-4, 4]; None is silence.
    """

    def run(method: str, *arguments: Any) -> Any:
        return inference.apply(avfr.generator(config), variables["generator"], *arguments, method=method)

    motion = run("motion", encoded.fomm, source, driving)
    fused, attention, _ = run("fuse", run("move", encoded.fomm, motion), mel)

    def one(identity: Any, fused: Array, flow: Array) -> Any:
        return run("render", fused, identity, flow)

    frames = inference.frame_by_frame(one, encoded.identity, fused, motion.deformation)
    return Explanation(frames, motion.displacement, motion.occlusion_map, attention)


class AvfrAnimator(BaseAnimator):
    """An AVFR-GAN with weights; see `Animator`. Its capabilities follow from the parts that its config switches on."""

    family = "avfr"

    def __init__(
        self,
        config: AvfrConfig,
        variables: Any,
        find_priors: FindPriors | None = None,
        name: str = "avfr",
        fingerprint: bytes | None = None,
    ) -> None:
        spec = fomm.motion_spec(config)
        super().__init__(config, variables, spec, config.image_size, name, find_priors, fingerprint)
        self.capabilities = Capabilities(
            landmarks=config.structural_prior,
            person_masks=config.structural_prior,
            audio=config.uses_audio,
            mouth_masking=config.masks_mouths,
        )
        self._weights = prepare(config, variables)

    def keypoints(self, frames: Any, priors: Priors | None = None) -> Keypoints:
        """See `Animator.keypoints`. The mesh image of a frame without a face is empty, as in training."""
        inputs = jnp.asarray(frames, jnp.float32)
        if self.config.structural_prior:
            from avfr_jax.faces.mesh import structural_prior

            if priors is None or priors.person_mask is None:
                priors = face_priors(frames, None, self._find, masks=True)
            prior = structural_prior(priors.landmarks, priors.person_mask, self.image_size)
            inputs = jnp.concatenate([inputs, jnp.asarray(prior, jnp.float32)], axis=-1)
        if self.config.masks_mouths and priors is not None and priors.mask_mouth:
            inputs = mask_mouth(inputs, jnp.asarray(priors.landmarks, jnp.float32))
        return detect(self.config, self._weights, inputs)

    def encode_source(self, source: Any, source_keypoints: Keypoints, priors: Priors | None = None) -> EncodedSource:
        """See `Animator.encode_source`."""
        image = jnp.asarray(source, jnp.float32)
        return EncodedSource(image, encode_source(self.config, self._weights, image[None]))

    def explain(
        self, source: EncodedSource, source_keypoints: Keypoints, driving_keypoints: Keypoints, mel: Any = None
    ) -> Explanation:
        """See `Animator.explain`."""
        return generate(self.config, self._weights, source.content, source_keypoints, driving_keypoints, mel)
