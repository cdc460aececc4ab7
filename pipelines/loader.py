"""Endless batches of frame pairs from a prepared dataset, with a state to resume from.

    config = DataConfig(path="vox", batch_size=36, workers=4)
    batches = open_pairs(config, process_index=jax.process_index(), process_count=jax.process_count())
    batch = next(batches)             # {"source": uint8 [B, H, W, 3], "driving": ..., "swapped": bool [B]}
    batches.set_state(batches.state())

Batch n is a pure function of the config and n, for threads and any number of worker processes; process p of P holds
the p-th of its P equal parts. The state is therefore one number, equal on every process. grain reads ahead, in threads
or worker processes (which import the main module, so a script needs the usual `if __name__ == "__main__":`).
"""

import collections
import json
import logging
import shutil
import sys
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import grain
import numpy as np

from avfr_jax.errors import CheckpointError, ConfigError, InputError
from pipelines.config import DataConfig
from pipelines.processes import end_with_parent
from pipelines.record import LANDMARKS, MEL, Clip
from pipelines.sampling import PairSampler
from pipelines.sources import ClipDataset, CorruptFrameError, join_datasets, open_dataset

log = logging.getLogger(__name__)

WINDOW = 2000  # samples of a process over which the share of unreadable pairs is computed
MAX_ATTEMPTS = 16
_ENDLESS = 2**40  # batches; grain needs a length
_SHARED_MEMORY = "/dev/shm"

Skipped = tuple[str, int, str]  # clip, frame, reason
GIVEN_UP: Skipped = ("", -1, "no replacement could be read either")


def choose_clips(config: DataConfig) -> ClipDataset:
    """Open the clips that a config names.

    Raises:
      InputError: see `open_dataset`, `join_datasets` and `ClipDataset.shrunk`.
      ConfigError: a name that is not in the dataset.
    """
    dataset = join_datasets([open_dataset(path.strip()).shrunk(config.size) for path in config.path.split(",")])
    if config.priors and not dataset.priors:
        raise InputError(f"{config.path} was prepared without priors; prepare it with them or set data.priors false.")
    return dataset.select(config.identities, config.clips, config.exclude_identities, config.exclude_clips)


def make_sampler(config: DataConfig, dataset: ClipDataset) -> PairSampler:
    """Create the sampler of a config.

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
    """Size of one process's part of a batch.

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
    """A process's pairs, all epochs in one sequence, for grain to index."""

    def __init__(self, config: DataConfig, dataset: ClipDataset, process_index: int, process_count: int) -> None:
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

    def __getitem__(self, position: Any) -> dict[str, Any]:
        """Read a pair; an unreadable one is replaced by another sample and listed under `skipped`."""
        batch, row = divmod(int(position), self.local)
        epoch, batch = divmod(batch, self.batches_per_epoch)
        index = batch * self.config.batch_size + self.offset + row
        skipped: list[Skipped] = []
        for attempt in range(MAX_ATTEMPTS):
            sample = self.sampler.sample(epoch, index, attempt)
            pair = self._read(self.dataset.clips[sample.clip], sample.source, sample.driving)
            if isinstance(pair, dict):
                return {**pair, "swapped": np.bool_(sample.swapped), "skipped": tuple(skipped)}
            skipped.append(pair)
        # An exception in a worker process would reach the main one as a traceback in a string.
        return {**self.blank(), "swapped": np.False_, "skipped": (*skipped, GIVEN_UP)}

    def _read(self, clip: Clip, source: int, driving: int) -> dict[str, np.ndarray] | Skipped:
        """One row of a batch, or the first frame that cannot be read."""
        out = {}
        for name, index in self.config.places(source, driving).items():
            try:
                frame = self.dataset.read_frame(clip, index, self.config.what(name))
            except CorruptFrameError as error:
                return clip.name, index, str(error)
            out[name] = frame["image"]
            if "landmarks" in frame:
                out[f"{name}_landmarks"] = frame["landmarks"]
            if "mel" in frame:
                out["mel"] = frame["mel"]
        return out

    def blank(self) -> dict[str, np.ndarray]:
        """Zeros in the shapes of a pair."""
        out: dict[str, np.ndarray] = {}
        for name in self.config.names:
            out[name] = np.zeros((self.dataset.size, self.dataset.size, 5 if self.config.priors else 3), np.uint8)
            if self.config.landmarks:
                out[f"{name}_landmarks"] = np.zeros(LANDMARKS, np.float32)
        if self.config.mel:
            out["mel"] = np.zeros(MEL, np.float32)
        return out


