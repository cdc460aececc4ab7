"""Settings and report of the preparation of clips."""

import dataclasses
import os
import pathlib
from typing import Any, Literal, get_args

from avfr_jax.errors import ConfigError, InputError
from pipelines.record import VERSION, Storage


@dataclasses.dataclass(frozen=True)
class ClipConfig:
    """Settings of the preparation.

    Attributes:
      storage: "folder" writes a file per frame, "arrayrecord" a record per frame in a few large files.
      size: side of the prepared frames in pixels.
      fps: frames a second of the prepared clips.
      workers: processes; 0 for one per core.
      seconds: maximal length used of each video, from its beginning; None for all.
      identities: CSV with the columns `file` and `identity`; None derives identities from file names.
      min_frames: shorter clips are rejected.
      crop: "auto" cuts one square around the face per clip; "none" keeps the whole frame, which must be square. Of
        published clips with a box: "box" squeezes it to a square, "square" grows it to one around its middle.
      priors: also store mesh image and person mask.
      max_enlarge: clips whose crop would have to be enlarged more than this many times are rejected.
      max_outside: clips are rejected if more than this share of the crop lies outside the picture.
      shard_frames: an ArrayRecord file ends after the clip that brings it to this many frames.
      stills: prepare pictures instead of videos, each as a clip of one frame.
      max_rejected: largest share of sources without a clip.
    """

    storage: Storage = "folder"
    size: int = 256
    fps: float = 25.0
    workers: int = 0
    seconds: float | None = None
    identities: pathlib.Path | None = None
    min_frames: int = 25
    crop: Literal["auto", "none", "box", "square"] = "auto"
    priors: bool = True
    max_enlarge: float = 2.0
    max_outside: float = 0.15
    shard_frames: int = 4096
    stills: bool = False
    max_rejected: float = 0.5

    def __post_init__(self) -> None:
        if self.storage not in get_args(Storage):
            raise ConfigError(f'storage must be "folder" or "arrayrecord", not "{self.storage}"')
        if self.crop not in ("auto", "none", "box", "square"):
            raise ConfigError(f'crop must be "auto", "none", "box" or "square", not "{self.crop}"')
        if not 32 <= self.size <= 2048:
            raise ConfigError(f"size must be 32 to 2048 pixels, not {self.size}")
        if not 1 <= self.fps <= 120:
            raise ConfigError(f"fps must be 1 to 120 frames a second, not {self.fps}")
        if self.seconds is not None and not self.seconds > 0:
            raise ConfigError(f"seconds must be positive, not {self.seconds}")
        for name, least in (("workers", 0), ("min_frames", 1), ("max_outside", 0), ("shard_frames", 1)):
            if not getattr(self, name) >= least:
                raise ConfigError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if not 0 <= self.max_rejected <= 1:
            raise ConfigError(f"max_rejected is a share between 0 and 1, not {self.max_rejected}")
        if not self.max_enlarge >= 1:
            raise ConfigError(f"max_enlarge must be at least 1, not {self.max_enlarge}")

    @property
    def processes(self) -> int:
        return self.workers or os.cpu_count() or 1

    def settings(self) -> dict[str, Any]:
        """Settings that determine the content of clips, alike for a whole dataset."""
        names = ("storage", "size", "fps", "seconds", "min_frames", "crop", "priors", "max_enlarge", "max_outside")
        return {"version": VERSION, **{name: getattr(self, name) for name in names}}


@dataclasses.dataclass(frozen=True)
class Report:
    """Content of a dataset after a run.

    Attributes:
      folder: the dataset.
      sources: requested videos (or rendered heads).
      taken_over: sources finished by an earlier run.
      clips: prepared clips in the dataset.
      frames: frames of these clips.
      missing_faces: frames without a detected face.
      identities: number of different identities.
      fps: frames a second.
      rejected: unused sources or parts: `source` and `reason`.
      unusable: sources of this run without any clip.
      seconds: time of this run.
    """

    folder: pathlib.Path
    sources: int
    taken_over: int
    clips: int
    frames: int
    missing_faces: int
    identities: int
    fps: float
    rejected: list[dict[str, str]]
    unusable: int
    seconds: float

    def __str__(self) -> str:
        minutes, seconds = divmod(round(self.frames / self.fps), 60)
        lines = [
            f"{self.folder}: {self.clips} clips of {self.identities} people, {self.frames} frames "
            f"({minutes} min {seconds} s), {self.missing_faces} of them without a face",
            f"{self.sources} sources in {self.seconds:.0f} s, {self.taken_over} of them taken over from an earlier run",
        ]
        lines += [f"rejected: {entry['source']}: {entry['reason']}" for entry in self.rejected[:20]]
        if len(self.rejected) > 20:
            lines.append(f"and {len(self.rejected) - 20} more")
        if self.rejected:
            lines.append(f"All {len(self.rejected)} rejections are listed in {self.folder / 'rejected.json'}.")
        return "\n".join(lines)


class TooManyRejectedError(InputError):
    """Too many sources without a clip. The rest is prepared; `report` lists the rejections."""

    def __init__(self, report: Report, allowed: float) -> None:
        super().__init__(
            f"{report.unusable} of {report.sources} sources gave no clip, and {allowed:.0%} is the limit: see the "
            f"reasons in {report.folder / 'rejected.json'}, or allow more (--max-rejected)"
        )
        self.report = report
