"""Preparation of a folder of videos: discovery, identities and worker processes."""

import collections
import concurrent.futures
import concurrent.futures.process
import csv
import dataclasses
import functools
import hashlib
import os
import pathlib
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from avfr_jax.errors import ConfigError, FaceError, InputError, MissingBackendError, OutputError
from data.clip_folder.config import ClipConfig, Report, TooManyRejectedError
from data.clip_folder.store import SourceWriter, Store
from data.processes import worker_pool

_COMMON = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv")
_RARE = (".m2v", ".ts", ".mts", ".m2ts", ".vob", ".asf", ".3g2", ".mxf", ".dv")
VIDEOS = _COMMON + _RARE
ANIMATIONS = (".gif", ".webp", ".png", ".apng", ".avif")  # of these, the files that are animated
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
_LONGEST_NAME = 120  # characters of a clip's name


@dataclasses.dataclass(frozen=True)
class Job:
    """One source to prepare.

    Attributes:
      key: its unique name.
      source: the file.
      stamp: its state.
      spec: what else its preparation depends on.
      label: how rejections name it; the file's name by default.
    """

    key: str
    source: pathlib.Path
    stamp: list[int]
    spec: Any = None
    label: str = ""


Work = Callable[[Job, pathlib.Path, ClipConfig], Any]
Write = Callable[[Job, ClipConfig, Any, SourceWriter], None]


def prepare(videos: str | os.PathLike[str], out: str | os.PathLike[str], config: ClipConfig | None = None) -> Report:
    """Prepare every video under a folder as a dataset of clips; resumes an earlier run.

    With `config.stills` every picture instead, as a clip of one frame (see `pipelines.warp.WarpConfig.stills`). Videos
    are recognised by their file names' endings, animated pictures by their content; hidden files and folders are
    skipped. Finished videos are not prepared again unless they have changed, and clips of deleted videos stay. A clip's
    `identity` is that of `config.identities`, else the part of its file name before the first "#" (VoxCeleb's names),
    else the whole name without its ending.

    Raises:
      InputError: no such folder, or no video in it.
      TooManyRejectedError: more videos than `config.max_rejected` allows gave no clip; the others are prepared.
      OutputError: `out` cannot be written to or holds something else, or the disk is full.
      ConfigError: impossible settings, other settings than those `out` was prepared with, a CSV that cannot be used.
      MissingBackendError: faces are needed and mediapipe is not installed.
    """
    config = config or ClipConfig()
    if config.crop not in ("auto", "none"):
        raise ConfigError(f"videos without a table of boxes are cropped by auto or none, not {config.crop}")
    root = pathlib.Path(videos)
    paths = find_videos(root, pathlib.Path(out), PICTURES if config.stills else VIDEOS)
    jobs = _jobs(root, paths)
    names = read_identities(config.identities) if config.identities is not None else {}
    identities = {job.key: _identity(job.source, root, names) for job in jobs}
    return run_jobs(jobs, identities, pathlib.Path(out), config, _prepare_one)


def run_jobs(jobs: list[Job], identities: dict[str, str], out: pathlib.Path, config: ClipConfig, work: Work) -> Report:
    """Run the unfinished jobs, with progress on stderr, and write the index.

    Raises TooManyRejectedError afterwards where more sources than `config.max_rejected` allows gave no clip.
    """
    from tqdm import tqdm

    began = time.monotonic()
    store = Store(out, config)
    store.open()
    left = [job for job in jobs if not store.finished(job.key, job.stamp)]
    with tqdm(total=len(jobs), initial=len(jobs) - len(left), unit="clip", file=sys.stderr) as bar:
        for _ in _results(left, out, config, work):
            bar.update()
    clips, rejected = store.write_index(identities)
    report = Report(
        folder=out,
        sources=len(jobs),
        taken_over=len(jobs) - len(left),
        clips=len(clips),
        frames=sum(clip["frames"] for clip in clips),
        missing_faces=sum(clip["missing_faces"] for clip in clips),
        identities=len({clip["identity"] for clip in clips}),
        fps=config.fps,
        rejected=rejected,
        unusable=sum(store.clips_of(job.key) == 0 for job in jobs),
        seconds=time.monotonic() - began,
    )
    if report.unusable > config.max_rejected * report.sources:
        raise TooManyRejectedError(report, config.max_rejected)
    return report


