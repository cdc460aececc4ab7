"""Take training steps of a tiny First Order Motion Model on random images.

    python examples/training_step.py

The same step runs on one CPU and, sharded, on a pod: `make_mesh()` takes every device of every process.
"""

import jax
import jax.numpy as jnp

from avfr_jax.families import find_family, resolve
from avfr_jax.models.dense_motion import DenseMotionConfig
from avfr_jax.models.fomm import FommConfig, GeneratorConfig
from avfr_jax.models.keypoints import KeypointDetectorConfig
from avfr_jax.training.composed import ComposedObjective
from avfr_jax.training.optimisers import OptimiserConfig, make_optimisers
from avfr_jax.training.sharding import make_mesh, put_batch
from avfr_jax.training.step import init_state, make_step
from avfr_jax.training.terms import EquivarianceValue, PyramidL1

BATCH, SIZE, STEPS = 2, 32, 5
MODEL = FommConfig(
    image_size=SIZE,
    num_keypoints=3,
    estimate_jacobian=False,
    keypoint_detector=KeypointDetectorConfig(block_expansion=4, num_blocks=2, max_features=8, scale_factor=0.5),
    dense_motion=DenseMotionConfig(block_expansion=4, num_blocks=2, max_features=8, scale_factor=0.5),
    generator=GeneratorConfig(block_expansion=4, num_down_blocks=1, max_features=8, num_bottleneck_blocks=1),
)


def main() -> list[float]:
    """Take the steps; gives the loss of each."""
    terms = (PyramidL1(10.0), EquivarianceValue(1.0))  # the loss: weighted terms
    objective = ComposedObjective(resolve(find_family("fomm").objective), MODEL, terms)
    optimisers = make_optimisers(OptimiserConfig(learning_rate=5e-3), objective.networks)
    mesh = make_mesh(devices=jax.devices()[:1])

    state = init_state(objective, optimisers, jax.random.key(0), mesh)
    step = make_step(objective, optimisers, mesh)
    coarse = jax.random.uniform(jax.random.key(1), (BATCH, 8, 8, 3))
    source = jax.image.resize(coarse, (BATCH, SIZE, SIZE, 3), "linear")
    batch = put_batch(mesh, {"source": source, "driving": jnp.roll(source, 2, axis=2)})

    losses = []
    for _ in range(STEPS):
        state, metrics = step(state, batch)  # the state passed in is donated
        losses.append(float(metrics["loss"]))
        print(f"step {int(state.step)}:", {name: round(float(value), 4) for name, value in metrics.items()})
    return losses


if __name__ == "__main__":
    main()
