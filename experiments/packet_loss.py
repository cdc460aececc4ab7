"""What a call is worth when packets are lost: `python -m experiments.packet_loss CLIPS --output runs/loss`.

Every clip is sent with each refresh interval and comes through networks that lose packets at random, or all of them for
two seconds. Header and pivots are sent again until they have come, motion is not; packets take 50 ms and up to 40 ms
more. What is shown is compared with the clip as `experiments.evaluate` does; with `--poses` nothing is drawn, and the
pose of each frame is compared with the face in it, hundreds of calls a minute. The folder keeps every call played: the
same command goes on where it was stopped.
"""

import argparse
import dataclasses
import json
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from avfr_jax.codec.bitstream import Kind, Packet
from avfr_jax.codec.channel import Channel, play_call
from avfr_jax.codec.receiver import Receiver
from avfr_jax.codec.sender import Sender, send_all
from avfr_jax.codec.settings import SenderSettings
from avfr_jax.errors import ConfigError, MissingBackendError, OutputError
from avfr_jax.media.files import atomic_file
from avfr_jax.metrics import faces as face_metrics
from avfr_jax.model_store import load_model
from avfr_jax.models.base import Animator
from avfr_jax.tracking import TrackedFrame, track
from experiments.evaluate import Reference, find_clips
from experiments.program import run_program

LOSSES = (0.0, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5)
REFRESHES = (6, 12, 25)
BURST = 2.0  # seconds without a packet
JITTER = 0.04
MEASURES = {
    "kbps": ("kbit/s", ".2f"),
    "l1": ("L1", ".4f"),
    "ssim": ("SSIM", ".3f"),
    "lmd": ("landmarks, px", ".2f"),
    "mouth": ("lips, px", ".2f"),
    "held": ("frames without motion, %", ".1f"),
}
"""Headings and forms of the figures, by their keys."""
_DRAWN = ("l1", "lmd", "mouth", "held")
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Line:
    """What a network does to a call.

    Attributes:
      loss: share of packets that are lost at random; None loses all of them for `BURST` seconds.
      seed: which ones.
    """

    loss: float | None
    seed: int

    @property
    def name(self) -> str:
        """As it is shown."""
        return f"{BURST:g} s" if self.loss is None else f"{100 * self.loss:g} %"

    def network(self, seconds: float) -> Channel:
        """For a call of that many seconds, in which a burst begins after the first and ends half a second before its
        last."""
        if self.loss is not None:
            return Channel(self.loss, JITTER, seed=self.seed)
        start = np.random.default_rng(self.seed).uniform(1.0, max(1.0, seconds - BURST - 0.5))
        return Channel(0.0, JITTER, bursts=((start, start + BURST),), seed=self.seed)


def lines(seeds: int) -> list[Line]:
    """Every network: without loss one seed is all there is."""
    rates = [Line(loss, seed) for loss in LOSSES for seed in range(seeds if loss else 1)]
    return rates + [Line(None, seed) for seed in range(seeds)]


def send(model: Animator, seen: Sequence[TrackedFrame], refresh: int) -> list[Packet]:
    """A clip's packets, as a call sends them."""
    sender = Sender(model, dataclasses.replace(SenderSettings(), refresh=refresh))
    return list(send_all(sender, ((one.image, one.landmarks, one.person_mask) for one in seen)))


class _Poser(Receiver):
    """A receiver that shows poses."""

    def render(self, until: int) -> Iterator[Any]:
        return self.poses(until)


class PoseReference:
    """The faces of a clip, compared with the poses that were shown."""

    def __init__(self, seen: Sequence[TrackedFrame]) -> None:
        self._found = [one.landmarks is not None for one in seen]
        self._landmarks: Any = np.stack([one.landmarks for one in seen if one.landmarks is not None])

    def score(self, shown: Sequence[Any]) -> Row:
        """Distances of all points and of the lips, in pixels of a 256 x 256 frame."""
        meshes: Any = np.stack([pose["mesh"] for pose in shown])[self._found]
        return {
            "lmd": float(face_metrics.landmark_distance(self._landmarks, meshes).mean()),
            "mouth": float(face_metrics.mouth_distance(self._landmarks, meshes).mean()),
        }


