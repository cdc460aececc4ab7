"""The same global batch on one device, on several simulated ones, and on two processes: is it the same training?

    python -m benchmarks.scaling

FOMM with its adversarial part at 32 × 32, batch 8, a few steps of plain gradient descent (Adam's first steps are the
sign of the gradient, rounding noise included), in float64: keypoints of random weights answer a change of 1e-7 in the
weights with one of a hundredth in the loss four steps later, so that float32 would measure its own rounding. Every
layout runs in processes of its own, on simulated devices of this machine's cores: what is measured is whether the
losses stay equal, and what dividing the batch costs when it gains nothing.
"""

import argparse
import dataclasses
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

import jax
import numpy as np
import optax

from avfr_jax.models import fomm
from avfr_jax.models.dense_motion import DenseMotionConfig
from avfr_jax.models.discriminators import DiscriminatorConfig
from avfr_jax.models.keypoints import KeypointDetectorConfig
from avfr_jax.training.composed import ComposedObjective
from avfr_jax.training.objectives.fomm import TASK
from avfr_jax.training.sharding import make_mesh, put_batch
from avfr_jax.training.step import StepConfig, init_state, make_step
from avfr_jax.training.terms import FOMM_TERMS, Perceptual, PyramidL1

BATCH = 8
SIZE = 32
TERMS = (PyramidL1(10.0), *(term for term in FOMM_TERMS if not isinstance(term, Perceptual)))


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the batch is divided.

    Attributes:
      devices: simulated devices in all.
      processes: among which they are divided.
      fsdp: devices among which each parameter is divided.
      per_device: through `jax.shard_map` in place of the global view.
    """

    devices: int = 1
    processes: int = 1
    fsdp: int = 1
    per_device: bool = False

    def __str__(self) -> str:
        words = [f"{self.devices} device{'s' * (self.devices > 1)}"]
        words += [f"{self.processes} processes"] if self.processes > 1 else []
        words += [f"parameters divided by {self.fsdp}"] if self.fsdp > 1 else []
        return ", ".join([*words, *(["per-device view"] if self.per_device else [])])


LAYOUTS = [
    Layout(),
    Layout(8),
    Layout(8, processes=2),
    Layout(8, per_device=True),
    Layout(8, fsdp=2),
    Layout(2),
    Layout(4),
]


def config() -> fomm.FommConfig:
    """FOMM at a sixteenth of its width, the detector's an eighth: XLA's float64 convolutions are slow."""
    return fomm.FommConfig(
        image_size=SIZE,
        num_keypoints=5,
        keypoint_detector=KeypointDetectorConfig(4, 2, 16, scale_factor=0.5),
        dense_motion=DenseMotionConfig(4, 2, 16, scale_factor=0.5),
        generator=fomm.GeneratorConfig(block_expansion=4, max_features=16, num_bottleneck_blocks=2),
        discriminator=DiscriminatorConfig(block_expansion=4, num_blocks=2, max_features=16),
    )


def train(layout: Layout, steps: int) -> tuple[list[float], float]:
    """The loss of every step, and the median seconds of one."""
    objective = ComposedObjective(TASK, config(), TERMS, dtype=np.float64)
    mesh = make_mesh(fsdp=layout.fsdp)
    optimisers = {name: optax.sgd(1e-3) for name in objective.networks}
    settings = StepConfig(per_device=layout.per_device)
    state = init_state(objective, optimisers, jax.random.key(0), mesh, settings)
    state = dataclasses.replace(state, variables=jax.tree.map(_double, state.variables))
    step = make_step(objective, optimisers, mesh, settings)
    rng = np.random.default_rng(0)
    part = slice(jax.process_index() * BATCH // layout.processes, (jax.process_index() + 1) * BATCH // layout.processes)
    losses, seconds = [], []
    for _ in range(steps):
        frames = rng.random((2, BATCH, SIZE // 8, SIZE // 8, 3)).repeat(8, 2).repeat(8, 3)[:, part]
        start = time.perf_counter()
        state, metrics = step(state, put_batch(mesh, {"source": frames[0], "driving": frames[1]}))
        losses.append(float(metrics["loss"]))
        seconds.append(time.perf_counter() - start)
    return losses, float(np.median(seconds[1:]))


def _double(x: jax.Array) -> jax.Array:
    return jax.device_put(np.asarray(x, np.float64), x.sharding) if x.dtype == np.float32 else x


def work(layout: Layout, steps: int, port: int, index: int) -> None:
    """Run one process of a layout and print its result."""
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_num_cpu_devices", layout.devices // layout.processes)
    if layout.processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"localhost:{port}", num_processes=layout.processes, process_id=index)
    losses, seconds = train(layout, steps)
    print(json.dumps({"losses": losses, "seconds": seconds}), flush=True)


def measure(layout: Layout, steps: int) -> tuple[list[float], float]:
    """Run a layout's processes; returns the result of the first."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    words = json.dumps({"layout": dataclasses.asdict(layout), "steps": steps, "port": port})
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.scaling", "--worker", words, str(index)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(layout.processes)
    ]
    try:
        answers = [worker.communicate()[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    if any(worker.returncode for worker in workers):
        raise SystemExit(f"{layout}: a process failed; its own message is above")
    result = json.loads(answers[0].splitlines()[-1])
    return result["losses"], result["seconds"]


def report(steps: int) -> None:
    """Measure every layout; a line each, as soon as it is there."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(
        f"FOMM at {SIZE} × {SIZE}, batch {BATCH}, {steps} steps, float64; JAX {jax.__version__}, simulated devices.\n"
    )
    print("| layout | last loss | largest relative difference from one device | seconds a step |")
    print("| --- | --- | --- | --- |", flush=True)
    alone: list[float] = []
    for layout in LAYOUTS:
        losses, seconds = measure(layout, steps)
        alone = alone or losses
        apart = float(np.max(np.abs(np.divide(losses, alone) - 1)))
        print(f"| {layout} | {losses[-1]:.6f} | {apart:.1e} | {seconds:.2f} |", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="one global batch, divided in many ways")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--worker", nargs=2, metavar=("WORDS", "INDEX"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        words = json.loads(options.worker[0])
        work(Layout(**words["layout"]), words["steps"], words["port"], int(options.worker[1]))
    else:
        report(options.steps)


if __name__ == "__main__":
    main()
