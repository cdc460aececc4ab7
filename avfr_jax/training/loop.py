"""The training loop: from a checkpoint, another model or fresh weights to the last step and an exported model.

A run starts from the newest checkpoint in its work folder; else from the weights of `init_from`, with the rest fresh;
else from fresh weights. The same command therefore resumes a run.
"""

import contextlib
import dataclasses
import json
import pathlib
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from avfr_jax.errors import ConfigError, InputError, OutputError
from avfr_jax.training.checkpointing import Checkpoints, load_variables
from avfr_jax.training.logging import open_writers
from avfr_jax.training.meter import Meter, NonFiniteError
from avfr_jax.training.objective import Objective, Variables
from avfr_jax.training.panels import contact_sheet
from avfr_jax.training.profiling import ProfilerWindow, peak_flops, program_flops
from avfr_jax.training.sharding import batch_sharding, check_batch, replicated, state_shardings, wait_for_processes
from avfr_jax.training.state import TrainState
from avfr_jax.training.step import Optimisers, StepConfig, compile_ready_step, init_state, state_shapes
from avfr_jax.training.stopping import Stop, say
from avfr_jax.training.validation import Validator

Batch = dict[str, Any]


class DataIterator(Protocol):
    """Endless stream of batches on the devices. Its position, which can be saved and restored, counts the batches of
    all processes together, so that any number of processes can resume from it."""

    def __next__(self) -> Batch:
        """Next batch, of global arrays (`avfr_jax.training.sharding.put_batch`)."""
        ...

    def get_state(self) -> bytes:
        """Position after the last batch returned (not the last one read ahead), as UTF-8 text."""
        ...

    def set_state(self, state: bytes) -> None:
        """Restore a position."""
        ...


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """Length and intervals of a run, in steps; an interval of 0 turns its action off.

    Attributes:
      steps: length of the run.
      log_every: metrics, averaged over these steps.
      panel_every: contact sheet of validation pairs (of the training batch without validation).
      panel_rows: samples on it.
      validate_every: validation; also at the end.
      checkpoint_every: checkpoint; also at the end and when stopped.
      keep_last: number of the latest checkpoints to keep.
      keep_best: number of those with the best `best_metric` to keep too.
      best_metric: name of a validation metric.
      best_is: its better direction.
      export: the last weights, or those of the best checkpoint.
      profile_first: steps before the profiler's trace.
      profile_steps: steps in it, written to `WORKDIR/profile`.
      tensorboard: write event files.
      wandb_project: of Weights & Biases; empty for none.
    """

    steps: int = 1000
    log_every: int = 50
    panel_every: int = 1000
    panel_rows: int = 6
    validate_every: int = 1000
    checkpoint_every: int = 1000
    keep_last: int = 2
    keep_best: int = 1
    best_metric: str = "l1"
    best_is: Literal["lowest", "highest"] = "lowest"
    export: Literal["last", "best"] = "last"
    profile_first: int = 10
    profile_steps: int = 0
    tensorboard: bool = True
    wandb_project: str = ""


@dataclasses.dataclass(frozen=True)
class Run:
    """The parts of a training run.

    Attributes:
      objective: losses.
      optimisers: of its networks.
      mesh: of all devices.
      data: training batches; the caller closes it.
      batch_size: samples a step, over all processes.
      workdir: the run's folder, visible to every process.
      loop: length and intervals.
      step: settings of a step.
      seed: of weights, augmentation and the steps' randomness.
      augment: jit-able `(key, batch) -> batch`, from batches of `data` to those of the objective.
      validator: over held-out clips; None validates nothing.
      settings: plain values that a checkpoint must have been made with to resume from it.
      config: all settings as plain values, for the log.
      init_from: model folder to start from.
      export: writes the model folder in process 0: `(variables on the host, provenance, quality) -> folder`.
      provenance: of data and config, for the exported model.
    """

    objective: Objective
    optimisers: Optimisers
    mesh: Mesh
    data: DataIterator
    batch_size: int
    workdir: pathlib.Path
    loop: LoopConfig = LoopConfig()
    step: StepConfig = StepConfig()
    seed: int = 0
    augment: Callable[[Any, Batch], Batch] | None = None
    validator: Validator | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    init_from: pathlib.Path | None = None
    export: Callable[[Variables, dict[str, Any], dict[str, float]], pathlib.Path] | None = None
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Outcome(NamedTuple):
    """End of a run: steps taken, signal that ended it early (None when complete), validation metrics of the exported
    weights, and their folder."""

    step: int
    stopped_by: signal.Signals | None
    quality: dict[str, float]
    model: pathlib.Path | None


