"""State dictionaries <-> Flax variables, for networks whose modules carry the published names.

The rule of the layers is the same everywhere (a convolution's kernel changes layout, a norm's `weight` is our `scale`,
running statistics are a collection of their own), so that a network's table only renames its modules.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from avfr_jax.checkpoints import flatten, unflatten
from avfr_jax.errors import CheckpointError, ConfigError, shortened

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
    if value.ndim < 2:
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
        with np.errstate(over="ignore"):  # infinities are refused by `check`
            variables["/".join((collection, *rename(module).split("."), leaf))] = array.astype(np.float32)
    return unflatten(variables)


def expected_shapes(init: Callable[[Any], Any], what: str) -> dict[str, Any]:
    """The tree of a network's weights as `jax.ShapeDtypeStruct`.

    Args:
      init: key -> variables.
      what: the config, for the message.

    Raises:
      ConfigError: no such network can be built, e.g. because its maps shrink to nothing.
    """
    try:
        shapes: dict[str, Any] = jax.eval_shape(init, jax.random.key(0))
    except (TypeError, ValueError, ArithmeticError, IndexError, MemoryError) as error:
        reason = shortened(next(iter(str(error).splitlines()), type(error).__name__), 120)
        raise ConfigError(f"{what} gives no network that can be built ({reason}).") from None
    return shapes


def check(variables: Mapping[str, Any], expected: Mapping[str, Any], what: str) -> None:
    """Check weights against the tree of a config.

    Args:
      variables: weights that were read.
      expected: as `expected_shapes` gives.
      what: the file, for the message.

    Raises:
      CheckpointError: tensors are missing, extra, misshapen or not finite. The sentence counts them and names the first
        of each kind; `details` lists them all.
    """
    have, want = flatten(variables), flatten(expected)
    shapes = [
        f"{k} is {tuple(have[k].shape)}, not {tuple(want[k].shape)}"
        for k in sorted(have.keys() & want.keys())
        if tuple(have[k].shape) != tuple(want[k].shape)
    ]
    misfits = {
        "missing": sorted(want.keys() - have.keys()),
        "not known": sorted(have.keys() - want.keys()),
        "misshapen": shapes,
    }
    misfits = {label: names for label, names in misfits.items() if names}
    if misfits:
        counts = [
            f"{len(names)} {label}{', e.g.' if len(names) > 1 else ':'} {_end_of(names[0], 135 // len(misfits))}"
            for label, names in misfits.items()
        ]
        details = [f"{label}: {name}" for label, names in misfits.items() for name in names]
        sentence = f"{shortened(what, 40)} does not fit the network ({'; '.join(counts)}); is it another config's?"
        raise CheckpointError(sentence, details)
    check_finite(have, what)


def _end_of(name: str, most: int) -> str:
    """The end of a long path, which tells more than its start."""
    return shortened(name, most) if len(name) <= most else "…" + shortened(name[1 - most :], most)


def check_finite(weights: Mapping[str, np.ndarray], what: str) -> None:
    """CheckpointError that names the first array with NaN or infinity; `details` lists them all."""
    broken = [name for name, array in weights.items() if not np.isfinite(array).all()]
    if broken:
        raise CheckpointError(
            f"{shortened(what, 40)} has NaN or infinity in {len(broken)} of {len(weights)} tensors, first in "
            f"{shortened(broken[0], 90)}; its training had diverged, or the file is damaged.",
            broken,
        )
