"""Prepared clip datasets on disk, read frame by frame in any order.

A dataset is a folder with `dataset.json` and either one folder a clip (`storage: folder`) or ArrayRecord shards with
one record a frame (`storage: arrayrecord`); `data.clip_folder` writes both. This module knows how they lie on disk
and decodes single frames; which frames are wanted is `pipelines.sampling`'s business.
"""

import dataclasses
import difflib
import functools
import hashlib
import json
import pathlib
import threading
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import cv2
import msgpack
import numpy as np

from avfr_jax.config import from_dict
from avfr_jax.errors import ConfigError, InputError
from avfr_jax.landmarks import NUM_LANDMARKS, normalise_landmarks
from avfr_jax.media import mel as mel_scale

FORMAT, VERSION = "avfr-clips", 1
STORAGES = ("folder", "arrayrecord")
MEL = (mel_scale.BANDS, mel_scale.WINDOW_COLUMNS)
WHAT = ("image", "priors", "landmarks", "mel")

_JPEG_END = b"\xff\xd9"
_PNG_END = b"IEND\xaeB`\x82"


class CorruptFrameError(Exception):
    """One frame cannot be read; training goes on without it. The message is the reason, without the clip's name."""


@dataclasses.dataclass(frozen=True)
class Clip:
    """One prepared clip: consecutive frames of one head.

    Attributes:
      name: unique in the dataset.
      identity: who is seen; clips of one person share it.
      frames: number of frames.
      missing_faces: frames where no face was found (their landmarks are NaN).
      source: name of the file that it was cut from.
      has_audio: whether there is sound; without it the mel is that of silence.
      crop: x, y and side of the crop, in pixels of the source.
      shard: which ArrayRecord shard holds it.
      first: its first record in that shard.
    """

    name: str
    identity: str
    frames: int
    missing_faces: int = 0
    source: str = ""
    has_audio: bool = False
    crop: tuple[float, ...] = ()
    shard: int = 0
    first: int = 0


@dataclasses.dataclass(frozen=True)
class ClipDataset:
    """The clips of a prepared dataset, or some of them.

    Attributes:
      path: the dataset's folder.
      storage: `folder` or `arrayrecord`.
      size: height and width of the frames, pixels.
      fps: frames a second.
      priors: whether mesh drawings and head masks were prepared.
      clips: in the order of `dataset.json`.
      shrink: frames are read this many times smaller than they lie there; `size` is what they are read at.
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
        """Height and width of the frames as they lie on disk, pixels."""
        return self.size * self.shrink

    def shrunk(self, size: int) -> "ClipDataset":
        """The same dataset with smaller frames: each pixel the mean over the area it covers.

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
        """Everyone seen, sorted."""
        return tuple(sorted({clip.identity for clip in self.clips}))

    @property
    def frames(self) -> int:
        """Frames of all clips."""
        return sum(clip.frames for clip in self.clips)

    def digest(self) -> str:
        """A short name for which clips these are: 16 hexadecimal digits of names, identities and lengths."""
        listing = json.dumps([(c.name, c.identity, c.frames) for c in self.clips]).encode()
        return hashlib.sha256(listing).hexdigest()[:16]

    def clip(self, name: str) -> Clip:
        """The clip of that name.

        Raises:
          ConfigError: there is none.
        """
        found = next((clip for clip in self.clips if clip.name == name), None)
        if found is None:
            _check_known([name], [clip.name for clip in self.clips], "clip", self.path)
        assert found is not None
        return found

    def select(
        self,
        identities: Collection[str] = (),
        clips: Collection[str] = (),
        exclude_identities: Collection[str] = (),
        exclude_clips: Collection[str] = (),
    ) -> "ClipDataset":
        """The same dataset with fewer clips.

        Args:
          identities, clips: a clip stays if it, or who it shows, is named here; all stay if both are empty.
          exclude_identities, exclude_clips: these go, whatever else names them.

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
          `image`: uint8 [H, W, 3], RGB; with `priors` [H, W, 5], the mesh drawing and the head mask behind RGB.
          `landmarks`: float32 [478, 3], x and y in [-1, 1] (the frame's edges: `normalise_landmarks` of
          `avfr_jax.landmarks`), z in x's unit; NaN where no face was found.
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
    """Several datasets as one; their frames are of one size and rate, and no two clips share a name.

    Attributes:
      parts: the datasets; a clip is read from the one that has it.
    """

    parts: tuple[ClipDataset, ...] = ()

    @functools.cached_property
    def _part_of(self) -> dict[str, ClipDataset]:
        return {clip.name: part for part in self.parts for clip in part.clips}

    def read_frame(self, clip: Clip, index: int, what: Iterable[str] = ("image",)) -> dict[str, np.ndarray]:
        """See `ClipDataset.read_frame`."""
        return self._part_of[clip.name].read_frame(clip, index, what)

    def shrunk(self, size: int) -> ClipDataset:
        """See `ClipDataset.shrunk`."""
        return join_datasets([part.shrunk(size) for part in self.parts])


def join_datasets(parts: Sequence[ClipDataset]) -> ClipDataset:
    """Datasets as one, in their order.

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
    listing = path / "dataset.json"
    if not path.is_dir():
        raise InputError(f"There is no dataset folder {path}; prepare one with python -m data.clip_folder.")
    if not listing.is_file():
        raise InputError(f"{path} has no dataset.json; prepare the raw videos with python -m data.clip_folder.")
    dataset = _parse(path, _load_json(listing))
    if not dataset.clips:
        raise InputError(f"The dataset {path} has no clips; its rejected.json says why each video was left out.")
    _check_complete(dataset)
    return dataset


