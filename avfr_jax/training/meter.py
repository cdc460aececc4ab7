"""Metrics of the steps: fetched one step behind, checked, averaged over an interval, logged and printed as progress."""

import collections
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.errors import AvfrError
from avfr_jax.training.logging import MetricWriter
from avfr_jax.training.stopping import say


class NonFiniteError(AvfrError):
    """A loss, gradient or weight is not a finite number; training again from the last checkpoint would end likewise."""

    exit_status = 3


class Meter:
    """Metrics between the steps and the log. `sums` and `count` are the state of the current interval.

    Attributes:
      waited: seconds spent waiting for data since the last line of the log.
      flops: of a chip and step; None if unknown.
      peak: of a chip, FLOP a second; None if unknown.
    """

    def __init__(
        self,
        writer: MetricWriter,
        *,
        steps: int,
        log_every: int,
        batch_size: int,
        stop: Callable[[str, Any, int], NonFiniteError],
        sums: Mapping[str, float],
        count: int,
    ) -> None:
        """`stop` makes the error for a metric that is not finite from its name, value and step; `sums` and `count` are
        those of a resumed interval; the rest is as in `LoopConfig` and `Run`."""
        self._writer, self._steps, self._every, self._batch, self._stop = writer, steps, log_every, batch_size, stop
        self.sums, self.count = dict(sums), count
        self.waited = 0.0
        self.flops: float | None = None
        self.peak: float | None = None
        self._began, self._steps_taken = time.perf_counter(), 0
        self._pending: collections.deque[tuple[int, list[str], Any]] = collections.deque()
        self._pack = jax.jit(lambda metrics: jnp.stack([metrics[n].astype(jnp.float32) for n in sorted(metrics)]))

    def start(self) -> None:
        """Start an interval of the clock."""
        self._began, self._steps_taken = time.perf_counter(), 0

    def add(self, step: int, metrics: dict[str, Any]) -> None:
        """Queue the metrics of a step that was dispatched, and take those of the step before, so that the devices never
        wait for the host."""
        self._pending.append((step, sorted(metrics), self._pack(metrics)))
        while len(self._pending) > 1:
            self._take()

    def flush(self) -> None:
        """Wait for every step; all their metrics are then known to be finite."""
        while self._pending:
            self._take()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time that does not count against the steps."""
        began = time.perf_counter()
        yield
        self._began += time.perf_counter() - began

    def _take(self) -> None:
        step, names, packed = self._pending.popleft()
        values = dict(zip(names, np.asarray(packed).tolist(), strict=True))
        self._steps_taken += 1
        for name, value in values.items():
            if not np.isfinite(value):
                raise self._stop(name, value, step)
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1
        if self._every and step % self._every == 0:
            self._log(step)

    def _log(self, step: int) -> None:
        means = {name: total / self.count for name, total in self.sums.items()}
        self.sums, self.count = {}, 0
        rate = self._steps_taken / max(time.perf_counter() - self._began, 1e-9)
        self.start()
        speed = {"speed/steps_per_second": rate, "speed/samples_per_second": rate * self._batch}
        speed["speed/waiting_for_data"], self.waited = self.waited, 0.0
        if self.flops:
            speed["speed/tflops_per_chip"] = self.flops * rate / 1e12
            if self.peak:
                speed["speed/mfu"] = self.flops * rate / self.peak
        self._writer.scalars(step, {**{f"train/{n}": x for n, x in means.items()}, **speed})
        left = int((self._steps - step) / max(rate, 1e-9))
        names = sorted((n for n in means if not n.startswith("grad_norm/")), key=lambda n: (n != "loss", n))
        listed = "  ".join(f"{n.removeprefix('loss/')} {means[n]:.4g}" for n in names[:7])
        mfu = f"  MFU {speed['speed/mfu']:.1%}" if "speed/mfu" in speed else ""
        say(
            f"step {step}/{self._steps}  {listed}  {rate:.3g} steps/s  {speed['speed/samples_per_second']:.3g} "
            f"samples/s{mfu}  {left // 3600}:{left // 60 % 60:02}:{left % 60:02} left",
            progress=True,
        )
