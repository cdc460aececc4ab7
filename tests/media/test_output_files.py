"""Outputs through links, special files, and outputs that are inputs."""

import os
import pathlib

import numpy as np
import pytest

from avfr_jax.errors import OutputError
from avfr_jax.media.files import atomic_file, check_output
from avfr_jax.media.image import write_image
from avfr_jax.media.video_writer import VideoWriter


def text(path):
    with atomic_file(path, overwrite=True) as scratch:
        scratch.write_text("new")


def image(path):
    write_image(path, np.zeros((16, 16, 3), np.uint8), overwrite=True)


def video(path):
    with VideoWriter(path, 16, 16, overwrite=True) as writer:
        writer.write(np.zeros((16, 16, 3), np.uint8))


@pytest.mark.parametrize(("write", "name"), [(text, "a.txt"), (image, "a.png"), (video, "a.mp4")])
@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_its_target_is_written(write, name, there, tmp_path):
    """Through two links, the last of them relative, to a file without an ending."""
    target = tmp_path / "far" / "target"
    target.parent.mkdir()
    if there:
        target.write_text("old")
    (tmp_path / "near").symlink_to("far/target")
    link = tmp_path / name
    link.symlink_to(tmp_path / "near")
    write(link)
    assert link.is_symlink()
    assert (tmp_path / "near").is_symlink()
    assert target.is_file()
    assert target.read_bytes() != b"old"
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_the_file_behind_a_link_is_not_overwritten_unasked(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    with pytest.raises(OutputError, match="exists already"):
        check_output(tmp_path / "link")


@pytest.mark.parametrize("name", ["device.mp4", "pipe.mp4", "link.mp4", "circle.mp4", "lost.mp4", "folder.mp4"])
def test_special_files_are_refused_and_stay(name, tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder").mkdir()
    for link, target in (
        ("device.mp4", "/dev/null"),
        ("link.mp4", "pipe.mp4"),
        ("circle.mp4", "circle.mp4"),
        ("lost.mp4", "none/at/all.mp4"),
        ("folder.mp4", "folder"),
    ):
        (tmp_path / link).symlink_to(target)
    before = sorted((path.name, path.lstat().st_mode) for path in tmp_path.iterdir())
    with pytest.raises(OutputError):
        text(tmp_path / name)
    assert sorted((path.name, path.lstat().st_mode) for path in tmp_path.iterdir()) == before
    assert pathlib.Path("/dev/null").is_char_device()


def test_an_output_that_is_an_input_is_refused_under_any_name(tmp_path):
    there = tmp_path / "in.mp4"
    there.write_text("x")
    (tmp_path / "hard.mp4").hardlink_to(there)
    (tmp_path / "soft.mp4").symlink_to("in.mp4")
    for name in ("in.mp4", "hard.mp4", "soft.mp4"):
        for overwrite in (False, True):
            with pytest.raises(OutputError, match="one of the inputs"):
                check_output(tmp_path / name, overwrite, inputs=[None, tmp_path / "none.wav", there])
    assert check_output(tmp_path / "out.mp4", inputs=[there])


def test_an_output_has_ordinary_permissions(tmp_path):
    text(tmp_path / "a.txt")
    (tmp_path / "b.txt").touch()
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "b.txt").stat().st_mode
