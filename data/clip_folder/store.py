"""A dataset of prepared clips on disk: written whole or not at all, taken up where a run was stopped.

    dataset.json     {"format", "version", "storage", "size", "fps", "priors", "clips": [CLIP, …]}
    rejected.json    [{"source", "reason"}, …]
    clips/NAME/      storage "folder": frames/000000.jpg …, mesh/000000.png …, mask/000000.png …, landmarks.npy,
                     mel.npy, audio.wav, clip.json
    shard-00000.arrayrecord …   storage "arrayrecord": one record a frame; a clip's frames follow each other
    .prepare/        what is finished, a file a source; and unfinished work, which the next run removes

CLIP is {"name", "identity", "frames", "missing_faces", "source" (its file's name), "has_audio", "crop": [x, y, side]},
for records also "shard" and "first", the number of its first record there. Landmarks are float32 [T, 478, 3] in pixels
of the prepared frames (centres at whole numbers), NaN where no face was found; `mel.npy` is Wav2Lip's spectrogram,
float32 [80, M]; `audio.wav` is 16 kHz mono, missing where nothing can be heard (the spectrogram then says silence).
A record is a msgpack dictionary of bytes: "image" (JPEG), "mesh" and "mask" (grey PNG), "landmarks" (float32
[478, 3]), "mel" (float32 [80, 16], the window around the frame). Without priors there is no mesh and no mask.

A source's clips are written under `.prepare`, moved to their place, and only then noted as finished; `dataset.json`
comes last and lists all that was ever finished in the folder. Records go to one file a source first and are packed
into shards at the end, in the order of their names, so that the dataset does not depend on which process was faster.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from avfr_jax.errors import ConfigError, OutputError
from avfr_jax.media.audio import write_wav
from avfr_jax.media.files import atomic_file
from avfr_jax.media.mel import mel_windows
from avfr_jax.typing import Float
from data.clip_folder.config import FORMAT, VERSION, ClipConfig

_OPTIONS = "group_size:1"  # any record can then be read alone


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedFrame:
    """One frame as it is stored: JPEG of the picture, PNG of mesh and mask (None without priors), landmarks."""

    image: bytes
    mesh: bytes | None
    mask: bytes | None
    landmarks: Float[np.ndarray, "478 3"]


@dataclasses.dataclass(frozen=True, eq=False)
class Sound:
    """The sound of one clip: samples at 16 kHz (None without sound) and Wav2Lip's mel spectrogram."""

    samples: Float[np.ndarray, "t"] | None
    mel: Float[np.ndarray, "80 m"]


@dataclasses.dataclass
class Outcome:
    """What came of one source: its clips, as `dataset.json` describes them, and what was not used.

    stamp: tells this state of the source from another. Until they are packed into a shard, clips of records say
    under "part" which record of the source's own file is their first.
    """

    stamp: list[int]
    clips: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    rejected: list[dict[str, str]] = dataclasses.field(default_factory=list)


