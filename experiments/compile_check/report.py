"""Report of a compiled step as text and as JSON."""

import collections
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.compile_check import costs
from experiments.compile_check.hardware import GIB, Slice

_LISTED = 10


@dataclasses.dataclass(frozen=True)
class Report:
    """A step compiled for a slice.

    Attributes:
      where: the slice.
      batch_size: samples per step.
      compile_seconds: on this machine.
      memory: `Compiled.memory_analysis()`, bytes per chip.
      figures: `Compiled.cost_analysis()`, per chip, loops counted once.
      program: operations and exchanges.
      open_loops: loops of unknown length, which count once.
    """

    where: Slice
    batch_size: int
    compile_seconds: float
    memory: Any
    figures: Mapping[str, float]
    program: costs.Program
    open_loops: int

    @property
    def memory_bytes(self) -> int:
        """HBM that a step needs on each chip; outputs that replace arguments count once."""
        m = self.memory
        return (
            m.argument_size_in_bytes + m.output_size_in_bytes - m.alias_size_in_bytes + m.temp_size_in_bytes
            + m.generated_code_size_in_bytes
        )  # fmt: skip

    @property
    def fits(self) -> bool:
        return self.memory_bytes <= self.where.chip.hbm

    def exchanges(self) -> list[dict[str, Any]]:
        """Exchanges by kind and group size: runs, bytes of the arrays, bytes each chip sends; the most sent first."""
        rows: dict[tuple[str, int], dict[str, Any]] = {}
        for one in self.program.collectives:
            empty = {"kind": one.kind, "group": one.group, "count": 0, "bytes": 0, "sent": 0.0}
            row = rows.setdefault((one.kind, one.group), empty)
            for key, value in (("count", 1), ("bytes", one.size), ("sent", one.sent())):
                row[key] += one.times * value
        return sorted(rows.values(), key=lambda r: -r["sent"])

    def costliest(self) -> list[costs.Operation]:
        return sorted(self.program.operations, key=lambda o: -o.seconds)[:_LISTED]

    def costliest_layers(self) -> list[tuple[str, float]]:
        seconds: dict[str, float] = collections.defaultdict(float)
        for one in self.program.operations:
            seconds[one.layer] += one.seconds
        return sorted(seconds.items(), key=lambda item: -item[1])[:_LISTED]


Scaled = Sequence[tuple[costs.Estimate, bool]]


def as_json(name: str, report: Report, scaled: Scaled, samples: int) -> str:
    """Format as JSON; times in seconds, sizes in bytes.

    Args:
      name: of the config.
      report: of the requested slice.
      scaled: estimates, and whether each was compiled (True) or scaled from another.
      samples: of the schedule.
    """
    program = report.program
    sizes = ("argument", "output", "alias", "temp", "generated_code")

    def row(one: costs.Estimate, compiled: bool) -> dict[str, Any]:
        return dataclasses.asdict(one) | one.figures(samples) | {"compiled": compiled}

    content = {
        "config": name,
        "topology": report.where.name,
        "chips": report.where.chips,
        "batch_size": report.batch_size,
        "compile_seconds": report.compile_seconds,
        "memory": {key: getattr(report.memory, f"{key}_size_in_bytes") for key in sizes}
        | {"total": report.memory_bytes, "capacity": report.where.chip.hbm, "fits": report.fits},
        "cost_analysis": {key: report.figures.get(key) for key in ("flops", "bytes accessed", "optimal_seconds")},
        "model_flops": program.flops,
        "hbm_bytes": program.hbm_bytes,
        "collectives": report.exchanges(),
        "strays": [dataclasses.asdict(c) for c in program.strays()],
        "estimate": row(costs.estimate(program, report.where), True),
        "slices": [row(one, compiled) for one, compiled in scaled],
        "operations": [dataclasses.asdict(o) | {"layer": o.layer} for o in report.costliest()],
        "layers": [{"layer": layer, "seconds": seconds} for layer, seconds in report.costliest_layers()],
        "samples": samples,
    }
    return json.dumps(content, indent=1)


