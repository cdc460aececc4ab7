"""FOMM's published checkpoints and YAML configs -> our config and parameter tree."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from avfr_jax.convert.torch_file import read_torch_file
from avfr_jax.convert.tree import check, to_variables
from avfr_jax.errors import CheckpointError, ConfigError, InputError
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
      CheckpointError: lists every missing, extra or misshapen tensor.
    """
    expected = jax.eval_shape(lambda key: fomm.init(config, key), jax.random.key(0))
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
      ConfigError: it is not such a YAML, or has a setting without counterpart here.
    """
    import yaml

    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"There is no config file {path}.")
    try:
        values = yaml.safe_load(path.read_text())
        return _config(values, values["model_params"])
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} is not a YAML file ({type(error).__name__}).") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path.name} is not a FOMM config: {error} is missing or of another kind.") from None


def _config(values: Mapping[str, Any], model: Mapping[str, Any]) -> FommConfig:
    common, kp = dict(model["common_params"]), dict(model["kp_detector_params"])
    gen, disc = dict(model["generator_params"]), dict(model["discriminator_params"])
    motion = dict(gen.pop("dense_motion_params"))
    size = values.get("dataset_params", {}).get("frame_shape", [256, 256, 3])[0]
    if unknown := common.keys() - {"num_kp", "num_channels", "estimate_jacobian"}:
        raise ConfigError(f"FOMM's common_params has no {', '.join(sorted(unknown))} here.")
    return FommConfig(
        image_size=size,
        num_channels=common["num_channels"],
        num_keypoints=common["num_kp"],
        estimate_jacobian=common["estimate_jacobian"],
        keypoint_detector=_group(KeypointDetectorConfig, kp, pad="padding"),
        dense_motion=_group(DenseMotionConfig, motion, kp_variance="keypoint_variance"),
        generator=_group(GeneratorConfig, gen),
        discriminator=_group(
            DiscriminatorConfig, {"use_kp": False, **disc}, use_kp="use_keypoints", sn="spectral",
            kp_variance="keypoint_variance",
        ),
    )  # fmt: skip


def _group(kind: type, values: Mapping[str, Any], **names: str) -> Any:
    values = {names.get(k, k): v for k, v in values.items()}
    known = {f.name for f in dataclasses.fields(kind)}
    unknown = sorted(values.keys() - known)
    if unknown:
        raise ConfigError(f"FOMM's {', '.join(unknown)} has no counterpart in {kind.__name__}.")
    if "scales" in values:
        values["scales"] = tuple(float(s) for s in values["scales"])
    return kind(**values)


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
      path: `vox-adv-cpk.pth.tar` or another file of that layout, either PyTorch format.
      config_path: the reference program's YAML; without it the published config that fits is used.
      align_corners: the sampling convention; None takes the one the published weights were trained with (True).

    Returns:
      The config and our variables.

    Raises:
      InputError, ConfigError, CheckpointError: see `read_torch_file`, `config_from_yaml` and `to_tree`.
    """
    states = read_torch_file(path)
    if not isinstance(states, dict) or "generator" not in states or "kp_detector" not in states:
        raise CheckpointError(f"{pathlib.Path(path).name} is a PyTorch file but not a FOMM checkpoint.")
    config = config_from_yaml(config_path) if config_path else guess_config(states)
    config = dataclasses.replace(config, align_corners=True if align_corners is None else align_corners)
    return config, to_tree(states, config, pathlib.Path(path).name)
