"""Where the arrays of a training run live: a mesh of devices with two axes.

The batch is divided over all devices. Parameters, their moments and averages are copied to every device along `data`
and divided along `fsdp` (fully sharded data parallelism), where an axis of theirs is divisible.
"""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from avfr_jax.errors import ConfigError
from avfr_jax.training.state import TrainState

AXES = ("data", "fsdp")
# Below this many elements a parameter is not worth dividing: a gather costs more than the memory saves.
_SMALL = 2**14


def make_mesh(data: int = -1, fsdp: int = 1, devices: Any = None) -> Mesh:
    """A mesh of all devices (of every process), or of those given.

    Args:
      data: devices along `data`; -1 takes all that `fsdp` leaves.
      fsdp: devices along `fsdp`.
      devices: for a slice that is not there, its device descriptions.

    Raises:
      ConfigError: the devices cannot be divided so.
    """
    devices = np.asarray(jax.devices() if devices is None else devices).ravel()
    if fsdp < 1 or devices.size % fsdp or data not in (-1, devices.size // fsdp):
        raise ConfigError(
            f"{devices.size} devices cannot form a mesh of {'?' if data == -1 else data} (data) x {fsdp} (fsdp)."
        )
    return Mesh(devices.reshape(-1, fsdp), AXES, axis_types=(AxisType.Auto,) * 2)


def check_batch(mesh: Mesh, size: int, accumulate: int = 1) -> None:
    """Raises ConfigError where a batch cannot be divided over the mesh, or each part over the accumulated passes."""
    if size <= 0 or size % (mesh.size * accumulate):
        times = f" times {accumulate} accumulated passes" if accumulate > 1 else ""
        raise ConfigError(
            f"A batch of {size} cannot be divided over {mesh.size} device(s){times}; choose a multiple of "
            f"{mesh.size * accumulate}."
        )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Arrays whose first axis is the batch."""
    return NamedSharding(mesh, P(AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """Arrays that every device has a copy of."""
    return NamedSharding(mesh, P())


def leaf_sharding(mesh: Mesh, shape: tuple[int, ...]) -> NamedSharding:
    """A parameter's place: its longest axis that `fsdp` divides is divided, else it is copied."""
    fsdp = mesh.shape["fsdp"]
    candidates = [i for i, n in enumerate(shape) if n % fsdp == 0 and n >= fsdp]
    if fsdp == 1 or int(np.prod(shape)) < _SMALL or not candidates:
        return replicated(mesh)
    axis = max(candidates, key=lambda i: (shape[i], i))
    return NamedSharding(mesh, P(*[AXES[1] if i == axis else None for i in range(len(shape))]))


def state_shardings(mesh: Mesh, shapes: TrainState) -> TrainState:
    """The place of every leaf of a state, from its shapes."""
    return jax.tree.map(lambda leaf: leaf_sharding(mesh, tuple(leaf.shape)), shapes)


def put_batch(mesh: Mesh, batch: dict[str, Any]) -> dict[str, Any]:
    """This process's part of a batch (host arrays) -> global arrays divided over the mesh.

    Raises:
      ConfigError: the batch cannot be divided over the mesh.
    """
    sharding = batch_sharding(mesh)
    size = len(next(iter(batch.values()))) * jax.process_count()
    check_batch(mesh, size)
    return {name: jax.make_array_from_process_local_data(sharding, np.asarray(x)) for name, x in batch.items()}
