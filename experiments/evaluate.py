"""How well models reenact people they do not know: `python -m experiments.evaluate CLIPS --models landmark-warp NAME`.

The papers' same-identity protocol: a clip's first frame is the source, the clip itself drives, and each generated frame
is compared with the true one. Copying the source is always one of the methods: it says how much a clip moves. Clips are
squares around a face: videos of any size, or a dataset that `python -m data.clip_folder` made; they are compared at
the size of the largest model.

The face mesh flatters a model that is driven by it, so a second source of landmarks that no model here sees stands
beside it: eyes, ears and mouth of mediapipe's body-pose network.
"""

import argparse
import contextlib
import dataclasses
import itertools
import json
import math
import pathlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import jax
import numpy as np

from avfr_jax.errors import InputError
from avfr_jax.landmarks import normalise_landmarks
from avfr_jax.metrics import faces as face_metrics
from avfr_jax.metrics import image as image_metrics
from avfr_jax.motion import MotionMode
from experiments.program import run_program
from pipelines.sources import Clip as PreparedClip
from pipelines.sources import ClipDataset, CorruptFrameError, open_dataset

COPY = "copy"
COLUMNS = ("l1", "psnr", "ssim", "mouth_l1", "lmd", "mouth", "motion", "pose_points", "faces_missed")
_SETTLE = 8  # looks at the first frame until the tracker's landmarks stand still
_BATCH = 16


def _landmarks(frames: np.ndarray) -> np.ndarray:
    """The mesh in each frame, [N, 478, 3] in [-1, 1], by a tracker that starts afresh; NaN where no face is found."""
    from avfr_jax.faces import open_face_backend
    from avfr_jax.tracking import track_landmarks

    priors = open_face_backend()
    try:
        found = track_landmarks([frames[0]] * _SETTLE + list(frames), priors)[_SETTLE:]
    finally:
        priors.close()
    return normalise_landmarks(found, frames.shape[2], frames.shape[1])


def _pose_points(frames: np.ndarray) -> np.ndarray:
    """Points of the body-pose network, [N, 11, 2] in [-1, 1]."""
    from avfr_jax.backbones.mediapipe_nets import load_network, pose_points

    network = load_network("pose_landmark")
    look = jax.jit(lambda x: pose_points(x, None, network)[..., :2])
    return np.concatenate([look(part) for part in batches(frames)])[: len(frames)]


def batches(frames: np.ndarray) -> Iterable[np.ndarray]:
    """Parts of one size as floats, the last one filled up by repetition."""
    for start in range(0, len(frames), _BATCH):
        part = frames[start : start + _BATCH].astype(np.float32) / 255
        yield np.concatenate([part, np.repeat(part[-1:], _BATCH - len(part), axis=0)])


def mean_distance(distance: Callable[[np.ndarray, np.ndarray], Any], a: np.ndarray, b: np.ndarray) -> float:
    """Mean over frames of a figure of two clips `[N, H, W, 3]` uint8, where `distance` gives that of each frame of two
    batches in [0, 1]."""
    found = [np.asarray(distance(x, y)) for x, y in zip(batches(a), batches(b), strict=True)]
    return float(np.concatenate(found)[: len(a)].mean())


