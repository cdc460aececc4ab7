"""What AVFR-GAN is trained for: eq. 2.4 of the thesis, and FOMM's losses where a config asks for them."""

from typing import Any

import jax
import jax.numpy as jnp

from avfr_jax.models import avfr
from avfr_jax.motion import Keypoints
from avfr_jax.training import panels
from avfr_jax.training.objective import Variables
from avfr_jax.training.objectives.fomm import FommObjective
from avfr_jax.training.objectives.pictures import apply_module
from avfr_jax.typing import Array


class AvfrObjective(FommObjective):
    """Losses of `avfr`. Where the config has the structural prior, batches carry behind the frames' colours the mesh's
    drawing and the person's mask; where it has a part that hears, `mel` `[N, 80, 16]`."""

    config: avfr.AvfrConfig

    def init_networks(self, key: Array) -> Variables:
        """See `FommObjective.init_networks`."""
        return avfr.init(self.config, key)

    def example_batch(self, size: int) -> dict[str, Any]:
        """See `Objective.example_batch`."""
        side = self.config.image_size
        frames = jax.ShapeDtypeStruct((size, side, side, self.config.detector_channels), jnp.float32)
        mel = jax.ShapeDtypeStruct((size, avfr.BANDS, avfr.COLUMNS), jnp.float32)
        batch = {**super().example_batch(size), "source": frames, "driving": frames}
        return {**batch, "mel": mel} if self.config.uses_audio else batch

    @property
    def needs_landmarks(self) -> bool:
        """See `FommObjective.needs_landmarks`."""
        return super().needs_landmarks or self.config.masks_mouths or self.loss.heard > 0

    def draw(self, key: Array, size: int) -> Any:
        """See `Objective.draw`; also the pairs whose driving mouth is hidden."""
        if not self.config.masks_mouths:
            return super().draw(key, size)
        warps, hidden = jax.random.split(key)
        return {**super().draw(warps, size), "hidden": jax.random.uniform(hidden, (size,)) < self.config.mouth_masking}

    def prepare(self, batch: dict[str, Any], draws: Any = None) -> dict[str, Any]:
        """See `FommObjective.prepare`."""
        colours = {name: batch[name][..., : self.config.num_channels] for name in ("source", "driving")}
        seen = {f"{name}_seen": batch[name] for name in ("source", "driving")}
        if draws is not None and "hidden" in draws:
            which = draws["hidden"]
            if not self.config.structural_prior:
                which &= avfr.has_sound(batch["mel"])  # what nothing tells cannot be learnt
            seen["driving_seen"] = avfr.mask_mouth(seen["driving_seen"], batch["driving_landmarks"], which)
        return {**batch, **colours, **seen}

    def detector_input(self, frames: Any, batch: dict[str, Any], which: str) -> Any:
        """See `FommObjective.detector_input`."""
        return batch[f"{which}_seen"]

    def generate(
        self, variables: Variables, batch: dict[str, Any], source: Keypoints, driving: Keypoints, train: bool, axis: Any
    ) -> Any:
        """See `FommObjective.generate`."""
        module = avfr.generator(self.config, axis_name=axis, dtype=self.dtype)
        given = (batch["source"], source, driving)
        return apply_module(module, variables["generator"], train, *given, mel=batch.get("mel"))

    def further_terms(self, generated: Any, source: Keypoints, driving: Keypoints, batch: Any) -> dict[str, Any]:
        """See `FommObjective.further_terms`; also what the sound is to tell."""
        terms = super().further_terms(generated, source, driving, batch)
        if self.loss.heard:
            opening = 4 * avfr.mouth_opening(batch["driving_landmarks"])  # mostly 0 to 1; NaN without a face
            away = jnp.mean(generated.heard[..., 0], axis=(1, 2)) - jnp.nan_to_num(opening)
            known = avfr.has_sound(batch["mel"]) & jnp.isfinite(opening)
            terms["heard"] = self.loss.heard * jnp.mean(jnp.abs(away) * known)
        return terms

    def further_panels(self, generated: Any, shape: tuple[int, int]) -> dict[str, Any]:
        """See `FommObjective.further_panels`: where the sound draws the network to."""
        attention = generated.attention
        return {} if attention is None else {"attention": panels.draw_occlusion(attention, shape)}
