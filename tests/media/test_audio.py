"""Audio of any rate, layout and codec, on the video's time line."""

import wave
from fractions import Fraction

import av
import numpy as np
import pytest

from avfr_jax.errors import InputError, OutputError
from avfr_jax.media.audio import audio_blocks, has_audio, read_audio, write_wav

SECONDS = 1.5


def _tone(rate: int, channels: int) -> np.ndarray:
    time = np.arange(round(SECONDS * rate)) / rate
    return np.tile(0.5 * np.sin(2 * np.pi * 440 * time), (channels, 1)).astype(np.float32)


def _write_sound(path, codec: str, form: str, rate: int, layout: str) -> None:
    channels = av.AudioLayout(layout).nb_channels
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.codec_context.layout, stream.codec_context.format = layout, form
        frame = av.AudioFrame.from_ndarray(_tone(rate, channels), format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        for converted in av.AudioResampler(format=form, layout=layout, rate=rate).resample(frame):
            container.mux(stream.encode(converted))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("name", "codec", "form", "rate", "layout"),
    [
        ("a.wav", "pcm_s16le", "s16", 16000, "mono"),
        ("b.wav", "pcm_u8", "u8", 8000, "stereo"),
        ("c.wav", "pcm_s32le", "s32", 96000, "stereo"),
        ("d.wav", "pcm_f32le", "flt", 44100, "5.1"),
        ("e.m4a", "aac", "fltp", 44100, "stereo"),
        ("f.flac", "flac", "s16", 22050, "stereo"),
        ("g.opus", "libopus", "flt", 48000, "mono"),
        ("h.mp3", "libmp3lame", "s16p", 32000, "stereo"),
    ],
)
def test_formats(tmp_path, name, codec, form, rate, layout):
    _write_sound(tmp_path / name, codec, form, rate, layout)
    sound = read_audio(tmp_path / name)
    assert has_audio(tmp_path / name)
    assert sound.dtype == np.float32
    assert len(sound) == pytest.approx(16000 * SECONDS, abs=16000 * 0.06)  # lossy codecs pad the end
    middle = sound[4000:20000]
    spectrum = np.abs(np.fft.rfft(middle))
    assert np.argmax(spectrum) == 440  # 16000 samples: 1 Hz a bin
    # LAME writes at 95 % of the volume.
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.06) or layout == "5.1"
    expected = _tone(16000, 1)[0, 4000:20000]
    assert np.dot(middle, expected) / np.linalg.norm(middle) / np.linalg.norm(expected) > 0.98


@pytest.mark.parametrize(("start", "lead"), [(0.0, 0.6), (0.4, 1.0), (-0.2, 0.4)])
def test_sample_zero_is_the_first_video_frame(tmp_path, making, start, lead):
    frames = [making.moving_frame(i) for i in range(40)]
    sound = making.click_track(1.5, 0.6)
    if start < 0:  # the picture starts later instead
        times = [Fraction(i, 25) - Fraction(start) for i in range(40)]
        path = making.encode_video(tmp_path / "a.mkv", frames, times=times, sound=sound)
    else:
        path = making.encode_video(tmp_path / "a.mp4", frames, sound=sound, sound_start=start)
    click = np.argmax(np.abs(read_audio(path)) > 0.2) / 16000
    assert click == pytest.approx(lead, abs=0.006)


def test_pauses_in_the_time_stamps_become_silence(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000)
        stream.codec_context.layout = "mono"
        for first in (0, 1600, 16000):
            frame = av.AudioFrame.from_ndarray(np.full((1, 1600), 8000, np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16000, first
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    loud = np.abs(read_audio(path)) > 0.1
    assert len(loud) == 17600
    assert loud[:3200].mean() > 0.99
    assert loud[3300:15900].mean() < 0.01
    assert loud[16050:].mean() > 0.99


def test_blocks_are_small(tmp_path):
    _write_sound(tmp_path / "a.wav", "pcm_s16le", "s16", 44100, "stereo")
    blocks = list(audio_blocks(tmp_path / "a.wav", 48000, 2))
    assert all(block.shape[0] == 2 and block.shape[1] <= 48000 for block in blocks)
    assert sum(block.shape[1] for block in blocks) == pytest.approx(48000 * SECONDS, abs=2)


def test_no_sound(tmp_path, clip):
    path = clip(count=3)
    assert not has_audio(path)
    with pytest.raises(InputError, match="no audio track"):
        read_audio(path)
    with pytest.raises(InputError, match="does not exist"):
        read_audio(tmp_path / "none.wav")
    (tmp_path / "text.wav").write_text("not sound at all")
    with pytest.raises(InputError, match="not a video or audio file"):
        read_audio(tmp_path / "text.wav")


def test_write_wav(tmp_path):
    samples = np.array([0, 0.5, -0.5, 1, -1, 2, np.nan], np.float32)
    write_wav(tmp_path / "a.wav", samples, 8000)
    with wave.open(str(tmp_path / "a.wav")) as found:
        assert (found.getframerate(), found.getnchannels(), found.getsampwidth()) == (8000, 1, 2)
    assert np.allclose(read_audio(tmp_path / "a.wav", 8000), [0, 0.5, -0.5, 1, -1, 1, 0], atol=1e-4)
    with pytest.raises(OutputError, match="exists already"):
        write_wav(tmp_path / "a.wav", samples)
    with pytest.raises(OutputError, match=r"\.wav"):
        write_wav(tmp_path / "a.mp3", samples)