class Reference:
    """A clip and what was measured of its true frames.

    Attributes:
      frames: `[N, S, S, 3]` uint8.
      landmarks: `[N, 478, 3]` in [-1, 1].
      points: `[N, 11, 2]` in [-1, 1], or None where the network is not at hand.
    """

    def __init__(self, frames: np.ndarray, with_points: bool) -> None:
        self.frames, self.landmarks = frames, _landmarks(frames)
        self.points = _pose_points(frames) if with_points else None

    def score(self, output: np.ndarray) -> dict[str, float]:
        """Every figure of generated frames `[N, S, S, 3]` uint8: distances of pictures in [0, 1] and dB, of landmarks
        in pixels of a 256 x 256 frame. Frames in which either face was missed do not count for the landmarks."""
        row = {name: mean_distance(distance, output, self.frames) for name, distance in _JITTED.items()}
        around_lips = self._around_lips(output)
        if around_lips:
            row["mouth_l1"] = float(np.mean(around_lips))
        ours = _landmarks(output)
        found = np.isfinite(ours[:, 0, 0]) & np.isfinite(self.landmarks[:, 0, 0])
        row["faces_missed"] = float((~found).sum())
        if found.any():
            a, b = self.landmarks[found], ours[found]
            row["lmd"] = float(face_metrics.landmark_distance(a, b).mean())
            row["mouth"] = float(face_metrics.mouth_distance(a, b).mean())
            row["motion"] = float(face_metrics.motion_correlation(a, b))
        if self.points is not None:
            row["pose_points"] = float(np.linalg.norm(_pose_points(output) - self.points, axis=-1).mean() * 128)
        return row

    def _around_lips(self, output: np.ndarray) -> list[float]:
        """Mean absolute difference in a box around the true lips, half their size larger on each side, of every frame
        that shows a face."""
        size, found = self.frames.shape[1], []
        lips = (self.landmarks[:, np.array(face_metrics.LIPS), :2] + 1) * size / 2
        for true, ours, points in zip(self.frames, output, lips, strict=True):
            if np.isfinite(points).all():
                low, high = points.min(0), points.max(0)
                (left, top), (right, bottom) = np.clip([low - (high - low) / 2, high + (high - low) / 2], 0, size)
                box = slice(int(top), int(np.ceil(bottom))), slice(int(left), int(np.ceil(right)))
                if true[box].size:
                    found.append(float(np.abs(true[box].astype(np.float32) - ours[box]).mean() / 255))
        return found


_JITTED = {name: jax.jit(getattr(image_metrics, name)) for name in ("l1", "psnr", "ssim")}


@dataclasses.dataclass(frozen=True)
class Clip:
    """A clip to evaluate on: a square video at `path`, or the clip `entry` of a prepared dataset."""

    name: str
    path: pathlib.Path
    dataset: ClipDataset | None = None
    entry: PreparedClip | None = None

    def read(self, seconds: float, size: int) -> np.ndarray:
        """Frames at 25 a second, `[N, S, S, 3]` uint8.

        Raises:
          InputError: the video is not square or cannot be read, or has fewer than two frames.
        """
        frames = [resized(frame, size) for frame in itertools.islice(self._frames(), max(2, math.ceil(seconds * 25)))]
        if len(frames) < 2:
            raise InputError(f"{self.name} has fewer than two frames.")
        return np.stack(frames)

    def sound(self) -> np.ndarray | None:
        """Its sound, mono float32 `[T]` at 16 kHz; None where it has none, or lies in a dataset's records, which keep
        the spectrogram alone."""
        from avfr_jax.media.audio import has_audio, read_audio

        path = self.path
        if self.dataset is not None and self.entry is not None:
            path = self.dataset.path / "clips" / self.entry.name / "audio.wav"
        return read_audio(path) if path.is_file() and has_audio(path) else None

    def _frames(self) -> Iterator[np.ndarray]:
        from avfr_jax.media.video import VideoReader

        if self.dataset is not None and self.entry is not None:
            for index in range(self.entry.frames):
                try:
                    yield self.dataset.read_frame(self.entry, index)["image"]
                except CorruptFrameError as error:
                    raise InputError(f"Frame {index} of {self.name} cannot be read: {error}.") from None
            return
        for frame in VideoReader(self.path, 25.0):
            if frame.shape[0] != frame.shape[1]:
                raise InputError(
                    f"{self.path.name} is {frame.shape[1]} x {frame.shape[0]} pixels, not square; prepare the videos "
                    "with python -m data.clip_folder and give the folder that it makes."
                )
            yield frame


