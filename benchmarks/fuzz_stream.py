"""Fuzzing of the `.avfr` reader: mutated streams must give a clear error or frames.

    python -m benchmarks.fuzz_stream --streams 100000 --deep 300

Every stream is made from its number and the seed (`--only N` makes one again). All are rendered by a stand-in that
costs nothing, every fifth is also followed without a model, received as a call and described; `--deep` of them go
through `decode_file` with `landmark-warp`. An exception other than InputError and ConfigError, more frames than the
length of the file allows, or more than `--seconds` of processor time for one stream is a failure.
"""

import argparse
import collections
import contextlib
import dataclasses
import functools
import pathlib
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from avfr_jax.codec.bitstream import MAGIC, Kind, ReferenceCoding, read_packet
from avfr_jax.codec.container import largest_length, read_stream
from avfr_jax.codec.files import Stream, decode_file, decode_frames, encode_file
from avfr_jax.codec.receiver import Receiver
from avfr_jax.codec.settings import SenderSettings
from avfr_jax.codec.stream_statistics import describe_stream
from avfr_jax.errors import ConfigError, InputError
from avfr_jax.model_store import load_model
from benchmarks.fuzz_inputs import CHEAP, CLIP, COSTLY, Base, Mutation, bases, bomb, truncated

_COSTLY_EVERY = 200  # streams


# --- reading ---------------------------------------------------------------------------------------------------------


def _followed(data: bytes, base: Base) -> None:
    receiver = Receiver(rendering=False)
    for packet in read_stream(data):
        with contextlib.suppress(InputError):
            receiver.push(packet)
        if packet.kind is Kind.MOTION and receiver.can_render:
            collections.deque(receiver.poses(receiver.known), maxlen=0)


def _called(data: bytes, base: Base) -> None:
    receiver, at = base.receiver(), len(MAGIC)
    with contextlib.suppress(InputError):
        while at < len(data):
            _, after = read_packet(data, at)
            receiver.push_bytes(data[at:after])
            at = after
    receiver.push_bytes(data[:1500])


def _described(data: bytes, base: Base) -> None:
    describe_stream(data)
    with Stream.parse(data).sound_file():
        pass


def render_stream(number: int, data: bytes, base: Base) -> int:
    """Render a stream, and use every fifth in the other ways too; the number of frames. Raises what the reader does."""
    for use in (_followed, _called, _described) if number % 5 == 0 else ():
        with contextlib.suppress(InputError, ConfigError):
            use(data, base)
    frames = 0
    try:
        for _ in decode_frames(data, receiver=base.receiver()):
            frames += 1
    finally:
        if frames > largest_length(len(data)):
            raise AssertionError(f"{frames} frames were rendered from {len(data)} bytes")
    return frames


def decode_stream(number: int, data: bytes, base: Base, model: Any = None) -> int:
    """Decode a stream to a video."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "in.avfr"
        path.write_bytes(data)
        return decode_file(path, path.with_name("out.mp4"), size=64, model=model).frames


@dataclasses.dataclass
class Tally:
    """Results of the streams of one mutation."""

    streams: int = 0
    refused: int = 0
    frames: int = 0
    slowest: float = 0.0


def make(number: int, seed: int, made: Sequence[Base]) -> tuple[Mutation, Base, bytes]:
    """The stream of a number. The first are one base cut at every point."""
    smallest = min(made, key=lambda base: len(base.data))
    if number < len(smallest.data):
        return truncated, smallest, smallest.data[:number]
    rng = np.random.default_rng([seed, number])
    base, mutation = made[int(rng.integers(0, len(made)))], CHEAP[number % len(CHEAP)]
    if number % _COSTLY_EVERY == 0:
        mutation = COSTLY[number // _COSTLY_EVERY % len(COSTLY)]
    return mutation, base, mutation(base, rng)


def run(
    numbers: Sequence[int], seed: int, made: Sequence[Base], use: Callable[[int, bytes, Base], int], limit: float
) -> tuple[dict[str, Tally], list[str]]:
    """Read the streams of some numbers; tallies by mutation, and failures."""
    tallies: dict[str, Tally] = collections.defaultdict(Tally)
    failures = []
    for number in numbers:
        mutation, base, data = make(number, seed, made)
        tally, start = tallies[mutation.__name__], time.process_time()
        try:
            tally.frames += use(number, data, base)
        except (InputError, ConfigError):
            tally.refused += 1
        except Exception:
            failures.append(f"{number} ({mutation.__name__}): {traceback.format_exc(limit=-4)}")
        seconds = time.process_time() - start
        if seconds > limit:
            failures.append(f"{number} ({mutation.__name__}): {seconds:.1f} s for {len(data)} bytes")
        tally.streams, tally.slowest = tally.streams + 1, max(tally.slowest, seconds)
    return tallies, failures


def _clips() -> Iterator[Base]:
    """The bundled clip with each intra coding."""
    for coding in (ReferenceCoding.AV1, ReferenceCoding.HEVC, ReferenceCoding.WEBP):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "clip.avfr"
            settings = SenderSettings(reference_coding=coding, packet=25, refresh=50)
            encode_file(CLIP, path, settings=settings, sound=CLIP)
            yield Base(list(read_stream(path.read_bytes())), "mesh")


def _memory(what: str) -> float:
    """MiB of the process: `VmHWM`, its peak, or `VmRSS`."""
    (line,) = (x for x in pathlib.Path("/proc/self/status").read_text().splitlines() if x.startswith(what))
    return int(line.split()[1]) / 1024


def _report(numbers: Sequence[int], what: str, *arguments: Any) -> list[str]:
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _memory("VmRSS")
    tallies, failures = run(numbers, *arguments)
    print(f"{len(numbers)} streams {what}; memory grew by {_memory('VmHWM') - before:.0f} MiB at most.\n")
    print("| | streams | refused | frames | slowest, ms |\n| --- | --- | --- | --- | --- |")
    for name, tally in tallies.items():
        print(f"| {name} | {tally.streams} | {tally.refused} | {tally.frames} | {1e3 * tally.slowest:.0f} |")
    return failures


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 1 where something failed."""
    parser = argparse.ArgumentParser(description="mutated streams through the reader")
    parser.add_argument("--streams", type=int, default=100_000)
    parser.add_argument("--deep", type=int, default=300, help="streams through decode_file with landmark-warp")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first stream")
    parser.add_argument("--only", type=int, help="this stream alone")
    parser.add_argument("--seconds", type=float, default=2.0, help="processor time that one stream may take")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore", RuntimeWarning)  # wild poses overflow, and render to anything
    made, seed = bases(), options.seed
    numbers = range(options.first, options.first + options.streams) if options.only is None else [options.only]
    for which in range(8):
        bomb(which)
    run(range(1000, 1201), seed + 1, made, render_stream, options.seconds)  # compiles
    failures = _report(numbers, f"of seed {seed}", seed, made, render_stream, options.seconds)
    if options.deep:
        real, use = list(_clips()), functools.partial(decode_stream, model=load_model("landmark-warp"))
        run(range(100_001, 100_009), seed, real, use, 1e9)  # compiles
        deep = range(100_000, 100_000 + options.deep)
        failures += _report(deep, "through decode_file", seed, real, use, 30 * options.seconds)
    for failure in failures[:20]:
        print(f"\n{failure}", file=sys.stderr)
    print(f"\n{len(failures)} failures.")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
