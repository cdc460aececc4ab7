"""Sharding over a mesh of devices with two axes.

The batch is divided over all devices. Parameters, moments and averages are replicated along `data` and divided along
`fsdp` (fully sharded data parallelism), where one of their axes is divisible.
"""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from avfr_jax.errors import ConfigError
from avfr_jax.training.state import TrainState

AXES = ("data", "fsdp")
_LONGEST_WAIT = 24 * 3600  # seconds, for a dataset that process 0 renders
# Parameters with fewer elements stay whole: gathering costs more than the memory saved.
_SMALL = 2**14


def make_mesh(data: int = -1, fsdp: int = 1, devices: Any = None) -> Mesh:
    """Make a mesh of all devices (of every process), or of those given.

    Args:
      data: devices along `data`; -1 takes all that `fsdp` leaves.
      fsdp: devices along `fsdp`.
      devices: device descriptions of an absent slice.

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
    """Raise ConfigError where a batch cannot be divided over the mesh and the accumulated passes."""
    if size <= 0 or size % (mesh.size * accumulate):
        times = f" times {accumulate} accumulated passes" if accumulate > 1 else ""
        raise ConfigError(
            f"A batch of {size} cannot be divided over {mesh.size} device(s){times}; choose a multiple of "
            f"{mesh.size * accumulate}."
        )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of arrays whose first axis is the batch."""
    return NamedSharding(mesh, P(AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding of arrays replicated on every device."""
    return NamedSharding(mesh, P())


def leaf_sharding(mesh: Mesh, shape: tuple[int, ...]) -> NamedSharding:
    """Sharding of a parameter: along its longest axis that `fsdp` divides, else replicated."""
    fsdp = mesh.shape["fsdp"]
    candidates = [i for i, n in enumerate(shape) if n % fsdp == 0 and n >= fsdp]
    if fsdp == 1 or int(np.prod(shape)) < _SMALL or not candidates:
        return replicated(mesh)
    axis = max(candidates, key=lambda i: (shape[i], i))
    return NamedSharding(mesh, P(*[AXES[1] if i == axis else None for i in range(len(shape))]))


def state_shardings(mesh: Mesh, shapes: TrainState) -> TrainState:
    """Sharding of every leaf of a state."""
    shardings: TrainState = jax.tree.map(lambda leaf: leaf_sharding(mesh, tuple(leaf.shape)), shapes)
    return shardings


def put_batch(mesh: Mesh, batch: dict[str, Any]) -> dict[str, Any]:
    """Make global arrays divided over the mesh from this process's part of a batch (host arrays).

    Raises:
      ConfigError: the batch cannot be divided over the mesh.
    """
    sharding = batch_sharding(mesh)
    size = len(next(iter(batch.values()))) * jax.process_count()
    check_batch(mesh, size)
    return {name: jax.make_array_from_process_local_data(sharding, np.asarray(x)) for name, x in batch.items()}


def wait_for_processes(name: str) -> None:
    """Return once every process has called this with the same name; at once where there is only one.

    Waits in JAX's coordination service, up to a day. A collective gives up after half a minute where the processes
    have not yet connected, so that this precedes the first one and whatever may take one process longer than another.

    Args:
      name: unlike that of any other call.

    Raises:
      jax.errors.JaxRuntimeError: another process ended.
    """
    if jax.process_count() == 1:
        return
    from orbax.checkpoint import multihost

    multihost.get_barrier_sync_fn()(key=f"avfr-{name}", timeout_ms=1000 * _LONGEST_WAIT)
