"""The training loop: from its own last checkpoint, another model, or scratch, to the last step and an exported model.

Where a run starts, in this order: the newest checkpoint in its work folder; else the weights of `init_from`, with the
rest fresh; else everything fresh. Nobody has to say "resume": the same command goes on where the last one stopped.
"""

import collections
import contextlib
import dataclasses
import json
import pathlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from avfr_jax.errors import AvfrError, ConfigError, InputError, OutputError
from avfr_jax.training.checkpointing import Checkpoints, load_variables
from avfr_jax.training.logging import MetricWriter, open_writers
from avfr_jax.training.objective import Objective, Variables
from avfr_jax.training.panels import contact_sheet
from avfr_jax.training.profiling import ProfilerWindow, StepClock, peak_flops, program_flops
from avfr_jax.training.sharding import batch_sharding, check_batch, replicated, state_shardings
from avfr_jax.training.state import TrainState
from avfr_jax.training.step import Optimisers, StepConfig, compile_ready_step, init_state, state_shapes
from avfr_jax.training.stopping import Stop, say
from avfr_jax.training.validation import Validator

Batch = dict[str, Any]


class DataIterator(Protocol):
    """An endless stream of batches on the devices, whose place can be saved and found again.

    A place counts batches of all processes together, so that any number of processes can go on from it.
    """

    def __next__(self) -> Batch:
        """The next batch: global arrays, as `avfr_jax.training.sharding.put_batch` makes them."""
        ...

    def get_state(self) -> bytes:
        """The place after the last batch given out (not after the last one read ahead), as UTF-8 text."""
        ...

    def set_state(self, state: bytes) -> None:
        """Go to a place."""
        ...


