"""What a compiled step costs on one chip: operations and their durations, traffic to memory, padding, exchanges, and
from them the time of a step, its share of the roofline and the speed of larger slices."""

import dataclasses
import re
from collections.abc import Iterable, Sequence

from experiments import hlo
from experiments.hardware import HOP_SECONDS, Chip, Slice

# Lines that only name, group or reinterpret what is there.
_FREE = frozenset({"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "custom-call"}) | {
    "partition-id", "replica-id", "add-dependency", "opt-barrier", "while", "call", "conditional", "domain"
}  # fmt: skip
_MOVES = ("copy-start", "slice-start", "dynamic-slice-start", "dynamic-update-slice-start")
# What a fusion is called after, the first one that it holds; else after its root.
_CHIEF = ("convolution", "dot", "scatter", "gather", "select-and-scatter", "reduce-window", "reduce", "sort")
# Reads of these take what they give out, not all they are given.
_PARTIAL = ("slice", "dynamic-slice", "gather")


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation of a step, over all the times it runs.

    Attributes:
      name: its line in the program.
      opcode: what it does; for a fusion, its chief operation.
      op_name: where in the traced function it comes from.
      shape: the largest array that comes out.
      times: how often it runs.
      seconds: in all.
      cycles: the compiler's estimate, in all; 0 where it gives none, and `seconds` is its traffic at the speed of HBM.
      traffic: bytes to and from HBM, padding included, in all.
      rows: rows that a gather or scatter picks, in all; else 0.
    """

    name: str
    opcode: str
    op_name: str
    shape: str
    times: int
    seconds: float
    cycles: int
    traffic: int
    rows: int

    @property
    def layer(self) -> str:
        """The module it belongs to, and the direction."""
        return layer_of(self.op_name)


@dataclasses.dataclass(frozen=True)
class Padded:
    """Buffers of one shape that are larger than what they hold.

    Attributes:
      shape: with its layout.
      size: bytes of the elements.
      stored: bytes with padding.
      count: lines that make such a buffer.
      instruction: the first of them.
      op_name: where that comes from.
    """

    shape: str
    size: int
    stored: int
    count: int
    instruction: str
    op_name: str


def layer_of(op_name: str) -> str:
    """`jit(step)/transpose(jvp(Generator))/Generator.decode/up_blocks_1/up_blocks_1/conv/dot` ->
    `Generator.decode/up_blocks_1 (backward)`: the first two names of modules, without wrappers and primitives."""
    parts: list[str] = []
    for part in op_name.split("/")[:-1]:
        while wrapped := re.fullmatch(r"(?:jit|pjit|jvp|transpose|vmap|remat|checkpoint|custom_[a-z_]+)\((.*)\)", part):
            part = "" if part.startswith(("jit(", "pjit(")) else wrapped[1]
        # `Generator/Generator.decode` and a name repeated say the same twice.
        if part and parts and (part == parts[-1] or part.startswith(parts[-1] + ".")):
            parts[-1] = part
        elif part and part not in ("while", "body", "closed_call", "shmap_body", "checkpoint", "rematted_computation"):
            parts.append(part)
    where = "/".join(parts[:2]) or "(loss, optimiser)"
    return where + (" (backward)" if "transpose(" in op_name else "")


def operations(module: hlo.Module, chip: Chip) -> list[Operation]:
    """Every operation that takes time on the chip itself; moves that run beside the others are left out."""
    found = []
    for home, line, times in module.executed():
        if line.opcode in (*_FREE, *_MOVES) or line.opcode.endswith(("-done", "-update", "-start")):
            continue
        inner = module.fused(line)
        cycles, bytes_ = line.cycles, traffic(module, home, line)
        if _exchanged(line, inner) and not cycles:
            continue
        touched = sum(s.stored for i in (line, *home.inputs(line)) for s in i.shapes)
        # Without an estimate: what it touches, wherever that lies, at the speed of HBM. A gather's or an in-place
        # update's operand is mostly left alone.
        seconds = cycles / chip.clock if cycles else (bytes_ or touched) / chip.hbm_bandwidth
        inside = {i.opcode for i in inner.instructions.values()} if inner else set()
        opcode = next((o for o in _CHIEF if o in inside), inner.root.opcode if inner else line.opcode)
        largest = max(line.shapes, key=lambda s: s.stored, default=None)
        of_all = (seconds * times, cycles * times, bytes_ * times, _rows(line, inner) * times)
        found.append(Operation(line.name, opcode, line.op_name, str(largest or ""), times, *of_all))
    return found


def _exchanged(line: hlo.Instruction, inner: hlo.Computation | None) -> set[hlo.ArrayShape]:
    """Shapes of what is exchanged in an instruction; a fusion that computes may carry an exchange along."""
    lines = [line, *(inner.instructions.values() if inner else ())]
    pairs = [(i, inner.inputs(i) if inner else []) for i in lines if hlo.collective_kind(i.opcode)]
    return {s for one, inputs in pairs for i in (one, *inputs) for s in _anywhere(i.shapes)}


def _anywhere(shapes: Sequence[hlo.ArrayShape]) -> list[hlo.ArrayShape]:
    """The shapes without the memory they lie in."""
    return [dataclasses.replace(s, space=hlo.HBM) for s in shapes]


def _rows(line: hlo.Instruction, inner: hlo.Computation | None) -> int:
    """Rows that gathers and scatters pick: elements over elements of a slice."""
    total = 0
    for one in inner.instructions.values() if inner else [line]:
        if one.opcode == "gather" and one.shapes:
            sizes = re.search(r"slice_sizes=\{([\d,]*)\}", one.attributes)
            row = _product(int(n) for n in sizes[1].split(",") if n) if sizes else 1
            total += _product(one.shapes[0].dims) // max(row, 1)
        elif one.opcode == "scatter" and inner is not None and len(one.operands) >= 3:
            updates = inner.instructions.get(one.operands[-1])
            window = re.search(r"update_window_dims=\{([\d,]*)\}", one.attributes)
            if updates and window:
                dims = updates.shapes[0].dims
                row = _product(dims[int(n)] for n in window[1].split(",") if n)
                total += _product(dims) // max(row, 1)
    return total


def _product(numbers: Iterable[int]) -> int:
    total = 1
    for n in numbers:
        total *= n
    return total


# ------------------------------------------------------------------------------------------------- traffic to memory


def traffic(module: hlo.Module, home: hlo.Computation, line: hlo.Instruction) -> int:
    """Bytes that one run of an instruction moves to and from HBM, padding included; exchanges between chips are
    counted elsewhere."""
    if line.opcode in _MOVES:
        return _moved(line)
    if line.opcode in _FREE or line.opcode.endswith(("-done", "-update", "-start")):
        return 0
    inner = module.fused(line)
    carried = _exchanged(line, inner)
    if carried and not line.cycles:
        return 0
    updated, written = _in_place(inner) if inner else (None, 0)
    own = [s for s in line.shapes if not carried.intersection(_anywhere([s]))]
    total = written if updated is not None else _in_hbm(own)
    for number, operand in enumerate(home.inputs(line)):
        if carried.intersection(_anywhere(operand.shapes)):
            continue  # it only passes through
        if number == updated:
            total += written
        elif inner:
            total += _read_by(inner, number, operand)
        elif line.opcode in _PARTIAL and number == 0:
            total += min(_in_hbm(operand.shapes), sum(s.stored for s in line.shapes))
        else:
            total += _in_hbm(operand.shapes)
    return total


def total_traffic(module: hlo.Module) -> int:
    """Bytes that a whole step moves to and from HBM."""
    return sum(traffic(module, home, line) * times for home, line, times in module.executed())


def _in_hbm(shapes: Sequence[hlo.ArrayShape]) -> int:
    return sum(s.stored for s in shapes if s.space == hlo.HBM)


def _moved(line: hlo.Instruction) -> int:
    """A copy or slice that runs beside other work: its shape holds both ends."""
    ends = sorted(line.shapes, key=lambda s: s.stored, reverse=True)[:2]
    return min((s.stored for s in ends), default=0) * sum(s.space == hlo.HBM for s in ends)


def _read_by(inner: hlo.Computation, number: int, operand: hlo.Instruction) -> int:
    """What a fusion reads of an operand: only slices of it, where it only takes slices."""
    whole = _in_hbm(operand.shapes)
    name = next((i.name for i in inner.instructions.values() if _number(i) == number), "")
    users = inner.users(name)
    if whole and users and all(u.opcode in _PARTIAL and u.operands[0] == name for u in users):
        return min(whole, sum(s.stored for u in users for s in u.shapes))
    return whole


def _number(line: hlo.Instruction) -> int | None:
    """Which of a fusion's operands a parameter is; None for any other line."""
    found = re.match(r"\d+", line.attributes) if line.opcode == "parameter" else None
    return int(found[0]) if found else None


def _in_place(inner: hlo.Computation) -> tuple[int | None, int]:
    """The operand that a fusion's root updates in place, and the bytes of the update; (None, 0) where none is."""
    root = inner.root
    if root.opcode not in ("scatter", "dynamic-update-slice") or not root.operands:
        return None, 0
    target = inner.instructions.get(root.operands[0])
    update = inner.instructions.get(root.operands[-1 if root.opcode == "scatter" else 1])
    number = _number(target) if target else None
    if number is None or update is None:
        return None, 0
    return number, sum(s.stored for s in update.shapes)


# ------------------------------------------------------------------------------------------------------------ padding


def padded_buffers(module: hlo.Module, at_least: int = 2**20) -> list[Padded]:
    """Shapes of large buffers by the bytes that their padding wastes, worst first.

    Args:
      at_least: bytes below which a buffer is not worth a line.
    """
    found: dict[str, Padded] = {}
    for _, line, _ in module.executed():
        if line.opcode in ("tuple", "get-tuple-element", "bitcast", "while", "call") or line.opcode.endswith("-done"):
            continue
        for shape in line.shapes:
            if shape.stored < at_least or shape.stored <= shape.size:
                continue
            old = found.get(str(shape))
            found[str(shape)] = (
                dataclasses.replace(old, count=old.count + 1)
                if old
                else Padded(str(shape), shape.size, shape.stored, 1, line.name, line.op_name)
            )
    return sorted(found.values(), key=lambda p: p.size - p.stored)


# ---------------------------------------------------------------------------------------------------- time of a step


@dataclasses.dataclass(frozen=True)
class Program:
    """What is known of a compiled step, on each chip.

    Attributes:
      chips: it was compiled for so many.
      batch: samples each chip takes a step.
      fsdp: chips that share one copy of the parameters.
      flops: of the model, without padding and recomputation.
      operations: see `operations`.
      collectives: see `hlo.collectives`.
      hbm_bytes: see `total_traffic`.
    """

    chips: int
    batch: int
    fsdp: int
    flops: float
    operations: list[Operation]
    collectives: list[hlo.Collective]
    hbm_bytes: int


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Time of a step, in seconds, with the same batch on each chip.

    Attributes:
      chips: of the slice.
      batch: samples a step, over all chips.
      compute: the operations one after the other.
      flop_bound: the model's FLOPs at the chip's peak.
      hbm_bound: the traffic at the speed of HBM.
      ici_bound: the bytes sent, over all links at once.
      latency: of the exchanges, one after the other.
      step: `compute` or `hbm_bound`, whichever is longer, then the exchanges, as if nothing ran beside them.
    """

    chips: int
    batch: int
    compute: float
    flop_bound: float
    hbm_bound: float
    ici_bound: float
    latency: float
    step: float

    @property
    def bound(self) -> str:
        """Which of the three limits is the tightest: `FLOP`, `HBM` or `interconnect`."""
        return max(
            ("FLOP", self.flop_bound), ("HBM", self.hbm_bound), ("interconnect", self.ici_bound), key=lambda b: b[1]
        )[0]

    @property
    def roofline(self) -> float:
        """The tightest limit over the estimated step: 1 cannot be improved without another program."""
        return max(self.flop_bound, self.hbm_bound, self.ici_bound) / self.step

    @property
    def utilisation(self) -> float:
        """Model FLOP utilisation: the model's FLOPs at peak over the estimated step."""
        return self.flop_bound / self.step

    @property
    def samples_per_second(self) -> float:
        """Over all chips."""
        return self.batch / self.step

    @property
    def at_most(self) -> float:
        """Samples a second over all chips if the step took no longer than its tightest limit."""
        return self.batch / max(self.flop_bound, self.hbm_bound, self.ici_bound)

    def hours(self, samples: float) -> float:
        """To see so many samples."""
        return samples / self.samples_per_second / 3600


_BY_BATCH = ("all-gather", "reduce-scatter", "all-to-all", "ragged-all-to-all")


def is_global(one: hlo.Collective, program: Program) -> bool:
    """Whether an exchange is one between all chips, and not one within the groups that share parameters."""
    return one.group == program.chips != program.fsdp


def strays(program: Program) -> list[hlo.Collective]:
    """Exchanges that should not be: parts of the batch that leave their chip, the largest first. Gradients and
    statistics are all-reduced; only parameters are ever gathered or scattered, within the groups that share them."""
    found = [c for c in program.collectives if is_global(c, program) and c.kind in _BY_BATCH]
    return sorted(found, key=lambda c: -c.size * c.times)


def estimate(program: Program, where: Slice) -> Estimate:
    """The time of a step on a slice, which may be another than the one compiled for.

    Each chip's own work stays as it is; an exchange between all chips is taken to be one between all chips of the
    other slice, an exchange within a group stays within it. What is gathered from or scattered to all chips is taken
    to be part of the batch, and grows with it.
    """
    chip = where.chip
    sent = latency = 0.0
    for one in program.collectives:
        whole = is_global(one, program)
        group = where.chips if whole else one.group
        growth = where.chips / program.chips if whole and one.kind in _BY_BATCH else 1.0
        hops = where.hops if whole else min(one.group // 2, where.hops)
        sent += one.times * one.sent(group) * growth
        latency += one.times * hops * HOP_SECONDS * (2 if one.kind == "all-reduce" else 1)
    compute = sum(o.seconds for o in program.operations)
    hbm, ici = program.hbm_bytes / chip.hbm_bandwidth, sent / chip.ici_bandwidth
    step = max(compute, hbm) + ici + latency
    return Estimate(
        where.chips, program.batch * where.chips, compute, program.flops / chip.flops, hbm, ici, latency, step
    )
