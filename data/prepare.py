"""Prepare a published dataset for training: `python -m data.prepare voxceleb --videos DIR --metadata CSV --out DIR`."""

from avfr_jax.interrupts import exit_on_signals

if __name__ == "__main__":  # before the imports, which take a while
    exit_on_signals("data.prepare", "stopped; finished clips are kept: run the same command again to resume.")


import argparse
import pathlib
import sys

from avfr_jax.errors import AvfrError
from avfr_jax.streams import standard_streams
from data.clip_folder.config import ClipConfig, TooManyRejectedError
from data.voxceleb.run import prepare as prepare_voxceleb

_EPILOG = """examples:
  python -m data.prepare voxceleb --videos ~/youtube --metadata vox-metadata.csv --out ~/vox

VIDEOS holds whole videos named by their ids (5r0dWxy17C8.mp4), or clips that FOMM's preprocessing cut
(id10270#5r0dWxy17C8#000120#000310.mp4), in any folders. OUT/train and OUT/test are then the --data.path and
the --held_out.path of a training; OUT is the last line of the output.

The command resumes: start it again after an interruption, or when videos were added; what is missing or broken
is left out and listed with its reason. Exit status: 0; 2 for unusable input, or where more clips than
--max-rejected allows could not be prepared; 130 after Ctrl-C, 143 after SIGTERM and 129 after SIGHUP.
"""


def arguments() -> argparse.ArgumentParser:
    default = ClipConfig()
    parser = argparse.ArgumentParser(
        prog="python -m data.prepare",
        description="Prepare a published dataset, from a copy of its videos on disk, in the form that training reads.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="dataset", required=True, metavar="DATASET")
    voxceleb = commands.add_parser("voxceleb", help="the clips of FOMM's vox-metadata.csv")
    add = voxceleb.add_argument
    add("--videos", type=pathlib.Path, required=True, metavar="DIR", help="folder of whole videos, or of cut clips")
    add("--metadata", type=pathlib.Path, required=True, metavar="CSV", help="FOMM's vox-metadata.csv, or rows of it")
    add("--out", type=pathlib.Path, required=True, metavar="DIR", help="folder of the datasets train and test")
    add(
        "--crop", choices=("box", "square"), default="box",
        help="squeeze the box to a square, as published; or grow it to one",
    )  # fmt: skip
    add("--storage", choices=("folder", "arrayrecord"), default="arrayrecord", help="a file or a record a frame")
    add("--size", type=int, default=default.size, help=f"side of the frames in pixels ({default.size})")
    add("--fps", type=float, default=default.fps, help=f"frames a second ({default.fps:g})")
    add("--workers", type=int, default=default.workers, help="processes (one a core)")
    add("--seconds", type=float, metavar="MAX", help="use only the first MAX seconds of each clip")
    add("--min-frames", type=int, default=default.min_frames, help=f"reject shorter clips ({default.min_frames})")
    add("--priors", action=argparse.BooleanOptionalAction, default=default.priors, help="store mesh and mask")
    add(
        "--max-enlarge", type=float, default=default.max_enlarge, metavar="TIMES",
        help=f"reject boxes that would have to be enlarged more ({default.max_enlarge:g})",
    )  # fmt: skip
    add(
        "--max-rejected", type=float, default=1.0, metavar="SHARE",
        help="fail if more of the clips could not be prepared (1: never)",
    )  # fmt: skip
    return parser


@standard_streams("data.prepare")
def main(argv: list[str] | None = None) -> int:
    options = vars(arguments().parse_args(argv))
    try:
        del options["dataset"]
        videos, metadata, out = (options.pop(name) for name in ("videos", "metadata", "out"))
        for report in prepare_voxceleb(videos, metadata, out, ClipConfig(**options)).values():
            print(report)
        print(out)
    except AvfrError as error:
        if isinstance(error, TooManyRejectedError):
            print(error.report)
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; finished clips are kept: run the same command again to resume", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