def play(model: Animator, packets: Sequence[Packet], line: Line, reference: Reference | PoseReference) -> Row:
    """One call, and what is measured of it."""
    count = max(packet.end(0) for packet in packets if packet.kind is Kind.MOTION)
    posing = isinstance(reference, PoseReference)
    end = _Poser(rendering=False) if posing else Receiver(model, batch_size=1)
    shown: Any = list(play_call(packets, line.network(count / 25), 25, count, receiver=end))
    size = sum(len(packet.to_bytes()) for packet in packets)
    row = {"kbps": size * 8 / (count / 25) / 1000, "held": 100 * end.received.held / count}
    if isinstance(reference, Reference):
        shown = np.stack(shown)
    found = reference.score(shown)
    return row | {key: value for key, value in found.items() if key in MEASURES}


class Calls:
    """The calls played so far, in one file of a folder."""

    def __init__(self, folder: pathlib.Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{folder} cannot be made a folder ({error.strerror}): choose another --output."
            ) from None
        self._path = folder / "calls.json"
        try:
            self.rows: list[Row] = json.loads(self._path.read_text()) if self._path.is_file() else []
        except ValueError:
            raise OutputError(f"{self._path} is damaged: remove it, or choose another --output.") from None

    def has(self, key: Row) -> bool:
        """Whether a call was played."""
        return any(key.items() <= row.items() for row in self.rows)

    def add(self, row: Row) -> None:
        """Keep one."""
        self.rows.append(row)
        with atomic_file(self._path, overwrite=True) as scratch:
            scratch.write_text(json.dumps(self.rows, indent=0))


def measure(
    clips: Sequence[Any], model: Animator, calls: Calls, seconds: float, seeds: int, *, poses: bool = False
) -> list[Row]:
    """Every call of every clip; those that were played before are read."""
    wanted = []
    for clip in clips:
        reference: Reference | PoseReference | None = None
        seen: list[TrackedFrame] = []
        for refresh in REFRESHES:
            packets: list[Packet] | None = None
            for line in lines(seeds):
                key = {"clip": clip.name, "model": model.name, "seconds": seconds, "poses": poses, "refresh": refresh}
                key |= {"line": line.name, "seed": line.seed}
                wanted.append(key)
                if calls.has(key):
                    continue
                if reference is None:
                    frames = clip.read(seconds, model.image_size)
                    seen = list(track(frames, model.image_size, capabilities=model.capabilities, crop="none"))
                    reference = PoseReference(seen) if poses else Reference(frames, with_points=False)
                packets = packets or send(model, seen, refresh)
                calls.add(key | play(model, packets, line, reference))
                print(f"\r{clip.name}, refresh {refresh}, {line.name}, seed {line.seed}\033[K", end="", file=sys.stderr)
    print(file=sys.stderr)
    return [row for row in calls.rows if any(key.items() <= row.items() for key in wanted)]


def means(rows: Sequence[Row]) -> Iterator[tuple[int, str, dict[str, float]]]:
    """(refresh, network, means over clips and seeds) in order; a figure that no call has is absent, as landmark
    distances are where every face was lost."""
    for refresh in REFRESHES:
        for name in dict.fromkeys(line.name for line in lines(1)):
            some = [row for row in rows if (row["refresh"], row["line"]) == (refresh, name)]
            if some:
                known = {key: [row[key] for row in some if key in row] for key in MEASURES}
                yield refresh, name, {key: float(np.mean(values)) for key, values in known.items() if values}


