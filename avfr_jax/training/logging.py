"""Metric writers: JSON lines, TensorBoard, and Weights & Biases where requested; in process 0 alone."""

import contextlib
import json
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from avfr_jax.errors import MissingBackendError, OutputError
from avfr_jax.interrupts import scratch_beside

METRICS_FILE = "metrics.jsonl"


class MetricWriter(Protocol):
    """Writes metrics and images of a run."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write the metrics of one step."""
        ...

    def images(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """Write images of one step, uint8 `[H, W, 3]` by name."""
        ...

    def close(self) -> None:
        """Flush, and release files and connections."""
        ...


class JsonLines:
    """Metrics as one JSON object a line in `metrics.jsonl`, images as PNG files in `panels/`.

    A run resumed from step S first drops the lines after S.
    """

    def __init__(self, workdir: pathlib.Path, first_step: int = 0) -> None:
        """Open the file for the steps after `first_step`.

        Raises:
          OutputError: the folder cannot be written to.
        """
        self._folder, path = workdir, workdir / METRICS_FILE
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            kept = [line for line in read_metrics(path) if line["step"] <= first_step] if path.exists() else []
            with scratch_beside(path) as scratch:
                scratch.write_text("".join(json.dumps(line) + "\n" for line in kept))
                scratch.replace(path)  # atomic: a kill here leaves the old file or the new one
            self._file = path.open("a")
        except OSError as error:
            raise OutputError(f"{path} cannot be written ({error.strerror}).") from None

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write one line; a value that is not finite becomes null, as JSON has no other way."""
        plain = {name: float(x) if math.isfinite(x) else None for name, x in values.items()}
        with self._writing():
            self._file.write(json.dumps({"step": step, **plain}) + "\n")
            self._file.flush()  # a kill loses nothing

    def images(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """Write PNG files, where Pillow is installed."""
        try:
            from PIL import Image
        except ImportError:
            return
        folder = self._folder / "panels"
        with self._writing():
            folder.mkdir(exist_ok=True)
            for name, image in values.items():
                Image.fromarray(image).save(folder / f"{step:08d}-{name.replace('/', '-')}.png")

    def close(self) -> None:
        with self._writing():
            self._file.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"The metrics of the run cannot be written to {self._folder} ({error.strerror})."
            ) from None


def read_metrics(path: str | pathlib.Path) -> list[dict[str, Any]]:
    """Read the lines of a `metrics.jsonl`, without a last line that a kill cut off."""
    lines = []
    for line in pathlib.Path(path).read_text(errors="replace").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            value = json.loads(line)
            if isinstance(value, dict) and isinstance(value.get("step"), int):
                lines.append(value)
    return lines


class TensorBoard:
    """Event files in `tensorboard/`, written by tensorboardX (no TensorFlow)."""

    def __init__(self, workdir: pathlib.Path, first_step: int = 0) -> None:
        """Open a new event file; events of earlier ones after `first_step` are hidden.

        Raises:
          MissingBackendError: tensorboardX is not installed.
        """
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise MissingBackendError(
                "TensorBoard logs need the package tensorboardX (pip install tensorboardX)."
            ) from None
        self._writer = SummaryWriter(str(workdir / "tensorboard"), purge_step=first_step + 1 if first_step else None)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, x in values.items():
            self._writer.add_scalar(name, float(x), step)

    def images(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        for name, image in values.items():
            self._writer.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases; its id is kept in `wandb_id` for a resumed run."""

    def __init__(self, workdir: pathlib.Path, project: str, config: Mapping[str, Any]) -> None:
        """Start or resume the run.

        Raises:
          MissingBackendError: wandb is not installed.
        """
        try:
            import wandb
        except ImportError:
            raise MissingBackendError("Weights & Biases needs the package wandb (pip install wandb).") from None
        path = workdir / "wandb_id"
        known = path.read_text().strip() if path.exists() else None
        self._wandb = wandb
        self._run = wandb.init(project=project, dir=str(workdir), id=known, resume="allow", config=dict(config))
        if known is None:
            path.write_text(f"{self._run.id}\n")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def images(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        self._run.log({name: self._wandb.Image(image) for name, image in values.items()}, step=step)

    def close(self) -> None:
        self._run.finish()


class CompositeWriter:
    """Forward metrics and images to several writers, or to none."""

    def __init__(self, writers: Sequence[MetricWriter] = ()) -> None:
        self._writers = tuple(writers)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for writer in self._writers:
            writer.scalars(step, values)

    def images(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        for writer in self._writers:
            writer.images(step, values)

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


def open_writers(
    workdir: pathlib.Path,
    *,
    first_step: int = 0,
    tensorboard: bool = True,
    wandb_project: str = "",
    config: Mapping[str, Any] | None = None,
) -> MetricWriter:
    """Open the writers of a run: all of them in process 0, none in the others.

    Event files for TensorBoard are written where tensorboardX is installed; `config` is recorded in Weights & Biases.

    Raises:
      MissingBackendError: Weights & Biases is requested and not installed.
      OutputError: the folder cannot be written to.
    """
    import importlib.util

    import jax

    if jax.process_index() != 0:
        return CompositeWriter()
    writers: list[MetricWriter] = [JsonLines(workdir, first_step)]
    if tensorboard and importlib.util.find_spec("tensorboardX"):
        writers.append(TensorBoard(workdir, first_step))
    if wandb_project:
        writers.append(WeightsAndBiases(workdir, wandb_project, config or {}))
    return CompositeWriter(writers)
