"""Checkpoints through orbax: state, position in the data, counters, and settings.

`WORKDIR/checkpoints/STEP/` appears whole or not at all (orbax writes beside it and renames), so that a killed run
resumes from the last one.
"""

import json
import os
import pathlib
import shutil
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import numpy as np

from avfr_jax.errors import CheckpointError, OutputError
from avfr_jax.model_store import load_weights
from avfr_jax.training.objective import Variables
from avfr_jax.training.state import TrainState

FOLDER = "checkpoints"
T = TypeVar("T")


class Saved(NamedTuple):
    """A restored checkpoint: steps taken, state on the devices, state of the data iterator (empty where none was saved)
    and plain values of the loop."""

    step: int
    state: TrainState
    data: bytes
    counters: dict[str, Any]


def first_difference(saved: Any, asked: Any, where: str = "") -> tuple[str, Any, Any] | None:
    """Find the first setting, in the order of `asked`, that differs between two trees of plain values.

    Returns:
      Its dotted name and both values (`None` where one side lacks it), or None where all agree.
    """
    if isinstance(saved, Mapping) and isinstance(asked, Mapping):
        for name in [*asked, *(n for n in saved if n not in asked)]:
            here = f"{where}.{name}" if where else str(name)
            if different := first_difference(saved.get(name), asked.get(name), here):
                return different
        return None
    return None if saved == asked else (where, saved, asked)


