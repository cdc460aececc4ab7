"""HEIC pictures (HEIF items coded with HEVC), whole or of tiles, decoded with PyAV."""

import dataclasses
import pathlib
import struct
from typing import Any

import numpy as np

from avfr_jax.errors import InputError
from avfr_jax.media.heif import Heif, HeifError, Item
from avfr_jax.media.icc import profile_of
from avfr_jax.media.primaries import HDR_TRANSFERS
from avfr_jax.typing import UInt8

_ALPHA = (b"urn:mpeg:hevc:2015:auxid:1", b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha")
_CODINGS = {
    b"av01": "AV1",
    b"avc1": "H.264",
    b"jpeg": "JPEG",
    b"vvc1": "VVC",
    b"unci": "uncompressed",
    b"j2k1": "JPEG 2000",
}
_MATRICES = (1, 4, 5, 6, 7, 9)  # matrix coefficients of H.273 that FFmpeg's scaler knows
_MOST_TILES = 4096
_DEEPEST = 3  # an image derived from a grid of tiles


class _Unsupported(Exception):
    """What the picture is made of."""


@dataclasses.dataclass(frozen=True)
class Coding:
    """Code points of colour (ITU-T H.273) that the file states, which come before those of the HEVC stream."""

    primaries: int
    transfer: int
    matrix: int
    full_range: bool


def read_heic(path: pathlib.Path, most_pixels: int) -> Any:
    """The primary image as a Pillow image, upright, RGB, or RGBA with an alpha plane; `info["icc_profile"]` as stored
    or by the stated primaries.

    Cropping, rotation and mirroring are those of the HEIF structure (`clap`, `irot`, `imir`); its EXIF orientation
    repeats them and is not applied (ISO/IEC 23008-12, 6.5 and A.2). Ten-bit samples become 8-bit, PQ and HLG
    are tone-mapped.

    Raises:
        InputError: damaged, more than `most_pixels`, or derived or coded in a way that is not decoded.
    """
    from PIL import Image

    try:
        with open(path, "rb") as stream:
            decoder = _Decoder(Heif(stream), most_pixels)
            picture = Image.fromarray(decoder.image(decoder.heif.primary))
            alpha = decoder.alpha()
        if alpha is not None and alpha.shape == (picture.height, picture.width):
            picture.putalpha(Image.fromarray(alpha))
        if decoder.profile is not None:
            picture.info["icc_profile"] = decoder.profile
        return picture
    except _Unsupported as what:
        raise InputError(
            f"{path} is a HEIF picture {what}, which cannot be read here: convert it to JPEG or PNG."
        ) from what
    except (HeifError, struct.error, IndexError) as error:
        raise InputError(f"{path} is damaged ({error}): give an intact HEIC file, or convert it to JPEG.") from error


def stated_profile(path: pathlib.Path) -> bytes | None:
    """The ICC profile of a HEIF picture, AVIF included, stored or by its primaries; None where it states neither."""
    try:
        with open(path, "rb") as stream:
            return _Decoder(Heif(stream), 0).profile
    except (HeifError, OSError, struct.error, IndexError):
        return None


class _Decoder:
    """Decodes the items of one file."""

    def __init__(self, heif: Heif, most_pixels: int) -> None:
        self.heif = heif
        self._left = self._most_pixels = most_pixels
        self._decoded = 0

    @property
    def profile(self) -> bytes | None:
        """The ICC profile of the primary image or of its first tile, stored or by its primaries."""
        for payload in self._colours(self.heif.primary):
            if payload[:4] in (b"prof", b"rICC"):
                return payload[4:]
        coding = self._coding(self.heif.primary)
        return None if coding is None or coding.transfer in HDR_TRANSFERS else profile_of(coding.primaries)

    def alpha(self) -> UInt8[np.ndarray, "h w"] | None:
        """The alpha plane of the primary image."""
        for number, item in self.heif.items.items():
            kind = item.property(b"auxC")
            if self.heif.primary in item.references.get(b"auxl", []) and kind and kind[4:].startswith(_ALPHA):
                return np.ascontiguousarray(self.image(number)[:, :, 1])
        return None

    def image(self, number: int, depth: int = 0) -> UInt8[np.ndarray, "h w 3"]:
        """An item's pixels after its transformations."""
        item = self.heif.items.get(number)
        if item is None or depth > _DEEPEST:
            raise HeifError("its items refer to each other wrongly")
        parts = item.references.get(b"dimg", [])
        if item.kind == b"hvc1":
            pixels = self._decode(number, item)
        elif item.kind == b"grid":
            pixels = self._grid(item, parts, depth)
        elif item.kind == b"iden" and len(parts) == 1:
            pixels = self.image(parts[0], depth + 1)
        elif item.kind == b"iovl":
            raise _Unsupported("of several overlaid ones (iovl)")
        else:
            raise _Unsupported(f"coded as {_CODINGS.get(item.kind, item.kind.decode('ascii', 'replace'))}")
        return _transform(pixels, item)

    def _grid(self, item: Item, parts: list[int], depth: int) -> UInt8[np.ndarray, "h w 3"]:
        """Tiles in rows, cut to the stated size (ISO/IEC 23008-12, 6.6.2.3)."""
        data = self.heif.data(item)
        rows, columns = data[2] + 1, data[3] + 1
        width, height = struct.unpack_from(">II" if data[1] & 1 else ">HH", data, 4)
        self._check_size(width, height)
        if len(parts) != rows * columns or rows * columns > _MOST_TILES:
            raise HeifError(f"it has {len(parts)} tiles instead of {rows}×{columns}")
        first = self.image(parts[0], depth + 1)
        tile_height, tile_width = first.shape[:2]
        if not (0 < width <= tile_width * columns and 0 < height <= tile_height * rows):
            raise HeifError("its tiles do not cover it")
        whole = np.empty((height, width, 3), np.uint8)
        for index, part in enumerate(parts):
            top, left = index // columns * tile_height, index % columns * tile_width
            tile = self.image(part, depth + 1) if index else first
            if tile.shape != first.shape:
                raise HeifError("its tiles differ in size")
            room = whole[top : top + tile_height, left : left + tile_width]
            room[:] = tile[: room.shape[0], : room.shape[1]]
        return whole

    def _decode(self, number: int, item: Item) -> UInt8[np.ndarray, "h w 3"]:
        """The picture coded with HEVC, cut to the stated size."""
        import av
        import av.error

        config, size = item.property(b"hvcC"), item.property(b"ispe")
        if config is None or size is None:
            raise HeifError("an image lacks its decoder configuration or size")
        width, height = struct.unpack_from(">II", size, 4)
        self._check_size(width, height)
        self._left -= width * height
        self._decoded += 1
        # Tiles may overlap the picture's right and lower border.
        if self._left < -self._most_pixels or self._decoded > _MOST_TILES + 2:
            raise HeifError("its tiles are far more than cover it")
        context = av.CodecContext.create("hevc", "r")
        context.extradata = config
        context.options = {"max_pixels": str((width + 64) * (height + 64))}
        context.thread_count = 1
        try:
            frames = [*context.decode(av.Packet(self.heif.data(item))), *context.decode(None)]
        except (av.error.FFmpegError, ValueError) as error:
            raise HeifError("an image in it cannot be decoded") from error
        if not frames or frames[0].width < width or frames[0].height < height:
            raise HeifError("an image in it cannot be decoded")
        return _to_rgb(frames[0], self._coding(number))[:height, :width]

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._most_pixels or not width * height:
            raise HeifError(f"it claims {width}×{height} pixels; {self._most_pixels // 1_000_000} million are read")

    def _colours(self, number: int) -> list[bytes]:
        """The properties `colr` of an item and of its first part."""
        item = self.heif.items[number]
        parts = [self.heif.items[part] for part in item.references.get(b"dimg", [])[:1] if part in self.heif.items]
        return [payload for one in (item, *parts) for kind, payload in one.properties if kind == b"colr"]

    def _coding(self, number: int) -> Coding | None:
        """Code points that the file states for an item or for the whole picture."""
        for payload in (*self._colours(number), *self._colours(self.heif.primary)):
            if payload[:4] == b"nclx" and len(payload) >= 11:
                primaries, transfer, matrix = struct.unpack_from(">HHH", payload, 4)
                return Coding(primaries, transfer, matrix, bool(payload[10] & 128))
        return None


def _to_rgb(frame: Any, coding: Coding | None) -> UInt8[np.ndarray, "h w 3"]:
    """Eight-bit RGB, HDR tone-mapped; unstated, the matrix is BT.601 (ISO/IEC 23000-22, 7.3.6.4)."""
    from avfr_jax.media.colour import SCALER, Colour, RgbConverter

    colour = Colour()
    if coding is not None:
        frame.colorspace, frame.color_range = coding.matrix, 2 if coding.full_range else 1  # AVCOL_RANGE_JPEG, _MPEG
        if coding.transfer in HDR_TRANSFERS:
            colour = Colour(HDR_TRANSFERS[coding.transfer], "bt2020" if coding.primaries in (2, 9) else "p3")
    if frame.colorspace not in _MATRICES:
        frame.colorspace = 6
    return RgbConverter(colour, frame.width, frame.height, SCALER)(frame)


def _transform(pixels: UInt8[np.ndarray, "h w 3"], item: Item) -> UInt8[np.ndarray, "H W 3"]:
    """Cropping, rotation and mirroring, in the order in which the file states them."""
    for kind, payload in item.properties:
        if kind == b"clap":
            pixels = _crop(pixels, payload)
        elif kind == b"irot":
            pixels = np.rot90(pixels, payload[0] & 3)
        elif kind == b"imir":
            pixels = pixels[:, ::-1] if payload[0] & 1 else pixels[::-1]
    return np.ascontiguousarray(pixels)


def _crop(pixels: UInt8[np.ndarray, "h w 3"], payload: bytes) -> UInt8[np.ndarray, "H W 3"]:
    """The clean aperture (ISO/IEC 14496-12, 12.1.4): size and centre's offset as fractions."""
    numbers = struct.unpack(">IIIIiIiI", payload[:32])
    if not all(numbers[1::2]):
        raise HeifError("its clean aperture divides by zero")
    width, height, x, y = (above / below for above, below in zip(numbers[::2], numbers[1::2], strict=True))
    left, top = (pixels.shape[1] - width) / 2 + x, (pixels.shape[0] - height) / 2 + y
    if min(left, top) < 0 or min(width, height) < 1 or left + width > pixels.shape[1] or top + height > pixels.shape[0]:
        raise HeifError("its clean aperture lies outside of it")
    left, top = round(left), round(top)
    return pixels[top : top + round(height), left : left + round(width)]
