"""Training of the residual codec: frames that `landmark-warp` renders, corrected with part of the bits.

Batches hold `source` and `driving` `[N, S, S, 5]` (colours, mesh image, person mask) and `source_landmarks` and
`driving_landmarks` `[N, 478, 3]` in [-1, 1], NaN without a face.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from avfr_jax.models import landmark_warp, residual
from avfr_jax.models.residual import ResidualConfig
from avfr_jax.motion import FaceMesh
from avfr_jax.training.composed import Mode, Task
from avfr_jax.training.objective import Variables
from avfr_jax.training.objectives import animation
from avfr_jax.training.objectives.images import compare, difference
from avfr_jax.training.terms import Forward
from avfr_jax.typing import Array

_FEW = (0.25, 8)  # share of the cells and number of maps of the second operating point of validation


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


def _predict(
    config: ResidualConfig, variables: Variables, batch: dict[str, Any], cells: float, maps: int, mode: Mode
) -> tuple[Any, Any]:
    """Frames corrected in a share of the cells by some maps, and as they were rendered."""
    n = len(batch["driving"])
    found = forward(config, variables, batch, (jnp.full(n, cells), jnp.full(n, maps)), mode)
    return jnp.clip(found.prediction, 0, 1), found.outputs["rendered"]


def evaluate(
    config: ResidualConfig, variables: Variables, batch: dict[str, Any], mode: Mode
) -> tuple[dict[str, Any], Any]:
    """See `images.compare`, with all bits; the baseline is the rendered frame. Also L1 with eight maps in a quarter of
    the cells (`l1_few`)."""
    target = batch["driving"][..., :3]
    prediction, rendered = _predict(config, variables, batch, 1.0, config.bits, mode)
    few, _ = _predict(config, variables, batch, *_FEW, mode)
    figures = compare(prediction, rendered, target, "rendered")
    return {**figures, "l1_few": jnp.abs(few - target).mean((1, 2, 3))}, prediction


def show(config: ResidualConfig, variables: Variables, batch: dict[str, Any], mode: Mode) -> dict[str, Any]:
    """See `Task.panels`."""
    target = batch["driving"][..., :3]
    prediction, rendered = _predict(config, variables, batch, 1.0, config.bits, mode)
    few, _ = _predict(config, variables, batch, *_FEW, mode)
    return {
        "driving": target,
        "rendered": rendered,
        "output": prediction,
        "few_bits": few,
        "difference": difference(prediction, target),
        "difference_of_rendered": difference(rendered, target),
    }


def rendered_frames(batch: Mapping[str, Any]) -> Any:
    """Frames that `landmark-warp` renders from each source and the driving landmarks; no gradient."""
    config = landmark_warp.LandmarkWarpConfig(size=batch["source"].shape[1])

    def one(source: Array, face: Array, moved: Array) -> Array:
        layers = landmark_warp.encode_traced(config, source[..., :3], face, source[..., 4])
        mesh = FaceMesh.from_landmarks(moved[None])
        return landmark_warp.render(config, layers, face[:, :2], mesh)[0, ..., :3]

    frames = jax.vmap(one)(batch["source"], batch["source_landmarks"], batch["driving_landmarks"])
    return jax.lax.stop_gradient(frames)


TASK = Task(
    init=residual.init,
    forward=forward,
    discriminator=residual.discriminator,
    example_batch=lambda config, size, landmarks: animation.example_batch(config, 5, size, True),
    evaluate=evaluate,
    panels=show,
    sample=sample,
)