def find_videos(root: pathlib.Path, out: pathlib.Path, endings: tuple[str, ...] = VIDEOS) -> list[pathlib.Path]:
    """Files under a folder with one of the endings, sorted, without those in `out`; animated pictures are videos.

    Raises InputError if there is none.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a folder: give the folder that holds the videos")
    paths, own = [], out.resolve()
    for folder, below, files in os.walk(root):
        below[:] = sorted(n for n in below if not n.startswith(".") and pathlib.Path(folder, n).resolve() != own)
        paths += [
            pathlib.Path(folder, name)
            for name in files
            if not name.startswith(".") and _ends(pathlib.Path(folder, name), endings)
        ]
    if not paths:
        what = "video" if endings == VIDEOS else "picture"
        raise InputError(f"{root} holds no {what}: give a folder with {', '.join(endings[:5])} or {endings[5]} files")
    return sorted(paths)


def _ends(path: pathlib.Path, endings: tuple[str, ...]) -> bool:
    """Whether a file counts among those with these endings."""
    from avfr_jax.media.image import is_animation

    ending = path.suffix.lower()
    return ending in endings or (endings == VIDEOS and ending in ANIMATIONS and is_animation(path))


def _jobs(root: pathlib.Path, paths: list[pathlib.Path]) -> list[Job]:
    """Jobs with unique keys: paths in the folder, made valid file names."""
    bare = collections.Counter(_key(path.relative_to(root).with_suffix("")) for path in paths)
    jobs = []
    for path in paths:
        key = _key(path.relative_to(root).with_suffix(""))
        if bare[key] > 1:  # a.mp4 and a.mov, or names that differ in a replaced character
            key += "-" + hashlib.sha1(str(path.relative_to(root)).encode()).hexdigest()[:8]
        status = path.stat() if path.exists() else None  # a dangling link is rejected when it is opened
        jobs.append(Job(key, path, [0, 0] if status is None else [status.st_size, status.st_mtime_ns]))
    return jobs


def _key(path: pathlib.Path) -> str:
    name = re.sub(r"[^\w.#+-]", "_", "_".join(path.parts))
    if len(name.encode()) > _LONGEST_NAME:
        name = name.encode()[: _LONGEST_NAME - 12].decode(errors="ignore")
        name += "-" + hashlib.sha1(str(path).encode()).hexdigest()[:8]
    return name


def read_identities(path: pathlib.Path) -> dict[str, str]:
    """Read a CSV with the columns `file` (a name, or a path in the folder of videos) and `identity`.

    Raises ConfigError if it is missing or has other columns or an empty field.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read as CSV ({error}): give a table of file and identity") from error
    if any(not row.get("file") or not row.get("identity") for row in rows) or not rows:
        raise ConfigError(f'{path} must have the columns "file" and "identity" and no empty field in them')
    return {row["file"]: row["identity"] for row in rows}


def _identity(video: pathlib.Path, root: pathlib.Path, names: dict[str, str]) -> str:
    for name in (video.relative_to(root).as_posix(), video.name):
        if name in names:
            return names[name]
    return video.name.split("#", 1)[0] if "#" in video.name else video.stem


@functools.cache
def _open_priors() -> Any:
    """Face backend of this process."""
    from avfr_jax.faces import open_face_backend

    return open_face_backend()


def _prepare_one(job: Job, out: pathlib.Path, config: ClipConfig) -> None:
    prepare_guarded(job, out, config, _write_source)


def _write_source(job: Job, config: ClipConfig, priors: Any, writer: SourceWriter) -> None:
    from data.clip_folder.clip import prepare_still, prepare_video

    (prepare_still if config.stills else prepare_video)(job.source, job.key, config, priors, writer)


def prepare_guarded(job: Job, out: pathlib.Path, config: ClipConfig, write: Write) -> None:
    """Prepare one source in a worker process. Faults of the source become rejections; faults of the machine are raised.

    write: writes the clips of a job, with the process's face backend, or raises why there are none.
    """
    priors = _open_priors() if config.crop != "none" or config.priors else None
    store = Store(out, config)
    try:
        with store.source(job.key, job.stamp) as writer:
            write(job, config, priors, writer)
    except (OutputError, ConfigError, MissingBackendError):
        raise
    except (InputError, FaceError) as error:
        _reject(job, store, str(error).replace(str(job.source), job.source.name))
    except Exception as error:  # one odd file among thousands must not end the run
        _reject(job, store, f"it could not be prepared ({type(error).__name__}: {error})")


def _reject(job: Job, store: Store, reason: str) -> None:
    with store.source(job.key, job.stamp) as writer:
        writer.reject(job.label or job.source.name, reason)


def _results(jobs: list[Job], out: pathlib.Path, config: ClipConfig, work: Work) -> Iterator[None]:
    """Run the jobs, yielding after each."""
    workers = min(config.processes, len(jobs))
    if workers <= 1:
        for job in jobs:
            yield work(job, out, config)
        return
    waiting = collections.deque(jobs)
    while waiting:
        suspects: list[Job] = []
        yield from _pool(waiting, suspects, workers, out, config, work)
        for job in suspects:  # a process died: each job under way gets a process of its own
            yield from _alone(job, out, config, work)


def _pool(
    waiting: collections.deque[Job],
    suspects: list[Job],
    workers: int,
    out: pathlib.Path,
    config: ClipConfig,
    work: Work,
) -> Iterator[None]:
    """Run jobs until none is left or a process dies; those under way then become suspects."""
    running: dict[Any, Job] = {}
    pool = worker_pool(workers)
    try:
        while waiting or running:
            while waiting and len(running) < 2 * workers:
                running[pool.submit(work, waiting[0], out, config)] = waiting[0]
                waiting.popleft()
            done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                future.result()
                del running[future]
                yield
    except concurrent.futures.process.BrokenProcessPool:
        suspects += running.values()
    finally:
        pool.shutdown(cancel_futures=True)


def _alone(job: Job, out: pathlib.Path, config: ClipConfig, work: Work) -> Iterator[None]:
    pool = worker_pool(1)
    try:
        pool.submit(work, job, out, config).result()
    except concurrent.futures.process.BrokenProcessPool:
        _reject(job, Store(out, config), "the process that prepared it died")
    finally:
        pool.shutdown(cancel_futures=True)
    yield
