"""Hopenet's published state dictionary -> our variables."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from avfr_jax.backbones.hopenet import NAME, shapes
from avfr_jax.backbones.weights import save_weights
from avfr_jax.convert.checkpoint_file import read_checkpoint, state_of
from avfr_jax.convert.fomm import rename
from avfr_jax.convert.tree import check, to_variables

# A fourth head of the published files, which the angles do not pass through.
_UNUSED = ("fc_finetune.weight", "fc_finetune.bias")


def to_hopenet_variables(state: Mapping[str, np.ndarray], what: str) -> dict[str, Any]:
    """Variables of `backbones.hopenet.Hopenet` from a state dictionary (`layer1.0.conv1.weight`, …).

    Raises:
      CheckpointError: tensors are missing, extra, of another shape or not finite; `details` lists them.
    """
    variables = to_variables(state, rename, skip=_UNUSED) or {"params": {}}
    check(variables, shapes(), what)
    return variables


def import_hopenet(path: pathlib.Path) -> pathlib.Path:
    """Read Hopenet's file (`hopenet_robust_alpha1.pkl` or a neighbour) and store it in the weights folder.

    Returns:
      The folder it was stored in.

    Raises:
      InputError: there is no such file.
      CheckpointError: it is damaged, or holds another network.
      OutputError: the weights folder cannot be written.
    """
    state = state_of(read_checkpoint(path), path.name)
    return save_weights(NAME, to_hopenet_variables(state, path.name), path)
