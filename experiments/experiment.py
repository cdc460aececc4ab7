"""What a training experiment is, as one tree of settings, and the parts that it stands for."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from avfr_jax.backbones.lpips import load_lpips
from avfr_jax.backbones.perceptual import perceptual_network
from avfr_jax.config import TAG, to_dict
from avfr_jax.errors import ConfigError, InputError
from avfr_jax.model_store import save_model
from avfr_jax.models.avfr import AvfrConfig
from avfr_jax.models.fomm import FommConfig
from avfr_jax.models.interpolation import InterpolationConfig
from avfr_jax.models.mesh_fomm import MeshFommConfig
from avfr_jax.models.residual import ResidualConfig
from avfr_jax.models.super_resolution import SuperResolutionConfig
from avfr_jax.training.loop import LoopConfig, Run
from avfr_jax.training.objective import Objective
from avfr_jax.training.objectives.avfr import AvfrObjective
from avfr_jax.training.objectives.fomm import FommLossConfig, FommObjective
from avfr_jax.training.objectives.interpolation import InterpolationObjective
from avfr_jax.training.objectives.mesh_fomm import MeshFommObjective
from avfr_jax.training.objectives.pictures import FeatureNetwork, PictureLossConfig
from avfr_jax.training.objectives.residual import ResidualObjective
from avfr_jax.training.objectives.super_resolution import SuperResolutionObjective
from avfr_jax.training.optimisers import OptimiserConfig, make_optimisers
from avfr_jax.training.sharding import make_mesh, put_batch
from avfr_jax.training.step import StepConfig
from avfr_jax.training.validation import Pair, ValidationConfig, Validator
from pipelines.augment import AugmentConfig, augment
from pipelines.loader import DataConfig, PairLoader, choose_clips
from pipelines.prefetch import DevicePrefetch
from pipelines.sources import ClipDataset, CorruptFrameError

Batch = dict[str, Any]
_OBJECTIVES: dict[str, tuple[type, type, Any]] = {
    "fomm": (FommConfig, FommLossConfig, FommObjective),
    "mesh-fomm": (MeshFommConfig, FommLossConfig, MeshFommObjective),
    "avfr": (AvfrConfig, FommLossConfig, AvfrObjective),
    "interpolation": (InterpolationConfig, PictureLossConfig, InterpolationObjective),
    "super-resolution": (SuperResolutionConfig, PictureLossConfig, SuperResolutionObjective),
    "residual": (ResidualConfig, PictureLossConfig, ResidualObjective),
}
_FRAMES = {"interpolation": "triplet", "super-resolution": "single"}  # others: pairs
# Settings that came after the first runs, and what they are where nobody sets them.
_LATER: dict[str, dict[str, Any]] = {"data": {"frames": "pair", "spans": []}, "augment": {"crop": 0}}


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """The length of a run as papers give it. `loop.steps` and `optimiser.milestones` count instead where they are set.

    Attributes:
      epochs: one epoch names every identity `data.repeats` times.
      milestones: epochs at which the learning rate is multiplied by `optimiser.gamma`.
    """

    epochs: int = 0
    milestones: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class HeldOutConfig:
    """Which clips validation sees and training never does.

    Attributes:
      path: a dataset of their own; empty takes them out of the training dataset.
      identities: everyone named here.
      clips: every clip named here.
      share: where nobody is named, this share of the training dataset's identities, at least one; 0 validates nothing.
    """

    path: str = ""
    identities: tuple[str, ...] = ()
    clips: tuple[str, ...] = ()
    share: float = 0.1


@dataclasses.dataclass(frozen=True)
class SyntheticConfig:
    """A dataset of rendered heads, made in the work folder on first use where `data.path` is empty.

    Attributes:
      clips: how many.
      frames: of each, 25 a second.
      people: how many different ones take turns.
      seed: of the whole set.
      workers: processes that render; 0 takes one a core.
    """

    clips: int = 12
    frames: int = 24
    people: int = 12
    seed: int = 0
    workers: int = 0


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """How the devices are arranged.

    Attributes:
      data: devices along which the batch alone is divided; -1 takes all that `fsdp` leaves.
      fsdp: devices along which the parameters are divided too.
    """

    data: int = -1
    fsdp: int = 1


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that says how a model is trained.

    Attributes:
      name: of the experiment; runs lie in `runs/NAME` unless told otherwise.
      family: of models: `fomm`, `mesh-fomm`, `avfr`, `interpolation`, `super-resolution` or `residual`.
      model: the networks.
      losses: what they are trained for.
      optimiser: Adam of every network.
      schedule: the run's length in epochs.
      data: what is read; `data.batch_size` counts over all devices.
      augment: what is changed on the way in.
      synthetic: the dataset to render where `data.path` is empty.
      held_out: the clips to validate on.
      validation: which of their frames.
      loop: what happens when; `loop.steps` = 0 goes by the schedule.
      step: accumulation, averaging, per-device view.
      mesh: arrangement of the devices.
      precision: of activations; parameters, statistics and losses stay float32.
      remat: recompute activations in the backward pass: less memory, a third more work.
      prefetch: batches that wait on the devices.
      seed: of the weights and of everything random on the devices; the data has its own.
      init_from: a model folder to start from; empty starts fresh.
    """

    name: str = "experiment"
    family: Literal["fomm", "mesh-fomm", "avfr", "interpolation", "super-resolution", "residual"] = "fomm"
    model: FommConfig | MeshFommConfig | AvfrConfig | InterpolationConfig | SuperResolutionConfig | ResidualConfig = (
        FommConfig()
    )
    losses: FommLossConfig | PictureLossConfig = FommLossConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    synthetic: SyntheticConfig = SyntheticConfig()
    held_out: HeldOutConfig = HeldOutConfig()
    validation: ValidationConfig = ValidationConfig()
    loop: LoopConfig = LoopConfig()
    step: StepConfig = StepConfig()
    mesh: MeshConfig = MeshConfig()
    precision: Literal["float32", "bfloat16"] = "float32"
    remat: bool = False
    prefetch: int = 2
    seed: int = 0
    init_from: str = ""


