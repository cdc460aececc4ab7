"""Compile the real training step for a TPU slice that is not there, and say what it would cost.

    python -m experiments.compile_check --config experiments/configs/fomm_vox_adv256.py --topology v5e:4x4

The machine needs no accelerator: libtpu, Google's compiler, is a Python package (`pip install 'avfr-jax[tpu-check]'`).
The step is the one that training runs (`avfr_jax.training.step`), on the config's own objective. Printed, for each
chip: memory by kind and whether it fits, FLOPs, bytes, the compiler's time estimates, the exchanges between chips, the
costliest operations and the worst-padded buffers; and from them samples a second, the share of the roofline and the
hours of the config's schedule on 4, 16, 64 and 256 chips. A full-size FOMM takes some minutes to compile.

Exit status: 0 when the step fits into the chip's memory, 1 when it does not, 2 when the request is wrong.
"""

import argparse
import dataclasses
import importlib.util
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
from avfr_jax.training.optimisers import make_optimisers
from avfr_jax.training.profiling import program_flops
from avfr_jax.training.sharding import check_batch, make_mesh
from avfr_jax.training.step import Optimisers, StepConfig, compile_ready_step, state_shapes
from experiments import costs, hlo
from experiments.compile_report import Memory, Report, as_json, as_text, at_sizes
from experiments.hardware import Slice, parse_slice, slice_shape

# What libtpu asks the machine it runs on; there is no TPU here to answer.
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


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be compiled.

    Attributes:
      name: of the config.
      objective: see `avfr_jax.training.objective`.
      optimisers: of its networks.
      step: how a step is run.
      batch_size: samples a step, over all chips.
      fsdp: devices that share one copy of the parameters.
      samples: that the schedule sees in all.
    """

    name: str
    objective: Any
    optimisers: Optimisers
    step: StepConfig
    batch_size: int
    fsdp: int
    samples: int


def load_plan(config: str, overrides: Sequence[str], identities: int = IDENTITIES) -> Plan:
    """A config's step and schedule.

    Args:
      config: a file, or the name of one in `experiments/configs`.
      overrides: `--key value …`, as `experiments.train` takes them.
      identities: of the dataset, for schedules in epochs; the data itself need not be here.

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
        if experiment.losses.perceptual_network != "vgg19":
            raise
        # What a step costs does not depend on the values.
        losses = dataclasses.replace(experiment.losses, perceptual_network="vgg19-random")
        objective = build_objective(dataclasses.replace(experiment, losses=losses))
    optimisers = make_optimisers(experiment.optimiser, objective.networks)
    samples = experiment.loop.steps * experiment.data.batch_size
    return Plan(
        experiment.name,
        objective,
        optimisers,
        experiment.step,
        experiment.data.batch_size,
        experiment.mesh.fsdp,
        samples,
    )


