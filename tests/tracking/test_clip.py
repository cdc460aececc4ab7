"""Driving clips: decoded once within a bound, sampled, and refused where they cannot be read."""

import numpy as np
import pytest

from avfr_jax.errors import ConfigError, InputError
from avfr_jax.media.video import VideoReader
from avfr_jax.tracking import check_frame_rate, clip, open_clip, prefetch, read_portrait


@pytest.fixture
def decoded(monkeypatch):
    """Number of passes over video files."""
    passes = []
    decode = VideoReader.__iter__

    def counted(self):
        passes.append(self.path)
        yield from decode(self)

    monkeypatch.setattr(VideoReader, "__iter__", counted)
    return passes


def test_a_video_within_the_bound_is_decoded_once(driving, decoded):
    opened = open_clip(driving)
    samples = opened.sample(5)
    frames = list(opened)
    assert [index for index, _ in samples] == [0, 5, 10, 14, 19]
    assert all(frame is frames[index] for index, frame in samples)
    assert opened.frame(7) is list(opened)[7]
    assert len(decoded) == 1
    assert opened.frames == len(frames) == 20


@pytest.mark.parametrize("kept", [0, 3])
def test_a_longer_video_is_decoded_for_each_pass(driving, decoded, monkeypatch, kept):
    expected = list(VideoReader(driving))
    monkeypatch.setattr(clip, "KEPT_BYTES", kept * expected[0].nbytes)
    opened = open_clip(driving)
    for _ in range(2):
        np.testing.assert_array_equal(np.stack(list(opened)), expected)
    assert len(decoded) == 3
    assert len(opened.sample(4)) == 4


def test_a_video_longer_than_stated_is_not_kept(driving, monkeypatch):
    expected = list(VideoReader(driving))
    opened = open_clip(driving)
    opened._room = 4
    np.testing.assert_array_equal(np.stack(list(opened)), expected)
    assert opened._kept is None
    np.testing.assert_array_equal(opened.frame(12), expected[12])


def test_images_are_clips(portrait):
    array = np.random.default_rng(0).random((6, 8, 8, 3)).astype(np.float32)
    opened = open_clip(array, fps=30)
    assert (opened.fps, opened.frames, len(opened.sample(3))) == (30, 6, 3)
    assert opened.frame(2).dtype == np.uint8
    assert open_clip(portrait).frames == 1
    streamed = open_clip(iter(array))
    np.testing.assert_array_equal(streamed.sample(48)[0][1], opened.frame(0))
    assert len(list(streamed)) == 6


def test_what_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(InputError, match="no frames"):
        open_clip([])
    with pytest.raises(InputError, match="no frames"):
        list(open_clip(iter([])))
    with pytest.raises(InputError, match="uint8"):
        list(open_clip(np.zeros((2, 4, 4, 3), np.int32)))
    with pytest.raises(InputError, match="does not exist"):
        open_clip(tmp_path / "nowhere.mp4")
    with pytest.raises(ConfigError, match="read twice"):
        open_clip(iter([])).frame(3)
    with pytest.raises(ConfigError, match="no frame 9"):
        open_clip(np.zeros((2, 4, 4, 3), np.uint8)).frame(9)
    for fps in (0, -1, float("inf"), 1000, "fast", True):
        with pytest.raises(ConfigError, match="fps must be"):
            check_frame_rate(fps)


def test_a_video_stands_for_its_first_frame(driving):
    np.testing.assert_array_equal(read_portrait(driving), next(iter(VideoReader(driving))))


def test_prefetching_raises_errors_in_the_consumer():
    def broken():
        yield 1
        raise InputError("broken")

    items = prefetch(broken(), 2)
    assert next(items) == 1
    with pytest.raises(InputError, match="broken"):
        next(items)