def check(experiment: Experiment) -> None:
    """Raises ConfigError where settings contradict each other."""
    kind, losses, _ = _OBJECTIVES[experiment.family]
    for what, right in (("model", kind), ("losses", losses)):
        if type(getattr(experiment, what)) is not right:
            raise ConfigError(f"The family {experiment.family} takes a {right.__name__} as its {what}.")
    _check_sizes(experiment)
    _check_frames(experiment)
    if experiment.family in ("mesh-fomm", "residual") and not (experiment.data.landmarks and experiment.data.priors):
        raise ConfigError(f"The family {experiment.family} needs data.landmarks and data.priors.")
    if isinstance(experiment.losses, FommLossConfig) and experiment.losses.parts and not experiment.data.landmarks:
        raise ConfigError("losses.parts counts lips and eyes again, which needs data.landmarks.")
    hears = experiment.data.landmarks and getattr(experiment.model, "audio_encoder", False)
    if isinstance(experiment.losses, FommLossConfig) and experiment.losses.heard and not hears:
        raise ConfigError("losses.heard needs model.audio_encoder and data.landmarks.")
    if experiment.family == "fomm" and experiment.data.priors:
        raise ConfigError("The family fomm reads colours alone: set data.priors false.")
    if isinstance(experiment.model, AvfrConfig):
        if experiment.model.masks_mouths and not experiment.data.landmarks:
            raise ConfigError("model.mouth_masking hides what the landmarks tell, which needs data.landmarks.")
        for name, wanted in (("priors", experiment.model.structural_prior), ("mel", experiment.model.uses_audio)):
            if getattr(experiment.data, name) != wanted:
                raise ConfigError(
                    f"This model {'needs' if wanted else 'makes no use of'} data.{name}: set it {wanted}."
                )
    if experiment.loop.steps <= 0 and experiment.schedule.epochs <= 0:
        raise ConfigError("The run has no length: set loop.steps or schedule.epochs.")


