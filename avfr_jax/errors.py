"""Errors of user input.

Each carries one sentence: what was wrong, with which file, and what to do. The command line prints that sentence alone
and exits with status 2.
"""

from collections.abc import Sequence


class AvfrError(Exception):
    """Base of every error that a user can cause and correct.

    Attributes:
      details: lines that do not fit into the sentence, e.g. every tensor that is missing; empty for most errors.
    """

    def __init__(self, message: str = "", details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.details = tuple(details)


class InputError(AvfrError):
    """A file that is missing, unreadable, empty or not what it claims to be."""


class FaceError(AvfrError):
    """No face, a face too small to use, several faces, or a face that leaves the frame."""


class OutputError(AvfrError):
    """An output that exists already, or a place that cannot be written to."""


class ConfigError(AvfrError):
    """A setting with an unknown name, a wrong type or an impossible value."""


class CheckpointError(AvfrError):
    """A checkpoint or model folder that is broken, unsafe to read or does not fit its network."""


class MissingBackendError(AvfrError):
    """An optional package or a model file that this function needs is not installed."""


def shortened(text: object, most: int = 60) -> str:
    """A name or value from a file for a sentence: at most so many characters, all of them printable."""
    words = str(text)[: most + 1]
    words = "".join(c if c.isprintable() else "?" for c in words)
    return words if len(words) <= most else words[: most - 1] + "…"


def some_of(names: Sequence[object], most: int = 3) -> str:
    """The first few names of a list for a sentence, and how many more there are."""
    named = ", ".join(shortened(name, 40) for name in names[:most])
    return named if len(names) <= most else f"{named} and {len(names) - most} more"
