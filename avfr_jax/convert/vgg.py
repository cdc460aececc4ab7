"""torchvision's VGG and AlexNet state dictionaries, and VGG-Face's -> our variables."""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from avfr_jax.backbones.alexnet import alexnet
from avfr_jax.backbones.stack import Stack, shapes
from avfr_jax.backbones.vgg import face_vgg, vgg16, vgg19
from avfr_jax.backbones.weights import save_weights, sha256
from avfr_jax.convert.checkpoint_file import read_checkpoint, state_of
from avfr_jax.convert.tree import check, to_variables
from avfr_jax.errors import CheckpointError

STACKS = {"vgg19": vgg19, "vgg16": vgg16, "alexnet": alexnet, "face-vgg": face_vgg}
# First layer of each of VGG16's groups, as torchvision numbers them in `features`.
_VGG16_GROUPS = {"1": 0, "2": 5, "3": 10, "4": 17, "5": 24}


def to_stack_variables(state: Mapping[str, np.ndarray], stack: Stack, what: str) -> dict[str, Any]:
    """The part of a state dictionary (`features.0.weight`, …) that the network's taps need.

    Raises:
      CheckpointError: tensors are missing, of another shape or not finite; `details` lists them.
    """
    expected = shapes(stack)
    names = {name.replace("_", ".") for name in expected["params"]}
    wanted = {k: v for k, v in state.items() if k.rpartition(".")[0] in names}
    variables = to_variables(wanted, lambda module: module.replace(".", "_")) or {"params": {}}
    check(variables, expected, what)
    return variables


def from_groups(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """VGG-Face's names (`conv3_2.weight`) -> torchvision's (`features.12.weight`); others, e.g. those of its
    classifier, are left as they are."""

    def renamed(key: str) -> str:
        place = re.fullmatch(r"conv([1-5])_([1-3])\.(weight|bias)", key)
        if place is None:
            return key
        group, layer, leaf = place.groups()
        return f"features.{_VGG16_GROUPS[group] + 2 * (int(layer) - 1)}.{leaf}"

    return {renamed(key): value for key, value in state.items()}


def check_published(path: pathlib.Path) -> None:
    """The eight digits in the names of PyTorch's published files are the start of their SHA-256.

    Raises:
      CheckpointError: they are not this file's.
    """
    digits = re.search(r"-([0-9a-f]{8})\.pth$", path.name)
    if digits and not sha256(path).startswith(digits[1]):
        raise CheckpointError(
            f"{path.name} is not the published file of that name (its checksum differs); fetch it again."
        )


def import_backbone(name: str, path: pathlib.Path) -> pathlib.Path:
    """Read one of torchvision's files, or VGG-Face's, and store it in the weights folder.

    Args:
      name: `vgg19`, `vgg16`, `alexnet` or `face-vgg`.
      path: the `.pth` file.

    Returns:
      The folder it was stored in.

    Raises:
      InputError: there is no such file.
      CheckpointError: it is damaged, or holds another network.
      OutputError: the weights folder cannot be written.
    """
    value = read_checkpoint(path)
    check_published(path)
    state = state_of(value, path.name)
    state = from_groups(state) if name == "face-vgg" else state
    return save_weights(name, to_stack_variables(state, STACKS[name](), path.name), path)
