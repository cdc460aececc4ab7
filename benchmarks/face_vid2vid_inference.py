"""face-vid2vid at 256 × 256 (the unofficial program's full vox-256), beside that program in PyTorch.

    python -m benchmarks.face_vid2vid_inference --generator spade
    python -m benchmarks.face_vid2vid_inference --generator plain --peer CHECKOUT --peer-python PYTHON

Every case is measured in turn within each round: ours, the peer's, with `--compiled` the peer's under `torch.compile`;
the table holds medians over all calls. A frame is head pose and expression of the driving frame + generation. Ours
keeps the source's volume; the unofficial program has no such form and encodes the source every frame. The last rows are
parts of the generator by themselves. Peak memory is that of each process from its start to the end of the rounds.
"""

import argparse
import os
import pathlib
import resource
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.models import face_vid2vid
from avfr_jax.models.face_vid2vid import FaceVid2VidConfig, vox_256
from avfr_jax.models.face_vid2vid_animator import detect, encode_source, estimate, generate, prepare
from avfr_jax.models.volume_generators import VolumeGeneratorConfig
from avfr_jax.motion import HeadMotion
from avfr_jax.nn import inference
from avfr_jax.nn.allocator import keep_freed_memory
from benchmarks.fomm_inference import interleaved, processor, random_weights, timed
from benchmarks.peer import PeerProcess

CASES = {
    "canonical": "canonical keypoints (once a source)",
    "pose": "head pose and expression",
    "generate": "generation, source encoded",
    "frame": "animated frame",
    "sampling": "3-D sampling of the volume",
    "hourglass": "3-D hourglass",
    "decoder": "decoder",
}
DRIVER = pathlib.Path(__file__).with_name("peer_face_vid2vid.py")


class Ours:
    """Our calls, compiled, on random weights and frames."""

    def __init__(self, config: FaceVid2VidConfig) -> None:
        self.config = config
        weights = random_weights(config, face_vid2vid.init)
        self.prepared: dict[str, Any] = {}
        for name in sorted(weights):  # each network's own weights are freed before the next is prepared
            self.prepared |= prepare(config, {name: weights.pop(name)})
        keep_freed_memory()  # after loading, as the command line does
        source = self.frames(1)
        self.source = detect(config, self.prepared, source)
        self.encoded = encode_source(config, self.prepared, source)

    def frames(self, batch: int) -> jax.Array:
        """Random frames."""
        return self.random(batch, 256, 256, 3)

    def random(self, *shape: int) -> jax.Array:
        """Random numbers in [0, 1)."""
        return jnp.asarray(np.random.default_rng(shape[0]).random(shape), jnp.float32)

    def case(self, name: str, batch: int) -> Callable[[], Any]:
        """The call to be timed, already called once."""
        driving = self.frames(batch)
        heads = estimate(self.config, self.prepared, driving)

        def animate(heads: HeadMotion) -> Any:
            return generate(self.config, self.prepared, self.encoded, self.source, heads)

        calls: dict[str, Callable[[], Any]] = {
            "canonical": lambda: detect(self.config, self.prepared, driving),
            "pose": lambda: estimate(self.config, self.prepared, driving),
            "generate": lambda: animate(heads),
            "frame": lambda: animate(estimate(self.config, self.prepared, driving)),
            "encode": lambda: encode_source(self.config, self.prepared, driving),
        }
        call = calls.get(name) or self.part(name, batch)
        jax.block_until_ready(call())
        return call

    def part(self, name: str, batch: int) -> Callable[[], Any]:
        """A part of the generator by itself."""
        count = self.config.num_keypoints
        programs: dict[str, tuple[Callable[..., Any], tuple[jax.Array, ...]]] = {
            "sampling": (
                lambda network, volume, grid: network.deform(volume, grid),
                (self.random(batch, 16, 64, 64, 32), self.random(batch, 16, 64, 64, 3) * 2 - 1),
            ),
            "hourglass": (
                lambda network, x: network.dense_motion.hourglass(x),
                (self.random(batch, 16, 64, 64, (count + 1) * 5),),
            ),
            "decoder": (lambda network, x: network.decoder(x), (self.random(batch, 64, 64, 256),)),
        }
        method, arguments = programs[name]
        module, weights = face_vid2vid.generator(self.config), self.prepared["generator"]

        @jax.jit
        def run(weights: Any, *each: Any) -> Any:
            def one(shared: Any, *given: Any) -> Any:
                return inference.apply(module, weights, *given, method=method)

            return inference.frame_by_frame(one, (), *each)

        return lambda: run(weights, *arguments)