class Store:
    """The folder of one dataset. Cheap to make: each process makes its own."""

    def __init__(self, folder: pathlib.Path, config: ClipConfig) -> None:
        self.folder, self.config = pathlib.Path(folder), config
        self._work = self.folder / ".prepare"
        self._done, self._parts = self._work / "done", self._work / "records"

    def open(self) -> None:
        """Makes the folder, or takes up an earlier run's, and clears what that left unfinished.

        Raises OutputError for a place that cannot be written to, ConfigError for a dataset of other settings.
        """
        with _disk(self.folder):
            if self.folder.is_dir() and not self._work.is_dir() and any(self.folder.iterdir()):
                raise OutputError(f"{self.folder} holds something else: name a new folder for the dataset")
            for folder in (self._done, self._parts):
                folder.mkdir(parents=True, exist_ok=True)
            settings, wanted = self._work / "settings.json", self.config.settings()
            if settings.exists():
                self._compare(json.loads(settings.read_text()), wanted)
            else:
                _write_json(settings, wanted)
            for left in self._work.glob("partial-*"):
                shutil.rmtree(left)
            if self.config.storage == "folder":
                (self.folder / "clips").mkdir(exist_ok=True)

    def _compare(self, found: dict[str, Any], wanted: dict[str, Any]) -> None:
        other = [name for name in wanted if found.get(name) != wanted[name]]
        if other:
            name = other[0]
            raise ConfigError(
                f"{self.folder} was prepared with {name} {found.get(name)}, not {wanted[name]}: "
                "use the same settings, or another folder"
            )

    def finished(self, key: str, stamp: list[int]) -> bool:
        """Whether an earlier run finished this source, which has not changed since, and its clips are still there."""
        outcome = self._read_note(key)
        return outcome is not None and outcome.stamp == stamp and self._there(key, outcome)

    def clips_of(self, key: str) -> int:
        """How many clips a source gave."""
        outcome = self._read_note(key)
        return 0 if outcome is None else len(outcome.clips)

    def _there(self, key: str, outcome: Outcome) -> bool:
        """Whether the files of every clip are where the note says."""
        if self.config.storage == "folder":
            places = [self.folder / "clips" / clip["name"] / "landmarks.npy" for clip in outcome.clips]
        else:
            places = [self._shard(clip["shard"]) if "shard" in clip else self._records(key) for clip in outcome.clips]
        return all(place.is_file() for place in places)

    def _shard(self, number: int) -> pathlib.Path:
        return self.folder / f"shard-{number:05d}.arrayrecord"

    def _read_note(self, key: str) -> Outcome | None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            note = json.loads((self._done / f"{key}.json").read_text(encoding="utf-8"))
            return Outcome(note["stamp"], note["clips"], note["rejected"])
        return None

    def _write_note(self, key: str, outcome: Outcome) -> None:
        _write_json(self._done / f"{key}.json", dataclasses.asdict(outcome))

    @contextlib.contextmanager
    def source(self, key: str, stamp: list[int]) -> Iterator["SourceWriter"]:
        """Writes the clips of one source; they appear when the block ends well, all of them or none.

        key: a name for the source, unique in the dataset. stamp: changes whenever the source does.
        """
        with _disk(self.folder):
            scratch = pathlib.Path(tempfile.mkdtemp(dir=self._work, prefix="partial-"))
        writer = SourceWriter(scratch, self.config, Outcome(stamp))
        try:
            yield writer
            with _disk(self.folder):
                self._publish(key, writer)
        finally:
            writer.close()
            shutil.rmtree(scratch, ignore_errors=True)

    def _publish(self, key: str, writer: "SourceWriter") -> None:
        writer.close()
        earlier = self._read_note(key)
        stale = [] if earlier is None else earlier.clips
        (self._done / f"{key}.json").unlink(missing_ok=True)
        if self.config.storage == "folder":
            # A clip may also be left of a run that was stopped before it could note this source.
            for name in {clip["name"] for clip in [*stale, *writer.outcome.clips]}:
                if (self.folder / "clips" / name).exists():
                    shutil.rmtree(self.folder / "clips" / name)
            for clip in writer.outcome.clips:
                os.replace(writer.scratch / clip["name"], self.folder / "clips" / clip["name"])
        elif writer.outcome.clips:
            os.replace(writer.scratch / _RECORDS, self._records(key))
        self._write_note(key, writer.outcome)

    def _records(self, key: str) -> pathlib.Path:
        return self._parts / f"{key}.arrayrecord"

    def write_index(self, identities: dict[str, str]) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
        """Writes `dataset.json` and `rejected.json`; returns what they list: clips and rejections.

        identities: who is seen in the sources of this run, by key; those of earlier runs keep theirs.
        """
        with _disk(self.folder):
            outcomes = {}
            for path in sorted(self._done.glob("*.json")):
                key = path.name[: -len(".json")]
                outcome = self._read_note(key)
                if outcome is not None and self._there(key, outcome):
                    outcomes[key] = outcome
            self._identify(outcomes, identities)
            if self.config.storage == "arrayrecord":
                self._pack(outcomes)
            clips = [clip for outcome in outcomes.values() for clip in outcome.clips]
            rejected = [entry for outcome in outcomes.values() for entry in outcome.rejected]
            _write_json(self.folder / "rejected.json", rejected)
            _write_json(self.folder / "dataset.json", self._index(clips))
            for key in outcomes:
                self._records(key).unlink(missing_ok=True)
        return clips, rejected

    def _index(self, clips: list[dict[str, Any]]) -> dict[str, Any]:
        rate = self.config.fps
        return {
            "format": FORMAT,
            "version": VERSION,
            "storage": self.config.storage,
            "size": self.config.size,
            "fps": int(rate) if rate == int(rate) else rate,
            "priors": self.config.priors,
            "clips": clips,
        }

    def _identify(self, outcomes: dict[str, Outcome], identities: dict[str, str]) -> None:
        """Enters who is seen, in the notes and in each `clip.json`, where that is not said yet or has changed."""
        for key, identity in identities.items():
            outcome = outcomes.get(key)
            if outcome is None or all(clip["identity"] == identity for clip in outcome.clips):
                continue
            for clip in outcome.clips:
                clip["identity"] = identity
                if self.config.storage == "folder":
                    _write_json(self.folder / "clips" / clip["name"] / "clip.json", clip)
            self._write_note(key, outcome)

    def _pack(self, outcomes: dict[str, Outcome]) -> None:
        """Moves the records that are not yet in a shard to new shards, and notes of each clip where it lies.

        A shard that no note speaks of, since a run was stopped here, is written anew.
        """
        number = 1 + max((clip.get("shard", -1) for o in outcomes.values() for clip in o.clips), default=-1)
        waiting = [key for key, outcome in outcomes.items() if any("shard" not in clip for clip in outcome.clips)]
        while waiting:
            shard = _Shard(self._shard(number))
            packed = []
            while waiting and shard.count < self.config.shard_frames:
                key = waiting.pop(0)
                for clip in outcomes[key].clips:
                    clip["shard"], clip["first"] = number, shard.count + clip.pop("part")
                shard.append(self._records(key))
                packed.append(key)
            shard.finish()
            for key in packed:
                self._write_note(key, outcomes[key])
            number += 1