def as_text(name: str, report: Report, scaled: Scaled, samples: int) -> str:
    """Format as tables; arguments as for `as_json`."""
    where, program = report.where, report.program
    capacity, spare = where.chip.hbm, 1 - report.memory_bytes / where.chip.hbm
    verdict = f"fits, {spare:.0%} to spare" if report.fits else f"DOES NOT FIT, {-spare:.0%} too much"
    unpriced = sum(not o.cycles for o in program.operations)
    strays = [
        f"WARNING: {c.kind} of {c.size * c.times / 1e6:.1f} MB between all chips: part of the batch leaves its chip, "
        f"and more so the larger the slice; {c.instruction}  {c.op_name}"
        for c in program.strays()[:_LISTED]
    ]
    parts = [
        f"{name} on {where.name}: {where.chips} chips, {program.batch} samples a chip, {report.batch_size} a step; "
        f"compiled in {report.compile_seconds:.0f} s",
        f"Memory on each chip: {report.memory_bytes / GIB:.3f} GiB of {capacity / GIB:.1f}: {verdict}; of it "
        f"{report.memory.temp_size_in_bytes / GIB:.3f} temporaries",
        "Work of each chip in a step\n"
        f"  {program.flops / 1e12:9.3f} TFLOP  of the model\n"
        f"  {program.hbm_bytes / 1e9:9.3f} GB     to and from HBM, padding included\n"
        f"  {unpriced:9d}        of {len(program.operations)} operations without the compiler's estimate\n"
        f"  {report.open_loops:9d}        loops of unknown length, counted once",
        _exchanges(report),
        *strays,
        _time(costs.estimate(program, where), samples),
        _slices(report, scaled, samples),
        _operations(report),
        _layers(report),
    ]
    return "\n\n".join(parts)


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align columns to the right, the last one to the left."""
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header) - 1)]
    return "\n".join([title] + [
        "  " + "  ".join([*(c.rjust(w) for c, w in zip(line[:-1], widths, strict=True)), line[-1]]) for line in lines
    ])  # fmt: skip


def _exchanges(report: Report) -> str:
    rows = [
        (
            str(r["count"]),
            f"{r['bytes'] / 1e6:.2f}",
            f"{r['sent'] / 1e6:.2f}",
            f"{r['kind']} between {r['group']} chips",
        )
        for r in report.exchanges()
    ]
    return _table("Exchanges between chips in a step", ("count", "MB", "MB sent", "kind"), rows)


def _time(e: costs.Estimate, samples: int) -> str:
    figures = e.figures(samples)
    lines = [
        (e.flop_bound, "the model's FLOPs at the chip's peak"),
        (e.hbm_bound, "the traffic at the speed of HBM"),
        (e.ici_bound, "the exchanges at the speed of all links"),
        (e.latency, "the exchanges' latency, 1 us a hop"),
        (e.compute, "the operations one after the other, by the compiler's cycles"),
        (e.step, f"in all, nothing overlapped: {figures['roofline']:.0%} of the roofline ({figures['bound']}-bound), "
                 f"model FLOP utilisation {figures['utilisation']:.1%}"),
    ]  # fmt: skip
    return "\n".join(["Time of a step, ms", *(f"  {seconds * 1e3:8.2f}  {text}" for seconds, text in lines)])


def _slices(report: Report, scaled: Scaled, samples: int) -> str:
    rows = []
    for e, compiled in scaled:
        f = e.figures(samples)
        cells = f"{e.step * 1e3:.1f}", f"{f['samples_per_second']:.0f}", f"{f['at_most']:.0f}", f"{f['roofline']:.0%}"
        rows.append((str(e.chips), str(e.batch), *cells, f"{f['hours']:.2f}", "compiled" if compiled else "scaled"))
    title = (
        f"Slices of {report.where.chip.name}, {report.program.batch} samples a chip; hours for the schedule's "
        f"{samples:,} samples.\n"
        "Scaled: each chip's work as compiled above, the exchanges recounted for the slice."
    )
    return _table(title, ("chips", "batch", "ms", "samples/s", "at most", "roofline", "hours", ""), rows)


def _operations(report: Report) -> str:
    whole = sum(o.seconds for o in report.program.operations) or 1.0
    rows = [
        (
            f"{o.seconds * 1e3:.3f}", f"{o.seconds / whole:.1%}", str(o.times), f"{o.traffic / 1e6:.1f}",
            f"{o.name} = {o.shape} {o.opcode}  {o.op_name or '(no source)'}",
        )
        for o in report.costliest()
    ]  # fmt: skip
    title = f"The {len(rows)} costliest of {len(report.program.operations)} operations"
    return _table(title, ("ms", "share", "times", "HBM MB", "operation"), rows)


def _layers(report: Report) -> str:
    whole = sum(o.seconds for o in report.program.operations) or 1.0
    rows = [(f"{s * 1e3:.3f}", f"{s / whole:.1%}", layer) for layer, s in report.costliest_layers()]
    return _table(f"The {len(rows)} costliest layers", ("ms", "share", "layer"), rows)
