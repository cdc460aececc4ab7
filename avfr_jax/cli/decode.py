"""`avfr decode`: a stream back to a video."""

import argparse
import sys
from typing import Any

from avfr_jax.cli.options import add_view, chosen_view, deprecate

_EPILOG = """\
example:
  avfr decode talk.avfr talk.mp4
  avfr decode talk.avfr talk.mp4 --model runs/mine/model
  avfr decode talk.avfr talk.mp4 --rotate 15,0,0
  avfr decode talk.avfr talk.mp4 --size 512 --super-resolver bicubic
  avfr decode talk.avfr talk.mp4 --interpolate pictures --interpolator runs/between/model
  avfr decode call.avfr call.mp4 --loss 0.1 --jitter 40ms --burst 3-5
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    from avfr_jax.codec.upscaling import INTERPOLATOR, SUPER_RESOLVER

    parser.epilog = _EPILOG
    add = parser.add_argument
    default = "(default: %(default)s)"
    add("input", metavar="IN.avfr", help="a stream that avfr encode made")
    add("output", metavar="OUT.mp4", help=".mp4, .mov, .mkv or .webm")
    add("--size", type=int, default=None, metavar="PIXELS", help="side of the frames (default: the stream's)")
    known = "model that renders, by name or folder (default: found by the stream's fingerprint)"
    add("--model", metavar="NAME", help=known)
    larger = "model that upscales, or bicubic"
    add(
        "--super-resolver", metavar="NAME", help=f"{larger} (default: {SUPER_RESOLVER} where it is found, else bicubic)"
    )
    made = "skipped frames: interpolate the motion, or synthesise pictures by a network"
    add("--interpolate", choices=("motion", "pictures"), default="motion", help=f"{made} {default}")
    network = "model that synthesises them with --interpolate pictures"
    add("--interpolator", metavar="NAME", help=f"{network} (default: {INTERPOLATOR} where it is found)")
    add_view(parser)
    lossy = "as a call over a channel that loses this share of the packets"
    add("--loss", type=float, default=0.0, metavar="0-1", help=f"{lossy} {default}")
    add("--jitter", type=_milliseconds, default=0.0, metavar="40ms", help="and delays them by up to that much")
    add("--burst", type=_burst, action="append", default=[], metavar="FROM-TO", help="and all of these seconds")
    marks = ("both", "visible", "invisible", "none")
    add("--watermark", choices=marks, default="both", help=f"mark the result as generated {default}")
    add("--crf", type=int, choices=range(52), metavar="0-51", default=18, help=f"H.264 quality {default}")
    deprecate(parser, "--enlarger", "--super-resolver")
    add("--overwrite", action="store_true", help="replace an existing output")


def _milliseconds(text: str) -> float:
    try:
        return float(text.removesuffix("ms")) / 1000
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time in milliseconds, such as 40ms") from None


def _burst(text: str) -> tuple[float, float]:
    try:
        start, end = (float(part) for part in text.split("-"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a span of seconds, such as 3-5") from None
    return start, end


def run(arguments: argparse.Namespace) -> None:
    """Decode and report."""
    from tqdm import tqdm

    from avfr_jax.codec.files import decode_file
    from avfr_jax.codec.upscaling import choose_interpolator, choose_super_resolver
    from avfr_jax.media.video_writer import check_output
    from avfr_jax.media.watermark import Watermark, payload_from_text, provenance
    from avfr_jax.model_store import load_model
    from avfr_jax.nn.allocator import keep_freed_memory
    from avfr_jax.runtime import start_jax

    view = chosen_view(arguments)
    check_output(arguments.output, arguments.overwrite, [arguments.input])
    start_jax()
    super_resolver = choose_super_resolver(arguments.super_resolver)
    interpolator = choose_interpolator(arguments.interpolate, arguments.interpolator)
    model = None if arguments.model is None else load_model(arguments.model)
    keep_freed_memory()
    mark = Watermark(arguments.watermark, payload_from_text("avfr-jax codec"))
    with tqdm(unit=" frames", desc=arguments.output, disable=None, file=sys.stderr) as bar:
        done = decode_file(
            arguments.input, arguments.output, model=model, size=arguments.size, super_resolver=super_resolver,
            interpolator=interpolator, view=view, channel=_channel(arguments), mark=mark.apply,
            metadata=provenance("codec"), crf=arguments.crf, overwrite=arguments.overwrite,
            progress=lambda n: bar.update(n - bar.n),
        )  # fmt: skip
    print(arguments.output)
    print(f"{done.frames} frames", file=sys.stderr)
    if done.skipped or done.received.broken or done.received.held:
        print(
            f"The stream is damaged: {done.skipped} bytes were skipped, {done.received.broken} packets could not be "
            f"read, {done.received.held} frames came without their motion.",
            file=sys.stderr,
        )


def _channel(arguments: argparse.Namespace) -> Any:
    from avfr_jax.codec.channel import Channel

    if not (arguments.loss or arguments.jitter or arguments.burst):
        return None
    return Channel(arguments.loss, arguments.jitter, bursts=arguments.burst)
