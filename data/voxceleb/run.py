"""Preparation of VoxCeleb: whole videos, or clips that were cut out before, to the clips of a table."""

import dataclasses
import os
import pathlib
import shutil
import sys

from avfr_jax.errors import ConfigError, InputError, OutputError
from data.clip_folder.config import ClipConfig, Report
from data.clip_folder.run import VIDEOS, Job, find_videos, run_jobs
from data.voxceleb.clip import prepare_one
from data.voxceleb.metadata import SPLITS, Metadata, Span, read_metadata

# Of 14,429 frames of 130 clips, with mesh image, mask, landmarks and mel window.
_BYTES = 54_000  # a frame of 256 × 256
_BYTES_PLAIN = 33_000  # without mesh and mask
_NO_STAMP = [0, 0]  # of a video that is not there


def prepare(
    videos: str | os.PathLike[str],
    metadata: str | os.PathLike[str],
    out: str | os.PathLike[str],
    config: ClipConfig | None = None,
) -> dict[str, Report]:
    """Prepare the clips of FOMM's metadata as the datasets `out/train` and `out/test`; resumes an earlier run.

    Of each clip one of these is used, wherever under `videos` it lies: the clip itself, as FOMM's preprocessing names
    it (`person#video#start#end`, numbers of six digits, any container), or the whole video by its id. From whole videos
    the clip's box is cut, which is scaled by the frames' size (`config.crop`: see `ClipConfig`). A video that is not
    there is a rejection like others: the clip is prepared by the same command when there is one.

    Args:
      videos: folder of the videos; folders in it are searched too.
      metadata: see `read_metadata`.
      out: folder of both datasets.
      config: settings; `crop` "box" by default.

    Returns:
      The report of each split that has clips.

    Raises:
      InputError: no such folder, or no video in it.
      TooManyRejectedError: more clips than `config.max_rejected` allows could not be prepared; the others are.
      OutputError: `out` cannot be written to or holds something else, or its disk is too small or full.
      ConfigError: impossible settings, other settings than those `out` was prepared with, a table that cannot be used.
      MissingBackendError: mediapipe is not installed.
    """
    config = config or ClipConfig(crop="box", max_rejected=1.0)
    if config.crop not in ("box", "square") or config.stills or config.identities is not None:
        raise ConfigError("VoxCeleb's clips are cut by their boxes (crop box or square), with identities of their own.")
    table = read_metadata(pathlib.Path(metadata))
    root, target = pathlib.Path(videos), pathlib.Path(out)
    found = {path.stem: path for path in reversed(find_videos(root, target, VIDEOS))}
    jobs = {split: _jobs(table, split, found, config) for split in SPLITS}
    there = [span for span in table.spans if _file_of(span, found) is not None]
    _say_plan(table, there, target, config)
    reports = {}
    for split in SPLITS:
        if jobs[split]:
            identities = {job.key: job.spec.person for job in jobs[split] if isinstance(job.spec, Span)}
            reports[split] = run_jobs(jobs[split], identities, target / split, config, prepare_one)
    return reports


def _file_of(span: Span, found: dict[str, pathlib.Path]) -> pathlib.Path | None:
    """The clip's own file, else the whole video."""
    return found.get(span.name) or found.get(span.video)


def _jobs(table: Metadata, split: str, found: dict[str, pathlib.Path], config: ClipConfig) -> list[Job]:
    """A job a clip of a split, and one a row without a clip, which gives the rejection."""
    jobs = []
    for span in (span for span in table.spans if span.split == split):
        path = _file_of(span, found)
        if config.seconds is not None:
            span = dataclasses.replace(span, end=min(span.end, span.start + max(1, round(config.seconds * span.fps))))
        status = None if path is None or not path.exists() else path.stat()
        stamp = _NO_STAMP if status is None else [status.st_size, status.st_mtime_ns]
        jobs.append(Job(span.name, path or pathlib.Path(span.video), stamp, span, span.name))
    for of_split, line, reason in table.faults:
        if of_split == split:
            jobs.append(Job(f"line-{line:07d}", pathlib.Path(), _NO_STAMP, reason, f"line {line}"))
    return jobs


def _say_plan(table: Metadata, there: list[Span], out: pathlib.Path, config: ClipConfig) -> None:
    """What there is, on stderr, and the space that it takes. OutputError where the disk has less."""
    frames = sum(stop - first for first, stop in (span.frames(config.fps) for span in there))
    each = (_BYTES if config.priors else _BYTES_PLAIN) * (config.size / 256) ** 2
    free = shutil.disk_usage(_existing(out)).free
    missing = len({span.video for span in table.spans} - {span.video for span in there})
    print(
        f"{len(table.spans)} clips, {len(table.faults)} rows without one; the videos of {len(there)} clips are there, "
        f"{missing} videos are missing\n{frames} frames to prepare take about {frames * each / 1e9:.1f} GB; {out} has "
        f"{free / 1e9:.1f} GB free",
        file=sys.stderr,
    )
    if not there:
        raise InputError("None of the table's videos is there: give the folder that holds them, named by their ids.")
    if _missing_space(out, there, frames * each) > free:
        raise OutputError(
            f"{out} has {free / 1e9:.1f} GB free and about {frames * each / 1e9:.1f} GB are needed: make space or "
            "choose another place."
        )


def _missing_space(out: pathlib.Path, there: list[Span], total: float) -> float:
    """Bytes that are not written yet, by the clips that an earlier run finished."""
    names = [span.name for span in there]
    done = sum((out / split / ".prepare" / "done" / f"{name}.json").is_file() for split in SPLITS for name in names)
    return total * (1 - done / len(names))


def _existing(path: pathlib.Path) -> pathlib.Path:
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())
