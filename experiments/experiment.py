"""Settings of a training experiment, their consistency checks, and its objective."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import jax.numpy as jnp

from avfr_jax.config import TAG, to_dict
from avfr_jax.errors import ConfigError
from avfr_jax.families import Family, find_family, resolve
from avfr_jax.models.avfr import AvfrConfig
from avfr_jax.models.face_vid2vid import FaceVid2VidConfig
from avfr_jax.models.fomm import FommConfig
from avfr_jax.models.interpolation import InterpolationConfig
from avfr_jax.models.mesh_fomm import MeshFommConfig
from avfr_jax.models.residual import ResidualConfig
from avfr_jax.models.super_resolution import SuperResolutionConfig
from avfr_jax.training.composed import ComposedObjective, check_terms
from avfr_jax.training.loop import LoopConfig
from avfr_jax.training.optimisers import OptimiserConfig
from avfr_jax.training.step import StepConfig
from avfr_jax.training.terms import FOMM_TERMS, Term
from avfr_jax.training.validation import ValidationConfig
from pipelines.augment import AugmentConfig
from pipelines.config import DataConfig
from pipelines.sources import ClipDataset


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """Length of a run in epochs, as papers give it; `loop.steps` and `optimiser.milestones` take precedence.

    Attributes:
      epochs: of `data.repeats` samples of every identity.
      milestones: epochs at which the learning rate is multiplied by `optimiser.gamma`.
    """

    epochs: int = 0
    milestones: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class HeldOutConfig:
    """Clips held out from training, for validation.

    Attributes:
      path: dataset of their own; empty takes them out of the training dataset.
      identities: whose clips are held out.
      clips: by name.
      share: of the training dataset's identities, at least one, where neither is given; 0 validates nothing.
    """

    path: str = ""
    identities: tuple[str, ...] = ()
    clips: tuple[str, ...] = ()
    share: float = 0.1


@dataclasses.dataclass(frozen=True)
class SyntheticConfig:
    """Dataset of rendered heads, made in the work folder on first use where `data.path` is empty.

    Attributes:
      clips: number of clips.
      frames: of each clip, 25 a second.
      people: number of identities.
      seed: of the whole set.
      workers: rendering processes; 0 takes one a core.
    """

    clips: int = 12
    frames: int = 24
    people: int = 12
    seed: int = 0
    workers: int = 0


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Device mesh; see `avfr_jax.training.sharding.make_mesh`.

    Attributes:
      data: devices along which the batch alone is divided; -1 takes all that `fsdp` leaves.
      fsdp: devices along which the parameters are divided too.
    """

    data: int = -1
    fsdp: int = 1


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All settings of a training.

    Attributes:
      name: of the experiment; its default work folder is `runs/NAME`.
      family: of the model; see `avfr_jax.families`.
      model: config of the networks.
      losses: loss terms.
      optimiser: of every network.
      schedule: length in epochs.
      data: input; `data.batch_size` counts over all devices.
      augment: augmentation.
      synthetic: dataset to render where `data.path` is empty.
      held_out: clips to validate on.
      validation: choice of their frames.
      loop: intervals; `loop.steps` = 0 follows the schedule.
      step: accumulation, averaging, per-device view.
      mesh: device mesh.
      precision: of activations; parameters, statistics and losses stay float32.
      remat: recompute activations in the backward pass: less memory, a third more work.
      prefetch: batches that wait on the devices.
      seed: of the weights and of all randomness on the devices; the data has its own.
      init_from: model folder to start from; empty starts fresh.
    """

    RENAMED: ClassVar[dict[str, str]] = {"held_back": "held_out"}
    FORMER: ClassVar[dict[str, tuple[str, ...]]] = {
        "losses.gan": ("losses.adversarial.kind",),
        "losses.generator_gan": ("losses.adversarial.weight",),
        "losses.discriminator_gan": ("losses.adversarial.discriminator_weight",),
        "losses.perceptual_network": ("losses.perceptual.network",),
        "losses.normalise_perceptual": ("losses.perceptual.normalise",),
        "losses.lpips_network": ("losses.lpips.network",),
        "losses.scales": ("losses.perceptual.scales", "losses.pyramid_l1.scales", "losses.warped_l1.scales"),
        "losses.parts": ("losses.face_parts.weight",),
        "losses.warped": ("losses.warped_l1.weight",),
        "losses.heard": ("losses.mouth_opening.weight",),
        "losses.apart": ("losses.keypoint_spread.weight",),
    }
    name: str = "experiment"
    family: str = "fomm"
    model: (
        FommConfig
        | MeshFommConfig
        | AvfrConfig
        | FaceVid2VidConfig
        | InterpolationConfig
        | SuperResolutionConfig
        | ResidualConfig
    ) = FommConfig()
    losses: tuple[Term, ...] = FOMM_TERMS
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
    """Raises ConfigError where settings contradict each other or the family's declared requirements."""
    family = find_family(experiment.family)
    if family.objective is None:
        raise ConfigError(f"The family {family.name} is not trained.")
    if type(experiment.model) is not family.config:
        raise ConfigError(f"The family {family.name} takes a {family.config.__name__} as its model.")
    for broken, sentence in _requirements(experiment, family):
        if broken:
            raise ConfigError(sentence)
    check_terms(resolve(family.objective), experiment.model, experiment.losses)


