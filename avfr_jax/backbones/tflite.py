"""TFLite graphs as pure JAX functions.

A graph is read once into a frozen, hashable description and a dictionary of constants; `run` is a pure function of
constants and images, and returns any tensor inside. Only float graphs are read (float16 weights are widened).
"""

import hashlib
import json
import os
import pathlib
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.backbones.tflite_file import Reader
from avfr_jax.backbones.tflite_graph import Graph, Operator, options
from avfr_jax.backbones.tflite_ops import OPERATORS
from avfr_jax.errors import CheckpointError, InputError, OutputError
from avfr_jax.interrupts import scratch_beside, uninterrupted
from avfr_jax.typing import Array

_FORMAT = 1


def load_graph(path: str | os.PathLike[str]) -> Graph:
    """Read a graph.

    Args:
      path: a `.tflite` file (needs the package `tflite`), or the `.json` of a copy made by `save_graph`.

    Raises:
      InputError: there is no such file, or it is no TFLite file.
      ConfigError: it uses an operator or a number format that is not known here.
      CheckpointError: a saved copy is damaged.
      MissingBackendError: the package `tflite` is not installed.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"There is no network file {path}.")
    if path.suffix == ".json":
        return _load_copy(path)
    data = path.read_bytes()
    if data[4:8] != b"TFL3":
        raise InputError(f"{path.name} is not a TFLite file.")
    try:
        return Reader(data, path.name).read()
    except (struct.error, IndexError, ValueError, TypeError, KeyError, AttributeError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} is a damaged TFLite file ({type(error).__name__}).") from None


def save_graph(graph: Graph, path: str | os.PathLike[str], about: Mapping[str, Any] | None = None) -> pathlib.Path:
    """Write a copy that is read without `tflite`: `NAME.json` and, beside it, `NAME.npz`.

    Constants that float16 represents exactly are stored so. The arrays' SHA-256 is in the JSON and is checked on load.

    Args:
      graph: to be written.
      path: the `.json` file; its folder is made.
      about: further entries of the JSON, e.g. the source.

    Returns:
      The `.json` file.

    Raises:
      OutputError: the folder cannot be written to.
    """
    path = pathlib.Path(path)
    arrays = path.with_suffix(".npz")
    names = sorted(graph.constants)
    stored = {str(i): _smallest(graph.constants[name]) for i, name in enumerate(names)}  # names may hold slashes
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch_beside(arrays) as new_arrays, scratch_beside(path) as new:
            with new_arrays.open("wb") as stream:
                np.savez(stream, **stored)  # type: ignore[arg-type]
            values = {
                "format": _FORMAT,
                "about": dict(about or {}),
                "sha256": hashlib.sha256(new_arrays.read_bytes()).hexdigest(),
                "constants": names,
                "inputs": graph.inputs,
                "outputs": graph.outputs,
                "shapes": dict(graph.shapes),
                "integers": dict(graph.integers),
                "operators": [[op.kind, op.inputs, op.outputs, dict(op.options)] for op in graph.operators],
            }
            new.write_text(json.dumps(values))
            with uninterrupted():
                new_arrays.replace(arrays)
                new.replace(path)
    except OSError as error:
        raise OutputError(f"The network cannot be written to {path.parent} ({error.strerror}).") from None
    return path


def _smallest(array: np.ndarray) -> np.ndarray:
    half = array.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), array) else array


def _load_copy(path: pathlib.Path) -> Graph:
    arrays = path.with_suffix(".npz")
    again = "run avfr import mediapipe-nets again"
    try:
        values = json.loads(path.read_text())
        if values["format"] != _FORMAT:
            raise CheckpointError(f"{path} is of format {values['format']}, not {_FORMAT}; {again}.")
        if hashlib.sha256(arrays.read_bytes()).hexdigest() != values["sha256"]:
            raise CheckpointError(f"{arrays} is damaged (its checksum differs); {again}.")
        with np.load(arrays) as stored:
            constants = {n: stored[str(i)].astype(np.float32) for i, n in enumerate(values["constants"])}
        operators = [
            Operator(kind, tuple(inputs), tuple(outputs), options(chosen))
            for kind, inputs, outputs, chosen in values["operators"]
        ]
        return Graph(
            tuple(operators),
            tuple(values["inputs"]),
            tuple(values["outputs"]),
            tuple((n, tuple(v)) for n, v in values["shapes"].items()),
            tuple((n, tuple(v)) for n, v in values["integers"].items()),
            constants,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} or the .npz beside it is damaged ({type(error).__name__}); {again}.") from None


def _needed(graph: Graph, wanted: Sequence[str]) -> list[Operator]:
    """The operators that compute the wanted tensors, in order."""
    names, chosen = set(wanted), []
    for op in reversed(graph.operators):
        if names & set(op.outputs):
            chosen.append(op)
            names |= set(op.inputs)
    return chosen[::-1]


def run(
    graph: Graph, constants: Mapping[str, Any], x: Array | Sequence[Array], outputs: Sequence[str] | None = None
) -> list[jax.Array]:
    """Run a graph, or the part that the wanted tensors need.

    Args:
      graph: its structure (static under `jit`).
      constants: its `constants`, or others of the same names and shapes.
      x: the input [N, …] with any batch size, or one for each of `graph.inputs`. Constants are cast to its dtype.
      outputs: names of any tensors in the graph; None takes its outputs.

    Returns:
      The tensors in that order, each with the batch axis in front.

    Raises:
      ValueError: a name that is not in the graph.
    """
    wanted = list(graph.outputs if outputs is None else outputs)
    if unknown := sorted(set(wanted) - dict(graph.shapes).keys()):
        raise ValueError(f"the graph has no tensor {', '.join(unknown)}")
    given = [jnp.asarray(v) for v in (x if isinstance(x, list | tuple) else [x])]
    values: dict[str, Any] = dict(graph.integers) | dict(zip(graph.inputs, given, strict=True))
    for op in _needed(graph, wanted):
        read = [values[n] if n in values else jnp.asarray(constants[n], given[0].dtype) for n in op.inputs]
        values[op.outputs[0]] = OPERATORS[op.kind](dict(op.options), *read)
    return [values[name] for name in wanted]
