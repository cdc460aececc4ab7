"""Trees of arrays on disk: one safetensors file for a model's weights, an orbax folder for training checkpoints."""

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from avfr_jax.errors import CheckpointError, shortened


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of nested dictionaries by slash-separated names, e.g. `generator/params/first/kernel`."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        leaves |= flatten(value, f"{prefix}{name}/") if isinstance(value, Mapping) else {prefix + name: value}
    return leaves


def unflatten(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dictionaries from arrays by slash-separated names; CheckpointError where one is a part of another."""
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        *path, last = name.split("/")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                break
        if not isinstance(node, dict) or last in node:
            raise CheckpointError(f"The array {shortened(name)} has a name that is part of another's.")
        node[last] = array
    return tree


def save_arrays(path: str | pathlib.Path, tree: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> None:
    """Write nested dictionaries of arrays as one safetensors file; the same arrays give the same bytes."""
    from safetensors.numpy import save_file

    # Arrays that are not contiguous would be written in the order of their memory.
    save_file({k: np.asarray(v, order="C") for k, v in flatten(tree).items()}, str(path), dict(metadata or {}) or None)


def load_arrays(path: str | pathlib.Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Read a file that `save_arrays` wrote.

    Returns:
      Nested dictionaries of NumPy arrays, and the metadata.

    Raises:
      CheckpointError: the file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    if not pathlib.Path(path).is_file():
        raise CheckpointError(f"The weights file {path} is missing.")
    try:
        with safe_open(str(path), framework="np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return unflatten(arrays), file.metadata() or {}
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, CheckpointError) as error:
        raise CheckpointError(f"The weights file {path} is damaged ({str(error)[:200]}).") from None


def save_tree(folder: str | pathlib.Path, tree: Any) -> None:
    """Write a tree of arrays into a new folder. Of several processes the caller writes alone; the others need not call.

    Raises:
      ValueError: the folder exists already (orbax's own error).
    """
    import orbax.checkpoint as ocp

    options = ocp.options.MultiprocessingOptions()
    if jax.process_count() > 1:
        me = jax.process_index()
        options = ocp.options.MultiprocessingOptions(
            primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process{me}"
        )
    with ocp.StandardCheckpointer(multiprocessing_options=options) as checkpointer:
        checkpointer.save(pathlib.Path(folder).absolute(), tree)


def restore_tree(folder: str | pathlib.Path, expected: Any) -> Any:
    """Read a tree of arrays back.

    Args:
      folder: written by `save_tree`.
      expected: a tree of the same structure, of arrays or `jax.ShapeDtypeStruct`.

    Raises:
      CheckpointError: the folder is missing, damaged, or holds another tree.
    """
    import orbax.checkpoint as ocp

    folder = pathlib.Path(folder).absolute()
    if not folder.is_dir():
        raise CheckpointError(f"The weights folder {folder} is missing.")
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), expected)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            tree = checkpointer.restore(folder, target)
    except (ValueError, KeyError, TypeError, OSError, RuntimeError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise CheckpointError(
            f"The weights in {folder} are damaged or belong to another config ({reason[:200]})."
        ) from None
    shapes = jax.tree.map(lambda a, b: a.shape == b.shape, tree, expected)
    if not all(jax.tree.leaves(shapes)):
        raise CheckpointError(f"The weights in {folder} belong to another config: their shapes differ.")
    return tree


def saved_names(folder: str | pathlib.Path) -> set[str]:
    """Names of the arrays in a folder of `save_tree`, as `flatten` gives them; none where it is damaged."""
    try:
        entries = json.loads((pathlib.Path(folder) / "_METADATA").read_text())["tree_metadata"].values()
        return {"/".join(key["key"] for key in entry["key_metadata"]) for entry in entries}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()


def tree_digest(tree: Any) -> str:
    """SHA-256 over a tree's paths, shapes, dtypes and values; the same on every machine."""
    digest = hashlib.sha256()
    for path, leaf in sorted(jax.tree_util.tree_leaves_with_path(tree), key=lambda item: jax.tree_util.keystr(item[0])):
        array = np.ascontiguousarray(np.asarray(leaf))
        digest.update(f"{jax.tree_util.keystr(path)}|{array.dtype.str}|{array.shape}|".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