def slice_devices(where: Slice) -> list[Any]:
    """Descriptions of a slice's chips, to compile for.

    Raises:
      MissingBackendError: libtpu is not installed.
      ConfigError: libtpu knows no such slice.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise MissingBackendError(
            "Compiling for a TPU needs the package libtpu (about 210 MB): pip install 'avfr-jax[tpu-check]'."
        )
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from jax.experimental import topologies

    try:
        found = topologies.get_topology_desc(
            platform="tpu", topology_name=where.name, chip_config_name=where.chip.configuration
        )
    except jax.errors.JaxRuntimeError as error:
        raise ConfigError(f"libtpu knows no slice {where.name}: {str(error).splitlines()[0]}") from error
    return list(found.devices)


def check(plan: Plan, where: Slice, *, quick: bool = False, text_file: pathlib.Path | None = None) -> Report:
    """Compile a plan's step for a slice and take it apart.

    Args:
      plan: what to compile.
      where: for which slice.
      quick: with the compiler's lowest effort: three times as fast, and good for memory and exchanges only; the
        program it makes is several times slower.
      text_file: the optimised program is written here.

    Raises:
      ConfigError: the slice cannot divide the batch or share the parameters so.
      MissingBackendError: libtpu is not installed.
      OutputError: `text_file` cannot be written.
      DoesNotFit: the compiler found no way to fit the step into the chip's memory.
    """
    mesh = make_mesh(fsdp=plan.fsdp, devices=slice_devices(where))
    check_batch(mesh, plan.batch_size, plan.step.accumulate)
    shapes = state_shapes(plan.objective, plan.optimisers, plan.step)
    step = compile_ready_step(plan.objective, plan.optimisers, mesh, plan.step)
    lowered = step.lower(shapes, plan.objective.frozen, plan.objective.example_batch(plan.batch_size))
    start = time.perf_counter()
    with _effort(-1.0 if quick else 0.0):
        try:
            compiled = lowered.compile()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise DoesNotFit(_too_much(str(error), plan.batch_size // where.chips)) from error
    seconds = time.perf_counter() - start
    text = compiled.as_text()
    if text_file:
        _write(text_file, text)
    return _report(plan, where, compiled, hlo.parse(text), seconds)


def _write(path: pathlib.Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}).") from None


class DoesNotFit(AvfrError):
    """The step needs more memory than the chip has."""


def _too_much(message: str, per_chip: int) -> str:
    used = re.search(r"Used ([\d.]+\w) of ([\d.]+\w) hbm", message)
    how_much = f"{used[1]} of the chip's {used[2]}" if used else "more than the chip has"
    return (
        f"The step does not fit: it needs {how_much} with {per_chip} samples a chip; take fewer (--batch-per-chip), "
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
    """FLOPs of the model a chip and step, counted before compilation: without padding and layout changes."""
    mesh = make_mesh(devices=jax.local_devices(backend="cpu")[:1])
    step = compile_ready_step(plan.objective, plan.optimisers, mesh, dataclasses.replace(plan.step, per_device=False))
    shapes = state_shapes(plan.objective, plan.optimisers, plan.step)
    traced = step.trace(shapes, plan.objective.frozen, plan.objective.example_batch(per_chip))
    # For a TPU, because a CPU gets other convolutions.
    lowered = traced.lower(lowering_platforms=("tpu",))
    return program_flops(lowered, passes=plan.step.accumulate) or 0.0


def _report(plan: Plan, where: Slice, compiled: Any, module: hlo.Module, seconds: float) -> Report:
    size, per_chip = compiled.memory_analysis(), plan.batch_size // where.chips
    figures = compiled.cost_analysis()
    memory = Memory(
        size.argument_size_in_bytes, size.output_size_in_bytes, size.alias_size_in_bytes, size.temp_size_in_bytes,
        size.generated_code_size_in_bytes, where.chip.hbm,
    )  # fmt: skip
    program = costs.Program(
        where.chips, per_chip, plan.fsdp, model_flops(plan, per_chip), costs.operations(module, where.chip),
        hlo.collectives(module), costs.total_traffic(module),
    )  # fmt: skip
    optimal = figures.get("optimal_seconds", 0.0)
    loops = [line for _, line, _ in module.executed() if line.opcode == "while" and module.trips(line) is None]
    return Report(
        where, plan.batch_size, seconds, memory, figures.get("flops", 0.0), figures.get("bytes accessed", 0.0),
        optimal if optimal > 0 else None, program, costs.padded_buffers(module), len(loops),
    )  # fmt: skip


def parse_arguments(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The command line -> options, and what is left over: overrides of the config."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.compile_check",
        description="Compile the training step for a TPU slice that is not there, and say what it would cost.",
        epilog="example: python -m experiments.compile_check --config experiments/configs/fomm_vox_adv256.py "
        "--topology v5e:4x4 --batch-per-chip 8. Any other --key value overrides a setting of the config.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, help="a config file, or the name of one in experiments/configs")
    parser.add_argument("--topology", default="v5e:4x4", help="generation and shape, v5e:16x16, or chips, v5e-256")
    parser.add_argument("--batch-per-chip", type=int, help="samples on each chip, instead of the config's batch size")
    parser.add_argument("--slices", default="4,16,64,256", help="numbers of chips to estimate for")
    parser.add_argument("--compile-each", action="store_true", help="compile for each of them instead of scaling")
    parser.add_argument("--identities", type=int, default=IDENTITIES, help="of the dataset, for schedules in epochs")
    parser.add_argument("--quick", action="store_true", help="lowest effort: right for memory and exchanges, not time")
    parser.add_argument("--hlo", type=pathlib.Path, help="write the optimised program to this file")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_known_args(argv)


def run(argv: Sequence[str]) -> int:
    """The command; returns its exit status."""
    options, overrides = parse_arguments(argv)
    where = parse_slice(options.topology)
    sizes = [Slice(where.chip, slice_shape(where.chip, n)) for n in _numbers(options.slices)]
    plan = load_plan(options.config, overrides, options.identities)
    per_chip = options.batch_per_chip

    def fitted(to: Slice) -> Plan:
        return dataclasses.replace(plan, batch_size=per_chip * to.chips) if per_chip else plan

    with _progress(f"compiling {plan.name} for {where.name}"):
        report = check(fitted(where), where, quick=options.quick, text_file=options.hlo)
    scaled = [(e, e.chips == where.chips) for e in at_sizes(report, sizes)]
    if options.compile_each:
        for i, size in enumerate(sizes):
            if size.chips != where.chips:
                same = dataclasses.replace(plan, batch_size=report.program.batch * size.chips)
                with _progress(f"compiling {plan.name} for {size.name}"):
                    scaled[i] = (at_sizes(check(same, size, quick=options.quick), [size])[0], True)
    print((as_json if options.json else as_text)(plan.name, report, scaled, plan.samples))
    return 0 if report.memory.fits else 1


def _numbers(text: str) -> list[int]:
    try:
        return [int(n) for n in text.split(",") if n]
    except ValueError:
        raise ConfigError(f"--slices takes numbers of chips with commas between, not {text!r}.") from None


@contextmanager
def _progress(what: str) -> Iterator[None]:
    """Say on stderr, every ten seconds, how long it has been."""
    done = threading.Event()
    start = time.monotonic()

    def tell() -> None:
        while not done.wait(10):
            print(f"{what}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)

    print(what, file=sys.stderr, flush=True)
    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; one sentence on stderr for whatever the user can mend."""
    jax.config.update("jax_platforms", "cpu")
    try:
        return run(sys.argv[1:] if argv is None else argv)
    except DoesNotFit as error:
        print(f"compile_check: {error}", file=sys.stderr)
        return 1
    except AvfrError as error:
        print(f"compile_check: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
