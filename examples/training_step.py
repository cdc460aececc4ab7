"""Take training steps of a tiny First Order Motion Model on random images.

    python examples/training_step.py

The same step runs on one CPU and, sharded, on a pod: the mesh holds every device of every process.
"""

import dataclasses

import jax
import jax.numpy as jnp

from avfr_jax.models.dense_motion import DenseMotionConfig
from avfr_jax.models.fomm import GeneratorConfig
from avfr_jax.models.keypoints import KeypointDetectorConfig
from avfr_jax.training.optimisers import make_optimisers
from avfr_jax.training.sharding import make_mesh, put_batch
from avfr_jax.training.step import init_state, make_step
from experiments.configs.tiny import CONFIG as TINY
from experiments.experiment import build_objective

BATCH, STEPS = 2, 3
MODEL = dataclasses.replace(  # smaller still, so that it compiles in seconds
    TINY.model,
    image_size=32,
    num_keypoints=3,
    estimate_jacobian=False,
    keypoint_detector=KeypointDetectorConfig(block_expansion=4, num_blocks=2, max_features=8, scale_factor=0.5),
    dense_motion=DenseMotionConfig(block_expansion=4, num_blocks=2, max_features=8, scale_factor=0.5),
    generator=GeneratorConfig(block_expansion=4, num_down_blocks=1, max_features=8, num_bottleneck_blocks=1),
)
CONFIG = dataclasses.replace(TINY, model=MODEL, data=dataclasses.replace(TINY.data, size=32))


def main() -> list[float]:
    """Take the steps; gives the loss of each."""
    objective = build_objective(CONFIG)  # the config's model, loss terms and frozen networks
    optimisers = make_optimisers(CONFIG.optimiser, objective.networks)
    mesh = make_mesh(devices=jax.devices()[:1])  # make_mesh() takes all devices

    state = init_state(objective, optimisers, jax.random.key(0), mesh, CONFIG.step)
    step = make_step(objective, optimisers, mesh, CONFIG.step)
    shapes = objective.example_batch(BATCH)  # {"source": [2, 32, 32, 3], "driving": [2, 32, 32, 3]}
    keys = jax.random.split(jax.random.key(1), len(shapes))
    batch = {
        name: jax.random.uniform(key, (BATCH, 8, 8, 3)).repeat(4, 1).repeat(4, 2).astype(shape.dtype)
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }

    losses = []
    for _ in range(STEPS):
        state, metrics = step(state, put_batch(mesh, batch))  # the state passed in is donated
        losses.append(float(metrics["loss"]))
        print(f"step {int(state.step)}:", {name: round(float(jnp.mean(value)), 4) for name, value in metrics.items()})
    return losses


if __name__ == "__main__":
    main()
