"""Evaluation of models on unseen identities: `python -m experiments.evaluate CLIPS --models landmark-warp NAME`.

The papers' same-identity protocol: a clip's first frame is the source, the clip itself drives, and each generated frame
is compared with the true one. Copying the source is always one of the methods, as a measure of the clip's motion. Clips
are squares around a face (videos of any size, or a dataset of `python -m data.clip_folder`), compared at the size of
the largest model.

The face mesh favours a model that is driven by it, so landmarks that no model here uses are compared too: eyes, ears
and mouth of mediapipe's body-pose network.

The folder `--output` keeps each clip's row of each model as soon as it is measured: the same command resumes, and
further clips and models are added to what is there. A row counts for the same frames, sound, weights, settings and
code only.
"""

from avfr_jax.interrupts import exit_on_signals

if __name__ == "__main__":  # before the imports, which take a while
    exit_on_signals("experiments.evaluate", "stopped; measurements in the output folder are kept.")


import argparse
import contextlib
import functools
import hashlib
import json
import math
import pathlib
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np

import avfr_jax
from avfr_jax.errors import InputError
from avfr_jax.landmarks import LIPS, normalise_landmarks
from avfr_jax.media.files import check_output
from avfr_jax.metrics import faces as face_metrics
from avfr_jax.metrics import image as image_metrics
from avfr_jax.motion import MotionMode
from avfr_jax.reenact.settings import BestFrame
from avfr_jax.streams import standard_streams
from experiments.harness import (
    SOUND_RATE,
    Clip,
    Results,
    add_clips,
    add_output,
    digest,
    find_clips,
    progress,
    resized,
    run_program,
    write_text,
)

Rows = dict[str, dict[str, dict[str, float]]]
"""`{method: {clip: {figure: value}}}`"""

COPY = "copy"
COLUMNS = ("l1", "psnr", "ssim", "mouth_l1", "lmd", "mouth", "motion", "pose_points", "faces_missed")
_SETTLE = 8  # tracker passes over the first frame, until the landmarks have converged
_BATCH = 16


def _landmarks(frames: np.ndarray) -> np.ndarray:
    """Track the mesh, [N, 478, 3] in [-1, 1]; NaN without a detected face."""
    from avfr_jax.faces import open_face_backend
    from avfr_jax.tracking import track_landmarks

    priors = open_face_backend()
    try:
        landmarks = track_landmarks([frames[0]] * _SETTLE + list(frames), priors)[_SETTLE:]
    finally:
        priors.close()
    return normalise_landmarks(landmarks, frames.shape[2], frames.shape[1])


def _pose_points(frames: np.ndarray) -> np.ndarray:
    """Detect the points of the body-pose network, [N, 11, 2] in [-1, 1]."""
    from avfr_jax.backbones.mediapipe_nets import load_network, pose_points

    network = load_network("pose_landmark")
    detect = jax.jit(lambda x: pose_points(x, None, network)[..., :2])
    return np.concatenate([detect(part) for part in batches(frames)])[: len(frames)]


def batches(frames: np.ndarray) -> Iterable[np.ndarray]:
    """Split into batches of one size as floats in [0, 1], the last one padded by repetition."""
    for start in range(0, len(frames), _BATCH):
        part = frames[start : start + _BATCH].astype(np.float32) / 255
        yield np.concatenate([part, np.repeat(part[-1:], _BATCH - len(part), axis=0)])


def mean_distance(distance: Callable[[np.ndarray, np.ndarray], Any], a: np.ndarray, b: np.ndarray) -> float:
    """Mean over the frames of two clips `[N, H, W, 3]` uint8 of a batched distance of frames in [0, 1]."""
    values = [np.asarray(distance(x, y)) for x, y in zip(batches(a), batches(b), strict=True)]
    return float(np.concatenate(values)[: len(a)].mean())


