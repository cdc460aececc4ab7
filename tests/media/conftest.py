"""Media files made with PyAV: containers, codecs and defects."""

import pathlib
import struct
import types
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest


def moving_frame(index: int, width: int = 64, height: int = 48) -> np.ndarray:
    """Grey gradient whose level encodes the frame's number: 8 grey levels a frame, modulo 200, from 20 on."""
    frame = np.full((height, width, 3), 20 + 8 * index % 200, np.uint8)
    return frame


def frame_number(frame: np.ndarray) -> int:
    """Inverse of `moving_frame` for indices below 25."""
    return round((float(frame.mean()) - 20) / 8)


def encode_video(
    path: pathlib.Path,
    frames: Iterable[np.ndarray],
    codec: str = "libx264",
    rate: Any = 25,
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    times: list[Fraction] | None = None,
    sound: np.ndarray | None = None,
    sound_rate: int = 44100,
    sound_codec: str = "aac",
    sound_start: float = 0.0,
    aspect: Fraction | None = None,
    container_options: dict[str, str] | None = None,
) -> pathlib.Path:
    """A video file from RGB frames; `times` (seconds) make the rate variable; `sound` is float32 [channels, T]."""
    frames = list(frames)
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        audio = None
        if sound is not None:
            audio = container.add_stream(sound_codec, rate=sound_rate)
            audio.codec_context.layout = "mono" if sound.shape[0] == 1 else "stereo"
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixel_format)
            if times is not None:
                frame.pts, frame.time_base = round(times[index] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is not None and sound is not None:
            _encode_sound(container, audio, sound, sound_rate, sound_start)
    return path


def _encode_sound(container: Any, stream: Any, sound: np.ndarray, rate: int, start: float) -> None:
    layout = "mono" if sound.shape[0] == 1 else "stereo"
    form = stream.codec_context.format.name
    for first in range(0, sound.shape[1], 1024):
        block = np.ascontiguousarray(sound[:, first : first + 1024], np.float32)
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        frame.pts = first + round(start * rate)
        for converted in av.AudioResampler(format=form, layout=layout, rate=rate).resample(frame):
            container.mux(stream.encode(converted))
    container.mux(stream.encode(None))


def turn_stored_picture(path: pathlib.Path, a: int, b: int, c: int, d: int) -> None:
    """Overwrite the display matrix in an MP4's first track header (ISO/IEC 14496-12, 8.3.2)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 4 + 4 * 5 + 8 + 8  # flags; times, id, duration (version 0); reserved; layer...
    matrix = [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30]
    assert struct.unpack(">9i", data[at : at + 36]) == (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    data[at : at + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(bytes(data))


def click_track(seconds: float, at: float, rate: int = 44100, channels: int = 1) -> np.ndarray:
    """Silence with a 20 ms burst of noise that begins `at` seconds."""
    sound = np.zeros((channels, round(seconds * rate)), np.float32)
    first = round(at * rate)
    burst = np.random.default_rng(0).uniform(-0.9, 0.9, round(0.02 * rate))
    sound[:, first : first + len(burst)] = burst[: sound.shape[1] - first]
    return sound


@pytest.fixture(scope="session")
def making() -> types.SimpleNamespace:
    """The functions above (test modules cannot import a conftest)."""
    names = (moving_frame, frame_number, encode_video, turn_stored_picture, click_track)
    return types.SimpleNamespace(**{function.__name__: function for function in names})


@pytest.fixture
def clip(tmp_path: pathlib.Path) -> Callable[..., pathlib.Path]:
    """Makes `name` in the test's folder with `count` numbered frames; other arguments as `encode_video`."""

    def make(name: str = "clip.mp4", count: int = 25, width: int = 64, height: int = 48, **how: Any) -> pathlib.Path:
        return encode_video(tmp_path / name, [moving_frame(i, width, height) for i in range(count)], **how)

    return make
