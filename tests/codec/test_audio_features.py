"""Audio features of audio-conditioned models at the receiver."""

import io
import wave
from fractions import Fraction

import numpy as np
import pytest
from scipy.signal import resample_poly

from avfr_jax import model_store
from avfr_jax.codec import files
from avfr_jax.codec.audio_coding import decode_sound, encode_sound
from avfr_jax.codec.audio_features import AudioFeatureBuffer
from avfr_jax.codec.bitstream import Kind, Packet
from avfr_jax.codec.channel import Channel, play_call
from avfr_jax.codec.container import read_stream, write_stream
from avfr_jax.codec.receiver import Receiver
from avfr_jax.codec.sender import Sender, send_all
from avfr_jax.codec.settings import SenderSettings
from avfr_jax.media.audio import read_audio
from avfr_jax.media.mel import mel_spectrogram, mel_windows
from avfr_jax.media.video import VideoReader
from avfr_jax.models.base import Capabilities
from avfr_jax.reenact import Reenactor
from tests.codec.stubs import Mover
from tests.codec.stubs import grey_frames as frames
from tests.models.test_avfr import CONFIG, amplified_weights

SECONDS = 3
FRAMES = np.arange(25 * SECONDS)


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Bursts of noise and tones."""
    time = np.arange(16000 * SECONDS) / 16000
    tone = np.sin(2 * np.pi * (200 + 400 * np.floor(time * 4)) * time) * (np.floor(time * 4) % 3 > 0)
    noise = np.random.default_rng(0).normal(0, 0.1, len(time)) * (np.floor(time * 3) % 2)
    path = tmp_path_factory.mktemp("sound") / "speech.wav"
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16000)
        out.writeframes((np.clip(0.4 * tone + noise, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def audio_packets(speech, length: float = 0.12) -> list[Packet]:
    return list(encode_sound(speech, Fraction(25), 24000, length))


def features(packets: list[Packet], each: int = 4) -> np.ndarray:
    ear = AudioFeatureBuffer(25.0)
    for packet in packets:
        ear.push(packet)
    return np.concatenate([ear.windows(FRAMES[i : i + each]) for i in range(0, len(FRAMES), each)])


def test_the_windows_are_those_of_the_whole_sound(speech):
    packets = audio_packets(speech)
    out = features(packets)
    assert out.shape == (len(FRAMES), 80, 16)
    samples = np.concatenate(list(decode_sound(packets, SECONDS + 1)))
    whole = mel_spectrogram(np.pad(resample_poly(samples, 1, 3).astype(np.float32), (0, 3200)))
    np.testing.assert_allclose(out[:-3], mel_windows(whole, FRAMES)[:-3], atol=0.05)  # after which the sound ends
    # And near what a model hears that is given the recording itself.
    own = mel_windows(mel_spectrogram(np.pad(read_audio(speech), (0, 3200))), FRAMES)
    assert np.abs(out - own).mean() < 0.3 < 0.5 * np.abs(own - own.mean()).mean()
    late = mel_windows(mel_spectrogram(np.pad(read_audio(speech), (640, 3200))), FRAMES)  # a frame late
    assert np.abs(out - own).mean() < 0.8 * np.abs(out - late).mean()


def test_batches_and_order_of_packets_do_not_matter(speech):
    packets = audio_packets(speech)
    first, rest = features(packets), packets[:]
    np.random.default_rng(0).shuffle(rest)
    np.testing.assert_array_equal(features(rest), first)
    np.testing.assert_allclose(features(packets, 1), first, atol=1e-4)


def test_lost_sound_is_silence_and_costs_nothing_else(speech):
    packets = audio_packets(speech)
    whole = features(packets)
    lost = features(packets[:10] + packets[12:])  # 1.2 to 1.44 s
    np.testing.assert_array_equal(lost[:25], whole[:25])
    assert (lost[33, :, 7] == -4).all()
    assert np.abs(lost - whole)[40:].mean() < 0.1  # Opus goes on without it
    assert (features([]) == -4).all()


def test_a_call_uses_the_sound_that_has_arrived(speech):
    ear, out = AudioFeatureBuffer(25.0), []
    packets = audio_packets(speech)
    for i in FRAMES:
        while packets and packets[0].frame + 3 <= i + 3:  # its 120 ms are over three frames before the frame is shown
            ear.push(packets.pop(0))
        out.append(ear.windows(np.array([i]))[0])
        assert len(ear._decoded) + len(ear._waiting) < 40
    whole = features(audio_packets(speech))
    np.testing.assert_allclose(np.stack(out)[:, :, :8], whole[:, :, :8], atol=1e-4)  # the past is all there


def test_more_sound_than_can_be_kept_is_refused_and_strange_packets_are_survived(speech):
    ear = AudioFeatureBuffer(25.0)
    packet = audio_packets(speech)[0]
    for i in range(3000):
        ear.push(Packet(Kind.SOUND, 0, bytes([i & 0x7F | 0x80, i >> 7 & 0x7F]) + b"\x01a" * 25, count=25))
    random = np.random.default_rng(0)
    for _ in range(200):
        ear.push(Packet(Kind.SOUND, 0, random.bytes(40), count=int(random.integers(0, 99))))
    ear.push(packet)
    assert len(ear._waiting) <= 8192
    assert np.isfinite(ear.windows(np.arange(4))).all()


class AudioConditioned(Mover):
    """Renders the loudness."""

    capabilities = Capabilities(audio=True)

    def animate(self, source, source_keypoints, driving, mel=None):
        loud = np.zeros(len(driving.value)) if mel is None else (mel.mean((1, 2)) + 4) / 8
        return np.zeros_like(source.image)[None] + loud[:, None, None, None]


def called(speech, length: float) -> list[Packet]:
    sender = Sender(AudioConditioned(), SenderSettings(), sound=1)
    seen = send_all(sender, ((frame, None) for frame in frames(len(FRAMES))))
    return [*seen, *audio_packets(speech, length)]


@pytest.mark.parametrize("network", [None, Channel(), Channel(jitter=0.04)])
def test_a_receiver_gives_its_model_the_sound(speech, network):
    packets = called(speech, 0.12)
    end = Receiver(AudioConditioned())
    if network is None:
        for packet in packets:
            end.push(packet)
        out = np.stack(list(end.render(len(FRAMES))))
    else:
        out = np.stack(list(play_call(packets, network, 25, len(FRAMES), receiver=end)))
    want = (features(audio_packets(speech)).mean((1, 2)) + 4) / 8 * 255
    error = np.abs(out[:, 0, 0, 0] - want)
    # Of a call, the last part of a window's future may not have come: it waits 200 ms for packets of 120.
    assert error.max() <= 1 if network is None else np.median(error) <= 1 and error.mean() < 6
    assert np.ptp(want) > 60


def decoded(packets, end):
    """Decode as a file."""
    file = io.BytesIO()
    write_stream(file, sorted(packets, key=lambda p: p.kind is not Kind.HEADER))
    return files.decode_frames(file.getvalue(), receiver=end)


def test_a_file_waits_for_its_sound_but_not_forever(speech):
    packets = called(speech, 0.5)
    motion = [p for p in packets if p.kind is not Kind.SOUND]
    want = (features(audio_packets(speech, 0.5)).mean((1, 2)) + 4) / 8 * 255
    for order in (packets, motion[:2] + audio_packets(speech, 0.5) + motion[2:]):
        out = np.stack(list(decoded(order, Receiver(AudioConditioned()))))
        assert np.abs(out[:, 0, 0, 0] - want).max() <= 1
    end = Receiver(AudioConditioned())
    for packet in motion:
        end.push(packet)
    assert (end.known, end.ready) == (75, 0)
    long = Sender(AudioConditioned(), SenderSettings(), sound=1)
    for packet in send_all(long, ((frame, None) for frame in frames(400))):
        end.push(packet)
    assert end.ready == 150


@pytest.fixture(scope="module")
def audio_model(tmp_path_factory):
    """An AVFR-GAN with all its parts and sensitive random weights."""
    path = tmp_path_factory.mktemp("model") / "little-avfr"
    model_store.save_model(path, "avfr", CONFIG, amplified_weights(CONFIG))
    return path


def test_a_coded_clip_is_rendered_as_it_would_be_reenacted(audio_model, driving, tmp_path, monkeypatch):
    """What of a audio_model, structure-aware model is not sent is made at the receiver: little is lost on the way."""
    monkeypatch.setenv("AVFR_MODELS", str(audio_model.parent))
    stream = tmp_path / "clip.avfr"
    settings = SenderSettings(quality=95, keypoint_step=-16)
    files.encode_file(driving, stream, audio_model.name, settings, crop="none", sound=driving, bitrate=64000)
    packets = list(read_stream(stream.read_bytes()))
    out, silent = (
        np.stack(list(decoded([p for p in packets if p.kind not in left_out], Receiver()))).astype(int)
        for left_out in ((), (Kind.SOUND,))
    )
    reenactor = Reenactor(audio_model, motion="absolute", crop="none")
    want = np.stack(list(reenactor.reenact(next(iter(VideoReader(driving))), driving))).astype(int)
    assert len(out) == len(silent) == len(want)
    assert np.abs(out - want).mean() < 2
    assert np.abs(out - want).mean() < 0.6 * np.abs(silent - want).mean()