def _check_sizes(experiment: Experiment) -> None:
    model, side = experiment.model, experiment.data.size
    if isinstance(model, SuperResolutionConfig):
        if not model.patch_size == experiment.augment.crop <= side:
            raise ConfigError(
                f"model.patch_size is {model.patch_size} and augment.crop {experiment.augment.crop}; they must agree, "
                f"and be no larger than data.size, {side}."
            )
        return
    if experiment.augment.crop:
        raise ConfigError(f"The family {experiment.family} is trained on whole frames: set augment.crop 0.")
    if model.image_size != side:
        raise ConfigError(f"model.image_size is {model.image_size} and data.size {side}; they must agree.")


def _check_frames(experiment: Experiment) -> None:
    family, data, span = experiment.family, experiment.data, experiment.validation.span
    wanted = _FRAMES.get(family, "pair")
    if data.frames != wanted:
        raise ConfigError(f"The family {family} needs data.frames {wanted}, not {data.frames}.")
    if wanted == "pair":
        return
    if data.priors or data.landmarks or data.mel:
        raise ConfigError(f"The family {family} reads colours alone: set data.priors, landmarks and mel false.")
    if experiment.augment.warp.moves:
        raise ConfigError(f"The family {family} has no use for warps, which blur: set augment.warp to 0.")
    if wanted == "triplet" and experiment.loop.validate_every and (span < 2 or span % 2):
        raise ConfigError(f"Triplets are validated at an even validation.span of 2 or more, not {span}.")


def build_objective(experiment: Experiment) -> Objective:
    """The losses, with their frozen networks.

    Raises:
      ConfigError: settings that contradict each other.
      MissingBackendError: a frozen network's weights are absent; it says what to fetch.
    """
    check(experiment)
    *_, objective = _OBJECTIVES[experiment.family]
    dtype = jnp.bfloat16 if experiment.precision == "bfloat16" else None
    losses, features = experiment.losses, None
    if any(losses.perceptual):
        network = perceptual_network(losses.perceptual_network, dtype)
        features = FeatureNetwork(network.function, network.variables, network.description)
        if losses.perceptual_network == "auto":  # which network it becomes is known only here, so it brings its own
            losses = dataclasses.replace(
                losses, perceptual=network.weights, scales=network.scales, normalise_perceptual=network.normalise
            )
    lpips = load_lpips(losses.lpips_network, dtype) if losses.lpips else None
    given = (experiment.model, losses, features)
    made: Objective = objective(*given, lpips=lpips, dtype=dtype, remat=experiment.remat)
    return made


def with_schedule(experiment: Experiment, identities: int) -> Experiment:
    """The experiment with its steps and milestones worked out from epochs.

    Args:
      experiment: `schedule` counts where `loop.steps` or `optimiser.milestones` are not set.
      identities: that an epoch names `data.repeats` times each (or clips, where these are balanced).

    Raises:
      ConfigError: an epoch has fewer pairs than a batch.
    """
    data, schedule = experiment.data, experiment.schedule
    if not schedule.epochs:
        return _with_decay(experiment)
    epoch = identities * data.repeats // data.batch_size
    if not epoch:
        raise ConfigError(f"An epoch of {identities * data.repeats} pairs fills no batch of {data.batch_size}.")
    milestones = experiment.optimiser.milestones or tuple(m * epoch for m in schedule.milestones)
    return _with_decay(
        dataclasses.replace(
            experiment,
            loop=dataclasses.replace(experiment.loop, steps=experiment.loop.steps or schedule.epochs * epoch),
            optimiser=dataclasses.replace(experiment.optimiser, milestones=milestones),
        )
    )


def _with_decay(experiment: Experiment) -> Experiment:
    """A cosine that is given no length lasts as long as the run."""
    optimiser = experiment.optimiser
    if optimiser.schedule != "cosine" or optimiser.decay_steps:
        return experiment
    return dataclasses.replace(experiment, optimiser=dataclasses.replace(optimiser, decay_steps=experiment.loop.steps))


