"""Batches of frame pairs from a prepared dataset, endless, with a state to resume from.

    config = DataConfig(path="vox", batch_size=36, workers=4)
    batches = open_pairs(config, process_index=jax.process_index(), process_count=jax.process_count())
    batch = next(batches)             # {"source": uint8 [B, H, W, 3], "driving": ..., "swapped": bool [B]}
    batches.set_state(batches.state())

Batch n is a pure function of the config and n. It holds the same pairs whether threads or any number of worker
processes read it; process p of P holds the p-th of P equal parts of it. The state is therefore one number, and the
same on every process. grain reads ahead, in threads or worker processes (which start by importing the main module, so
a script needs the usual `if __name__ == "__main__":`).
"""

import collections
import dataclasses
import json
import logging
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import grain
import numpy as np

from avfr_jax.errors import CheckpointError, ConfigError, InputError
from avfr_jax.landmarks import NUM_LANDMARKS
from pipelines.sampling import PairSampler
from pipelines.sources import MEL, Clip, ClipDataset, CorruptFrameError, join_datasets, open_dataset

log = logging.getLogger(__name__)

# Unreadable pairs are judged over this many draws of a process.
WINDOW = 2000
MAX_ATTEMPTS = 16
_ENDLESS = 2**40  # batches; grain wants a length
_SHARED_MEMORY = "/dev/shm"

FRAMES = {"pair": ("source", "driving"), "triplet": ("source", "between", "driving"), "single": ("driving",)}
"""What a sample holds: two frames, the one halfway between them too, or the second alone."""

