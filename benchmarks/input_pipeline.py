"""Throughput of the input pipeline in samples per second, beside the official FOMM data loader.

    python -m benchmarks.input_pipeline                         # on generated clips of a moving portrait
    python -m benchmarks.input_pipeline --dataset PREPARED      # on the first frames of a prepared dataset's clips
    python -m benchmarks.input_pipeline --peer CHECKOUT --peer-python PYTHON   # official program, its PyTorch

A sample is a pair of 256 × 256 frames, read, decoded, paired, flipped and colour-jittered, in a batch in memory. Each
program reads the same frames in its own format: ours the prepared dataset, the official loader (`vox-adv-256`) a folder
of PNG files per clip and, as its preprocessing writes by default, MP4 files. Measured are samples per second of
processor time, that is per busy core: threads, children and XLA's threads included. Rounds of all cases are
interleaved; the table holds medians.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

import cv2
import jax
import numpy as np

from avfr_jax.media.video_writer import VideoWriter
from avfr_jax.nn.allocator import keep_freed_memory
from benchmarks.fomm_inference import processor
from benchmarks.peer import PeerProcess
from benchmarks.peer_fomm_data import processor_seconds
from pipelines import record
from pipelines.augment import AugmentConfig, augment
from pipelines.config import DataConfig
from pipelines.loader import PairLoader
from pipelines.sources import ClipDataset, open_dataset

DRIVER = pathlib.Path(__file__).with_name("peer_fomm_data.py")
Clock = Callable[[int], dict[str, float]]
SETTLE = 0.5  # seconds


def make_dataset(folder: pathlib.Path, clips: int = 8, frames: int = 120) -> pathlib.Path:
    """Write a prepared dataset of a shifted and rotated portrait."""
    from skimage.data import astronaut

    portrait = cv2.cvtColor(np.ascontiguousarray(astronaut()[:320, 60:380]), cv2.COLOR_RGB2BGR)
    entries = []
    for clip in range(clips):
        place = record.clip_folder(folder, f"clip-{clip:03d}")
        (place / "frames").mkdir(parents=True)
        for frame in range(frames):
            turn = cv2.getRotationMatrix2D((160, 160), 8 * np.sin(0.1 * frame + clip), 0.9 + 0.02 * clip)
            turn[:, 2] += 6 * np.sin([0.07 * frame, 0.05 * frame + clip]) - 32
            moved = cv2.warpAffine(portrait, turn, (256, 256), borderMode=cv2.BORDER_REFLECT)
            cv2.imwrite(str(place / record.frame_file("image", frame)), moved, [cv2.IMWRITE_JPEG_QUALITY, 95])
        entries.append({"name": f"clip-{clip:03d}", "identity": f"person-{clip // 2}", "frames": frames})
    head = {"format": record.FORMAT, "version": record.VERSION, "storage": "folder", "size": 256, "fps": 25}
    (folder / record.INDEX).write_text(json.dumps({**head, "priors": False, "clips": entries}))
    return folder


def shortened(dataset: ClipDataset, clips: int, frames: int) -> ClipDataset:
    """Keep the first frames of the first clips."""
    kept = (dataclasses.replace(clip, frames=min(clip.frames, frames)) for clip in dataset.clips[:clips])
    return dataclasses.replace(dataset, clips=tuple(kept))


def write_peer_forms(dataset: ClipDataset, folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Write the frames for the official loader, `IDENTITY#CLIP.mp4`: PNG folders and MP4 files."""
    forms = {"png": folder / "png", "mp4": folder / "mp4"}
    for form in forms.values():
        (form / "train").mkdir(parents=True)
        (form / "test").mkdir()
    identities = dataset.identities
    for clip in dataset.clips:
        name = f"id{identities.index(clip.identity):05d}#{clip.name}.mp4"
        pictures = forms["png"] / "train" / name
        pictures.mkdir()
        with VideoWriter(forms["mp4"] / "train" / name, dataset.size, dataset.size, dataset.fps) as video:
            for index in range(clip.frames):
                image = dataset.read_frame(clip, index)["image"]
                cv2.imwrite(str(pictures / f"{index:07d}.png"), image[..., ::-1])
                video.write(image)
    return forms


def clocked(step: Callable[[], int]) -> Clock:
    """A function that takes at least so many samples and returns processor and wall-clock seconds per sample."""

    def run(samples: int) -> dict[str, float]:
        count = 0
        time.sleep(SETTLE)  # buffers are full before and after, so that as many samples are produced as taken
        cpu, wall = processor_seconds(), time.perf_counter()
        while count < samples:
            count += step()
        wall = time.perf_counter() - wall
        time.sleep(SETTLE)
        return {"cpu": (processor_seconds() - cpu) / count, "wall": wall / count}

    return run


