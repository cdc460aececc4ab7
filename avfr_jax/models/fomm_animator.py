"""FOMM behind the interface that every model shares, and its inference as pure functions:

    weights = prepare(config, variables)
    encoded = encode_source(config, weights, source)
    out = generate(config, weights, encoded, detect(config, weights, source), detect(config, weights, driving))

The functions take a network's own variables or what `prepare` returned; jit them with the config static.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from avfr_jax.models import fomm
from avfr_jax.models.base import BaseAnimator, EncodedSource, Explanation, Priors
from avfr_jax.models.dense_motion import Motion
from avfr_jax.models.fomm import FommConfig, SourceFeatures
from avfr_jax.motion import Keypoints
from avfr_jax.nn import inference
from avfr_jax.typing import Array, Float


def prepare(config: FommConfig, variables: Any, *, reduce_arithmetic: bool | None = None) -> dict[str, Any]:
    """Variables of detector and generator, folded and transformed (`nn.inference.prepare`)."""
    return fomm.prepare_with(config, fomm.generator(config), variables, reduce_arithmetic)


@partial(jax.jit, static_argnums=0)
def detect(config: FommConfig, variables: Any, frames: Float[Array, "n h w c"]) -> Keypoints:
    """Keypoints of N frames in [0, 1]."""
    return inference.apply(fomm.keypoint_detector(config), variables["keypoint_detector"], frames)[0]


@partial(jax.jit, static_argnums=0)
def encode_source(config: FommConfig, variables: Any, source: Float[Array, "m h w c"]) -> SourceFeatures:
    """Everything that depends on the source alone."""
    return inference.apply(fomm.generator(config), variables["generator"], source, method="encode")


@partial(jax.jit, static_argnums=0)
def generate(
    config: FommConfig, variables: Any, encoded: SourceFeatures, source: Keypoints, driving: Keypoints
) -> Explanation:
    """N frames, with the motion behind them.

    Args:
      config: the model.
      variables: see above.
      encoded: from `encode_source`, of one source or of N.
      source: the source's keypoints; one frame, or N.
      driving: keypoints of N frames, retargeted if wanted.
    """
    module, weights = fomm.generator(config), variables["generator"]
    motion = inference.apply(module, weights, encoded, source, driving, method="motion")

    def one(features: Array, flow: Array, occlusion: Array | None) -> Any:
        given = SourceFeatures(None, None, features), Motion(flow, occlusion, None, None)
        return inference.apply(module, weights, *given, method="decode").prediction

    frames = inference.frame_by_frame(one, encoded.features, motion.deformation, motion.occlusion_map)
    return Explanation(frames, motion.displacement, motion.occlusion_map)


class FommAnimator(BaseAnimator):
    """A FOMM with weights. Keypoints and frames are computed at the model's own size; see `Animator`."""

    family = "fomm"

    def __init__(
        self, config: FommConfig, variables: Any, name: str = "fomm", fingerprint: bytes | None = None
    ) -> None:
        super().__init__(config, variables, fomm.motion_spec(config), config.image_size, name, fingerprint=fingerprint)
        self._weights = prepare(config, variables)  # the plain weights are not kept

    def keypoints(self, frames: Any, priors: Priors | None = None) -> Keypoints:
        """See `Animator.keypoints`; priors are ignored."""
        return detect(self.config, self._weights, jnp.asarray(frames, jnp.float32))

    def encode_source(self, source: Any, source_keypoints: Keypoints, priors: Priors | None = None) -> EncodedSource:
        """See `Animator.encode_source`."""
        image = jnp.asarray(source, jnp.float32)
        return EncodedSource(image, encode_source(self.config, self._weights, image[None]))

    def explain(
        self, source: EncodedSource, source_keypoints: Keypoints, driving_keypoints: Keypoints, mel: Any = None
    ) -> Explanation:
        """See `Animator.explain`."""
        return generate(self.config, self._weights, source.content, source_keypoints, driving_keypoints)
