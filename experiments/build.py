"""The parts of a training run, made from an `Experiment`: datasets, augmentation, batches, validation, export."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from avfr_jax.config import to_dict
from avfr_jax.errors import AvfrError, InputError
from avfr_jax.model_store import save_model
from avfr_jax.training.loop import Run
from avfr_jax.training.optimisers import make_optimisers
from avfr_jax.training.sharding import make_mesh, put_batch, wait_for_processes
from avfr_jax.training.stopping import say
from avfr_jax.training.validation import Pair, Validator
from experiments.experiment import Experiment, build_objective, check, fixed_settings, with_schedule
from pipelines.augment import augment
from pipelines.config import DataConfig
from pipelines.loader import PairLoader, choose_clips
from pipelines.prefetch import DevicePrefetch
from pipelines.sources import ClipDataset, CorruptFrameError

Batch = dict[str, Any]


def prepare_data(experiment: Experiment, workdir: pathlib.Path) -> Experiment:
    """Render the synthetic dataset where `data.path` is empty, in process 0; the others wait."""
    if experiment.data.path:
        return experiment
    from data.clip_folder import prepare_synthetic

    folder, settings = workdir / "data", dataclasses.asdict(experiment.synthetic)
    if jax.process_index() == 0:
        say(f"Rendering {experiment.synthetic.clips} clips of synthetic heads into {folder} (once).")
        try:
            prepare_synthetic(folder, size=experiment.data.size, **settings)
        except AvfrError:
            wait_for_processes("data")  # the others find no dataset and end too
            raise
    wait_for_processes("data")
    return dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, path=str(folder)))


def split(experiment: Experiment) -> tuple[ClipDataset, ClipDataset | None]:
    """Split the clips into those to train on and those held out.

    Raises:
      InputError: a dataset is missing or broken, or nothing is left to train on.
      ConfigError: a name that is not in the dataset.
    """
    everything = choose_clips(experiment.data)
    held = experiment.held_out
    named = bool(held.identities or held.clips)
    if held.path:
        other = dataclasses.replace(experiment.data, path=held.path, identities=held.identities, clips=held.clips)
        return everything, choose_clips(dataclasses.replace(other, exclude_identities=(), exclude_clips=()))
    identities, clips = held.identities, held.clips
    if not named and held.share > 0:
        people = everything.identities
        count = max(1, round(held.share * len(people)))
        identities = tuple(people[(2 * i + 1) * len(people) // (2 * count)] for i in range(count))
    if not identities and not clips:
        return everything, None
    if all(clip.identity in identities or clip.name in clips for clip in everything.clips):
        raise InputError(
            f"Every clip of {experiment.data.path} would be held out for validation ({len(everything.identities)} "
            "people in it): train without validation (--held_out.share 0), or validate on other clips "
            "(--held_out.path)."
        )
    rest = everything.select(exclude_identities=identities, exclude_clips=clips)
    return rest, everything.select(identities=identities, clips=clips)


class HeldOutClips:
    """Held-out clips as `avfr_jax.training.validation.ValidationSource`."""

    def __init__(self, dataset: ClipDataset, config: DataConfig) -> None:
        self._dataset, self._config = dataset, config
        self.names: Sequence[str] = [clip.name for clip in dataset.clips]
        self.frames: Sequence[int] = [clip.frames for clip in dataset.clips]

    def _read(self, clip: int, frame: int, which: str) -> dict[str, np.ndarray]:
        entry = self._dataset.clips[clip]
        try:
            return self._dataset.read_frame(entry, frame, self._config.what(which))
        except CorruptFrameError as error:
            raise InputError(
                f"Frame {frame} of the validation clip {entry.name} cannot be read: {error}; prepare it again."
            ) from None

    def samples(self, pairs: Sequence[Pair]) -> Batch:
        """See `ValidationSource`."""
        batch: dict[str, list[np.ndarray]] = {}
        read = functools.lru_cache(maxsize=64)(self._read)  # one source frame serves many pairs
        for pair in pairs:
            for which, frame in self._config.places(pair.source, pair.driving).items():
                parts = read(pair.clip, frame, which)
                batch.setdefault(which, []).append(parts["image"].astype(np.float32) / 255)
                if "landmarks" in parts:
                    batch.setdefault(f"{which}_landmarks", []).append(parts["landmarks"])
                if "mel" in parts:
                    batch.setdefault("mel", []).append(parts["mel"])
        return {name: np.stack(rows) for name, rows in batch.items()}


def build_augment(experiment: Experiment, names: Sequence[str]) -> Any:
    """Make the augmentation as a function of a key and a batch that keeps the entries `names`."""
    mirror = None
    if experiment.data.landmarks:
        from avfr_jax.landmarks import mirror_indices

        mirror = jnp.asarray(mirror_indices())

    def prepared(key: Any, batch: Batch) -> Batch:
        batch = augment(key, batch, experiment.augment, mirror)
        return {name: batch[name] for name in names}

    return prepared


def build_batches(experiment: Experiment, dataset: ClipDataset, mesh: Mesh) -> DevicePrefetch:
    """Open training batches on the devices, from this process's part of the dataset."""
    loader = PairLoader(experiment.data, dataset, jax.process_index(), jax.process_count())
    return DevicePrefetch(loader, functools.partial(put_batch, mesh), experiment.prefetch)


