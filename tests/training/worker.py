"""A small training run in a process of its own; a batch takes SECONDS to read:

    python -m tests.training.worker WORKDIR STEPS EVERY SECONDS [PORT INDEX]

Exits with 0 when done, and with 143 or 130 when stopped by a signal.
"""

import pathlib
import sys

from avfr_jax.checkpoints import save_tree
from avfr_jax.training.loop import LoopConfig, fit
from experiments.train import join_processes
from tests.training.small import small_run

BATCH = 8


def loop_config(steps: int, every: int) -> LoopConfig:
    """Figures of every step, checkpoints all the time."""
    return LoopConfig(
        steps=steps, log_every=1, panel_every=0, validate_every=10, checkpoint_every=every, tensorboard=False
    )


def main(words: list[str]) -> int:
    """One run."""
    workdir, steps, every, seconds = pathlib.Path(words[0]), int(words[1]), int(words[2]), float(words[3])
    if len(words) > 4:
        join_processes(f"localhost:{words[4]},2,{words[5]}")

    def export(variables, about, quality) -> pathlib.Path:  # process 0 alone is asked to
        save_tree(workdir / "model", variables)
        return workdir / "model"

    loop = loop_config(steps, every)
    outcome = fit(small_run(workdir, loop=loop, batch_size=BATCH, seconds=seconds, export=export))
    return 128 + outcome.stopped_by if outcome.stopped_by else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
