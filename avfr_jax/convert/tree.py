"""State dictionaries <-> Flax variables, for networks whose modules carry the published names.

The rule of the layers is the same everywhere (a convolution's kernel changes layout, a norm's `weight` is our `scale`,
running statistics are a collection of their own), so that a network's table only renames its modules.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from avfr_jax.checkpoints import flatten, unflatten
from avfr_jax.errors import CheckpointError

_COLLECTIONS = {
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
    "weight_u": ("spectral", "u"),
    "weight_v": ("spectral", "v"),
}
_NOT_WEIGHTS = ("num_batches_tracked", "weight_is_normalised")


def _leaf(name: str, value: np.ndarray) -> tuple[str, str, np.ndarray]:
    """(collection, leaf name, array in our layout) of one entry."""
    if name in _COLLECTIONS:
        return *_COLLECTIONS[name], value
    if name == "bias":
        return "params", "bias", value
    if value.ndim == 1:
        return "params", "scale", value
    # Out, in, space -> space, in, out.
    return "params", "kernel", np.moveaxis(value, (0, 1), (-1, -2))


def to_variables(
    state: Mapping[str, np.ndarray], rename: Callable[[str], str], skip: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A state dictionary as Flax variables.

    Args:
      state: published names and arrays.
      rename: a module's dotted path -> ours.
      skip: endings of names that are not learned.

    Returns:
      `{"params": …, "batch_stats": …, "spectral": …}`, those that have any entries.
    """
    variables = {}
    for key, value in state.items():
        module, _, name = key.rpartition(".")
        if name in _NOT_WEIGHTS or key.endswith(skip or ("\0",)):
            continue
        collection, leaf, array = _leaf("weight" if name == "weight_orig" else name, np.asarray(value))
        variables["/".join((collection, *rename(module).split("."), leaf))] = array.astype(np.float32)
    return unflatten(variables)


def check(variables: Mapping[str, Any], expected: Mapping[str, Any], what: str) -> None:
    """Check weights against the tree of a config.

    Args:
      variables: weights that were read.
      expected: the tree of `jax.eval_shape` over the network's `init`.
      what: the file, for the message.

    Raises:
      CheckpointError: one sentence that lists every missing, extra and misshapen tensor.
    """
    have, want = flatten(variables), flatten(expected)
    shapes = [
        f"{k} is {tuple(have[k].shape)}, not {tuple(want[k].shape)}"
        for k in sorted(have.keys() & want.keys())
        if tuple(have[k].shape) != tuple(want[k].shape)
    ]
    missing, extra = sorted(want.keys() - have.keys()), sorted(have.keys() - want.keys())
    problems = []
    for label, names in (("missing", missing), ("not known", extra), ("misshapen", shapes)):
        if names:
            problems.append(f"{len(names)} {label}: {', '.join(names)}")
    if problems:
        raise CheckpointError(f"{what} does not fit the network ({'; '.join(problems)}); is it another config's?")