def _load_json(listing: pathlib.Path) -> dict[str, Any]:
    try:
        content = json.loads(listing.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{listing} cannot be read ({error}); prepare the dataset again.") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{listing} does not describe a prepared clip dataset (its format is not {FORMAT!r}).")
    if content.get("version") != VERSION:
        raise InputError(
            f"{listing} is of version {content.get('version')!r}; this program reads version {VERSION}: prepare the "
            "dataset again or use a newer program."
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
        raise InputError(f"{path / 'dataset.json'} lacks something or holds something wrong: {error}") from None
    broken = next((clip for clip in clips if clip.frames < 1), None)
    if dataset.storage not in STORAGES:
        raise InputError(f"{path / 'dataset.json'} names the storage {dataset.storage!r}, not one of {STORAGES}.")
    if broken is not None:
        raise InputError(f"{path / 'dataset.json'} lists clip {broken.name} with {broken.frames} frames.")
    if len({clip.name for clip in clips}) < len(clips):
        raise InputError(f"{path / 'dataset.json'} lists two clips of the same name.")
    return dataset


def _check_complete(dataset: ClipDataset) -> None:
    if dataset.storage == "folder":
        there = {p.name for p in (dataset.path / "clips").iterdir()} if (dataset.path / "clips").is_dir() else set()
        missing = [clip.name for clip in dataset.clips if clip.name not in there]
        if missing:
            raise InputError(
                f"{dataset.path / 'clips'} lacks {len(missing)} of the {len(dataset.clips)} clips in dataset.json, "
                f"the first {missing[0]}."
            )
        return
    ends: dict[int, int] = {}
    for clip in dataset.clips:
        ends[clip.shard] = max(ends.get(clip.shard, 0), clip.first + clip.frames)
    for shard, end in sorted(ends.items()):
        path = shard_path(dataset.path, shard)
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


def shard_path(path: pathlib.Path, shard: int) -> pathlib.Path:
    """Where shard number `shard` of a dataset lies."""
    return path / f"shard-{shard:05d}.arrayrecord"


# Decoding.


def _decode_image(data: bytes, size: int) -> np.ndarray:
    # Older OpenCV fills up what a truncated file lacks with grey, so the end of the file is looked at too.
    image = None
    if data.endswith(_JPEG_END):
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise CorruptFrameError("its JPEG is broken")
    if image.shape != (size, size, 3):
        raise CorruptFrameError(f"its picture is {image.shape[1]} x {image.shape[0]}, not {size} x {size}")
    return image


def _decode_grey(data: bytes, size: int, what: str) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) if data.endswith(_PNG_END) else None
    if image is None:
        raise CorruptFrameError(f"its {what} PNG is broken")
    if image.shape != (size, size):
        raise CorruptFrameError(f"its {what} is {image.shape[1]} x {image.shape[0]}, not {size} x {size}")
    return image


