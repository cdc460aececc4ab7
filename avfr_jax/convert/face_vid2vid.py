"""Checkpoints of the unofficial face-vid2vid program (zhanglonghao1992) -> our config and parameter tree.

Every width is read from the tensors' shapes; the program's YAML, if it is given, adds the frames' size and is checked
against them.
"""

import dataclasses
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from avfr_jax.config import check_network_sizes, from_dict, to_dict
from avfr_jax.convert.checkpoint_file import read_checkpoint, states_of
from avfr_jax.convert.tree import check, expected_shapes, to_variables
from avfr_jax.convert.yaml_file import read_yaml
from avfr_jax.errors import CheckpointError, ConfigError, shortened
from avfr_jax.models import face_vid2vid
from avfr_jax.models.canonical_keypoints import CanonicalDetectorConfig
from avfr_jax.models.dense_motion_3d import VolumeMotionConfig
from avfr_jax.models.discriminators import DiscriminatorConfig
from avfr_jax.models.face_vid2vid import FaceVid2VidConfig
from avfr_jax.models.head_pose import HeadPoseConfig
from avfr_jax.models.volume_generators import VolumeGeneratorConfig
from avfr_jax.ops.resize import antialias_kernel

State = Mapping[str, np.ndarray]
# Our network -> the checkpoint's entry.
NETWORKS = {
    "keypoint_detector": "kp_detector",
    "head_pose": "he_estimator",
    "generator": "generator",
    "discriminator": "discriminator",
}
# A module's published name -> ours, by network; the first pattern that fits counts.
_NUMBER = r"\.(\d[\d-]*)"
_TABLE: dict[str, tuple[tuple[str, str], ...]] = {
    "keypoint_detector": (
        (r"predictor\.conv", "to_volume"),
        (r"predictor\.(down|up)_blocks\.\w+?(\d+)\.(.*)", r"\1_blocks_\2.\3"),
    ),
    "head_pose": (
        (r"(conv|norm)1", r"stem.\1"),
        *((rf"(conv|norm){i + 2}", rf"widen_{i}.\1") for i in range(4)),
        (r"block1\.b1_(\d+)\.(.*)", r"stage_0_\1.\2"),
        *((rf"block{2 * i}\.(.*)", rf"stage_{i}_0.\1") for i in range(1, 4)),
        *((rf"block{2 * i + 1}\.b\d_{j}\.(.*)", rf"stage_{i}_{j + 1}.\1") for i in range(1, 4) for j in range(64)),
        # The program reads the yaw from the layer `fc_roll` and the roll from `fc_yaw`.
        (r"fc_roll", "yaw"),
        (r"fc_pitch", "pitch"),
        (r"fc_yaw", "roll"),
        (r"fc_t", "translation"),
        (r"fc_exp", "expression"),
    ),
    "generator": (
        (r"first\.(.*)", r"appearance.first.\1"),
        (rf"down_blocks{_NUMBER}\.(.*)", r"appearance.down_blocks_\1.\2"),
        (r"second", "appearance.second"),
        (r"resblocks_3d\.3dr(\d+)\.(.*)", r"appearance.resblocks_\1.\2"),
        (r"dense_motion_network\.hourglass\.decoder\.(conv|norm)", r"dense_motion.refine.\1"),
        (
            rf"dense_motion_network\.hourglass\.(encoder|decoder)\.(\w+){_NUMBER}\.(.*)",
            r"dense_motion.hourglass.\1.\2_\3.\4",
        ),
        (r"dense_motion_network\.compress", "dense_motion.compressor.conv"),
        (r"dense_motion_network\.norm", "dense_motion.compressor.norm"),
        (r"dense_motion_network\.(mask|occlusion)", r"dense_motion.\1"),
        (r"(third\..*|fourth)", r"projection.\1"),
        (r"resblocks_2d\.2dr(\d+)\.(.*)", r"decoder.resblocks_\1.\2"),
        (rf"up_blocks{_NUMBER}\.(.*)", r"decoder.up_blocks_\1.\2"),
        (r"(final|decoder\.conv_img)", "painter.colours"),
        (r"decoder\.(?:G_)?(middle|up)_(\d+)\.(.*)", r"decoder.\1_\2.\3"),
    ),
    "discriminator": ((rf"discs{_NUMBER}\.down_blocks{_NUMBER}\.(.*)", r"discs_\1.down_blocks_\2.\3"),
                      (rf"discs{_NUMBER}\.(.*)", r"discs_\1.\2")),
}  # fmt: skip
_SPADE = (("mlp_shared.0", "shared"), ("mlp_gamma", "gain"), ("mlp_beta", "bias"), ("_s.", "_shortcut."))


