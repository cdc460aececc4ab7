"""Arrays and numbers from callers: converted where the meaning is plain, else refused in one sentence."""

import numpy as np
import pytest

from avfr_jax.arguments import mono_sound, rgb_frame, same_size, whole_number
from avfr_jax.errors import ConfigError, InputError

TONE = np.sin(np.arange(400) / 20) * 0.5


@pytest.mark.parametrize(
    "samples",
    [
        TONE,
        TONE.astype(np.float32),
        np.stack([TONE + 0.1, TONE - 0.1], 1),
        TONE[:, None],
        np.round(TONE * 2**15).astype(np.int16),
        np.round(TONE * 2**31).astype(np.int32),
    ],
)
def test_sound_becomes_mono_float32(samples):
    sound = mono_sound(samples)
    assert sound.dtype == np.float32
    assert sound.shape == TONE.shape
    np.testing.assert_allclose(sound, TONE, atol=2**-15)


def test_sound_of_8_bits_is_centred_on_128():
    np.testing.assert_allclose(mono_sound(np.array([0, 128, 192], np.uint8)), [-1, 0, 0.5])


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (np.zeros((2, 32000)), "shape"),
        (np.zeros((1, 2, 3)), "shape"),
        (np.zeros((9, 0)), "shape"),
        (np.float32(0), "shape"),
        (TONE * 32767, r"floats in \[-1, 1\]"),
        (np.append(TONE, np.nan), "NaN"),
        (np.append(TONE, -np.inf), "NaN or infinity"),
        (np.zeros(9, np.int64), "int64"),
        (np.zeros(9, bool), "bool"),
        (["speech"], "float"),
    ],
)
def test_other_sound_is_refused(samples, words):
    with pytest.raises(InputError, match=words):
        mono_sound(samples)


def test_empty_sound_stays_empty():
    assert mono_sound(np.zeros(0)).shape == (0,)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_frames_become_bytes(dtype):
    frame = np.full((2, 2, 3), 0.5, dtype)
    frame[0, 0] = 1.01  # what resampling leaves above white
    assert rgb_frame(frame, "the source")[:, :, 0].tolist() == [[255, 128], [128, 128]]


@pytest.mark.parametrize("value", [255.0, -1.0, np.nan, np.inf])
def test_unscaled_frames_are_refused(value):
    frame = np.zeros((4, 4, 3), np.float32)
    frame[1, 2, 0] = value
    with pytest.raises(InputError, match=r"the source .* give floats in \[0, 1\]"):
        rgb_frame(frame, "the source")


def test_whole_numbers():
    assert type(whole_number(np.int64(3), "n", 1)) is int
    for wrong in (True, np.True_, 0, 2.0, "3", None, np.zeros(3)):
        with pytest.raises(ConfigError, match="n must be a whole number from 1"):
            whole_number(wrong, "n", 1)


def test_frames_of_another_size_are_refused():
    shape = same_size(np.zeros((4, 6, 3)), None, "the clip")
    assert same_size(np.zeros((4, 6, 3)), shape, "the clip") == shape
    with pytest.raises(InputError, match="the clip change size from 6×4 to 4×6"):
        same_size(np.zeros((6, 4, 3)), shape, "the clip")
