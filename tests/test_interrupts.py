"""The end of a program by a signal."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from avfr_jax.interrupts import scratch, scratch_beside, scratch_folder

ROOT = pathlib.Path(__file__).resolve().parents[1]
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]

START = """
import gc, os, pathlib, signal, sys, threading, time
from avfr_jax.interrupts import exit_on_signals, scratch_beside, scratch_folder, uninterrupted

exit_on_signals("program", "stopped here.")
here = pathlib.Path(sys.argv[1])
def ready():
    print("ready", flush=True)
"""
WITH_SCRATCH = """
with scratch_beside(here / "out.mp4") as file, scratch_beside(here / "model") as folder:
    file.write_text("half")
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "weights").write_text("half")
    ready()
    time.sleep(60)
"""
IN_A_CALLBACK = """
def callback(phase, info):  # where a KeyboardInterrupt is printed and lost, as in JAX's
    end = time.perf_counter() + 0.05
    while time.perf_counter() < end:
        pass
gc.callbacks.append(callback)
ready()
while True:
    gc.collect()
"""
IN_A_SWAP = """
with uninterrupted():
    (here / "first").touch()
    ready()
    time.sleep(0.5)
    (here / "second").touch()
time.sleep(60)
"""
FORKED = """
with scratch_beside(here / "out.mp4") as file:
    file.touch()
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    time.sleep(0.2)
    os.kill(child, signal.SIGTERM)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM
    assert file.exists()
    ready()
    time.sleep(60)
"""


def interruptible():
    """Shells start background jobs with SIGINT ignored, and children inherit that."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def start(tmp_path, text, before=interruptible):
    folder = tmp_path / "here"
    folder.mkdir()
    return subprocess.Popen(
        [sys.executable, "-c", START + text, str(folder)], env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=before,
    )  # fmt: skip


def stopped_by(number, process):
    """The program's standard error, after a signal and the end with its status."""
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, words = process.communicate(timeout=10)
    assert process.returncode == 128 + number
    return words


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_program_with_a_sentence_and_removes_its_scratch_files(number, tmp_path):
    assert stopped_by(number, start(tmp_path, WITH_SCRATCH)) == "\nprogram: stopped here.\n"
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.parametrize("text", [IN_A_CALLBACK, FORKED])
def test_a_signal_is_never_lost_nor_anothers(text, tmp_path):
    assert stopped_by(signal.SIGINT, start(tmp_path, text)) == "\nprogram: stopped here.\n"
    assert list((tmp_path / "here").iterdir()) == []


def test_a_signal_waits_for_the_end_of_steps_that_belong_together(tmp_path):
    stopped_by(signal.SIGTERM, start(tmp_path, IN_A_SWAP))
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["first", "second"]


def test_an_ignored_signal_stays_ignored(tmp_path):
    def ignoring():
        interruptible()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does

    process = start(tmp_path, "ready()\nimport time\ntime.sleep(60)", ignoring)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 143


def test_the_import_of_the_package_leaves_signals_alone():
    code = (
        "import signal, avfr_jax, avfr_jax.cli.main, avfr_jax.interrupts\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
        "assert signal.getsignal(signal.SIGTERM) == signal.getsignal(signal.SIGHUP) == signal.SIG_DFL\n"
        "avfr_jax.cli.main.main(['--version'])"
    )
    subprocess.run([sys.executable, "-c", code], check=True, preexec_fn=interruptible, capture_output=True)


def test_scratch_files_and_folders_end_with_their_block(tmp_path):
    with scratch_beside(tmp_path / "a.png") as file, scratch_folder() as folder:
        assert (file.parent, file.suffix) == (tmp_path, ".png")
        assert not file.exists()
        assert folder.stat().st_mode & 0o777 == 0o700
        file.touch()
        (folder / "sound.wav").touch()
    assert not file.exists()
    assert not folder.exists()
    with contextlib.suppress(KeyboardInterrupt), scratch(tmp_path / "b") as other:
        other.touch()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_renamed_scratch_file_stays(tmp_path):
    with scratch_beside(tmp_path / "a.txt") as file:
        file.write_text("whole")
        file.rename(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "whole"
