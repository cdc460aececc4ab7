"""AVFR-GAN for inference: what is FOMM's in it on prepared weights (`fomm_inference`), its own parts through Flax."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from avfr_jax.models import avfr
from avfr_jax.models import fomm_inference as base
from avfr_jax.models.avfr import AvfrConfig, AvfrGenerator, Encoded, Generated
from avfr_jax.motion import Keypoints
from avfr_jax.nn.inference import quick_convolutions
from avfr_jax.typing import Array, Float

_OWN = ("audio_encoder", "audio_attention", "identity_encoder", "identity_decoder", "join")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Prepared:
    """Weights ready for inference, a pytree of float32 arrays.

    Attributes:
      shared: of the networks that are FOMM's.
      own: Flax variables of the generator's parts that FOMM does not have.
    """

    shared: base.Prepared
    own: Any


def prepare(config: AvfrConfig, variables: Any) -> Prepared:
    """Fold and transform a model's weights, on the host; `variables` as from `avfr.init`."""
    own = {
        kind: {name: part for name, part in tree.items() if name in _OWN}
        for kind, tree in variables["generator"].items()
    }
    return Prepared(base.prepare(config, variables), jax.tree.map(jnp.asarray, own))


def _own(config: AvfrConfig, prepared: Prepared, method: Any, *arguments: Any) -> Any:
    with quick_convolutions():
        return avfr.generator(config).apply(prepared.own, *arguments, method=method)


def detect(config: AvfrConfig, prepared: Prepared, seen: Float[Array, "n h w c"]) -> Keypoints:
    """Keypoints of N frames with their structural prior, if the config has one, behind the colours."""
    return base.detect(config, prepared.shared, seen)


def encode_source(config: AvfrConfig, prepared: Prepared, source: Float[Array, "m h w c"]) -> Encoded:
    """As `AvfrGenerator.encode_source`."""
    levels: Any = []
    if config.identity_aware_generator:
        levels = _own(config, prepared, lambda m, x: m.identity_encoder(x), source)
    return Encoded(base.encode_source(config, prepared.shared, source), levels)


def generate(
    config: AvfrConfig,
    prepared: Prepared,
    encoded: Encoded,
    source: Keypoints,
    driving: Keypoints,
    mel: Float[Array, "n 80 16"] | None,
) -> Generated:
    """As `AvfrGenerator.animate`."""
    motion = base.estimate_motion(config, prepared.shared, encoded.fomm, source, driving)
    moved = base.move(config, encoded.fomm.features, motion.deformation, motion.occlusion_map)
    fused, attention, _ = _own(config, prepared, AvfrGenerator.fuse, moved, mel)

    def one(identity: Any, fused: Array, flow: Array) -> Array:
        if config.identity_aware_generator:
            return _own(config, prepared, AvfrGenerator.draw_identity, fused, identity, flow)
        assert prepared.shared.decoder is not None
        return base.draw(prepared.shared.decoder, fused)

    prediction = base.frame_by_frame(one, encoded.identity, fused, motion.deformation)
    return Generated(prediction, motion, attention)


def animate(
    config: AvfrConfig,
    prepared: Prepared,
    encoded: Encoded,
    source: Keypoints,
    driving: Keypoints,
    mel: Float[Array, "n 80 16"] | None,
) -> Float[Array, "n h w c"]:
    """N frames in [0, 1]: the prediction of `generate`."""
    return generate(config, prepared, encoded, source, driving, mel).prediction
