"""What a compiled step would cost, put into words and numbers."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from experiments import costs
from experiments.hardware import Slice

_LISTED = 10
_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of HBM on one chip.

    Attributes:
      arguments: state, frozen weights and batch.
      outputs: the new state and the metrics.
      donated: part of the outputs that takes the place of arguments.
      temporaries: activations and everything else between.
      code: the program.
      capacity: of the chip.
    """

    arguments: int
    outputs: int
    donated: int
    temporaries: int
    code: int
    capacity: float

    @property
    def total(self) -> int:
        """Needed while a step runs."""
        return self.arguments + self.outputs - self.donated + self.temporaries + self.code

    @property
    def fits(self) -> bool:
        """Whether the chip has so much."""
        return self.total <= self.capacity


@dataclasses.dataclass(frozen=True)
class Report:
    """What a compiled step would cost.

    Attributes:
      where: the slice it was compiled for.
      batch_size: samples a step.
      compile_seconds: on this machine.
      memory: on each chip.
      program_flops: of the compiled program on each chip, loops counted once, as the compiler counts them.
      bytes_accessed: as the compiler counts them, on-chip memory included.
      optimal_seconds: the compiler's own sum; None where it could not price every operation.
      program: operations and exchanges.
      padded: see `costs.padded_buffers`.
      open_loops: loops whose length the program text does not tell; they are counted once.
    """

    where: Slice
    batch_size: int
    compile_seconds: float
    memory: Memory
    program_flops: float
    bytes_accessed: float
    optimal_seconds: float | None
    program: costs.Program
    padded: list[costs.Padded]
    open_loops: int


def at_sizes(report: Report, sizes: Sequence[Slice]) -> list[costs.Estimate]:
    """The step on other slices of the same chip, each chip's part as compiled."""
    return [costs.estimate(report.program, where) for where in sizes]


def as_json(name: str, report: Report, scaled: Sequence[tuple[costs.Estimate, bool]], samples: int) -> str:
    """Everything, for programs; times in seconds, sizes in bytes.

    Args:
      name: of the config.
      report: of the slice that was asked for.
      scaled: estimates, and whether each was compiled (True) or scaled from another.
      samples: that the schedule sees.
    """
    program, here = report.program, costs.estimate(report.program, report.where)
    content = {
        "config": name,
        "topology": report.where.name,
        "chips": report.where.chips,
        "batch_size": report.batch_size,
        "compile_seconds": report.compile_seconds,
        "memory": {**dataclasses.asdict(report.memory), "total": report.memory.total, "fits": report.memory.fits},
        "model_flops": program.flops,
        "program_flops": report.program_flops,
        "hbm_bytes": program.hbm_bytes,
        "bytes_accessed": report.bytes_accessed,
        "optimal_seconds": report.optimal_seconds,
        "collectives": [dataclasses.asdict(row) for row in exchange_rows(report)],
        "strays": [dataclasses.asdict(c) for c in costs.strays(program)],
        "estimate": _estimate(here, samples, True),
        "slices": [_estimate(one, samples, compiled) for one, compiled in scaled],
        "operations": [dataclasses.asdict(o) | {"layer": o.layer} for o in costliest(report)],
        "layers": [{"layer": layer, "seconds": seconds} for layer, seconds in costliest_layers(report)],
        "padded": [dataclasses.asdict(p) for p in report.padded[:_LISTED]],
        "samples": samples,
    }
    return json.dumps(content, indent=1)


def _estimate(one: costs.Estimate, samples: int, compiled: bool) -> dict[str, Any]:
    return {
        **dataclasses.asdict(one),
        "bound": one.bound,
        "roofline": one.roofline,
        "utilisation": one.utilisation,
        "samples_per_second": one.samples_per_second,
        "at_most": one.at_most,
        "hours": one.hours(samples),
        "compiled": compiled,
    }


@dataclasses.dataclass(frozen=True)
class ExchangeRow:
    """Exchanges of one kind within groups of one size: how many a step, bytes of the arrays, bytes each chip sends."""

    kind: str
    group: int
    count: int
    bytes: int
    sent: float


