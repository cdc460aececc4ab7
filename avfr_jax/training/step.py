"""The training step, for one device or a pod.

The global view is one program under `jax.jit` over a sharded batch: means and batch statistics are those of the whole
batch. The per-device view (`per_device=True`) runs on each device's part through `jax.shard_map`, with collectives over
a named axis. Both give the same losses and updates.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from avfr_jax.errors import ConfigError
from avfr_jax.ops.platform import kernels_for
from avfr_jax.training.objective import Gradients, Objective, Variables
from avfr_jax.training.sharding import AXES, batch_sharding, check_batch, replicated, state_shardings
from avfr_jax.training.state import TrainState
from avfr_jax.typing import Array

Optimisers = Mapping[str, optax.GradientTransformation]
Step = Callable[[TrainState, Any, dict[str, Any]], tuple[TrainState, dict[str, Array]]]


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """Settings of a step.

    Attributes:
      accumulate: sequential passes over parts of the batch, whose gradients are averaged.
      ema_decay: of the averaged parameters; 0 keeps none. After n steps it is at most (1 + n) / (10 + n).
      per_device: the per-device view (`jax.shard_map`) instead of the global one.
    """

    accumulate: int = 1
    ema_decay: float = 0.0
    per_device: bool = False


def new_state(objective: Objective, optimisers: Optimisers, key: Array, config: StepConfig) -> TrainState:
    """Make a state before its first step, on the default device."""
    start, later = jax.random.split(key)
    variables = objective.init(start)
    params = {name: variables[name]["params"] for name in objective.networks}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        variables=variables,
        opt_state={name: optimisers[name].init(p) for name, p in params.items()},
        ema={name: params[name] for name in objective.averaged} if config.ema_decay else {},
        key=jax.random.key_data(later),
    )


def state_shapes(objective: Objective, optimisers: Optimisers, config: StepConfig) -> TrainState:
    """Shapes and dtypes of a state."""
    shapes: TrainState = jax.eval_shape(lambda key: new_state(objective, optimisers, key, config), jax.random.key(0))
    return shapes


def init_state(
    objective: Objective, optimisers: Optimisers, key: Array, mesh: Mesh, config: StepConfig | None = None
) -> TrainState:
    """Make a fresh state in place on the mesh."""
    config = config or StepConfig()
    places = state_shardings(mesh, state_shapes(objective, optimisers, config))
    make = jax.jit(lambda k: new_state(objective, optimisers, k, config), out_shardings=places)
    state: TrainState = make(key)
    return state


def make_step(
    objective: Objective, optimisers: Optimisers, mesh: Mesh, config: StepConfig | None = None
) -> Callable[[TrainState, dict[str, Any]], tuple[TrainState, dict[str, Array]]]:
    """Make the jitted step `(state, batch) -> (state, metrics)`; the state passed in is donated.

    Raises:
      ConfigError: from the step, for a batch that the mesh cannot divide.
    """
    config = config or StepConfig()
    compiled = compile_ready_step(objective, optimisers, mesh, config)
    frozen = jax.device_put(objective.frozen, replicated(mesh))

    def step(state: TrainState, batch: dict[str, Any]) -> tuple[TrainState, dict[str, Array]]:
        check_batch(mesh, len(next(iter(batch.values()))), config.accumulate)
        result: tuple[TrainState, dict[str, Array]] = compiled(state, frozen, batch)
        return result

    return step


def compile_ready_step(objective: Objective, optimisers: Optimisers, mesh: Mesh, config: StepConfig) -> Any:
    """Make the step as a jitted function of (state, frozen weights, batch), which can be lowered from shapes alone."""
    places = state_shardings(mesh, state_shapes(objective, optimisers, config))
    passes = _per_device(objective, mesh) if config.per_device else objective.gradients

    def step(state: TrainState, frozen: Any, batch: dict[str, Any]) -> tuple[TrainState, dict[str, Array]]:
        size = jax.tree.leaves(batch)[0].shape[0]
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        random = jax.lax.with_sharding_constraint(objective.sample(key, size), batch_sharding(mesh))
        with kernels_for("training"):
            result = _accumulated(passes, config.accumulate, state.variables, frozen, batch, random)
        return apply_gradients(state, result, optimisers, config)

    return jax.jit(
        step,
        donate_argnums=0,
        in_shardings=(places, replicated(mesh), batch_sharding(mesh)),
        out_shardings=(places, replicated(mesh)),
    )


def apply_gradients(
    state: TrainState, result: Gradients, optimisers: Optimisers, config: StepConfig
) -> tuple[TrainState, dict[str, Array]]:
    """Update every network by its own optimiser, and the averages."""
    variables: Variables = {}
    opt_state, metrics = {}, dict(result.metrics)
    for name, collections in state.variables.items():
        collections = {**collections, **result.collections.get(name, {})}
        if name in result.grads:
            grads = result.grads[name]
            updates, opt_state[name] = optimisers[name].update(grads, state.opt_state[name], collections["params"])
            collections["params"] = optax.apply_updates(collections["params"], updates)
            metrics[f"grad_norm/{name}"] = _global_norm(grads)
        variables[name] = collections
    # A smaller decay at first, so that the fresh weights are soon forgotten.
    decay = jnp.minimum(config.ema_decay, (1 + state.step) / (10 + state.step))
    ema = {
        name: jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, old, variables[name]["params"])
        for name, old in state.ema.items()
    }
    return TrainState(state.step + 1, variables, opt_state, ema, state.key), metrics


def _global_norm(tree: Any) -> Array:
    return jnp.sqrt(sum((jnp.sum(x.astype(jnp.float32) ** 2) for x in jax.tree.leaves(tree)), jnp.zeros(())))


Passes = Callable[[Variables, Any, dict[str, Any], Any], Gradients]


def _per_device(objective: Objective, mesh: Mesh) -> Passes:
    """Each device's part of the batch; gradients, metrics and batch statistics are averaged by collectives."""
    if mesh.shape["fsdp"] != 1:
        raise ConfigError("The per-device view keeps parameters whole; it needs fsdp = 1.")

    def local(variables: Variables, frozen: Any, batch: dict[str, Any], random: Any) -> Gradients:
        result = objective.gradients(variables, frozen, batch, random, axis_name=AXES[0])
        grads, metrics = jax.lax.pmean((result.grads, result.metrics), AXES[0])
        return Gradients(grads, result.collections, metrics)

    divided = P(AXES)
    # Replication of the results follows from the collectives above; the checker does not see through custom rules.
    return jax.shard_map(local, mesh=mesh, in_specs=(P(), P(), divided, divided), out_specs=P(), check_vma=False)


def _accumulated(
    passes: Passes, count: int, variables: Variables, frozen: Any, batch: dict[str, Any], random: Any
) -> Gradients:
    """Gradients averaged over `count` passes; running statistics go from one pass to the next."""
    if count == 1:
        return passes(variables, frozen, batch, random)
    # Sample i goes to pass i % count, so that each device's own samples stay where they are.
    parts = jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, count, *x.shape[1:]), 1, 0), (batch, random))
    shapes = jax.eval_shape(passes, variables, frozen, *jax.tree.map(lambda x: x[0], parts))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (shapes.grads, shapes.metrics))

    def one(carry: Any, part: Any) -> tuple[Any, None]:
        collections, sums = carry
        merged = {name: {**variables[name], **collections.get(name, {})} for name in variables}
        result = passes(merged, frozen, *part)
        sums = jax.tree.map(lambda s, x: s + x / count, sums, (result.grads, result.metrics))
        return (result.collections, sums), None

    start = {name: {c: variables[name][c] for c in tree} for name, tree in shapes.collections.items()}
    (collections, (grads, metrics)), _ = jax.lax.scan(one, (start, zeros), parts)
    return Gradients(grads, collections, metrics)
