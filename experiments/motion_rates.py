"""Bit rate of a call's motion by predictor and entropy coder: `python -m experiments.motion_rates CLIPS`.

Components of the face mesh at one quantiser, coded by `avfr_jax.codec` with each predictor from earlier frames, and by
two baselines: differences from the last frame in zeroth-order Exp-Golomb codes, padded to a byte per frame (as the
committee's software codes keypoints, with its coder restarted at each frame), and the paper's raw 80 bytes. Bare
payloads: packet headers do not count.

With `--models` also the motion that a model learned (keypoints, then with Jacobians), at the coarsest step at which the
PSNR of the rendered frames is within 0.1 dB of that with unquantised motion.

CLIPS, and the clips of `--fit` for the learned predictor, are folders of `python -m data.clip_folder`. Expected: twenty
clips of ten seconds, half a minute; a minute or two more per model.
"""

from avfr_jax.interrupts import exit_on_signals

if __name__ == "__main__":  # before the imports, which take a while
    exit_on_signals("experiments.motion_rates", "stopped; measurements in the output folder are kept.")


import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from avfr_jax.codec import mesh_basis as mesh
from avfr_jax.codec.entropy import RANGE_CODER
from avfr_jax.codec.motion import FULL, MotionFormat, MotionWriter, Precision, step_of
from avfr_jax.codec.motion_space import KEYPOINTS, NumberPart
from avfr_jax.metrics.image import psnr
from avfr_jax.model_store import load_model
from avfr_jax.models.base import Animator, Priors
from avfr_jax.motion import MotionSpec, concatenate
from avfr_jax.streams import standard_streams
from avfr_jax.typing import Float, Int
from experiments.fit_mesh_motion import clips
from experiments.harness import FPS, markdown, run_program
from pipelines.record import Clip
from pipelines.sources import ClipDataset, open_dataset

PAPER = 80  # bytes per frame of the paper's raw keypoints
_SLOPES = (0, 64, 128)
_NEAR = 0.1  # dB
_STEPS = range(4, -25, -2)
_RENDERED = 8  # frames of each clip

Tracks = Sequence[Float[np.ndarray, "_ c"]]


class LinearWriter(MotionWriter):
    """Predict each number's change from its last T changes.

    Args:
      form: format of the motion; its slope is not used.
      dead_zone: see `MotionWriter`.
      taps: in 1/256, the newest change's first.
    """

    def __init__(self, form: MotionFormat, dead_zone: float, taps: Int[np.ndarray, "t c"]) -> None:
        self._taps = taps
        super().__init__(form, dead_zone)

    def refresh(self, precision: Precision = FULL) -> None:
        """See `MotionWriter.refresh`."""
        super().refresh(precision)
        self._changes = np.zeros_like(self._taps)

    def _predicted(self) -> Int[np.ndarray, "c"]:
        return self._last + (((self._taps * self._changes).sum(0) + 128) >> 8)

    def _take(self, vector: Int[np.ndarray, "c"]) -> Float[np.ndarray, "c"]:
        motion = super()._take(vector)
        self._changes = np.concatenate([self._change[None], self._changes[:-1]])
        return motion


@dataclasses.dataclass(frozen=True)
class Coded:
    """Result of coding.

    Attributes:
      kilobits: per second.
      held: decoded motion of each clip, in its own units.
    """

    kilobits: float
    held: list[Float[np.ndarray, "_ c"]]


def code(tracks: Tracks, writer: MotionWriter, refresh: int) -> Coded:
    """Code motion, one payload per refresh interval."""
    size, held = 0, []
    for track in tracks:
        own = []
        for start in range(0, len(track), refresh):
            writer.refresh()
            out = RANGE_CODER.writer()
            own += [writer.put(out, vector) for vector in track[start : start + refresh]]
            size += len(out.finish())
        held.append(np.stack(own))
    return Coded(_kilobits(8 * size, tracks), held)


def code_by_frame(tracks: Tracks, steps: Float[np.ndarray, "c"]) -> Coded:
    """Code each frame's differences from the last in zeroth-order Exp-Golomb codes, in whole bytes."""
    bits, held = 0, []
    for track in tracks:
        symbols = np.round(track / steps).astype(np.int64)
        change = np.diff(symbols, axis=0, prepend=np.zeros_like(symbols[:1]))
        each = 2 * np.floor(np.log2(2 * np.abs(change) + (change <= 0))).astype(np.int64) + 1
        bits += int((8 * np.ceil(each.sum(1) / 8)).sum())
        held.append(symbols * steps)
    return Coded(_kilobits(bits, tracks), held)


def _kilobits(bits: float, tracks: Tracks) -> float:
    return bits / sum(len(track) for track in tracks) * FPS / 1000