def build_run(experiment: Experiment, workdir: pathlib.Path) -> tuple[Experiment, Run]:
    """Make the run of an experiment whose data exists, for `avfr_jax.training.loop.fit`.

    Returns:
      The experiment with its length computed, and the run.

    Raises:
      InputError, ConfigError, MissingBackendError: see `split`, `with_schedule`, `build_objective`.
    """
    check(experiment)
    train, held_out = split(experiment)
    groups = train.identities if experiment.data.balance == "identity" else train.clips
    experiment = with_schedule(experiment, len(groups))
    objective = build_objective(experiment)
    mesh = make_mesh(experiment.mesh.data, experiment.mesh.fsdp)
    validator = None
    if held_out is not None and experiment.loop.validate_every:
        clips = HeldOutClips(held_out, experiment.data)
        validator = Validator(objective, clips, mesh, experiment.validation, experiment.data.batch_size)
    run = Run(
        objective=objective,
        optimisers=make_optimisers(experiment.optimiser, objective.networks),
        mesh=mesh,
        data=build_batches(experiment, train, mesh),
        batch_size=experiment.data.batch_size,
        workdir=workdir,
        loop=experiment.loop,
        step=experiment.step,
        seed=experiment.seed,
        augment=build_augment(experiment, list(objective.example_batch(1))),
        validator=validator,
        settings=fixed_settings(experiment, train, objective.notes),
        config=to_dict(experiment),
        init_from=pathlib.Path(experiment.init_from) if experiment.init_from else None,
        export=functools.partial(_export, experiment, objective.averaged, workdir / "model"),
        provenance=provenance(experiment, train, held_out),
    )
    return experiment, run


def provenance(experiment: Experiment, train: ClipDataset, held_out: ClipDataset | None) -> dict[str, Any]:
    """Provenance for `model.json`."""

    def about(dataset: ClipDataset) -> dict[str, Any]:
        return {
            "dataset": dataset.path.name,
            "clips": len(dataset.clips),
            "identities": len(dataset.identities),
            "frames": dataset.frames,
            "digest": dataset.digest(),
        }

    return {
        "source": f"trained by avfr-jax's experiments.train, config {experiment.name}",
        "training_data": about(train),
        "validation_data": about(held_out) if held_out else None,
        "batch_size": experiment.data.batch_size,
        "config": to_dict(experiment),
    }


def _export(
    experiment: Experiment,
    networks: Sequence[str],
    folder: pathlib.Path,
    variables: dict[str, Any],
    about: dict[str, Any],
    quality: dict[str, float],
) -> pathlib.Path:
    """Write a model folder without the discriminator."""
    weights = {name: variables[name] for name in networks}
    save_model(
        folder,
        experiment.family,
        experiment.model,
        weights,
        provenance=about,
        quality={"validation": quality},
        overwrite=True,
    )
    return folder