def fixed_settings(experiment: Experiment, dataset: ClipDataset, notes: Sequence[str] = ()) -> dict[str, Any]:
    """What a checkpoint must have been made with to go on from it: everything that the weights depend on.

    Left out is what may change between two starts of a run: where the data lies and how it is read, how long the run
    is, what is logged, saved and validated, how the devices are arranged, and settings that came later where they
    change nothing. `notes` are the objective's: a frozen network that another has taken the place of is another
    setting.
    """
    values = to_dict(experiment)
    free = (
        "name",
        "loop",
        "validation",
        "synthetic",
        "held_out",
        "mesh",
        "schedule",
        "prefetch",
        "init_from",
        "remat",
    )
    values = {name: value for name, value in values.items() if name not in free}
    reading = ("path", "workers", "threads", "prefetch", "max_corrupt")
    values["data"] = {name: value for name, value in values["data"].items() if name not in reading}
    for group in ("model", "losses"):  # the family decides the classes
        values[group].pop(TAG, None)
    for group, settings in _LATER.items():
        values[group] = {k: v for k, v in values[group].items() if k not in settings or v != settings[k]}
    return {**values, "losses_use": list(notes), "dataset": dataset.digest()}


# ------------------------------------------------------------------------------------------------------------- the data


def split(experiment: Experiment) -> tuple[ClipDataset, ClipDataset | None]:
    """The clips to train on, and those that are held out.

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
    rest = everything.select(exclude_identities=identities, exclude_clips=clips)
    return rest, everything.select(identities=identities, clips=clips)


class HeldOutClips:
    """Held-out clips as validation reads them."""

    def __init__(self, dataset: ClipDataset, config: DataConfig) -> None:
        """Frames are read as `config` says."""
        self._dataset, self._config = dataset, config
        self.names: Sequence[str] = [clip.name for clip in dataset.clips]
        self.frames: Sequence[int] = [clip.frames for clip in dataset.clips]

    def _read(self, clip: int, frame: int, which: str) -> dict[str, np.ndarray]:
        found = self._dataset.clips[clip]
        try:
            return self._dataset.read_frame(found, frame, self._config.what(which))
        except CorruptFrameError as error:
            raise InputError(
                f"Frame {frame} of the validation clip {found.name} cannot be read: {error}; prepare it again."
            ) from None

    def samples(self, pairs: Sequence[Pair]) -> Batch:
        """See `avfr_jax.training.validation.ValidationSource`."""
        batch: dict[str, list[np.ndarray]] = {}
        read = functools.lru_cache(maxsize=64)(self._read)  # one source frame serves many pairs
        for pair in pairs:
            for which, frame in self._config.places(pair.source, pair.driving).items():
                found = read(pair.clip, frame, which)
                batch.setdefault(which, []).append(found["image"].astype(np.float32) / 255)
                if "landmarks" in found:
                    batch.setdefault(f"{which}_landmarks", []).append(found["landmarks"])
                if "mel" in found:
                    batch.setdefault("mel", []).append(found["mel"])
        return {name: np.stack(rows) for name, rows in batch.items()}


def build_augment(experiment: Experiment, names: Sequence[str]) -> Any:
    """The augmentation as a function of a key and a batch, which keeps the entries `names`."""
    mirror = None
    if experiment.data.landmarks:
        from avfr_jax.landmarks import mirror_indices

        mirror = jnp.asarray(mirror_indices())

    def prepared(key: Any, batch: Batch) -> Batch:
        batch = augment(key, batch, experiment.augment, mirror)
        return {name: batch[name] for name in names}

    return prepared


def build_batches(experiment: Experiment, dataset: ClipDataset, mesh: Mesh) -> DevicePrefetch:
    """Training batches on the devices, from this process's part of the dataset."""
    loader = PairLoader(experiment.data, dataset, jax.process_index(), jax.process_count())
    return DevicePrefetch(loader, functools.partial(put_batch, mesh), experiment.prefetch)


# -------------------------------------------------------------------------------------------------------------- the run


def build_run(experiment: Experiment, workdir: pathlib.Path) -> tuple[Experiment, Run]:
    """An experiment whose data is there, ready for `avfr_jax.training.loop.fit`.

    Returns:
      The experiment with its length worked out, and the run.

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
    """What a model's card says of where it comes from."""

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
    """A model folder with the networks that a user needs: the discriminator stays behind."""
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