def _decode_frame(files: dict[str, bytes], dataset: ClipDataset) -> np.ndarray:
    size = dataset.stored_size
    image = _decode_image(files["image"], size)
    if "mesh" in files:
        greys = [_decode_grey(files[what], size, what) for what in ("mesh", "mask")]
        image = np.dstack([image, *greys])
    if dataset.shrink == 1:
        return image
    return cv2.resize(image, (dataset.size, dataset.size), interpolation=cv2.INTER_AREA)


def _normalised(landmarks: np.ndarray, size: int) -> np.ndarray:
    """Pixels -> [-1, 1] from edge to edge, as the models take them."""
    return normalise_landmarks(np.asarray(landmarks, np.float32), size, size)


# Folder of clips.


def _read_folder_frame(dataset: ClipDataset, clip: Clip, index: int, what: frozenset[str]) -> dict[str, np.ndarray]:
    folder = dataset.path / "clips" / clip.name
    out = {}
    if what & {"image", "priors"}:
        places = {"image": f"frames/{index:06d}.jpg"}
        if "priors" in what:
            places |= {"mesh": f"mesh/{index:06d}.png", "mask": f"mask/{index:06d}.png"}
        out["image"] = _decode_frame({k: _read_bytes(folder / v) for k, v in places.items()}, dataset)
    if "landmarks" in what:
        landmarks = _load_array(folder / "landmarks.npy")
        if landmarks.shape[1:] != (NUM_LANDMARKS, 3) or len(landmarks) < clip.frames:
            raise CorruptFrameError(f"its landmarks.npy has shape {landmarks.shape}")
        out["landmarks"] = _normalised(landmarks[index], dataset.stored_size)
    if "mel" in what:
        out["mel"] = _folder_mel(folder, clip, index, dataset.fps)
    return out


def _folder_mel(folder: pathlib.Path, clip: Clip, index: int, fps: float) -> np.ndarray:
    if not clip.has_audio and not (folder / "mel.npy").exists():
        return mel_scale.silence()
    mel = _load_array(folder / "mel.npy")
    if mel.ndim != 2 or mel.shape[0] != MEL[0] or mel.shape[1] < 1:
        raise CorruptFrameError(f"its mel.npy has shape {mel.shape}")
    return mel_scale.mel_window(np.asarray(mel), index, fps).astype(np.float32, copy=False)


def _read_bytes(path: pathlib.Path) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:  # a buffer costs more than reading the whole at once
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
    """An open shard; readers are safe to share between threads, and each process opens its own."""
    reader = _readers.get(path)
    if reader is None:
        from array_record.python import array_record_module

        with _readers_lock:
            reader = _readers.get(path)
            if reader is None:
                options = "readahead_buffer_size:0"  # records are read in random order
                reader = array_record_module.ArrayRecordReader(str(path), options=options)
                _readers[path] = reader
    return reader


def _records(path: pathlib.Path) -> int:
    try:
        return int(_reader(path).num_records())
    except (RuntimeError, ValueError, IndexError) as error:
        raise InputError(f"The dataset's shard {path} cannot be read ({error}); prepare it again.") from None


def _read_record(dataset: ClipDataset, clip: Clip, index: int, what: frozenset[str]) -> dict[str, np.ndarray]:
    path = shard_path(dataset.path, clip.shard)
    try:
        record = msgpack.unpackb(_reader(path).read([clip.first + index])[0])
    except Exception as error:  # the reader and msgpack raise several kinds for damaged bytes
        raise CorruptFrameError(f"its record cannot be read ({error})") from None
    out = {}
    try:
        if what & {"image", "priors"}:
            names = ("image", "mesh", "mask") if "priors" in what else ("image",)
            out["image"] = _decode_frame({name: record[name] for name in names}, dataset)
        if "landmarks" in what:
            landmarks = np.frombuffer(record["landmarks"], np.float32).reshape(NUM_LANDMARKS, 3)
            out["landmarks"] = _normalised(landmarks, dataset.stored_size)
        if "mel" in what:
            out["mel"] = np.frombuffer(record["mel"], np.float32).reshape(MEL).copy()
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptFrameError(f"its record lacks something ({error!r})") from None
    return out