class NonFiniteError(AvfrError):
    """A loss, a gradient or a weight is no longer a finite number; training again from the last checkpoint as it was
    would end the same way."""


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """What happens when. Every interval is in steps, and 0 turns its part off.

    Attributes:
      steps: length of the run.
      log_every: figures, as means over these steps.
      panel_every: the contact sheet of validation pairs (of the training batch where there are none).
      panel_rows: samples on it.
      validate_every: validation; also at the end.
      checkpoint_every: checkpoint; also at the end and when stopped.
      keep_last: so many of the latest checkpoints are kept.
      keep_best: and so many of those with the best `best_metric`.
      best_metric: name of a validation metric.
      best_is: which of its values is best.
      export: the model folder gets the last weights, or those of the best checkpoint.
      profile_first: steps before the profiler's window.
      profile_steps: steps in it, traced into `WORKDIR/profile`.
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
      objective: the model family's losses.
      optimisers: of its networks.
      mesh: of all devices.
      data: training batches; whoever opened it closes it.
      batch_size: samples a step, over all processes.
      workdir: the run's folder, seen by every process.
      loop: what happens when.
      step: how a step is run.
      seed: of the weights, the augmentation and the steps' own randomness.
      augment: jit-able `(key, batch) -> batch`, from what `data` gives to what the objective takes.
      validator: over held-out clips; None validates nothing.
      settings: plain values that a checkpoint must have been made with to go on from it.
      config: all settings, as plain values, to show.
      init_from: a model folder whose weights the run starts from.
      export: writes the model folder: `(variables on the host, provenance, quality) -> folder`; called in process 0.
      provenance: what the exported model says of its data and config.
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
    """How a run ended.

    Attributes:
      step: number of steps taken.
      stopped_by: the signal that ended it early; None when it is complete.
      quality: validation metrics of the exported weights.
      model: the exported folder.
    """

    step: int
    stopped_by: signal.Signals | None
    quality: dict[str, float]
    model: pathlib.Path | None


def fit(run: Run) -> Outcome:
    """Train.

    A signal (SIGTERM, SIGINT) lets the step finish, saves and returns. In a run of several processes, one that gets
    SIGTERM stops them all at the same step.

    Raises:
      NonFiniteError: a loss, gradient norm or weight is not finite; the last good checkpoint stays.
      CheckpointError: the work folder's checkpoint is damaged or of another config.
      ConfigError: the batch cannot be divided over the devices, or an interval makes no sense.
      InputError: the data ended.
      OutputError: the work folder cannot be written to, or is full; the last checkpoint stays.
      MissingBackendError: Weights & Biases was asked for and is not installed.
    """
    check_batch(run.mesh, run.batch_size, run.step.accumulate)
    loop = run.loop
    if loop.steps < 1 or any(getattr(loop, f.name) < 0 for f in dataclasses.fields(loop) if f.name.endswith("_every")):
        raise ConfigError("A run needs at least one step, and no interval may be negative.")
    run.workdir.mkdir(parents=True, exist_ok=True)
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
    """All settings as `config.json` beside the checkpoints."""
    if not run.config or jax.process_index() != 0:
        return
    path = run.workdir / "config.json"
    try:
        path.write_text(json.dumps(dict(run.config), indent=2) + "\n")
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}).") from None


class _Session:
    """One process's part in a run: everything between two steps that is not in the state."""

    def __init__(self, run: Run, checkpoints: Checkpoints, stack: contextlib.ExitStack) -> None:
        self.run, self.loop, self.checkpoints = run, run.loop, checkpoints
        self.sums: dict[str, float] = {}
        self.count = 0
        self.validated: tuple[int, dict[str, float]] | None = None
        self.saved_at: int | None = None
        self.data_state = b""
        self.state, self.at = self._start()
        _record_config(run)  # not before the checkpoint is known to be of this config
        self.writer: MetricWriter = open_writers(
            run.workdir,
            first_step=self.at,
            tensorboard=self.loop.tensorboard,
            wandb_project=self.loop.wandb_project,
            config=run.config,
        )
        stack.callback(self.writer.close)
        self.profiler = ProfilerWindow(run.workdir, self.loop.profile_first, self.loop.profile_steps)
        stack.callback(self.profiler.close)
        self.stop = stack.enter_context(Stop())
        self.pending: collections.deque[tuple[int, Any]] = collections.deque()

    # -- Before the first step --------------------------------------------------------------------------------------

    def _start(self) -> tuple[TrainState, int]:
        """Own checkpoint, else `init_from`, else fresh weights."""
        run = self.run
        shapes = state_shapes(run.objective, run.optimisers, run.step)
        places = state_shardings(run.mesh, shapes)
        target = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, places)
        if self.checkpoints.latest() is not None:
            saved = self.checkpoints.restore(target)
            run.data.set_state(saved.data)
            self.data_state, self.saved_at = saved.data, saved.step
            self.sums, self.count = saved.counters["sums"], saved.counters["count"]
            if metrics := self.checkpoints.metrics(saved.step):
                self.validated = (saved.step, metrics)
            say(f"Going on from step {saved.step} ({self.checkpoints.folder}).")
            return saved.state, saved.step
        state = init_state(run.objective, run.optimisers, jax.random.key(run.seed), run.mesh, run.step)
        if run.init_from is None:
            return state, 0
        given = load_variables(run.init_from, shapes.variables)
        say(f"Starting from the weights of {run.init_from} ({', '.join(given)}).")
        given = jax.tree.map(jax.device_put, given, {name: places.variables[name] for name in given})
        ema = {name: given[name]["params"] for name in state.ema if name in given}
        # A copy: donating one array twice is an error.
        ema = jax.tree.map(jnp.copy, ema)
        return dataclasses.replace(state, variables={**state.variables, **given}, ema={**state.ema, **ema}), 0

    def _compile(self) -> None:
        """Compile for the batches as they come; the compiled step is counted and then run, so it is made once."""
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
        self.flops = program_flops(lowered, chips, run.step.accumulate)
        self.step = lowered.compile()
        self.peak = peak_flops(mesh.devices.flat[0].device_kind)
        self.pack = jax.jit(lambda metrics: jnp.stack([metrics[name].astype(jnp.float32) for name in sorted(metrics)]))
        self.draw = jax.jit(run.objective.panels, out_shardings=replicated(mesh))
        self.all_finite = jax.jit(
            lambda tree: {
                name: jnp.all(jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(part)]))
                for name, part in tree.items()
            },
            out_shardings=replicated(mesh),
        )
        weights = sum(x.size for v in self.state.variables.values() for x in jax.tree.leaves(v.get("params", {})))
        work = f", {self.flops * mesh.size / 1e9:.1f} GFLOP a step" if self.flops else ""
        say(
            f"{weights / 1e6:.2f} M parameters in {', '.join(self.state.variables)}; {mesh.size} "
            f"{mesh.devices.flat[0].device_kind} device(s){work}; compiled in {time.perf_counter() - began:.0f} s."
        )

    # -- The steps --------------------------------------------------------------------------------------------------

    def train(self) -> Outcome:
        """All steps, then the last validation, checkpoint and export."""
        if self.at < self.loop.steps:
            self._compile()
        self.clock = StepClock()
        self.waited = 0.0
        while self.at < self.loop.steps:
            self._one_step()
            self._now_and_then()
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
        """Dispatch a step, then fetch the figures of the one before it, so that the devices never wait for the
        host."""
        began = time.perf_counter()
        batch, self.first = self.first or self._next_batch(), None
        self.waited += time.perf_counter() - began
        self.profiler.before_step()
        self.batch = self.augment(np.int32(self.at), batch)
        self.state, metrics = self.step(self.state, self.frozen, self.batch)
        self.at += 1
        self.pending.append((self.at, (sorted(metrics), self.pack(metrics))))
        self.profiler.after_step(metrics)
        while len(self.pending) > 1:
            self._take_figures()

    def _next_batch(self) -> Batch:
        try:
            batch = next(self.run.data)
        except StopIteration:
            raise InputError("The training data ended before the run did; let it repeat.") from None
        self.data_state = self.run.data.get_state()
        return batch

    def _take_figures(self) -> None:
        """Wait for the oldest step, check its figures, add them up and log them when it is time."""
        step, (names, packed) = self.pending.popleft()
        values = dict(zip(names, np.asarray(packed).tolist(), strict=True))
        self.clock.tick()
        for name, value in values.items():
            if not np.isfinite(value):
                raise NonFiniteError(self._not_finite(name, value, step))
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1
        if self.loop.log_every and step % self.loop.log_every == 0:
            self._log(step)

    def _not_finite(self, name: str, value: Any, step: int) -> str:
        kept = self.checkpoints.latest()
        good = f"the last good checkpoint is that of step {kept}" if kept is not None else "there is no checkpoint yet"
        return (
            f"Training stopped: {name} is {value} at step {step}; {good} in {self.checkpoints.folder}. Lower the "
            "learning rate or clip the gradients, in another work folder with init_from."
        )

    def _log(self, step: int) -> None:
        means = {name: total / self.count for name, total in self.sums.items()}
        self.sums, self.count = {}, 0
        rate = self.clock.read()
        speed = {"speed/steps_per_second": rate, "speed/samples_per_second": rate * self.run.batch_size}
        speed["speed/waiting_for_data"] = self.waited  # seconds since the last line
        self.waited = 0.0
        if self.flops:
            speed["speed/tflops_per_chip"] = self.flops * rate / 1e12
            if self.peak:
                speed["speed/mfu"] = self.flops * rate / self.peak
        self.writer.scalars(step, {**{f"train/{n}": x for n, x in means.items()}, **speed})
        self._progress(step, means, speed)

    def _progress(self, step: int, means: Mapping[str, float], speed: Mapping[str, float]) -> None:
        """One line: on a terminal it stays in its place."""
        rate = speed["speed/steps_per_second"]
        left = int((self.loop.steps - step) / max(rate, 1e-9))
        names = sorted((n for n in means if not n.startswith("grad_norm/")), key=lambda n: (n != "loss", n))
        shown = "  ".join(f"{n.removeprefix('loss/')} {means[n]:.4g}" for n in names[:7])
        mfu = f"  MFU {speed['speed/mfu']:.1%}" if "speed/mfu" in speed else ""
        line = (
            f"step {step}/{self.loop.steps}  {shown}  {rate:.3g} steps/s  {speed['speed/samples_per_second']:.3g} "
            f"samples/s{mfu}  {left // 3600}:{left // 60 % 60:02}:{left % 60:02} left"
        )
        say(line, progress=True)

    def _flush(self) -> None:
        """Wait for every step, so that what is saved or shown is known to be good."""
        while self.pending:
            self._take_figures()

    # -- Between the steps ------------------------------------------------------------------------------------------

    def _now_and_then(self) -> None:
        """Validation, panels and checkpoints, in this order: a checkpoint knows how good it is."""
        due = [
            action
            for every, action in (
                (self.loop.validate_every if self.run.validator else 0, self._validate),
                (self.loop.panel_every, self._panels),
                (self.loop.checkpoint_every, self._save),
            )
            if every and self.at % every == 0
        ]
        if due:
            self._flush()
            with self._aside():
                for action in due:
                    action()

    @contextlib.contextmanager
    def _aside(self) -> Iterator[None]:
        """Time that does not count against the steps."""
        began = time.perf_counter()
        yield
        self.clock.pause(time.perf_counter() - began)

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
            found = self.run.validator.panels(variables, rows)
        else:
            found = jax.device_get(self.draw(variables, self.batch))
        if jax.process_index() == 0:
            self.writer.images(self.at, {"panels": contact_sheet(found, rows=rows)})

    def _save(self) -> None:
        if self.saved_at == self.at:
            return
        self._flush()
        for name, good in jax.device_get(self.all_finite(self.state.variables)).items():
            if not good:
                raise NonFiniteError(self._not_finite(f"a weight of {name}", "not finite", self.at))
        metrics = self.validated[1] if self.validated and self.validated[0] == self.at else None
        counters = {"sums": self.sums, "count": self.count}
        self.checkpoints.save(self.at, self.state, data=self.data_state, counters=counters, metrics=metrics)
        self.saved_at = self.at

    # -- The end ----------------------------------------------------------------------------------------------------

    def _finish(self) -> Outcome:
        self._flush()
        if self.loop.validate_every:
            self._validate()
        self._save()
        self.checkpoints.wait()
        variables, quality, step = self._shipped()
        folder = None
        if self.run.export:
            provenance = {**self.run.provenance, "steps": step, "losses_use": list(self.run.objective.notes)}
            whole = jax.jit(lambda tree: tree, out_shardings=replicated(self.run.mesh))(variables)
            if jax.process_index() == 0:
                folder = self.run.export(jax.tree.map(np.asarray, whole), provenance, quality)
        say(f"Finished after step {self.at}." + (f" The model is in {folder}." if folder else ""))
        return Outcome(self.at, None, quality, folder)

    def _shipped(self) -> tuple[Variables, dict[str, float], int]:
        """The weights to export, their validation metrics and their step."""
        quality = dict(self.validated[1]) if self.validated else {}
        best = self.checkpoints.best()
        if self.loop.export == "last" or best is None or best == self.at:
            return self.state.averaged(), quality, self.at
        target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), self.state)
        saved = self.checkpoints.restore(target, best)
        return saved.state.averaged(), self.checkpoints.metrics(best), best
