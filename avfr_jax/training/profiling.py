"""How fast a run is: steps a second, floating-point operations a step against a chip's peak, a profiler window."""

import pathlib
import time
from typing import Any

import jax

# Peak of one chip in dense bfloat16, FLOP a second: NVIDIA's data sheets (A100, H100, H200; half of the figures "with
# sparsity") and Google's Cloud TPU pages. The first name found in `device_kind` counts.
_PEAKS = (
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("H100", 989.4e12),
    ("H200", 989.4e12),
    ("A100", 312e12),
    ("TPU v4", 275e12),
    ("TPU v5 lite", 197e12),
    ("TPU v5e", 197e12),
    ("TPU v5", 459e12),  # v5p calls itself so
    ("TPU v6 lite", 918e12),
    ("TPU v6e", 918e12),
)


def peak_flops(device_kind: str) -> float | None:
    """Peak FLOP a second of a chip in dense bfloat16; None for one that the table does not hold (any CPU)."""
    kind = device_kind.lower()
    if "tpu v4 lite" in kind:  # v4i, another chip
        return None
    return next((peak for name, peak in _PEAKS if name.lower() in kind), None)


def program_flops(lowered: Any, chips: int = 1, passes: int = 1) -> float | None:
    """Floating-point operations that one step asks of each chip, from XLA's cost analysis.

    The program is counted before it is compiled: afterwards a convolution may be a call into a vendor's library, which
    the analysis cannot see into.

    Args:
      lowered: `jax.jit(step).lower(…)`, over the global batch.
      chips: the program is divided over so many.
      passes: how often its accumulation loop runs; the analysis counts a loop's body once.

    Returns:
      FLOPs a chip and step; None where the backend has no analysis.
    """
    try:
        costs = lowered.cost_analysis()
    except (NotImplementedError, RuntimeError):
        return None
    costs = costs[0] if isinstance(costs, list | tuple) and costs else costs
    flops = (costs or {}).get("flops", 0.0)
    return flops * passes / chips if flops > 0 else None


class StepClock:
    """Steps a second since it was last read, without the time spent in pauses (validation, panels, saving)."""

    def __init__(self) -> None:
        self._start, self._steps, self._paused = time.perf_counter(), 0, 0.0

    def tick(self) -> None:
        """A step was finished."""
        self._steps += 1

    def pause(self, seconds: float) -> None:
        """Time that was not spent on steps."""
        self._paused += seconds

    def read(self) -> float:
        """Steps a second, and start again."""
        now = time.perf_counter()
        rate = self._steps / max(now - self._start - self._paused, 1e-9)
        self._start, self._steps, self._paused = now, 0, 0.0
        return rate


class ProfilerWindow:
    """Traces a few steps into `workdir/profile`, once the first ones (compilation, caches) are over."""

    def __init__(self, workdir: pathlib.Path, first: int, steps: int) -> None:
        """Trace `steps` steps after the first `first` ones of this process; 0 steps trace nothing."""
        self._folder, self._first, self._last = workdir / "profile", first, first + steps
        self._seen, self._running = 0, False

    def before_step(self) -> None:
        """Start the trace when its time has come."""
        if self._seen == self._first < self._last:
            jax.profiler.start_trace(str(self._folder))
            self._running = True
        self._seen += 1

    def after_step(self, result: Any) -> None:
        """Stop the trace after its last step; waits for `result` then, so that the step is inside."""
        if self._running and self._seen == self._last:
            jax.block_until_ready(result)
            self.close()

    def close(self) -> None:
        """Stop a trace that is running."""
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
