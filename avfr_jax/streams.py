"""Standard streams of a program that may be started with them closed, full or limited to ASCII."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

_BROKEN_PIPE = 141  # what a shell reports of a program that SIGPIPE ended


class _Descriptor(io.FileIO):
    """Drops what cannot be written, and keeps the first error."""

    error: OSError | None = None

    def write(self, data: Any) -> int | None:  # type: ignore[override]
        """Write bytes; the number of them, as for `io.RawIOBase`."""
        try:
            return super().write(data)
        except OSError as error:
            self.error = self.error or error
            return memoryview(data).nbytes


def _open_missing() -> None:
    """Open the standard streams that were closed when the program was started.

    The next file that it opens would otherwise get the descriptor of standard output or error, and receive what native
    libraries print. Writing to a closed standard output fails, as it should; standard error is dropped.
    """
    for name, flags in (("stdin", os.O_RDONLY), ("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY)):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, flags)  # the lowest free number, which is the missing stream's
            os.set_inheritable(descriptor, True)
            stream = open(descriptor, "r" if name == "stdin" else "w")  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def _wrap(stream: Any, errors: str) -> TextIO:
    """A text stream on the same descriptor that does not fail."""
    stream.flush()
    raw = _Descriptor(stream.fileno(), "w", closefd=False)
    by_line = stream.line_buffering or stream.write_through
    return io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, errors, line_buffering=by_line)


@contextlib.contextmanager
def standard_streams(program: str) -> Iterator[None]:
    """Run a program's main function, of which this is the decorator, with streams to which it can always write.

    Nothing that a stream cannot take ends the program: characters that the encoding of standard output lacks become
    question marks, and what was lost there is reported at the end. What standard error cannot take is dropped. Streams
    that a test or a notebook has replaced stay as they are.

    Args:
      program: name that begins the sentence.

    Raises:
      SystemExit: with status 141 and without a word where the reader of the output has closed it (`| head`), with
        status 2 after one sentence where part of it could not be written for another reason.
    """
    _open_missing()
    before = sys.stdout, sys.stderr
    if sys.stdout is sys.__stdout__:
        # Names of files that are not UTF-8 keep their bytes.
        sys.stdout = _wrap(before[0], "surrogateescape" if before[0].encoding.lower() == "utf-8" else "replace")
    if sys.stderr is sys.__stderr__:
        sys.stderr = _wrap(before[1], "backslashreplace")
    try:
        yield
    except SystemExit:
        _report(program)
        raise
    else:
        _report(program)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def _report(program: str) -> None:
    """Raise SystemExit where output was lost."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    error = raw.error if isinstance(raw, _Descriptor) else None
    if isinstance(error, BrokenPipeError):
        raise SystemExit(_BROKEN_PIPE)
    if error is not None:
        print(f"{program}: The standard output cannot be written to ({error.strerror}).", file=sys.stderr)
        raise SystemExit(2)