def _requirements(experiment: Experiment, family: Family) -> Iterator[tuple[bool, str]]:
    """Requirements of an experiment: whether each is broken, and the message for it."""
    data, side, crop = experiment.data, family.size(experiment.model), experiment.augment.crop
    for name, wanted in family.data(experiment.model).items():
        need = "needs" if wanted else "makes no use of"
        yield getattr(data, name) != wanted, f"This {family.name} model {need} data.{name}: set it {wanted}."
    for term in experiment.losses:
        lacking = bool(term.weight) and "landmarks" in term.READS and not data.landmarks
        yield lacking, f"losses.{term.NAME} needs data.landmarks: set it True."
    wanted_frames = f"The family {family.name} needs data.frames {family.frames}, not {data.frames}."
    yield data.frames != family.frames, wanted_frames
    blurs = experiment.augment.warp.moves and not family.warps
    yield blurs, f"The family {family.name} makes no use of warps, which blur: set augment.warp to 0."
    if family.crops:
        sizes = f"model.patch_size is {side} and augment.crop {crop}; they must agree, and be no larger than data.size"
        yield not side == crop <= data.size, f"{sizes}, {data.size}."
    else:
        yield bool(crop), f"The family {family.name} is trained on whole frames: set augment.crop 0."
        yield side != data.size, f"model.image_size is {side} and data.size {data.size}; they must agree."
    span = experiment.validation.span
    odd = family.frames == "triplet" and bool(experiment.loop.validate_every) and (span < 2 or span % 2 == 1)
    yield odd, f"Triplets are validated at an even validation.span of 2 or more, not {span}."
    endless = experiment.loop.steps <= 0 and experiment.schedule.epochs <= 0
    yield endless, "The run has no length: set loop.steps or schedule.epochs."


def build_objective(experiment: Experiment) -> ComposedObjective:
    """The losses, with their frozen networks.

    Raises:
      ConfigError: see `check`.
      MissingBackendError: the weights of a frozen network are absent; the sentence says which file to fetch.
    """
    check(experiment)
    path = find_family(experiment.family).objective
    assert path is not None
    dtype = jnp.bfloat16 if experiment.precision == "bfloat16" else None
    return ComposedObjective(resolve(path), experiment.model, experiment.losses, dtype=dtype, remat=experiment.remat)


def with_schedule(experiment: Experiment, identities: int) -> Experiment:
    """Compute steps and milestones from epochs.

    Args:
      experiment: `loop.steps` and `optimiser.milestones` take precedence where set.
      identities: of the dataset (or clips, where these are balanced).

    Raises:
      ConfigError: an epoch has fewer pairs than a batch, or the run ends in the warm-up.
    """
    data, schedule = experiment.data, experiment.schedule
    if not schedule.epochs:
        return _with_decay(experiment)
    epoch = identities * data.repeats // data.batch_size
    if not epoch:
        raise ConfigError(
            f"An epoch of {identities * data.repeats} pairs fills no batch of {data.batch_size}: raise --data.repeats "
            "or lower --data.batch_size."
        )
    milestones = experiment.optimiser.milestones or tuple(m * epoch for m in schedule.milestones)
    return _with_decay(
        dataclasses.replace(
            experiment,
            loop=dataclasses.replace(experiment.loop, steps=experiment.loop.steps or schedule.epochs * epoch),
            optimiser=dataclasses.replace(experiment.optimiser, milestones=milestones),
        )
    )


def _with_decay(experiment: Experiment) -> Experiment:
    """A cosine without a length lasts as long as the run. ConfigError where the run is no longer than the warm-up."""
    optimiser, steps = experiment.optimiser, experiment.loop.steps
    if 0 < steps <= optimiser.warmup_steps:
        raise ConfigError(
            f"A run of {steps} steps (--loop.steps) ends in the warm-up of {optimiser.warmup_steps}: shorten it, "
            f"--optimiser.warmup_steps {steps // 10}, or train longer."
        )
    if optimiser.schedule != "cosine" or optimiser.decay_steps:
        return experiment
    return dataclasses.replace(experiment, optimiser=dataclasses.replace(optimiser, decay_steps=steps))


_FREE = ("name", "loop", "validation", "synthetic", "held_out", "mesh", "schedule", "prefetch", "init_from", "remat")
_READING = ("path", "workers", "threads", "prefetch", "max_corrupt")


def fixed_settings(experiment: Experiment, dataset: ClipDataset, notes: Sequence[str] = ()) -> dict[str, Any]:
    """The settings that a checkpoint must have been made with to resume from it: all that the weights depend on.

    May change between two starts: where the data lies and how it is read, the run's length, logging, checkpoints and
    validation, the device mesh. `notes` are the objective's: another frozen network is another setting.
    """
    values = {name: value for name, value in to_dict(experiment).items() if name not in _FREE}
    values["data"] = {name: value for name, value in values["data"].items() if name not in _READING}
    values["model"].pop(TAG)  # the family decides the class
    values["losses"] = {term.NAME: to_dict(term) for term in experiment.losses if term.weight}
    return {**values, "losses_use": list(notes), "dataset": dataset.digest()}
