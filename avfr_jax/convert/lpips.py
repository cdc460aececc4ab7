"""The linear heads that LPIPS publishes -> our arrays."""

import pathlib
from collections.abc import Mapping

import numpy as np

from avfr_jax.backbones.lpips import CHANNELS
from avfr_jax.backbones.weights import save_weights
from avfr_jax.convert.checkpoint_file import read_checkpoint, state_of
from avfr_jax.convert.tree import check_finite
from avfr_jax.errors import CheckpointError


def to_heads(state: Mapping[str, np.ndarray], what: str) -> tuple[str, dict[str, np.ndarray]]:
    """The variant of LPIPS of a state dictionary (`alex` or `vgg`, by its channels), and its heads `lin0` … `lin4`.

    Raises:
      CheckpointError: it is neither, or holds a negative weight, which no trained head has, or NaN.
    """
    heads = {}
    for key, value in state.items():
        if key.startswith("lin") and key.endswith("weight"):
            heads[key.split(".")[0]] = value.astype(np.float32).ravel()
    sizes = {k: v.size for k, v in heads.items()}
    kinds = [kind for kind, channels in CHANNELS.items() if sizes == {f"lin{i}": c for i, c in enumerate(channels)}]
    if not kinds:
        raise CheckpointError(f"{what} is not one of LPIPS's files of version 0.1, alex.pth or vgg.pth.")
    check_finite(heads, what)
    if any(np.any(v < 0) for v in heads.values()):
        raise CheckpointError(f"{what} has negative weights, which LPIPS's published heads have not; fetch it again.")
    return kinds[0], heads


def import_lpips(path: pathlib.Path) -> tuple[str, pathlib.Path]:
    """Read LPIPS's `alex.pth` or `vgg.pth` and store its heads in the weights folder.

    Returns:
      `lpips-alex` or `lpips-vgg`, and the folder.

    Raises:
      InputError: there is no such file.
      CheckpointError: it is damaged, or is another file.
      OutputError: the weights folder cannot be written.
    """
    kind, heads = to_heads(state_of(read_checkpoint(path), path.name), path.name)
    return f"lpips-{kind}", save_weights(f"lpips-{kind}", heads, path)
