"""Random access to the frames of prepared clip datasets; `pipelines.record` describes their form on disk."""

import dataclasses
import difflib
import functools
import hashlib
import json
import pathlib
import threading
from collections.abc import Collection, Iterable, Sequence
from typing import Any, get_args

import cv2
import msgpack
import numpy as np

from avfr_jax.config import from_dict
from avfr_jax.errors import ConfigError, InputError
from avfr_jax.landmarks import normalise_landmarks
from avfr_jax.media import mel as mel_scale
from pipelines import record as form
from pipelines.record import Clip

_JPEG_END = b"\xff\xd9"
_PNG_END = b"IEND\xaeB`\x82"


class CorruptFrameError(Exception):
    """A frame cannot be read; training continues without it. The message is the reason, without the clip's name."""


@dataclasses.dataclass(frozen=True)
class ClipDataset:
    """Clips of a prepared dataset, or a selection of them.

    Attributes:
      path: the dataset's folder.
      storage: `folder` or `arrayrecord`.
      size: height and width of the frames as read, pixels.
      fps: frames per second.
      priors: whether mesh images and head masks were prepared.
      clips: in the order of `dataset.json`.
      shrink: factor by which frames are downscaled on reading.
    """

    path: pathlib.Path
    storage: str
    size: int
    fps: float
    priors: bool
    clips: tuple[Clip, ...]
    shrink: int = 1

    @property
    def stored_size(self) -> int:
        """Height and width of the frames on disk, pixels."""
        return self.size * self.shrink

    def shrunk(self, size: int) -> "ClipDataset":
        """Downscale the frames by area averaging.

        Raises:
          InputError: the stored size is no multiple of `size`.
        """
        if size < 1 or self.stored_size % size:
            raise InputError(
                f"The frames of {self.path} are {self.stored_size} x {self.stored_size}; they cannot be read at "
                f"{size} x {size}, of which that is no multiple."
            )
        return dataclasses.replace(self, size=size, shrink=self.stored_size // size)

    @property
    def identities(self) -> tuple[str, ...]:
        """Identities, sorted."""
        return tuple(sorted({clip.identity for clip in self.clips}))

    @property
    def frames(self) -> int:
        """Frames of all clips."""
        return sum(clip.frames for clip in self.clips)

    def digest(self) -> str:
        """16 hexadecimal digits of the clips' names, identities and lengths."""
        listing = json.dumps([(c.name, c.identity, c.frames) for c in self.clips]).encode()
        return hashlib.sha256(listing).hexdigest()[:16]

    def clip(self, name: str) -> Clip:
        """Look up a clip by name. ConfigError where there is none."""
        _check_known([name], [clip.name for clip in self.clips], "clip", self.path)
        return next(clip for clip in self.clips if clip.name == name)

    def select(
        self,
        identities: Collection[str] = (),
        clips: Collection[str] = (),
        exclude_identities: Collection[str] = (),
        exclude_clips: Collection[str] = (),
    ) -> "ClipDataset":
        """Select clips by name and identity.

        Args:
          identities, clips: a clip stays if it or its identity is named here; all stay if both are empty.
          exclude_identities, exclude_clips: removed in any case.

        Raises:
          ConfigError: a name that is not in the dataset.
          InputError: nothing is left.
        """
        names = [clip.name for clip in self.clips]
        _check_known([*clips, *exclude_clips], names, "clip", self.path)
        _check_known([*identities, *exclude_identities], self.identities, "identity", self.path)
        everything = not identities and not clips
        kept = tuple(
            clip
            for clip in self.clips
            if (everything or clip.identity in identities or clip.name in clips)
            and clip.identity not in exclude_identities
            and clip.name not in exclude_clips
        )
        if not kept:
            raise InputError(f"No clip of {self.path} is left by the chosen names and identities.")
        return dataclasses.replace(self, clips=kept)

    def read_frame(self, clip: Clip, index: int, what: Iterable[str] = ("image",)) -> dict[str, np.ndarray]:
        """Decode one frame.

        Args:
          clip: one of this dataset's.
          index: frame number, from 0.
          what: any of `image`, `priors`, `landmarks`, `mel`.

        Returns:
          `image`: uint8 [H, W, 3], RGB; with `priors` [H, W, 5], the mesh image and the head mask after RGB.
          `landmarks`: float32 [478, 3], x and y in [-1, 1] (the frame's edges: `normalise_landmarks` of
          `avfr_jax.landmarks`), z in x's unit; NaN without a detected face.
          `mel`: float32 [80, 16], the 200 ms around the frame.

        Raises:
          CorruptFrameError: it cannot be read.
        """
        if not 0 <= index < clip.frames:
            raise IndexError(f"clip {clip.name} has {clip.frames} frames, no {index}")
        read = _read_folder_frame if self.storage == "folder" else _read_record
        return read(self, clip, index, frozenset(what))


@dataclasses.dataclass(frozen=True)
class JoinedDataset(ClipDataset):
    """Concatenation of datasets with frames of one size and rate and unique clip names.

    Attributes:
      parts: the datasets; a clip is read from the one that contains it.
    """

    parts: tuple[ClipDataset, ...] = ()

    @functools.cached_property
    def _part_of(self) -> dict[str, ClipDataset]:
        return {clip.name: part for part in self.parts for clip in part.clips}

    def read_frame(self, clip: Clip, index: int, what: Iterable[str] = ("image",)) -> dict[str, np.ndarray]:
        return self._part_of[clip.name].read_frame(clip, index, what)

    def shrunk(self, size: int) -> ClipDataset:
        return join_datasets([part.shrunk(size) for part in self.parts])


def join_datasets(parts: Sequence[ClipDataset]) -> ClipDataset:
    """Concatenate datasets.

    Raises:
      InputError: they differ in size or rate, or two clips have one name.
    """
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    owners: dict[str, ClipDataset] = {}
    for part in parts:
        if (part.size, part.fps) != (first.size, first.fps):
            raise InputError(
                f"{part.path} has {part.size} x {part.size} pixels at {part.fps:g} frames a second and {first.path} "
                f"{first.size} x {first.size} at {first.fps:g}: prepare them alike."
            )
        for clip in part.clips:
            if clip.name in owners:
                raise InputError(f"{owners[clip.name].path} and {part.path} both have a clip {clip.name}; rename one.")
            owners[clip.name] = part
    path = pathlib.Path(",".join(str(part.path) for part in parts))
    clips = tuple(clip for part in parts for clip in part.clips)
    priors = all(part.priors for part in parts)
    return JoinedDataset(path, first.storage, first.size, first.fps, priors, clips, first.shrink, tuple(parts))


def open_dataset(path: str | pathlib.Path) -> ClipDataset:
    """Open a prepared dataset.

    Args:
      path: the folder that holds `dataset.json`.

    Raises:
      InputError: it is missing, is not a prepared dataset, is of another version, or has no clips or lacks a shard.
    """
    path = pathlib.Path(path)
    listing = path / form.INDEX
    if not path.is_dir():
        raise InputError(f"There is no dataset folder {path}; prepare one with python -m data.clip_folder.")
    if not listing.is_file():
        raise InputError(f"{path} has no dataset.json; prepare the raw videos with python -m data.clip_folder.")
    dataset = _parse(path, _load_json(listing))
    if not dataset.clips:
        raise InputError(f"The dataset {path} has no clips; its rejected.json lists the reason for each video.")
    _check_complete(dataset)
    return dataset


def _load_json(listing: pathlib.Path) -> dict[str, Any]:
    try:
        content = json.loads(listing.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{listing} cannot be read ({error}); prepare the dataset again.") from None
    if not isinstance(content, dict) or content.get("format") != form.FORMAT:
        raise InputError(f"{listing} does not describe a prepared clip dataset (its format is not {form.FORMAT!r}).")
    if content.get("version") != form.VERSION:
        raise InputError(
            f"{listing} is of version {content.get('version')!r}; this program reads version {form.VERSION}: prepare "
            "the dataset again or use a newer program."
        )
    return content


def _parse(path: pathlib.Path, content: dict[str, Any]) -> ClipDataset:
    known = {field.name for field in dataclasses.fields(Clip)}
    try:
        clips = tuple(
            from_dict(Clip, {k: v for k, v in clip.items() if k in known}, "a clip") for clip in content["clips"]
        )
        size, fps, priors = int(content["size"]), float(content["fps"]), bool(content.get("priors", True))
        dataset = ClipDataset(path, content["storage"], size, fps, priors, clips)
    except (ConfigError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path / form.INDEX} lacks something or holds something wrong: {error}") from None
    broken = next((clip for clip in clips if clip.frames < 1), None)
    if dataset.storage not in (storages := get_args(form.Storage)):
        raise InputError(f"{path / form.INDEX} names the storage {dataset.storage!r}, not one of {storages}.")
    if broken is not None:
        raise InputError(f"{path / form.INDEX} lists clip {broken.name} with {broken.frames} frames.")
    if len({clip.name for clip in clips}) < len(clips):
        raise InputError(f"{path / form.INDEX} lists two clips of the same name.")
    return dataset


def _check_complete(dataset: ClipDataset) -> None:
    if dataset.storage == "folder":
        folder = dataset.path / form.CLIPS
        there = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
        missing = [clip.name for clip in dataset.clips if clip.name not in there]
        if missing:
            raise InputError(
                f"{folder} lacks {len(missing)} of the {len(dataset.clips)} clips in dataset.json, "
                f"the first {missing[0]}."
            )
        return
    ends: dict[int, int] = {}
    for clip in dataset.clips:
        ends[clip.shard] = max(ends.get(clip.shard, 0), clip.first + clip.frames)
    for shard, end in sorted(ends.items()):
        path = form.shard_path(dataset.path, shard)
        if not path.is_file():
            raise InputError(f"The dataset's shard {path} is missing; copy the whole folder or prepare it again.")
        count = _records(path)
        if count < end:
            raise InputError(f"The dataset's shard {path} is cut short: {count} records of {end}.")


def _check_known(names: Iterable[str], known: Sequence[str], kind: str, path: pathlib.Path) -> None:
    there = set(known)
    for name in names:
        if name not in there:
            near = difflib.get_close_matches(name, known, n=1)
            raise ConfigError(f"{path} has no {kind} {name!r}" + (f"; did you mean {near[0]!r}?" if near else "."))


# Decoding.


def _decode_image(data: bytes, size: int, name: str) -> np.ndarray:
    # Older OpenCV fills the missing part of a truncated file with grey, so the end of the file is checked too.
    jpeg = name == "image"
    what, end = ("JPEG", _JPEG_END) if jpeg else (f"{name} PNG", _PNG_END)
    mode = cv2.IMREAD_COLOR_RGB if jpeg else cv2.IMREAD_GRAYSCALE
    image = cv2.imdecode(np.frombuffer(data, np.uint8), mode) if data.endswith(end) else None
    if image is None:
        raise CorruptFrameError(f"its {what} is broken")
    if image.shape[:2] != (size, size):
        what = "picture" if jpeg else name
        raise CorruptFrameError(f"its {what} is {image.shape[1]} x {image.shape[0]}, not {size} x {size}")
    return image


def _decode_frame(files: dict[str, bytes], dataset: ClipDataset) -> np.ndarray:
    images = [_decode_image(data, dataset.stored_size, name) for name, data in files.items()]
    image = images[0] if len(images) == 1 else np.dstack(images)
    if dataset.shrink == 1:
        return image
    return cv2.resize(image, (dataset.size, dataset.size), interpolation=cv2.INTER_AREA)


def _images(what: frozenset[str]) -> tuple[str, ...]:
    if "priors" in what:
        return ("image", *form.PRIORS)
    return ("image",) if "image" in what else ()


# Folder of clips.


def _read_folder_frame(dataset: ClipDataset, clip: Clip, index: int, what: frozenset[str]) -> dict[str, np.ndarray]:
    folder, size = form.clip_folder(dataset.path, clip.name), dataset.stored_size
    out = {}
    if names := _images(what):
        files = {name: _read_bytes(folder / form.frame_file(name, index)) for name in names}
        out["image"] = _decode_frame(files, dataset)
    if "landmarks" in what:
        landmarks = _load_array(folder / form.LANDMARKS_FILE)
        if landmarks.shape[1:] != form.LANDMARKS or len(landmarks) < clip.frames:
            raise CorruptFrameError(f"its landmarks.npy has shape {landmarks.shape}")
        out["landmarks"] = normalise_landmarks(np.asarray(landmarks[index], np.float32), size, size)
    if "mel" in what:
        out["mel"] = _folder_mel(folder / form.MEL_FILE, clip, index, dataset.fps)
    return out


def _folder_mel(path: pathlib.Path, clip: Clip, index: int, fps: float) -> np.ndarray:
    if not clip.has_audio and not path.exists():
        return mel_scale.silence()
    mel = _load_array(path)
    if mel.ndim != 2 or mel.shape[0] != form.MEL[0] or mel.shape[1] < 1:
        raise CorruptFrameError(f"its mel.npy has shape {mel.shape}")
    return mel_scale.mel_window(np.asarray(mel), index, fps).astype(np.float32, copy=False)


def _read_bytes(path: pathlib.Path) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:  # a buffer costs more than one read of the whole
            return file.read()
    except OSError as error:
        raise CorruptFrameError(f"its file {path.parent.name}/{path.name}: {error.strerror}") from None


@functools.lru_cache(maxsize=256)  # each memory map keeps a file open
def _load_array(path: pathlib.Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise CorruptFrameError(f"its file {path.name} cannot be read ({error})") from None


# ArrayRecord shards.

_readers: dict[pathlib.Path, Any] = {}
_readers_lock = threading.Lock()


def _reader(path: pathlib.Path) -> Any:
    """Open a shard once per process; threads may share its reader."""
    from array_record.python import array_record_module

    with _readers_lock:
        if path not in _readers:
            options = "readahead_buffer_size:0"  # records are read in random order
            _readers[path] = array_record_module.ArrayRecordReader(str(path), options=options)
        return _readers[path]


def _records(path: pathlib.Path) -> int:
    try:
        return int(_reader(path).num_records())
    except (RuntimeError, ValueError, IndexError) as error:
        raise InputError(f"The dataset's shard {path} cannot be read ({error}); prepare it again.") from None


def _read_record(dataset: ClipDataset, clip: Clip, index: int, what: frozenset[str]) -> dict[str, np.ndarray]:
    path = form.shard_path(dataset.path, clip.shard)
    try:
        record = msgpack.unpackb(_reader(path).read([clip.first + index])[0])
    except Exception as error:  # the reader and msgpack raise several kinds for damaged bytes
        raise CorruptFrameError(f"its record cannot be read ({error})") from None
    out, size = {}, dataset.stored_size
    try:
        if names := _images(what):
            out["image"] = _decode_frame({name: record[name] for name in names}, dataset)
        if "landmarks" in what:
            out["landmarks"] = normalise_landmarks(form.unpack_array(record, "landmarks"), size, size)
        if "mel" in what:
            out["mel"] = form.unpack_array(record, "mel")
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptFrameError(f"its record lacks something ({error!r})") from None
    return out
