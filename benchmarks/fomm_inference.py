"""FOMM's keypoints and generation at 256 × 256 (the full vox-adv-256), beside the official PyTorch program.

    python -m benchmarks.fomm_inference
    python -m benchmarks.fomm_inference --peer CHECKOUT --peer-python PYTHON   # official program, its PyTorch

Every case is measured in turn within each round: ours, the peer's, the peer's under `torch.compile`; the table holds
medians over all calls. A frame is keypoints of the driving frame + generation. Ours keeps the source's features; the
official program has no such form and encodes the source every frame. The peer's allocator is tuned by environment
variables, ours by `avfr_jax.nn.allocator`, to the same effect.
"""

import argparse
import os
import pathlib
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.models import fomm
from avfr_jax.models.fomm_animator import detect, encode_source, generate, prepare
from avfr_jax.nn.allocator import keep_freed_memory
from benchmarks.peer import PeerProcess
from benchmarks.peer_worker import seconds_of

CASES = {"keypoints": "keypoints", "animate": "generation, source encoded", "frame": "animated frame"}
PROGRAMS = {"eager": False, "compiled": True}
"""The peer's forms, and whether they are under `torch.compile`."""
DRIVER = pathlib.Path(__file__).with_name("peer_fomm.py")
CONFIG = fomm.vox_adv_256()


def random_weights(config: Any, init: Callable[[Any, Any], Any] = fomm.init) -> Any:
    """Weights of the right shapes and about the right size: values do not change the time."""
    rng = np.random.default_rng(0)

    def draw(x: jax.ShapeDtypeStruct) -> np.ndarray:
        noise = rng.standard_normal(x.shape, dtype=np.float32)
        return noise / np.sqrt(np.prod(x.shape[:-1])) if len(x.shape) > 1 else np.ones(x.shape, np.float32)

    return jax.tree.map(draw, jax.eval_shape(lambda: init(config, jax.random.key(0))))


class Ours:
    """Our calls, compiled, on random weights and frames."""

    def __init__(self, reduce_arithmetic: bool | None = None) -> None:
        self.prepared = prepare(CONFIG, random_weights(CONFIG), reduce_arithmetic=reduce_arithmetic)
        self.source = self.frames(1)
        self.source_keypoints = detect(CONFIG, self.prepared, self.source)
        self.encoded = encode_source(CONFIG, self.prepared, self.source)

    def frames(self, batch: int) -> jax.Array:
        """Random frames."""
        return jnp.asarray(np.random.default_rng(batch).random((batch, 256, 256, 3)), jnp.float32)

    def case(self, name: str, batch: int) -> Callable[[], Any]:
        """The call to be timed, already called once."""
        driving = self.frames(batch)
        keypoints = detect(CONFIG, self.prepared, driving)

        def animate(keypoints: Any) -> Any:
            return generate(CONFIG, self.prepared, self.encoded, self.source_keypoints, keypoints)

        calls: dict[str, Callable[[], Any]] = {
            "keypoints": lambda: detect(CONFIG, self.prepared, driving),
            "animate": lambda: animate(keypoints),
            "frame": lambda: animate(detect(CONFIG, self.prepared, driving)),
            "encode": lambda: encode_source(CONFIG, self.prepared, driving),
        }
        jax.block_until_ready(calls[name]())
        return calls[name]

    def operations(self) -> dict[str, float]:
        """Floating-point operations a frame, as XLA counts them in the program it is given (transforms included)."""

        def count(function: Any, *arguments: Any) -> float:
            costs = function.lower(CONFIG, self.prepared, *arguments).cost_analysis()
            return float(costs["flops"])

        keypoints = self.source_keypoints
        once, each = count(detect, self.source), count(generate, self.encoded, keypoints, keypoints)
        return {"keypoints": once, "animate": each, "frame": once + each}


def timed(call: Callable[[], Any], calls: int) -> list[float]:
    """Seconds of each of several calls."""
    return seconds_of(lambda: jax.block_until_ready(call()), calls)


def peer_seconds(peer: PeerProcess, case: str, batch: int, compiled: bool, calls: int) -> list[float]:
    """Seconds of each of several calls of the official program."""
    return peer.ask(case=case, batch=batch, compiled=compiled, calls=calls)["seconds"]


