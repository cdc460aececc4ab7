"""The ablation of AVFR-GAN (thesis, table 2.3) at any budget: five trainings that differ in their parts alone.

    python -m experiments.ablation CLIPS --config avfr128 --workdir runs/ablation \\
        --data.path clips,stills --loop.steps 2400

Every row is trained by `experiments.train` with the same config, seed and overrides, one after another, in
`WORKDIR/ROW`; then all are measured on CLIPS by the same-identity protocol of `experiments.evaluate`. Stopped, the same
command resumes. The paper's values, of VoxCeleb at the full budget, stand beside for their order.
"""

from avfr_jax.interrupts import exit_on_signals

if __name__ == "__main__":  # before the imports, which take a while; a training takes its signals itself
    exit_on_signals("experiments.ablation", "stopped; what is finished stays, and the same command resumes.")


import argparse
import pathlib
import sys
from collections.abc import Mapping, Sequence

from avfr_jax.errors import AvfrError
from avfr_jax.models.avfr import PARTS, SWITCHES
from avfr_jax.streams import standard_streams
from experiments.evaluate import COPY, evaluate, mean
from experiments.harness import Results, find_clips, run_child

ROWS: Mapping[str, tuple[str, ...]] = {"baseline": (), **PARTS, "whole": SWITCHES}
PAPER = {
    "baseline": "0.740 / 11.04 / 5.17",
    "structural": "0.801 / 8.98 / 5.19",
    "audio": "0.790 / 8.69 / 5.48",
    "identity": "0.812 / 8.51 / 5.13",
    "whole": "0.824 / 8.48 / 5.45",
}
_COLUMNS = ("l1", "psnr", "ssim", "mouth_l1", "lmd", "mouth", "motion", "pose_points")
_HEADS = ("L1 ↓", "PSNR ↑", "SSIM ↑", "mouth L1 ↓", "landmarks px ↓", "lips px ↓", "motion ↑", "body px ↓")


def switches(row: str) -> list[str]:
    """Overrides that make a config one row of the table."""
    on = ROWS[row]
    words = {f"model.{name}": name in on for name in SWITCHES}
    words["data.priors"] = "structural_prior" in on
    words["data.mel"] = "audio_encoder" in on or "audio_attention" in on
    return [word for name, value in words.items() for word in (f"--{name}", str(value).lower())]


def train(row: str, config: str, workdir: pathlib.Path, overrides: Sequence[str]) -> int:
    """Train or resume a row; returns the exit status of `experiments.train`, which gets this process's signals."""
    words = ["--config", config, "--workdir", str(workdir / row), *overrides, *switches(row)]
    return run_child([sys.executable, "-m", "experiments.train", *words])


def table(figures: Mapping[str, Mapping[str, float]]) -> str:
    """The measured means of every row beside the paper's SSIM, FID and Sync."""
    lines = [f"| | {' | '.join(_HEADS)} | paper: SSIM / FID / Sync |", "| --- " * (len(_HEADS) + 2) + "|"]
    for name, row in figures.items():
        cells = [f"{row[c]:.4g}" if c in row else "-" for c in _COLUMNS]
        lines.append(f"| {name} | {' | '.join(cells)} | {PAPER.get(name, '')} |")
    return "\n".join(lines)


@standard_streams("experiments.ablation")
def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.ablation",
        description="Train the five rows of AVFR-GAN's ablation and compare them. Further words are those of "
        "experiments.train.",
        epilog="example:\n  python -m experiments.ablation unseen/ --workdir runs --data.path clips --loop.steps 2400",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("clips", nargs="+", type=pathlib.Path, help="clips of people that are not trained on")
    parser.add_argument("--config", default="avfr128", help="of the whole model; default: avfr128")
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/ablation"))
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), help="default: all")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each clip; default: 3")
    options, overrides = parser.parse_known_args(argv)
    try:
        clips = find_clips(options.clips)
        for row in options.rows:
            status = train(row, options.config, options.workdir, overrides)
            if status:
                return status
        models = {str(options.workdir / row / "model"): row for row in options.rows}
        results = evaluate(clips, list(models), options.seconds, Results(options.workdir / "figures"))
    except AvfrError as error:
        print(f"experiments.ablation: {error}", file=sys.stderr)
        return 2
    print(table({models.get(name, "copying" if name == COPY else name): mean(rows) for name, rows in results.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
