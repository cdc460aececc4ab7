"""Shared parts of the measuring programs: clips, command line, resumable results, tables and plots."""

import argparse
import dataclasses
import hashlib
import itertools
import json
import math
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from avfr_jax.errors import AvfrError, ConfigError, InputError, MissingBackendError, OutputError
from avfr_jax.interrupts import SIGNALS
from avfr_jax.media.files import atomic_file
from pipelines import record
from pipelines.sources import ClipDataset, CorruptFrameError, open_dataset

FPS = 25
SOUND_RATE = 16000  # Hz


def run_program(work: Callable[[], None]) -> int:
    """Run `work` with the settings of a long computation; prints an `AvfrError` as one sentence.

    Returns:
      The exit status: 0, or 2 after an `AvfrError`.
    """
    from avfr_jax.nn.allocator import keep_freed_memory
    from avfr_jax.runtime import log_to_stderr, start_jax

    log_to_stderr()
    start_jax()
    keep_freed_memory()
    try:
        work()
    except AvfrError as error:
        print(f"avfr: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\navfr: stopped; measurements in the output folder are kept.", file=sys.stderr)
        return 130
    return 0


def run_child(words: Sequence[str]) -> int:
    """Run a command and return its exit status; signals that would end this process are passed on to it alone.

    The command runs in a session of its own: a terminal would else send it Ctrl-C a second time.
    """
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def forward(number: int, _: object) -> None:
        if child is None:
            early.append(number)
        else:
            child.send_signal(number)

    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in handlers.items():
        if handler != signal.SIG_IGN:  # nohup; the command ignores it too
            signal.signal(number, forward)
    try:
        child = subprocess.Popen(words, start_new_session=True)
        for number in early:
            child.send_signal(number)
        status = child.wait()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return 128 - status if status < 0 else status


def add_clips(parser: argparse.ArgumentParser, seconds: float) -> None:
    """Add the arguments `clips` and `--seconds`."""
    parser.add_argument(
        "clips",
        nargs="+",
        type=pathlib.Path,
        help="square videos or animated pictures, folders of them, or prepared datasets",
    )
    parser.add_argument("--seconds", type=float, default=seconds, help="of each clip; default: %(default)g")


