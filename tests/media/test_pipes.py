"""Pipes are copied into files; one that nobody writes into is refused at once."""

import argparse
import contextlib
import os
import pathlib
import threading
import time

import numpy as np
import pytest

from avfr_jax.cli.main import main
from avfr_jax.cli.options import pipes_as_files
from avfr_jax.errors import InputError
from avfr_jax.interrupts import remove_scratch
from avfr_jax.media import pipes
from avfr_jax.media.pipes import is_pipe, spool


def written_into(path, data, delay=0.0):
    """A named pipe into which a thread writes."""
    os.mkfifo(path)

    def write():
        time.sleep(delay)
        with contextlib.suppress(BrokenPipeError), open(path, "wb", buffering=0) as pipe:
            for start in range(0, len(data), 50_000):
                pipe.write(data[start : start + 50_000])

    threading.Thread(target=write, daemon=True).start()
    return path


@pytest.mark.parametrize("delay", [0.0, 0.3])
def test_pipe_is_copied_whole(tmp_path, delay):
    data = np.random.default_rng(0).bytes(300_000)
    pipe = written_into(tmp_path / "pipe", data, delay)
    (tmp_path / "copies").mkdir()
    assert is_pipe(pipe)
    assert spool(pipe, tmp_path / "copies").read_bytes() == data


def test_pipe_of_a_finished_process(tmp_path):
    end, other = os.pipe()
    os.write(other, b"content")
    os.close(other)
    assert spool(f"/dev/fd/{end}", tmp_path).read_bytes() == b"content"
    os.close(end)


def test_pipe_without_a_writer_is_refused_soon(tmp_path, monkeypatch):
    monkeypatch.setattr(pipes, "_PATIENCE", 0.1)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "copies").mkdir()
    start = time.monotonic()
    with pytest.raises(InputError, match="into which nothing is written"):
        spool(tmp_path / "pipe", tmp_path / "copies")
    assert time.monotonic() - start < 2


def test_endless_pipe_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(pipes, "LARGEST", 1 << 20)
    (tmp_path / "copies").mkdir()
    pipe = written_into(tmp_path / "pipe", bytes(3 << 20))
    with pytest.raises(InputError, match="save it to a file"):
        spool(pipe, tmp_path / "copies")


def test_arguments_that_are_pipes_become_files(tmp_path):
    pipe = str(written_into(tmp_path / "pipe", b"content"))
    arguments = argparse.Namespace(source=pipe, driving=pipe, audio="driving", output=pipe, model=None)
    with pipes_as_files(arguments):
        copy = pathlib.Path(arguments.source)
        assert copy.read_bytes() == b"content"
        assert arguments.driving == arguments.source
        assert (arguments.audio, arguments.output, arguments.model) == ("driving", pipe, None)
    assert not copy.exists()


def test_a_copy_is_removed_when_a_signal_ends_the_program(tmp_path):
    arguments = argparse.Namespace(source=str(written_into(tmp_path / "pipe", b"data")))
    with pipes_as_files(arguments):
        assert pathlib.Path(arguments.source).read_bytes() == b"data"
        remove_scratch()
        assert not pathlib.Path(arguments.source).exists()


def test_a_dash_is_standard_input(monkeypatch):
    monkeypatch.setattr("avfr_jax.cli.options.is_pipe", lambda path: False)
    arguments = argparse.Namespace(input="-")
    with pipes_as_files(arguments):
        assert arguments.input == "/dev/stdin"


def test_commands_end_where_nobody_writes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pipes, "_PATIENCE", 0.1)
    os.mkfifo(tmp_path / "pipe")
    for words in (
        ["reenact", "--source", tmp_path / "pipe", "--driving", "d.mp4", "--output", tmp_path / "o.mp4"],
        ["reenact", "--source", "s.png", "--audio", tmp_path / "pipe", "--output", tmp_path / "o.mp4"],
        ["explain", "s.png", tmp_path / "pipe", tmp_path / "o.png"],
        ["encode", tmp_path / "pipe", tmp_path / "o.avfr"],
        ["decode", tmp_path / "pipe", tmp_path / "o.mp4"],
        ["import", "fomm", "f.pth", tmp_path / "o", "--config", tmp_path / "pipe"],
    ):
        assert main([str(word) for word in words]) == 2
        assert "pipe into which nothing is written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
