"""`avfr encode`: a video of a face as a stream of a few bytes a frame."""

import argparse
import dataclasses
import sys
from typing import Any

from avfr_jax.cli.audio import chosen_sound
from avfr_jax.cli.options import deprecate
from avfr_jax.errors import ConfigError

_EPILOG = """\
example:
  avfr encode talk.mp4 talk.avfr
  avfr encode talk.mp4 talk.avfr --step 10 --pivot-quality 60 --audio none
  avfr encode talk.mp4 talk.avfr --call --bitrate 2000
  avfr encode talk.mp4 talk.avfr --faithful
  avfr encode talk.mp4 talk.avfr --faithful --residual-codec residual256
  avfr encode talk.mp4 talk.avfr --template

A stream holds pivot pictures, the motion of the face between them, and sound; the receiver draws the rest.
A template holds no picture: it moves other portraits (avfr reenact --driving talk.avfr). docs/bitstream.md states
it all byte by byte.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's words."""
    from avfr_jax.codec.files import RESIDUAL_CODEC
    from avfr_jax.codec.mesh_basis import MOTIONS
    from avfr_jax.codec.sender import (
        FAITHFUL,
        FAITHFUL_QUALITY,
        FOR_FILES,
        FOR_TEMPLATES,
        REPAIR_QUALITY,
        SenderSettings,
    )

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
    rate = "bits a second of everything but sound: step, components and pivots follow (default: as they are set)"
    add("--bitrate", type=int, metavar="BITS", help=rate)
    parts = "components of the mesh's motion, 1 to 48"
    usual = (
        f"(default: {FOR_FILES.components}; with --bitrate at most {MOTIONS}; templates: {FOR_TEMPLATES.components})"
    )
    add("--components", type=int, metavar="N", help=f"{parts} {usual}")
    steps = "coarseness of motion; four more are twice as coarse"
    usual = f"(default: {FOR_FILES.step}; templates: {FOR_TEMPLATES.step})"
    add("--step", type=int, metavar="N", help=f"{steps} {usual}")
    calls = "for a call instead of a file: refreshed four times a second, a packet every 3 frames"
    add("--call", action="store_true", help=calls)
    again = "frames between two places where reading can begin"
    follows = "follow the picture and not the face alone: pivots as a film, a few a second where they are needed"
    add("--faithful", action="store_true", help=follows)
    add("--refresh", type=int, metavar="FRAMES", help=f"{again} (default: {FOR_FILES.refresh}; calls: {call.refresh})")
    add("--packet", type=int, metavar="FRAMES", help="frames in one packet")
    left_out = "frames left out between two whose motion is sent, 0 to 3; the receiver makes them"
    add("--between", type=int, default=FOR_FILES.between, metavar="N", help=f"{left_out} {default}")
    add("--template", action="store_true", help="no picture, motion and sound alone: to drive portraits with")
    add("--pivot-codec", choices=("av1", "hevc", "webp"), default="av1", help=f"coder of pivot pictures {default}")
    few = f"(default: {FOR_FILES.quality}; --faithful: {FAITHFUL_QUALITY}, with --residual-codec {REPAIR_QUALITY})"
    add("--pivot-quality", type=int, metavar="0-100", help=f"their quality {few}")
    turned = "degrees of head turn after which a new pivot is sent; 0 never"
    add("--pivot-angle", type=float, default=15.0, metavar="DEGREES", help=f"{turned} {default}")
    behind = "distance of the background from the pivot's after which a new one is sent; 0 never looks"
    add("--pivot-background", type=float, metavar="DISTANCE", help=f"{behind} (default: {call.pivots.background})")
    networks = "whose features tell backgrounds apart: mediapipe's or, where its weights are, VGG-19's"
    add("--pivot-network", choices=("face", "vgg19"), default="face", help=f"{networks} {default}")
    drawn = "how much worse than with a fresh pivot the sender finds the drawn frame (L1, of 1) before it sends one"
    check = f"0 never draws (default: 0; --faithful: {FAITHFUL.excess})"
    add("--pivot-quality-check", type=float, metavar="EXCESS", help=f"{drawn}; {check}")
    looks = "frames from one look at background and drawn frame to the next"
    often = f"(default: {call.pivots.every}; --faithful: {FAITHFUL.every})"
    add("--pivot-every", type=int, metavar="FRAMES", help=f"{looks} {often}")
    pace = "bits a second at which a pivot is sent beside the motion; 0 at once"
    add("--pivot-bitrate", type=int, metavar="BITS", help=f"{pace} (default: 0; calls: {call.pivots.bitrate})")
    mends = "model that tells later pivots as repairs of what is drawn, instead of as a film where there is --faithful"
    add("--residual-codec", metavar="NAME", help=f"{mends} (default: none; {RESIDUAL_CODEC} is one)")
    deprecate(parser, "--repairer", "--residual-codec")
    add("--overwrite", action="store_true", help="replace an existing output")


