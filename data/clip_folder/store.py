"""Writer of prepared datasets (`pipelines.record`): complete or absent, and resumable.

A source's clips are written under `.prepare`, moved to their place, and then noted as finished in `.prepare/done`;
`dataset.json` comes last and lists everything ever finished in the folder. Records go to one file per source first and
are packed into shards at the end, in the order of their names, so that the dataset does not depend on the scheduling of
processes. Unfinished work is removed by the next run.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from avfr_jax.errors import ConfigError, OutputError
from avfr_jax.interrupts import scratch
from avfr_jax.media.audio import write_wav
from avfr_jax.media.files import atomic_file
from avfr_jax.media.mel import mel_windows
from avfr_jax.typing import Float
from data.clip_folder.config import ClipConfig
from pipelines import record as form

_OPTIONS = "group_size:1"  # any record can then be read alone


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedFrame:
    """Stored form of a frame: `images` as in `record.FILES` (mesh and mask only with priors), and landmarks."""

    images: dict[str, bytes]
    landmarks: Float[np.ndarray, "478 3"]


@dataclasses.dataclass(frozen=True, eq=False)
class Sound:
    """Sound of one clip: samples at 16 kHz (None without sound) and Wav2Lip's mel spectrogram."""

    samples: Float[np.ndarray, "t"] | None
    mel: Float[np.ndarray, "80 m"]


@dataclasses.dataclass
class Outcome:
    """Result of one source: its clips, as in `dataset.json`, and rejections.

    stamp: identifies the state of the source. Until they are packed into a shard, clips of records hold under "part"
    the number of their first record in the source's own file.
    """

    stamp: list[int]
    clips: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    rejected: list[dict[str, str]] = dataclasses.field(default_factory=list)


