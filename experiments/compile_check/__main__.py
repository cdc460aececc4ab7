"""Compile the training step for a TPU slice without the hardware and estimate its cost.

    python -m experiments.compile_check --config experiments/configs/fomm_vox_adv256.py --topology v5e:4x4

No accelerator is needed: libtpu, Google's compiler, is a Python package (`pip install 'avfr-jax[tpu-check]'`). The step
is the one that training runs (`avfr_jax.training.step`), on the config's own objective. Printed per chip: memory and
whether the step fits, FLOPs, HBM traffic, exchanges between chips, the costliest operations and layers; and from them
samples per second, the share of the roofline and the hours of the config's schedule on 4, 16, 64 and 256 chips. A
full-size FOMM takes some minutes to compile.

The compiler gets `--minutes`, because not every version of libtpu comes back: `LIBTPU` was tried.

Exit status: 0 when the step fits into the chip's memory, 1 when it does not, 2 for a bad request, 3 when the compiler
has not come back in time.
"""

from avfr_jax.interrupts import exit_on_signals

if __name__ == "__main__":  # before the imports, which take a while
    exit_on_signals("experiments.compile_check", "stopped.")


import argparse
import dataclasses
import importlib.metadata
import importlib.util
import math
import os
import pathlib
import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax

from avfr_jax.errors import AvfrError, ConfigError, MissingBackendError, OutputError
from avfr_jax.streams import standard_streams
from avfr_jax.training.optimisers import make_optimisers
from avfr_jax.training.profiling import program_flops
from avfr_jax.training.sharding import check_batch, make_mesh
from avfr_jax.training.step import Optimisers, StepConfig, compile_ready_step, state_shapes
from avfr_jax.training.terms import Perceptual
from experiments.compile_check import costs, hlo
from experiments.compile_check.hardware import Slice, parse_slice, slice_shape
from experiments.compile_check.report import Report, as_json, as_text

# libtpu queries these of the host it runs on; without a TPU there is nothing to answer.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-16",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
# Speakers of VoxCeleb1's development set (Nagrani et al. 2017), which the published schedules count in epochs.
IDENTITIES = 1211
LIBTPU = "0.0.42"
"""Version of libtpu that the extra `tpu-check` installs."""
LATE = 3
"""Exit status when the compiler has not come back in time."""
_INTERVAL = 10.0  # seconds between two lines of progress


