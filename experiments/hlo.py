"""Reading a compiled program: XLA's optimised HLO as text -> instructions with shapes, layouts and calls.

Only what an estimate needs is read: array sizes with the padding of their tiles, which memory they lie in, loops and
their trip counts, the compiler's cycle estimates, and the collectives.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

# Bits of an element by type name.
_BITS = {"pred": 8, "token": 0, "opaque": 0}
COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
HBM = 0
_ARRAY = re.compile(r"([a-z][a-z0-9]*)\[([^\]]*)\](?:\{([^{}]*)\})?")
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = ")
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) (?:\(.*\) -> .*)?\{$")
_CALLS = re.compile(r"\b(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")


@functools.cache
def element_bits(dtype: str) -> int:
    """Bits of one element: 32 for `f32`, 8 for `f8e4m3fn` and `pred`, 4 for `s4`."""
    if dtype in _BITS:
        return _BITS[dtype]
    size = re.match(r"[a-z]+(\d+)", dtype)
    return int(size[1]) if size else 8


@dataclasses.dataclass(frozen=True)
class ArrayShape:
    """An array as the program stores it.

    Attributes:
      dtype: `f32`, `bf16`, …
      dims: sizes.
      order: axes from the fastest to the slowest.
      tile: the outermost tile over the fastest axes, slowest first; () where the array is not tiled.
      space: the memory it lies in: 0 is HBM, anything else is on the chip or the host.
    """

    dtype: str
    dims: tuple[int, ...]
    order: tuple[int, ...]
    tile: tuple[int, ...]
    space: int

    @property
    def size(self) -> int:
        """Bytes of its elements alone."""
        return math.prod(self.dims) * element_bits(self.dtype) // 8

    @property
    def stored(self) -> int:
        """Bytes it takes up: the tiled axes are rounded up to whole tiles."""
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
    """Every array in a shape: one, or the leaves of a tuple however deep."""
    return tuple(_array(*found.groups()) for found in _ARRAY.finditer(re.sub(r"/\*.*?\*/", "", text)))


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
    """One line of a computation.

    Attributes:
      name: its own.
      opcode: what it does.
      shapes: arrays that come out.
      operands: names of what goes in.
      attributes: the rest of the line.
    """

    name: str
    opcode: str
    shapes: tuple[ArrayShape, ...]
    operands: tuple[str, ...]
    attributes: str

    @property
    def op_name(self) -> str:
        """Where in the traced function it comes from: names of modules and primitives, separated by `/`."""
        found = re.search(r'op_name="((?:[^"\\]|\\.)*)"', self.attributes)
        return found[1] if found else ""

    @property
    def cycles(self) -> int:
        """The compiler's estimate of its duration; 0 where there is none."""
        found = re.search(r'"estimated_cycles":"?(\d+)', self.attributes)
        return int(found[1]) if found else 0

    @property
    def calls(self) -> tuple[str, ...]:
        """Names of the computations it calls, the reducers included."""
        names = _CALLS.findall(self.attributes)
        for group in _BRANCHES.findall(self.attributes):
            names += [n.strip().lstrip("%") for n in group.split(",")]
        return tuple(names)

    def called(self, role: str) -> str:
        """The computation in one role (`body`, `condition`, `calls`); "" where there is none."""
        found = re.search(rf"\b{role}=%?([\w.\-]+)", self.attributes)
        return found[1] if found else ""

    @property
    def size(self) -> int:
        """Bytes that come out, without padding."""
        return sum(s.size for s in self.shapes)


@dataclasses.dataclass(frozen=True)
class Computation:
    """Instructions in the order they run.

    Attributes:
      name: its own.
      instructions: by name; the last one is the root.
    """

    name: str
    instructions: dict[str, Instruction]

    @property
    def root(self) -> Instruction:
        """The instruction whose result is the computation's."""
        return next(reversed(self.instructions.values()))

    def inputs(self, instruction: Instruction) -> list[Instruction]:
        """What an instruction reads, as far as it is defined here."""
        return [self.instructions[n] for n in instruction.operands if n in self.instructions]

    def users(self, name: str) -> list[Instruction]:
        """The instructions that read a result."""
        return [i for i in self.instructions.values() if name in i.operands]


@dataclasses.dataclass(frozen=True)
class Module:
    """A compiled program.

    Attributes:
      entry: where it starts.
      computations: all of them by name.
      partitions: devices it is divided over.
    """

    entry: str
    computations: dict[str, Computation]
    partitions: int

    def trips(self, loop: Instruction) -> int | None:
        """How often a `while` runs: as the compiler noted it, or from a condition `counter < constant`; None where it
        depends on data. The counter is taken to start at 0 and rise by 1, as those of `lax.scan` do."""
        noted = re.search(r'"known_trip_count":\{"n":"?(\d+)', loop.attributes)
        if noted:
            return int(noted[1])
        condition = self.computations.get(loop.called("condition"))
        if condition is None or condition.root.opcode != "compare" or "direction=LT" not in condition.root.attributes:
            return None
        limits = [i for i in condition.inputs(condition.root) if i.opcode == "constant"]
        value = re.match(r"(\d+)", limits[0].attributes) if limits else None
        return int(value[1]) if value else None

    def executed(self, name: str | None = None, times: int = 1) -> Iterator[tuple[Computation, Instruction, int]]:
        """Every instruction that runs by itself, how often, and the computation it stands in.

        Loops and calls are entered, fusions are not; of a conditional every branch counts. A loop of unknown length
        counts once.
        """
        computation = self.computations[name or self.entry]
        for instruction in computation.instructions.values():
            yield computation, instruction, times
            if instruction.opcode == "while":
                inside = times * (self.trips(instruction) or 1)
                yield from self.executed(instruction.called("body"), inside)
            elif instruction.opcode in ("call", "conditional"):
                for callee in instruction.calls:
                    yield from self.executed(callee, times)

    def fused(self, instruction: Instruction) -> Computation | None:
        """What a fusion (or a wrapped asynchronous operation) is made of."""
        return self.computations.get(instruction.called("calls"))