def collate(pairs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack pairs into a batch; the skipped ones become one tuple."""
    batch = {name: np.stack([pair[name] for pair in pairs]) for name in sorted(pairs[0]) if name != "skipped"}
    return {**batch, "skipped": tuple(entry for pair in pairs for entry in pair["skipped"])}


def _start_worker(index: int, count: int) -> None:
    """Initialise a worker process.

    Signals of a terminal or scheduler reach all processes of a run, but the main one may need batches while it shuts
    down; workers ignore them and exit when the main process dies.
    """
    end_with_parent()


class PairLoader:
    """An endless iterator over batches of pairs.

    A batch is `{"source", "driving": uint8 [B, H, W, C], "swapped": bool [B]}`, C = 3 or with priors 5 (of triplets
    also `between`, of single frames `driving` alone); with landmarks also `source_landmarks` and `driving_landmarks`,
    float32 [B, 478, 3] (see `ClipDataset.read_frame`); with mel also `mel`, float32 [B, 80, 16], around the driving
    frame. B is this process's share of the batch size.

    Attributes:
      dataset: the clips it reads.
      batches_per_epoch: the remainder of an epoch is left out.
      skipped: unreadable pairs replaced so far (by this process).
    """

    def __init__(self, config: DataConfig, dataset: ClipDataset, process_index: int = 0, process_count: int = 1):
        """
        Args:
          config: settings; `path` and the selection are those of `dataset` already.
          dataset: the clips.
          process_index, process_count: share of each batch that this process reads.

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
        weakref.finalize(self, self._running.clear)  # at exit, before modules that grain's workers need are gone
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
          InputError: more than `max_corrupt` of the recent samples could not be read; the worst clips are named.
        """
        if not self._running:
            self._running.append(iter(self._pipeline(self._batches)))
        batch = next(self._running[0])
        self._batches += 1
        self._account(batch.pop("skipped"))
        return batch

    def state(self) -> bytes:
        """JSON of the number of batches returned and the settings that determine the order."""
        return json.dumps({"batches": self._batches, "skipped": self.skipped, "order": self._order()}).encode()

    def set_state(self, state: bytes) -> None:
        """Continue after the batch at which `state` was taken; the numbers of workers and processes may differ.

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

    # Name used by grain's and orbax's checkpoint handlers.
    get_state = state

    def close(self) -> None:
        """Stop threads and workers; `next` starts them again."""
        self._running.clear()

    def _order(self) -> dict[str, Any]:
        """Settings that determine the order of the pairs."""
        names = ("batch_size", "seed", "repeats", "balance", "time_flip")
        spans = {"spans": list(self._config.spans)} if self._config.spans else {}  # absent from older states
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
        """Bytes from which arrays use shared memory; containers often have next to none."""
        pair = sum(array.nbytes for array in self._source.blank().values())
        needed = 4 * self._config.workers * self._source.local * pair
        try:
            free = shutil.disk_usage(_SHARED_MEMORY).free
        except OSError:
            free = needed
        if free >= needed:
            return 2**16
        log.warning(
            "%s has %d MB free, %d are needed: batches come from the workers through pipes, which is slower.",
            *(_SHARED_MEMORY, free >> 20, needed >> 20),
        )
        return sys.maxsize

    def _account(self, skipped: Sequence[Skipped]) -> None:
        """Log and count unreadable pairs. InputError where there are too many."""
        failures = [entry for entry in skipped if entry != GIVEN_UP]
        for clip, frame, reason in failures:
            if (clip, frame) not in self._named:
                self._named[clip, frame] = reason
                log.warning("%s: skipped clip %s frame %d: %s.", self.dataset.path, clip, frame, reason)
        self.skipped += len(failures)
        self._recent.append((self._source.local + len(failures), len(failures)))
        samples, failed = (sum(column) for column in zip(*self._recent, strict=True))
        while samples - self._recent[0][0] >= WINDOW:
            first = self._recent.popleft()
            samples, failed = samples - first[0], failed - first[1]
        if failed > self._config.max_corrupt * WINDOW or GIVEN_UP in skipped:
            raise InputError(self._too_many(samples, failed))

    def _too_many(self, samples: int, failed: int) -> str:
        clips = collections.Counter(clip for clip, _ in self._named)
        worst = ", ".join(name for name, _ in clips.most_common(5)) + (" and others" if len(clips) > 5 else "")
        (clip, frame), reason = next(iter(self._named.items()))
        return (
            f"{failed} of the last {samples} pairs sampled from {self.dataset.path} cannot be read, and "
            f"{self._config.max_corrupt:.3g} of them is the limit; prepare again or exclude the clips {worst} "
            f"(the first: clip {clip} frame {frame}, {reason})."
        )


def open_pairs(config: DataConfig, process_index: int = 0, process_count: int = 1) -> PairLoader:
    """Open the dataset that a config names and read pairs from it; errors of `choose_clips` and `PairLoader`."""
    return PairLoader(config, choose_clips(config), process_index, process_count)