def our_cases(dataset: ClipDataset, batch_size: int, threads: int) -> dict[str, Clock]:
    """Our loader alone, with augmentation, and with all other entries."""
    plain = DataConfig(batch_size=batch_size, size=dataset.size, threads=threads)
    change = jax.jit(augment, static_argnums=2)
    settings = AugmentConfig()

    def case(config: DataConfig, augmented: bool) -> Clock:
        loader = PairLoader(config, dataset)
        key = jax.random.key(0)

        def step() -> int:
            batch = next(loader)
            if augmented:
                jax.block_until_ready(change(key, batch, settings))
            return len(batch["swapped"])

        step()
        return clocked(step)

    cases = {"read and batched": case(plain, False), "and augmented": case(plain, True)}
    if dataset.priors:
        everything = dataclasses.replace(plain, priors=True, landmarks=True, mel=True)
        cases["read with mesh, mask, landmarks, mel"] = case(everything, False)
    return cases


def peer_case(peer: PeerProcess, form: str) -> Clock:
    """The official loader on one form of its input."""
    return lambda samples: peer.ask(form=form, samples=samples)


def measure(cases: dict[str, tuple[Clock, int]], rounds: int) -> dict[str, dict[str, float]]:
    """Median costs per sample over interleaved rounds of all cases."""
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, (run, samples) in cases.items():
            measured[name].append(run(samples))
    return {
        name: {unit: float(np.median([cost[unit] for cost in costs])) for unit in ("cpu", "wall")}
        for name, costs in measured.items()
    }


def table(costs: dict[str, dict[str, float]], ours: str) -> str:
    """Format as Markdown; ratios are samples per core of `ours` over those of the row."""
    head = ["", "samples/s per core", "samples/s here", f"“{ours}”, times"]
    lines = [head, ["---"] * len(head)]
    for name, cost in costs.items():
        ratio = f"{cost['cpu'] / costs[ours]['cpu']:.1f}" if name.startswith("official") else ""
        lines.append([name, f"{1 / cost['cpu']:.1f}", f"{1 / cost['wall']:.1f}", ratio])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@contextlib.contextmanager
def opened(options: argparse.Namespace) -> Iterator[tuple[ClipDataset, pathlib.Path]]:
    """Open the dataset, and a folder for its other formats."""
    with tempfile.TemporaryDirectory() as scratch:
        path = pathlib.Path(options.dataset) if options.dataset else make_dataset(pathlib.Path(scratch) / "made")
        yield shortened(open_dataset(path), options.clips, options.frames), pathlib.Path(scratch)


def report(options: argparse.Namespace) -> str:
    """Measure and describe."""
    keep_freed_memory()
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with opened(options) as (dataset, scratch):
        ours = our_cases(dataset, options.batch, threads)
        cases = {name: (run, options.samples) for name, run in ours.items()}
        peer = None
        if options.peer:
            forms = write_peer_forms(dataset, scratch)
            peer = PeerProcess(options.peer_python, DRIVER, options.peer, options.batch, *forms.values())
            cases |= {f"official, {form}": (peer_case(peer, form), options.samples // 8) for form in forms}
        try:
            costs = measure(cases, options.rounds)
        finally:
            if peer:
                peer.close()
    versions = f"JAX {jax.__version__}" + (f", PyTorch {peer.version}" if peer else "")
    return "\n".join(
        [
            f"{len(dataset.clips)} clips of {len(dataset.identities)} people, {dataset.frames} frames of "
            f"{dataset.size} × {dataset.size}, storage {dataset.storage}, batches of {options.batch}; "
            f"{processor()}; {versions}.",
            f"Medians of {options.rounds} interleaved rounds. “Here”: ours in {threads} threads, the official in one.",
            "",
            table(costs, "and augmented"),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Input pipeline: samples per second")
    parser.add_argument("--dataset", metavar="FOLDER", help="a prepared dataset of 256 × 256 clips")
    parser.add_argument("--clips", type=int, default=8, help="number of clips, the first ones")
    parser.add_argument("--frames", type=int, default=180, help="frames of each clip, the first ones")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--samples", type=int, default=256, help="per round; an eighth for the official program")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", metavar="FOLDER", default=os.environ.get("AVFR_PEER_FOMM"))
    parser.add_argument("--peer-python", metavar="PYTHON", default=os.environ.get("AVFR_PEER_PYTHON", sys.executable))
    print(report(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
