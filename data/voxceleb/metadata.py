"""VoxCeleb's clips as FOMM's preprocessing lists them (Siarohin et al., video-preprocessing, `vox-metadata.csv`)."""

import csv
import dataclasses
import math
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

from avfr_jax.errors import ConfigError

_NEEDED = ("video_id", "start", "end", "bbox", "fps", "width", "height", "partition")
PERSON = "person_id"  # absent from older tables
SPLITS = ("train", "test")


class Box(NamedTuple):
    """A rectangle in shares of a frame's width and height, from its upper left corner."""

    left: float
    top: float
    right: float
    bottom: float


@dataclasses.dataclass(frozen=True)
class Span:
    """One clip: frames of a whole video, and the part of them that shows the face.

    Attributes:
      person, video: their ids.
      start, end: numbers of the first frame and the one after the last, at `fps`.
      fps: frames a second that the numbers count.
      box: of the face.
      aspect: width of the video's frames over their height.
      split: `train` or `test`.
    """

    person: str
    video: str
    start: int
    end: int
    fps: float
    box: Box
    aspect: float
    split: str

    @property
    def name(self) -> str:
        """The name that FOMM's preprocessing gives the clip, without its ending."""
        return f"{self.person}#{self.video}#{self.start:06d}#{self.end:06d}"

    def frames(self, fps: float) -> tuple[int, int]:
        """The first frame and the one after the last, at another rate."""
        return round(self.start * fps / self.fps), round(self.end * fps / self.fps)


class Metadata(NamedTuple):
    """Content of a table: its clips, and the rows that name none, as (split, line, reason); the split of a row without
    one is the first."""

    spans: list[Span]
    faults: list[tuple[str, int, str]]


def read_metadata(path: pathlib.Path) -> Metadata:
    """Read the table of clips.

    Args:
      path: a CSV with the columns video_id, start, end (frames), bbox (left-top-right-bottom in pixels of a frame of
        width × height), fps, width, height, partition (train or test) and, in newer ones, person_id; a video stands for
        a person where that is missing.

    Raises:
      ConfigError: it cannot be read, lacks a column or has no row.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            rows = list(reader)
            columns = reader.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path} cannot be read as CSV ({reason}): give FOMM's vox-metadata.csv.") from error
    if missing := [name for name in _NEEDED if name not in columns]:
        raise ConfigError(f"{path} lacks the columns {', '.join(missing)}: give FOMM's vox-metadata.csv.")
    if not rows:
        raise ConfigError(f"{path} lists no clip: give FOMM's vox-metadata.csv.")
    spans: dict[str, Span] = {}
    faults = []
    for line, row in enumerate(rows, start=2):
        try:
            span = _span(row)
            if span.name in spans:
                raise ValueError("the clip stands in the table twice")
            spans[span.name] = span
        except ValueError as error:
            split = row.get("partition")
            faults.append((split if split in SPLITS else SPLITS[0], line, str(error)))
    return Metadata(list(spans.values()), faults)


def _span(row: Mapping[str, str | None]) -> Span:
    """The clip of a row. ValueError: why there is none."""
    video, split = (row["video_id"] or "").strip(), row["partition"]
    if not video or any(character in video for character in "/\\\0"):
        raise ValueError(f"the video's id is {video!r}")
    if split not in SPLITS:
        raise ValueError(f"the partition is {split!r}, not train or test")
    start, end, fps, width, height = (_number(row, name) for name in ("start", "end", "fps", "width", "height"))
    if not 0 <= start < end:
        raise ValueError(f"the clip is from frame {start:g} to {end:g}")
    if min(fps, width, height) <= 0:
        raise ValueError(f"the video has frames of {width:g} × {height:g} and {fps:g} a second")
    person = (row.get(PERSON) or "").strip() or video
    box = _box(row["bbox"] or "", width, height)
    return Span(person, video, int(start), int(end), fps, box, width / height, split)


def _number(row: Mapping[str, str | None], name: str) -> float:
    try:
        value = float(row[name] or "")
    except ValueError:
        raise ValueError(f"{name} is {row[name]!r}, not a number") from None
    if not math.isfinite(value):
        raise ValueError(f"{name} is {row[name]!r}")
    return value


def _box(text: str, width: float, height: float) -> Box:
    try:
        left, top, right, bottom = (int(part) for part in text.split("-"))
    except ValueError:
        raise ValueError(f"the box is {text!r}, not left-top-right-bottom") from None
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ValueError(f"the box {text} is not inside frames of {width:g} × {height:g}")
    return Box(left / width, top / height, right / width, bottom / height)
