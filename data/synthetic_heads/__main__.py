"""Render a set of clips: `python -m data.synthetic_heads OUT_DIR --clips 10 --seconds 4`.

Clip k has the seed SEED + k and is named by it. Running the command again renders the missing clips.
"""

from avfr_jax.interrupts import exit_on_signals

if __name__ == "__main__":  # before the imports, which take a while
    exit_on_signals("data.synthetic_heads", "stopped; finished clips are kept: run the same command again to resume.")


import argparse
import concurrent.futures
import pathlib
import sys

from avfr_jax.errors import AvfrError, ConfigError, OutputError
from avfr_jax.streams import standard_streams
from data.processes import worker_pool
from data.synthetic_heads.files import finished, render_one, write_sheet


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m data.synthetic_heads",
        description="Render synthetic talking heads: mp4 with sound, ground truth as npz, a contact sheet.",
        epilog="example:\n  python -m data.synthetic_heads heads --clips 10 --seconds 4 --workers 2",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=pathlib.Path, metavar="OUT_DIR", help="where the clips go")
    parser.add_argument("--clips", type=int, default=10, help="number of clips (10)")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each clip (4)")
    parser.add_argument("--size", type=int, default=256, help="frame width and height in pixels (256)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first clip (0)")
    parser.add_argument("--workers", type=int, default=1, help="processes (1)")
    return parser


def run(options: argparse.Namespace) -> None:
    """Render the missing clips. Raises ConfigError or OutputError."""
    from tqdm import tqdm

    frames = round(options.seconds * 25)
    if options.clips < 1 or frames < 1 or options.workers < 1 or options.seed < 0:
        raise ConfigError("--clips, --seconds and --workers must be positive and --seed not negative")
    if options.size < 32 or options.size % 2:
        raise ConfigError(f"--size must be an even number of pixels from 32 up, not {options.size}")
    folder = options.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}; name another one") from error
    seeds = [options.seed + k for k in range(options.clips)]
    missing = [seed for seed in seeds if not finished(folder, seed, frames, options.size)]
    with tqdm(total=len(seeds), initial=len(seeds) - len(missing), unit="clip", file=sys.stderr) as bar:
        if options.workers == 1:
            for seed in missing:
                render_one(folder, seed, frames, options.size)
                bar.update()
        elif missing:
            with worker_pool(options.workers) as pool:
                jobs = [pool.submit(render_one, folder, seed, frames, options.size) for seed in missing]
                for job in concurrent.futures.as_completed(jobs):
                    job.result()
                    bar.update()
    write_sheet(folder, seeds)


@standard_streams("data.synthetic_heads")
def main(argv: list[str] | None = None) -> int:
    options = arguments().parse_args(argv)
    try:
        run(options)
    except AvfrError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
