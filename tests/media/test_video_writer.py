"""Writing video: whole or not at all, in sync, tagged."""

from fractions import Fraction

import numpy as np
import pytest

from avfr_jax.errors import InputError, OutputError
from avfr_jax.media import files
from avfr_jax.media.audio import read_audio, write_wav
from avfr_jax.media.video import VideoReader
from avfr_jax.media.video_writer import VideoWriter, check_output


def _write(path, frames, **how):
    with VideoWriter(path, frames[0].shape[1], frames[0].shape[0], **how) as writer:
        for frame in frames:
            writer.write(frame)
    return path


@pytest.mark.parametrize(
    ("name", "codec", "sound"),
    [("a.mp4", "h264", "aac"), ("b.mov", "h264", "aac"), ("c.mkv", "h264", "aac"), ("d.webm", "vp9", "opus")],
)
def test_containers_codecs_and_tags(tmp_path, making, name, codec, sound):
    write_wav(tmp_path / "s.wav", making.click_track(1, 0.3)[0], 44100)
    frames = [making.moving_frame(i, 96, 64) for i in range(20)]
    tags = {"comment": "AI-generated: avfr-jax"}
    path = _write(tmp_path / name, frames, audio=tmp_path / "s.wav", metadata=tags)
    info = VideoReader(path).info
    assert (info.codec, info.pixel_format, info.frames) == (codec, "yuv420p", 20)
    assert (info.width, info.height, info.has_audio, info.audio_channels) == (96, 64, True, 1)
    assert info.metadata["comment"] == tags["comment"]
    for index, frame in enumerate(VideoReader(path)):
        assert making.frame_number(frame) == index
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "s.wav"])
    assert path.stat().st_mode & 0o044 or (tmp_path / "s.wav").stat().st_mode == path.stat().st_mode


def test_index_comes_first(tmp_path, making):
    data = _write(tmp_path / "a.mp4", [making.moving_frame(i) for i in range(5)]).read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_colours_survive(tmp_path):
    colours = np.array([[255, 255, 255], [0, 0, 0], [200, 40, 30], [30, 180, 60], [20, 60, 210], [230, 180, 150]])
    picture = np.repeat(np.repeat(colours[None].astype(np.uint8), 64, 0), 32, 1)
    read = next(iter(VideoReader(_write(tmp_path / "a.mp4", [picture] * 3, crf=1))))
    assert np.abs(read.astype(int) - picture)[:, 8::32].max() <= 4


@pytest.mark.parametrize(("width", "height"), [(65, 48), (64, 47), (33, 31), (1, 1)])
def test_odd_sizes_gain_a_copy_of_the_edge(tmp_path, width, height):
    frame = np.full((height, width, 3), 60, np.uint8)
    frame[:, -1] = 200
    read = next(iter(VideoReader(_write(tmp_path / "a.mp4", [frame] * 2, crf=4))))
    assert read.shape == (height + height % 2, width + width % 2, 3)
    assert np.abs(read[:height, :width].astype(int) - frame).mean() < 6
    if width % 2:
        assert np.abs(read[:, -1].astype(int) - read[:, -2]).mean() < 8


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("after", [0, 5])
def test_an_exception_leaves_nothing_behind(tmp_path, making, error, after):
    sound = tmp_path / "s.wav"
    write_wav(sound, making.click_track(1, 0.3)[0], 44100)
    (tmp_path / "a.mp4").write_text("precious")

    def interrupted() -> None:
        with VideoWriter(tmp_path / "a.mp4", 64, 48, audio=sound, overwrite=True) as writer:
            for index in range(after):
                writer.write(making.moving_frame(index))
            raise error

    with pytest.raises(error):
        interrupted()
    assert (tmp_path / "a.mp4").read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "s.wav"]


def test_no_frame_no_file(tmp_path):
    with pytest.raises(OutputError, match="no frame"), VideoWriter(tmp_path / "a.mp4", 64, 48):
        pass
    assert list(tmp_path.iterdir()) == []


def test_wrong_shape(tmp_path):
    with (
        pytest.raises(InputError, match="change size from 64×48 to"),
        VideoWriter(tmp_path / "a.mp4", 64, 48) as writer,
    ):
        writer.write(np.zeros((64, 48, 3), np.uint8))


def test_output_is_checked_before_any_work(tmp_path, monkeypatch):
    with pytest.raises(OutputError, match=r"\.mp4, \.mov, \.mkv, \.webm"):
        check_output(tmp_path / "a.wmv")
    with pytest.raises(OutputError, match="not an existing folder"):
        check_output(tmp_path / "none" / "a.mp4")
    with pytest.raises(OutputError, match="is a folder"):
        check_output(tmp_path)
    (tmp_path / "a.mp4").touch()
    with pytest.raises(OutputError, match="exists already"):
        check_output(tmp_path / "a.mp4")
    with pytest.raises(OutputError, match="exists already"):
        VideoWriter(tmp_path / "a.mp4", 64, 48)
    assert check_output(tmp_path / "a.mp4", overwrite=True) == tmp_path / "a.mp4"

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files.pathlib.Path, "touch", refuse)
    with pytest.raises(OutputError, match="permission denied"):
        check_output(tmp_path / "b.mp4")
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_unwritable_place():
    with pytest.raises(OutputError, match="cannot be written"):
        check_output("/proc/self/a.mp4")


