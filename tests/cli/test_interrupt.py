"""Ctrl-C, SIGTERM and SIGHUP in the commands: from their first moment on, and in the midst of the work."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.media_fixtures import astronaut, moved, write_clip


def interruptible():
    """Shells start background jobs with SIGINT ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def start(tmp_path, *words):
    """A command whose scratch folders lie in `tmp_path`."""
    return subprocess.Popen(
        [sys.executable, "-m", "avfr_jax", *map(str, words)], env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=interruptible,
    )  # fmt: skip


def wait(condition, process):
    deadline = time.monotonic() + 120
    while not condition() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    assert process.poll() is None, f"it ended before it could be interrupted: {process.communicate()}"


def is_stopped_by(number, process):
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in err
    assert err.endswith("\navfr: stopped; unfinished files were removed.\n")
    assert err.count("stopped") == 1
    assert out == ""


def handles_signals(process):
    """Whether a process handles SIGTERM, which Python leaves to the system."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("SigCgt:")[2].split()[0], 16) >> (signal.SIGTERM - 1) & 1


@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize("delay", [0.0, 0.3])
def test_a_command_can_be_stopped_while_it_is_imported(delay, tmp_path):
    process = start(tmp_path, "reenact", "--source", "none.png", "--driving", "none.mp4", "--output", "out.mp4")
    wait(lambda: handles_signals(process), process)
    time.sleep(delay)
    is_stopped_by(signal.SIGINT, process)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    frames = [moved(astronaut(), i) for i in range(20)] * 8
    return write_clip(tmp_path_factory.mktemp("clips") / "long.mp4", frames, sound=False)


@pytest.mark.slow
@pytest.mark.parametrize(("command", "number"), [("reenact", signal.SIGINT), ("encode", signal.SIGHUP)])
def test_a_command_stopped_in_the_midst_leaves_nothing(command, number, clip, portrait, tmp_path):
    out = tmp_path / "out" / ("out.mp4" if command == "reenact" else "out.avfr")
    out.parent.mkdir()
    driven = [
        "reenact",
        "--model",
        "landmark-warp",
        "--best-frame",
        "first",
        "--source",
        portrait,
        "--driving",
        clip,
        "--output",
        out,
    ]
    process = start(tmp_path, *(driven if command == "reenact" else ["encode", clip, out]))
    wait(lambda: any(out.parent.glob(".out-*")), process)
    is_stopped_by(number, process)
    assert list(out.parent.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("avfr-")] == []
