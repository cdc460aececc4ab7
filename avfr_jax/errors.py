"""Errors of user input.

Each carries one sentence: what was wrong, with which file, and what to do. The command line prints that sentence alone
and exits with status 2.
"""


class AvfrError(Exception):
    """Base of every error that a user can cause and correct."""


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
