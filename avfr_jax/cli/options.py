"""Options that several commands share."""

import argparse
import contextlib
from collections.abc import Iterator

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
