"""Bytes a frame of a head's motion, table 6 of face-vid2vid: `python -m experiments.head_rates CLIPS --model NAME`.

A frame is 3 angles, 3 translations and 3 K expression offsets. As half-precision bytes it is 6 K + 12; coded as in
appendix C.1, by arithmetic coding with a table of byte frequencies per position, counted on other people; with as many
keypoints as the frame needs (C.2, `avfr_jax.codec.keypoint_count`); and by this package's coder, which quantises and
predicts. Payloads alone: no packet headers, and as in the paper the number of keypoints is not counted in C.1's bytes.

CLIPS is a folder of `python -m data.clip_folder`, and so is that of `--fit`, for the tables. Without `--fit` the people
of CLIPS are divided into two halves, and each half is coded with the tables of the other. Without `--model` the motion
is a stand-in derived from the face mesh: rotation by perspective-n-point, K points of the mesh as keypoints, ordered by
the share of the expression that they explain, and what rotation and translation leave as expression. With a model that
was trained with ordered keypoint dropout, also what leaving keypoints out does to the frames. Expected: 54 people, six
minutes of clips, two minutes on one core; with `--model` as long as its keypoints take.
"""

from avfr_jax.interrupts import exit_on_signals

if __name__ == "__main__":  # before the imports, which take a while
    exit_on_signals("experiments.head_rates", "stopped; nothing was written.")


import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.codec.byte_tables import ByteTables, half_bytes, half_numbers
from avfr_jax.codec.entropy import RANGE_CODER
from avfr_jax.codec.keypoint_count import count_rows, counted_component
from avfr_jax.codec.motion import MotionWriter
from avfr_jax.codec.motion_space import space_of
from avfr_jax.codec.settings import FOR_CALLS, FOR_FILES, SenderSettings
from avfr_jax.errors import ConfigError
from avfr_jax.metrics.image import psnr
from avfr_jax.model_store import load_model
from avfr_jax.models.base import Animator
from avfr_jax.motion import HeadMotion, HeadSpec
from avfr_jax.streams import standard_streams
from avfr_jax.typing import Float, Int
from experiments.harness import markdown, run_program
from experiments.head_tracks import choose_points, mesh_heads, model_tracks, read_heads, split
from pipelines.sources import ClipDataset, open_dataset

_POSE = 6  # angles and translations, before the expression
_SHOWN = 512 * 512  # pixels a frame of the paper's bits a pixel
_FINE = -16  # a step of 1/16 pixel: near the precision of a half at 1
_RENDERED = 8  # frames of each clip

Tracks = Sequence[Float[np.ndarray, "_ d"]]


@dataclasses.dataclass(frozen=True)
class Measured:
    """Result of a coder.

    Attributes:
      before: bytes a frame of the half-precision numbers.
      sizes: bytes of every payload.
      frames: in all payloads.
      error: mean distance of the composed keypoints that are sent, in pixels of a 256 × 256 frame.
      keypoints: that are sent, a frame.
    """

    before: float
    sizes: Int[np.ndarray, "n"]
    frames: int
    error: float
    keypoints: float

    def row(self, name: str) -> list[str]:
        """A row of the table; minimum, maximum and median where each frame is a payload."""
        mean = self.sizes.sum() / self.frames
        each = [int(self.sizes.min()), int(self.sizes.max()), float(np.median(self.sizes))]
        shown = [f"{value:g}" for value in each] if len(self.sizes) == self.frames else [""] * 3
        return [name, f"{self.keypoints:.2f}", f"{self.before:.2f}", f"{mean:.2f}", *shown,
                f"{mean * 8 / _SHOWN:.6f}", f"{self.error:.3f}"]  # fmt: skip


HEADS = ("coder", "keypoints", "bytes before", "mean", "min", "max", "median", "bpp at 512²", "error px")

# Tracks that the tables are counted on, and tracks that are coded.
Fold = tuple[Tracks, Tracks]


def _counts(spec: HeadSpec, track: Float[np.ndarray, "t d"], threshold: float | None) -> Int[np.ndarray, "t"]:
    """Keypoints of each frame."""
    if threshold is None:
        return np.full(len(track), spec.num_keypoints)
    return count_rows(counted_component(spec), track[:, _POSE:].reshape(len(track), -1, 3), threshold)


def _error(spec: HeadSpec, true: Any, decoded: Any, counts: Int[np.ndarray, "t"]) -> float:
    """See `Measured.error`; the canonical keypoints, which are the same at both ends, lie within a head's size."""
    plain = HeadSpec(spec.num_keypoints)
    canonical = np.random.default_rng(0).uniform(-0.5, 0.5, (1, spec.num_keypoints, 3))
    source = HeadMotion(canonical.astype(np.float32), np.eye(3)[None], np.zeros((1, 3)), np.zeros_like(canonical))
    one, other = (np.asarray(plain.unflatten(np.asarray(n, np.float32), source).positions) for n in (true, decoded))
    far = np.linalg.norm((one - other)[..., :2], axis=-1) * 128
    return float(far[np.arange(spec.num_keypoints) < counts[:, None]].mean())