class Reference:
    """A clip with the landmarks of its true frames.

    Attributes:
      frames: `[N, S, S, 3]` uint8.
      landmarks: `[N, 478, 3]` in [-1, 1].
      points: `[N, 11, 2]` in [-1, 1], or None without the network.
    """

    def __init__(self, frames: np.ndarray, with_points: bool) -> None:
        self.frames, self.landmarks = frames, _landmarks(frames)
        self.points = _pose_points(frames) if with_points else None

    def score(self, output: np.ndarray) -> dict[str, float]:
        """Compute all figures of generated frames `[N, S, S, 3]` uint8: image distances in [0, 1] and dB, landmark
        distances in pixels of a 256 x 256 frame, over the frames in which both faces were detected."""
        row = {name: mean_distance(distance, output, self.frames) for name, distance in _JITTED.items()}
        around_lips = self._around_lips(output)
        if around_lips:
            row["mouth_l1"] = float(np.mean(around_lips))
        ours = _landmarks(output)
        detected = np.isfinite(ours[:, 0, 0]) & np.isfinite(self.landmarks[:, 0, 0])
        row["faces_missed"] = float((~detected).sum())
        if detected.any():
            a, b = self.landmarks[detected], ours[detected]
            row["lmd"] = float(face_metrics.landmark_distance(a, b).mean())
            row["mouth"] = float(face_metrics.mouth_distance(a, b).mean())
            row["motion"] = float(face_metrics.motion_correlation(a, b))
        if self.points is not None:
            row["pose_points"] = float(np.linalg.norm(_pose_points(output) - self.points, axis=-1).mean() * 128)
        return row

    def _around_lips(self, output: np.ndarray) -> list[float]:
        """Mean absolute difference in a box around the true lips, enlarged by half their size on each side, of every
        frame with a detected face."""
        size, values = self.frames.shape[1], []
        lips = (self.landmarks[:, np.array(LIPS), :2] + 1) * size / 2
        for true, ours, points in zip(self.frames, output, lips, strict=True):
            if np.isfinite(points).all():
                low, high = points.min(0), points.max(0)
                (left, top), (right, bottom) = np.clip([low - (high - low) / 2, high + (high - low) / 2], 0, size)
                box = slice(int(top), int(np.ceil(bottom))), slice(int(left), int(np.ceil(right)))
                if true[box].size:
                    values.append(float(np.abs(true[box].astype(np.float32) - ours[box]).mean() / 255))
        return values


_JITTED = {name: jax.jit(getattr(image_metrics, name)) for name in ("l1", "psnr", "ssim")}


def driving_sound(clip: Clip, late: float | None) -> np.ndarray | None:
    """A clip's sound, cyclically delayed by `late` seconds; None for None."""
    sound = None if late is None else clip.sound()
    return None if sound is None or late is None else np.roll(sound, round(late * SOUND_RATE))


def animate(
    model: Any,
    source: np.ndarray,
    frames: np.ndarray,
    motion: MotionMode,
    sound: np.ndarray | None = None,
    mouth: Literal["driver", "sound"] = "driver",
    best_frame: BestFrame = "first",
) -> np.ndarray:
    """Animate a source by frames and sound, at their size, without cropping; the first frame has the source's pose.
    `mouth` applies to models that can be dubbed, others take the driver's. best_frame: see `Reenactor`."""

    from avfr_jax.reenact import Reenactor

    size, own = source.shape[0], model.image_size
    moved_by: Literal["driver", "sound"] = mouth if model.capabilities.dubbing else "driver"
    reenactor = Reenactor(model, crop="none", best_frame=best_frame, motion=motion, mouth=moved_by)
    made = reenactor.reenact(resized(source, own), np.stack([resized(frame, own) for frame in frames]), sound)
    return np.stack([resized(frame, size) for frame in made])


