"""`avfr encode`: a video of a face as a stream of a few bytes a frame."""

import argparse
import dataclasses
import sys
from typing import Any

from avfr_jax.cli.audio import chosen_audio
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

A stream holds reference frames (pivots), the motion of the face between them, and sound; the receiver renders the rest.
A template holds motion and sound alone, to drive other portraits (avfr reenact --driving talk.avfr).
docs/bitstream.md states the format byte by byte.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    from avfr_jax.codec.files import RESIDUAL_CODEC
    from avfr_jax.codec.mesh_basis import MOTIONS
    from avfr_jax.codec.settings import (
        FAITHFUL,
        FAITHFUL_QUALITY,
        FOR_FILES,
        FOR_TEMPLATES,
        RESIDUAL_QUALITY,
        SenderSettings,
    )

    call = SenderSettings()
    parser.epilog = _EPILOG
    add = parser.add_argument
    default = "(default: %(default)s)"
    add("input", metavar="IN.mp4", help="video of a face")
    add("output", metavar="OUT.avfr", help="the stream")
    add("--model", default="landmark-warp", metavar="NAME", help=f"model that renders, by name or folder {default}")
    crops = "crop to the face, following it where it moves far, or with a fixed crop; or take face crops as they are"
    add("--crop", choices=("auto", "fixed", "none"), default="auto", help=f"{crops} {default}")
    add("--audio", default="input", metavar="input|none|FILE", help=f"sound that goes along {default}")
    add("--audio-bitrate", type=int, default=12000, metavar="BITS", help=f"bits a second of the sound {default}")
    rate = "target of everything but sound, bits a second: step, components and pivots follow (default: fixed settings)"
    add("--bitrate", type=int, metavar="BITS", help=rate)
    parts = "principal components of the mesh's motion, 1 to 48"
    usual = (
        f"(default: {FOR_FILES.components}; with --bitrate at most {MOTIONS}; templates: {FOR_TEMPLATES.components})"
    )
    add("--components", type=int, metavar="N", help=f"{parts} {usual}")
    steps = "quantiser step of the motion; four more are twice as coarse"
    usual = f"(default: {FOR_FILES.step}; templates: {FOR_TEMPLATES.step})"
    add("--step", type=int, metavar="N", help=f"{steps} {usual}")
    fewer = "leave out a frame's last keypoints that their expression moves by no more pixels of a 256 × 256 frame"
    trained = "for models trained with ordered keypoint dropout (default: send all)"
    add("--keypoint-threshold", type=float, metavar="PIXELS", help=f"{fewer}; {trained}")
    calls = "for a call instead of a file: refreshed four times a second, a packet every 3 frames"
    add("--call", action="store_true", help=calls)
    follows = "follow the image and not the face alone: inter-coded pivots, a few a second where they are needed"
    add("--faithful", action="store_true", help=follows)
    again = "frames between two places where decoding can begin"
    add("--refresh", type=int, metavar="FRAMES", help=f"{again} (default: {FOR_FILES.refresh}; calls: {call.refresh})")
    add("--packet", type=int, metavar="FRAMES", help="frames in one packet")
    skipped = "temporal subsampling: frames skipped between two that are sent, 0 to 3; the receiver interpolates them"
    add("--skip-frames", type=int, default=FOR_FILES.skipped_frames, metavar="N", help=f"{skipped} {default}")
    add("--template", action="store_true", help="motion and sound alone: to drive portraits with")
    add("--pivot-codec", choices=("av1", "hevc", "webp"), default="av1", help=f"intra coding of pivots {default}")
    few = f"(default: {FOR_FILES.quality}; --faithful: {FAITHFUL_QUALITY}, with --residual-codec {RESIDUAL_QUALITY})"
    add("--pivot-quality", type=int, metavar="0-100", help=f"their quality {few}")
    turned = "degrees of head turn after which a new pivot is sent; 0 disables it"
    add("--pivot-angle", type=float, default=15.0, metavar="DEGREES", help=f"{turned} {default}")
    behind = "distance of the background from the pivot's after which a new one is sent; 0 disables it"
    add("--pivot-background", type=float, metavar="DISTANCE", help=f"{behind} (default: {call.pivots.background})")
    networks = "network of the background embedding: mediapipe's or, where its weights are, VGG-19"
    add("--pivot-network", choices=("face", "vgg19"), default="face", help=f"{networks} {default}")
    rendered = "distortion of the rendered frame beyond a fresh pivot's (L1, of 1) from which on a new one is sent"
    check = f"0 never renders at the sender (default: 0; --faithful: {FAITHFUL.distortion_threshold})"
    add("--pivot-distortion-threshold", type=float, metavar="L1", help=f"{rendered}; {check}")
    often = f"(default: {call.pivots.check_interval}; --faithful: {FAITHFUL.check_interval})"
    checks = "frames from one check of background and distortion to the next"
    add("--pivot-check-interval", type=int, metavar="FRAMES", help=f"{checks} {often}")
    pace = "bits a second at which a pivot is sent beside the motion; 0 at once"
    add("--pivot-bitrate", type=int, metavar="BITS", help=f"{pace} (default: 0; calls: {call.pivots.bitrate})")
    residuals = "model that codes later pivots as residuals of the rendered frame, instead of inter coding"
    add("--residual-codec", metavar="NAME", help=f"{residuals} (default: none; {RESIDUAL_CODEC} is one)")
    for old, new in (
        ("--between", "--skip-frames"),
        ("--pivot-quality-check", "--pivot-distortion-threshold"),
        ("--pivot-every", "--pivot-check-interval"),
        ("--repairer", "--residual-codec"),
    ):
        deprecate(parser, old, new)
    add("--overwrite", action="store_true", help="replace an existing output")