class Checkpoints:
    """Checkpoints of one run; every process opens them and calls every method at the same step."""

    def __init__(
        self,
        workdir: pathlib.Path,
        settings: Mapping[str, Any],
        *,
        keep_last: int = 2,
        keep_best: int = 1,
        best_metric: str = "l1",
        best_is: Literal["lowest", "highest"] = "lowest",
    ) -> None:
        """Open `workdir/checkpoints` and delete half-written checkpoints of a killed run.

        Args:
          workdir: the run's folder, visible to every process.
          settings: plain values; a checkpoint made with others is refused.
          keep_last, keep_best, best_metric, best_is: see `LoopConfig`.

        Raises:
          OutputError: the folder cannot be made.
        """
        import orbax.checkpoint as ocp
        from orbax.checkpoint import checkpoint_managers as policies

        self.folder = workdir.absolute() / FOLDER
        self._ocp = ocp
        self._settings = json.loads(json.dumps(settings))  # as read back: tuples are lists
        self._sign = 1.0 if best_is == "highest" else -1.0
        self._metric = best_metric
        best = policies.BestN(get_metric_fn=self._rank, n=keep_best, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            best_fn=self._rank,  # makes orbax store the metrics; the policy below decides
            preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(max(keep_last, 1)), best]),
            cleanup_tmp_directories=True,
            enable_async_checkpointing=True,
        )
        try:
            self._manager = ocp.CheckpointManager(self.folder, options=options)
        except OSError as error:
            raise OutputError(f"The folder {self.folder} cannot be written to ({error.strerror}).") from None

    def _rank(self, metrics: Mapping[str, float]) -> float:
        """Larger is better; a checkpoint that was not validated comes last."""
        return self._sign * metrics[self._metric] if self._metric in metrics else -np.inf

    def latest(self) -> int | None:
        """Step of the newest checkpoint."""
        step: int | None = self._manager.latest_step()
        return step

    def best(self) -> int | None:
        """Step of the checkpoint with the best validation metric; the newest where none was validated."""
        scored = {step: self._rank(self.metrics(step)) for step in self._manager.all_steps()}
        return max(scored, key=lambda step: (scored[step], step)) if scored else None

    def metrics(self, step: int) -> dict[str, float]:
        """Validation metrics of a checkpoint; empty where it was not validated."""
        return dict(self._manager.metrics(step) or {})

    def save(
        self,
        step: int,
        state: TrainState,
        *,
        data: bytes = b"",
        counters: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Start to save. Arrays are copied before this returns, so that the state may be donated to the next step; an
        error of the previous save, which ran in the background, is raised here.

        Args:
          step: number of steps taken.
          state: on the devices.
          data: UTF-8 text, state of the data iterator; that of process 0 is kept.
          counters: plain values, the same in every process.
          metrics: of a validated state.

        Raises:
          OutputError: this checkpoint, or the one before it, could not be written; older ones are untouched.
        """
        about = {"settings": self._settings, "data": data.decode(), "counters": dict(counters or {})}
        about = json.loads(json.dumps(about))  # a copy, written in the background
        ocp = self._ocp
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), about=ocp.args.JsonSave(about))
        self._writing(lambda: self._manager.save(step, args=items, metrics=dict(metrics or {}), force=True), step)

    def wait(self) -> None:
        """Wait until the last save is on the disk, or raise OutputError."""
        self._writing(self._manager.wait_until_finished, None)

    def close(self) -> None:
        """`wait`, and release threads."""
        self._writing(self._manager.close, None)

    def abandon(self) -> None:
        """Release threads after an error, without raising another."""
        try:
            self._manager.close()
        except Exception:
            self._clear_half_written()

    def restore(self, shapes: TrainState, step: int | None = None) -> Saved:
        """Read a checkpoint.

        Args:
          shapes: `jax.ShapeDtypeStruct` leaves with their shardings; they need not be those it was saved with.
          step: None is the newest.

        Raises:
          CheckpointError: there is none, it is damaged, or it was made with other settings.
        """
        step = self.latest() if step is None else step
        if step is None:
            raise CheckpointError(f"There is no checkpoint in {self.folder}.")
        ocp = self._ocp
        about = self._reading(step, ocp.args.Composite(about=ocp.args.JsonRestore())).about
        self._check_settings(about["settings"], step)
        state = self._reading(step, ocp.args.Composite(state=ocp.args.StandardRestore(shapes))).state
        return Saved(step, state, about["data"].encode(), about["counters"])

    def _check_settings(self, saved: Mapping[str, Any], step: int) -> None:
        if different := first_difference(saved, self._settings):
            name, before, now = different
            group = any(isinstance(value, Mapping) for value in (before, now))
            what = f"other settings of {name}" if group else f"{name} = {before!r}, not {now!r}"
            raise CheckpointError(
                f"Checkpoint {step} in {self.folder} was made with {what}; take another work folder, or those settings."
            )

    def _reading(self, step: int, items: Any) -> Any:
        try:
            return self._manager.restore(step, args=items)
        except (ValueError, KeyError, TypeError, OSError, RuntimeError) as error:
            raise CheckpointError(
                f"Checkpoint {step} in {self.folder} is damaged ({_reason(error)}); delete the folder "
                f"{self.folder / str(step)} to resume from the one before it."
            ) from None

    def _writing(self, action: Callable[[], T], step: int | None) -> T:
        try:
            return action()
        except (ValueError, OSError, RuntimeError) as error:
            self._clear_half_written()
            kept = max((int(p.name) for p in self.folder.glob("[0-9]*") if p.name.isdigit()), default=None)
            about = "a checkpoint" if step is None else f"a checkpoint at or before step {step}"
            intact = "there is none before it" if kept is None else f"that of step {kept} is intact"
            hint = "free some space" if _full(error) else "see to the disk"
            raise OutputError(
                f"Saving {about} to {self.folder} failed ({_reason(error)}); {intact}: {hint} and start again."
            ) from None

    def _clear_half_written(self) -> None:
        """Delete the remains of a failed save."""
        if jax.process_index() == 0:
            for scratch in self.folder.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(scratch, ignore_errors=True)


def _chain(error: BaseException) -> list[BaseException]:
    """An error with its causes and contexts."""
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in chain:
        chain.append(following)
        following = following.__cause__ or following.__context__
    return chain


_FULL = ("No space left on device", "Disk quota exceeded", "File too large")


def _full(error: BaseException) -> str | None:
    """The system's words for a full disk, where they are the cause of an error."""
    return next((words for words in _FULL if any(words in str(e) for e in _chain(error))), None)


def _reason(error: BaseException) -> str:
    """A short reason from a long message."""
    return (
        _full(error)
        or next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
    )


def load_variables(folder: str | os.PathLike[str], shapes: Variables) -> Variables:
    """Load the weights of those networks that a model folder holds, as host arrays.

    Args:
      folder: a model folder, as `avfr_jax.model_store.save_model` writes.
      shapes: `{network: {collection: tree}}` of what is trained.

    Raises:
      CheckpointError: it is no model folder, holds none of the networks, or they are of other shapes.
    """
    folder = pathlib.Path(folder)
    try:
        held = json.loads((folder / "model.json").read_text())["provenance"]["networks"]
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(f"{folder} is no model folder to start from: it has no readable model.json.") from None
    if not (wanted := {name: shapes[name] for name in shapes if name in held}):
        raise CheckpointError(f"{folder} holds none of the networks to train ({', '.join(shapes)}).")
    variables: Variables = jax.tree.map(np.asarray, load_weights(folder, wanted))
    return variables
