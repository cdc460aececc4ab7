"""Intra-coded reference frames: one image by AV1 (SVT-AV1), HEVC (x265) or WebP."""

import io
import os
import struct
from fractions import Fraction
from typing import Any

import av
import av.error
import numpy as np

from avfr_jax.codec.bitstream import BitstreamError, Cursor, ReferenceCoding
from avfr_jax.errors import ConfigError, MissingBackendError
from avfr_jax.media.colour import SCALER
from avfr_jax.typing import UInt8

os.environ.setdefault("SVT_LOG", "1")  # errors alone

_ENCODERS = {ReferenceCoding.AV1: "libsvtav1", ReferenceCoding.HEVC: "libx265"}
_DECODERS = {ReferenceCoding.AV1: ("libdav1d", "av1"), ReferenceCoding.HEVC: ("hevc",)}
_AV1_FRAMES = (3, 6, 7)  # OBUs: frame header, frame, frame header again
_HEVC_SLICES = 32  # below it a unit is a slice of an image
_OPTIONS = {
    ReferenceCoding.AV1: {"preset": "4", "svtav1-params": "avif=1:lp=1"},
    ReferenceCoding.HEVC: {"preset": "slow", "x265-params": "log-level=none:keyint=1:repeat-headers=1:info=0:pools=1"},
}


def encode_image(
    image: UInt8[np.ndarray, "h w 3"], coding: ReferenceCoding = ReferenceCoding.AV1, quality: int = 70
) -> bytes:
    """Encode an RGB image of even sides; `ReferenceCoding.NONE` gives no bytes.

    Args:
      image: the image.
      coding: an intra coding.
      quality: 0 (least) to 100.

    Raises:
      ConfigError: a quality outside 0 to 100, or odd sides.
      MissingBackendError: this build of FFmpeg has no such coder.
    """
    height, width = image.shape[:2]
    crf = crf_of(coding, quality)
    _require_even(width, height)
    if coding is ReferenceCoding.NONE:
        return b""
    if coding is ReferenceCoding.WEBP:
        from PIL import Image

        out = io.BytesIO()
        Image.fromarray(image).save(out, "webp", quality=quality, method=6)
        return out.getvalue()
    context = open_encoder(coding, width, height, {**_OPTIONS[coding], "crf": crf})
    frame = to_video(image)
    frame.pts = 0
    return b"".join(bytes(p) for f in (frame, None) for p in context.encode(f))


def crf_of(coding: ReferenceCoding, quality: int) -> str:
    """A coder's CRF for a quality. Raises ConfigError for one outside 0 to 100."""
    if not 0 <= quality <= 100:
        raise ConfigError(f"the quality of pivots must be 0 to 100, not {quality}")
    coarsest = 63 if coding is ReferenceCoding.AV1 else 51
    return str(max(1, round(coarsest * (1 - quality / 100))))  # 0 is SVT's default


def _require_even(width: int, height: int) -> None:
    if width % 2 or height % 2:
        raise ConfigError(f"pivots need even sides, not {width} × {height}")


def open_encoder(coding: ReferenceCoding, width: int, height: int, options: dict[str, str]) -> Any:
    """Open an encoder of FFmpeg for 4:2:0, one thread.

    Raises:
      ConfigError: odd sides.
      MissingBackendError: this build has none.
    """
    _require_even(width, height)
    try:
        context: Any = av.CodecContext.create(_ENCODERS[coding], "w")
    except ValueError as error:
        raise MissingBackendError(f"this build of PyAV has no {_ENCODERS[coding]}; choose webp for pivots") from error
    context.width, context.height = width, height
    context.pix_fmt, context.framerate, context.time_base = "yuv420p", 25, Fraction(1, 25)
    context.thread_count = 1
    context.options = options
    return context


def open_decoder(coding: ReferenceCoding, size: int) -> Any:
    """Open a single-threaded decoder for images of a size. Raises MissingBackendError where this build has none."""
    for name in _DECODERS[coding]:
        try:
            context: Any = av.CodecContext.create(name, "r")
        except ValueError:
            continue
        context.thread_count = 1
        context.options = {"max_pixels": str((size + 64) ** 2)}
        return context
    raise MissingBackendError(f"this build of PyAV cannot decode {coding.name}")


def to_video(image: UInt8[np.ndarray, "h w 3"]) -> Any:
    """Convert RGB for an encoder: 4:2:0, BT.709, limited range."""
    return av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
        format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG", interpolation=SCALER
    )


def from_video(frame: Any) -> UInt8[np.ndarray, "h w 3"]:
    """Convert a decoder's frame to RGB."""
    image: np.ndarray = frame.reformat(
        format="rgb24", src_colorspace="ITU709", src_color_range="MPEG", dst_color_range="JPEG", interpolation=SCALER
    ).to_ndarray()
    return image


def decode_image(data: bytes, coding: int, size: int) -> UInt8[np.ndarray, "s s 3"]:
    """Decode a square RGB image.

    Raises:
      BitstreamError: they hold none of that size, or more than one.
    """
    if coding not in (ReferenceCoding.WEBP, *_DECODERS):
        raise BitstreamError(f"there is no image coding {coding}")
    try:
        webp = coding == ReferenceCoding.WEBP
        image: np.ndarray | None = (
            _decode_webp(data, size) if webp else _decode_video(data, ReferenceCoding(coding), size)
        )
    except (av.error.FFmpegError, OSError, ValueError, SyntaxError, EOFError) as error:
        raise BitstreamError(f"a pivot's image cannot be decoded ({error})") from error
    if image is None or image.shape != (size, size, 3):
        raise BitstreamError(f"a pivot's image is not of the stated {size} × {size} pixels")
    return image


def _decode_webp(data: bytes, size: int) -> Any:
    from PIL import Image

    # One lossy image alone: opening an animation allocates its whole canvas first.
    if data[:4] != b"RIFF" or data[8:16] != b"WEBPVP8 " or len(data) < 30:
        raise BitstreamError("a pivot's image is not a lossy WebP")
    if [side & 0x3FFF for side in struct.unpack("<HH", data[26:30])] != [size, size]:
        return None
    with Image.open(io.BytesIO(data), formats=["WEBP"]) as opened:
        return np.ascontiguousarray(opened.convert("RGB"))


def _decode_video(data: bytes, coding: ReferenceCoding, size: int) -> Any:
    if (count_av1(data) if coding is ReferenceCoding.AV1 else _count_hevc(data)) != 1:
        raise BitstreamError("a pivot does not hold one image")  # a decoder returns all of them at once
    context = open_decoder(coding, size)
    for packet in (av.Packet(data), None):
        for frame in context.decode(packet):
            return from_video(frame) if (frame.width, frame.height) == (size, size) else None
    return None


def count_av1(data: bytes) -> int:
    """Count coded and repeated frames; every OBU has to state its size."""
    cursor, count = Cursor(data), 0
    while cursor.at < len(data):
        first = cursor.byte()
        if first & 0x80 or not first & 2:
            raise BitstreamError("a pivot's image is not AV1 as it is stored")
        if first & 4:
            cursor.take(1)
        cursor.take(cursor.number())
        count += (first >> 3) & 15 in _AV1_FRAMES
    return count


def _count_hevc(data: bytes) -> int:
    """Count images by their first slices."""
    count = 0
    for unit in data.split(b"\0\0\1")[1:]:
        count += len(unit) > 2 and (unit[0] >> 1) & 63 < _HEVC_SLICES and unit[2] >= 128
    return count