def rename(network: str, module: str) -> str:
    """A module's published name (`block3.b3_0.conv1`) -> ours (`stage_1_1.conv1`), in one of our networks."""
    for pattern, ours in _TABLE[network]:
        if match := re.fullmatch(pattern, module):
            module = match.expand(ours)
            break
    if network == "generator":
        module = f"{module}."
        for theirs, ours in _SPADE:
            module = module.replace(theirs, ours)
        module = module.removesuffix(".")
    return module


def to_tree(states: Mapping[str, State], config: FaceVid2VidConfig, what: str = "The checkpoint") -> Any:
    """State dictionaries under the program's names -> our variables, checked against the config.

    Args:
      states: `kp_detector`, `he_estimator`, `generator` and, if there is one, `discriminator`.
      config: of the networks.
      what: the file, for messages.

    Raises:
      ConfigError: no network of this config can be built.
      CheckpointError: tensors are missing, extra, misshapen or not finite; `details` lists them all.
    """
    expected = expected_shapes(lambda key: face_vid2vid.init(config, key), "The config")
    variables = {}
    for ours, theirs in NETWORKS.items():
        if theirs in states:
            # Linear layers are convolutions of one pixel here. The anti-alias kernels are buffers, not weights.
            state = {k: v[..., None, None] if v.ndim == 2 else v for k, v in states[theirs].items()}
            variables[ours] = to_variables(state, lambda name, n=ours: rename(n, name), skip=("down.weight",))
    check(variables, {ours: expected[ours] for ours in variables}, what)
    return variables


# --- the config ---------------------------------------------------------------------------------------------------


def _count(state: State, pattern: str) -> int:
    """How many different numbers a pattern's group takes in the names."""
    return len({match[1] for name in state if (match := re.match(pattern, name))})


def _detector(state: State) -> CanonicalDetectorConfig:
    levels = _count(state, r"predictor\.down_blocks\.down(\d+)\.")
    deepest = state[f"predictor.down_blocks.down{levels - 1}.conv.weight"].shape[0]
    jacobian = state.get("jacobian.weight")
    return CanonicalDetectorConfig(
        block_expansion=state[f"predictor.up_blocks.up{levels - 1}.conv.weight"].shape[0],
        num_blocks=levels,
        max_features=deepest,
        scale_factor=_scale(state.get("down.weight")),
        depth=state["predictor.conv.weight"].shape[0] // deepest,
        head_kernel=state["kp.weight"].shape[-1],
        single_jacobian_map=jacobian is not None and jacobian.shape[0] == 9 != 9 * state["kp.weight"].shape[0],
    )


def _scale(kernel: np.ndarray | None) -> float:
    """The scale of an anti-alias kernel of that size; without one pictures keep their size."""
    if kernel is None:
        return 1.0
    sides = {antialias_kernel(1 / step).shape[0]: 1 / step for step in (2, 4, 8, 16)}
    return sides[kernel.shape[-1]]


def _pose(state: State) -> HeadPoseConfig:
    later = [1 + _count(state, rf"block{i}\.b{i}_(\d+)\.") for i in (3, 5, 7)]
    return HeadPoseConfig(
        block_expansion=state["conv1.weight"].shape[0],
        max_features=state["conv5.weight"].shape[0],
        stage_blocks=(_count(state, r"block1\.b1_(\d+)\."), *later),
        num_bins=state["fc_yaw.weight"].shape[0],
    )


def _motion(state: State) -> VolumeMotionConfig:
    prefix = "dense_motion_network."
    levels = _count(state, rf"{prefix}hourglass\.encoder\.down_blocks\.(\d+)\.")
    return VolumeMotionConfig(
        block_expansion=state[f"{prefix}hourglass.decoder.up_blocks.{levels - 1}.conv.weight"].shape[0],
        num_blocks=levels,
        max_features=state[f"{prefix}hourglass.encoder.down_blocks.{levels - 1}.conv.weight"].shape[0],
        compress=state[f"{prefix}compress.weight"].shape[0],
    )


