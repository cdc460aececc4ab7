"""Pictures in and out (Pillow)."""

import contextlib
import io
import os
import pathlib
import struct
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from avfr_jax.errors import InputError, OutputError
from avfr_jax.media.files import PathLike, atomic_file, check_input, check_output
from avfr_jax.media.heic import read_heic, stated_profile
from avfr_jax.media.heif import is_heic
from avfr_jax.media.icc import to_srgb
from avfr_jax.media.metadata import without_metadata
from avfr_jax.typing import UInt8

DAMAGE = (OSError, SyntaxError, ValueError, EOFError, LookupError, struct.error)
"""Pillow's errors for damaged files."""
ANIMATED = ("GIF", "PNG", "WEBP", "AVIF")
SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_PIXELS = 256_000_000
"""Larger pictures (768 MB as RGB) are refused before they are decoded."""


def read_image(path: PathLike) -> UInt8[np.ndarray, "h w 3"]:
    """A picture as uint8 RGB [H, W, 3], upright.

    EXIF orientation is applied, transparency composited on white, 16-bit and floating-point grey scaled to 8 bits.
    Palettes, grey and CMYK become RGB, colours those of sRGB where the file has a colour profile. Damaged metadata and
    profiles are ignored. Of an animated file the first frame is taken. Formats are those of Pillow and HEIC.

    Raises:
        InputError: no such file, not a picture, a damaged one, or one of more than `MAX_PIXELS`.
    """
    with open_picture(check_input(path)) as opened:
        return frame_of(opened)


@contextlib.contextmanager
def open_picture(found: pathlib.Path) -> Iterator[Any]:
    """A file opened by Pillow, or a decoded HEIC picture as a Pillow image. Pillow's errors inside the context become
    those of `read_image`."""
    from PIL import Image, UnidentifiedImageError

    if is_heic(found):
        yield read_heic(found, MAX_PIXELS)
        return
    try:
        # Pillow's own warning about size starts at 89 megapixels.
        with warnings.catch_warnings(action="ignore"), _open(found) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise InputError(
                    f"{found} has {opened.width}×{opened.height} pixels, more than the "
                    f"{MAX_PIXELS // 1_000_000} million that are read: scale it down."
                )
            if _is_preview(opened):
                raise InputError(f"{found} is a camera's raw file, which is not read: export it as JPEG or PNG.")
            if opened.format == "AVIF" and "icc_profile" not in opened.info:
                opened.info["icc_profile"] = stated_profile(found)
            yield opened
    except UnidentifiedImageError as error:
        raise InputError(f"{found} is not a picture that can be read: give a PNG or JPEG file.") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{found} has too many pixels to be read: scale it down.") from error
    except DAMAGE as error:
        raise InputError(f"{found} is damaged ({error}): give an intact PNG or JPEG file.") from error


def frame_of(opened: Any) -> UInt8[np.ndarray, "h w 3"]:
    """The current frame of a picture opened by Pillow, as `read_image` gives it."""
    opened.load()
    return np.ascontiguousarray(_to_rgb(_upright(opened)))


def write_image(path: PathLike, frame: UInt8[np.ndarray, "h w 3"], overwrite: bool = False) -> None:
    """Write uint8 RGB [H,W,3] as PNG, or as JPEG of quality 95 without chroma subsampling, by the file's ending.

    Raises:
        OutputError: another ending, an existing file without `overwrite`, or a place that cannot be written.
    """
    from PIL import Image

    target = check_output(path, overwrite, SUFFIXES)
    if target.suffix.lower() != ".png" and max(frame.shape[:2]) > 65_500:
        raise OutputError(f"{target} cannot hold a side of more than 65500 pixels: use the ending .png.")
    with atomic_file(target, overwrite) as scratch:
        if target.suffix.lower() == ".png":
            Image.fromarray(frame).save(scratch, format="PNG", compress_level=4)
        else:
            Image.fromarray(frame).save(scratch, format="JPEG", quality=95, subsampling=0)