def interleaved(
    calls: Mapping[tuple[str, int], Callable[[], Any]],
    rounds: int,
    singles: int,
    peer: PeerProcess | None,
    programs: Sequence[str] = tuple(PROGRAMS),
) -> dict[tuple[str, int], dict[str, list[float]]]:
    """Every case measured in turn within each round.

    Args:
      calls: ours, by case and batch, called already.
      rounds: how many.
      singles: calls a round of cases with a batch of 1; others are called once.
      peer: the other program, if it is measured too.
      programs: its forms, of `PROGRAMS`.

    Returns:
      `seconds[(case, batch)][program]`: the seconds of every call, with programs `ours` and the peer's.
    """
    theirs = {} if peer is None else {name: partial(peer_seconds, peer, compiled=PROGRAMS[name]) for name in programs}
    seconds: dict[tuple[str, int], dict[str, list[float]]] = {
        key: {name: [] for name in ("ours", *theirs)} for key in calls
    }
    for key in calls:
        for ask in theirs.values():
            ask(*key, calls=1)  # compiles and warms up outside the rounds
    for _ in range(rounds):
        for key, call in calls.items():
            count = singles if key[1] == 1 else 1
            seconds[key]["ours"] += timed(call, count)
            for name, ask in theirs.items():
                seconds[key][name] += ask(*key, calls=count)
    return seconds


def peak() -> dict[str, float]:
    """What this processor reaches in float32, GFLOP/s: a 2048³ matrix product and the generator's commonest
    convolution (3 × 3, 256 to 256 channels, 64 × 64) done plainly."""
    matrix = jnp.ones((2048, 2048))
    image, kernel = jnp.ones((1, 64, 64, 256)), jnp.ones((3, 3, 256, 256))
    product = jax.jit(jnp.matmul)
    layer = jax.jit(
        lambda x, k: jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    )
    operations = {"matrix product": 2 * 2048**3, "convolution": 2 * 64 * 64 * 9 * 256 * 256}
    calls = {"matrix product": lambda: product(matrix, matrix), "convolution": lambda: layer(image, kernel)}
    return {name: operations[name] / min(timed(call, 6)[1:]) / 1e9 for name, call in calls.items()}


def measure(batches: Sequence[int], rounds: int, peer: PeerProcess | None) -> dict[str, Any]:
    """Interleaved rounds of every case.

    Returns:
      `seconds`, see `interleaved`; the operation counts, the peak rates and the time of encoding a source.
    """
    ours = Ours()
    calls = {(case, batch): ours.case(case, batch) for case in CASES for batch in batches}
    seconds = interleaved(calls, rounds, 4, peer)
    plain = Ours(reduce_arithmetic=False).operations()
    return {
        "seconds": seconds,
        "operations": ours.operations(),
        "plain_operations": plain,
        "peak": peak(),
        "encode": float(np.median(timed(ours.case("encode", 1), 2 * rounds))),
    }


def table(result: dict[str, Any], peer: bool) -> str:
    """The results in Markdown."""
    head = ["", "batch", "ours, ms a frame", "GFLOP a frame (plain)", "GFLOP/s"]
    head += ["official, ms", "compiled, ms", "our speed-up", "over compiled"] if peer else []
    lines = [head, ["---"] * len(head)]
    for (case, batch), programs in result["seconds"].items():
        frame = {name: float(np.median(s)) / batch for name, s in programs.items()}
        work, plain = result["operations"][case] / 1e9, result["plain_operations"][case] / 1e9
        row = [CASES[case], str(batch), f"{1e3 * frame['ours']:.1f}", f"{work:.1f} ({plain:.1f})"]
        row.append(f"{work / frame['ours']:.0f}")
        if peer:
            row += [f"{1e3 * frame[name]:.1f}" for name in ("eager", "compiled")]
            row += [f"{frame[name] / frame['ours']:.2f}×" for name in ("eager", "compiled")]
        lines.append(row)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def processor() -> str:
    """The processor's name as the kernel gives it, with the number of cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = platform.processor() or platform.machine()
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        name = names[0] if names else name
    return f"{name}, {cores} cores"


def report(batches: Sequence[int], rounds: int, checkout: str | None, python: str) -> str:
    """Measure and describe."""
    keep_freed_memory()
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    peer = PeerProcess(python, DRIVER, checkout, threads) if checkout else None
    try:
        result = measure(batches, rounds, peer)
    finally:
        if peer:
            peer.close()
    versions = f"JAX {jax.__version__}" + (f", PyTorch {peer.version}" if peer else "")
    rates = ", ".join(f"{name} {rate:.0f}" for name, rate in result["peak"].items())
    return "\n".join(
        [
            f"FOMM vox-adv-256 at 256 × 256, float32, {processor()}; {versions}.",
            f"Medians of {rounds} interleaved rounds.",
            f"This processor reaches, GFLOP/s: {rates}. Encoding a source, once: {1e3 * result['encode']:.0f} ms.",
            "",
            table(result, peer is not None),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="FOMM inference, frame by frame and in batches")
    parser.add_argument("--peer", metavar="FOLDER", help="checkout of the official first-order-model program")
    parser.add_argument("--peer-python", default=sys.executable, metavar="PYTHON", help="a Python that has PyTorch")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    print(report(options.batches, options.rounds, options.peer, options.peer_python))


if __name__ == "__main__":
    main()
