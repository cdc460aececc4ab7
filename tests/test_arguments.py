"""Arrays and numbers from callers: converted where the meaning is plain, else refused in one sentence."""

import numpy as np
import pytest

from avfr_jax.arguments import mono_sound, rgb_frame, same_size, whole_number
from avfr_jax.codec.channel import Channel
from avfr_jax.codec.files import decoded_size
from avfr_jax.codec.pivots import PivotSettings
from avfr_jax.codec.receiver import Receiver
from avfr_jax.codec.sender import Sender
from avfr_jax.codec.settings import SenderSettings
from avfr_jax.errors import ConfigError, InputError
from avfr_jax.faces.choose import choose_face
from avfr_jax.faces.face import Face
from avfr_jax.media.mel import mel_spectrogram
from avfr_jax.media.video_writer import VideoWriter
from avfr_jax.models.base import Capabilities
from avfr_jax.reenact import Reenactor
from avfr_jax.tracking.clip import FrameClip, open_clip
from avfr_jax.tracking.tracker import TrackedClip, Tracking
from pipelines.config import DataConfig
from tests.reenact.stub import PixelStub

TONE = np.sin(np.arange(400) / 20) * 0.5
FACE = Face(np.linspace(0, 99, 478 * 3, dtype=np.float32).reshape(478, 3), 1.0)


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


def test_lists_of_unequal_lengths_are_refused():
    for check in (mono_sound, lambda values: rgb_frame(values, "the source")):
        with pytest.raises(InputError, match="unequal lengths"):
            check([[1.0, 2.0], [3.0]])
    with pytest.raises(InputError, match="object"):
        rgb_frame(np.full((2, 2, 3), None), "the source")


# --- where callers' arrays and numbers come in: each refuses at once, in a sentence ----------------------------------

SMALL, LARGE = np.zeros((32, 32, 3), np.uint8), np.zeros((32, 48, 3), np.uint8)


def _write(folder, frame, **how):
    with VideoWriter(folder / "a.mp4", 32, 32, **how) as writer:
        writer.write(frame)


def _sampled():
    clip = FrameClip([SMALL, LARGE])
    clip.sample = lambda count: [(0, SMALL), (1, LARGE)]
    TrackedClip(clip, Tracking(256, Capabilities(), "none"), None).sample()


def _explained(at):
    return Reenactor(MODEL, crop="none").explain(SMALL, [SMALL], at=at)


