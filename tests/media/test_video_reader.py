"""Reading video: containers, codecs, rates, orientation, damage."""

import pathlib
import resource
from fractions import Fraction

import av
import numpy as np
import pytest

from avfr_jax.errors import InputError
from avfr_jax.media.container import decode
from avfr_jax.media.image import is_image, write_image
from avfr_jax.media.video import VideoReader, is_video

CODECS = [
    ("a.mp4", "libx264", "yuv420p", {"bf": "3"}, 1),
    ("b.mkv", "libx264", "yuv444p", {}, 1),
    ("c.mp4", "libx265", "yuv420p10le", {"x265-params": "log-level=none"}, 1),
    ("d.webm", "libvpx-vp9", "yuv420p", {"cpu-used": "8", "crf": "20"}, 1),
    ("e.mp4", "libsvtav1", "yuv420p", {"preset": "12", "crf": "20"}, 1),
    ("f.mpg", "mpeg1video", "yuv420p", {"b": "2M"}, 1),
    ("g.avi", "mpeg4", "yuv420p", {"q": "3"}, 1),
    ("h.ts", "mpeg2video", "yuv420p", {"b": "2M"}, 1),
    ("i.mov", "prores_ks", "yuv422p10le", {}, 1),
    ("j.gif", "gif", "rgb8", {}, 12),
    ("k.h264", "libx264", "yuv420p", {}, 1),
]


@pytest.mark.parametrize(("name", "codec", "pixels", "options", "tolerance"), CODECS, ids=[c[0] for c in CODECS])
def test_every_frame_once_at_equal_rates(making, clip, name, codec, pixels, options, tolerance):
    path = clip(name, count=20, width=96, height=80, codec=codec, pixel_format=pixels, options=options)
    reader = VideoReader(path)
    frames = list(reader)
    assert is_video(path)
    assert not is_image(path)
    assert reader.info.frames == len(frames) == 20
    assert (reader.info.width, reader.info.height) == (96, 80)
    assert reader.info.fps == pytest.approx(25, abs=0.1)
    for index, frame in enumerate(frames):
        assert frame.shape == (80, 96, 3)
        assert frame.dtype == np.uint8
        assert abs(float(frame.mean()) - making.moving_frame(index).mean()) < 4 * tolerance


def test_colours_are_kept(tmp_path, making):
    colours = np.array([[255, 255, 255], [0, 0, 0], [200, 40, 30], [30, 180, 60], [20, 60, 210], [230, 180, 150]])
    picture = np.repeat(np.repeat(colours[None].astype(np.uint8), 64, 0), 32, 1)
    path = making.encode_video(tmp_path / "a.mp4", [picture] * 3, options={"crf": "1"})
    error = np.abs(next(iter(VideoReader(path))).astype(int) - picture)[:, 8::32]
    assert error.max() <= 4  # a wrong matrix or range is off by 10 or more


@pytest.mark.parametrize(
    ("rate", "count", "expected"), [(30, 60, 50), (50, 50, 25), (10, 10, 25), (Fraction(24000, 1001), 48, 50)]
)
def test_other_rates_become_25(clip, making, rate, count, expected):
    reader = VideoReader(clip(count=count, rate=rate))
    frames = list(reader)
    assert len(frames) == reader.info.frames == expected
    for index, frame in enumerate(frames[:20]):
        shown = making.frame_number(frame) if count < 25 or index * rate / 25 < 20 else None
        if shown is not None:
            # On screen in the middle of the output frame's interval.
            assert shown in (int((index + 0.5) * rate / 25 - 1e-6), int((index + 0.5) * rate / 25))


def test_variable_rate_follows_the_clock(clip, making):
    times = [Fraction(n, 1000) for n in (0, 20, 60, 100, 500, 520, 540, 1000)]
    frames = list(VideoReader(clip("vfr.mkv", count=8, times=times)))
    shown = [making.frame_number(frame) for frame in frames]
    expected = [max(i for i, t in enumerate(times) if float(t) < (k + 0.5) / 25) for k in range(len(shown))]
    assert shown == expected
    assert len(frames) >= 25


def test_repeated_frames_are_independent(clip):
    frames = iter(VideoReader(clip(count=5, rate=5)))
    first = next(frames)
    before = first.copy()
    first[:] = 0
    assert np.array_equal(next(frames), before)


