"""FOMM's published checkpoints and YAML configs -> our config and parameter tree."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from avfr_jax.config import check_network_sizes, from_dict
from avfr_jax.convert.checkpoint_file import read_checkpoint, states_of
from avfr_jax.convert.tree import check, expected_shapes, to_variables
from avfr_jax.convert.yaml_file import read_yaml
from avfr_jax.errors import CheckpointError, ConfigError, shortened, some_of
from avfr_jax.models import fomm
from avfr_jax.models.dense_motion import DenseMotionConfig
from avfr_jax.models.discriminators import DiscriminatorConfig
from avfr_jax.models.fomm import FommConfig, GeneratorConfig
from avfr_jax.models.keypoints import KeypointDetectorConfig

# Our network -> the checkpoint's entry.
NETWORKS = {"keypoint_detector": "kp_detector", "generator": "generator", "discriminator": "discriminator"}


def rename(module: str) -> str:
    """A module's published name (`down_blocks.0`, `bottleneck.r0`) -> ours (`down_blocks_0`, `bottleneck_0`)."""
    return re.sub(r"\.r?(\d[\d-]*)(?=\.|$)", r"_\1", module)


def to_tree(states: Mapping[str, Mapping[str, np.ndarray]], config: FommConfig, what: str = "The checkpoint") -> Any:
    """State dictionaries under FOMM's names -> our variables, checked against the config.

    Args:
      states: `kp_detector`, `generator` and, if there is one, `discriminator`.
      config: of the network.
      what: the file, for messages.

    Raises:
      ConfigError: no network of this config can be built.
      CheckpointError: tensors are missing, extra, misshapen or not finite; `details` lists them all.
    """
    expected = expected_shapes(lambda key: fomm.init(config, key), "The config")
    variables = {}
    for ours, theirs in NETWORKS.items():
        if theirs not in states:
            if ours == "discriminator":  # the released files of the non-adversarial models have none
                continue
            raise CheckpointError(f"{what} has no {theirs!r}; it is not a FOMM checkpoint.")
        # The anti-alias kernels are buffers computed from scale_factor, not weights.
        variables[ours] = to_variables(states[theirs], rename, skip=("down.weight",))
    check(variables, {ours: expected[ours] for ours in variables}, what)
    return variables


def config_from_yaml(path: str | pathlib.Path) -> FommConfig:
    """The reference program's own YAML -> our config.

    Raises:
      InputError: there is no such file.
      ConfigError: it is not such a YAML, or has a setting without counterpart here, of another type or out of range.
    """
    path = pathlib.Path(path)
    values, name = read_yaml(path), shortened(path.name, 40)
    try:
        config = _config(values, values["model_params"], name)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        missing = f"{error} is missing" if isinstance(error, KeyError) else "an entry is of another kind"
        raise ConfigError(f"{name} is not a FOMM config: {missing}.") from None
    check_network_sizes(config, name)
    return config


def _config(values: Mapping[str, Any], model: Mapping[str, Any], what: str) -> FommConfig:
    common, kp = dict(model["common_params"]), dict(model["kp_detector_params"])
    gen, disc = dict(model["generator_params"]), dict(model["discriminator_params"])
    motion = dict(gen.pop("dense_motion_params"))
    size = values.get("dataset_params", {}).get("frame_shape", [256, 256, 3])[0]
    if unknown := sorted(map(str, common.keys() - {"num_kp", "num_channels", "estimate_jacobian"})):
        raise ConfigError(f"FOMM's common_params has no {some_of(unknown)} here.")
    settings = {
        "image_size": size,
        "num_channels": common["num_channels"],
        "num_keypoints": common["num_kp"],
        "estimate_jacobian": common["estimate_jacobian"],
        "keypoint_detector": _group(KeypointDetectorConfig, kp, pad="padding"),
        "dense_motion": _group(DenseMotionConfig, motion, kp_variance="keypoint_variance"),
        "generator": _group(GeneratorConfig, gen),
        "discriminator": _group(
            DiscriminatorConfig, {"use_kp": False, **disc}, use_kp="use_keypoints", sn="spectral",
            kp_variance="keypoint_variance",
        ),
    }  # fmt: skip
    return from_dict(FommConfig, settings, what)


def _group(kind: type, values: Mapping[Any, Any], **names: str) -> dict[str, Any]:
    values = {names.get(k, k): v for k, v in values.items()}
    known = {f.name for f in dataclasses.fields(kind)}
    if unknown := sorted(map(str, values.keys() - known)):
        raise ConfigError(f"FOMM's {some_of(unknown)} has no counterpart in {kind.__name__}.")
    return values


def guess_config(states: Mapping[str, Mapping[str, np.ndarray]]) -> FommConfig:
    """The published config of a checkpoint, by its tensors: `vox-adv-256` (its discriminator takes keypoints), else
    `vox-256`; without Jacobians where there is no such head."""
    disc = states.get("discriminator", {})
    first = disc.get("discs.1.down_blocks.0.conv.weight")
    config = fomm.vox_adv_256() if first is not None and first.shape[1] > 3 else fomm.vox_256()
    if "jacobian.weight" not in states.get("kp_detector", {}):
        config = fomm.without_jacobian(config)
    return config


def import_checkpoint(
    path: str | pathlib.Path, config_path: str | pathlib.Path | None = None, *, align_corners: bool | None = None
) -> tuple[FommConfig, Any]:
    """Read an officially published checkpoint.

    Args:
      path: `vox-adv-cpk.pth.tar` or another file of that layout, in either PyTorch format or as safetensors.
      config_path: the reference program's YAML; without it the published config that fits is used.
      align_corners: the sampling convention; None takes the one the published weights were trained with (True).

    Returns:
      The config and our variables.

    Raises:
      InputError, ConfigError, CheckpointError: see `read_checkpoint`, `config_from_yaml` and `to_tree`.
    """
    name = shortened(pathlib.Path(path).name, 40)
    states = find_states(read_checkpoint(path), name)
    config = config_from_yaml(config_path) if config_path else guess_config(states)
    config = dataclasses.replace(config, align_corners=True if align_corners is None else align_corners)
    return config, to_tree(states, config, name)


def find_states(value: Any, what: str) -> dict[str, dict[str, np.ndarray]]:
    """State dictionaries by the published names of `NETWORKS`.

    Args:
      value: as `read_checkpoint` gives: a dictionary of them, as published, or one dictionary with names such as
        `generator.first.conv.weight`, as safetensors files have.
      what: the file, for messages.

    Raises:
      CheckpointError: it is of another kind.
    """
    states = states_of(value, (*NETWORKS.values(), "he_estimator"), what)
    if "he_estimator" in states or "second.weight" in states.get("generator", {}):
        raise CheckpointError(f"{what} is a face-vid2vid checkpoint: import it with avfr import face-vid2vid.")
    if "generator" not in states or "kp_detector" not in states:
        raise CheckpointError(f"{what} can be read but is not a FOMM checkpoint (no generator and kp_detector inside).")
    return states
