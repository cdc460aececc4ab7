"""A training run small enough to be killed, resumed and compared bit for bit in a second: a linear map of the colours
of 4 × 4 pictures, with a running mean as batch normalisation keeps one, random numbers in the step and in the data."""

import functools
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.training.loop import LoopConfig, Run
from avfr_jax.training.objective import Gradients
from avfr_jax.training.optimisers import OptimiserConfig, make_optimisers
from avfr_jax.training.sharding import make_mesh, put_batch
from avfr_jax.training.step import StepConfig
from avfr_jax.training.validation import Pair, ValidationConfig, Validator
from pipelines.prefetch import DevicePrefetch

SIDE = 4


class LinearObjective:
    """Predicts the driving picture as a linear map of the source's colours, under noise."""

    networks = ("generator",)
    averaged = ("generator",)
    notes = ("no frozen network",)

    def __init__(self, width: int = 8, break_at: float = np.inf) -> None:
        """`width` of the hidden layer; the loss is not a number once the running count of steps passes `break_at`."""
        self.width, self.break_at = width, break_at
        self.frozen = {"scale": np.ones((), np.float32)}

    def init(self, key: Any) -> dict[str, Any]:
        keys = jax.random.split(key)
        params = {
            "up": 0.3 * jax.random.normal(keys[0], (3, self.width)),
            "down": 0.3 * jax.random.normal(keys[1], (self.width, 3)),
        }
        stats = {"mean": jnp.zeros(3), "seen": jnp.zeros(())}
        return {"generator": {"params": params, "batch_stats": stats}}

    def example_batch(self, size: int) -> dict[str, Any]:
        image = jax.ShapeDtypeStruct((size, SIDE, SIDE, 3), jnp.float32)
        return {"source": image, "driving": image}

    def sample(self, key: Any, size: int) -> Any:
        return 0.01 * jax.random.normal(key, (size, SIDE, SIDE, 3))

    def _predict(self, params: Any, source: Any, mean: Any) -> Any:
        return jnp.tanh((source - mean) @ params["up"]) @ params["down"]

    def gradients(self, variables: Any, frozen: Any, batch: Any, random: Any, axis_name: Any = None) -> Gradients:
        own = variables["generator"]
        mean = batch["source"].mean((0, 1, 2))
        seen = own["batch_stats"]["seen"] + 1

        def loss(params: Any) -> Any:
            error = self._predict(params, batch["source"] + random, mean) - batch["driving"]
            value = frozen["scale"] * (error**2).mean()
            return jnp.where(seen > self.break_at, jnp.nan, value)

        value, grads = jax.value_and_grad(loss)(own["params"])
        stats = {"mean": 0.9 * own["batch_stats"]["mean"] + 0.1 * mean, "seen": seen}
        return Gradients({"generator": grads}, {"generator": {"batch_stats": stats}}, {"loss": value})

    def evaluate(self, variables: Any, batch: Any) -> tuple[dict[str, Any], Any]:
        own = variables["generator"]
        prediction = self._predict(own["params"], batch["source"], own["batch_stats"]["mean"])
        return {"l1": jnp.abs(prediction - batch["driving"]).mean((1, 2, 3))}, prediction

    def panels(self, variables: Any, batch: Any) -> dict[str, Any]:
        return {
            "source": batch["source"],
            "driving": batch["driving"],
            "output": jnp.clip(self.evaluate(variables, batch)[1], 0, 1),
        }


def _pictures(numbers: list[int]) -> dict[str, np.ndarray]:
    """Pictures by number: the driving one is the source with its colours mixed."""
    source = np.stack([np.random.default_rng(n).random((SIDE, SIDE, 3)) for n in numbers])
    mixed = source @ np.array([[0.5, 0.2, 0.1], [0.1, 0.6, 0.2], [0.2, 0.1, 0.5]])
    return {"source": (source * 255).astype(np.uint8), "driving": (mixed * 255).astype(np.uint8)}


class Pictures:
    """An endless stream of batches, each process's equal part of them; slow on request."""

    def __init__(self, batch_size: int, seconds: float = 0.0) -> None:
        self._local, self._seconds, self._next = batch_size // jax.process_count(), seconds, 0

    def __next__(self) -> dict[str, np.ndarray]:
        time.sleep(self._seconds)
        start = (self._next * jax.process_count() + jax.process_index()) * self._local
        self._next += 1
        return _pictures(list(range(start, start + self._local)))

    def state(self) -> bytes:
        return str(self._next).encode()

    def set_state(self, state: bytes) -> None:
        self._next = int(state)


class HeldOut:
    """Three clips for validation."""

    names = ("a", "b", "c")
    frames = (7, 1, 12)

    def samples(self, pairs: Any) -> dict[str, np.ndarray]:
        images = _pictures([1_000_000 + 100 * p.clip + p.driving for p in map(Pair._make, pairs)])
        return {name: (x / 255).astype(np.float32) for name, x in images.items()}


def augment(key: Any, batch: dict[str, Any]) -> dict[str, Any]:
    """Brightness, the same for both pictures of a pair."""
    gain = 1 + 0.1 * jax.random.uniform(key, (batch["source"].shape[0], 1, 1, 1))
    return {name: gain * x.astype(jnp.float32) / 255 for name, x in batch.items()}


def small_run(
    workdir: pathlib.Path,
    *,
    loop: LoopConfig,
    batch_size: int = 8,
    objective: LinearObjective | None = None,
    learning_rate: float = 0.01,
    step: StepConfig | None = None,
    devices: int | None = None,
    seconds: float = 0.0,
    **others: Any,
) -> Run:
    """A run over the first `devices` devices, validated on three clips; each batch takes `seconds` to read."""
    objective = objective or LinearObjective()
    mesh = make_mesh(devices=None if devices is None else jax.devices()[:devices])
    return Run(
        objective,
        make_optimisers(OptimiserConfig(learning_rate=learning_rate), objective.networks),
        mesh,
        DevicePrefetch(Pictures(batch_size, seconds), functools.partial(put_batch, mesh)),
        batch_size,
        workdir,
        loop,
        step or StepConfig(ema_decay=0.9),
        augment=augment,
        validator=Validator(objective, HeldOut(), mesh, ValidationConfig(stride=2), batch_size),
        settings={"width": objective.width, "optimiser": {"learning_rate": learning_rate}},
        **others,
    )
