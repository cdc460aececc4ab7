"""Training of the residual codec: frames that `landmark-warp` renders, corrected with part of the bits.

Batches hold `source` and `driving` `[N, S, S, 5]` (colours, mesh image, person mask) and `source_landmarks` and
`driving_landmarks` `[N, 478, 3]` in [-1, 1], NaN without a face.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from avfr_jax.metrics import image
from avfr_jax.models import landmark_warp, residual
from avfr_jax.models.residual import ResidualConfig
from avfr_jax.motion import FaceMesh
from avfr_jax.training.composed import Mode
from avfr_jax.training.forward import Forward
from avfr_jax.training.objective import Variables
from avfr_jax.training.objectives import animation
from avfr_jax.training.objectives.images import Predicted, image_task
from avfr_jax.typing import Array


def sample(config: ResidualConfig, key: Array, size: int) -> tuple[Array, Array]:
    """Share of the corrected cells, and number of maps, log-uniform."""
    one, two = jax.random.split(key)
    most = jnp.log2(jnp.float32(config.bits))
    maps = jnp.round(2 ** (most * jax.random.uniform(two, (size,)))).astype(jnp.int32)
    return jax.random.uniform(one, (size,), minval=0.05, maxval=1.3).clip(0, 1), maps


def forward(config: ResidualConfig, variables: Variables, batch: Mapping[str, Any], random: Any, mode: Mode) -> Forward:
    """See `Task.forward`."""
    rendered, true = rendered_frames(batch), batch["driving"][..., :3]
    kept = residual.kept_signs(config, true, rendered, *random)
    module = residual.generator(config, dtype=mode.dtype)
    prediction, new = mode.apply(module, variables["generator"], true, rendered, kept, remat=mode.remat)
    return Forward(prediction, true, {"generator": new}, batch, outputs={"rendered": rendered})


def predict(config: ResidualConfig, variables: Variables, batch: Mapping[str, Any], mode: Mode) -> Predicted:
    """Frames corrected with all bits; the baseline is the rendered frame. Also with eight maps in a quarter of the
    cells, as `l1_few`."""
    n = len(batch["driving"])

    def corrected(cells: float, maps: int) -> Forward:
        return forward(config, variables, batch, (jnp.full(n, cells), jnp.full(n, maps)), mode)

    whole, few = corrected(1.0, config.bits), jnp.clip(corrected(0.25, 8).prediction, 0, 1)
    metrics = {"l1_few": image.l1(few, whole.target)}
    panels = {"driving": whole.target, "few_bits": few}
    return Predicted(jnp.clip(whole.prediction, 0, 1), whole.outputs["rendered"], whole.target, metrics, panels)


def rendered_frames(batch: Mapping[str, Any]) -> Any:
    """Frames that `landmark-warp` renders from each source and the driving landmarks; no gradient."""
    config = landmark_warp.LandmarkWarpConfig(size=batch["source"].shape[1])

    def one(source: Array, face: Array, moved: Array) -> Array:
        layers = landmark_warp.encode_traced(config, source[..., :3], face, source[..., 4])
        mesh = FaceMesh.from_landmarks(moved[None])
        return landmark_warp.render(config, layers, face[:, :2], mesh)[0, ..., :3]

    frames = jax.vmap(one)(batch["source"], batch["source_landmarks"], batch["driving_landmarks"])
    return jax.lax.stop_gradient(frames)


TASK = image_task(
    predict,
    "rendered",
    init=residual.init,
    forward=forward,
    discriminator=residual.discriminator,
    example_batch=lambda config, size, landmarks: animation.example_batch(config, 5, size, True),
    sample=sample,
)