def resized(frame: np.ndarray, size: int) -> np.ndarray:
    """A square frame at another size."""
    from avfr_jax.faces.crop import Crop

    return frame if frame.shape[0] == size else Crop(0.0, 0.0, float(frame.shape[0])).apply(frame, size)


def heard(clip: Clip, late: float | None) -> np.ndarray | None:
    """What models are given to hear with a clip: its own sound so many seconds late, what is cut off at its end coming
    first; nothing for None."""
    sound = None if late is None else clip.sound()
    return None if sound is None or late is None else np.roll(sound, round(late * 16000))


def animate(
    model: Any,
    source: np.ndarray,
    frames: np.ndarray,
    motion: MotionMode,
    sound: np.ndarray | None = None,
    mouth: Literal["driver", "sound"] = "driver",
) -> np.ndarray:
    """Every frame that a model makes of a source driven by frames and sound, at their size, without cropping; the first
    frame is the pose that the source shows. The mouth is the driver's where the model cannot leave it to the sound."""
    from avfr_jax.reenact import Reenactor

    size, own = source.shape[0], model.image_size
    moved_by: Literal["driver", "sound"] = mouth if model.capabilities.dubbing else "driver"
    reenactor = Reenactor(model, crop="none", best_frame="first", motion=motion, mouth=moved_by)
    made = reenactor.reenact(resized(source, own), np.stack([resized(frame, own) for frame in frames]), sound)
    return np.stack([resized(frame, size) for frame in made])