def add_output(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the argument `--output`."""
    text = "folder of results, tables and plots; an earlier run in it is resumed; default: %(default)s"
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path(default), help=text)


def progress(text: str) -> None:
    """Overwrite the progress line on stderr; an empty text ends it."""
    print(f"\r{text}\033[K" if text else "", end="" if text else "\n", file=sys.stderr, flush=True)


# --- clips ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Clip:
    """A clip to measure on: a square video or animated picture at `path`, or the clip `entry` of a prepared dataset."""

    name: str
    path: pathlib.Path
    dataset: ClipDataset | None = None
    entry: record.Clip | None = None

    def read(self, seconds: float, size: int) -> np.ndarray:
        """Read frames at 25 per second, `[N, S, S, 3]` uint8.

        Raises:
          InputError: the video is not square or cannot be read, or has fewer than two frames.
        """
        count = max(2, math.ceil(seconds * FPS))
        frames = [resized(frame, size) for frame in itertools.islice(self._frames(), count)]
        if len(frames) < 2:
            raise InputError(f"{self.name} has fewer than two frames.")
        return np.stack(frames)

    def sound(self) -> np.ndarray | None:
        """Read the sound, mono float32 `[T]` at 16 kHz; None without any, or in ArrayRecord datasets, which hold the
        spectrogram alone."""
        from avfr_jax.media.audio import has_audio, read_audio
        from avfr_jax.media.image import is_animation

        path = self.path
        if self.dataset is not None and self.entry is not None:
            path = record.clip_folder(self.dataset.path, self.entry.name) / record.AUDIO_FILE
        return read_audio(path) if path.is_file() and not is_animation(path) and has_audio(path) else None

    def _frames(self) -> Iterator[np.ndarray]:
        from avfr_jax.media.animation import open_reader

        if self.dataset is not None and self.entry is not None:
            for index in range(self.entry.frames):
                try:
                    yield self.dataset.read_frame(self.entry, index)["image"]
                except CorruptFrameError as error:
                    raise InputError(f"Frame {index} of {self.name} cannot be read: {error}.") from None
            return
        for frame in open_reader(self.path, float(FPS)):
            if frame.shape[0] != frame.shape[1]:
                raise InputError(
                    f"{self.path.name} is {frame.shape[1]} x {frame.shape[0]} pixels, not square; prepare the videos "
                    "with python -m data.clip_folder and give the resulting folder."
                )
            yield frame


def resized(frame: np.ndarray, size: int) -> np.ndarray:
    """Resize a square frame."""
    from avfr_jax.faces.crop import Crop

    return frame if frame.shape[0] == size else Crop(0.0, 0.0, float(frame.shape[0])).apply(frame, size)


def find_clips(given: Sequence[pathlib.Path]) -> list[Clip]:
    """Open videos and animated pictures, folders of them, and datasets of `python -m data.clip_folder`.

    Raises:
      InputError: nothing there, or a broken dataset.
    """
    from avfr_jax.media.image import is_animation
    from avfr_jax.media.video import is_video

    clips: list[Clip] = []
    for path in given:
        if (path / record.INDEX).is_file():
            dataset = open_dataset(path)
            clips += [Clip(entry.name, path, dataset, entry) for entry in dataset.clips]
            continue
        inside = [path]
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.is_file() and (is_animation(p) or is_video(p)))
        if not inside or not path.exists():
            raise InputError(f"There is no clip in {path}.")
        clips += [Clip(p.stem, p) for p in inside]
    return clips


def tracked_clips(dataset: pathlib.Path) -> tuple[int, list[tuple[pathlib.Path, np.ndarray]]]:
    """Frame size of a folder dataset, and folder and landmarks `[T, 478, 3]` in pixels of its clips with a face in
    every frame.

    Raises:
      InputError: it is not a prepared dataset, or has no such clip.
    """
    try:
        size = int(json.loads((dataset / record.INDEX).read_text())["size"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{dataset} is not a prepared dataset: {error}") from error
    paths = sorted(dataset.glob(f"{record.CLIPS}/*/{record.LANDMARKS_FILE}"))
    clips = [(path.parent, points) for path in paths if np.isfinite(points := np.load(path)).all()]
    if not clips:
        raise InputError(f"no clip of {dataset} shows a face from its first frame to its last")
    return size, clips


def check_seconds(seconds: float) -> None:
    """Check a length of time. ConfigError where it is not finite and positive."""
    if not (math.isfinite(seconds) and seconds > 0):
        raise ConfigError(f"--seconds {seconds} is not a length of time.")


# --- results ----------------------------------------------------------------------------------------------------------


class Results:
    """Measurements in one folder, a file each, written whole or not at all.

    A measurement is identified by all facts that its figures depend on; a damaged file counts as missing.

    Raises:
      OutputError: the folder cannot be created.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{folder} cannot be made a folder ({error.strerror}): choose another --output."
            ) from None

    def find(self, name: str, facts: Any) -> dict[str, Any] | None:
        """Look up a measurement; None where there is none."""
        try:
            content = json.loads(self.path(name, facts).read_text())
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) else None

    def add(self, name: str, facts: Any, content: Mapping[str, Any]) -> None:
        """Store a measurement."""
        with atomic_file(self.path(name, facts), overwrite=True) as scratch:
            scratch.write_text(json.dumps(content, indent=1))

    def path(self, name: str, facts: Any, suffix: str = ".json") -> pathlib.Path:
        """File of a measurement, or with another suffix of what belongs to it."""
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{re.sub(r'[^.0-9A-Za-z_-]', '_', name)[-80:]}-{digest[:16]}{suffix}"


def digest(*arrays: np.ndarray | None) -> str:
    """Hash of arrays, as a fact of a measurement."""
    state = hashlib.sha256()
    for array in arrays:
        state.update(b"" if array is None else repr(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    return state.hexdigest()


def write_text(path: pathlib.Path, text: str) -> None:
    """Write a file, whole or not at all. OutputError where that fails."""
    with atomic_file(path, overwrite=True) as scratch:
        scratch.write_text(text)


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table, all columns but the first to the right."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def new_figure(width: float, height: float) -> Any:
    """Create a matplotlib figure. MissingBackendError where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingBackendError("The plots are left out: they need matplotlib (pip install matplotlib).") from None
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, path: pathlib.Path) -> None:
    """Write a figure as PNG."""
    with atomic_file(path, overwrite=True) as scratch:
        figure.savefig(scratch, dpi=120)