def run(arguments: argparse.Namespace) -> None:
    """Encode and report."""
    from tqdm import tqdm

    from avfr_jax.codec.files import encode_file
    from avfr_jax.media.animation import open_reader
    from avfr_jax.media.files import check_input, check_output
    from avfr_jax.model_store import load_residual_codec
    from avfr_jax.runtime import start_jax

    settings = _settings(arguments)
    check_input(arguments.input)
    sound = chosen_audio(arguments.audio, "input", arguments.input)
    check_output(arguments.output, arguments.overwrite, (".avfr",), [arguments.input, sound])
    start_jax()
    residual_codec = None if arguments.residual_codec is None else load_residual_codec(arguments.residual_codec)
    total = open_reader(arguments.input).info.frames
    with tqdm(total=total, unit=" frames", desc=arguments.output, disable=None, file=sys.stderr) as bar:
        done = encode_file(
            arguments.input, arguments.output, arguments.model, settings, crop=arguments.crop, sound=sound,
            bitrate=arguments.audio_bitrate, background=_background(arguments), residual_codec=residual_codec,
            overwrite=arguments.overwrite, progress=lambda n: bar.update(n - bar.n),
        )  # fmt: skip
    print(arguments.output)
    kinds = ", ".join(f"{kind.name.lower()} {size}" for kind, size in done.bytes.items() if size)
    print(f"{done.frames} frames, {done.kilobits:.2f} kbit/s; bytes: {kinds}; {done.pivots} pivot(s)", file=sys.stderr)
    if done.keypoints is not None:
        print(f"{done.keypoints:.1f} keypoints a frame", file=sys.stderr)
    if done.missing:
        print(f"No face was found in {done.missing} frames; they hold the pose before them.", file=sys.stderr)


def _background(arguments: argparse.Namespace) -> Any:
    """The embedder of the chosen network; None takes the default where it is installed."""
    from avfr_jax.codec.background import BackgroundEmbedder

    if arguments.pivot_network == "face" or arguments.pivot_background == 0:
        return None
    return BackgroundEmbedder(arguments.pivot_network)


def _settings(arguments: argparse.Namespace) -> Any:
    from avfr_jax.codec import settings
    from avfr_jax.codec.bitstream import ReferenceCoding
    from avfr_jax.codec.mesh_basis import MOTIONS

    if arguments.template and (arguments.call or arguments.faithful):
        raise ConfigError("A template holds no image: leave --call and --faithful out, or --template.")
    preset = settings.FOR_TEMPLATES if arguments.template else settings.FOR_FILES
    if arguments.call:
        preset = settings.SenderSettings()
    if arguments.faithful:
        pivots = dataclasses.replace(settings.FAITHFUL, bitrate=preset.pivots.bitrate)
        inter = arguments.residual_codec is None
        quality = settings.FAITHFUL_QUALITY if inter else settings.RESIDUAL_QUALITY
        preset = dataclasses.replace(preset, inter_coding=inter, quality=quality, pivots=pivots)
    if arguments.bitrate is not None:
        preset = dataclasses.replace(preset, components=MOTIONS)
    given = {
        "components": arguments.components,
        "step": arguments.step,
        "refresh": arguments.refresh,
        "packet": arguments.packet,
        "quality": arguments.pivot_quality,
        "keypoint_threshold": arguments.keypoint_threshold,
        "reference_coding": None if arguments.template else ReferenceCoding[arguments.pivot_codec.upper()],
    }
    return dataclasses.replace(
        preset,
        **{name: value for name, value in given.items() if value is not None},
        skipped_frames=arguments.skip_frames,
        pivots=_pivots(arguments, preset.pivots),
        bitrate=arguments.bitrate,
    )


def _pivots(arguments: argparse.Namespace, preset: Any) -> Any:
    """When pivots are taken; 0 disables a criterion."""
    given = {}
    for name in ("angle", "background", "distortion_threshold", "bitrate"):
        value = getattr(arguments, f"pivot_{name}")
        if value is not None and not 0 <= value < float("inf"):
            raise ConfigError(f"--pivot-{name.replace('_', '-')} must be 0 or more, not {value}.")
        if value is not None:
            given[name] = value or None
    if arguments.pivot_check_interval is not None:
        given["check_interval"] = arguments.pivot_check_interval
    return dataclasses.replace(preset, **given)
