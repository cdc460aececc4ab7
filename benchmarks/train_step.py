"""Training samples a second of full-size FOMM (vox-adv-256, 256 × 256), beside the official PyTorch program.

    python -m benchmarks.train_step
    python -m benchmarks.train_step --peer CHECKOUT --peer-python PYTHON   # official program, its PyTorch
    python -m benchmarks.train_step --dtype bfloat16                       # accelerators

A step is everything between a batch in memory and updated networks: keypoints of source, driving and randomly warped
frames, generation, VGG19's perceptual loss on four scales (random weights), the discriminator's side, gradients of all
three networks, Adam. Programs take turns of three steps; the table holds medians. Random frames and weights: values do
not change the time. On an accelerator the utilisation is the plain networks' operations over time and the chip's peak.
"""

import argparse
import dataclasses
import os
import pathlib
import resource
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.models import fomm
from avfr_jax.nn.allocator import keep_freed_memory
from avfr_jax.training.composed import ComposedObjective
from avfr_jax.training.objectives.fomm import TASK
from avfr_jax.training.optimisers import OptimiserConfig, make_optimisers
from avfr_jax.training.sharding import make_mesh
from avfr_jax.training.step import StepConfig, compile_ready_step, init_state, make_step, state_shapes
from avfr_jax.training.terms import FOMM_TERMS, Perceptual
from benchmarks.fomm_inference import processor
from benchmarks.peer import PeerProcess

DRIVER = pathlib.Path(__file__).with_name("peer_fomm_train.py")
CONFIG = fomm.vox_adv_256()
# Dense bfloat16 matrix products, operations a second, as the makers state them.
PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L4": 121e12, "V100": 125e12, "T4": 65e12}


def objective(dtype: Any) -> ComposedObjective:
    """FOMM's losses with VGG19 of random weights."""
    terms = [dataclasses.replace(t, network="vgg19-random") if isinstance(t, Perceptual) else t for t in FOMM_TERMS]
    return ComposedObjective(TASK, CONFIG, terms, dtype=dtype)


def step_call(batch: int, dtype: Any) -> Callable[[], Any]:
    """Our step on random frames, the state going from call to call."""
    ours, mesh = objective(dtype), make_mesh(devices=jax.devices()[:1])
    optimisers = make_optimisers(OptimiserConfig(), ours.networks)
    state = init_state(ours, optimisers, jax.random.key(0), mesh)
    step = make_step(ours, optimisers, mesh)
    rng = np.random.default_rng(0)
    frames = {
        name: jnp.asarray(rng.random(x.shape), jnp.float32) for name, x in sorted(ours.example_batch(batch).items())
    }

    def call() -> Any:
        nonlocal state
        state, metrics = step(state, frames)
        return jax.device_get(metrics)

    return call


def operations(batch: int) -> float:
    """Floating-point operations of one step of the plain networks (no Winograd), counted in the traced program."""
    plain, mesh = objective(jnp.bfloat16), make_mesh(devices=jax.devices()[:1])
    optimisers = make_optimisers(OptimiserConfig(), plain.networks)
    step = compile_ready_step(plain, optimisers, mesh, StepConfig())
    shapes = state_shapes(plain, optimisers, StepConfig()), plain.frozen, plain.example_batch(batch)
    return float(step.lower(*shapes).cost_analysis()["flops"])


def start_peer(checkout: str, python: str, batch: int, dtype: str) -> PeerProcess:
    """The official program with as many threads as ours."""
    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return PeerProcess(python, DRIVER, checkout, threads, batch, device, dtype)


def timed(call: Callable[[], Any]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peak_memory() -> float:
    """The most memory that our step held, GB: the device's, or this process's on a CPU (compilation included)."""
    statistics = jax.devices()[0].memory_stats() or {}
    held = statistics.get("peak_bytes_in_use", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    return held / 1e9


def measure(
    batch: int, rounds: int, dtype: str, peer: PeerProcess | None
) -> tuple[dict[str, list[float]], float, float]:
    """Seconds of every step of `ours` and `official`, in turns; the seconds of our first call; the official program's
    peak memory, GB. The first step of every turn does not count: training's steps follow one another, and after the
    other program's turn caches are cold and idle memory may have been taken back."""
    call = step_call(batch, jnp.bfloat16 if dtype == "bfloat16" else None)
    first = timed(call)
    seconds: dict[str, list[float]] = {"ours": [], "official": []}
    peak = 0.0
    for _ in range(rounds):
        if peer is not None:
            answer = peer.ask(calls=3)
            seconds["official"] += answer["seconds"][1:]
            peak = answer["peak"]
        seconds["ours"] += [timed(call) for _ in range(3)][1:]
    return seconds, first, peak


def row(name: str, seconds: list[float], batch: int, memory: float, against: float) -> str:
    """One line of the table."""
    median = float(np.median(seconds))
    cells = [name, f"{median:.2f} ({min(seconds):.2f})", f"{batch / median:.3f}", f"{memory:.1f}"]
    return f"| {' | '.join([*cells, f'{against / median:.2f}×'])} |"


def utilisation(batch: int, seconds: float) -> str:
    """Operations of the plain networks a second, and the share of the chip's peak where that is known."""
    rate = operations(batch) / seconds
    kind = jax.devices()[0].device_kind
    peaks = [peak for name, peak in PEAK.items() if name in kind]
    share = f", {100 * rate / peaks[0]:.1f} % of {kind}'s bfloat16 peak" if peaks else ""
    return f"Our step does the plain networks' operations at {rate / 1e9:.0f} GFLOP/s{share}."


def report(batch: int, rounds: int, dtype: str, checkout: str | None, python: str) -> str:
    """Measure and describe."""
    keep_freed_memory()
    peer = start_peer(checkout, python, batch, dtype) if checkout else None
    try:
        seconds, first, peer_peak = measure(batch, rounds, dtype, peer)
    finally:
        if peer:
            peer.close()
    where = processor() if jax.default_backend() == "cpu" else jax.devices()[0].device_kind
    versions = f"JAX {jax.__version__}" + (f", PyTorch {peer.version}" if peer else "")
    ours = float(np.median(seconds["ours"]))
    base = float(np.median(seconds["official"])) if peer else ours
    lines = [
        f"FOMM vox-adv-256 at 256 × 256, batch {batch}, {dtype}, adversarial and VGG19 losses, {where}; {versions}.",
        f"Medians (minima) of {2 * rounds} steps taken in turns. Our first call, compilation included: {first:.0f} s.",
        "",
        "|  | seconds a step | samples a second | peak memory, GB | speed |",
        "| --- | --- | --- | --- | --- |",
        row("ours", seconds["ours"], batch, peak_memory(), base),
        *([row("official", seconds["official"], batch, peer_peak, base)] if peer else []),
        "",
        utilisation(batch, ours),
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="FOMM's training step")
    parser.add_argument("--peer", metavar="FOLDER", help="checkout of the official first-order-model program")
    parser.add_argument("--peer-python", default=sys.executable, metavar="PYTHON", help="a Python that has PyTorch")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    options = parser.parse_args(arguments)
    print(report(options.batch, options.rounds, options.dtype, options.peer, options.peer_python))


if __name__ == "__main__":
    main()
