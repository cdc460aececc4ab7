"""TPU chips and slices.

Peaks, capacities and bandwidths are those of the Cloud TPU pages (docs.cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e}).
"""

import dataclasses
import math
import re

from avfr_jax.errors import ConfigError

GIB = 2**30
# One hop over the interconnect, from "How to Scale Your Model" (jax-ml.github.io/scaling-book, chapter on sharding).
HOP_SECONDS = 1e-6


@dataclasses.dataclass(frozen=True)
class Chip:
    """One TPU chip.

    Attributes:
      name: as in a topology's name.
      flops: dense bfloat16 peak, FLOP/s.
      hbm: capacity in bytes.
      hbm_bandwidth: bytes/s.
      ici_bandwidth: bytes/s sent over all links together (half the published bidirectional figure).
      mxu_flops: FLOPs of the matrix units per cycle.
      axes: dimensions of the torus.
      largest: chips in the largest slice.
      configuration: libtpu's name for one device per chip (`megacore` joins the two cores of a v4 or v5p chip).
    """

    name: str
    flops: float
    hbm: float
    hbm_bandwidth: float
    ici_bandwidth: float
    mxu_flops: int
    axes: int
    largest: int
    configuration: str = "default"

    @property
    def clock(self) -> float:
        """Clock frequency in Hz: peak FLOP/s over FLOPs per cycle."""
        return self.flops / self.mxu_flops


_MXU = 2 * 128 * 128
CHIPS = {
    c.name: c
    for c in (
        # v4: two cores of four 128 x 128 units; 6 links of 50 GB/s each way (Jouppi et al. 2023, table 4).
        Chip("v4", 275e12, 32 * GIB, 1200e9, 300e9, 8 * _MXU, 3, 4096, "megacore"),
        Chip("v5e", 197e12, 16e9, 819e9, 200e9, 4 * _MXU, 2, 256),
        Chip("v5p", 459e12, 95 * GIB, 2765e9, 600e9, 8 * _MXU, 3, 6144, "megacore"),
        # v6e: two 256 x 256 units; the published peak needs two passes through each per cycle at 1.75 GHz, which
        # agrees with the compiler's cycle counts of large matrix products.
        Chip("v6e", 918e12, 32e9, 1638e9, 400e9, 16 * _MXU, 2, 256),
    )
}


@dataclasses.dataclass(frozen=True)
class Slice:
    """Chips of one kind joined by their interconnect; `shape`: chips along each axis of the torus."""

    chip: Chip
    shape: tuple[int, ...]

    @property
    def chips(self) -> int:
        return math.prod(self.shape)

    @property
    def name(self) -> str:
        return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

    @property
    def hops(self) -> int:
        """Hops between the two most distant chips, every axis closed to a ring."""
        return sum(n // 2 for n in self.shape)


def parse_slice(name: str) -> Slice:
    """Parse generation and shape, `v5e:4x4` or `v5p:4x4x8`, or generation and number of chips, `v5e-16`.

    Raises:
      ConfigError: an unknown generation, or a shape that does not exist.
    """
    match = re.fullmatch(r"(v\d+[a-z]?)(?::(\d+(?:x\d+)*)|-(\d+))", name)
    if not match or match[1] not in CHIPS:
        raise ConfigError(
            f"There is no TPU topology {name!r}; write generation and shape, for example v5e:4x4, v6e:16x16, v4:2x2x4 "
            f"or v5p:4x4x4 (generations: {', '.join(CHIPS)})."
        )
    chip = CHIPS[match[1]]
    shape = tuple(int(n) for n in match[2].split("x")) if match[2] else slice_shape(chip, int(match[3]))
    # Hosts hold 2 x 2 chips.
    possible = len(shape) == chip.axes and all(n % 2 == 0 for n in shape[:2]) and all(shape)
    if not possible or math.prod(shape) > chip.largest:
        raise ConfigError(
            f"{name!r} is no slice of {chip.name}: it has {chip.axes} axes, the first two even, and at most "
            f"{chip.largest} chips; for example {chip.name}:{'x'.join(['4'] * chip.axes)}."
        )
    return Slice(chip, shape)


def slice_shape(chip: Chip, chips: int) -> tuple[int, ...]:
    """Most cube-like shape of a number of chips, smaller axes first.

    Raises:
      ConfigError: there is no slice of that many chips.
    """
    sizes = [2**i for i in range(1, 10)]
    if chip.axes == 2:
        shapes = [(a, b) for a in sizes for b in sizes if a <= b and a * b == chips]
    else:
        shapes = [(a, b, c) for a in sizes for b in sizes for c in (1, *sizes) if a <= b and a * b * c == chips]
        shapes = [s for s in shapes if s[2] >= s[1] or s[2] == 1]
    if not shapes or chips > chip.largest:
        raise ConfigError(f"There is no {chip.name} slice of {chips} chips; choose a power of two from 4 up.")
    return min(shapes, key=max)