def markdown(rows: Sequence[Row]) -> str:
    """The means as a table."""
    heads = ["refresh", "lost", *(title for title, _ in MEASURES.values())]
    text = [f"| {' | '.join(heads)} |", "| ---: " * len(heads) + "|"]
    for refresh, name, row in means(rows):
        cells = [format(row[key], form) if key in row else "-" for key, (_, form) in MEASURES.items()]
        text.append(f"| {refresh} | {name} | {' | '.join(cells)} |")
    return "\n".join(text)


def draw(path: pathlib.Path, rows: Sequence[Row]) -> None:
    """A panel a measure, a line a refresh interval, each call a dot.

    Raises:
      MissingBackendError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingBackendError("The plot is left out: it needs matplotlib (pip install matplotlib).") from None
    figure = Figure(figsize=(9, 7), layout="constrained")
    names = list(dict.fromkeys(line.name for line in lines(1)))
    found = list(means(rows))
    for index, key in enumerate(key for key in _DRAWN if any(key in row for row in rows)):
        axes = figure.add_subplot(2, 2, index + 1)
        for shift, refresh in zip(np.linspace(-0.12, 0.12, len(REFRESHES)), REFRESHES, strict=True):
            mean = {name: row[key] for r, name, row in found if r == refresh and key in row}
            colour = f"C{REFRESHES.index(refresh)}"
            dots = [(names.index(r["line"]) + shift, r[key]) for r in rows if r["refresh"] == refresh and key in r]
            axes.plot([x for x, _ in dots], [y for _, y in dots], ".", color=colour, alpha=0.25, markersize=4)
            lost = [name for name in names[:-1] if name in mean]
            axes.plot([names.index(n) + shift for n in lost], [mean[n] for n in lost], color=colour, marker="o",
                      markersize=4, label=f"refreshed every {refresh} frames")  # fmt: skip
            if names[-1] in mean:
                axes.plot([len(names) - 1 + shift], [mean[names[-1]]], "D", color=colour, markersize=5)
        axes.set_xticks(range(len(names)), names)
        axes.set(ylabel=MEASURES[key][0], xlabel="packets lost, or for how long", ylim=(0, None))
        axes.grid(alpha=0.3)
    axes.legend()
    with atomic_file(path, overwrite=True) as scratch:
        figure.savefig(scratch, dpi=110)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.packet_loss",
        description="Play calls over networks that lose packets and measure what is shown.",
        epilog="example: python -m experiments.packet_loss clips/ --seconds 6 --seeds 3",
    )
    parser.add_argument("clips", nargs="+", type=pathlib.Path, help="square videos, folders of them, prepared datasets")
    output = "folder of the calls, table and plot; goes on with what is there; default: runs/loss"
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("runs/loss"), help=output)
    parser.add_argument("--model", default="landmark-warp", help="which draws; default: landmark-warp")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each clip; default: 6")
    parser.add_argument("--seeds", type=int, default=3, help="calls a network; default: 3")
    parser.add_argument("--poses", action="store_true", help="compare poses, draw nothing; for models of the face mesh")
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> None:
    """Measure, then write and print.

    Raises:
      AvfrError: bad clips, model, numbers or output folder.
    """
    if not (np.isfinite(options.seconds) and options.seconds >= 1 and options.seeds >= 1):
        raise ConfigError("--seconds and --seeds must be 1 or more.")
    calls = Calls(options.output)
    model, clips = load_model(options.model), find_clips(options.clips)
    if options.poses and model.family != "landmark-warp":
        raise ConfigError(f"--poses compares the face mesh, which is not all that {model.name} is sent.")
    rows = measure(clips, model, calls, options.seconds, options.seeds, poses=options.poses)
    table = markdown(rows)
    with atomic_file(options.output / "table.md", overwrite=True) as scratch:
        scratch.write_text(table + "\n")
    print(table)
    draw(options.output / "loss.png", rows)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    options = _arguments(argv)
    return run_program(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
