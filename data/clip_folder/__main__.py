"""Prepare a folder of videos for training: `python -m data.clip_folder VIDEOS OUT`."""

from avfr_jax.interrupts import exit_on_signals

if __name__ == "__main__":  # before the imports, which take a while
    exit_on_signals("data.clip_folder", "stopped; finished clips are kept: run the same command again to resume.")


import argparse
import pathlib
import sys

from avfr_jax.errors import AvfrError
from avfr_jax.streams import standard_streams
from data.clip_folder.config import ClipConfig, TooManyRejectedError
from data.clip_folder.run import prepare

_EPILOG = """examples:
  python -m data.clip_folder ~/videos ~/clips
  python -m data.clip_folder ~/videos ~/clips --storage arrayrecord --workers 16 --identities people.csv

The command resumes: start it again after an interruption, or when videos were added.
A video is split at cuts, and where the face moves to another place (its box overlaps the first one by less than
0.25, VoxCeleb's rule). Exit status: 0, with a report of the rejections and their reasons; 2 for unusable input, or
where more videos gave no clip than --max-rejected allows (the clips of the others are prepared all the same);
130 after Ctrl-C, 143 after SIGTERM and 129 after SIGHUP.
"""


def arguments() -> argparse.ArgumentParser:
    default = ClipConfig()
    parser = argparse.ArgumentParser(
        prog="python -m data.clip_folder",
        description="Cut the face out of every video of a folder: square frames, face mesh, person mask, landmarks, "
        "sound and mel spectrogram, in the form that training reads.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("videos", type=pathlib.Path, metavar="VIDEOS", help="folder of videos; folders in it are searched too")
    add("out", type=pathlib.Path, metavar="OUT", help="folder of the dataset")
    add("--storage", choices=("folder", "arrayrecord"), default=default.storage, help="a file or a record a frame")
    add("--size", type=int, default=default.size, help=f"side of the frames in pixels ({default.size})")
    add("--fps", type=float, default=default.fps, help=f"frames a second ({default.fps:g})")
    add("--workers", type=int, default=default.workers, help="processes (one a core)")
    add("--seconds", type=float, metavar="MAX", help="use only the first MAX seconds of each video")
    add("--identities", type=pathlib.Path, metavar="FILE.csv", help="table of file and identity")
    add("--min-frames", type=int, default=default.min_frames, help=f"reject shorter clips ({default.min_frames})")
    add("--crop", choices=("auto", "none"), default=default.crop, help="a square around the face, or the whole picture")
    add("--stills", action="store_true", help="prepare the pictures of the folder, not the videos: clips of one frame")
    add("--priors", action=argparse.BooleanOptionalAction, default=default.priors, help="store mesh and mask")
    add(
        "--max-enlarge", type=float, default=default.max_enlarge, metavar="TIMES",
        help=f"reject faces whose crop would have to be enlarged more ({default.max_enlarge:g})",
    )  # fmt: skip
    add(
        "--max-outside", type=float, default=default.max_outside, metavar="SHARE",
        help=f"reject faces whose crop lies outside the picture by more ({default.max_outside:g})",
    )  # fmt: skip
    add(
        "--max-rejected", type=float, default=default.max_rejected, metavar="SHARE",
        help=f"fail if more of the videos gave no clip ({default.max_rejected:g})",
    )  # fmt: skip
    return parser


@standard_streams("data.clip_folder")
def main(argv: list[str] | None = None) -> int:
    options = vars(arguments().parse_args(argv))
    try:
        videos, out = options.pop("videos"), options.pop("out")
        print(prepare(videos, out, ClipConfig(**options)))
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
