"""Quality of calls with packet loss: `python -m experiments.packet_loss CLIPS --output runs/loss`.

Every clip is sent with each refresh interval over simulated channels that lose packets at random, or all of them for
two seconds. Header and reference frames are repeated until they arrive, motion is not; packets take 50 to 90 ms. The
output is compared with the clip as in `experiments.evaluate`; with `--poses` nothing is rendered, and the decoded poses
are compared with the tracked faces, hundreds of calls per minute. The folder keeps every call, so that the same command
resumes.
"""

from avfr_jax.interrupts import exit_on_signals

if __name__ == "__main__":  # before the imports, which take a while
    exit_on_signals("experiments.packet_loss", "stopped; measurements in the output folder are kept.")


import argparse
import dataclasses
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
from avfr_jax.errors import ConfigError, MissingBackendError
from avfr_jax.metrics import faces as face_metrics
from avfr_jax.model_store import load_model
from avfr_jax.models.base import Animator
from avfr_jax.motion import FaceMeshSpec
from avfr_jax.streams import standard_streams
from avfr_jax.tracking import TrackedFrame, track
from experiments.evaluate import Reference
from experiments.harness import (
    FPS,
    Clip,
    Results,
    add_clips,
    add_output,
    find_clips,
    markdown,
    new_figure,
    progress,
    run_program,
    save_figure,
    write_text,
)

LOSSES = (0.0, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5)
REFRESHES = (6, 12, 25)
BURST = 2.0  # seconds without a packet
JITTER = 0.04  # seconds
MEASURES = {
    "kbps": ("kbit/s", ".2f"),
    "l1": ("L1", ".4f"),
    "ssim": ("SSIM", ".3f"),
    "lmd": ("landmarks, px", ".2f"),
    "mouth": ("lips, px", ".2f"),
    "held": ("frames without motion, %", ".1f"),
}
"""Title and format of the figures."""
_PLOTTED = ("l1", "lmd", "mouth", "held")
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Loss:
    """Packet loss of a channel: a share of random losses, or None for a burst of `BURST` seconds; and a seed."""

    share: float | None
    seed: int

    @property
    def name(self) -> str:
        return f"{BURST:g} s" if self.share is None else f"{100 * self.share:g} %"

    def channel(self, seconds: float) -> Channel:
        """Channel of a call of that length; a burst begins after the first second and ends half a second before the
        end."""
        if self.share is not None:
            return Channel(self.share, JITTER, seed=self.seed)
        start = np.random.default_rng(self.seed).uniform(1.0, max(1.0, seconds - BURST - 0.5))
        return Channel(0.0, JITTER, bursts=((start, start + BURST),), seed=self.seed)


def losses(seeds: int) -> list[Loss]:
    """Every loss, each with several seeds; without loss one is enough."""
    rates = [Loss(share, seed) for share in LOSSES for seed in range(seeds if share else 1)]
    return rates + [Loss(None, seed) for seed in range(seeds)]


def send(model: Animator, tracked: Sequence[TrackedFrame], refresh: int) -> list[Packet]:
    """Encode a clip's packets with the settings of a call."""
    sender = Sender(model, dataclasses.replace(SenderSettings(), refresh=refresh))
    return list(send_all(sender, ((one.image, one.landmarks, one.person_mask) for one in tracked)))


class PoseReceiver(Receiver):
    """A receiver that returns poses instead of frames."""

    def render(self, until: int) -> Iterator[Any]:
        return self.poses(until)


class PoseReference:
    """Tracked faces of a clip, to compare decoded poses with."""

    def __init__(self, tracked: Sequence[TrackedFrame]) -> None:
        self._detected = [one.landmarks is not None for one in tracked]
        self._landmarks: Any = np.stack([one.landmarks for one in tracked if one.landmarks is not None])

    def score(self, poses: Sequence[Any]) -> Row:
        """Distances of all points and of the lips, in pixels of a 256 x 256 frame."""
        meshes: Any = np.stack([pose["mesh"] for pose in poses])[self._detected]
        return {
            "lmd": float(face_metrics.landmark_distance(self._landmarks, meshes).mean()),
            "mouth": float(face_metrics.mouth_distance(self._landmarks, meshes).mean()),
        }


def play(model: Animator, packets: Sequence[Packet], loss: Loss, reference: Reference | PoseReference) -> Row:
    """Simulate one call and measure its output."""
    count = max(packet.end(0) for packet in packets if packet.kind is Kind.MOTION)
    posing = isinstance(reference, PoseReference)
    end = PoseReceiver(rendering=False) if posing else Receiver(model, batch_size=1)
    output: Any = list(play_call(packets, loss.channel(count / FPS), FPS, count, receiver=end))
    size = sum(len(packet.to_bytes()) for packet in packets)
    row = {"kbps": size * 8 / (count / FPS) / 1000, "held": 100 * end.received.held / count}
    figures = reference.score(output) if isinstance(reference, PoseReference) else reference.score(np.stack(output))
    return row | {key: value for key, value in figures.items() if key in MEASURES}


