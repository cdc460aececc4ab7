"""Frame rate of full-size AVFR-GAN at 256 × 256, and what each of its parts costs.

    python -m benchmarks.avfr_inference
    python -m benchmarks.avfr_inference --batch 8

The rows are the ablation's: FOMM alone, with each of the three parts, and whole. A frame is the keypoint detector on
the driving frame and the generator on a cached source; the structural prior's drawing and the sound's spectrogram,
which are made on the host, have rows of their own. Programs take turns, round by round; the table holds medians. Random
weights: values do not change the time. Parameters and operations are those of the plain networks.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.media.mel import BANDS, WINDOW_COLUMNS
from avfr_jax.models import avfr, fomm
from avfr_jax.models.avfr import AvfrConfig, with_parts
from avfr_jax.models.avfr_animator import encode_source, generate, prepare
from avfr_jax.models.fomm_animator import detect
from avfr_jax.motion import Keypoints
from avfr_jax.nn.allocator import keep_freed_memory
from benchmarks.fomm_inference import processor, random_weights, timed

WHOLE = AvfrConfig()
ROWS = {
    "FOMM": with_parts(WHOLE),
    "+ structural prior": with_parts(WHOLE, "structural"),
    "+ audio prior": with_parts(WHOLE, "audio"),
    "+ identity-aware generator": with_parts(WHOLE, "identity"),
    "whole": WHOLE,
}


def keypoints(config: AvfrConfig, count: int) -> Keypoints:
    """Keypoints spread over the frame."""
    value = np.random.default_rng(1).uniform(-0.5, 0.5, (count, config.num_keypoints, 2)).astype(np.float32)
    return Keypoints(jnp.asarray(value), jnp.broadcast_to(jnp.eye(2), (count, config.num_keypoints, 2, 2)))


def frame_call(config: AvfrConfig, batch: int) -> Callable[[], Any]:
    """Detector and generator on a batch of driving frames, the source cached."""
    prepared = prepare(config, random_weights(config, avfr.init))
    rng = np.random.default_rng(0)
    inputs = jnp.asarray(rng.random((batch, 256, 256, config.detector_channels)), jnp.float32)
    mel = jnp.asarray(rng.uniform(-4, 4, (batch, BANDS, WINDOW_COLUMNS)), jnp.float32)
    source, driving = keypoints(config, 1), keypoints(config, batch)
    encoded = encode_source(config, prepared, inputs[:1, ..., :3])

    def call() -> Any:
        detected = detect(config, prepared, inputs)
        return jax.block_until_ready((detected, generate(config, prepared, encoded, source, driving, mel)))

    return call


def host_calls(batch: int) -> dict[str, Callable[[], Any]]:
    """Inputs of a batch that are computed on the host."""
    from avfr_jax.faces.mesh import structural_prior
    from avfr_jax.media.mel import RATE, mel_spectrogram

    rng = np.random.default_rng(0)
    face = rng.uniform(-0.6, 0.6, (batch, 478, 3)).astype(np.float32)
    masks = np.zeros((batch, 256, 256), np.float32)
    sound = rng.normal(0, 0.1, RATE * 10).clip(-1, 1).astype(np.float32)
    mel_spectrogram(sound)
    return {
        "mesh image": lambda: structural_prior(face, masks, 256),
        # Ten seconds at once, of which a batch is this part.
        "the spectrogram": lambda: mel_spectrogram(sound),
    }


def size_of(config: AvfrConfig) -> tuple[float, float]:
    """Parameters (millions) and operations of a frame (GFLOP) of the plain networks, source cached."""
    shapes = jax.eval_shape(lambda key: avfr.init(config, key), jax.random.key(0))
    kept = {name: shapes[name] for name in ("keypoint_detector", "generator")}
    count = sum(int(np.prod(x.shape)) for name in kept for x in jax.tree.leaves(kept[name]["params"]))
    module, detector = avfr.generator(config), fomm.keypoint_detector(config)
    image = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
    seen = jax.ShapeDtypeStruct((1, 256, 256, config.detector_channels), jnp.float32)
    mel = jax.ShapeDtypeStruct((1, BANDS, WINDOW_COLUMNS), jnp.float32)
    kp = jax.eval_shape(lambda: keypoints(config, 1))
    encoded = jax.eval_shape(lambda v, x: module.apply(v, x, method=module.encode_source), kept["generator"], image)

    def frame(variables: Any, encoded: Any, seen: Any, mel: Any, kp: Any) -> Any:
        found, _ = detector.apply(variables["keypoint_detector"], seen)
        return found, module.apply(variables["generator"], encoded, kp, kp, mel, method=module.animate)

    cost = jax.jit(frame).lower(kept, encoded, seen, mel, kp).cost_analysis()
    return count / 1e6, float((cost or {})["flops"]) / 1e9


def median(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each, taken in turns after one of each that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(rounds + 1):
        for name, call in calls.items():
            seconds[name] += timed(call, 1)[: i > 0]
    return {name: float(np.median(values)) for name, values in seconds.items()}


def report(batch: int, rounds: int) -> str:
    """Measure and describe."""
    keep_freed_memory()
    frames = median({name: frame_call(config, batch) for name, config in ROWS.items()}, rounds)
    host = median(host_calls(batch), rounds)
    host["the spectrogram"] *= batch / 250
    where = processor() if jax.default_backend() == "cpu" else jax.devices()[0].device_kind
    lines = [
        f"AVFR-GAN at 256 × 256, batch {batch}, {where}; JAX {jax.__version__}; medians of {rounds} rounds.",
        "",
        "|  | parameters, M | GFLOP a frame | ms a frame | against FOMM |",
        "| --- | --- | --- | --- | --- |",
    ]
    base = frames["FOMM"]
    for name, config in ROWS.items():
        parameters, operations = size_of(config)
        cells = [f"{parameters:.1f}", f"{operations:.0f}", f"{1e3 * frames[name] / batch:.1f}"]
        lines.append(f"| {name} | {' | '.join(cells)} | {100 * (frames[name] / base - 1):+.1f} % |")
    for name, value in host.items():
        lines.append(f"| {name} (host) |  |  | {1e3 * value / batch:.2f} | {100 * value / base:+.1f} % |")
    priors = sum(frames[name] - base for name in ("+ structural prior", "+ audio prior")) + sum(host.values())
    return "\n".join(
        [*lines, "", f"Audio and structural priors together: {100 * priors / base:+.1f} % of FOMM's frame."]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="AVFR-GAN's frame rate, part by part")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(arguments)
    print(report(options.batch, options.rounds))


if __name__ == "__main__":
    main()
