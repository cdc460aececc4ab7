"""Colour profiles: converted to sRGB, or ignored where they are damaged or do not fit."""

import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from avfr_jax.media.icc import profile_of
from avfr_jax.media.image import read_image
from tests.heif_writer import coded, nclx, write_heic

COLOURS = np.array([[200, 60, 90], [90, 160, 110], [128, 128, 128], [255, 255, 255], [230, 180, 150], [20, 30, 60]])
# From linear Display P3 to linear sRGB (CSS Color 4, 10.2 and 17, both with white D65).
P3_TO_SRGB = np.array([[1.2249402, -0.2249402, 0], [-0.0420570, 1.0420570, 0], [-0.0196376, -0.0786361, 1.0982735]])
PICTURE = np.repeat(np.repeat(COLOURS[None].astype(np.uint8), 16, 0), 16, 1)
# Columns of the matrix to XYZ under D50 of Apple's profile of that name.
DISPLAY_P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))


def _curve(gamma):
    """Type `curv` with one entry, an exponent."""
    return b"curv" + struct.pack(">IIH2x", 0, 1, round(256 * gamma))


def _xyz(values):
    return b"XYZ " + struct.pack(">I3i", 0, *(round(65536 * v) for v in values))


def _profile(space, tags):
    """A display profile of version 2."""
    white = (0.9642, 1.0, 0.8249)
    tags = [*tags, (b"wtpt", _xyz(white))]
    at, table, data = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, value in tags:
        table += name + struct.pack(">II", at + len(data), len(value))
        data += value
    header = (
        struct.pack(">I4sI4s4s4s", at + len(data), b"none", 0x02400000, b"mntr", space, b"XYZ ") + bytes(12) + b"acsp"
    )
    return header + bytes(28) + _xyz(white)[8:] + bytes(48) + table + data


def _rgb_profile(columns, gamma):
    tags = [(b"rgb"[i : i + 1] + b"XYZ", _xyz(columns[i])) for i in range(3)]
    return _profile(b"RGB ", tags + [(b"rgb"[i : i + 1] + b"TRC", _curve(gamma)) for i in range(3)])


def _encoded(linear):
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _decoded(values):
    values = values / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _patches(path):
    return read_image(path)[8, 8::16]


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "a.avif", "alpha.png", "palette.png"])
def test_display_p3_becomes_srgb(tmp_path, name):
    picture = Image.fromarray(PICTURE)
    how = {"a.jpg": {"quality": 100, "subsampling": 0}, "a.webp": {"lossless": True}, "a.avif": {"quality": 100}}
    if name == "alpha.png":
        picture.putalpha(255)
    elif name == "palette.png":
        picture = picture.quantize(16)
    picture.save(tmp_path / name, icc_profile=_rgb_profile(DISPLAY_P3, 2.2), **how.get(name, {}))
    expected = _encoded((COLOURS / 255) ** 2.2 @ P3_TO_SRGB.T)
    assert np.abs(_patches(tmp_path / name) - expected).max() <= (4 if name == "a.avif" else 2)
    assert np.abs(COLOURS - expected).max() > 15


def test_heic_with_a_profile_or_primaries_of_p3(tmp_path, making):
    stored = b"colr" + b"prof" + _rgb_profile(DISPLAY_P3, 2.2)
    for properties, linear in (
        ((struct.pack(">I", len(stored) + 4) + stored,), (COLOURS / 255) ** 2.2),
        ((nclx(12, 13, 6, False),), _decoded(COLOURS)),
    ):
        path = write_heic(tmp_path / "a.heic", [coded(making, tmp_path, PICTURE, properties=properties)], 1)
        assert np.abs(_patches(path) - _encoded(linear @ P3_TO_SRGB.T)).max() <= 4