_RECORDS = "records.arrayrecord"


class SourceWriter:
    """The clips of one source, under way. `outcome` says what was written so far."""

    def __init__(self, scratch: pathlib.Path, config: ClipConfig, outcome: Outcome) -> None:
        self.scratch, self.config, self.outcome = scratch, config, outcome
        self._records: Any = None
        self._count = 0

    def clip(
        self, name: str, source: str, crop: list[int], sound: Sound, frames: Iterable[EncodedFrame]
    ) -> dict[str, Any]:
        """Writes one clip; returns its description, which still lacks the identity.

        crop: [x, y, side] in pixels of the source.
        """
        landmarks = self._write(name, sound, frames)
        clip: dict[str, Any] = {
            "name": name,
            "identity": "",
            "frames": len(landmarks),
            "missing_faces": int(np.isnan(landmarks[:, 0, 0]).sum()),
            "source": source,
            "has_audio": sound.samples is not None,
            "crop": crop,
        }
        if self.config.storage == "arrayrecord":
            clip["part"] = self._count - len(landmarks)
        self.outcome.clips.append(clip)
        return clip

    def reject(self, source: str, reason: str) -> None:
        """Notes that a source, or part of it, is not used."""
        self.outcome.rejected.append({"source": source, "reason": reason})

    def close(self) -> None:
        if self._records is not None:
            self._records.close()
            self._records = None

    def _write(self, name: str, sound: Sound, frames: Iterable[EncodedFrame]) -> Float[np.ndarray, "n 478 3"]:
        landmarks = []
        folder, as_files = self.scratch / name, self.config.storage == "folder"
        with _disk(self.scratch):
            if as_files:
                for part in ("frames", "mesh", "mask") if self.config.priors else ("frames",):
                    (folder / part).mkdir(parents=True)
        for index, frame in enumerate(frames):
            landmarks.append(frame.landmarks)
            with _disk(self.scratch):
                if as_files:
                    _write_files(folder, index, frame)
                else:
                    self._write_record(frame, mel_windows(sound.mel, np.array([index]), self.config.fps)[0])
        points = np.stack(landmarks).astype(np.float32)
        with _disk(self.scratch):
            if as_files:
                np.save(folder / "landmarks.npy", points)
                np.save(folder / "mel.npy", sound.mel)
                if sound.samples is not None:
                    write_wav(folder / "audio.wav", sound.samples)
        return points

    def _write_record(self, frame: EncodedFrame, mel: Float[np.ndarray, "80 16"]) -> None:
        import msgpack
        from array_record.python.array_record_module import ArrayRecordWriter

        if self._records is None:
            self._records = ArrayRecordWriter(str(self.scratch / _RECORDS), _OPTIONS)
        record = {"image": frame.image, "landmarks": frame.landmarks.astype("<f4").tobytes()}
        record["mel"] = mel.astype("<f4").tobytes()
        if frame.mesh is not None and frame.mask is not None:
            record |= {"mesh": frame.mesh, "mask": frame.mask}
        self._records.write(msgpack.packb(record))
        self._count += 1


def _write_files(folder: pathlib.Path, index: int, frame: EncodedFrame) -> None:
    (folder / "frames" / f"{index:06d}.jpg").write_bytes(frame.image)
    if frame.mesh is not None and frame.mask is not None:
        (folder / "mesh" / f"{index:06d}.png").write_bytes(frame.mesh)
        (folder / "mask" / f"{index:06d}.png").write_bytes(frame.mask)


class _Shard:
    """One ArrayRecord file that takes its name when it is complete."""

    def __init__(self, path: pathlib.Path) -> None:
        from array_record.python.array_record_module import ArrayRecordWriter

        self._path, self._scratch = path, path.with_name(f".{path.name}.partial")
        self._writer = ArrayRecordWriter(str(self._scratch), _OPTIONS)
        self.count = 0

    def append(self, part: pathlib.Path) -> None:
        """Copies all records of another file."""
        from array_record.python.array_record_module import ArrayRecordReader

        reader = ArrayRecordReader(str(part))
        try:
            total = reader.num_records()
            for first in range(0, total, 64):
                for record in reader.read(first, min(first + 64, total)):
                    self._writer.write(record)
            self.count += total
        finally:
            reader.close()

    def finish(self) -> None:
        self._writer.close()
        os.replace(self._scratch, self._path)


def _write_json(path: pathlib.Path, value: Any) -> None:
    with atomic_file(path, overwrite=True) as scratch:
        scratch.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@contextlib.contextmanager
def _disk(folder: pathlib.Path) -> Iterator[None]:
    """What the system says about a write that failed, as OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written to ({error.strerror or error}): make space or choose another place"
        ) from error
    except RuntimeError as error:  # ArrayRecord's, which have no class of their own
        raise OutputError(f"{folder} cannot be written to ({error}): make space or choose another place") from error
