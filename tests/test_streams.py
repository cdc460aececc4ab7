"""Programs whose standard streams are closed, full, or limited to ASCII."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROGRAM = """\
import contextlib, os, sys
from avfr_jax.streams import standard_streams
@standard_streams("program")
def main():
    for i in range({lines}):
        print("Ü", i)
    print("progress", file=sys.stderr)
    with open({log!r}, "w") as file:
        with contextlib.suppress(OSError):
            os.write(2, b"native log\\n")
        file.write("done")
    return 3
sys.exit(main())
"""


def _run(tmp_path, redirection: str, lines: int = 1, unbuffered: bool = False, **variables: str):
    """Run the program in a shell; gives status, standard output, standard error and the file that it writes."""
    log = tmp_path / "log"
    log.unlink(missing_ok=True)
    words = [sys.executable, *(["-u"] if unbuffered else []), "-c", PROGRAM.format(lines=lines, log=str(log))]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"} | variables
    shell = ["bash", "-o", "pipefail", "-c", f'"$@" {redirection}', "bash", *words]
    done = subprocess.run(shell, cwd=ROOT, env=environment, capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr.decode(), log.read_text()


def _lost(reason: str) -> str:
    return f"progress\nnative log\nprogram: The standard output cannot be written to ({reason}).\n"


@pytest.mark.parametrize(("redirection", "reason"), [(">&-", "Bad file descriptor"), (">/dev/full", "No space left")])
@pytest.mark.parametrize("unbuffered", [False, True])
def test_lost_output_is_reported_at_the_end(redirection, reason, unbuffered, tmp_path):
    status, _, errors, log = _run(tmp_path, redirection, 2000, unbuffered)
    assert (status, log) == (2, "done")
    assert errors.startswith(_lost(reason)[:-4])


def test_a_reader_that_stops_early_is_no_error(tmp_path):
    status, output, errors, log = _run(tmp_path, "| head -n 1", 20000)
    assert (status, output.decode(), errors, log) == (141, "Ü 0\n", "progress\nnative log\n", "done")


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "<&- 2>&-"])
def test_a_program_runs_without_standard_error(redirection, tmp_path):
    assert _run(tmp_path, redirection) == (3, "Ü 0\n".encode(), "", "done")


def test_a_file_does_not_get_the_descriptor_of_a_closed_stream(tmp_path):
    assert _run(tmp_path, "<&- >&- 2>&-") == (2, b"", "", "done")


def test_characters_that_the_encoding_lacks_become_question_marks(tmp_path):
    assert _run(tmp_path, "", PYTHONIOENCODING="ascii")[:2] == (3, b"? 0\n")