def _generator(state: State) -> VolumeGeneratorConfig:
    halvings = _count(state, r"down_blocks\.(\d+)\.")
    channels = state["dense_motion_network.compress.weight"].shape[1]
    shared = state.get("decoder.up_0.norm_0.mlp_shared.0.weight")
    return VolumeGeneratorConfig(
        kind="plain" if shared is None else "spade",
        block_expansion=state["first.conv.weight"].shape[0],
        num_down_blocks=halvings,
        max_features=state[f"down_blocks.{halvings - 1}.conv.weight"].shape[0],
        volume_channels=channels,
        volume_depth=state["second.weight"].shape[0] // channels,
        num_resblocks=_count(state, r"resblocks_3d\.3dr(\d+)\."),
        num_spade_blocks=_count(state, r"decoder\.G_middle_(\d+)\.") or 6,
        spade_hidden=128 if shared is None else shared.shape[0],
        estimate_occlusion_map="dense_motion_network.occlusion.weight" in state,
    )


def _discriminator(state: State) -> DiscriminatorConfig:
    def weight(layer: str) -> np.ndarray:
        return state.get(f"{layer}.weight", state.get(f"{layer}.weight_orig", np.zeros((0, 0))))

    scales = sorted({float(name.split(".")[1].replace("-", ".")) for name in state}, reverse=True)
    first = next(iter(state)).split(".down_blocks")[0]
    blocks = _count(state, r"discs\.[\d-]+\.down_blocks\.(\d+)\.")
    return DiscriminatorConfig(
        block_expansion=weight(f"{first}.down_blocks.0.conv").shape[0] // 2,
        num_blocks=blocks,
        max_features=weight(f"{first}.down_blocks.{blocks - 1}.conv").shape[0],
        scales=tuple(scales),
        use_keypoints=False,
        spectral=f"{first}.conv.weight_orig" in state,
    )


def config_of(states: Mapping[str, State], what: str = "The checkpoint") -> FaceVid2VidConfig:
    """The config of a checkpoint, by its tensors' names and shapes.

    Keypoints detected at full resolution mark the program's first release (`vox-256-beta`).

    Raises:
      CheckpointError: tensors that tell a width are missing or misshapen.
    """
    try:
        kp = states["kp_detector"]
        detector = _detector(kp)
        disc = states.get("discriminator")
        config = FaceVid2VidConfig(
            num_channels=states["generator"]["first.conv.weight"].shape[1],
            num_keypoints=kp["kp.weight"].shape[0],
            estimate_jacobian="jacobian.weight" in kp,
            spectral=False,
            compatibility="unofficial-beta" if detector.scale_factor == 1 else "unofficial",
            keypoint_detector=detector,
            head_pose=_pose(states["he_estimator"]),
            dense_motion=_motion(states["generator"]),
            generator=_generator(states["generator"]),
            discriminator=_discriminator(disc) if disc else face_vid2vid.vox_256().discriminator,
        )
    except (KeyError, IndexError, ValueError, ZeroDivisionError, StopIteration) as error:
        raise CheckpointError(
            f"{what} is not a whole face-vid2vid checkpoint: the tensor {shortened(error, 90)} is missing or misshapen."
        ) from None
    check_network_sizes(config, what)
    return config


# --- the file -----------------------------------------------------------------------------------------------------


def find_states(value: Any, what: str) -> dict[str, dict[str, np.ndarray]]:
    """State dictionaries by the published names of `NETWORKS`, of a checkpoint that may lack some of them.

    Args:
      value: as `read_checkpoint` gives, see `checkpoint_file.states_of`.
      what: the file, for messages.

    Raises:
      CheckpointError: it is of another kind; the sentence says which.
    """
    states = states_of(value, NETWORKS.values(), what)
    generator, detector = states.get("generator", {}), states.get("kp_detector", {})
    first_order = "first.conv.weight" in generator and "second.weight" not in generator
    if first_order or detector.get("kp.weight", np.zeros(0)).ndim == 4:
        raise CheckpointError(f"{what} is a First Order Motion Model's checkpoint: import it with avfr import fomm.")
    if "second.weight" not in generator and "predictor.conv.weight" not in detector:
        raise CheckpointError(f"{what} can be read but is not a face-vid2vid checkpoint (no generator inside).")
    return states