def run(arguments: argparse.Namespace) -> None:
    """Encode and tell what it came to."""
    from tqdm import tqdm

    from avfr_jax.codec.files import encode_file
    from avfr_jax.media.files import check_input
    from avfr_jax.media.video import VideoReader
    from avfr_jax.model_store import load_residual_codec
    from avfr_jax.runtime import enable_compilation_cache

    settings = _settings(arguments)
    check_input(arguments.input)
    sound = chosen_sound(arguments.audio, "input", arguments.input)
    enable_compilation_cache()
    residual_codec = None if arguments.residual_codec is None else load_residual_codec(arguments.residual_codec)
    total = VideoReader(arguments.input).info.frames
    with tqdm(total=total, unit=" frames", desc=arguments.output, disable=None, file=sys.stderr) as bar:
        done = encode_file(
            arguments.input, arguments.output, arguments.model, settings, crop=arguments.crop, sound=sound,
            bitrate=arguments.audio_bitrate, background=_background(arguments), residual_codec=residual_codec,
            overwrite=arguments.overwrite, progress=lambda n: bar.update(n - bar.n),
        )  # fmt: skip
    print(arguments.output)
    kinds = ", ".join(f"{kind.name.lower()} {size}" for kind, size in done.bytes.items() if size)
    print(f"{done.frames} frames, {done.kilobits:.2f} kbit/s; bytes: {kinds}; {done.pivots} pivot(s)", file=sys.stderr)
    if done.missing:
        print(f"No face was found in {done.missing} frames; they hold the pose before them.", file=sys.stderr)


def _background(arguments: argparse.Namespace) -> Any:
    """What embeds backgrounds, where a network was chosen; None leaves it to what is installed."""
    from avfr_jax.codec.background import BackgroundEmbedder

    if arguments.pivot_network == "face" or arguments.pivot_background == 0:
        return None
    return BackgroundEmbedder(arguments.pivot_network)


def _settings(arguments: argparse.Namespace) -> Any:
    from avfr_jax.codec.intra_coding import ImageCodec
    from avfr_jax.codec.mesh_basis import MOTIONS

    preset = _preset(arguments)
    components = preset.components if arguments.components is None else arguments.components
    if arguments.components is None and arguments.bitrate is not None:
        components = MOTIONS
    return dataclasses.replace(
        preset,
        components=components,
        step=preset.step if arguments.step is None else arguments.step,
        refresh=preset.refresh if arguments.refresh is None else arguments.refresh,
        packet=preset.packet if arguments.packet is None else arguments.packet,
        between=arguments.between,
        still=ImageCodec.NONE if arguments.template else ImageCodec[arguments.pivot_codec.upper()],
        quality=preset.quality if arguments.pivot_quality is None else arguments.pivot_quality,
        pivots=_pivots(arguments, preset.pivots),
        bitrate=arguments.bitrate,
    )


def _preset(arguments: argparse.Namespace) -> Any:
    """What is not said by itself."""
    from avfr_jax.codec import sender

    if arguments.template and (arguments.call or arguments.faithful):
        raise ConfigError("A template holds no picture: leave --call and --faithful out, or --template.")
    preset = (
        sender.SenderSettings() if arguments.call else sender.FOR_TEMPLATES if arguments.template else sender.FOR_FILES
    )
    if arguments.faithful:
        pivots = dataclasses.replace(sender.FAITHFUL, bitrate=preset.pivots.bitrate)
        film = arguments.residual_codec is None
        quality = sender.FAITHFUL_QUALITY if film else sender.REPAIR_QUALITY
        preset = dataclasses.replace(preset, film=film, quality=quality, pivots=pivots)
    return preset


def _pivots(arguments: argparse.Namespace, preset: Any) -> Any:
    """When pivots are taken; 0 stands for never."""
    for name in ("angle", "background", "quality_check", "bitrate"):
        value = getattr(arguments, f"pivot_{name}")
        if value is not None and not 0 <= value < float("inf"):
            raise ConfigError(f"--pivot-{name.replace('_', '-')} must be 0 or more, not {value}.")

    def chosen(name: str, before: Any) -> Any:
        given = getattr(arguments, f"pivot_{name}")
        return before if given is None else given or None

    return dataclasses.replace(
        preset,
        angle=arguments.pivot_angle or None,
        background=chosen("background", preset.background),
        excess=chosen("quality_check", preset.excess),
        every=preset.every if arguments.pivot_every is None else arguments.pivot_every,
        bitrate=chosen("bitrate", preset.bitrate),
    )
