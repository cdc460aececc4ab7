"""Estimates from a compiled program: duration and HBM traffic of its operations, and the time of a step on a slice."""

import dataclasses
import math
import re
from collections.abc import Iterable

from experiments.compile_check import hlo
from experiments.compile_check.hardware import HOP_SECONDS, Chip, Slice

# Lines that only name, group or reinterpret values.
_FREE = frozenset({"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "custom-call"}) | {
    "partition-id", "replica-id", "add-dependency", "opt-barrier", "while", "call", "conditional", "domain"
}  # fmt: skip
_MOVES = ("copy-start", "slice-start", "dynamic-slice-start", "dynamic-update-slice-start")
# A fusion takes the first of these opcodes that it contains; else its root's.
_CHIEF = ("convolution", "dot", "scatter", "gather", "select-and-scatter", "reduce-window", "reduce", "sort")
_PARTIAL = ("slice", "dynamic-slice", "gather")  # they read as much as they return
_WRAPPERS = re.compile(r"(?:jit|pjit|jvp|transpose|vmap|remat|checkpoint|custom_[a-z_]+)\((.*)\)")
_NO_MODULE = ("", "while", "body", "closed_call", "shmap_body", "checkpoint", "rematted_computation")
_BY_BATCH = ("all-gather", "reduce-scatter", "all-to-all", "ragged-all-to-all")


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation of a step; figures are sums over all its runs.

    Attributes:
      name: its line in the program.
      opcode: for a fusion, that of its chief operation.
      op_name: path in the traced function.
      shape: the largest result.
      times: number of runs.
      seconds: from `cycles`, or where there is no estimate, traffic at the speed of HBM.
      cycles: the compiler's estimate; 0 where there is none.
      traffic: bytes to and from HBM, padding included.
    """

    name: str
    opcode: str
    op_name: str
    shape: str
    times: int
    seconds: float
    cycles: int
    traffic: int

    @property
    def layer(self) -> str:
        return layer_of(self.op_name)


def layer_of(op_name: str) -> str:
    """First two module names of a path, and the direction.

    `jit(step)/transpose(jvp(Generator))/Generator.decode/up_blocks_1/up_blocks_1/conv/dot` ->
    `Generator.decode/up_blocks_1 (backward)`.
    """
    parts: list[str] = []
    for part in op_name.split("/")[:-1]:
        while wrapped := _WRAPPERS.fullmatch(part):
            part = "" if part.startswith(("jit(", "pjit(")) else wrapped[1]
        # A repeated name and a method of the same module, `Generator/Generator.decode`, are one module.
        if part and parts and (part == parts[-1] or ("." in part and part.split(".")[0] == parts[-1].split(".")[0])):
            parts[-1] = part
        elif part not in _NO_MODULE:
            parts.append(part)
    return ("/".join(parts[:2]) or "(loss, optimiser)") + (" (backward)" if "transpose(" in op_name else "")


def operations(module: hlo.Module, chip: Chip) -> list[Operation]:
    """Every operation that occupies the chip; asynchronous copies and pure exchanges are left out."""
    result = []
    for home, line, times in module.executed():
        if line.opcode in (*_FREE, *_MOVES) or line.opcode.endswith(("-done", "-update", "-start")):
            continue
        inner = module.fused(line)
        cycles, size = line.cycles, traffic(module, home, line)
        if not cycles and _exchanged(line, inner):
            continue
        touched = sum(s.stored for i in (line, *home.inputs(line)) for s in i.shapes)
        seconds = cycles / chip.clock if cycles else (size or touched) / chip.hbm_bandwidth
        inside = {i.opcode for i in inner.instructions.values()} if inner else set()
        opcode = next((o for o in _CHIEF if o in inside), inner.root.opcode if inner else line.opcode)
        largest = str(max(line.shapes, key=lambda s: s.stored, default=""))
        sums = (seconds * times, cycles * times, size * times)
        result.append(Operation(line.name, opcode, line.op_name, largest, times, *sums))
    return result


def total_traffic(module: hlo.Module) -> int:
    """Bytes to and from HBM in a whole step."""
    return sum(traffic(module, home, line) * times for home, line, times in module.executed())


def traffic(module: hlo.Module, home: hlo.Computation, line: hlo.Instruction) -> int:
    """Bytes that one run of an instruction moves to and from HBM, padding included; exchanges between chips do not
    count."""
    if line.opcode in _MOVES:  # the shape of a copy holds both ends
        ends = sorted(line.shapes, key=lambda s: s.stored, reverse=True)[:2]
        return min((s.stored for s in ends), default=0) * sum(s.space == hlo.HBM for s in ends)
    if line.opcode in _FREE or line.opcode.endswith(("-done", "-update", "-start")):
        return 0
    inner = module.fused(line)
    exchanged = _exchanged(line, inner)
    if exchanged and not line.cycles:
        return 0
    updated, written = _in_place(inner) if inner else (None, 0)
    own = [s for s in line.shapes if not exchanged & _anywhere([s])]
    total = written if updated is not None else _in_hbm(own)
    for number, operand in enumerate(home.inputs(line)):
        if exchanged & _anywhere(operand.shapes):
            continue  # passed through
        if number == updated:
            total += written
        elif inner:
            total += _read(inner, number, operand)
        elif line.opcode in _PARTIAL and number == 0:
            total += min(_in_hbm(operand.shapes), sum(s.stored for s in line.shapes))
        else:
            total += _in_hbm(operand.shapes)
    return total


def _exchanged(line: hlo.Instruction, inner: hlo.Computation | None) -> set[hlo.ArrayShape]:
    """Shapes of the arrays exchanged in an instruction; a computing fusion may contain an exchange."""
    lines = [line, *(inner.instructions.values() if inner else ())]
    pairs = [(i, inner.inputs(i) if inner else []) for i in lines if hlo.collective_kind(i.opcode)]
    return {s for one, inputs in pairs for i in (one, *inputs) for s in _anywhere(i.shapes)}


def _anywhere(shapes: Iterable[hlo.ArrayShape]) -> set[hlo.ArrayShape]:
    return {dataclasses.replace(s, space=hlo.HBM) for s in shapes}


def _in_hbm(shapes: Iterable[hlo.ArrayShape]) -> int:
    return sum(s.stored for s in shapes if s.space == hlo.HBM)


def _read(inner: hlo.Computation, number: int, operand: hlo.Instruction) -> int:
    """Bytes that a fusion reads of an operand: the slices alone where it only takes slices."""
    whole = _in_hbm(operand.shapes)
    name = next((i.name for i in inner.instructions.values() if _parameter_number(i) == number), "")
    users = inner.users(name)
    if whole and users and all(u.opcode in _PARTIAL and u.operands[0] == name for u in users):
        return min(whole, sum(s.stored for u in users for s in u.shapes))
    return whole


def _parameter_number(line: hlo.Instruction) -> int | None:
    match = re.match(r"\d+", line.attributes) if line.opcode == "parameter" else None
    return int(match[0]) if match else None


def _in_place(inner: hlo.Computation) -> tuple[int | None, int]:
    """Operand that a fusion's root updates in place, and the bytes of the update; (None, 0) where there is none."""
    root = inner.root
    if root.opcode not in ("scatter", "dynamic-update-slice") or not root.operands:
        return None, 0
    target = inner.instructions.get(root.operands[0])
    update = inner.instructions.get(root.operands[-1 if root.opcode == "scatter" else 1])
    number = _parameter_number(target) if target else None
    return (None, 0) if number is None or update is None else (number, sum(s.stored for s in update.shapes))


# ---------------------------------------------------------------------------------------------------- time of a step


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled step on each chip.

    Attributes:
      chips: of the slice it was compiled for.
      batch: samples per chip and step.
      fsdp: chips that share one copy of the parameters.
      flops: of the model, without padding and recomputation.
      operations, collectives, hbm_bytes: see `operations`, `hlo.collectives` and `total_traffic`.
    """

    chips: int
    batch: int
    fsdp: int
    flops: float
    operations: list[Operation]
    collectives: list[hlo.Collective]
    hbm_bytes: int

    def is_global(self, one: hlo.Collective) -> bool:
        """Whether an exchange spans all chips, not the groups that share parameters."""
        return one.group == self.chips != self.fsdp

    def strays(self) -> list[hlo.Collective]:
        """Exchanges of parts of the batch, the largest first.

        Gradients and statistics are all-reduced, and only parameters are gathered or scattered, within the groups that
        share them; anything else grows with the slice.
        """
        strays = [c for c in self.collectives if self.is_global(c) and c.kind in _BY_BATCH]
        return sorted(strays, key=lambda c: -c.size * c.times)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Time of a step, in seconds, with the same batch on each chip.

    Attributes:
      chips: of the slice.
      batch: samples per step, over all chips.
      compute: operations one after the other.
      flop_bound: the model's FLOPs at peak.
      hbm_bound: traffic at the speed of HBM.
      ici_bound: bytes sent, over all links at once.
      latency: of the exchanges, one after the other.
    """

    chips: int
    batch: int
    compute: float
    flop_bound: float
    hbm_bound: float
    ici_bound: float
    latency: float

    @property
    def step(self) -> float:
        """`compute` or `hbm_bound`, the longer, then the exchanges, without overlap."""
        return max(self.compute, self.hbm_bound) + self.ici_bound + self.latency

    @property
    def limit(self) -> tuple[float, str]:
        """The tightest limit in seconds, and its name: `FLOP`, `HBM` or `interconnect`."""
        return max((self.flop_bound, "FLOP"), (self.hbm_bound, "HBM"), (self.ici_bound, "interconnect"))

    def figures(self, samples: float) -> dict[str, float | str]:
        """Derived figures; `hours` is the time for `samples`, `at_most` samples per second at the tightest limit."""
        seconds, bound = self.limit
        rate = self.batch / self.step
        return {
            "step": self.step, "bound": bound, "roofline": seconds / self.step,
            "utilisation": self.flop_bound / self.step, "samples_per_second": rate, "at_most": self.batch / seconds,
            "hours": samples / rate / 3600,
        }  # fmt: skip


def estimate(program: Program, where: Slice) -> Estimate:
    """Estimate the time of a step on a slice, which may differ from the one compiled for.

    Each chip's own work stays; exchanges over all chips become exchanges over all chips of the other slice, those
    within a group stay within it. Arrays gathered from or scattered to all chips are taken to be part of the batch and
    grow with it.
    """
    chip = where.chip
    sent = latency = 0.0
    for one in program.collectives:
        whole = program.is_global(one)
        growth = where.chips / program.chips if whole and one.kind in _BY_BATCH else 1.0
        hops = where.hops if whole else min(one.group // 2, where.hops)
        sent += one.times * one.sent(where.chips if whole else one.group) * growth
        latency += one.times * hops * HOP_SECONDS * (2 if one.kind == "all-reduce" else 1)
    return Estimate(
        where.chips, program.batch * where.chips, math.fsum(o.seconds for o in program.operations),
        program.flops / chip.flops, program.hbm_bytes / chip.hbm_bandwidth, sent / chip.ici_bandwidth, latency,
    )  # fmt: skip