def parse(text: str) -> Module:
    """Read a module's text (`jax.stages.Compiled.as_text()`)."""
    computations: dict[str, Computation] = {}
    entry, current = "", None
    for line in text.splitlines():
        if current is None:
            found = _COMPUTATION.match(line)
            if found:
                current = Computation(found[2], {})
                entry = found[2] if found[1] else entry
        elif line.startswith("}"):
            computations[current.name] = current
            current = None
        elif instruction := _instruction(line):
            current.instructions[instruction.name] = instruction
    head = text[: text.find("\n")]
    counts = [int(n) for n in re.findall(r"\b(?:num_partitions|replica_count)=(\d+)", head)]
    return Module(entry or next(reversed(computations), ""), computations, math.prod(counts))


def _instruction(line: str) -> Instruction | None:
    found = _INSTRUCTION.match(line)
    if not found:
        return None
    rest = line[found.end() :]
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.find(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    opcode, bracket, _ = rest.partition("(")
    if not bracket:
        return None
    close = _closing(rest, len(opcode))
    inside = rest[len(opcode) + 1 : close]
    # A constant's value and a parameter's number stand where operands do; they go before the attributes.
    leaf = opcode in ("constant", "parameter")
    operands = () if leaf else tuple(re.findall(r"%([\w.\-]+)", inside))
    attributes = (inside if leaf else "") + rest[close + 1 :]
    return Instruction(found[1], opcode, parse_shapes(shape), operands, attributes)


def _closing(text: str, start: int) -> int:
    """Where the bracket that opens at or after `start` closes."""
    depth = 0
    for at in range(text.index("(", start), len(text)):
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        if depth == 0:
            return at
    return len(text)


# ------------------------------------------------------------------------------------------------------- collectives


@dataclasses.dataclass(frozen=True)
class Collective:
    """An exchange between chips.

    Attributes:
      kind: one of `COLLECTIVES`.
      size: bytes of the whole array that is exchanged, on one chip: what is reduced, scattered or sent, or what has
        been gathered.
      group: chips that take part together.
      times: how often it runs in a step.
      instruction: the name of the line.
      op_name: where it comes from.
    """

    kind: str
    size: int
    group: int
    times: int
    instruction: str
    op_name: str

    def sent(self, group: int | None = None) -> float:
        """Bytes each chip sends in one run over rings: (n - 1)/n of the array, twice that for an all-reduce.

        Args:
          group: instead of its own group's size.
        """
        n = group or self.group
        if self.kind.startswith("collective"):
            return self.size
        return self.size * (n - 1) / n * (2 if self.kind == "all-reduce" else 1)


def collectives(module: Module) -> list[Collective]:
    """Every exchange of a step; a start and its end count once, fused ones are found."""
    found: list[Collective] = []
    seen: set[str] = set()
    for computation, instruction, times in module.executed():
        if kind := collective_kind(instruction.opcode):
            found.append(_collective(module, computation, instruction, kind, times))
        elif instruction.opcode in ("fusion", "async-start"):
            inner = module.fused(instruction)
            for inside in inner.instructions.values() if inner else ():
                if kind := collective_kind(inside.opcode):
                    assert inner is not None
                    channel = re.search(r"channel_id=(\d+)", inside.attributes)
                    # The same exchange stands in the fusion that starts it and in the one that ends it.
                    if channel and channel[1] in seen:
                        continue
                    seen |= {channel[1]} if channel else set()
                    if kind == "all-reduce" and _is_scattered(inner, inside):
                        kind = "reduce-scatter"
                    found.append(_collective(module, inner, inside, kind, times))
    return found


def collective_kind(opcode: str) -> str:
    """One of `COLLECTIVES`, for the operation itself or its asynchronous start; "" for anything else."""
    plain = opcode.removesuffix("-start")
    return plain if plain in COLLECTIVES else ""


def _is_scattered(computation: Computation, reduce: Instruction) -> bool:
    """Whether each chip keeps only its part of a sum."""
    users = computation.users(reduce.name)
    return bool(users) and all(u.opcode == "dynamic-slice" for u in users)


def _collective(module: Module, home: Computation, line: Instruction, kind: str, times: int) -> Collective:
    group = group_size(line.attributes, module.partitions)
    size = sum(i.size for i in home.inputs(line)) or line.size
    if kind == "all-gather":
        size *= group
    return Collective(kind, size, group, times, line.name, line.op_name)


def group_size(attributes: str, partitions: int) -> int:
    """Devices in one group of a collective, in any of the notations XLA prints."""
    mesh = re.search(r"replica_groups=@?mesh\w*\[([^\]]*)\][^{]*\{([^}]*)\}", attributes)
    if mesh:
        axes = {k: int(n) for k, n in re.findall(r"'([^']+)'=(\d+)", mesh[1])}
        return math.prod(axes[k] for k in re.findall(r"'([^']+)'", mesh[2]) if k in axes)
    iota = re.search(r"replica_groups=\[(\d+),(\d+)\]<=", attributes)
    if iota:
        return int(iota[2])
    listed = re.search(r"replica_groups=\{\{([^}]*)\}", attributes)
    if listed:
        return len([n for n in listed[1].split(",") if n.strip()])
    if "source_target_pairs" in attributes:
        return 2
    return partitions
