"""Parser of XLA's optimised HLO text: shapes with tiled layouts, loops, cycle estimates and collectives."""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

COLLECTIVES = (
    "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "ragged-all-to-all", "collective-permute",
    "collective-broadcast",
)  # fmt: skip
HBM = 0  # memory space; every other number is on-chip or host memory
_BITS = {"pred": 8, "token": 0, "opaque": 0}
_ARRAY = re.compile(r"([a-z][a-z0-9]*)\[([^\]]*)\](?:\{([^{}]*)\})?")
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = ")
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) (?:\(.*\) -> .*)?\{$")
_CALLS = re.compile(r"\b(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")


@functools.cache
def element_bits(dtype: str) -> int:
    """Bits of one element: 32 for `f32`, 8 for `f8e4m3fn` and `pred`, 4 for `s4`."""
    size = re.match(r"[a-z]+(\d+)", dtype)
    return _BITS.get(dtype, int(size[1]) if size else 8)


@dataclasses.dataclass(frozen=True)
class ArrayShape:
    """An array as it is stored.

    Attributes:
      dtype: `f32`, `bf16`, …
      dims: sizes.
      order: axes from the fastest to the slowest.
      tile: outermost tile over the fastest axes, slowest first; () where the array is not tiled.
      space: memory space, `HBM` or another.
    """

    dtype: str
    dims: tuple[int, ...]
    order: tuple[int, ...]
    tile: tuple[int, ...]
    space: int

    @property
    def size(self) -> int:
        """Bytes without padding."""
        return math.prod(self.dims) * element_bits(self.dtype) // 8

    @property
    def stored(self) -> int:
        """Bytes with the tiled axes rounded up to whole tiles."""
        if not self.tile:
            return self.size
        axes = [self.dims[a] for a in self.order] or [1]
        for i, side in enumerate(reversed(self.tile)):
            if i < len(axes):
                axes[i] = -(-axes[i] // side) * side
            else:
                axes.append(side)
        return math.prod(axes) * element_bits(self.dtype) // 8

    def __str__(self) -> str:
        layout = ",".join(map(str, self.order)) + (f":T({','.join(map(str, self.tile))})" if self.tile else "")
        return f"{self.dtype}[{','.join(map(str, self.dims))}]{{{layout}}}"


@functools.lru_cache(maxsize=2**16)
def parse_shapes(text: str) -> tuple[ArrayShape, ...]:
    """Arrays of a shape: one, or the leaves of a nested tuple."""
    return tuple(_array(*match.groups()) for match in _ARRAY.finditer(re.sub(r"/\*.*?\*/", "", text)))


def _array(dtype: str, dims: str, layout: str | None) -> ArrayShape:
    sizes = tuple(int(n.lstrip("<=")) for n in dims.split(",") if n.strip())
    order, _, rest = (layout or "").partition(":")
    axes = tuple(int(n) for n in order.split(",") if n) or tuple(reversed(range(len(sizes))))
    tile = re.search(r"T\(([^)]*)\)", rest)
    # A `*` joins an axis to the next one; such a tile pads nothing by itself.
    sides = tuple(1 if n == "*" else int(n) for n in tile[1].split(",") if n) if tile else ()
    space = re.search(r"S\((\d+)\)", rest)
    return ArrayShape(dtype, sizes, axes, sides, int(space[1]) if space else HBM)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation: result arrays, names of the operands, and the rest of the line as `attributes`."""

    name: str
    opcode: str
    shapes: tuple[ArrayShape, ...]
    operands: tuple[str, ...]
    attributes: str

    @property
    def op_name(self) -> str:
        """Path in the traced function: names of modules and primitives, separated by `/`."""
        match = re.search(r'op_name="((?:[^"\\]|\\.)*)"', self.attributes)
        return match[1] if match else ""

    @property
    def cycles(self) -> int:
        """The compiler's estimate of the duration; 0 where there is none."""
        match = re.search(r'"estimated_cycles":"?(\d+)', self.attributes)
        return int(match[1]) if match else 0

    @property
    def calls(self) -> tuple[str, ...]:
        """Names of the called computations, reducers included."""
        branches = [n.strip().lstrip("%") for group in _BRANCHES.findall(self.attributes) for n in group.split(",")]
        return (*_CALLS.findall(self.attributes), *branches)

    def called(self, role: str) -> str:
        """The computation in one role (`body`, `condition`, `calls`); "" where there is none."""
        match = re.search(rf"\b{role}=%?([\w.\-]+)", self.attributes)
        return match[1] if match else ""


@dataclasses.dataclass(frozen=True)
class Computation:
    """Instructions by name in execution order; the last one is the root."""

    name: str
    instructions: dict[str, Instruction]

    @property
    def root(self) -> Instruction:
        return next(reversed(self.instructions.values()))

    def inputs(self, instruction: Instruction) -> list[Instruction]:
        """Operands of an instruction that are defined here."""
        return [self.instructions[n] for n in instruction.operands if n in self.instructions]

    def users(self, name: str) -> list[Instruction]:
        return [i for i in self.instructions.values() if name in i.operands]


@dataclasses.dataclass(frozen=True)
class Module:
    """A compiled program; `partitions`: devices it is divided over."""

    entry: str
    computations: dict[str, Computation]
    partitions: int

    def trips(self, loop: Instruction) -> int | None:
        """Trip count of a `while`: the compiler's annotation, or from a condition `counter < constant` as `lax.scan`
        produces; None where it depends on data."""
        known = re.search(r'"known_trip_count":\{"n":"?(\d+)', loop.attributes)
        if known:
            return int(known[1])
        condition = self.computations.get(loop.called("condition"))
        if condition is None or condition.root.opcode != "compare" or "direction=LT" not in condition.root.attributes:
            return None
        limits = [i for i in condition.inputs(condition.root) if i.opcode == "constant"]
        value = re.match(r"(\d+)", limits[0].attributes) if limits else None
        return int(value[1]) if value else None

    def executed(self, name: str | None = None, times: int = 1) -> Iterator[tuple[Computation, Instruction, int]]:
        """Every scheduled instruction with its computation and how often it runs.

        Loops and calls are entered, fusions are not; all branches of a conditional count, and a loop of unknown length
        counts once.
        """
        computation = self.computations[name or self.entry]
        for instruction in computation.instructions.values():
            yield computation, instruction, times
            if instruction.opcode == "while":
                yield from self.executed(instruction.called("body"), times * (self.trips(instruction) or 1))
            elif instruction.opcode in ("call", "conditional"):
                for callee in instruction.calls:
                    yield from self.executed(callee, times)

    def fused(self, instruction: Instruction) -> Computation | None:
        """Body of a fusion or of a wrapped asynchronous operation."""
        return self.computations.get(instruction.called("calls"))


def parse(text: str) -> Module:
    """Parse a module's text (`jax.stages.Compiled.as_text()`)."""
    computations: dict[str, Computation] = {}
    entry, current = "", None
    for line in text.splitlines():
        if current is None:
            if match := _COMPUTATION.match(line):
                current = Computation(match[2], {})
                entry = match[2] if match[1] else entry
        elif line.startswith("}"):
            computations[current.name] = current
            current = None
        elif instruction := _instruction(line):
            current.instructions[instruction.name] = instruction
    counts = re.findall(r"\b(?:num_partitions|replica_count)=(\d+)", text[: text.find("\n")])
    return Module(entry or next(reversed(computations), ""), computations, math.prod(map(int, counts)))


def _instruction(line: str) -> Instruction | None:
    match = _INSTRUCTION.match(line)
    if not match:
        return None
    rest = line[match.end() :]
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.find(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    opcode, bracket, _ = rest.partition("(")
    if not bracket:
        return None
    close = _closing(rest, len(opcode))
    inside = rest[len(opcode) + 1 : close]
    # A constant's value and a parameter's number take the place of operands; they are kept as attributes.
    leaf = opcode in ("constant", "parameter")
    operands = () if leaf else tuple(re.findall(r"%([\w.\-]+)", inside))
    return Instruction(match[1], opcode, parse_shapes(shape), operands, (inside if leaf else "") + rest[close + 1 :])


def _closing(text: str, start: int) -> int:
    """Index of the bracket that closes the one opened at or after `start`."""
    depth = 0
    for at in range(text.index("(", start), len(text)):
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        if depth == 0:
            return at
    return len(text)


@dataclasses.dataclass(frozen=True)
class Collective:
    """An exchange between chips.

    Attributes:
      kind: one of `COLLECTIVES`.
      size: bytes of the whole array on one chip: reduced, scattered, sent, or gathered.
      group: chips that take part together.
      times: runs per step.
      instruction, op_name: of the line.
    """

    kind: str
    size: int
    group: int
    times: int
    instruction: str
    op_name: str

    def sent(self, group: int | None = None) -> float:
        """Bytes that each chip sends in one run over rings: (n - 1)/n of the array, twice that for an all-reduce."""
        n = group or self.group
        if self.kind.startswith("collective"):
            return self.size
        return self.size * (n - 1) / n * (2 if self.kind == "all-reduce" else 1)


def collectives(module: Module) -> list[Collective]:
    """Every exchange of a step, fused ones included; an asynchronous start and its end count once."""
    result: list[Collective] = []
    seen: set[str] = set()
    for computation, instruction, times in module.executed():
        if kind := collective_kind(instruction.opcode):
            result.append(_collective(module, computation, instruction, kind, times))
        elif instruction.opcode in ("fusion", "async-start") and (inner := module.fused(instruction)):
            for inside in inner.instructions.values():
                if kind := collective_kind(inside.opcode):
                    channel = re.search(r"channel_id=(\d+)", inside.attributes)
                    # The fusion that starts an exchange and the one that ends it both contain it.
                    if channel and channel[1] in seen:
                        continue
                    seen |= {channel[1]} if channel else set()
                    users = inner.users(inside.name)
                    if kind == "all-reduce" and users and all(u.opcode == "dynamic-slice" for u in users):
                        kind = "reduce-scatter"  # each chip keeps only its part of the sum
                    result.append(_collective(module, inner, inside, kind, times))
    return result


def collective_kind(opcode: str) -> str:
    """One of `COLLECTIVES`, for the operation itself or its asynchronous start; "" for anything else."""
    plain = opcode.removesuffix("-start")
    return plain if plain in COLLECTIVES else ""


def _collective(module: Module, home: Computation, line: Instruction, kind: str, times: int) -> Collective:
    group = group_size(line.attributes, module.partitions)
    size = sum(s.size for i in home.inputs(line) for s in i.shapes) or sum(s.size for s in line.shapes)
    return Collective(kind, size * (group if kind == "all-gather" else 1), group, times, line.name, line.op_name)


def group_size(attributes: str, partitions: int) -> int:
    """Devices in one group of a collective, in any of XLA's notations."""
    if mesh := re.search(r"replica_groups=@?mesh\w*\[([^\]]*)\][^{]*\{([^}]*)\}", attributes):
        axes = {k: int(n) for k, n in re.findall(r"'([^']+)'=(\d+)", mesh[1])}
        return math.prod(axes[k] for k in re.findall(r"'([^']+)'", mesh[2]) if k in axes)
    if iota := re.search(r"replica_groups=\[(\d+),(\d+)\]<=", attributes):
        return int(iota[2])
    if listed := re.search(r"replica_groups=\{\{([^}]*)\}", attributes):
        return len([n for n in listed[1].split(",") if n.strip()])
    return 2 if "source_target_pairs" in attributes else partitions