def test_avif_with_primaries_of_p3(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "a.avif", quality=100)
    data = (tmp_path / "a.avif").read_bytes()
    at = data.index(b"nclx") + 4
    (tmp_path / "a.avif").write_bytes(data[:at] + b"\0\x0c" + data[at + 2 :])
    assert np.abs(_patches(tmp_path / "a.avif") - _encoded(_decoded(COLOURS) @ P3_TO_SRGB.T)).max() <= 4


def test_profiles_made_from_code_points(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "a.png", icc_profile=profile_of(12))
    expected = _encoded(_decoded(COLOURS) @ P3_TO_SRGB.T)
    assert np.abs(_patches(tmp_path / "a.png") - expected).max() <= 1
    assert profile_of(1) is profile_of(2) is None


@pytest.mark.parametrize("depth", [8, 16])
def test_grey_with_a_grey_profile(tmp_path, depth):
    grey = PICTURE[:, :, 0]
    picture = Image.fromarray(grey if depth == 8 else grey.astype(np.uint16) * 257)
    picture.save(tmp_path / "a.png", icc_profile=_profile(b"GRAY", [(b"kTRC", _curve(1.0))]))
    expected = _encoded(COLOURS[:, :1] / 255).repeat(3, 1)
    assert np.abs(_patches(tmp_path / "a.png") - expected).max() <= 2


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_cmyk_with_its_profile(tmp_path, name):
    """A profile, 16 corners of a table to CIE Lab, by which every ink is grey."""
    inks = np.array([[c, m, y, k] for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)])
    lightness = np.rint(255 * (1 - inks[:, :3].mean(1)) * (1 - inks[:, 3]))
    corners = np.stack([lightness, *[np.full(16, 128)] * 2], 1).astype(np.uint8).tobytes()
    identity = _xyz((1, 0, 0))[8:] + _xyz((0, 1, 0))[8:] + _xyz((0, 0, 1))[8:]
    table = (
        b"mft1"
        + struct.pack(">I4B", 0, 4, 3, 2, 0)
        + identity
        + bytes(range(256)) * 4
        + corners
        + bytes(range(256)) * 3
    )
    profile = bytearray(_profile(b"CMYK", [(b"A2B0", table)]))
    profile[12:16], profile[20:24] = b"prtr", b"Lab "
    inked = np.repeat(np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 255, 0], [0, 0, 0, 255]]], np.uint8), 16, 1)
    picture = Image.fromarray(inked.repeat(16, 0), "CMYK")
    picture.save(tmp_path / name, icc_profile=bytes(profile), **({"quality": 100} if name == "a.jpg" else {}))
    luminance = np.array([1, ((200 / 3 + 16) / 116) ** 3, ((100 / 3 + 16) / 116) ** 3, 0])
    assert np.abs(_patches(tmp_path / name) - _encoded(luminance)[:, None]).max() <= 3


def test_srgb_changes_nothing(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(noise).save(tmp_path / "a.png", icc_profile=profile)
    assert np.array_equal(read_image(tmp_path / "a.png"), noise)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_profiles_that_are_damaged_or_do_not_fit_are_ignored(tmp_path, mode):
    picture = Image.fromarray(PICTURE).convert(mode)
    picture.save(tmp_path / "plain.tif")
    fitting = _rgb_profile(DISPLAY_P3, 2.2)
    other = {"RGB": _profile(b"GRAY", [(b"kTRC", _curve(1.0))]), "L": b"x", "CMYK": fitting}[mode]
    for profile in (b"no profile", fitting[:200], fitting[:128] + b"\xff" * 100, other):
        picture.save(tmp_path / "a.tif", icc_profile=profile)
        assert np.array_equal(read_image(tmp_path / "a.tif"), read_image(tmp_path / "plain.tif"))


def test_lab_becomes_srgb(tmp_path):
    lab = ImageCms.profileToProfile(
        Image.fromarray(PICTURE), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    lab.save(tmp_path / "a.tif")
    assert np.abs(_patches(tmp_path / "a.tif") - COLOURS.astype(int)).max() <= 3
