"""Animated pictures as driving clips: every frame for its duration, whatever the format."""

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from avfr_jax.errors import InputError
from avfr_jax.media import animation
from avfr_jax.media.animation import AnimationReader, open_reader
from avfr_jax.media.image import is_animation, is_image, read_image
from avfr_jax.media.video import VideoReader
from avfr_jax.tracking import open_clip, read_portrait

FORMATS = {
    "a.gif": {},
    "a.png": {},
    "a.webp": {"lossless": True},
    "a.avif": {"quality": 95},
}


def _write(path, greys, durations, **how):
    """Frames of one grey level each, 40 × 32, a column of which stays black."""
    frames = []
    for grey in greys:
        frame = np.full((32, 40, 3), grey, np.uint8)
        frame[:, 0] = 0
        frames.append(Image.fromarray(frame))
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, **FORMATS[path.name], **how)
    return path


def _greys(frames):
    return [round(float(np.median(frame)) / 20) for frame in frames]


@pytest.mark.parametrize("name", FORMATS)
def test_frames_last_as_long_as_stated(tmp_path, name):
    path = _write(tmp_path / name, [20, 60, 100, 140], [40, 120, 40, 200])
    assert is_animation(path)
    assert not is_image(path)
    reader = open_reader(path)
    frames = list(reader)
    assert _greys(frames) == [1, 3, 3, 3, 5, 7, 7, 7, 7, 7]
    assert reader.info.frames == 10
    assert reader.info.duration == pytest.approx(0.4)
    assert (reader.info.width, reader.info.height, reader.info.has_audio) == (40, 32, False)
    assert frames[0].dtype == np.uint8
    frames[1][:] = 0
    assert _greys(frames[2:3]) == [3]
    assert [index for index, _ in reader.sample(4)] == [0, 3, 6, 9]
    assert _greys(frame for _, frame in reader.sample(4)) == [1, 3, 7, 7]


def test_rates(tmp_path):
    path = _write(tmp_path / "a.webp", [20, 60, 100, 140, 180], 100)
    assert open_reader(path, None).fps == 10
    assert _greys(open_reader(path, None)) == [1, 3, 5, 7, 9]
    assert _greys(open_reader(path, 5.0)) == [3, 7]
    assert len(list(open_reader(path, 60.0))) == open_reader(path, 60.0).info.frames == 30
    assert open_reader(_write(tmp_path / "a.gif", [20, 60], 0), None).fps == 10
    assert _greys(open_reader(path, 0.5)) == [9]
    with pytest.raises(ValueError, match="positive"):
        open_reader(path, 0.0)


@pytest.mark.parametrize("name", FORMATS)
def test_transparency_becomes_white(tmp_path, name):
    frames = [Image.new("RGBA", (40, 32), (grey, grey, grey, 255)) for grey in (40, 120)]
    for frame in frames:
        frame.paste((0, 0, 0, 0), (8, 8, 24, 24))
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=40, disposal=2, **FORMATS[name])
    read = list(open_reader(tmp_path / name))
    assert [round(float(np.median(frame[:, 30:])) / 20) for frame in read] == [2, 6]
    assert all(frame[12:20, 12:20].min() >= 250 for frame in read)


def test_picture_for_programs_without_animation_is_left_out(tmp_path):
    path = _write(tmp_path / "a.png", [20, 60, 100], 40, default_image=True)
    assert _greys(open_reader(path)) == [3, 5]


def test_driving_clip_and_source(tmp_path):
    path = _write(tmp_path / "a.webp", [20, 60, 100], [80, 40, 40])
    clip = open_clip(path)
    assert (clip.frames, clip.fps, clip.repeatable) == (4, 25, True)
    assert _greys(clip) == _greys(clip) == [1, 1, 3, 5]
    assert open_clip(path, "source").fps == Fraction(75, 4)
    assert _greys([read_image(path), read_portrait(path)]) == [1, 1]


def test_damage(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (10, 32, 40, 3), dtype=np.uint8)
    frames = [Image.fromarray(frame) for frame in noise]
    for name in ("a.gif", "a.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=40, **FORMATS[name])
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        reader = open_reader(tmp_path / name)
        assert 3 <= len(list(reader)) <= 6
    with pytest.raises(InputError, match="does not exist"):
        AnimationReader(tmp_path / "none.webp")


def test_length_of_a_long_animation_is_estimated(tmp_path, monkeypatch):
    monkeypatch.setattr(animation, "_SCANNED", 3 * 40 * 32)
    path = _write(tmp_path / "a.webp", range(20, 220, 20), 40)
    assert open_reader(path).info.frames == len(list(open_reader(path))) == 10


def test_pages_are_no_animation_and_videos_are_read_as_before(tmp_path, clip):
    pages = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert is_image(tmp_path / "a.tif")
    assert isinstance(open_reader(clip()), VideoReader)
    assert not is_animation(tmp_path / "none.webp")


def test_shared_case(shared_dir):
    reader = open_reader(shared_dir / "cases" / "anim.webp")
    frames = list(reader)
    assert len(frames) == reader.info.frames == 50
    assert len({frame.tobytes() for frame in frames}) > 10
