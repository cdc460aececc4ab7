"""`avfr orbit PICTURE OUT.mp4`: a portrait turned from side to side."""

import argparse
import math

from avfr_jax.cli.portrait import add_options, run_view
from avfr_jax.errors import ConfigError

_EPILOG = """\
examples:
  avfr orbit me.jpg orbit.mp4
  avfr orbit me.jpg orbit.mp4 --driving talk.mp4 --degrees 15

The head turns to the image's right, to the left and back, from its own pose; with --driving from the clip's, again and
again. A model turns a head as far as it can: those of the face mesh by 20°.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("source", metavar="PICTURE", help="portrait")
    add("output", metavar="OUT.mp4", help=".mp4, .mov, .mkv or .webm")
    add("--degrees", type=float, default=30.0, metavar="N", help="largest angle to each side (default: 30)")
    add("--seconds", type=float, default=4.0, metavar="N", help="length of one turn to both sides (default: 4)")
    add_options(parser)


def run(arguments: argparse.Namespace) -> None:
    """Write the video."""
    from avfr_jax.media.image import is_picture
    from avfr_jax.motion import Orbit
    from avfr_jax.tracking.clip import DEFAULT_FPS

    if not (math.isfinite(arguments.seconds) and 0.1 <= arguments.seconds <= 3600):
        raise ConfigError(f"--seconds must be from 0.1 to 3600, not {arguments.seconds:g}.")
    if arguments.driving is not None and is_picture(arguments.driving):
        raise ConfigError(f"{arguments.driving} is a picture: an orbit is of the portrait at rest, or of a clip.")
    view = Orbit(degrees=arguments.degrees, frames=round(arguments.seconds * DEFAULT_FPS))
    run_view(arguments, view, as_picture=False)