def measure(
    clips: Sequence[Clip], model: Animator, results: Results, seconds: float, seeds: int, *, poses: bool = False
) -> list[Row]:
    """Measure every call of every clip, or read it from the results."""
    rows = []
    for clip in clips:
        reference: Reference | PoseReference | None = None
        tracked: list[TrackedFrame] = []
        for refresh in REFRESHES:
            packets: list[Packet] | None = None
            for loss in losses(seeds):
                facts = {"clip": clip.name, "model": model.name, "seconds": seconds, "poses": poses}
                facts |= {"refresh": refresh, "loss": loss.name, "seed": loss.seed}
                name = f"{clip.name}-{refresh}-{loss.name}-{loss.seed}"
                row = results.find(name, facts)
                if row is None:
                    if reference is None:
                        frames = clip.read(seconds, model.image_size)
                        tracked = list(track(frames, model.image_size, capabilities=model.capabilities, crop="none"))
                        reference = PoseReference(tracked) if poses else Reference(frames, with_points=False)
                    packets = packets or send(model, tracked, refresh)
                    row = facts | play(model, packets, loss, reference)
                    results.add(name, facts, row)
                    progress(f"{clip.name}, refresh {refresh}, {loss.name}, seed {loss.seed}")
                rows.append(row)
    progress("")
    return rows


def means(rows: Sequence[Row]) -> Iterator[tuple[int, str, dict[str, float]]]:
    """(refresh, loss, means over clips and seeds); a figure without any value is absent."""
    for refresh in REFRESHES:
        for name in dict.fromkeys(loss.name for loss in losses(1)):
            some = [row for row in rows if (row["refresh"], row["loss"]) == (refresh, name)]
            if some:
                values = {key: [row[key] for row in some if key in row] for key in MEASURES}
                yield refresh, name, {key: float(np.mean(known)) for key, known in values.items() if known}


def table(rows: Sequence[Row]) -> str:
    """Format the means as Markdown."""
    lines = [
        [str(refresh), name, *(format(row[k], form) if k in row else "-" for k, (_, form) in MEASURES.items())]
        for refresh, name, row in means(rows)
    ]
    return markdown(["refresh", "lost", *(title for title, _ in MEASURES.values())], lines)


def plot(path: pathlib.Path, rows: Sequence[Row]) -> None:
    """Plot a panel per measure, a line per refresh interval, a dot per call.

    Raises:
      MissingBackendError: matplotlib is not installed.
    """
    figure = new_figure(9, 7)
    names = list(dict.fromkeys(loss.name for loss in losses(1)))
    averages = list(means(rows))
    for index, key in enumerate(key for key in _PLOTTED if any(key in row for row in rows)):
        axes = figure.add_subplot(2, 2, index + 1)
        for shift, refresh in zip(np.linspace(-0.12, 0.12, len(REFRESHES)), REFRESHES, strict=True):
            mean = {name: row[key] for r, name, row in averages if r == refresh and key in row}
            colour = f"C{REFRESHES.index(refresh)}"
            dots = [(names.index(r["loss"]) + shift, r[key]) for r in rows if r["refresh"] == refresh and key in r]
            axes.plot([x for x, _ in dots], [y for _, y in dots], ".", color=colour, alpha=0.25, markersize=4)
            shares = [name for name in names[:-1] if name in mean]
            axes.plot([names.index(n) + shift for n in shares], [mean[n] for n in shares], color=colour, marker="o",
                      markersize=4, label=f"refreshed every {refresh} frames")  # fmt: skip
            if names[-1] in mean:
                axes.plot([len(names) - 1 + shift], [mean[names[-1]]], "D", color=colour, markersize=5)
        axes.set_xticks(range(len(names)), names)
        axes.set(ylabel=MEASURES[key][0], xlabel="share or duration of lost packets", ylim=(0, None))
        axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.packet_loss",
        description="Simulate calls over channels that lose packets and measure their output.",
        epilog="example:\n  python -m experiments.packet_loss clips/ --seconds 6 --seeds 3",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_clips(parser, seconds=6.0)
    add_output(parser, "runs/loss")
    parser.add_argument("--model", default="landmark-warp", help="which renders; default: landmark-warp")
    parser.add_argument("--seeds", type=int, default=3, help="calls per channel; default: 3")
    parser.add_argument("--poses", action="store_true", help="compare poses, render nothing; for face-mesh models")
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> None:
    """Measure, then write and print.

    Raises:
      AvfrError: bad clips, model, numbers or output folder.
    """
    if not (np.isfinite(options.seconds) and options.seconds >= 1 and options.seeds >= 1):
        raise ConfigError("--seconds and --seeds must be 1 or more.")
    results = Results(options.output / "calls")
    model, clips = load_model(options.model), find_clips(options.clips)
    if options.poses and not isinstance(model.motion_spec, FaceMeshSpec):
        raise ConfigError(f"--poses compares the face mesh, which is not the whole motion of {model.name}.")
    rows = measure(clips, model, results, options.seconds, options.seeds, poses=options.poses)
    text = table(rows)
    write_text(options.output / "table.md", text + "\n")
    print(text)
    try:
        plot(options.output / "loss.png", rows)
    except MissingBackendError as error:
        print(error, file=sys.stderr)


@standard_streams("experiments.packet_loss")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _arguments(argv)
    return run_program(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