Skipped = tuple[str, int, str]  # clip, frame, reason
GIVEN_UP: Skipped = ("", -1, "no replacement could be read either")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What is read and how.

    Attributes:
      path: folder of a prepared dataset, or several separated by commas.
      batch_size: pairs in a batch of all processes together.
      size: height and width of the frames, pixels; those of the dataset must be a multiple of it.
      seed: of the order of everything, 0 ≤ seed < 2**64.
      repeats: how often an epoch names each identity (or clip).
      balance: `identity`: everyone weighs the same (FOMM's id_sampling); `clip`: every clip does.
      time_flip: whether half of the pairs are reversed in time.
      frames: of a sample: `pair`, `triplet` (and the frame halfway, `between`) or `single` (`driving` alone).
      spans: how far apart a pair's frames lie, each as often as the others; empty draws any two. A triplet needs some,
        all even.
      priors: two more channels: the mesh drawing and the head mask.
      landmarks: `source_landmarks` and `driving_landmarks`.
      mel: the sound around the driving frame.
      identities, clips: read these alone; everything if both are empty.
      exclude_identities, exclude_clips: read these on no account.
      workers: processes that read; 0 reads in threads of this one.
      threads: batches that a process reads at the same time.
      prefetch: batches that a process holds ready.
      max_corrupt: the largest share of draws that may be unreadable.
    """

    path: str = ""
    batch_size: int = 36
    size: int = 256
    seed: int = 0
    repeats: int = 75
    balance: Literal["identity", "clip"] = "identity"
    time_flip: bool = True
    frames: Literal["pair", "triplet", "single"] = "pair"
    spans: tuple[int, ...] = ()
    priors: bool = False
    landmarks: bool = False
    mel: bool = False
    identities: tuple[str, ...] = ()
    clips: tuple[str, ...] = ()
    exclude_identities: tuple[str, ...] = ()
    exclude_clips: tuple[str, ...] = ()
    workers: int = 0
    threads: int = 4
    prefetch: int = 4
    max_corrupt: float = 0.01

    def __post_init__(self) -> None:
        least = {"batch_size": 1, "size": 2, "seed": 0, "repeats": 1, "workers": 0, "threads": 1, "prefetch": 1}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ConfigError(f"data.{name} must be at least {value}, not {getattr(self, name)}.")
        if self.seed >= 2**64:
            raise ConfigError(f"data.seed must be below 2**64, not {self.seed}.")
        if not 0 <= self.max_corrupt <= 1:
            raise ConfigError(f"data.max_corrupt is a share between 0 and 1, not {self.max_corrupt}.")
        if any(span < 1 for span in self.spans):
            raise ConfigError(f"data.spans must be at least 1, not {list(self.spans)}.")
        if self.frames == "triplet" and (not self.spans or any(span % 2 for span in self.spans)):
            raise ConfigError(f"Triplets need data.spans of even numbers of frames, not {list(self.spans)}.")

    @property
    def names(self) -> tuple[str, ...]:
        """What the frames of a sample are called."""
        return FRAMES[self.frames]

    def places(self, source: int, driving: int) -> dict[str, int]:
        """The frames that are read of a pair, by name."""
        pair = {"source": source, "between": (source + driving) // 2, "driving": driving}
        return {name: pair[name] for name in self.names}

    def what(self, which: str) -> tuple[str, ...]:
        """What is read of a sample's frame `which` (one of `names`), as `ClipDataset.read_frame` names it."""
        names = ("priors", "landmarks", "mel") if which == "driving" else ("priors", "landmarks")
        return ("image", *(name for name in names if getattr(self, name)))


def choose_clips(config: DataConfig) -> ClipDataset:
    """The clips that a config names.

    Raises:
      InputError: see `open_dataset`, `join_datasets` and `ClipDataset.shrunk`.
      ConfigError: a name that is not in the dataset.
    """
    dataset = join_datasets([open_dataset(path.strip()).shrunk(config.size) for path in config.path.split(",")])
    if config.priors and not dataset.priors:
        raise InputError(f"{config.path} was prepared without priors; prepare it with them or set data.priors false.")
    return dataset.select(config.identities, config.clips, config.exclude_identities, config.exclude_clips)


def make_sampler(config: DataConfig, dataset: ClipDataset) -> PairSampler:
    """How pairs are drawn from these clips.

    Raises:
      InputError: a clip is shorter than every span.
    """
    shortest = min(config.spans, default=0)
    if short := [clip.name for clip in dataset.clips if clip.frames <= shortest]:
        raise InputError(
            f"{len(short)} clips of {config.path} have fewer than {shortest + 1} frames, which data.spans needs, the "
            f"first {short[0]}; exclude them (data.exclude_clips) or name another dataset."
        )
    groups: dict[str, list[int]] = {}
    for number, clip in enumerate(dataset.clips):
        groups.setdefault(clip.identity if config.balance == "identity" else clip.name, []).append(number)
    return PairSampler(
        groups=tuple(tuple(groups[name]) for name in sorted(groups)),
        frames=tuple(clip.frames for clip in dataset.clips),
        repeats=config.repeats,
        seed=config.seed,
        time_flip=config.time_flip,
        spans=config.spans,
    )


def local_batch_size(batch_size: int, process_index: int, process_count: int) -> int:
    """One process's part of a batch.

    Raises:
      ConfigError: the batch cannot be divided, or there is no such process.
    """
    if process_count < 1 or not 0 <= process_index < process_count:
        raise ConfigError(f"There is no process {process_index} of {process_count}.")
    if batch_size % process_count:
        raise ConfigError(
            f"data.batch_size {batch_size} cannot be divided over {process_count} processes; choose a multiple of "
            f"{process_count}."
        )
    return batch_size // process_count


class PairSource:
    """A process's pairs, all epochs in one sequence: what grain indexes."""

    def __init__(self, config: DataConfig, dataset: ClipDataset, process_index: int, process_count: int) -> None:
        """See `PairLoader`."""
        self.config, self.dataset = config, dataset
        self.sampler = make_sampler(config, dataset)
        self.local = local_batch_size(config.batch_size, process_index, process_count)
        self.offset = process_index * self.local
        self.batches_per_epoch = self.sampler.epoch_length // config.batch_size
        if self.batches_per_epoch == 0:
            raise ConfigError(
                f"An epoch of {config.path} has {self.sampler.epoch_length} pairs, less than data.batch_size "
                f"{config.batch_size}; raise data.repeats."
            )

    def __len__(self) -> int:
        return _ENDLESS * self.local

    def __repr__(self) -> str:
        return f"PairSource({self.config}, {self.dataset.digest()}, {self.offset}+{self.local})"

    def place(self, position: int) -> tuple[int, int]:
        """A position in this process's sequence -> epoch and index in the epoch."""
        batch, row = divmod(position, self.local)
        epoch, batch = divmod(batch, self.batches_per_epoch)
        return epoch, batch * self.config.batch_size + self.offset + row

    def __getitem__(self, position: Any) -> dict[str, Any]:
        """A pair. One that cannot be read is replaced by another draw and named under `skipped`."""
        epoch, index = self.place(int(position))
        skipped: list[Skipped] = []
        for attempt in range(MAX_ATTEMPTS):
            drawn = self.sampler.draw(epoch, index, attempt)
            clip = self.dataset.clips[drawn.clip]
            try:
                pair = read_pair(self.dataset, self.config, clip, drawn.source, drawn.driving)
            except UnreadableError as error:
                skipped.append(error.what)
            else:
                return {**pair, "swapped": np.bool_(drawn.swapped), "skipped": tuple(skipped)}
        # An exception in a worker process would reach the main one as a traceback in a string.
        pair = blank_pair(self.dataset, self.config)
        return {**pair, "swapped": np.False_, "skipped": (*skipped, GIVEN_UP)}


class UnreadableError(Exception):
    """A pair of which a frame cannot be read. `what`: its clip, number and the reason."""

    def __init__(self, what: Skipped) -> None:
        super().__init__(what)
        self.what = what


def read_pair(dataset: ClipDataset, config: DataConfig, clip: Clip, source: int, driving: int) -> dict[str, np.ndarray]:
    """A sample's frames and what goes with them, as in a batch but without its axis.

    Raises:
      UnreadableError: one of them cannot be read.
    """
    out = {}
    for name, index in config.places(source, driving).items():
        try:
            frame = dataset.read_frame(clip, index, config.what(name))
        except CorruptFrameError as error:
            raise UnreadableError((clip.name, index, str(error))) from None
        out[name] = frame["image"]
        if "landmarks" in frame:
            out[f"{name}_landmarks"] = frame["landmarks"]
        if "mel" in frame:
            out["mel"] = frame["mel"]
    return out


def blank_pair(dataset: ClipDataset, config: DataConfig) -> dict[str, np.ndarray]:
    """Zeros in the shapes of a pair."""
    out: dict[str, np.ndarray] = {}
    for name in config.names:
        out[name] = np.zeros((dataset.size, dataset.size, 5 if config.priors else 3), np.uint8)
        if config.landmarks:
            out[f"{name}_landmarks"] = np.zeros((NUM_LANDMARKS, 3), np.float32)
    if config.mel:
        out["mel"] = np.zeros(MEL, np.float32)
    return out


def collate(pairs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Pairs -> a batch: arrays stacked, the skipped ones in one list."""
    batch: dict[str, Any] = {
        name: np.stack([pair[name] for pair in pairs]) for name in sorted(pairs[0]) if name != "skipped"
    }
    batch["skipped"] = tuple(entry for pair in pairs for entry in pair["skipped"])
    return batch


def _start_worker(index: int, count: int) -> None:
    """What a worker process does first.

    A terminal's or a scheduler's signal goes to all processes of a run; its main one decides what becomes of it and
    may need batches until then. Only the main process's death ends a worker that nobody told to end.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()


def _die_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


class PairLoader:
    """An endless iterator over batches of pairs.

    A batch is `{"source", "driving": uint8 [B, H, W, C], "swapped": bool [B]}`, C = 3 or with priors 5 (of triplets
    also `between`, of single frames `driving` alone); with landmarks also `source_landmarks` and `driving_landmarks`,
    float32 [B, 478, 3] (see `ClipDataset.read_frame`); with mel also `mel`, float32 [B, 80, 16], around the driving
    frame. B is this process's share of the batch size.

    Attributes:
      dataset: the clips it reads.
      batches_per_epoch: the rest of an epoch that fills no batch is left out.
      skipped: pairs so far that could not be read and were replaced (by this process).
    """

    def __init__(self, config: DataConfig, dataset: ClipDataset, process_index: int = 0, process_count: int = 1):
        """
        Args:
          config: what is read and how; `path` and the names have been looked after by whoever opened the dataset.
          dataset: the clips.
          process_index, process_count: which share of each batch this process reads.

        Raises:
          ConfigError: the batch cannot be divided over the processes, or an epoch fills no batch.
        """
        self._source = PairSource(config, dataset, process_index, process_count)
        self._config = config
        self.dataset = dataset
        self.batches_per_epoch = self._source.batches_per_epoch
        self.skipped = 0
        self._batches = 0
        self._running: list[Iterator[dict[str, Any]]] = []  # grain's iterator, if any
        weakref.finalize(self, self._running.clear)  # at exit, before what grain's workers need is gone
        self._recent: collections.deque[tuple[int, int]] = collections.deque()
        self._named: dict[tuple[str, int], str] = {}

    @property
    def epoch(self) -> int:
        """Epoch of the next batch, from 0."""
        return self._batches // self.batches_per_epoch

    def __iter__(self) -> "PairLoader":
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        """The next batch.

        Raises:
          InputError: more than `max_corrupt` of the recent draws could not be read; the worst clips are named.
        """
        if not self._running:
            self._running.append(iter(self._pipeline(self._batches)))
        batch = next(self._running[0])
        self._batches += 1
        self._account(batch.pop("skipped"))
        return batch

    def state(self) -> bytes:
        """JSON: how many batches were handed out, and the settings that the order depends on."""
        return json.dumps({"batches": self._batches, "skipped": self.skipped, "order": self._order()}).encode()

    def set_state(self, state: bytes) -> None:
        """Go on after the batch at which `state` was taken; the numbers of workers and processes may differ.

        Raises:
          CheckpointError: the state is of another dataset or config.
        """
        try:
            content = json.loads(state)
            batches, skipped, order = int(content["batches"]), int(content["skipped"]), dict(content["order"])
        except (ValueError, KeyError, TypeError):
            raise CheckpointError("The checkpoint's data state is broken; resume from another checkpoint.") from None
        own = self._order()
        names = [*own, *(name for name in order if name not in own)]
        changed = [f"{k} was {order.get(k)!r} and is {own.get(k)!r}" for k in names if order.get(k) != own.get(k)]
        if changed:
            raise CheckpointError(
                f"The checkpoint's data order is of another config ({'; '.join(changed)}); resume with the old "
                "settings, or start a new run from its weights."
            )
        self.close()
        self._batches, self.skipped = batches, skipped
        self._recent.clear()

    # grain's and orbax's checkpoint handlers call them so.
    get_state = state

    def close(self) -> None:
        """End threads and workers; `next` starts them again."""
        self._running.clear()

    def _order(self) -> dict[str, Any]:
        """Everything that the order of the pairs depends on."""
        names = ("batch_size", "seed", "repeats", "balance", "time_flip")
        spans = {"spans": list(self._config.spans)} if self._config.spans else {}  # states from before there were any
        return {"clips": self.dataset.digest(), **{name: getattr(self._config, name) for name in names}, **spans}

    def _pipeline(self, start: int) -> grain.IterDataset:
        # Batches are formed before the reading is divided among workers: their number does not change them.
        config, source = self._config, self._source
        batches = (
            grain.MapDataset.source(source)
            .slice(slice(start * source.local, None))
            .batch(source.local, drop_remainder=True, batch_fn=collate)
            .to_iter_dataset(grain.ReadOptions(num_threads=config.threads, prefetch_buffer_size=config.prefetch))
        )
        if config.workers == 0:
            return batches
        options = grain.experimental.DatasetOptions(min_shm_size=self._smallest_shared())
        return grain.experimental.WithOptionsIterDataset(batches, options).mp_prefetch(
            grain.multiprocessing.MultiprocessingOptions(num_workers=config.workers, per_worker_buffer_size=1),
            _start_worker,
        )

    def _smallest_shared(self) -> int:
        """Bytes from which arrays come from workers through shared memory; containers often have next to none."""
        pair = sum(array.nbytes for array in blank_pair(self.dataset, self._config).values())
        wanted = 4 * self._config.workers * self._source.local * pair
        try:
            free = shutil.disk_usage(_SHARED_MEMORY).free
        except OSError:
            free = wanted
        if free >= wanted:
            return 2**16
        log.warning(
            "%s has %d MB free, %d are wanted: batches come from the workers through pipes, which is slower.",
            *(_SHARED_MEMORY, free >> 20, wanted >> 20),
        )
        return sys.maxsize

    def _account(self, skipped: Sequence[Skipped]) -> None:
        """Name, count and judge the pairs that could not be read."""
        failures = [entry for entry in skipped if entry != GIVEN_UP]
        for clip, frame, reason in failures:
            if (clip, frame) not in self._named:
                self._named[clip, frame] = reason
                log.warning("%s: skipped clip %s frame %d: %s.", self.dataset.path, clip, frame, reason)
        self.skipped += len(failures)
        self._recent.append((self._source.local + len(failures), len(failures)))
        draws, failed = (sum(column) for column in zip(*self._recent, strict=True))
        while draws - self._recent[0][0] >= WINDOW:
            first = self._recent.popleft()
            draws, failed = draws - first[0], failed - first[1]
        if failed > self._config.max_corrupt * WINDOW or GIVEN_UP in skipped:
            raise InputError(self._verdict(draws, failed))

    def _verdict(self, draws: int, failed: int) -> str:
        clips = collections.Counter(clip for clip, _ in self._named)
        worst = ", ".join(name for name, _ in clips.most_common(5)) + (" and others" if len(clips) > 5 else "")
        (clip, frame), reason = next(iter(self._named.items()))
        return (
            f"{failed} of the last {draws} pairs drawn from {self.dataset.path} cannot be read, and "
            f"{self._config.max_corrupt:.3g} of them is the limit; prepare again or exclude the clips {worst} "
            f"(the first: clip {clip} frame {frame}, {reason})."
        )


def open_pairs(config: DataConfig, process_index: int = 0, process_count: int = 1) -> PairLoader:
    """Open the dataset that a config names and read pairs from it: see `choose_clips` and `PairLoader`.

    Raises:
      InputError: the dataset is missing, broken, empty or of another frame size.
      ConfigError: an unknown name, or a batch that the processes or the dataset cannot fill.
    """
    return PairLoader(config, choose_clips(config), process_index, process_count)