def fit(run: Run) -> Outcome:
    """Train. After a signal (SIGTERM, SIGINT, SIGHUP) the step is finished and saved; SIGTERM to one of several
    processes stops them all at the same step. A single process leaves signals to the caller until it is compiled.

    Raises:
      NonFiniteError: a loss, gradient norm or weight is not finite; the last good checkpoint stays.
      CheckpointError: the work folder's checkpoint is damaged or of another config.
      ConfigError: the batch cannot be divided over the devices, or an interval is negative.
      InputError: the data ended.
      OutputError: the work folder cannot be written to, or is full; the last checkpoint stays.
      MissingBackendError: Weights & Biases is requested and not installed.
    """
    check_batch(run.mesh, run.batch_size, run.step.accumulate)
    loop = run.loop
    if loop.steps < 1 or any(getattr(loop, f.name) < 0 for f in dataclasses.fields(loop) if f.name.endswith("_every")):
        raise ConfigError("A run needs at least one step, and no interval may be negative.")
    run.workdir.mkdir(parents=True, exist_ok=True)
    wait_for_processes("start")
    checkpoints = Checkpoints(
        run.workdir,
        run.settings,
        keep_last=loop.keep_last,
        keep_best=loop.keep_best,
        best_metric=loop.best_metric,
        best_is=loop.best_is,
    )
    try:
        with contextlib.ExitStack() as stack:
            session = _Session(run, checkpoints, stack)
            outcome = session.train()
        checkpoints.close()
    except BaseException:
        checkpoints.abandon()
        raise
    return outcome


def _record_config(run: Run) -> None:
    """Write all settings to `config.json` beside the checkpoints."""
    path = run.workdir / "config.json"
    if not run.config or jax.process_index() != 0:
        return
    try:
        path.write_text(json.dumps(dict(run.config), indent=2) + "\n")
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}).") from None


