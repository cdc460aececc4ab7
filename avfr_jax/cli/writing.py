"""Results of a reenactment written to files, for the commands that make one."""

import argparse
import contextlib
import pathlib
import sys
from typing import Any

from avfr_jax.errors import ConfigError


def chosen_model(name: str | None, driving: str | None) -> str:
    """The model of that name or folder; for None that of a driving `.avfr` file, else the default."""
    from avfr_jax.codec.files import is_stream, open_stream
    from avfr_jax.model_store import DEFAULT_MODEL, find_model

    if driving is not None and is_stream(driving):
        header = open_stream(driving).header
        return name or find_model(header.fingerprint, header.model)
    return name or DEFAULT_MODEL


def print_report(output: pathlib.Path, report: Any) -> None:
    """Print the output's path to stdout, and the run's speed to stderr."""
    print(output)
    print(
        f"{report.frames} frames in {report.seconds:.1f} s ({report.frames_per_second:.1f} a second; the first after "
        f"{report.first_frame_seconds:.1f} s)",
        file=sys.stderr,
    )


def write_picture(session: Any, arguments: argparse.Namespace, output: pathlib.Path, mark: Any, model: str) -> None:
    """Write the one frame of a session; `mark` is its watermark. `model` is for writers of videos."""
    from avfr_jax.media.image import is_image, write_image
    from avfr_jax.reenact import side_by_side

    compare = getattr(arguments, "compare", False)
    if arguments.driving is not None and not is_image(arguments.driving):
        raise ConfigError(f"{output.name} is a picture but --driving is a video; name a video (.mp4) as output.")
    (step,) = session
    write_image(output, mark.apply(side_by_side(step) if compare else step.frame, 0), arguments.overwrite)


def write_video(session: Any, arguments: argparse.Namespace, output: pathlib.Path, mark: Any, model: str) -> None:
    """Write the frames of a session with its audio; `model` goes into the metadata."""
    from tqdm import tqdm

    from avfr_jax.media.video_writer import VideoWriter
    from avfr_jax.media.watermark import provenance
    from avfr_jax.reenact import side_by_side

    compare = getattr(arguments, "compare", False)
    options = {"crf": arguments.crf, "overwrite": arguments.overwrite, "metadata": provenance(model)}
    with contextlib.ExitStack() as stack:
        audio = stack.enter_context(session.audio_file())
        progress = tqdm(total=session.frames, unit=" frames", desc=output.name, disable=None, file=sys.stderr)
        bar = stack.enter_context(progress)
        writer: Any = None
        expected = 0
        for step in session:
            frame = side_by_side(step) if compare else step.frame
            if writer is None:  # not before the first frame: bad input leaves nothing behind
                height, width = frame.shape[:2]
                writer = stack.enter_context(VideoWriter(output, width, height, float(session.fps), audio, **options))
            writer.drop(step.index - expected)  # the audio of skipped frames is cut out
            writer.write(mark.apply(frame, step.index))
            bar.update(step.index + 1 - expected)
            expected = step.index + 1