class DoesNotFit(AvfrError):
    """The step needs more memory than the chip has."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """A step to compile.

    Attributes:
      name: of the config.
      objective: see `avfr_jax.training.objective`.
      optimisers: of its networks.
      step: settings of the step.
      batch_size: samples per step, over all chips.
      fsdp: devices that share one copy of the parameters.
      samples: of the whole schedule.
    """

    name: str
    objective: Any
    optimisers: Optimisers
    step: StepConfig
    batch_size: int
    fsdp: int
    samples: int


def load_plan(config: str, overrides: Sequence[str], identities: int = IDENTITIES) -> Plan:
    """Build a config's step and schedule.

    Args:
      config: a file, or the name of one in `experiments/configs`.
      overrides: `--key value …`, as for `experiments.train`.
      identities: of the dataset, for schedules in epochs; the data itself is not read.

    Raises:
      InputError, ConfigError: see `experiments.settings`.
      MissingBackendError: a frozen network other than VGG19 is absent (VGG19's weights may be random here).
    """
    from experiments.experiment import Experiment, build_objective, with_schedule
    from experiments.settings import load_config, override, parse_overrides

    experiment = override(load_config(config, Experiment), parse_overrides(overrides))
    experiment = with_schedule(experiment, identities)
    try:
        objective = build_objective(experiment)
    except MissingBackendError:
        if not any(isinstance(term, Perceptual) and term.network == "vgg19" for term in experiment.losses):
            raise
        # The cost of a step does not depend on the values.
        objective = build_objective(override(experiment, {"losses.perceptual.network": "vgg19-random"}))
    optimisers, batch_size = make_optimisers(experiment.optimiser, objective.networks), experiment.data.batch_size
    samples = experiment.loop.steps * batch_size
    return Plan(experiment.name, objective, optimisers, experiment.step, batch_size, experiment.mesh.fsdp, samples)


def slice_devices(where: Slice) -> list[Any]:
    """Descriptions of a slice's chips, to compile for.

    Raises:
      MissingBackendError: libtpu is not installed.
      ConfigError: libtpu has no such slice.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise MissingBackendError(
            "Compiling for a TPU needs the package libtpu (about 210 MB): pip install 'avfr-jax[tpu-check]'."
        )
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from jax.experimental import topologies

    try:
        topology = topologies.get_topology_desc(
            platform="tpu", topology_name=where.name, chip_config_name=where.chip.configuration
        )
    except jax.errors.JaxRuntimeError as error:
        raise ConfigError(f"libtpu has no slice {where.name}: {str(error).splitlines()[0]}") from error
    return list(topology.devices)


def check(plan: Plan, where: Slice, *, quick: bool = False, text_file: pathlib.Path | None = None) -> Report:
    """Compile a plan's step for a slice and analyse the program.

    Args:
      plan: the step.
      where: the slice.
      quick: compile with the lowest effort: three times as fast, and right for memory and exchanges only; the program
        itself is several times slower.
      text_file: file for the optimised program.

    Raises:
      ConfigError: the slice cannot divide the batch or share the parameters so.
      MissingBackendError: libtpu is not installed.
      OutputError: `text_file` cannot be written.
      DoesNotFit: the compiler could not fit the step into the chip's memory.
    """
    mesh = make_mesh(fsdp=plan.fsdp, devices=slice_devices(where))
    check_batch(mesh, plan.batch_size, plan.step.accumulate)
    shapes = state_shapes(plan.objective, plan.optimisers, plan.step)
    step = compile_ready_step(plan.objective, plan.optimisers, mesh, plan.step)
    lowered = step.lower(shapes, plan.objective.frozen, plan.objective.example_batch(plan.batch_size))
    per_chip, start = plan.batch_size // where.chips, time.perf_counter()
    with _effort(-1.0 if quick else 0.0):
        try:
            compiled = lowered.compile()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise DoesNotFit(_too_much(str(error), per_chip)) from error
    seconds, text = time.perf_counter() - start, compiled.as_text()
    if text_file:
        try:
            text_file.write_text(text)
        except OSError as error:
            raise OutputError(f"{text_file} cannot be written ({error.strerror}).") from None
    module = hlo.parse(text)
    program = costs.Program(
        where.chips, per_chip, plan.fsdp, model_flops(plan, per_chip), costs.operations(module, where.chip),
        hlo.collectives(module), costs.total_traffic(module),
    )  # fmt: skip
    open_loops = sum(line.opcode == "while" and module.trips(line) is None for _, line, _ in module.executed())
    memory, figures = compiled.memory_analysis(), compiled.cost_analysis()
    return Report(where, plan.batch_size, seconds, memory, figures, program, open_loops)


def _too_much(message: str, per_chip: int) -> str:
    used = re.search(r"Used ([\d.]+\w) of ([\d.]+\w) hbm", message)
    amount = f"{used[1]} of the chip's {used[2]}" if used else "more than the chip has"
    return (
        f"The step does not fit: it needs {amount} with {per_chip} samples a chip; take fewer (--batch-per-chip), "
        "accumulate gradients, recompute activations (remat), or share the parameters (fsdp)."
    )


@contextmanager
def _effort(value: float) -> Iterator[None]:
    before = jax.config.jax_exec_time_optimization_effort  # type: ignore[attr-defined]
    jax.config.update("jax_exec_time_optimization_effort", value)
    try:
        yield
    finally:
        jax.config.update("jax_exec_time_optimization_effort", before)


def model_flops(plan: Plan, per_chip: int) -> float:
    """FLOPs of the model per chip and step, counted before compilation: without padding and layout changes."""
    mesh = make_mesh(devices=jax.local_devices(backend="cpu")[:1])
    step = compile_ready_step(plan.objective, plan.optimisers, mesh, dataclasses.replace(plan.step, per_device=False))
    shapes = state_shapes(plan.objective, plan.optimisers, plan.step)
    traced = step.trace(shapes, plan.objective.frozen, plan.objective.example_batch(per_chip))
    # For a TPU, because a CPU gets other convolutions.
    return program_flops(traced.lower(lowering_platforms=("tpu",)), passes=plan.step.accumulate) or 0.0


def parse_arguments(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Parse the command line into options and the remaining words, overrides of the config."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.compile_check",
        description="Compile the training step for a TPU slice without the hardware and estimate its cost.",
        epilog="Any other --key value overrides a setting of the config.\n\nexample:\n"
        "  python -m experiments.compile_check --config fomm_vox_adv256 --topology v5e:4x4 --batch-per-chip 8",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, help="a config file, or the name of one in experiments/configs")
    parser.add_argument("--topology", default="v5e:4x4", help="generation and shape, v5e:16x16, or chips, v5e-256")
    parser.add_argument("--batch-per-chip", type=int, help="samples on each chip, instead of the config's batch size")
    parser.add_argument("--slices", default="4,16,64,256", help="numbers of chips to estimate for")
    parser.add_argument("--compile-each", action="store_true", help="compile for each of them instead of scaling")
    parser.add_argument("--identities", type=int, default=IDENTITIES, help="of the dataset, for schedules in epochs")
    parser.add_argument("--quick", action="store_true", help="lowest effort: right for memory and exchanges, not time")
    parser.add_argument("--minutes", type=float, default=10.0, help="stop after this time; default: %(default)g")
    parser.add_argument("--hlo", type=pathlib.Path, help="write the optimised program to this file")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_known_args(argv)


def run(argv: Sequence[str]) -> int:
    """Run the command; returns its exit status."""
    options, overrides = parse_arguments(argv)
    if not (math.isfinite(options.minutes) and options.minutes > 0):
        raise ConfigError(f"--minutes takes a length of time, not {options.minutes:g}.")
    deadline = time.monotonic() + 60 * options.minutes
    where = parse_slice(options.topology)
    try:
        numbers = [int(n) for n in options.slices.split(",") if n]
    except ValueError:
        raise ConfigError(f"--slices takes numbers of chips with commas between, not {options.slices!r}.") from None
    sizes = [Slice(where.chip, slice_shape(where.chip, n)) for n in numbers]
    with _progress(f"preparing {options.config}", deadline, options):
        plan = load_plan(options.config, overrides, options.identities)
    if options.batch_per_chip:
        plan = dataclasses.replace(plan, batch_size=options.batch_per_chip * where.chips)
    with _progress(f"compiling {plan.name} for {where.name}", deadline, options):
        report = check(plan, where, quick=options.quick, text_file=options.hlo)
    scaled = []
    for size in sizes:
        program, compiled = report.program, size.chips == where.chips
        if options.compile_each and not compiled:
            with _progress(f"compiling {plan.name} for {size.name}", deadline, options):
                same = dataclasses.replace(plan, batch_size=program.batch * size.chips)
                program, compiled = check(same, size, quick=options.quick).program, True
        scaled.append((costs.estimate(program, size), compiled))
    print((as_json if options.json else as_text)(plan.name, report, scaled, plan.samples))
    return 0 if report.fits else 1


@contextmanager
def _progress(title: str, deadline: float, options: argparse.Namespace) -> Iterator[None]:
    """Print the elapsed time to stderr every ten seconds. At the deadline, in `time.monotonic()`'s seconds, the process
    exits with `LATE` and a sentence: a compilation cannot be interrupted."""
    done, start = threading.Event(), time.monotonic()

    def show() -> None:
        while not done.wait(max(0.0, min(_INTERVAL, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                print(f"compile_check: {late(title, options)}", file=sys.stderr, flush=True)
                os._exit(LATE)
            print(f"{title}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)

    print(title, file=sys.stderr, flush=True)
    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def late(title: str, options: argparse.Namespace) -> str:
    """The sentence for a compiler that has not come back in time, with what to try."""
    try:
        version = importlib.metadata.version("libtpu")
    except importlib.metadata.PackageNotFoundError:
        version = "of an unknown version"
    other = "" if version == LIBTPU else f" pip install libtpu=={LIBTPU}, which was tried,"
    quick = "" if options.quick else " --quick (right for memory and exchanges),"
    return (
        f"{title}: libtpu {version} has not come back after {options.minutes:g} minutes; try{other}{quick} or more "
        f"time, --minutes {3 * options.minutes:g}."
    )


@standard_streams("experiments.compile_check")
def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; prints user errors as one sentence on stderr."""
    jax.config.update("jax_platforms", "cpu")
    try:
        return run(sys.argv[1:] if argv is None else argv)
    except AvfrError as error:
        print(f"compile_check: {error}", file=sys.stderr)
        return 1 if isinstance(error, DoesNotFit) else 2


if __name__ == "__main__":
    sys.exit(main())
