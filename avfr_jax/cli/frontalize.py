"""`avfr frontalize PICTURE OUT`: a portrait seen from the front."""

import argparse
import pathlib

from avfr_jax.cli.portrait import add_options, run_view

_EPILOG = """\
examples:
  avfr frontalize me.jpg front.png
  avfr frontalize me.jpg front.mp4 --driving talk.mp4

The head is turned to the front, in its own place and size. With --driving it keeps this pose and takes the clip's
expression. A model turns a head as far as it can: those of the face mesh by 20°.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.epilog = _EPILOG
    parser.add_argument("source", metavar="PICTURE", help="portrait")
    parser.add_argument("output", metavar="OUT", help=".png or .jpg; with --driving VIDEO .mp4, .mov, .mkv or .webm")
    add_options(parser)


def run(arguments: argparse.Namespace) -> None:
    """Write the portrait, or the video."""
    from avfr_jax.media.image import SUFFIXES
    from avfr_jax.motion import View

    front = View((0.0, 0.0, 0.0), (0.0, 0.0, 1.0), "absolute")
    as_picture = arguments.driving is None or pathlib.Path(arguments.output).suffix.lower() in SUFFIXES
    run_view(arguments, front, as_picture=as_picture)
