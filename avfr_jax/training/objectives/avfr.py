"""Training of AVFR-GAN: eq. 2.4 of the thesis, and FOMM's losses where a config asks for them.

With the structural prior, batches hold behind the frames' colours the mesh image and the person mask; with audio, `mel`
`[N, 80, 16]`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from avfr_jax.media.mel import BANDS, WINDOW_COLUMNS
from avfr_jax.models import avfr, fomm, mouth_masking
from avfr_jax.motion import Keypoints
from avfr_jax.training.composed import Mode
from avfr_jax.training.forward import Forward
from avfr_jax.training.objective import Variables
from avfr_jax.training.objectives import animation
from avfr_jax.typing import Array


def example_batch(config: avfr.AvfrConfig, size: int, landmarks: bool) -> dict[str, Any]:
    """See `Task.example_batch`."""
    batch = animation.example_batch(config, config.detector_channels, size, landmarks or config.masks_mouths)
    mel = jax.ShapeDtypeStruct((size, BANDS, WINDOW_COLUMNS), jnp.float32)
    return {**batch, "mel": mel} if config.uses_audio else batch


def sample(config: avfr.AvfrConfig, key: Array, size: int) -> dict[str, Any]:
    """Random warps, and the pairs whose driving mouth is masked."""
    if not config.masks_mouths:
        return animation.sample_warps(config, key, size)
    warps, masked = jax.random.split(key)
    mask_mouth = jax.random.uniform(masked, (size,)) < config.mouth_masking
    return {**animation.sample_warps(config, warps, size), "mask_mouth": mask_mouth}


def detector_inputs(config: avfr.AvfrConfig, batch: Mapping[str, Any], random: Any) -> tuple[Any, Any]:
    """Source and driving frames with their priors, some mouths masked in training. Without the structural prior a
    mouth is masked only where there is sound: nothing else is left to learn its shape from."""
    driving = batch["driving"]
    if random is not None and "mask_mouth" in random:
        which = random["mask_mouth"]
        if not config.structural_prior:
            which &= avfr.has_sound(batch["mel"])
        driving = mouth_masking.mask_mouth(driving, batch["driving_landmarks"], which)
    return batch["source"], driving


def forward(
    config: avfr.AvfrConfig, variables: Variables, batch: Mapping[str, Any], random: Any, mode: Mode
) -> Forward:
    """See `Task.forward`."""
    source_frames, target = (batch[name][..., : config.num_channels] for name in ("source", "driving"))
    module = avfr.generator(config, axis_name=mode.axis_name, dtype=mode.dtype)

    def generate(source: Keypoints, driving: Keypoints) -> tuple[Any, Any]:
        given = (source_frames, source, driving)
        return mode.apply(module, variables["generator"], *given, mel=batch.get("mel"), remat=mode.remat)

    detector = fomm.keypoint_detector(config, axis_name=mode.axis_name, dtype=mode.dtype)
    inputs = detector_inputs(config, batch, random)
    result, generated = animation.animate(detector, generate, variables["keypoint_detector"], inputs, random, mode)
    outputs = {"motion": generated.motion, "attention": generated.attention}
    if generated.audio_features is not None and "driving_landmarks" in batch:
        outputs["mouth_opening"] = mouth_opening(generated.audio_features, batch)
    return result._replace(target=target, batch=batch, outputs=outputs)


def mouth_opening(features: Any, batch: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """Estimate from the audio encoder's map, opening of the driving mouth (mostly 0 to 1), and where both are known."""
    opening = 4 * mouth_masking.mouth_opening(batch["driving_landmarks"])  # NaN without a face
    known = avfr.has_sound(batch["mel"]) & jnp.isfinite(opening)
    return jnp.mean(features[..., 0], axis=(1, 2)), jnp.nan_to_num(opening), known


def provides(config: avfr.AvfrConfig) -> tuple[str, ...]:
    """See `Task.provides`."""
    return (*animation.provides(config), *(("mouth_opening",) if config.audio_encoder else ()))


TASK = animation.animation_task(
    forward,
    init=avfr.init,
    discriminator=fomm.discriminator,
    example_batch=example_batch,
    sample=sample,
    provides=provides,
)