def _complete(
    states: dict[str, dict[str, np.ndarray]], networks_from: str | pathlib.Path | None, what: str
) -> dict[str, dict[str, np.ndarray]]:
    """The networks of a file, those that it lacks from another one."""
    if networks_from is not None:
        other = shortened(pathlib.Path(networks_from).name, 40)
        states = {**find_states(read_checkpoint(networks_from), other), **states}
    lacking = [name for name in NETWORKS.values() if name not in states and name != "discriminator"]
    if lacking:
        held = " and ".join(sorted(states))
        raise CheckpointError(
            f"{what} holds the {held} alone, without {' and '.join(lacking)}: name a checkpoint that has them with "
            "--networks."
        )
    return states


def import_checkpoint(
    path: str | pathlib.Path,
    config_path: str | pathlib.Path | None = None,
    *,
    align_corners: bool | None = None,
    networks_from: str | pathlib.Path | None = None,
) -> tuple[FaceVid2VidConfig, Any]:
    """Read a checkpoint of the unofficial program.

    Args:
      path: one of its files (`vox-256`, `vox-256-beta`; plain or SPADE generator; with or without Jacobians), in either
        PyTorch format or as safetensors.
      config_path: the program's YAML, which states the frames' size and is checked against the tensors.
      align_corners: the sampling convention; None takes the one of the program with PyTorch 1.3 or later (False).
      networks_from: a second checkpoint for the networks that the first one lacks.

    Returns:
      The config and our variables.

    Raises:
      InputError, ConfigError, CheckpointError: see `read_checkpoint`, `find_states`, `config_of`, `with_yaml` and
        `to_tree`.
    """
    name = shortened(pathlib.Path(path).name, 40)
    states = _complete(find_states(read_checkpoint(path), name), networks_from, name)
    config = dataclasses.replace(config_of(states, name), align_corners=bool(align_corners))
    if config_path:
        config = with_yaml(config, config_path)
    return config, to_tree(states, config, name)


def with_yaml(config: FaceVid2VidConfig, path: str | pathlib.Path) -> FaceVid2VidConfig:
    """A config read from tensors, with what the program's YAML adds: the frames' size, the temperature and the
    detector's scale, which decides on `unofficial-beta`.

    Raises:
      InputError: there is no such file.
      ConfigError: it is not such a YAML, or states other widths than the tensors have.
    """
    path = pathlib.Path(path)
    name = shortened(path.name, 40)
    values = read_yaml(path)
    try:
        model = values["model_params"]
        common, kp = model["common_params"], model["kp_detector_params"]
        gen, pose = model["generator_params"], model["he_estimator_params"]
        stated = {
            "num_kp": (common["num_kp"], config.num_keypoints),
            "image_channel": (common["image_channel"], config.num_channels),
            "estimate_jacobian": (common["estimate_jacobian"], config.estimate_jacobian),
            "feature_channel": (common["feature_channel"], config.generator.volume_channels),
            "kp_detector's block_expansion": (kp["block_expansion"], config.keypoint_detector.block_expansion),
            "kp_detector's num_blocks": (kp["num_blocks"], config.keypoint_detector.num_blocks),
            "he_estimator's block_expansion": (pose["block_expansion"], config.head_pose.block_expansion),
            "generator's block_expansion": (gen["block_expansion"], config.generator.block_expansion),
            "num_resblocks": (gen["num_resblocks"], config.generator.num_resblocks),
            "dense_motion's num_blocks": (gen["dense_motion_params"]["num_blocks"], config.dense_motion.num_blocks),
        }
        size, scale = values["dataset_params"]["frame_shape"][0], float(kp["scale_factor"])
        temperature = float(kp["temperature"])
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        missing = f"{error} is missing" if isinstance(error, KeyError) else "an entry is of another kind"
        raise ConfigError(f"{name} is not a face-vid2vid config: {missing}.") from None
    for entry, (theirs, ours) in stated.items():
        if theirs != ours:
            raise ConfigError(f"{name} has {entry} {shortened(theirs, 30)}, the checkpoint {ours}: not its config.")
    beta = {1.0: "unofficial-beta"}.get(scale, "unofficial")
    if beta != config.compatibility:
        variants = "at full resolution (vox-256-beta)", "on downsampled frames (vox-256)"
        here, there = variants if beta == "unofficial-beta" else variants[::-1]
        raise ConfigError(f"{name} detects keypoints {here}, the checkpoint {there}: it is the other variant's.")
    detector = dataclasses.replace(config.keypoint_detector, temperature=temperature, scale_factor=scale)
    config = dataclasses.replace(config, image_size=size, keypoint_detector=detector)
    config = from_dict(FaceVid2VidConfig, to_dict(config), name)
    check_network_sizes(config, name)
    return config
