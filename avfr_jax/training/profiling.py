"""FLOPs of a step, a chip's peak, and profiler traces."""

import pathlib
from typing import Any

import jax

# Peak of one chip in dense bfloat16, FLOP a second: NVIDIA's data sheets (A100, H100, H200; half of the figures "with
# sparsity") and Google's Cloud TPU pages. The first name that `device_kind` contains counts.
_PEAKS = (
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("H100", 989.4e12),
    ("H200", 989.4e12),
    ("A100", 312e12),
    ("TPU v4", 275e12),
    ("TPU v5 lite", 197e12),
    ("TPU v5e", 197e12),
    ("TPU v5", 459e12),  # the name of a v5p
    ("TPU v6 lite", 918e12),
    ("TPU v6e", 918e12),
)


def peak_flops(device_kind: str) -> float | None:
    """Peak FLOP a second of a chip in dense bfloat16; None for one outside the table (any CPU)."""
    kind = device_kind.lower()
    if "tpu v4 lite" in kind:  # v4i, another chip
        return None
    return next((peak for name, peak in _PEAKS if name.lower() in kind), None)


def program_flops(lowered: Any, chips: int = 1, passes: int = 1) -> float | None:
    """FLOPs of a step on each chip, from XLA's cost analysis before compilation, which may replace convolutions by
    calls into a library that the analysis cannot count.

    Args:
      lowered: `jax.jit(step).lower(…)`, over the global batch.
      chips: the program is divided over so many.
      passes: trips of its accumulation loop, whose body the analysis counts once.

    Returns:
      None where the backend has no analysis.
    """
    try:
        costs = lowered.cost_analysis()
    except (NotImplementedError, RuntimeError):
        return None
    costs = costs[0] if isinstance(costs, list | tuple) and costs else costs
    flops = (costs or {}).get("flops", 0.0)
    return flops * passes / chips if flops > 0 else None


class ProfilerWindow:
    """Trace of a few steps into `workdir/profile`, after the first ones (compilation, caches)."""

    def __init__(self, workdir: pathlib.Path, first: int, steps: int) -> None:
        """Trace `steps` steps after the first `first` ones of this process; 0 steps trace nothing."""
        self._folder, self._first, self._last = workdir / "profile", first, first + steps
        self._seen, self._running = 0, False

    def before_step(self) -> None:
        """Start the trace before its first step."""
        if self._seen == self._first < self._last:
            jax.profiler.start_trace(str(self._folder))
            self._running = True
        self._seen += 1

    def after_step(self, result: Any) -> None:
        """Stop the trace after its last step, once `result` is ready."""
        if self._running and self._seen == self._last:
            jax.block_until_ready(result)
            self.close()

    def close(self) -> None:
        """Stop a running trace."""
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
