"""FFmpeg's codecs with the settings of a video call, and copying the first frame.

Low delay without B-frames and look-ahead, except for H.266, whose encoder runs with its defaults. One key frame, the
first: no protection against loss, in the rivals' favour. One thread each, so that results do not depend on the machine
and no bits are spent on slices for threads.

Counted is the elementary stream with its parameter sets, without a container and without the SEI message with which
x264 and x265 identify themselves (700 and 2,300 bytes: 1.1 and 3.7 kbit/s of a clip of five seconds). The size of the
same stream in a file is reported separately.

Colours are the same for all: 8-bit YUV 4:2:0, BT.709, limited range, swscale's bicubic filter both ways. The loss of
4:2:0 is therefore part of every rival's figures, as it would be in a call.
"""

import contextlib
import dataclasses
import functools
import io
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal

import av
import av.error
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter

from avfr_jax.errors import InputError, MissingBackendError
from avfr_jax.media.colour import SCALER
from avfr_jax.typing import Float, UInt8
from experiments.rate_distortion.base import Coded

# Otherwise SVT-AV1 prints its settings at every start.
os.environ.setdefault("SVT_LOG", "1")

_SOUND_RATE, _SOUND_BITS = 16000, 16000  # Hz of the sound given; bits a second of Opus, plenty for speech
_ENDLESS = 1 << 20  # frames between key frames


@dataclasses.dataclass(frozen=True)
class Encoder:
    """Settings of an FFmpeg encoder.

    Attributes:
      library: the encoder's name in FFmpeg.
      decoder: of its stream.
      codec, container: name of the codec in a file format, and the format.
      quality, points: the quality option, and its values from the lowest rate to the highest.
      options: all others.
    """

    library: str
    decoder: str
    codec: str
    container: str
    quality: str
    points: tuple[int, ...]
    options: Mapping[str, str]


_X264 = {"tune": "zerolatency", "bf": "0"}
_SVT = "pred-struct=1:keyint=-1:lp=1"  # 1: low delay
ENCODERS: Mapping[str, Encoder] = {
    "x264": Encoder(
        "libx264", "h264", "h264", "mp4", "crf", (51, 47, 43, 39, 35, 31), {"preset": "medium", **_X264}
    ),
    "x264-fast": Encoder(
        "libx264", "h264", "h264", "mp4", "crf", (51, 47, 43, 39, 35, 31), {"preset": "veryfast", **_X264}
    ),
    "x265": Encoder(
        "libx265", "hevc", "hevc", "mp4", "crf", (51, 47, 43, 39, 35, 31),
        {"preset": "medium", "tune": "zerolatency",
         "x265-params": "bframes=0:keyint=-1:info=0:wpp=0:frame-threads=1:pools=none:log-level=error"},
    ),
    # 15 ms per frame of 512 x 512 on one core; slower presets gain little and may exceed a call's 40 ms.
    "av1": Encoder(
        "libsvtav1", "libdav1d", "av1", "mp4", "crf", (63, 57, 50, 43, 36, 30), {"preset": "6", "svtav1-params": _SVT}
    ),
    "av1-fast": Encoder(
        "libsvtav1", "libdav1d", "av1", "mp4", "crf", (63, 57, 50, 43, 36, 30),
        {"preset": "10", "svtav1-params": f"{_SVT}:rtc=1"},
    ),
    "vp9": Encoder(
        "libvpx-vp9", "vp9", "vp9", "webm", "crf", (63, 57, 50, 43, 36, 30),
        {"b": "0", "deadline": "realtime", "cpu-used": "5", "lag-in-frames": "0", "auto-alt-ref": "0"},
    ),
    # Offline, with look-ahead: an upper bound for conventional codecs.
    "h266": Encoder("libvvenc", "vvc", "vvc", "mp4", "qp", (55, 51, 45, 40, 35, 30), {"preset": "medium"}),
}  # fmt: skip


