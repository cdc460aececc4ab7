"""`avfr reenact`: the main job."""

import argparse
import contextlib
import pathlib
import sys
from typing import Any

from avfr_jax.cli.audio import chosen_sound
from avfr_jax.errors import ConfigError

_EPILOG = """\
example:
  avfr reenact --source me.jpg --driving talk.mp4 --output out.mp4 --compare

--source may also be a video (its first frame is taken), --driving also a picture, or an .avfr file. The result is
square, at the model's size, unless --paste-back puts it into the whole source picture. Frames are written at 25 a
second.
"""


def _face(text: str) -> Any:
    return int(text) if text.lstrip("-").isdigit() else text


def _best(text: str) -> Any:
    if text in ("auto", "first") or text.isdigit():
        return int(text) if text.isdigit() else text
    raise argparse.ArgumentTypeError(f"{text!r} is neither auto, first nor a frame's number")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's words."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    default = "(default: %(default)s)"
    add("--source", required=True, metavar="PICTURE", help="portrait to move")
    add("--driving", required=True, metavar="VIDEO", help="clip of a face whose motion is taken, or an .avfr file")
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
    reference = "driving frame that stands for the source's pose; auto takes the most similar"
    add("--best-frame", type=_best, metavar="auto|first|N", default="auto", help=f"{reference} {default}")
    sounds = "sound of the result, and what a model that listens hears"
    add("--audio", default="driving", metavar="driving|none|FILE", help=f"{sounds} {default}")
    crops = "find the face and crop to it, or take face crops as they are"
    add("--crop", choices=("auto", "none"), default="auto", help=f"{crops} {default}")
    missing = "driving frames without a face hold the last pose, are skipped, or end the run"
    add("--missing-face", choices=("hold", "skip", "fail"), default="hold", help=f"{missing} {default}")
    which = "of several faces: largest, left, right, center, or a number from the left"
    add("--source-face", type=_face, metavar="WHICH", default=None, help=f"{which} (default: largest)")
    add("--driving-face", type=_face, metavar="WHICH", default=None, help="the same for the driving clip")
    mouths = "what moves the mouth; auto: the sound, where it is another than the driving clip's and the model can"
    add("--mouth", choices=("auto", "driver", "sound"), default="auto", help=f"{mouths} {default}")
    add("--smooth", action="store_true", help="steady the driving landmarks over time, for noisy clips")
    add("--paste-back", action="store_true", help="put the result back into the whole source picture")
    add("--compare", action="store_true", help="source, driving frame and result side by side")
    marks = ("both", "visible", "invisible", "none")
    add("--watermark", choices=marks, default="both", help=f"mark the result as generated {default}")
    add("--crf", type=int, choices=range(52), metavar="0-51", default=18, help=f"H.264 quality {default}")
    add("--batch-size", type=_positive, metavar="N", default=None, help="frames at once (default: the model's choice)")
    add("--overwrite", action="store_true", help="replace an existing output")