class Store:
    """The folder of one dataset; each process creates its own instance."""

    def __init__(self, folder: pathlib.Path, config: ClipConfig) -> None:
        self.folder, self.config = pathlib.Path(folder), config
        self._work = self.folder / ".prepare"
        self._done, self._parts = self._work / "done", self._work / "records"

    def open(self) -> None:
        """Create the folder, or reopen an earlier run's and remove its unfinished work.

        Raises OutputError for a place that cannot be written to, ConfigError for a dataset of other settings.
        """
        with _disk(self.folder):
            if self.folder.is_dir() and not self._work.is_dir() and any(self.folder.iterdir()):
                raise OutputError(f"{self.folder} holds something else: name a new folder for the dataset")
            for folder in (self._done, self._parts):
                folder.mkdir(parents=True, exist_ok=True)
            settings, wanted = self._work / "settings.json", self.config.settings()
            if settings.exists():
                earlier = json.loads(settings.read_text())
                if other := [name for name in wanted if earlier.get(name) != wanted[name]]:
                    raise ConfigError(
                        f"{self.folder} was prepared with {other[0]} {earlier.get(other[0])}, not {wanted[other[0]]}: "
                        "use the same settings, or another folder"
                    )
            else:
                _write_json(settings, wanted)
            for left in self._work.glob("partial-*"):
                shutil.rmtree(left)
            if self.config.storage == "folder":
                (self.folder / form.CLIPS).mkdir(exist_ok=True)

    def finished(self, key: str, stamp: list[int]) -> bool:
        """Whether an earlier run finished this unchanged source and its clips still exist."""
        outcome = self._read_note(key)
        return outcome is not None and outcome.stamp == stamp and self._there(key, outcome)

    def clips_of(self, key: str) -> int:
        """Number of clips of a source."""
        outcome = self._read_note(key)
        return 0 if outcome is None else len(outcome.clips)

    def _there(self, key: str, outcome: Outcome) -> bool:
        """Whether the files of every clip exist."""
        if self.config.storage == "folder":
            places = [form.clip_folder(self.folder, clip["name"]) / form.LANDMARKS_FILE for clip in outcome.clips]
        else:
            places = [
                form.shard_path(self.folder, clip["shard"]) if "shard" in clip else self._records(key)
                for clip in outcome.clips
            ]
        return all(place.is_file() for place in places)

    def _read_note(self, key: str) -> Outcome | None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            note = json.loads((self._done / f"{key}.json").read_text(encoding="utf-8"))
            return Outcome(note["stamp"], note["clips"], note["rejected"])
        return None

    def _write_note(self, key: str, outcome: Outcome) -> None:
        _write_json(self._done / f"{key}.json", dataclasses.asdict(outcome))

    @contextlib.contextmanager
    def source(self, key: str, stamp: list[int]) -> Iterator["SourceWriter"]:
        """Write the clips of one source; all of them appear when the block ends without an exception, else none.

        key: unique name of the source. stamp: changes whenever the source does.
        """
        with scratch(self._work / f"partial-{os.urandom(6).hex()}") as folder:
            with _disk(self.folder):
                folder.mkdir()
            writer = SourceWriter(folder, self.config, Outcome(stamp))
            try:
                yield writer
                with _disk(self.folder):
                    self._publish(key, writer)
            finally:
                writer.close()

    def _publish(self, key: str, writer: "SourceWriter") -> None:
        writer.close()
        earlier = self._read_note(key)
        stale = [] if earlier is None else earlier.clips
        (self._done / f"{key}.json").unlink(missing_ok=True)
        if self.config.storage == "folder":
            # A run stopped before the note of this source may have left a clip.
            for name in {clip["name"] for clip in [*stale, *writer.outcome.clips]}:
                if form.clip_folder(self.folder, name).exists():
                    shutil.rmtree(form.clip_folder(self.folder, name))
            for clip in writer.outcome.clips:
                os.replace(writer.scratch / clip["name"], form.clip_folder(self.folder, clip["name"]))
        elif writer.outcome.clips:
            os.replace(writer.scratch / _RECORDS, self._records(key))
        self._write_note(key, writer.outcome)

    def _records(self, key: str) -> pathlib.Path:
        return self._parts / f"{key}.arrayrecord"

    def write_index(self, identities: dict[str, str]) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
        """Write `dataset.json` and `rejected.json`; returns clips and rejections.

        identities: of the sources of this run, by key; sources of earlier runs keep theirs.
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
            _write_json(self.folder / form.REJECTED, rejected)
            _write_json(self.folder / form.INDEX, self._index(clips))
            for key in outcomes:
                self._records(key).unlink(missing_ok=True)
        return clips, rejected

    def _index(self, clips: list[dict[str, Any]]) -> dict[str, Any]:
        rate = self.config.fps
        return {
            "format": form.FORMAT,
            "version": form.VERSION,
            "storage": self.config.storage,
            "size": self.config.size,
            "fps": int(rate) if rate == int(rate) else rate,
            "priors": self.config.priors,
            "clips": clips,
        }

    def _identify(self, outcomes: dict[str, Outcome], identities: dict[str, str]) -> None:
        """Update the identity in the notes and in each `clip.json`."""
        for key, identity in identities.items():
            outcome = outcomes.get(key)
            if outcome is None or all(clip["identity"] == identity for clip in outcome.clips):
                continue
            for clip in outcome.clips:
                clip["identity"] = identity
                if self.config.storage == "folder":
                    _write_json(form.clip_folder(self.folder, clip["name"]) / "clip.json", clip)
            self._write_note(key, outcome)

    def _pack(self, outcomes: dict[str, Outcome]) -> None:
        """Move unpacked records to new shards and note each clip's place.

        A shard of an interrupted run that no note mentions is overwritten.
        """
        number = 1 + max((clip.get("shard", -1) for o in outcomes.values() for clip in o.clips), default=-1)
        waiting = [key for key, outcome in outcomes.items() if any("shard" not in clip for clip in outcome.clips)]
        while waiting:
            path, packed = form.shard_path(self.folder, number), []
            with scratch(path.with_name(f".{path.name}.partial")) as partial:
                shard = _Shard(path, partial)
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
    """Writer of one source's clips; `outcome` lists those written so far."""

    def __init__(self, scratch: pathlib.Path, config: ClipConfig, outcome: Outcome) -> None:
        self.scratch, self.config, self.outcome = scratch, config, outcome
        self._records: Any = None
        self._count = 0

    def clip(
        self, name: str, source: str, crop: list[int], sound: Sound, frames: Iterable[EncodedFrame]
    ) -> dict[str, Any]:
        """Write one clip; returns its entry, still without the identity.

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
        """Record that a source, or part of it, is not used."""
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
                for image in ("image", *form.PRIORS) if self.config.priors else ("image",):
                    (folder / form.FILES[image][0]).mkdir(parents=True)
        for index, frame in enumerate(frames):
            landmarks.append(frame.landmarks)
            with _disk(self.scratch):
                if as_files:
                    for image, data in frame.images.items():
                        (folder / form.frame_file(image, index)).write_bytes(data)
                else:
                    self._write_record(frame, mel_windows(sound.mel, np.array([index]), self.config.fps)[0])
        points = np.stack(landmarks).astype(np.float32)
        with _disk(self.scratch):
            if as_files:
                np.save(folder / form.LANDMARKS_FILE, points)
                np.save(folder / form.MEL_FILE, sound.mel)
                if sound.samples is not None:
                    write_wav(folder / form.AUDIO_FILE, sound.samples)
        return points

    def _write_record(self, frame: EncodedFrame, mel: Float[np.ndarray, "80 16"]) -> None:
        from array_record.python.array_record_module import ArrayRecordWriter

        if self._records is None:
            self._records = ArrayRecordWriter(str(self.scratch / _RECORDS), _OPTIONS)
        self._records.write(form.pack(frame.images, frame.landmarks, mel))
        self._count += 1


class _Shard:
    """An ArrayRecord file, written to `scratch`, that gets its name when it is complete."""

    def __init__(self, path: pathlib.Path, scratch: pathlib.Path) -> None:
        from array_record.python.array_record_module import ArrayRecordWriter

        self._path, self._scratch = path, scratch
        self._writer = ArrayRecordWriter(str(self._scratch), _OPTIONS)
        self.count = 0

    def append(self, part: pathlib.Path) -> None:
        """Copy all records of another file."""
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
    """Convert the system's errors to OutputError."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # ArrayRecord raises RuntimeError
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{folder} cannot be written to ({reason}): make space or choose another place") from error
