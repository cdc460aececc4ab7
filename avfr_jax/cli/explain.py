"""`avfr explain SOURCE DRIVING OUT.png`: one frame of a reenactment with its intermediate results."""

import argparse
import pathlib

from avfr_jax.errors import ConfigError

_EPILOG = """\
example:
  avfr explain me.jpg talk.mp4 why.png --at 40

The picture shows source and driving frame with their keypoints, the result, the dense flow, the occlusion map, the
audio-visual attention of models conditioned on audio, and a heatmap for each keypoint.
"""


def _number(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not the number of a frame")
    return int(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("source", metavar="SOURCE", help="portrait to move")
    add("driving", metavar="DRIVING", help="picture or clip of a face whose motion is taken")
    add("output", metavar="OUT.png", help=".png or .jpg")
    add("--model", default=None, metavar="NAME", help="model's name or folder (default: the one of avfr reenact)")
    add(
        "--at", type=_number, default=None, metavar="N", help="number of the driving frame (default: one in the middle)"
    )
    add("--motion", choices=("relative", "absolute"), default="relative", help="as in avfr reenact")
    add("--crop", choices=("auto", "fixed", "none"), default="auto", help="as in avfr reenact")
    add("--audio", default="driving", metavar="driving|none|FILE", help="audio for models conditioned on it")
    add("--overwrite", action="store_true", help="replace an existing output")


def run(arguments: argparse.Namespace) -> None:
    """Write the picture."""
    from avfr_jax.explain import explanation_sheet
    from avfr_jax.media import files
    from avfr_jax.media.image import SUFFIXES, write_image
    from avfr_jax.model_store import DEFAULT_MODEL
    from avfr_jax.reenact import Reenactor
    from avfr_jax.runtime import start_jax

    output = pathlib.Path(arguments.output)
    if output.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{output.name} is no picture; name a .png or .jpg.")
    audio = None if arguments.audio == "none" else arguments.audio
    inputs = [arguments.source, arguments.driving, None if audio == "driving" else audio]
    files.check_output(output, arguments.overwrite, inputs=inputs)
    for name in filter(None, inputs):
        files.check_input(name)
    start_jax()
    reenactor = Reenactor(arguments.model or DEFAULT_MODEL, motion=arguments.motion, crop=arguments.crop)
    explained = reenactor.explain(arguments.source, arguments.driving, audio, arguments.at)
    write_image(output, explanation_sheet(explained), arguments.overwrite)
    print(output)
