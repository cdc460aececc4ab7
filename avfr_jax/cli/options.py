"""Options that several commands share."""

import argparse
import contextlib
import math
import re
from collections.abc import Iterator
from typing import Any

from avfr_jax.errors import ConfigError
from avfr_jax.interrupts import scratch_folder
from avfr_jax.media.pipes import is_pipe, spool

_INPUTS = ("source", "driving", "audio", "input", "file", "config")
"""Names of the arguments that are files to read, in all commands."""


def deprecate(parser: argparse.ArgumentParser, old: str, new: str) -> None:
    """Accept the old spelling of an option for one release, without showing it in the help.

    Args:
      parser: has the option `new` already.
      old: e.g. `--enlarger`.
      new: e.g. `--super-resolver`.
    """
    parser._option_string_actions[old] = parser._option_string_actions[new]


@contextlib.contextmanager
def pipes_as_files(arguments: argparse.Namespace) -> Iterator[None]:
    """Replace the arguments that are pipes (`-`, /dev/stdin, process substitution) by temporary files with their
    content, which go at the end of the block.

    Raises:
      InputError: see `avfr_jax.media.pipes.spool`.
    """
    given = {name: getattr(arguments, name, None) for name in _INPUTS}
    paths = {name: "/dev/stdin" if value == "-" else value for name, value in given.items() if isinstance(value, str)}
    vars(arguments).update(paths)
    with contextlib.ExitStack() as stack:
        copies: dict[str, str] = {}
        for name, path in paths.items():
            if not is_pipe(path):
                continue
            if path not in copies:
                folder = stack.enter_context(scratch_folder())
                copies[path] = str(spool(path, folder))
            setattr(arguments, name, copies[path])
        yield


def face_choice(text: str) -> str | int:
    """Which face of several, for `faces.choose`: the type of --source-face and --driving-face."""
    return int(text) if text.lstrip("-").isdigit() else text


def _three_numbers(text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
        raise argparse.ArgumentTypeError(f"{text!r} is not three numbers with commas, such as 20,0,-5")
    return numbers


def add_view(parser: argparse.ArgumentParser) -> None:
    """Add --rotate, --rotate-mode and --translate; `chosen_view` reads them."""
    # Else argparse takes -20,0,0 for an option.
    parser._negative_number_matcher = re.compile(r"^-[\d.]")
    angles = "turn the head by these degrees: yaw > 0 to the image's right, pitch > 0 up, roll > 0 clockwise"
    parser.add_argument("--rotate", type=_three_numbers, metavar="YAW,PITCH,ROLL", default=None, help=angles)
    modes = "add to the driving head's pose, or give the head exactly this one (default: relative)"
    parser.add_argument("--rotate-mode", choices=("relative", "absolute"), default=None, help=modes)
    places = "move the head to the image's right and down, in half frames, and scale it"
    parser.add_argument("--translate", type=_three_numbers, metavar="X,Y,SCALE", default=None, help=places)


def chosen_view(arguments: argparse.Namespace) -> Any:
    """The `motion.View` of the options of `add_view`; None without one. Raises ConfigError for numbers out of range."""
    from avfr_jax.motion import View

    if arguments.rotate is None and arguments.translate is None:
        if arguments.rotate_mode is not None:
            raise ConfigError("--rotate-mode is of --rotate and --translate: give one of them.")
        return None
    return View(arguments.rotate, arguments.translate, arguments.rotate_mode or "relative")