def exchange_rows(report: Report) -> list[ExchangeRow]:
    """The exchanges of a step by kind, the most sent first."""
    rows: dict[tuple[str, int], ExchangeRow] = {}
    for one in report.program.collectives:
        old = rows.get((one.kind, one.group), ExchangeRow(one.kind, one.group, 0, 0, 0.0))
        rows[one.kind, one.group] = ExchangeRow(
            one.kind, one.group, old.count + one.times, old.bytes + one.times * one.size,
            old.sent + one.times * one.sent(),
        )  # fmt: skip
    return sorted(rows.values(), key=lambda r: -r.sent)


def costliest(report: Report) -> list[costs.Operation]:
    """The operations that take longest."""
    return sorted(report.program.operations, key=lambda o: -o.seconds)[:_LISTED]


def costliest_layers(report: Report) -> list[tuple[str, float]]:
    """The layers that take longest, and their seconds."""
    total: dict[str, float] = {}
    for one in report.program.operations:
        total[one.layer] = total.get(one.layer, 0.0) + one.seconds
    return sorted(total.items(), key=lambda item: -item[1])[:_LISTED]


# ------------------------------------------------------------------------------------------------------------ as text


def as_text(name: str, report: Report, scaled: Sequence[tuple[costs.Estimate, bool]], samples: int) -> str:
    """Everything, for people; arguments as for `as_json`."""
    where = report.where
    parts = [
        f"{name} on {where.name}: {where.chips} chips, {report.program.batch} samples a chip, {report.batch_size} a "
        f"step; compiled in {report.compile_seconds:.0f} s",
        _memory(report),
        _work(report),
        _exchanges(report),
        *_warnings(report),
        _time(report),
        _slices(report, scaled, samples),
        _operations(report),
        _layers(report),
        _padding(report),
    ]
    return "\n\n".join(parts)


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned, the last one to the left."""
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    text = [
        "  " + "  ".join([*(c.rjust(w) for c, w in zip(line[:-1], widths, strict=False)), line[-1]]) for line in lines
    ]
    return "\n".join([title, *text])


def _memory(report: Report) -> str:
    m = report.memory
    rows = [
        (m.arguments, "arguments: state, frozen networks, batch"),
        (m.outputs, "outputs: new state, metrics"),
        (-m.donated, "donated: outputs that take the place of arguments"),
        (m.temporaries, "temporaries: activations and the like"),
        (m.code, "code"),
    ]
    spare = 1 - m.total / m.capacity
    verdict = f"fits, {spare:.0%} to spare" if m.fits else f"DOES NOT FIT, {-spare:.0%} too much"
    lines = [f"  {size / _GIB:7.3f}  {what}" for size, what in rows]
    return "\n".join(
        ["Memory on each chip, GiB", *lines, f"  {m.total / _GIB:7.3f}  of {m.capacity / _GIB:.1f}: {verdict}"]
    )


def _work(report: Report) -> str:
    program, optimal = report.program, report.optimal_seconds
    unpriced = [o for o in program.operations if not o.cycles]
    rows = sum(o.rows for o in program.operations)
    lines = [
        "Work of each chip in a step",
        f"  {program.flops / 1e12:9.3f} TFLOP  of the model",
        f"  {report.program_flops / 1e12:9.3f} TFLOP  of the compiled program (loops counted once)",
        f"  {program.hbm_bytes / 1e9:9.3f} GB     to and from HBM, padding included",
        f"  {report.bytes_accessed / 1e9:9.3f} GB     accessed as the compiler counts, on-chip memory included",
        f"  {optimal * 1e3:9.3f} ms     the compiler's optimal_seconds"
        if optimal
        else "          -        the compiler's optimal_seconds: it cannot price every operation",
        f"  {sum(o.cycles for o in program.operations) / 1e6:9.3f} M      cycles estimated by the compiler; "
        f"{len(unpriced)} operations without an estimate, taken at the speed of HBM",
    ]
    if rows:
        lines.append(f"  {rows / 1e6:9.3f} M      rows gathered or scattered, which no estimate prices")
    if report.open_loops:
        lines.append(f"  {report.open_loops:9d}        loops of unknown length, counted once")
    return "\n".join(lines)


def _exchanges(report: Report) -> str:
    rows = [
        (str(r.count), f"{r.bytes / 1e6:.2f}", f"{r.sent / 1e6:.2f}", f"{r.kind} between {r.group} chips")
        for r in exchange_rows(report)
    ]
    if not rows:
        return "Exchanges between chips: none"
    return _table("Exchanges between chips in a step", ("count", "MB", "MB sent", "kind"), rows)


def _warnings(report: Report) -> list[str]:
    """What would spoil a larger slice."""
    return [
        f"WARNING: {c.kind} of {c.size * c.times / 1e6:.1f} MB between all chips: part of the batch leaves its chip, "
        f"and more so the larger the slice; {c.instruction}  {c.op_name}"
        for c in costs.strays(report.program)[:_LISTED]
    ]


def _time(report: Report) -> str:
    e = costs.estimate(report.program, report.where)
    return "\n".join(
        [
            "Time of a step, ms",
            f"  {e.flop_bound * 1e3:8.2f}  the model's FLOPs at the chip's peak",
            f"  {e.hbm_bound * 1e3:8.2f}  the traffic at the speed of HBM",
            f"  {e.ici_bound * 1e3:8.2f}  the exchanges at the speed of all links",
            f"  {e.latency * 1e3:8.2f}  the exchanges' latency, 1 us a hop",
            f"  {e.compute * 1e3:8.2f}  the operations one after the other, by the compiler's cycles",
            f"  {e.step * 1e3:8.2f}  in all, nothing overlapped: {e.roofline:.0%} of the roofline ({e.bound}-bound), "
            f"model FLOP utilisation {e.utilisation:.1%}",
        ]
    )


def _slices(report: Report, scaled: Sequence[tuple[costs.Estimate, bool]], samples: int) -> str:
    rows = [
        (
            str(e.chips), str(e.batch), f"{e.step * 1e3:.1f}", f"{e.samples_per_second:.0f}", f"{e.at_most:.0f}",
            f"{e.roofline:.0%}", f"{e.hours(samples):.2f}", "compiled" if compiled else "scaled",
        )
        for e, compiled in scaled
    ]  # fmt: skip
    title = (
        f"Slices of {report.where.chip.name}, {report.program.batch} samples a chip; hours for the schedule's "
        f"{samples:,} samples.\n"
        "Scaled: each chip's work as compiled above, the exchanges counted anew for the slice."
    )
    header = ("chips", "batch", "ms", "samples/s", "at most", "roofline", "hours", "")
    return _table(title, header, rows)


def _operations(report: Report) -> str:
    whole = sum(o.seconds for o in report.program.operations) or 1.0
    rows = [
        (
            f"{o.seconds * 1e3:.3f}", f"{o.seconds / whole:.1%}", str(o.times), f"{o.traffic / 1e6:.1f}",
            f"{o.name} = {o.shape} {o.opcode}  {o.op_name or '(no source)'}",
        )
        for o in costliest(report)
    ]  # fmt: skip
    header = ("ms", "share", "times", "HBM MB", "operation")
    return _table(f"The {len(rows)} costliest of {len(report.program.operations)} operations", header, rows)


def _layers(report: Report) -> str:
    whole = sum(o.seconds for o in report.program.operations) or 1.0
    rows = [(f"{s * 1e3:.3f}", f"{s / whole:.1%}", layer) for layer, s in costliest_layers(report)]
    return _table(f"The {len(rows)} costliest layers", ("ms", "share", "layer"), rows)


def _padding(report: Report) -> str:
    rows = [
        (
            f"{p.size / 1e6:.1f}", f"{p.stored / 1e6:.1f}", f"{p.stored / p.size:.1f}", str(p.count),
            f"{p.shape}  {p.instruction}  {p.op_name}",
        )
        for p in report.padded[:_LISTED]
    ]  # fmt: skip
    if not rows:
        return "No large buffer is padded."
    header = ("MB held", "MB stored", "factor", "such", "shape, first line and where it comes from")
    return _table(f"The {len(rows)} large buffers with the most padding", header, rows)