def run(arguments: argparse.Namespace) -> None:
    """Reenact and write the result."""
    from avfr_jax.codec.files import is_stream, open_stream
    from avfr_jax.media.files import check_input
    from avfr_jax.media.image import SUFFIXES as PICTURES
    from avfr_jax.media.video_writer import check_output
    from avfr_jax.media.watermark import Watermark, payload_from_text
    from avfr_jax.model_store import DEFAULT_MODEL
    from avfr_jax.nn.allocator import keep_freed_memory
    from avfr_jax.reenact import Reenactor
    from avfr_jax.runtime import enable_compilation_cache

    output = pathlib.Path(arguments.output)
    if arguments.compare and arguments.paste_back:
        raise ConfigError("Choose one of --compare and --paste-back: they are two layouts of the same frames.")
    as_picture = output.suffix.lower() in PICTURES
    if as_picture:
        from avfr_jax.media import files

        files.check_output(output, arguments.overwrite)
    else:
        check_output(output, arguments.overwrite)
    for name in (arguments.source, arguments.driving):
        check_input(name)
    _refuse_same(output, arguments)
    stream = open_stream(arguments.driving) if is_stream(arguments.driving) else None
    if stream is not None and arguments.compare:
        raise ConfigError(f"--compare shows the driving frames; {arguments.driving} is no video.")
    spoken = stream if arguments.audio == "driving" else None  # a stream's own sound is unpacked when it is needed
    audio = None if as_picture or spoken else chosen_sound(arguments.audio, "driving", arguments.driving)
    enable_compilation_cache()
    reenactor = Reenactor(
        arguments.model or (DEFAULT_MODEL if stream is None else stream.header.model),
        motion=arguments.motion,
        adapt_scale=not arguments.no_adapt_scale,
        best_frame=arguments.best_frame,
        crop=arguments.crop,
        missing_face=arguments.missing_face,
        source_face=arguments.source_face,
        driving_face=arguments.driving_face,
        smooth=arguments.smooth,
        mouth=arguments.mouth,
        paste_back=arguments.paste_back,
        batch_size=arguments.batch_size,
    )
    keep_freed_memory()  # not before: what loading freed goes back to the system
    mark = Watermark(arguments.watermark, payload_from_text(f"avfr-jax {reenactor.model.name}"))
    draw = _draw_picture if as_picture else _draw_video
    with contextlib.nullcontext(audio) if spoken is None else spoken.sound_file() as heard:
        draw(reenactor, arguments, output, mark, heard)
    _tell(reenactor.report, output)


def _refuse_same(output: pathlib.Path, arguments: argparse.Namespace) -> None:
    for name in (arguments.source, arguments.driving):
        if output.exists() and output.samefile(name):
            raise ConfigError(f"--output {output} is one of the inputs; choose another name.")


def _draw_picture(reenactor: Any, arguments: argparse.Namespace, output: pathlib.Path, mark: Any, audio: Any) -> None:
    from avfr_jax.media.image import is_image, write_image
    from avfr_jax.reenact import side_by_side

    if not is_image(arguments.driving):
        raise ConfigError(f"{output.name} is a picture but --driving is a video; name a video (.mp4) as output.")
    (step,) = reenactor.steps(arguments.source, arguments.driving, audio)
    write_image(output, mark.apply(side_by_side(step) if arguments.compare else step.frame, 0), arguments.overwrite)


def _draw_video(reenactor: Any, arguments: argparse.Namespace, output: pathlib.Path, mark: Any, audio: Any) -> None:
    from tqdm import tqdm

    from avfr_jax.media.video_writer import VideoWriter
    from avfr_jax.media.watermark import provenance
    from avfr_jax.reenact import side_by_side

    with contextlib.ExitStack() as stack:
        total = _length(arguments.driving)
        bar = stack.enter_context(tqdm(total=total, unit=" frames", desc=output.name, disable=None, file=sys.stderr))
        steps = stack.enter_context(contextlib.closing(reenactor.steps(arguments.source, arguments.driving, audio)))
        writer: Any = None
        expected = 0
        for step in steps:
            frame = side_by_side(step) if arguments.compare else step.frame
            if writer is None:  # not before there is a first frame: bad input leaves nothing behind
                height, width = frame.shape[:2]
                writer = stack.enter_context(
                    VideoWriter(
                        *(output, width, height),
                        audio=audio,
                        crf=arguments.crf,
                        overwrite=arguments.overwrite,
                        metadata=provenance(reenactor.model.name),
                    )
                )
            writer.drop(step.index - expected)  # skipped frames take their sound with them
            writer.write(mark.apply(frame, step.index))
            bar.update(step.index + 1 - expected)
            expected = step.index + 1


def _length(driving: str) -> int | None:
    """Frames to come; None where they are not counted."""
    from avfr_jax.codec.files import is_stream
    from avfr_jax.media.image import is_image
    from avfr_jax.media.video import VideoReader

    if is_stream(driving):
        return None
    return 1 if is_image(driving) else VideoReader(driving).info.frames


def _tell(report: Any, output: pathlib.Path) -> None:
    print(output)
    print(
        f"{report.frames} frames in {report.seconds:.1f} s ({report.frames_per_second:.1f} a second; the first after "
        f"{report.first_frame_seconds:.1f} s)",
        file=sys.stderr,
    )
