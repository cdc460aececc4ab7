"""`avfr reenact`: a source picture moved by a driving clip."""

import argparse
import pathlib
from typing import Any

from avfr_jax.cli.audio import chosen_audio
from avfr_jax.cli.options import add_view, chosen_view, face_choice
from avfr_jax.cli.writing import chosen_model, print_report, write_picture, write_video
from avfr_jax.errors import ConfigError

_EPILOG = """\
examples:
  avfr reenact --source me.jpg --driving talk.mp4 --output out.mp4 --compare
  avfr reenact --source me.jpg --audio speech.wav --output talk.mp4
  avfr reenact --source me.jpg --driving talk.mp4 --output out.mp4 --rotate -15,0,0

--source may also be a video (its first frame is taken), --driving also a picture, or an .avfr file. Without --driving,
or with a picture, the sound moves the mouth, and head and eyes move by themselves. The result is square, at the model's
size, unless --paste-back puts it into the whole source picture.
"""


def _best(text: str) -> Any:
    if text in ("auto", "first") or text.isdigit():
        return int(text) if text.isdigit() else text
    raise argparse.ArgumentTypeError(f"{text!r} is not auto, first or the number of a frame")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


def _rate(text: str) -> Any:
    try:
        return text if text == "source" else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not source or a number of frames a second") from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    default = "(default: %(default)s)"
    add("--source", required=True, metavar="PICTURE", help="portrait to move")
    clips = "clip of a face whose motion is taken, or an .avfr file; not needed with --audio FILE"
    add("--driving", metavar="VIDEO", help=clips)
    add("--output", required=True, metavar="FILE", help=".mp4, .mov, .mkv, .webm; .png or .jpg for a driving picture")
    add(
        "--model",
        default=None,
        metavar="NAME",
        help="model's name or folder (default: mesh-fomm; the one that an .avfr file was made for)",
    )
    motions = "move from the source's own pose, or take over the driving face's"
    add("--motion", choices=("relative", "absolute"), default="relative", help=f"{motions} {default}")
    add("--no-adapt-scale", action="store_true", help="do not scale motion by the ratio of the faces' sizes")
    parts = "the portrait's own pose, or its own expression, stays, and the driver gives the other"
    add("--keep", choices=("pose", "expression"), default=None, help=f"{parts} (default: neither)")
    add_view(parser)
    reference = "driving frame of the source's pose; auto takes the earliest unless another is clearly nearer"
    add("--best-frame", type=_best, metavar="auto|first|N", default="auto", help=f"{reference} {default}")
    sounds = "audio of the result and of models conditioned on audio"
    add("--audio", default="driving", metavar="driving|none|FILE", help=f"{sounds} {default}")
    rates = "frames a second of the result: at which the driving video is read, or source for its own rate"
    add("--fps", type=_rate, metavar="25|source|N", default=25, help=f"{rates} {default}")
    crops = "crop to the face, following it where it moves far, or with a fixed crop; or take face crops as they are"
    add("--crop", choices=("auto", "fixed", "none"), default="auto", help=f"{crops} {default}")
    missing = "driving frames without a face hold the last pose, are skipped, or end the run"
    add("--missing-face", choices=("hold", "skip", "fail"), default="hold", help=f"{missing} {default}")
    which = "of several faces: largest, left, right, center, or a number from the left"
    add("--source-face", type=face_choice, metavar="WHICH", default=None, help=f"{which} (default: largest)")
    add("--driving-face", type=face_choice, metavar="WHICH", default=None, help="the same for the driving clip")
    mouths = "the mouth follows the driving face or the sound; auto: the sound, where it is not the clip's own"
    add("--mouth", choices=("auto", "driver", "sound"), default="auto", help=f"{mouths} {default}")
    add("--smooth", action="store_true", help="low-pass the driving landmarks over time, for noisy clips")
    add("--paste-back", action="store_true", help="put the result back into the whole source picture")
    add("--compare", action="store_true", help="source, driving frame and result side by side")
    marks = ("both", "visible", "invisible", "none")
    add("--watermark", choices=marks, default="both", help=f"mark the result as generated {default}")
    add("--crf", type=int, choices=range(52), metavar="0-51", default=18, help=f"H.264 quality {default}")
    add("--batch-size", type=_positive, metavar="N", default=None, help="frames at once (default: the model's choice)")
    add("--overwrite", action="store_true", help="replace an existing output")


def run(arguments: argparse.Namespace) -> None:
    """Reenact and write the result."""
    from avfr_jax.codec.files import is_stream
    from avfr_jax.media import files, image, video_writer
    from avfr_jax.media.watermark import Watermark, payload_from_text
    from avfr_jax.nn.allocator import keep_freed_memory
    from avfr_jax.reenact import Reenactor
    from avfr_jax.runtime import start_jax

    output = pathlib.Path(arguments.output)
    if arguments.compare and arguments.paste_back:
        raise ConfigError("Choose one of --compare and --paste-back: they are two layouts of the same frames.")
    as_picture = output.suffix.lower() in image.SUFFIXES
    sound = None if arguments.audio in ("driving", "none") else arguments.audio
    inputs = [arguments.source, arguments.driving, sound]
    (files if as_picture else video_writer).check_output(output, arguments.overwrite, inputs=inputs)
    if arguments.driving is None and (as_picture or arguments.audio in ("driving", "none")):
        raise ConfigError("Give --driving VIDEO, or --audio FILE and a video (.mp4) as output: then the sound drives.")
    for name in filter(None, inputs):
        files.check_input(name)
    view, audio = chosen_view(arguments), arguments.audio
    model = chosen_model(arguments.model, arguments.driving)
    by_stream = arguments.driving is not None and is_stream(arguments.driving)
    if by_stream and arguments.compare:
        raise ConfigError(f"--compare shows the driving frames; {arguments.driving} is no video.")
    if as_picture:
        audio = None
    elif audio != "driving" or not by_stream:
        audio = chosen_audio(audio, "driving", arguments.driving)
    start_jax()
    reenactor = Reenactor(
        model,
        motion=arguments.motion,
        adapt_scale=not arguments.no_adapt_scale,
        keep=arguments.keep,
        view=view,
        best_frame=arguments.best_frame,
        crop=arguments.crop,
        missing_face=arguments.missing_face,
        source_face=arguments.source_face,
        driving_face=arguments.driving_face,
        smooth=arguments.smooth,
        mouth=arguments.mouth,
        paste_back=arguments.paste_back,
        batch_size=arguments.batch_size,
        fps=arguments.fps,
    )
    keep_freed_memory()  # after loading, which frees memory that goes back to the system
    mark = Watermark(arguments.watermark, payload_from_text(f"avfr-jax {reenactor.model.name}"))
    with reenactor.steps(arguments.source, arguments.driving, audio) as session:
        (write_picture if as_picture else write_video)(session, arguments, output, mark, reenactor.model.name)
    print_report(output, session.report)