def evaluate(
    clips: Sequence[Clip],
    models: Sequence[str],
    seconds: float,
    results: Results,
    sheet: pathlib.Path | None = None,
    late: float | None = 0.0,
    mouth: Literal["driver", "sound"] = "driver",
    measured: Callable[[Rows, str], None] = lambda rows, clip: None,
    best_frame: BestFrame = "first",
) -> Rows:
    """Same-identity figures, copying the source first.

    Args:
      clips: of one face each.
      models: names or folders.
      seconds: of each clip.
      results: holds the rows of earlier runs and receives each new one.
      sheet: file for frames side by side.
      late, mouth: see `driving_sound` and `animate`.
      measured: called after each clip with the rows so far and the clip's name.
      best_frame: reference frame of the driver; by the protocol the first, which is the source itself.

    Raises:
      AvfrError: a clip or model cannot be read, or a file cannot be written.
    """
    from avfr_jax.media.image import read_image, write_image
    from avfr_jax.model_store import load_model

    loaded = {name: load_model(name) for name in models}
    identities = {COPY: COPY} | {name: model.fingerprint.hex() for name, model in loaded.items()}
    size, with_points = max((m.image_size for m in loaded.values()), default=256), _has_pose_network()
    rows: Rows = {name: {} for name in identities}
    strips = []
    for number, clip in enumerate(clips):
        start = time.perf_counter()
        frames, sound = clip.read(seconds, size), driving_sound(clip, late)
        facts = [code_digest(), with_points, mouth, best_frame, digest(frames, sound)]
        keys = {name: (f"{clip.name}-{name}", [*facts, identity]) for name, identity in identities.items()}
        known = {name: row for name, key in keys.items() if (row := results.find(*key)) is not None}
        strip = results.path(f"{clip.name}-frames", [*facts, *identities.values()], ".png")
        if sheet and not (strip.is_file() and known.keys() == keys.keys()):
            known = {}  # the pictures need every method's frames
        outputs, reference = {}, None
        for name, key in keys.items():
            if name not in known:
                reference = reference or Reference(frames, with_points)
                outputs[name] = _output(loaded.get(name), frames, sound, mouth, best_frame)
                known[name] = reference.score(outputs[name])
                results.add(*key, known[name])
            rows[name][clip.name] = known[name]
        if sheet and outputs:
            write_image(strip, _strip([frames, *outputs.values()]), overwrite=True)
        strips += [read_image(strip)] if sheet else []
        progress(f"{number + 1}/{len(clips)} {clip.name} {time.perf_counter() - start:.0f} s")
        measured(rows, clip.name)
    progress("")
    if sheet:
        _write_sheet(sheet, strips)
    return rows


def _output(
    model: Any, frames: np.ndarray, sound: np.ndarray | None, mouth: Literal["driver", "sound"], best_frame: BestFrame
) -> np.ndarray:
    """Frames of a method; model None is copying."""
    if model is None:
        return np.repeat(frames[:1], len(frames), axis=0)
    return animate(model, frames[0], frames, "relative", sound, mouth, best_frame)


@functools.cache
def code_digest() -> str:
    """Hash of the package's code and of the protocol here, as a fact of a measurement."""
    package, here = pathlib.Path(avfr_jax.__file__).parent, pathlib.Path(__file__)
    state = hashlib.sha256()
    for path in [*sorted(package.rglob("*.py")), here, here.with_name("harness.py")]:
        state.update(path.read_bytes())
    return state.hexdigest()


def _has_pose_network() -> bool:
    from avfr_jax.backbones.mediapipe_nets import load_network
    from avfr_jax.errors import MissingBackendError

    try:
        load_network("pose_landmark")
    except MissingBackendError as error:
        print(f"pose_points are left out: {error}", file=sys.stderr)
        return False
    return True