def test_sound_must_exist(tmp_path, clip):
    with pytest.raises(InputError, match="no audio track"):
        VideoWriter(tmp_path / "o.mp4", 64, 48, audio=clip("silent.mp4", count=3))
    with pytest.raises(InputError, match="does not exist"):
        VideoWriter(tmp_path / "o.mp4", 64, 48, audio=tmp_path / "none.wav")


def _flash_clip(making, path, rate, sound_start, flash_at=1.0, seconds=2.5, sound_rate=44100, channels=2):
    """A white flash and a burst of noise at the same moment, the audio track beginning at `sound_start`."""
    rate = Fraction(rate).limit_denominator(1001)
    late_picture = max(0.0, -sound_start)
    frames, times = [], []
    for index in range(round(seconds * rate)):
        time = float(index / rate)
        frames.append(np.full((48, 64, 3), 230 if flash_at <= time + 1e-6 < flash_at + 0.2 else 20, np.uint8))
        times.append(index / rate + Fraction(str(late_picture)))
    begins = max(0.0, sound_start)
    sound = making.click_track(seconds, flash_at + late_picture - begins, sound_rate, channels)
    return making.encode_video(
        path, frames, rate=rate, times=times, sound=sound, sound_rate=sound_rate, sound_start=begins
    )


def _events(path):
    """Times in seconds of the first bright frame and of the burst."""
    bright = next(i for i, frame in enumerate(VideoReader(path)) if frame.mean() > 120) / 25
    return bright, float(np.argmax(np.abs(read_audio(path, 16000)) > 0.2)) / 16000


@pytest.mark.parametrize("name", ["o.mp4", "o.mkv", "o.webm"])
@pytest.mark.parametrize(
    ("rate", "sound_start"), [(25, 0.0), (25, 0.3), (25, -0.3), (30, 0.0), (29.97, 0.25), (12, 0.0)]
)
def test_sound_and_picture_stay_together(tmp_path, making, name, rate, sound_start):
    source = _flash_clip(making, tmp_path / "source.mkv", rate, sound_start)
    reader = VideoReader(source)
    _write(tmp_path / name, list(reader), audio=source)
    for path in (source, tmp_path / name):
        bright, burst = _events(path)
        assert abs(bright - burst) <= 0.040
        assert bright == pytest.approx(1.0, abs=0.041)
    assert burst == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(("seconds", "rate", "channels"), [(0.5, 8000, 1), (4.0, 48000, 2), (1.0, 7350, 1)])
def test_sound_is_cut_or_padded_to_the_picture(tmp_path, making, seconds, rate, channels):
    sound = making.click_track(seconds, 0.25, rate, channels)
    making.encode_video(
        tmp_path / "s.mkv", [making.moving_frame(0)] * 3, sound=sound, sound_rate=rate, sound_codec="pcm_s16le"
    )
    path = _write(tmp_path / "o.mp4", [making.moving_frame(i) for i in range(50)], audio=tmp_path / "s.mkv")
    found = read_audio(path, 48000)
    assert len(found) / 48000 == pytest.approx(2.0, abs=0.15)  # the last AAC packet may be padded
    assert np.argmax(np.abs(found) > 0.2) / 48000 == pytest.approx(0.25, abs=0.01)
    assert VideoReader(path).info.audio_channels == channels


def test_other_frame_rates(tmp_path, making):
    path = _write(tmp_path / "a.mp4", [making.moving_frame(i) for i in range(20)], fps=29.97)
    assert VideoReader(path).info.fps == pytest.approx(29.97, abs=0.01)
    assert len(list(VideoReader(path, fps=30000 / 1001))) == 20


def test_overwriting_the_source_of_the_sound(tmp_path, making):
    source = _flash_clip(making, tmp_path / "a.mp4", 25, 0.0)
    _write(source, list(VideoReader(source)), audio=source, overwrite=True)
    bright, burst = _events(source)
    assert abs(bright - burst) <= 0.040


def test_audio_of_dropped_frames_is_cut(tmp_path):
    """A click at 1.0 s moves to 0.6 s when the ten frames before it are dropped."""
    samples = np.zeros(2 * 16000, np.float32)
    samples[16000:16160] = 0.8
    write_wav(tmp_path / "click.wav", samples)
    with VideoWriter(tmp_path / "out.mp4", 64, 64, audio=tmp_path / "click.wav") as writer:
        for index in range(50):
            if 10 <= index < 20:
                writer.drop()
            else:
                writer.write(np.full((64, 64, 3), 90, np.uint8))
    audio = read_audio(tmp_path / "out.mp4")
    assert abs(len(audio) / 16000 - 40 / 25) < 0.07
    assert abs(np.argmax(np.abs(audio) > 0.3) / 16000 - 0.6) < 0.01