def rival_codecs(name: str) -> list["Rival"]:
    """Create the points of one of `ENCODERS`.

    Raises:
      MissingBackendError: this PyAV was built without its encoder or decoder.
    """
    encoder = ENCODERS[name]
    needed: tuple[tuple[str, Literal["r", "w"]], ...] = ((encoder.library, "w"), (encoder.decoder, "r"))
    for library, mode in needed:
        try:
            av.Codec(library, mode)
        except ValueError:
            raise MissingBackendError(f"{name} is left out: this PyAV was built without {library}.") from None
    return [Rival(name, str(point)) for point in encoder.points]


@dataclasses.dataclass(frozen=True)
class Rival:
    """One of FFmpeg's encoders at one quality; a `VideoCodec`."""

    name: str
    point: str

    @property
    def encoder(self) -> Encoder:
        return ENCODERS[self.name]

    @property
    def settings(self) -> Mapping[str, str]:
        """Options of the encoder and version of FFmpeg's codecs."""
        version = ".".join(map(str, av.library_versions["libavcodec"]))
        encoder = self.encoder
        quality = {encoder.quality: self.point}
        return {"encoder": encoder.library, "libavcodec": version, **encoder.options, **quality}

    def code(
        self, frames: UInt8[np.ndarray, "n h w 3"], fps: float, audio: Float[np.ndarray, " t"] | None = None
    ) -> Coded:
        """See `VideoCodec.code`. Kinds: `key` and `inter`, beside them `container` and `sound`.

        Raises:
          InputError: the encoder refuses frames of this size.
        """
        rate = Fraction(fps).limit_denominator(1001)
        with _refusals(self.name, frames):
            start = time.perf_counter()
            packets = self._encode(frames, rate)
            middle = time.perf_counter()
            decoded = self._decode([data for data, _ in packets], rate)
            end = time.perf_counter()
            if decoded.shape != frames.shape:
                raise InputError(f"{self.name} gave back {len(decoded)} frames of {len(frames)}; leave it out.")
            size = sum(len(data) for data, _ in packets)
            kinds = {"key": sum(len(data) for data, key in packets if key)}
            kinds["inter"] = size - kinds["key"]
            kinds["container"] = self._file_size(packets, rate, frames.shape[1:3]) - size
            if audio is not None:
                kinds["sound"] = opus_bytes(audio)
        return Coded(kinds, decoded, middle - start, end - middle)

    def _encode(self, frames: np.ndarray, rate: Fraction) -> list[tuple[bytes, bool]]:
        """Access units in coding order, and whether each is a key frame."""
        context: Any = av.CodecContext.create(self.encoder.library, "w")
        context.height, context.width = frames.shape[1:3]
        context.pix_fmt, context.framerate, context.time_base = "yuv420p", rate, 1 / rate
        context.color_range, context.colorspace = int(ColorRange.MPEG), int(Colorspace.ITU709)
        context.color_primaries, context.color_trc = int(ColorPrimaries.BT709), int(ColorTrc.BT709)
        context.thread_count, context.gop_size = 1, _ENDLESS
        context.options = {**self.encoder.options, self.encoder.quality: self.point}
        converter, packets = VideoReformatter(), []
        for index, frame in enumerate(frames):
            picture = to_yuv(frame, converter)
            picture.pts, picture.time_base = index, 1 / rate
            packets += context.encode(picture)
        packets += context.encode(None)
        return [(_without_sei(bytes(p), self.encoder.codec), bool(p.is_keyframe)) for p in packets]

    def _decode(self, stream: Sequence[bytes], rate: Fraction) -> np.ndarray:
        context: Any = av.CodecContext.create(self.encoder.decoder, "r")
        context.thread_count = 1
        converter, frames = VideoReformatter(), []
        for index, data in enumerate(stream):
            packet = av.Packet(data)
            packet.pts = packet.dts = index
            packet.time_base = 1 / rate
            frames += [to_rgb(picture, converter) for picture in context.decode(packet)]
        frames += [to_rgb(picture, converter) for picture in context.decode(None)]
        return np.stack(frames) if frames else np.zeros((0, 0, 0, 3), np.uint8)

    def _file_size(self, packets: Sequence[tuple[bytes, bool]], rate: Fraction, size: tuple[int, ...]) -> int:
        """Bytes of a file with the stream alone."""
        file = io.BytesIO()
        with av.open(file, "w", format=self.encoder.container) as container:
            stream = container.add_mux_stream(self.encoder.codec, rate=rate, width=size[1], height=size[0])
            for index, (data, key) in enumerate(packets):
                packet = av.Packet(data)
                packet.pts = packet.dts = index
                packet.time_base, packet.duration = 1 / rate, 1
                packet.is_keyframe, packet.stream = key, stream
                container.mux(packet)
        return len(file.getvalue())


