"""Train an experiment: `python -m experiments.train --config tiny`.

The same command resumes a run from the newest checkpoint in its work folder; else it starts from the weights of
`--init_from`, else from fresh weights. Exit status: 0 finished; 2 wrong input, in one sentence; 3 a loss, gradient or
weight was not finite; 143 after SIGTERM, 130 after Ctrl-C and 129 after SIGHUP, with a checkpoint of the last step if
there was one.
"""

from avfr_jax.interrupts import exit_on_signals

if __name__ == "__main__":  # before the imports; from the first step on, `avfr_jax.training.stopping.Stop` saves
    exit_on_signals("experiments.train", "stopped; what was saved stays, and the same command goes on from there.")


import argparse
import contextlib
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from avfr_jax.errors import AvfrError, ConfigError, OutputError
from avfr_jax.packages import missing_package
from avfr_jax.streams import standard_streams
from experiments.settings import leaves, load_config, override, parse_overrides

_EPILOG = """\
Every setting of the config can be changed: --data.batch_size 8 --optimiser.learning_rate 1e-4 --loop.steps 500
(a list: --schedule.milestones 60,90). --show prints them all.

examples:
  python -m experiments.train --config tiny
  python -m experiments.train --config fomm_vox_adv256 --data.path vox --workdir runs/vox
  srun python -m experiments.train --config fomm_vox_adv256 --data.path vox --distributed auto
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.train",
        description="Train an experiment, or resume its training.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, help="a config file, or the name of one in experiments/configs")
    parser.add_argument("--workdir", type=pathlib.Path, help="checkpoints, figures and the model; default: runs/NAME")
    parser.add_argument(
        "--distributed",
        default="none",
        metavar="auto|none|HOST:PORT,COUNT,INDEX",
        help="several processes: auto asks the cluster (TPU, Slurm, Kubernetes, MPI); else process INDEX of COUNT, the "
        "first of which listens at HOST:PORT; default: none",
    )
    parser.add_argument("--show", action="store_true", help="print every setting and stop")
    return parser


def join_processes(how: str) -> None:
    """Start JAX's distributed service.

    Args:
      how: `none`, `auto`, or `HOST:PORT,COUNT,INDEX`.

    Raises:
      ConfigError: it is none of these, or there is no cluster.
    """
    if how == "none":
        return
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    _initialise(how)
    if jax.default_backend() == "cpu":
        # Process 0 alone writes the cache, and a CPU's keys differ between processes: process 0 would run a stored
        # program and the others one of their own, whose collectives come in another order; gloo then aborts.
        jax.config.update("jax_enable_compilation_cache", False)


def _initialise(how: str) -> None:
    import jax

    if how == "auto":
        try:
            jax.distributed.initialize()
        except (ValueError, RuntimeError) as error:
            raise ConfigError(
                f"--distributed auto detected no cluster ({str(error).splitlines()[0]}); give HOST:PORT,COUNT,INDEX."
            ) from None
        return
    try:
        address, count, index = how.split(",")
        processes, process = int(count), int(index)
    except ValueError:
        raise ConfigError(f"--distributed must be auto, none or HOST:PORT,COUNT,INDEX, not {how!r}.") from None
    try:
        jax.distributed.initialize(address, num_processes=processes, process_id=process)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"--distributed {how} failed ({str(error).splitlines()[0]}).") from None


def train(experiment: Any, workdir: pathlib.Path, changed: Sequence[str] = ()) -> Any:
    """Prepare the data and train an `Experiment` in a work folder; `changed` are lines about settings, for the log.
    Returns the loop's `Outcome`."""
    from avfr_jax.training.loop import fit
    from avfr_jax.training.stopping import say
    from experiments.build import build_run, prepare_data
    from experiments.experiment import check

    check(experiment)
    experiment, run = build_run(prepare_data(experiment, workdir), workdir)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The work folder {workdir} cannot be made ({error.strerror}).") from None
    with contextlib.closing(run.data):  # type: ignore[type-var]
        for line in changed:
            say(line)
        for note in run.objective.notes:
            say(note)
        return fit(run)


def changes(experiment: Any, config: Any, name: str) -> list[str]:
    """Lines on the settings in which an experiment differs from a config, and on where all of them are."""
    before = leaves(config)
    differing = [f"  {key} = {value!r}" for key, value in leaves(experiment).items() if before.get(key) != value]
    title = f"Config {name}" + (", with" if differing else "")
    return [title, *differing, "All settings: --show, and config.json in the work folder."]


def _show(experiment: Any) -> int:
    """Print every setting."""
    print("\n".join(f"--{name} {value!r}" for name, value in leaves(experiment).items()))
    return 0


@standard_streams("experiments.train")
def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status (see the top of this file)."""
    arguments, rest = _parser().parse_known_args(argv)
    from avfr_jax.runtime import log_to_stderr, start_jax

    log_to_stderr()
    try:
        from experiments.experiment import Experiment

        config = load_config(arguments.config, Experiment)
        experiment = override(config, parse_overrides(rest))
        if arguments.show:
            return _show(experiment)
        join_processes(arguments.distributed)
        start_jax()
        workdir = arguments.workdir or pathlib.Path("runs") / experiment.name
        outcome = train(experiment, workdir, changes(experiment, config, arguments.config))
        return 128 + outcome.stopped_by if outcome.stopped_by else 0
    except ModuleNotFoundError as error:
        missing = missing_package(error)
        if missing is None:
            raise
        print(f"experiments.train: {missing}", file=sys.stderr)
        return 2
    except AvfrError as error:
        print(f"experiments.train: {error}", file=sys.stderr)
        return int(getattr(error, "exit_status", 2))
    except KeyboardInterrupt:
        print("\nexperiments.train: stopped at once; the last checkpoint stays.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
