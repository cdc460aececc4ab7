"""Training of FOMM (Siarohin et al. 2019, section 3.3; reference program `modules/model.py` and `train.py`)."""

from collections.abc import Mapping
from typing import Any

from avfr_jax.models import fomm
from avfr_jax.motion import Keypoints
from avfr_jax.training.composed import Mode
from avfr_jax.training.forward import Forward
from avfr_jax.training.objective import Variables
from avfr_jax.training.objectives import animation


def forward(
    config: fomm.FommConfig, variables: Variables, batch: Mapping[str, Any], random: Any, mode: Mode
) -> Forward:
    """See `Task.forward`."""
    module = fomm.generator(config, axis_name=mode.axis_name, dtype=mode.dtype)

    def generate(source: Keypoints, driving: Keypoints) -> tuple[Any, Any]:
        return mode.apply(module, variables["generator"], batch["source"], source, driving, remat=mode.remat)

    detector = fomm.keypoint_detector(config, axis_name=mode.axis_name, dtype=mode.dtype)
    inputs = batch["source"], batch["driving"]
    result, generated = animation.animate(detector, generate, variables["keypoint_detector"], inputs, random, mode)
    return result._replace(target=batch["driving"], batch=batch, outputs={"motion": generated.motion})


TASK = animation.animation_task(
    forward,
    init=fomm.init,
    discriminator=fomm.discriminator,
    example_batch=lambda config, size, landmarks: animation.example_batch(config, config.num_channels, size, landmarks),
)
