"""What `avfr frontalize` and `avfr orbit` share: one portrait from another side."""

import argparse
import pathlib
from typing import Any

from avfr_jax.cli.audio import chosen_audio
from avfr_jax.cli.options import face_choice
from avfr_jax.cli.writing import chosen_model, print_report, write_picture, write_video


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that both commands have."""
    add = parser.add_argument
    default = "(default: %(default)s)"
    clips = "clip or picture of a face, or an .avfr file, whose expression and motion are taken"
    add("--driving", metavar="VIDEO", default=None, help=f"{clips} (default: the portrait at rest)")
    names = "model's name or folder (default: mesh-fomm; the one that an .avfr file was made for)"
    add("--model", default=None, metavar="NAME", help=names)
    crops = "crop to the face; or take face crops as they are"
    add("--crop", choices=("auto", "fixed", "none"), default="auto", help=f"{crops} {default}")
    which = "of several faces: largest, left, right, center, or a number from the left"
    add("--source-face", type=face_choice, metavar="WHICH", default=None, help=f"{which} (default: largest)")
    add("--paste-back", action="store_true", help="put the result back into the whole picture")
    marks = ("both", "visible", "invisible", "none")
    add("--watermark", choices=marks, default="both", help=f"mark the result as generated {default}")
    add("--crf", type=int, choices=range(52), metavar="0-51", default=18, help=f"H.264 quality {default}")
    add("--overwrite", action="store_true", help="replace an existing output")


def run_view(arguments: argparse.Namespace, view: Any, *, as_picture: bool) -> None:
    """Render the view of the portrait and write the result."""
    from avfr_jax.codec.files import is_stream
    from avfr_jax.media import files, image, video_writer
    from avfr_jax.media.watermark import Watermark, payload_from_text
    from avfr_jax.nn.allocator import keep_freed_memory
    from avfr_jax.reenact import Reenactor
    from avfr_jax.runtime import start_jax

    output, driving, audio = pathlib.Path(arguments.output), arguments.driving, None
    inputs = [arguments.source, driving]
    suffixes = image.SUFFIXES if as_picture else video_writer.SUFFIXES
    files.check_output(output, arguments.overwrite, suffixes, inputs)
    for name in filter(None, inputs):
        files.check_input(name)
    model = chosen_model(arguments.model, driving)
    if driving is not None and not as_picture:
        audio = "driving" if is_stream(driving) else chosen_audio("driving", "driving", driving)
    start_jax()
    reenactor = Reenactor(
        model,
        view=view,
        crop=arguments.crop,
        source_face=arguments.source_face,
        paste_back=arguments.paste_back,
    )
    keep_freed_memory()
    mark = Watermark(arguments.watermark, payload_from_text(f"avfr-jax {reenactor.model.name}"))
    with reenactor.steps(arguments.source, driving, audio) as session:
        (write_picture if as_picture else write_video)(session, arguments, output, mark, reenactor.model.name)
    print_report(output, session.report)
