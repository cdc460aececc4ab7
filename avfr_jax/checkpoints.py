"""Trees of arrays on disk, through orbax."""

import pathlib
from typing import Any

import jax
import numpy as np

from avfr_jax.errors import CheckpointError


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


def tree_digest(tree: Any) -> str:
    """SHA-256 over a tree's paths, shapes, dtypes and values; the same on every machine."""
    import hashlib

    digest = hashlib.sha256()
    for path, leaf in sorted(jax.tree_util.tree_leaves_with_path(tree), key=lambda item: jax.tree_util.keystr(item[0])):
        array = np.ascontiguousarray(np.asarray(leaf))
        digest.update(f"{jax.tree_util.keystr(path)}|{array.dtype.str}|{array.shape}|".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