@pytest.mark.parametrize(
    ("matrix", "turned", "rotation"),
    [
        ((1, 0, 0, 1), lambda f: f, 0),
        ((0, 1, -1, 0), lambda f: np.rot90(f, -1), 90),
        ((-1, 0, 0, -1), lambda f: np.rot90(f, 2), 180),
        ((0, -1, 1, 0), lambda f: np.rot90(f, 1), 270),
        ((-1, 0, 0, 1), lambda f: f[:, ::-1], 0),
        ((1, 0, 0, -1), lambda f: f[::-1], 180),
    ],
)
def test_display_matrix_makes_frames_upright(tmp_path, making, matrix, turned, rotation):
    stored = np.zeros((48, 64, 3), np.uint8)
    stored[:16, :16] = 250  # top left
    stored[32:, :16] = 120  # bottom left
    path = making.encode_video(tmp_path / "a.mp4", [stored] * 3, options={"crf": "5"})
    making.turn_stored_picture(path, *matrix)
    reader = VideoReader(path)
    frame = next(iter(reader))
    expected = turned(stored)
    assert frame.shape == expected.shape == (reader.info.height, reader.info.width, 3)
    assert np.abs(frame.astype(int) - expected).mean() < 2
    assert reader.info.rotation == rotation


@pytest.mark.parametrize(
    ("aspect", "size"), [(Fraction(2), (128, 48)), (Fraction(1, 2), (64, 96)), (Fraction(101, 100), (64, 48))]
)
def test_pixels_become_square(clip, aspect, size):
    reader = VideoReader(clip(count=3, aspect=aspect))
    assert (reader.info.width, reader.info.height) == size
    assert next(iter(reader)).shape == (size[1], size[0], 3)


def test_odd_sizes_and_single_frame(clip):
    reader = VideoReader(clip("odd.mkv", count=1, width=53, height=37, codec="ffv1", pixel_format="yuv444p"))
    assert [frame.shape for frame in reader] == [(37, 53, 3)]
    assert reader.info.frames == 1