def cross(clips: Sequence[Clip], models: Sequence[str], seconds: float, sheet: pathlib.Path) -> None:
    """Write a sheet of each clip's first frame driven by the next clip: source, then at three moments the driving frame
    and each model's. Without true frames there are no figures."""
    from avfr_jax.model_store import load_model

    loaded = [load_model(name) for name in models]
    size = max((m.image_size for m in loaded), default=256)
    strips = []
    for source, driving in zip(clips, [*clips[1:], *clips[:1]], strict=True):
        picture, frames = source.read(0.08, size)[0], driving.read(seconds, size)
        frames = frames[:: max(1, len(frames) // 24)]
        # Frames are sampled from the whole clip, so its sound would not be in time with them.
        outputs = [animate(model, picture, frames, "relative") for model in loaded]
        chosen = [len(frames) // 3, 2 * len(frames) // 3, len(frames) - 1]
        strips.append(np.concatenate([picture, *(x[i] for i in chosen for x in (frames, *outputs))], axis=1))
    _write_sheet(sheet, strips)


def _strip(tracks: list[np.ndarray]) -> np.ndarray:
    """First frame, then at two moments the true frame and every method's."""
    n = len(tracks[0])
    return np.concatenate([tracks[0][0], *(x[i] for i in (n // 2, n - 1) for x in tracks)], axis=1)


def _write_sheet(path: pathlib.Path, strips: list[np.ndarray]) -> None:
    from avfr_jax.media.image import write_image

    write_image(path, np.concatenate(strips)[::2, ::2], overwrite=True)


def table(rows: Rows, *, each: bool = False) -> str:
    """Format the mean of each method over the clips, and with `each` those of each clip."""
    lines = [_HEAD]
    for method, clips in rows.items():
        lines += [line(method, clip, row) for clip, row in (clips if each else {}).items()]
        lines.append(line(method, "mean", mean(clips)))
    return "\n".join(lines)


_HEAD = "method".ljust(20) + "clip".ljust(10) + "".join(c.rjust(13) for c in COLUMNS)


def line(method: str, clip: str, row: Mapping[str, float]) -> str:
    """Format one line of the table."""
    cells = "".join(f"{row[c]:13.4f}" if c in row else "-".rjust(13) for c in COLUMNS)
    return method[-19:].ljust(20) + clip[:9].ljust(10) + cells


def mean(clips: dict[str, dict[str, float]]) -> dict[str, float]:
    """Mean of each figure over the clips that have it."""
    values = {c: [row[c] for row in clips.values() if c in row] for c in COLUMNS}
    return {column: float(np.mean(known)) for column, known in values.items() if known}


def _late(word: str) -> float | None:
    """Parse `own`, `none` or a delay in seconds, for `driving_sound`."""
    if word in ("own", "none"):
        return 0.0 if word == "own" else None
    with contextlib.suppress(ValueError):
        if math.isfinite(seconds := float(word)):
            return seconds
    raise argparse.ArgumentTypeError(f"{word!r} is not own, none or a number of seconds")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.evaluate",
        description="Compare models on clips of people, against copying the source picture.",
        epilog="example:\n  python -m experiments.evaluate clips/ --models landmark-warp mesh-fomm --seconds 3 --each",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_clips(parser, seconds=6.0)
    add_output(parser, "runs/evaluation")
    parser.add_argument("--models", nargs="*", default=["landmark-warp"], help="names or folders of models")
    parser.add_argument(
        "--audio",
        type=_late,
        default=0.0,
        metavar="own|none|SECONDS",
        help="sound for audio-conditioned models: the clip's own (default), none, or its own delayed by seconds",
    )
    mouths = "source of the mouth's motion for models that can be dubbed; default: driver"
    parser.add_argument("--mouth", choices=("driver", "sound"), default="driver", help=mouths)
    parser.add_argument(
        "--best-frame",
        type=lambda word: int(word) if word.isdigit() else word,
        default="first",
        metavar="first|auto|N",
        help="reference frame of the driver; default: first, the protocol's, which is the source itself; auto measures "
        "the choice that avfr reenact makes",
    )
    parser.add_argument("--each", action="store_true", help="each clip's figures too, as they come")
    parser.add_argument("--json", type=pathlib.Path, help="file of the figures, rewritten after each clip")
    parser.add_argument("--sheet", type=pathlib.Path, help="write frames side by side to this file")
    parser.add_argument("--cross", action="store_true", help="each clip drives the person before it: frames only")
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> None:
    """Measure, then print.

    Raises:
      AvfrError: bad clips or models, or `--cross` without a place for its pictures.
    """
    clips = find_clips(options.clips)
    if options.cross:
        if options.sheet is None:
            raise InputError("--cross makes pictures: say where with --sheet FILE.png.")
        cross(clips, options.models, options.seconds, options.sheet)
        return
    for path in (options.json, options.sheet):
        if path is not None:
            check_output(path, overwrite=True)

    def measured(rows: Rows, clip: str) -> None:
        if options.each:
            progress("")
            print("\n".join(line(method, clip, row[clip]) for method, row in rows.items()), flush=True)
        if options.json:
            means = {name: mean(clips) for name, clips in rows.items()}
            write_text(options.json, json.dumps({"clips": rows, "mean": means}, indent=1))

    results = Results(options.output)
    if options.each:
        print(_HEAD, flush=True)
    rows = evaluate(
        clips,
        options.models,
        options.seconds,
        results,
        options.sheet,
        options.audio,
        options.mouth,
        measured,
        options.best_frame,
    )
    print(table(rows))


@standard_streams("experiments.evaluate")
def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    options = _arguments(argv)
    return run_program(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