def evaluate(
    clips: Sequence[Clip],
    models: Sequence[str],
    seconds: float,
    sheet: pathlib.Path | None = None,
    late: float | None = 0.0,
    mouth: Literal["driver", "sound"] = "driver",
) -> dict[str, dict[str, dict[str, float]]]:
    """Same-identity figures: `{method: {clip: {figure: value}}}`, copying the source first."""
    from avfr_jax.model_store import load_model

    loaded = {name: load_model(name) for name in models}
    size = max((m.image_size for m in loaded.values()), default=256)
    rows: dict[str, dict[str, dict[str, float]]] = {name: {} for name in (COPY, *models)}
    strips = []
    for number, clip in enumerate(clips):
        start = time.perf_counter()
        reference = Reference(clip.read(seconds, size), _has_pose_network())
        frames = reference.frames
        outputs = {COPY: np.repeat(frames[:1], len(frames), axis=0)}
        sound = heard(clip, late)
        outputs |= {name: animate(model, frames[0], frames, "relative", sound, mouth) for name, model in loaded.items()}
        for name, output in outputs.items():
            rows[name][clip.name] = reference.score(output)
        strips.append(_strip([frames, *outputs.values()]))
        took = time.perf_counter() - start
        print(f"\r{number + 1}/{len(clips)} {clip.name} {took:.0f} s\033[K", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    if sheet:
        _write_sheet(sheet, strips)
    return rows


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
    """Each clip's first frame driven by the next clip, as a sheet of pictures: source, then for three moments the
    driving frame and each model's. There is no true frame to measure against."""
    from avfr_jax.model_store import load_model

    loaded = [load_model(name) for name in models]
    size = max((m.image_size for m in loaded), default=256)
    strips = []
    for source, driving in zip(clips, [*clips[1:], *clips[:1]], strict=True):
        picture, frames = source.read(0.08, size)[0], driving.read(seconds, size)
        frames = frames[:: max(1, len(frames) // 24)]
        # Frames are drawn from the whole of the clip, so that its sound would not fit them.
        outputs = [animate(model, picture, frames, "relative") for model in loaded]
        chosen = [len(frames) // 3, 2 * len(frames) // 3, len(frames) - 1]
        strips.append(np.concatenate([picture, *(x[i] for i in chosen for x in (frames, *outputs))], axis=1))
    _write_sheet(sheet, strips)


def _strip(tracks: list[np.ndarray]) -> np.ndarray:
    """First frame, then for two moments the true frame and every method's."""
    n = len(tracks[0])
    return np.concatenate([tracks[0][0], *(x[i] for i in (n // 2, n - 1) for x in tracks)], axis=1)


def _write_sheet(path: pathlib.Path, strips: list[np.ndarray]) -> None:
    from avfr_jax.media.image import write_image

    write_image(path, np.concatenate(strips)[::2, ::2], overwrite=True)


def table(rows: dict[str, dict[str, dict[str, float]]], *, each: bool = False) -> str:
    """The figures as text: the mean of each method over the clips, and each clip's if wanted."""
    lines = ["method".ljust(20) + "clip".ljust(10) + "".join(c.rjust(13) for c in COLUMNS)]
    for method, clips in rows.items():
        shown = clips if each else {}
        for clip, row in {**shown, "mean": mean(clips)}.items():
            cells = "".join(f"{row[c]:13.4f}" if c in row else "-".rjust(13) for c in COLUMNS)
            lines.append(method[-19:].ljust(20) + clip[:9].ljust(10) + cells)
    return "\n".join(lines)


def mean(clips: dict[str, dict[str, float]]) -> dict[str, float]:
    """Each figure's mean over the clips that have it."""
    return {c: float(np.mean([r[c] for r in clips.values() if c in r])) for c in COLUMNS if _any(clips, c)}


def _any(clips: dict[str, dict[str, float]], column: str) -> bool:
    return any(column in row for row in clips.values())


def _late(word: str) -> float | None:
    """`own`, `none` or seconds, as `heard` takes them."""
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
        epilog="example: python -m experiments.evaluate clips/ --models landmark-warp mesh-fomm-256 --seconds 3 --each",
    )
    parser.add_argument(
        "clips", nargs="+", type=pathlib.Path, help="square videos, folders of them, or prepared datasets"
    )
    parser.add_argument("--models", nargs="*", default=["landmark-warp"], help="names or folders of models")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each clip; default: 6")
    parser.add_argument(
        "--audio",
        type=_late,
        default=0.0,
        metavar="own|none|SECONDS",
        help="what models that hear are given: the clip's own sound (default), none, or its own so many seconds late",
    )
    mouths = "what moves the mouth of models that can leave it to the sound; default: driver"
    parser.add_argument("--mouth", choices=("driver", "sound"), default="driver", help=mouths)
    parser.add_argument("--each", action="store_true", help="each clip's figures too")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures there too")
    parser.add_argument("--sheet", type=pathlib.Path, help="write a picture of frames side by side")
    parser.add_argument("--cross", action="store_true", help="each clip drives the person before it: pictures only")
    return parser.parse_args(argv)


def find_clips(given: Sequence[pathlib.Path]) -> list[Clip]:
    """The clips of videos, of folders of videos, and of folders that `python -m data.clip_folder` made.

    Raises:
      InputError: nothing there, or a broken dataset.
    """
    from avfr_jax.media.video import is_video

    found: list[Clip] = []
    for path in given:
        if (path / "dataset.json").is_file():
            dataset = open_dataset(path)
            found += [Clip(entry.name, path, dataset, entry) for entry in dataset.clips]
            continue
        inside = sorted(p for p in path.iterdir() if p.is_file() and is_video(p)) if path.is_dir() else [path]
        if not inside or not path.exists():
            raise InputError(f"There is no clip in {path}.")
        found += [Clip(p.stem, p) for p in inside]
    return found


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
    rows = evaluate(clips, options.models, options.seconds, options.sheet, options.audio, options.mouth)
    print(table(rows, each=options.each))
    if options.json:
        means = {name: mean(clips) for name, clips in rows.items()}
        options.json.write_text(json.dumps({"clips": rows, "mean": means}, indent=1))


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    options = _arguments(argv)
    return run_program(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