def is_picture(path: PathLike) -> bool:
    """Whether a file is a picture by its content, still or animated. False for what is no file."""
    return is_heic(path) or _is_animated(path) is not None


def is_image(path: PathLike) -> bool:
    """Whether a file is a still picture by its content. False for what is no file."""
    return is_heic(path) or _is_animated(path) is False


def is_animation(path: PathLike) -> bool:
    """Whether a file is an animated GIF, PNG, WebP or AVIF by its content. False for what is no file."""
    return not is_heic(path) and _is_animated(path) is True


def _is_animated(path: PathLike) -> bool | None:
    """None for what Pillow cannot open. Several pages, or sizes, are no animation."""
    from PIL import Image

    if not os.path.isfile(path):  # a pipe would block
        return None
    try:
        with warnings.catch_warnings(action="ignore"), _open(path) as opened:
            return opened.format in ANIMATED and bool(getattr(opened, "is_animated", False))
    except (*DAMAGE, Image.DecompressionBombError):
        return None


def _open(path: PathLike) -> Any:
    """The file opened by Pillow; without its metadata where they are what cannot be read."""
    from PIL import Image

    try:
        return Image.open(path)
    except DAMAGE:
        bare = without_metadata(path)
        if bare is None:
            raise
        return Image.open(io.BytesIO(bare))


def _is_preview(opened: Any) -> bool:
    """Whether a TIFF file is a raw one or begins with a reduced picture, as raw files do (TIFF 6.0, NewSubfileType;
    DNG 1.7, DNGVersion)."""
    if opened.format != "TIFF":
        return False
    reduced, version = 254, 50706
    kind = opened.tag_v2.get(reduced, 0)
    return version in opened.tag_v2 or (isinstance(kind, int) and bool(kind & 1))


def _upright(picture: Any) -> Any:
    """The loaded picture turned and mirrored as its EXIF orientation says; damaged EXIF data say nothing."""
    from PIL import ExifTags, Image

    method = Image.Transpose
    turns = {
        2: method.FLIP_LEFT_RIGHT,
        3: method.ROTATE_180,
        4: method.FLIP_TOP_BOTTOM,
        5: method.TRANSPOSE,
        6: method.ROTATE_270,
        7: method.TRANSVERSE,
        8: method.ROTATE_90,
    }
    try:
        turn = turns.get(picture.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # of many types, according to where the data are damaged
        return picture
    return picture if turn is None else picture.transpose(turn)


def _to_rgb(picture: Any) -> UInt8[np.ndarray, "h w 3"]:
    """Any Pillow mode to sRGB; 16-bit and float grey scaled by their range rather than clipped."""
    from PIL import Image

    profile = picture.info.get("icc_profile")
    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        picture = Image.fromarray(_grey_to_8_bits(np.asarray(picture), picture.mode))
    if not picture.has_transparency_data:
        return np.asarray(to_srgb(picture, profile))
    alpha = picture.convert("RGBA").getchannel("A")
    opaque = picture.convert("L" if picture.mode in ("LA", "La") else "RGBA")
    white = Image.new("RGB", picture.size, (255, 255, 255))
    return np.asarray(Image.composite(to_srgb(opaque, profile), white, alpha))


def _grey_to_8_bits(values: np.ndarray, mode: str) -> UInt8[np.ndarray, "h w"]:
    """Integers are taken as 16-bit if any exceeds 255; floats as [0,1] unless they exceed 1, then as [0,255]."""
    largest = float(values.max(initial=0))
    if mode == "F":
        scale = 255.0 if largest <= 1.0 else 1.0
    else:
        scale = 255.0 / 65535.0 if mode.startswith("I;16") or largest > 255 else 1.0
    return np.clip(np.rint(np.nan_to_num(values.astype(np.float64)) * scale), 0, 255).astype(np.uint8)