class _Session:
    """One process's part in a run: everything between two steps that is not in the state."""

    def __init__(self, run: Run, checkpoints: Checkpoints, stack: contextlib.ExitStack) -> None:
        self.run, self.loop, self.checkpoints = run, run.loop, checkpoints
        self.validated: tuple[int, dict[str, float]] | None = None
        self.saved_at: int | None = None
        self.data_state = b""
        self.state, self.at, counters = self._start()
        _record_config(run)  # not before the checkpoint is known to be of this config
        self.writer = open_writers(
            run.workdir,
            first_step=self.at,
            tensorboard=self.loop.tensorboard,
            wandb_project=self.loop.wandb_project,
            config=run.config,
        )
        stack.callback(self.writer.close)
        self.meter = Meter(
            self.writer,
            steps=self.loop.steps,
            log_every=self.loop.log_every,
            batch_size=run.batch_size,
            stop=self._not_finite,
            **counters,
        )
        self.profiler = ProfilerWindow(run.workdir, self.loop.profile_first, self.loop.profile_steps)
        stack.callback(self.profiler.close)
        self.stack, self.stop = stack, Stop()
        if self.stop.shared:
            stack.enter_context(self.stop)

    def _start(self) -> tuple[TrainState, int, dict[str, Any]]:
        """State, step and counters: of the newest checkpoint, else from `init_from`, else fresh."""
        run, fresh = self.run, {"sums": {}, "count": 0}
        shapes = state_shapes(run.objective, run.optimisers, run.step)
        places = state_shardings(run.mesh, shapes)
        target = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, places)
        if self.checkpoints.latest() is not None:
            saved = self.checkpoints.restore(target)
            run.data.set_state(saved.data)
            self.data_state, self.saved_at = saved.data, saved.step
            if metrics := self.checkpoints.metrics(saved.step):
                self.validated = (saved.step, metrics)
            say(f"Going on from step {saved.step} ({self.checkpoints.folder}).")
            return saved.state, saved.step, saved.counters
        state = init_state(run.objective, run.optimisers, jax.random.key(run.seed), run.mesh, run.step)
        if run.init_from is None:
            return state, 0, fresh
        given = load_variables(run.init_from, shapes.variables)
        say(f"Starting from the weights of {run.init_from} ({', '.join(given)}).")
        given = jax.tree.map(jax.device_put, given, {name: places.variables[name] for name in given})
        # A copy: donating one array twice is an error.
        ema = jax.tree.map(jnp.copy, {name: given[name]["params"] for name in state.ema if name in given})
        state = dataclasses.replace(state, variables={**state.variables, **given}, ema={**state.ema, **ema})
        return state, 0, fresh

    def _compile(self) -> None:
        """Compile for the first batch; one compiled step is counted and then run."""
        run, mesh = self.run, self.run.mesh
        self.frozen = jax.device_put(run.objective.frozen, replicated(mesh))
        self.first: Batch | None = self._next_batch()
        augment = run.augment or (lambda _key, batch: batch)
        key = jax.random.key_data(jax.random.fold_in(jax.random.key(run.seed), 0x617567))

        def augmented(step: Any, batch: Batch) -> Batch:
            return augment(jax.random.fold_in(jax.random.wrap_key_data(key), step), batch)

        self.augment = jax.jit(augmented, out_shardings=batch_sharding(mesh))
        step = compile_ready_step(run.objective, run.optimisers, mesh, run.step)
        began = time.perf_counter()
        lowered = step.lower(self.state, self.frozen, self.augment(np.int32(self.at), self.first))
        chips = 1 if run.step.per_device else mesh.size  # the per-device program is counted for one already
        flops = program_flops(lowered, chips, run.step.accumulate)
        self.step = lowered.compile()
        wait_for_processes("compiled")
        device = mesh.devices.flat[0].device_kind
        self.meter.flops, self.meter.peak = flops, peak_flops(device)
        self.panels = jax.jit(run.objective.panels, out_shardings=replicated(mesh))
        weights = sum(x.size for v in self.state.variables.values() for x in jax.tree.leaves(v.get("params", {})))
        work = f", {flops * mesh.size / 1e9:.1f} GFLOP a step" if flops else ""
        say(
            f"{weights / 1e6:.2f} M parameters in {', '.join(self.state.variables)}; {mesh.size} {device} device(s)"
            f"{work}; compiled in {time.perf_counter() - began:.0f} s."
        )

    def train(self) -> Outcome:
        """All steps, then the last validation, checkpoint and export."""
        if self.at < self.loop.steps:
            self._compile()
        if not self.stop.shared:
            self.stack.enter_context(self.stop)  # before the first step there is nothing to save
        self.meter.start()
        while self.at < self.loop.steps:
            self._one_step()
            self._scheduled()
            if self.stop.now(self.at):
                return self._stopped()
        return self._finish()

    def _stopped(self) -> Outcome:
        self._save()
        self.checkpoints.wait()
        assert self.stop.by is not None
        say(
            f"Stopped by {self.stop.by.name} after step {self.at}; its checkpoint is saved, and the same command goes "
            "on from there."
        )
        return Outcome(self.at, self.stop.by, {}, None)

    def _one_step(self) -> None:
        began = time.perf_counter()
        batch, self.first = self.first or self._next_batch(), None
        self.meter.waited += time.perf_counter() - began
        self.profiler.before_step()
        self.batch = self.augment(np.int32(self.at), batch)
        self.state, metrics = self.step(self.state, self.frozen, self.batch)
        self.at += 1
        self.profiler.after_step(metrics)
        self.meter.add(self.at, metrics)

    def _next_batch(self) -> Batch:
        try:
            batch = next(self.run.data)
        except StopIteration:
            raise InputError("The training data ended before the run did; let it repeat.") from None
        self.data_state = self.run.data.get_state()
        return batch

    def _not_finite(self, name: str, value: Any, step: int) -> NonFiniteError:
        kept = self.checkpoints.latest()
        good = f"the last good checkpoint is that of step {kept}" if kept is not None else "there is no checkpoint yet"
        return NonFiniteError(
            f"Training stopped: {name} is {value} at step {step}; {good} in {self.checkpoints.folder}. Lower the "
            "learning rate or clip the gradients, in another work folder with init_from."
        )

    def _scheduled(self) -> None:
        """Validation, panels and checkpoint where due, in this order: a checkpoint holds its validation metrics."""
        loop = self.loop
        every = {self._validate: loop.validate_every, self._panels: loop.panel_every, self._save: loop.checkpoint_every}
        if due := [action for action, steps in every.items() if steps and self.at % steps == 0]:
            self.meter.flush()
            with self.meter.paused():
                for action in due:
                    action()

    def _validate(self) -> None:
        if self.run.validator is None or (self.validated and self.validated[0] == self.at):
            return
        metrics = self.run.validator(self.state.averaged())
        self.validated = (self.at, metrics)
        self.writer.scalars(self.at, {f"validation/{name}": x for name, x in metrics.items()})
        say(f"step {self.at}  validation: " + "  ".join(f"{name} {x:.5g}" for name, x in metrics.items()))

    def _panels(self) -> None:
        variables, rows = self.state.averaged(), self.loop.panel_rows
        if self.run.validator:
            panels = self.run.validator.panels(variables, rows)
        else:
            panels = jax.device_get(self.panels(variables, self.batch))
        if jax.process_index() == 0:
            self.writer.images(self.at, {"panels": contact_sheet(panels, rows=rows)})

    def _save(self) -> None:
        if self.saved_at == self.at:
            return
        self.meter.flush()
        finite = jax.jit(_all_finite, out_shardings=replicated(self.run.mesh))(self.state.variables)
        for name, good in jax.device_get(finite).items():
            if not good:
                raise self._not_finite(f"a weight of {name}", "not finite", self.at)
        metrics = self.validated[1] if self.validated and self.validated[0] == self.at else None
        counters = {"sums": self.meter.sums, "count": self.meter.count}
        self.checkpoints.save(self.at, self.state, data=self.data_state, counters=counters, metrics=metrics)
        self.saved_at = self.at

    def _finish(self) -> Outcome:
        self.meter.flush()
        if self.loop.validate_every:
            self._validate()
        self._save()
        self.checkpoints.wait()
        variables, quality, step = self._exported()
        folder = None
        if self.run.export:
            provenance = {**self.run.provenance, "steps": step, "losses_use": list(self.run.objective.notes)}
            whole = jax.jit(lambda tree: tree, out_shardings=replicated(self.run.mesh))(variables)
            if jax.process_index() == 0:
                folder = self.run.export(jax.tree.map(np.asarray, whole), provenance, quality)
        say(f"Finished after step {self.at}." + (f" The model is in {folder}." if folder else ""))
        return Outcome(self.at, None, quality, folder)

    def _exported(self) -> tuple[Variables, dict[str, float], int]:
        """The weights to export, their validation metrics and their step."""
        best = self.checkpoints.best()
        if self.loop.export == "last" or best is None or best == self.at:
            return self.state.averaged(), dict(self.validated[1]) if self.validated else {}, self.at
        target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), self.state)
        return self.checkpoints.restore(target, best).state.averaged(), self.checkpoints.metrics(best), best


def _all_finite(variables: Variables) -> dict[str, Any]:
    """Whether every weight of a network is finite, by network."""
    return {
        name: jnp.all(jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]))
        for name, tree in variables.items()
    }