def fit_taps(tracks: Tracks, form: MotionFormat, dead_zone: float, refresh: int, count: int) -> Int[np.ndarray, "t c"]:
    """Fit a linear predictor of the decoded motion by reweighted (L1-like) least squares."""
    taps = np.zeros((count, len(form.step)), np.int64)
    for _ in range(2):
        held = code(tracks, LinearWriter(form, dead_zone, taps), refresh).held
        past, wanted = [], []
        for track, own in zip(tracks, held, strict=True):
            change = np.diff(own / form.steps, axis=0)
            rows = len(change) - count
            if rows > 0:
                past.append(np.stack([change[count - 1 - t : count - 1 - t + rows] for t in range(count)]))
                wanted.append((track / form.steps)[count + 1 :] - (own / form.steps)[count:-1])
        before, after = np.concatenate(past, 1), np.concatenate(wanted)
        weight = 1 / np.maximum(np.abs(after - (taps[:, None] / 256 * before).sum(0)), 1)
        square = np.einsum("anc,nc,bnc->cab", before, weight, before) + 30 * np.eye(count)
        taps = np.round(256 * np.linalg.solve(square, np.einsum("anc,nc,nc->ca", before, weight, after)[..., None]))
        taps = taps[..., 0].T.astype(np.int64)
    return taps


def mesh_rows(
    tracks: Sequence[Any], fitted_on: Sequence[Any], components: int, step: int, refresh: int
) -> Iterator[list[str]]:
    """Rows of the mesh's table: predictor, kbit/s, mean distance of the mesh in pixels of a 256 × 256 frame."""
    space = mesh.shipped()
    form = MotionFormat(space.levels[:, :components], np.full(components, step))

    def motions(clips: Sequence[Any]) -> list[Any]:
        return [space.motion_of(clip.astype(np.float32), clip[0].astype(np.float32), components) for clip in clips]

    def row(name: str, coded: Coded) -> list[str]:
        moved = [space.moved(t[0].astype(np.float32), m) for t, m in zip(tracks, coded.held, strict=True)]
        far = [np.linalg.norm((m - t)[..., :2], axis=-1).mean() for t, m in zip(tracks, moved, strict=True)]
        return [name, f"{coded.kilobits:.3f}", f"{np.mean(far):.2f}"]

    moved, zone = motions(tracks), 0.25
    for slope in _SLOPES:
        writer = MotionWriter(dataclasses.replace(form, slope=slope), zone)
        yield row(f"slope {slope}/256" if slope else "last value", code(moved, writer, refresh))
    for count in (1, 3) if fitted_on else ():
        taps = fit_taps(motions(fitted_on), form, zone, refresh, count)
        yield row(f"learned, last {count}", code(moved, LinearWriter(form, zone, taps), refresh))
    yield row("Exp-Golomb by frame", code_by_frame(moved, form.steps))


@dataclasses.dataclass(frozen=True)
class Learned:
    """A clip's frames `[N, S, S, 3]` in [0, 1], their motion, and the encoded first frame."""

    frames: Any
    motion: Any
    encoded: Any


def _learned(model: Animator, dataset: ClipDataset, clip: Clip, frames: int) -> Learned:
    """Read the first frames of a clip, the first of them being the source."""
    read = [
        dataset.read_frame(clip, i, ("image", "priors", "landmarks") if dataset.priors else ("image", "landmarks"))
        for i in range(min(frames, clip.frames))
    ]
    pictures = np.stack([one["image"] for one in read]).astype(np.float32) / 255
    masks = pictures[..., 4] if dataset.priors else None
    priors = Priors(np.stack([one["landmarks"] for one in read]), masks)
    batch, parts = model.batch_size, []
    for at in range(0, len(pictures), batch):
        rows = np.minimum(np.arange(at, at + batch), len(pictures) - 1)  # one shape compiles once
        part = Priors(priors.landmarks[rows], None if masks is None else masks[rows])
        parts.append(model.keypoints(pictures[rows, ..., :3], part)[: len(pictures) - at])
    motion = concatenate(parts)
    first = Priors(priors.landmarks[:1], None if masks is None else masks[:1])
    return Learned(pictures[..., :3], motion, model.encode_source(pictures[0, ..., :3], motion[0], first))


