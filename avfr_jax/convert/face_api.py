"""Weights of the npm package `@vladmandic/face-api` -> our variables: dlib's face descriptor and 68 landmarks."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from avfr_jax.backbones import face_recognition, landmarks68
from avfr_jax.backbones.weights import save_weights
from avfr_jax.checkpoints import flatten, unflatten
from avfr_jax.convert.tree import check
from avfr_jax.convert.weights_manifest import read_manifest_weights
from avfr_jax.errors import CheckpointError, shortened

PACKAGE = "@vladmandic/face-api"
# Our name -> the files' name in the package, and a tensor that no other network of it has.
NETWORKS = {
    face_recognition.NAME: ("face_recognition_model", "conv32_down/conv/filters"),
    landmarks68.NAME: ("face_landmark_68_model", "dense0/conv1/depthwise_filter"),
}
Tensors = Mapping[str, np.ndarray]


def to_descriptor_variables(tensors: Tensors, what: str) -> dict[str, Any]:
    """Variables of `DescriptorNet`; the channel scale behind each convolution is multiplied into it.

    Raises:
      CheckpointError: tensors are missing, of another shape or not finite; `details` lists them.
    """
    arrays: dict[str, np.ndarray] = {}
    names = {"conv32_down": "conv32_down"} | {
        f"{name}_{i}": f"{name}/conv{i}" for name, _, _ in face_recognition.BLOCKS for i in (1, 2)
    }
    for ours, theirs in names.items():
        parts = [f"{theirs}/{part}" for part in ("conv/filters", "conv/bias", "scale/weights", "scale/biases")]
        if not all(part in tensors for part in parts):
            continue  # `check` lists what is missing
        kernel, bias, scale, shift = (tensors[part] for part in parts)
        try:
            arrays[f"params/{ours}/kernel"], arrays[f"params/{ours}/bias"] = kernel * scale, bias * scale + shift
        except ValueError:
            raise CheckpointError(f"{shortened(what)} has sizes in {theirs} that do not match.") from None
    if "fc" in tensors:
        arrays["params/fc/kernel"] = tensors["fc"]
    variables = unflatten(arrays)
    check(variables, face_recognition.shapes(), what)
    return variables


def to_landmark_variables(tensors: Tensors, what: str) -> dict[str, Any]:
    """Variables of `Landmarks68Net`.

    Raises:
      CheckpointError: as for `to_descriptor_variables`.
    """
    arrays: dict[str, np.ndarray] = {}
    for name, value in tensors.items():
        module, _, leaf = name.rpartition("/")
        path = "params/" + module.replace("/", "_")
        if leaf == "depthwise_filter":
            arrays[f"{path}/depthwise"] = value[..., 0] if value.ndim == 4 and value.shape[3] == 1 else value
        elif leaf == "pointwise_filter":
            arrays[f"{path}/pointwise/kernel"] = value
        elif leaf == "bias" and f"{module}/pointwise_filter" in tensors:
            arrays[f"{path}/pointwise/bias"] = value
        else:
            arrays[f"{path}/{'bias' if leaf == 'bias' else 'kernel'}"] = value
    expected = landmarks68.shapes()
    variables = unflatten({path: arrays[path] for path in flatten(expected) if path in arrays})
    check(variables, expected, what)
    return variables


def import_face_api(name: str, path: pathlib.Path) -> pathlib.Path:
    """Read one network of the package and store it in the weights folder.

    Args:
      name: `face-recognition` or `landmarks68`.
      path: the package's archive, or the network's manifest beside its `.bin`.

    Returns:
      The folder it was stored in.

    Raises:
      InputError: there is no such file.
      CheckpointError: it is damaged, or holds another network.
      OutputError: the weights folder cannot be written.
    """
    stem, marker = NETWORKS[name]
    tensors = read_manifest_weights(path, stem, PACKAGE)
    if marker not in tensors:
        others = [other for other, (_, tensor) in NETWORKS.items() if tensor in tensors]
        hint = f"; avfr import {others[0]} takes it" if others else f": give {PACKAGE}'s {stem}-weights_manifest.json"
        raise CheckpointError(f"{shortened(path.name)} is not of the network {name}{hint}.")
    convert = to_descriptor_variables if name == face_recognition.NAME else to_landmark_variables
    return save_weights(name, convert(tensors, path.name), path)
