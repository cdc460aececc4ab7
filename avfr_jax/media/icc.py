"""Colours of pictures with an ICC profile, converted to sRGB (LittleCMS)."""

import io
import struct
from typing import Any

import numpy as np

from avfr_jax.media.primaries import rgb_to_xyz, white_of
from avfr_jax.typing import Float, UInt8

_D50 = np.array([0.9642, 1.0, 0.8249])
_PRIMARIES = {9: "bt2020", 11: "dci", 12: "p3"}  # by code point of ITU-T H.273, table 2
_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
_GREY = ("1", "L", "LA", "La")


def to_srgb(picture: Any, profile: bytes | None) -> Any:
    """A Pillow image of any 8-bit mode as one of mode RGB in sRGB; transparency is dropped.

    The intent is perceptual (relative colorimetric where the profile has one table), with black point compensation. A
    damaged profile, or one for another number of channels, is ignored; without one, colours stay as they are.
    """
    from PIL import ImageCms

    try:
        if picture.mode == "LAB":
            source, mode = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")), "LAB"
        elif profile is None:
            return picture.convert("RGB")
        else:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            mode = _MODES[source.profile.xcolor_space.strip()]
            if (mode == "L" and picture.mode not in _GREY) or (mode == "CMYK") != (picture.mode == "CMYK"):
                return picture.convert("RGB")
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.PERCEPTUAL,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        picture = picture if picture.mode == mode else picture.convert(mode)
        return picture if mode == "RGB" and _is_identity(transform) else transform.apply(picture)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, KeyError):
        return picture.convert("RGB")


def profile_of(primaries: int) -> bytes | None:
    """An ICC profile (ICC.1:2022) with the primaries of a code point of ITU-T H.273 and the transfer function of sRGB,
    with which displays of wide gamut are addressed; None for those of sRGB and others close to it."""
    if primaries not in _PRIMARIES:
        return None
    columns = _to_d50(_PRIMARIES[primaries]).T
    curve = b"para" + struct.pack(">IHH5i", 0, 3, 0, *_fixed([2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045]))
    tags = [(name + b"TRC", curve) for name in (b"r", b"g", b"b")]
    for name, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ", b"wtpt"), (*columns, _D50), strict=True):
        tags.append((name, b"XYZ " + struct.pack(">I3i", 0, *_fixed(xyz))))
    table, data = struct.pack(">I", len(tags)), b""
    for name, value in tags:
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(data), len(value))
        data += value
    header = struct.pack(
        ">I4sI4s4s4s12x4s28x3i48x", 132 + 12 * len(tags) + len(data), b"lcms", 0x04400000, b"mntr", b"RGB ", b"XYZ ",
        b"acsp", *_fixed(_D50),
    )  # fmt: skip
    return header + table + data


def _is_identity(transform: Any) -> bool:
    """Whether a transform of RGB moves no colour by more than rounding: the profile is sRGB's own."""
    from PIL import Image

    steps = np.linspace(0, 255, 9).astype(np.uint8)
    colours: UInt8[np.ndarray, "9 81 3"] = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(9, 81, 3)
    moved = np.asarray(transform.apply(Image.fromarray(colours)), np.int16)
    return bool(np.abs(moved - colours).max() <= 1)


def _to_d50(primaries: str) -> Float[np.ndarray, "3 3"]:
    """From linear RGB to CIE XYZ under D50, by the Bradford transform (ICC.1:2022, annex E)."""
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    gain = (bradford @ _D50) / (bradford @ white_of(primaries))
    return np.linalg.solve(bradford, gain[:, None] * bradford) @ rgb_to_xyz(primaries)


def _fixed(values: Any) -> list[int]:
    """Numbers in 16.16 fixed point."""
    return [round(65536 * float(value)) for value in values]
