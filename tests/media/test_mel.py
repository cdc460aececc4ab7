import numpy as np
import pytest

from avfr_jax.errors import ConfigError, InputError
from avfr_jax.media.mel import SILENCE, mel_spectrogram, mel_window, mel_windows, silence


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(16000 * seconds)) / 16000)).astype(np.float32)


def numbered(columns: int) -> np.ndarray:
    """A spectrogram whose values are the numbers of its columns."""
    return np.repeat(np.arange(columns, dtype=np.float32)[None], 80, 0)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("pad_mode", "name"),
    [
        ("constant", "wav2lip_mel_80T_padmode_constant_librosa011_default"),
        ("reflect", "wav2lip_mel_80T_padmode_reflect_librosa07_behaviour"),
    ],
)
def test_spectrogram_is_wav2lips(shared_dir, pad_mode, name):
    golden = np.load(shared_dir / "golden" / "audio.npz")
    mel = mel_spectrogram(golden["wav_int16"].astype(np.float32) / 32768, pad_mode)
    assert mel.dtype == np.float32
    np.testing.assert_allclose(mel, golden[name], atol=1e-5)


@pytest.mark.shared
def test_windows_begin_where_wav2lips_do(shared_dir):
    golden = np.load(shared_dir / "golden" / "audio.npz")["wav2lip_mel_chunk_start_fps25_step16"]
    # Its chunk i spans frames i to i + 4; ours is named after the frame in the middle. Its last ones are moved to fit.
    ours = mel_windows(numbered(241), np.arange(2, 2 + 70))[:, 0, 0]
    np.testing.assert_array_equal(ours, golden[:70])


def test_a_tone_is_brightest_in_its_band():
    centres = 700 * (10 ** (np.linspace(*(2595 * np.log10(1 + np.array([55, 7600]) / 700)), 82)[1:-1] / 2595) - 1)
    for hertz in (440, 1500, 5000):
        mel = mel_spectrogram(tone(hertz))
        # Slaney's bands lie up to a fifth off the logarithmic formula above.
        assert centres[mel[:, 40].argmax()] == pytest.approx(hertz, rel=0.25)


@pytest.mark.parametrize("samples", [0, 1, 2, 199, 200, 799, 800, 4321])
def test_any_length_has_a_column_every_200_samples(samples):
    assert mel_spectrogram(np.zeros(samples, np.float32)).shape == (80, 1 + samples // 200)
    assert np.isfinite(mel_spectrogram(np.ones(samples, np.float32))).all()


def test_silence_is_silent():
    np.testing.assert_array_equal(mel_spectrogram(np.zeros(3200, np.float32)), silence(17))
    assert silence().shape == (80, 16)
    assert SILENCE == -4.0


def test_the_input_is_not_modified():
    sound = tone(500)
    kept = sound.copy()
    mel_spectrogram(sound)
    np.testing.assert_array_equal(sound, kept)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_broken_samples_are_an_error(bad):
    sound = tone(500)
    sound[17] = bad
    with pytest.raises(InputError, match="1 of the sound's 16000 samples"):
        mel_spectrogram(sound)


def test_unknown_pad_mode_is_an_error():
    with pytest.raises(Exception, match=r"pad_mode|pad mode"):  # beartype's error where shapes and types are checked
        mel_spectrogram(tone(500), "edge")  # type: ignore[arg-type]


def test_window_has_its_frame_in_the_middle():
    mel = numbered(400)
    for frame in (2, 3, 7, 50):
        window = mel_window(mel, frame)
        assert window.shape == (80, 16)
        np.testing.assert_array_equal(window[5], int(80 * (frame - 2) / 25) + np.arange(16))
        assert window[0].mean() == pytest.approx((frame + 0.5) / 25 * 80 - 0.5, abs=1.0)


def test_windows_repeat_the_border():
    mel = numbered(20)
    np.testing.assert_array_equal(mel_window(mel, 0)[3], np.maximum(np.arange(-7, 9), 0))
    np.testing.assert_array_equal(mel_window(mel, 5)[3], np.minimum(np.arange(9, 25), 19))
    np.testing.assert_array_equal(mel_window(mel, 1000)[3], np.full(16, 19))


def test_window_at_another_rate_lies_at_the_same_time():
    mel = numbered(1000)
    for frame, fps in ((60, 30.0), (47, 23.976), (10, 10.0)):
        assert mel_window(mel, frame, fps)[0].mean() == pytest.approx((frame + 0.5) / fps * 80 - 0.5, abs=1.0)


def test_impossible_windows_are_errors():
    with pytest.raises(InputError, match="no columns"):
        mel_window(np.zeros((80, 0), np.float32), 3)
    with pytest.raises(ConfigError, match="frame -1"):
        mel_window(numbered(30), -1)
    with pytest.raises(ConfigError):
        mel_window(numbered(30), 1, fps=0.0)


def test_other_sound_is_converted():
    sound = tone(500)[:1000]
    wanted = mel_spectrogram(sound)
    for other in (sound.astype(np.float64), np.stack([sound, sound], 1), sound.tolist()):
        np.testing.assert_allclose(mel_spectrogram(other), wanted, atol=1e-3)
    np.testing.assert_allclose(mel_spectrogram(np.round(sound * 2**15).astype(np.int16)), wanted, atol=0.5)