def measure(
    config: FaceVid2VidConfig, batches: Sequence[int], rounds: int, peer: PeerProcess | None, compiled: bool
) -> dict[str, Any]:
    """Interleaved rounds of every case.

    Returns:
      `seconds`, see `interleaved`; the seconds of encoding a source, and the peak memory of each process in bytes.
    """
    ours = Ours(config)
    calls = {(case, batch): ours.case(case, batch) for case in CASES for batch in batches}
    seconds = interleaved(calls, rounds, 3, peer, ("eager", "compiled") if compiled else ("eager",))
    memory = {"ours": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    if peer:
        memory["peer"] = peer.ask(case="peak")["bytes"]
    return {"seconds": seconds, "encode": float(np.median(timed(ours.case("encode", 1), rounds))), "memory": memory}


def table(seconds: dict[tuple[str, int], dict[str, list[float]]], programs: Sequence[str]) -> str:
    """The results in Markdown; `programs` are the peer's."""
    head = ["", "batch", "ours, ms a frame", *(f"{name}, ms" for name in programs)]
    head += [f"speed-up over {name}" for name in programs]
    lines = [head, ["---"] * len(head)]
    for (case, batch), values in seconds.items():
        frame = {name: float(np.median(s)) / batch for name, s in values.items()}
        row = [
            CASES[case],
            str(batch),
            f"{1e3 * frame['ours']:.1f}",
            *(f"{1e3 * frame[name]:.1f}" for name in programs),
        ]
        lines.append(row + [f"{frame[name] / frame['ours']:.2f}×" for name in programs])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def report(options: argparse.Namespace) -> str:
    """Measure and describe."""
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    generator = VolumeGeneratorConfig(kind=options.generator)
    config = FaceVid2VidConfig(**{**vars(vox_256()), "generator": generator})
    peer = PeerProcess(options.peer_python, DRIVER, options.peer, options.generator, threads) if options.peer else None
    try:
        result = measure(config, options.batches, options.rounds, peer, options.compiled)
    finally:
        if peer:
            peer.close()
    versions = f"JAX {jax.__version__}" + (f", PyTorch {peer.version}" if peer else "")
    programs = [name for name in ("eager", "compiled") if name in next(iter(result["seconds"].values()))]
    memory = ", ".join(f"{name} {size / 2**30:.2f}" for name, size in result["memory"].items())
    return "\n".join(
        [
            f"face-vid2vid vox-256, {options.generator} decoder, 256 × 256, float32, {processor()}; {versions}.",
            f"Medians of {options.rounds} interleaved rounds. Peak memory, GiB: {memory}.",
            f"Encoding a source, once: {1e3 * result['encode']:.0f} ms.",
            "",
            table(result["seconds"], programs),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="face-vid2vid inference, frame by frame and in batches")
    parser.add_argument("--generator", choices=["plain", "spade"], default="spade")
    parser.add_argument("--peer", metavar="FOLDER", help="checkout of the unofficial face-vid2vid program")
    parser.add_argument("--peer-python", default=sys.executable, metavar="PYTHON", help="a Python that has PyTorch")
    parser.add_argument("--compiled", action="store_true", help="measure the peer under torch.compile too")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=3)
    print(report(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