MODEL = PixelStub()
_REFUSED = {
    "frames that change size, a list": (InputError, "change size", lambda _: list(open_clip([SMALL, LARGE]))),
    "frames that change size, samples": (InputError, "change size", lambda _: open_clip([SMALL, LARGE]).sample(2)),
    "frames that change size, streamed": (InputError, "change size", lambda _: list(open_clip(iter([SMALL, LARGE])))),
    "frames that change size, tracked samples": (InputError, "change size", lambda _: _sampled()),
    "frames that change size, written": (InputError, "change size from 32×32 to 48×32", lambda d: _write(d, LARGE)),
    "frames of 0 to 255 as floats": (InputError, r"\[0, 1\]", lambda _: list(open_clip(np.full((1, 8, 8, 3), 255.0)))),
    "frames of 0 to 255 as floats, written": (InputError, r"\[0, 1\]", lambda d: _write(d, SMALL + 255.0)),
    "frames of unequal lengths": (InputError, "unequal", lambda _: list(open_clip([[[[0, 0, 0], [0, 0]]]]))),
    "a number as clip": (InputError, "iterable of images, not 5", lambda _: open_clip(5)),
    "an array without axes as clip": (InputError, "no frames", lambda _: open_clip(np.float32(5))),
    "rate True": (ConfigError, "fps", lambda _: open_clip([SMALL], True)),
    "rate NaN": (ConfigError, "fps", lambda _: open_clip([SMALL], np.nan)),
    "rate of an array": (ConfigError, "fps", lambda _: open_clip([SMALL], np.array([25, 30]))),
    "rate of 0, written": (ConfigError, "fps", lambda d: _write(d, SMALL, fps=0)),
    "size True, written": (ConfigError, "width must be a whole", lambda d: VideoWriter(d / "a.mp4", True, 32)),
    "quality of a video": (ConfigError, "crf must be a whole", lambda d: _write(d, SMALL, crf=-1)),
    "batch of 0, received": (ConfigError, "batch_size must be a whole", lambda _: Receiver(batch_size=0)),
    "batch True, received": (ConfigError, "batch_size must be a whole", lambda _: Receiver(batch_size=True)),
    "batch of 0, data": (ConfigError, "batch_size must be a whole", lambda _: DataConfig(path="x", batch_size=0)),
    "batch True, data": (ConfigError, "batch_size must be a whole", lambda _: DataConfig(path="x", batch_size=True)),
    "components True": (ConfigError, "components must be a whole", lambda _: SenderSettings(components=True)),
    "packets of half a frame": (ConfigError, "packet must be a whole", lambda _: SenderSettings(packet=2.5)),
    "interval True": (ConfigError, "check_interval must be a whole", lambda _: PivotSettings(check_interval=True)),
    "sound True, sent": (ConfigError, "sound must be a whole", lambda _: Sender(MODEL, sound=True)),
    "size of 0, sent": (ConfigError, "width must be a whole", lambda _: Sender(MODEL, shown=(0, 256))),
    "rate of 0, sent": (ConfigError, "rate must be a whole", lambda _: Sender(MODEL, rate=(0, 1))),
    "seed True": (ConfigError, "seed must be a whole", lambda _: Channel(seed=True)),
    "frame True, explained": (ConfigError, "at must be a whole", lambda _: _explained(True)),
    "frame -1, explained": (ConfigError, "at must be a whole", lambda _: _explained(-1)),
    "size of three": (ConfigError, "size must be", lambda _: decoded_size((1, 2, 3))),
    "size True": (ConfigError, "the width must be a whole", lambda _: decoded_size(True)),
    "face True": (ConfigError, "a face is chosen", lambda _: choose_face([FACE], True)),
    "sound with the axes swapped": (InputError, "shape", lambda _: mel_spectrogram(np.zeros((2, 32000)))),
    "sound as integers of 64 bits": (InputError, "int64", lambda _: mel_spectrogram(np.zeros(9, int))),
    "sound that is not scaled": (InputError, r"\[-1, 1\]", lambda _: mel_spectrogram(TONE * 32767)),
    "sound with NaN": (InputError, "NaN", lambda _: mel_spectrogram(np.append(TONE, np.nan))),
}  # fmt: skip


@pytest.mark.parametrize("name", list(_REFUSED))
def test_callers_mistakes_are_refused(name, tmp_path):
    kind, words, call = _REFUSED[name]
    with pytest.raises(kind, match=words) as caught:
        call(tmp_path)
    assert len(str(caught.value)) <= 300
    assert list(tmp_path.iterdir()) == []


def test_numbers_of_numpy_are_taken(tmp_path):
    assert open_clip([SMALL], np.int64(30)).fps == open_clip([SMALL], np.float32(30)).fps == 30
    assert type(SenderSettings(components=np.int64(8)).components) is int
    assert type(PivotSettings(check_interval=np.uint8(3)).check_interval) is int
    assert type(DataConfig(path="x", batch_size=np.int32(4)).batch_size) is int
    assert decoded_size(np.int64(64)) == decoded_size((np.int16(64), 64)) == (64, 64)
    assert choose_face([FACE], np.int64(0)) is FACE
    Receiver(batch_size=np.int64(2))
    _write(tmp_path, SMALL / np.float32(255), fps=np.int64(25), crf=np.int64(30))
    assert (tmp_path / "a.mp4").stat().st_size > 0