def by_tables(spec: HeadSpec, folds: Sequence[Fold], threshold: float | None = None) -> Measured:
    """Code each frame as in appendix C.1, with as many keypoints as `count_rows` finds, or all."""
    sizes, errors, used = [], [], []
    for fitted, tested in folds:
        tables = ByteTables.fit(half_bytes(np.concatenate(fitted)))
        for track in tested:
            counts, data = _counts(spec, track, threshold), half_bytes(track)
            sizes += [
                len(tables.encode(one[: 2 * (_POSE + 3 * k)])) for one, k in zip(data, counts.tolist(), strict=True)
            ]
            errors.append(_error(spec, track, half_numbers(data), counts))
            used.append(counts)
    return _measured(spec, sizes, errors, used)


def by_codec(
    spec: HeadSpec, folds: Sequence[Fold], settings: SenderSettings, packet: int, threshold: float | None = None
) -> Measured:
    """Code motion as the codec does, in payloads of so many frames; the first frame of each clip is the pivot."""
    layout = spec if threshold is not None else HeadSpec(spec.num_keypoints)
    space = space_of(layout)
    form = space.format(space.headers(settings.step, settings.keypoint_step), settings.slope, False)
    sizes, errors, used = [], [], []
    for track in (track for _, tested in folds for track in tested):
        counts = _counts(spec, track, threshold)
        numbers = track if threshold is None else np.insert(track, _POSE, counts, axis=1)
        poses = [{n: v[0] for n, v in layout.split(one[None].astype(np.float32)).items()} for one in numbers]
        pivot = space.get_pivot(space.put_pivot(poses[0]))
        writer, held = MotionWriter(form, settings.dead_zone), []
        for start in range(0, len(track), packet):
            if start % settings.refresh == 0:
                writer.refresh()
            out = RANGE_CODER.writer()
            held += [writer.put(out, space.vector(pose, pivot)) for pose in poses[start : start + packet]]
            sizes.append(len(out.finish()))
        decoded = space.poses(pivot, np.stack(held))
        parts = [decoded[name].reshape(len(track), -1) for name in ("rotation", "translation", "expression")]
        errors.append(_error(spec, track, np.concatenate(parts, 1), counts))
        used.append(counts)
    return _measured(spec, sizes, errors, used)


def _measured(spec: HeadSpec, sizes: list[int], errors: list[float], used: list[Any]) -> Measured:
    counts = np.concatenate(used)
    weights = [each.sum() for each in used]
    before = float(2 * (_POSE + 3 * counts.mean()))
    return Measured(before, np.array(sizes), len(counts), float(np.average(errors, weights=weights)), counts.mean())


def rows(spec: HeadSpec, folds: Sequence[Fold], thresholds: Sequence[float]) -> Iterator[list[str]]:
    """The table. Without `min_keypoints` in the specification every frame has all keypoints."""
    adaptive = () if spec.min_keypoints is None else thresholds
    raw = sum(len(track) for _, tested in folds for track in tested)
    whole = 2 * (_POSE + 3 * spec.num_keypoints)
    tables = by_tables(spec, folds)
    yield dataclasses.replace(tables, sizes=np.full(raw, whole)).row("half-precision bytes")
    yield tables.row("byte tables (C.1)")
    for threshold in adaptive:
        yield by_tables(spec, folds, threshold).row(f"the same, count by {threshold:g} px (C.2)")
    fine = dataclasses.replace(FOR_CALLS, keypoint_step=_FINE)
    yield by_codec(spec, folds, fine, 1).row("ours, call, steps of 1/16 px")
    yield by_codec(spec, folds, FOR_CALLS, 1).row("ours, call, steps of 1/2 px")
    for threshold in adaptive:
        yield by_codec(spec, folds, FOR_CALLS, 1, threshold).row(f"the same, count by {threshold:g} px")
    yield by_codec(spec, folds, FOR_CALLS, FOR_CALLS.packet).row("ours, call, 3 frames a packet")
    yield by_codec(spec, folds, FOR_FILES, FOR_FILES.packet).row("ours, file")


