"""`avfr encode`: a video of a face as a stream of a few bytes a frame."""

import argparse
import dataclasses
import sys
from typing import Any

from avfr_jax.cli.sound import chosen_sound
from avfr_jax.errors import ConfigError

_EPILOG = """\
example:
  avfr encode talk.mp4 talk.avfr
  avfr encode talk.mp4 talk.avfr --step 10 --pivot-quality 60 --audio none
  avfr encode talk.mp4 talk.avfr --call

A stream holds pivot pictures, the motion of the face between them, and sound; the receiver draws the rest.
docs/bitstream.md states it byte by byte.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's words."""
    from avfr_jax.codec.sender import FOR_FILES, SenderSettings

    call = SenderSettings()
    parser.epilog = _EPILOG
    add = parser.add_argument
    default = "(default: %(default)s)"
    add("input", metavar="IN.mp4", help="video of a face")
    add("output", metavar="OUT.avfr", help="the stream")
    add("--model", default="landmark-warp", metavar="NAME", help=f"model that will draw {default}")
    crops = "find the face and crop to it, or take face crops as they are"
    add("--crop", choices=("auto", "none"), default="auto", help=f"{crops} {default}")
    add("--audio", default="input", metavar="input|none|FILE", help=f"sound that goes along {default}")
    add("--audio-bitrate", type=int, default=12000, metavar="BITS", help=f"bits a second of the sound {default}")
    parts = "components of the face mesh's motion, 1 to 48"
    add("--components", type=int, default=FOR_FILES.components, metavar="N", help=f"{parts} {default}")
    steps = "coarseness of motion; four more are twice as coarse"
    add("--step", type=int, default=FOR_FILES.step, metavar="N", help=f"{steps} {default}")
    calls = "for a call instead of a file: refreshed twice a second, a packet every 3 frames"
    add("--call", action="store_true", help=calls)
    again = "frames between two places where reading can begin"
    add("--refresh", type=int, metavar="FRAMES", help=f"{again} (default: {FOR_FILES.refresh}; calls: {call.refresh})")
    add("--packet", type=int, metavar="FRAMES", help="frames in one packet")
    add("--pivot-codec", choices=("av1", "hevc", "webp"), default="av1", help=f"coder of pivot pictures {default}")
    add("--pivot-quality", type=int, default=50, metavar="0-100", help=f"their quality {default}")
    turned = "degrees of head turn after which a new pivot is sent; 0 never"
    add("--pivot-angle", type=float, default=15.0, metavar="DEGREES", help=f"{turned} {default}")
    add("--overwrite", action="store_true", help="replace an existing output")


def run(arguments: argparse.Namespace) -> None:
    """Encode and tell what it came to."""
    from tqdm import tqdm

    from avfr_jax.codec.files import encode_file
    from avfr_jax.media.files import check_input
    from avfr_jax.media.video import VideoReader
    from avfr_jax.runtime import enable_compilation_cache

    settings = _settings(arguments)
    check_input(arguments.input)
    sound = chosen_sound(arguments.audio, "input", arguments.input)
    enable_compilation_cache()
    total = VideoReader(arguments.input).info.frames
    with tqdm(total=total, unit=" frames", desc=arguments.output, disable=None, file=sys.stderr) as bar:
        done = encode_file(
            arguments.input, arguments.output, arguments.model, settings, crop=arguments.crop, sound=sound,
            bitrate=arguments.audio_bitrate, overwrite=arguments.overwrite, progress=lambda n: bar.update(n - bar.n),
        )  # fmt: skip
    print(arguments.output)
    kinds = ", ".join(f"{kind.name.lower()} {size}" for kind, size in done.bytes.items() if size)
    print(f"{done.frames} frames, {done.kilobits:.2f} kbit/s; bytes: {kinds}; {done.pivots} pivot(s)", file=sys.stderr)
    if done.missing:
        print(f"No face was found in {done.missing} frames; they hold the pose before them.", file=sys.stderr)


def _settings(arguments: argparse.Namespace) -> Any:
    from avfr_jax.codec.pivots import PivotSettings
    from avfr_jax.codec.sender import FOR_FILES, SenderSettings
    from avfr_jax.codec.still import Still

    if arguments.pivot_angle < 0:
        raise ConfigError(f"--pivot-angle must be 0 or more, not {arguments.pivot_angle}.")
    preset = SenderSettings() if arguments.call else FOR_FILES
    return dataclasses.replace(
        preset,
        components=arguments.components,
        step=arguments.step,
        refresh=preset.refresh if arguments.refresh is None else arguments.refresh,
        packet=preset.packet if arguments.packet is None else arguments.packet,
        still=Still[arguments.pivot_codec.upper()],
        quality=arguments.pivot_quality,
        pivots=PivotSettings(angle=arguments.pivot_angle or None),
    )