def _quality(model: Animator, clips: Sequence[Learned], motions: Sequence[Any]) -> float:
    """Mean PSNR of some frames of each clip, rendered from these motions."""
    values = []
    for clip, moved in zip(clips, motions, strict=True):
        rows = np.linspace(0, len(clip.frames) - 1, _RENDERED).astype(int)
        for part in np.split(rows, _RENDERED // model.batch_size):
            output = model.animate(clip.encoded, clip.motion[0], moved[part])
            values.append(np.asarray(psnr(jnp.clip(output, 0, 1), jnp.asarray(clip.frames[part]))))
    return float(np.concatenate(values).mean())


def model_rows(name: str, dataset: ClipDataset, frames: int, refresh: int) -> Iterator[list[str]]:
    """Rows of the learned motion's table: numbers, step in pixels, PSNR lost, kbit/s of ours and by frame.

    The first row codes the first component of the model's motion alone, the next one the second too, and so on.
    """
    model = load_model(name)
    spec = model.motion_spec
    learned = [_learned(model, dataset.shrunk(model.image_size), clip, frames) for clip in dataset.clips]
    clean = _quality(model, learned, [clip.motion for clip in learned])
    poses = [spec.split(np.asarray(spec.flatten(clip.motion))) for clip in learned]
    pivots = [{key: value[0] for key, value in one.items()} for one in poses]
    for last in range(1, len(spec.components) + 1):
        part = NumberPart(KEYPOINTS, spec.components[:last])
        tracks = [
            np.stack([part.vector({key: value[i] for key, value in one.items()}, pivot) for i in range(_count(one))])
            for one, pivot in zip(poses, pivots, strict=True)
        ]
        for step in _STEPS:
            form = MotionFormat(part.levels, np.full(part.count, step), 64)
            coded = code(tracks, MotionWriter(form, 0.25), refresh)
            decoded = [
                _unflattened(spec, one | part.poses(pivot, held), clip.motion[0])
                for clip, one, pivot, held in zip(learned, poses, pivots, coded.held, strict=True)
            ]
            lost = clean - _quality(model, learned, decoded)
            if lost <= _NEAR:
                break
        plain = code_by_frame(tracks, form.steps)
        label = f"{part.count}: {', '.join(component.name for component in part.components)}"
        yield [name, label, f"{step_of(step):.3g}", f"{lost:.2f}", f"{coded.kilobits:.2f}", f"{plain.kilobits:.2f}",
               f"{plain.kilobits / coded.kilobits:.1f}"]  # fmt: skip


def _count(poses: Mapping[str, np.ndarray]) -> int:
    return len(next(iter(poses.values())))


def _unflattened(spec: MotionSpec, poses: Mapping[str, np.ndarray], source: Any) -> Any:
    parts = [poses[component.name].reshape(_count(poses), -1) for component in spec.components]
    return spec.unflatten(np.concatenate(parts, axis=1), source)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.motion_rates",
        description="Bit rate of a call's motion by predictor and entropy coder.",
        epilog="example:\n  python -m experiments.motion_rates clips --fit others",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, default = parser.add_argument, "(default: %(default)s)"
    add("dataset", type=pathlib.Path, metavar="CLIPS", help="a prepared folder of clips")
    add("--fit", type=pathlib.Path, metavar="CLIPS", help="clips of other people, for the learned predictor")
    add("--models", default="", metavar="NAME,…", help="measure the learned motion of these models too")
    add("--components", type=int, default=32, metavar="N", help=f"of the mesh {default}")
    add("--step", type=int, default=14, metavar="N", help=f"of the mesh's quantiser {default}")
    add("--refresh", type=int, default=12, metavar="FRAMES", help=f"from one refresh to the next {default}")
    add("--frames", type=int, default=100, metavar="N", help=f"of each clip for models {default}")
    options = parser.parse_args(argv)
    for name, high in (("components", mesh.MOTIONS), ("refresh", 1 << 13), ("frames", 1 << 13)):
        if not 1 <= getattr(options, name) <= high:
            parser.error(f"--{name} must be 1 to {high}")
    return options


def run(options: argparse.Namespace) -> None:
    """Measure, then print.

    Raises:
      AvfrError: bad clips or models.
    """
    tracks = clips(options.dataset)
    fitted_on = clips(options.fit) if options.fit else []
    rows = list(mesh_rows(tracks, fitted_on, options.components, options.step, options.refresh))
    rows.append([f"raw, {PAPER} bytes", f"{PAPER * 8 * FPS / 1000:.3f}", ""])
    print(markdown(("mesh", "kbit/s", "px"), rows), flush=True)
    learned: list[list[str]] = []
    for name in filter(None, options.models.split(",")):
        learned += model_rows(name, open_dataset(options.dataset), options.frames, options.refresh)
    if learned:
        heads = ("model", "numbers", "step px", "dB lost", "kbit/s", "Exp-Golomb by frame", "times")
        print("\n" + markdown(heads, learned))


@standard_streams("experiments.motion_rates")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _arguments(argv)
    return run_program(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
