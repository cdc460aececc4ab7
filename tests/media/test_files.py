"""Paths that are no ordinary files: addresses, pipes, devices, folders; every reader refuses them at once."""

import os
import pathlib
import signal

import pytest

from avfr_jax.codec.files import encode_file, read_file
from avfr_jax.errors import AvfrError, InputError
from avfr_jax.media.audio import has_audio, read_audio
from avfr_jax.media.files import check_input
from avfr_jax.media.image import read_image
from avfr_jax.media.video import VideoReader, is_video
from avfr_jax.model_store import describe_model
from avfr_jax.reenact import Reenactor
from avfr_jax.tracking.clip import open_clip, read_portrait

READERS = {
    "picture": read_image,
    "video": VideoReader,
    "sound": read_audio,
    "has_audio": has_audio,
    "stream": read_file,
    "clip": open_clip,
    "portrait": read_portrait,
    "source": lambda path: list(Reenactor("landmark-warp").steps(path, path)),
    "voice": lambda path: Reenactor("landmark-warp").steps(path, None, path),
    "encode": lambda path: encode_file(path, "out.avfr"),
}


@pytest.fixture
def no_hang():
    """Ends a test that blocks in `open`."""

    def end(number, frame):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("reader", READERS)
def test_pipe_without_a_writer_is_refused_at_once(tmp_path, monkeypatch, no_hang, reader):
    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"pipe is a pipe.*save its content to a file\.$"):
        READERS[reader](tmp_path / "pipe")
    assert not is_video(tmp_path / "pipe")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", [str, pathlib.Path])
def test_address_is_refused(tmp_path, monkeypatch, reader, kind):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"is an address, and avfr fetches nothing: download it and give the file\.$"):
        READERS[reader](kind("https://example.org/me.mp4"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("http://a/b.png", "fetches nothing"),
        ("RTSP://a/b", "fetches nothing"),
        ("s3://bucket/key.mp4", "fetches nothing"),
        ("file:///tmp/a.mp4", "without file://"),
        ("concat:a.mp4|b.mp4", "does not exist"),
        ("data:video/mp4;base64,AAAA", "does not exist"),
        ("C:/clip.mp4", "does not exist"),
        ("/dev/null", "is a device"),
        ("/dev/zero", "is a device"),
        ("/", "is a folder"),
    ],
)
def test_what_is_no_file_is_named(path, sentence):
    with pytest.raises(InputError, match=sentence):
        check_input(path)


def test_model_given_as_address():
    with pytest.raises(AvfrError, match="fetches nothing"):
        describe_model("https://example.org/vox")


def test_colon_in_a_name_is_no_protocol(tmp_path, monkeypatch, clip):
    monkeypatch.chdir(tmp_path)
    clip("concat:a.mp4", count=3)
    assert VideoReader("concat:a.mp4").info.frames == 3