@pytest.mark.parametrize("seconds", [4, 70])
def test_samples_are_spread_evenly(tmp_path, making, seconds):
    # Long clips are sought in. The level of a frame counts whole seconds.
    frames = (np.full((32, 32, 3), 20 + 3 * (i // 25), np.uint8) for i in range(25 * seconds))
    path = making.encode_video(tmp_path / "a.mp4", frames, options={"preset": "ultrafast", "g": "100", "bf": "2"})
    reader = VideoReader(path)
    found = reader.sample(5)
    assert [index for index, _ in found] == [round(i * (25 * seconds - 1) / 4) for i in range(5)]
    for index, frame in found:
        assert abs(float(frame.mean()) - (20 + 3 * (index // 25))) < 1.5
    assert len(reader.sample(1)) == 1
    assert reader.sample(0) == []


@pytest.mark.parametrize(
    ("name", "rate", "seeks"), [("a.mp4", 25, True), ("b.mkv", 30, True), ("c.ts", 25, False), ("d.h264", 25, False)]
)
def test_parts_equal_the_whole(clip, monkeypatch, name, rate, seeks):
    """From a key frame before the part on where the file can be sought in; transport and raw streams are decoded
    through."""
    path = clip(name, count=12 * rate, rate=rate, options={"g": "50", "bf": "2"})
    reader, decoded = VideoReader(path), []
    whole = list(reader)
    note = lambda *where: (decoded.append(frame) or frame for frame in decode(*where))  # noqa: E731
    monkeypatch.setattr("avfr_jax.media.video.decode", note)
    for first, stop in ((0, 3), (100, 110), (221, 229)):
        decoded.clear()
        np.testing.assert_array_equal(np.stack(list(reader.part(first, stop))), whole[first:stop])
    assert (len(decoded) < 100) == seeks
    assert len(list(reader.part(len(whole) - 2, len(whole) + 5))) == 2
    assert list(reader.part(len(whole) + 100, len(whole) + 105)) == []
    assert list(reader.part(7, 7)) == []
    with pytest.raises(ValueError, match="first <= stop"):
        next(reader.part(5, 4))


def test_more_samples_than_frames_gives_all(clip):
    assert [index for index, _ in VideoReader(clip(count=6)).sample(100)] == list(range(6))


def test_facts(clip, making):
    path = clip("a.mp4", count=50, sound=making.click_track(2, 0.5, 44100, 2), codec="libx264")
    info = VideoReader(path).info
    assert (info.codec, info.pixel_format, info.has_audio) == ("h264", "yuv420p", True)
    assert (info.audio_rate, info.audio_channels, info.rotation) == (44100, 2, 0)
    assert info.duration == pytest.approx(2.0, abs=0.02)
    silent = VideoReader(clip("b.mp4")).info
    assert (silent.has_audio, silent.audio_rate, silent.audio_channels) == (False, 0, 0)


INDEX_FIRST = {"options": {"crf": "10", "g": "10"}, "container_options": {"movflags": "faststart"}}


def test_truncated_file(clip):
    path = clip(
        count=200, width=160, height=120, options={"crf": "10", "g": "10"}, container_options={"movflags": "faststart"}
    )
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    reader = VideoReader(path)
    count = sum(1 for _ in reader)
    assert 60 < count < 180
    assert 0 < len(reader.sample(8)) <= 8


def test_damage_in_the_middle_is_survived(clip):
    path = clip(
        count=100, width=160, height=120, options={"crf": "10", "g": "10"}, container_options={"movflags": "faststart"}
    )
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 300] = bytes(300)
    path.write_bytes(bytes(data))
    reader = VideoReader(path)
    assert abs(sum(1 for _ in reader) - 100) <= 2


def _sound_only(path: pathlib.Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _no_index(path: pathlib.Path) -> None:
    data = path.with_name("whole.mp4").read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])


@pytest.mark.parametrize(
    ("name", "make", "sentence"),
    [
        ("missing.mp4", lambda p: None, "does not exist"),
        ("folder.mp4", lambda p: p.mkdir(), "is a folder"),
        ("empty.mp4", lambda p: p.touch(), "empty"),
        ("text.mp4", lambda p: p.write_text("this is no video\n" * 100), "not a video"),
        ("notes.txt", lambda p: p.write_text("this is no video\n" * 100), "no"),
        ("noise.mp4", lambda p: p.write_bytes(np.random.default_rng(0).bytes(5000)), "not a video"),
        ("no_index.mp4", _no_index, "incomplete MP4"),
        ("sound.m4a", _sound_only, "sound but no video"),
        ("still.png", lambda p: write_image(p, np.zeros((20, 20, 3), np.uint8)), "still picture"),
        ("still.jpg", lambda p: write_image(p, np.zeros((20, 20, 3), np.uint8)), "still picture"),
    ],
)
def test_bad_input_is_named_in_one_sentence(tmp_path, clip, name, make, sentence):
    clip("whole.mp4")
    path = tmp_path / name
    make(path)
    with pytest.raises(InputError, match=sentence) as caught:
        VideoReader(path)
    assert str(path) in str(caught.value)
    assert str(caught.value).count(". ") == 0
    assert str(caught.value).endswith(".")
    assert not is_video(path)


def test_video_without_frames(tmp_path):
    path = tmp_path / "none.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    with pytest.raises(InputError, match=r"none\.mp4"):
        VideoReader(path)


def test_memory_stays_flat(tmp_path, making):
    # 600 frames of 640×480 are 550 MB as RGB.
    ramp = np.linspace(0, 255, 640).astype(np.uint8)
    frames = (np.broadcast_to(np.roll(ramp, 3 * i)[None, :, None], (480, 640, 3)).copy() for i in range(600))
    with av.open(str(tmp_path / "long.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    reader = VideoReader(tmp_path / "long.mp4")
    for index, _ in enumerate(reader):
        if index == 50:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert index == 599
    assert after - before < 60_000  # KB


@pytest.mark.shared
@pytest.mark.parametrize("name", ["v004.mp4", "v008.mp4", "v017.mpg", "v059.mp4", "v062.mov"])
def test_real_clips(shared_dir, name):
    reader = VideoReader(shared_dir / "clips" / "video" / name)
    count = 0
    for frame in reader:
        assert frame.shape == (reader.info.height, reader.info.width, 3)
        count += 1
    assert count == reader.info.frames
    assert abs(count - 25 * reader.info.duration) <= 1


def test_tags_that_are_not_utf8_can_be_printed(clip):
    path = clip("tag.avi", count=3, width=64, height=64, codec="mpeg4", options={"q": "3"})
    software = av.open(str(path)).metadata["software"].encode()
    path.write_bytes(path.read_bytes().replace(software, b"\xff" * len(software)))
    assert VideoReader(path).info.metadata["software"] == "\ufffd" * len(software)