def to_yuv(frame: UInt8[np.ndarray, "h w 3"], converter: Any) -> Any:
    """Convert a frame to the coded colours."""
    return converter.reformat(
        av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"),
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
        interpolation=SCALER,
    )


def to_rgb(picture: Any, converter: Any) -> UInt8[np.ndarray, "h w 3"]:
    """Convert a decoded picture to RGB, independently of the stream's colour description."""
    return converter.reformat(
        picture,
        format="rgb24",
        src_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=SCALER,
    ).to_ndarray()


def _without_sei(data: bytes, codec: str) -> bytes:
    """Remove supplemental information, where x264 identifies itself, from an access unit of H.264."""
    if codec != "h264":
        return data
    # Emulation prevention keeps start codes out of units (ITU-T H.264, 7.4.1).
    units = [unit for unit in re.split(rb"\x00?\x00\x00\x01", data) if unit]
    return b"".join(b"\x00\x00\x00\x01" + unit for unit in units if unit[0] & 31 != 6)


@contextlib.contextmanager
def _refusals(name: str, frames: np.ndarray) -> Iterator[None]:
    height, width = frames.shape[1:3]
    try:
        yield
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(
            f"{name} cannot code {len(frames)} frames of {width} x {height} pixels ({error}): choose another --size."
        ) from error


def opus_bytes(audio: Float[np.ndarray, " t"]) -> int:
    """Count the bytes of speech as Opus at 16 kbit/s, in packets of 20 ms.

    Args:
      audio: mono at 16 kHz, in [-1, 1].
    """
    context: Any = av.CodecContext.create("libopus", "w")
    context.sample_rate, context.layout, context.format = _SOUND_RATE, "mono", "flt"
    context.bit_rate, context.time_base = _SOUND_BITS, Fraction(1, _SOUND_RATE)
    context.options = {"application": "voip"}
    step, packets = _SOUND_RATE // 50, []
    for start in range(0, len(audio) - step + 1, step):
        block = np.ascontiguousarray(np.clip(audio[None, start : start + step], -1, 1), np.float32)
        frame = av.AudioFrame.from_ndarray(block, format="flt", layout="mono")
        frame.sample_rate, frame.pts = _SOUND_RATE, start
        packets += context.encode(frame)
    packets += context.encode(None)
    return sum(packet.size for packet in packets)


@dataclasses.dataclass(frozen=True)
class Copy:
    """Repeat the first frame at no cost, as the baseline of a still picture."""

    name: str = "copy"
    point: str = "first"
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def code(
        self, frames: UInt8[np.ndarray, "n h w 3"], fps: float, audio: Float[np.ndarray, " t"] | None = None
    ) -> Coded:
        """See `VideoCodec.code`; no byte is sent."""
        return Coded({}, np.repeat(frames[:1], len(frames), axis=0), 0.0, 0.0)


RIVALS = {name: functools.partial(rival_codecs, name) for name in ENCODERS}