def quality_rows(model: Animator, dataset: ClipDataset, thresholds: Sequence[float]) -> Iterator[list[str]]:
    """PSNR of frames that are rendered from the first one with all keypoints, then with those that each threshold
    leaves; motion is not quantised."""
    spec: Any = model.motion_spec
    counted, batch = counted_component(spec), model.batch_size
    found: dict[float | None, list[Any]] = {threshold: [] for threshold in (None, *thresholds)}
    for clip in dataset.clips:
        frames = np.linspace(min(1, clip.frames - 1), clip.frames - 1, _RENDERED).astype(int)
        pixels, source = read_heads(model, dataset, clip, np.zeros(1, int), source=True)
        encoded = model.encode_source(pixels[0], source)
        true, heads = read_heads(model, dataset, clip, frames)
        numbers = np.array(spec.flatten(heads))
        for threshold, values in found.items():
            if threshold is not None:
                rows = numbers[:, _POSE + 1 :].reshape(len(frames), -1, 3)
                numbers[:, _POSE] = count_rows(counted, rows, threshold)
            moved = jax.tree.map(np.asarray, spec.unflatten(numbers, source))
            for start in range(0, len(frames), batch):
                at = np.minimum(np.arange(start, start + batch), len(frames) - 1)
                shown = jnp.clip(model.animate(encoded, source, moved[at]), 0, 1)
                values += np.asarray(psnr(shown, jnp.asarray(true[at])))[: len(frames) - start].tolist()
    whole = np.mean(found[None])
    for threshold, values in found.items():
        name = "all" if threshold is None else f"count by {threshold:g} px"
        yield [name, f"{np.mean(values):.2f}", f"{whole - np.mean(values):.2f}"]


def _mesh_folds(options: argparse.Namespace, datasets: Sequence[ClipDataset]) -> tuple[HeadSpec, list[Fold]]:
    tested, *fitted = (mesh_heads(dataset) for dataset in datasets)
    folds: list[Fold] = []
    for own, others in split(tested, fitted[0] if fitted else []):
        points = choose_points(own, options.keypoints)
        folds.append(([head.numbers(points) for head in own], [head.numbers(points) for head in others]))
    return HeadSpec(options.keypoints, -(-options.keypoints // 4)), folds


def _model_folds(
    options: argparse.Namespace, model: Animator, datasets: Sequence[ClipDataset]
) -> tuple[HeadSpec, list[Fold]]:
    spec = model.motion_spec
    if not isinstance(spec, HeadSpec):
        raise ConfigError(f"the motion of {model.name} is not a head's; give a face-vid2vid model")
    tested, *fitted = (model_tracks(model, dataset, options.frames) for dataset in datasets)
    pairs = split(tested, fitted[0] if fitted else [])
    return spec, [([track.numbers for track in own], [track.numbers for track in others]) for own, others in pairs]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.head_rates",
        description="Bytes a frame of a head's motion by coder: table 6 of face-vid2vid.",
        epilog="example:\n  python -m experiments.head_rates clips --fit others",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, default = parser.add_argument, "(default: %(default)s)"
    add("dataset", type=pathlib.Path, metavar="CLIPS", help="a prepared folder of clips")
    fit = "clips of other people, for the tables (default: each half of the people for the other)"
    add("--fit", type=pathlib.Path, metavar="CLIPS", help=fit)
    add("--model", metavar="NAME", help="whose motion is coded (default: a stand-in derived from the face mesh)")
    add("--keypoints", type=int, default=20, metavar="K", help=f"of the stand-in, 1 to 256 {default}")
    add("--frames", type=int, default=1024, metavar="N", help=f"of each clip, with --model {default}")
    small = "pixels of a 256 × 256 frame: the last keypoints that their expression moves by no more are left out"
    add("--thresholds", type=_thresholds, default=(4.0, 8.0, 12.0), metavar="PX,…", help=f"{small} (default: 4,8,12)")
    options = parser.parse_args(argv)
    for name, high in (("keypoints", 256), ("frames", 1 << 13)):
        if not 1 <= getattr(options, name) <= high:
            parser.error(f"--{name} must be 1 to {high}")
    return options


def _thresholds(text: str) -> tuple[float, ...]:
    values = tuple(float(part) for part in text.split(","))
    if not all(0 <= value < np.inf for value in values):
        raise ValueError
    return values


def run(options: argparse.Namespace) -> None:
    """Measure, then print.

    Raises:
      AvfrError: bad clips, or a model without a head's motion.
    """
    datasets = [open_dataset(path) for path in (options.dataset, options.fit) if path is not None]
    model = load_model(options.model) if options.model else None
    if model is None:
        spec, folds = _mesh_folds(options, datasets)
    else:
        datasets = [dataset.shrunk(model.image_size) for dataset in datasets]
        spec, folds = _model_folds(options, model, datasets)
    coded = [track for _, tested in folds for track in tested]
    source = options.model or f"stand-in from the face mesh, {spec.num_keypoints} points"
    print(f"{source}; {len(coded)} clips, {sum(map(len, coded))} frames\n", flush=True)
    print(markdown(HEADS, list(rows(spec, folds, options.thresholds))), flush=True)
    if model is not None and spec.min_keypoints is not None:
        lost = list(quality_rows(model, datasets[0], options.thresholds))
        print("\n" + markdown(("keypoints", "PSNR", "dB lost"), lost))


@standard_streams("experiments.head_rates")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _arguments(argv)
    return run_program(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
