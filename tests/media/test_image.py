"""Pictures of every kind in, PNG and JPEG out."""

import zlib

import numpy as np
import pytest
from PIL import Image

from avfr_jax.errors import InputError, OutputError
from avfr_jax.media import image
from avfr_jax.media.image import is_image, read_image, write_image

GRADIENT = np.dstack([np.tile(np.arange(0, 250, 10, dtype=np.uint8), (20, 1))] * 3)


@pytest.mark.parametrize("name", ["a.png", "b.jpg", "c.JPEG"])
def test_round_trip(tmp_path, name):
    write_image(tmp_path / name, GRADIENT)
    again = read_image(tmp_path / name)
    assert is_image(tmp_path / name)
    assert again.dtype == np.uint8
    assert np.abs(again.astype(int) - GRADIENT).max() <= (0 if name.endswith("png") else 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    upright = np.zeros((40, 60, 3), np.uint8)
    upright[:10, :15], upright[30:, :15] = 250, 120
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    stored = Image.fromarray(upright)
    if undo is not None:
        stored = stored.transpose(Image.Transpose(undo))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png"), upright)


BROKEN_EXIF = {
    "letters": lambda d, at: d[:at] + b"GARBAGEGARBAGE" + d[at + 14 :],
    "beyond the end": lambda d, at: d[: at + 4] + b"\xff" * 4 + d[at + 8 :],
    "entries": lambda d, at: d[: at + 8] + b"\xff" * 20 + d[at + 28 :],
}


@pytest.mark.parametrize("broken", BROKEN_EXIF)
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "crc.png", "a.webp", "a.avif"])
def test_broken_exif_is_ignored(tmp_path, name, broken):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "maker of the camera", 1 if name == "a.avif" else 6
    best = {"a.webp": {"lossless": True}, "a.avif": {"quality": 100}}.get(name, {})
    Image.fromarray(GRADIENT).save(tmp_path / name, exif=exif, **best)
    whole = (tmp_path / name).read_bytes()
    data = BROKEN_EXIF[broken](whole, whole.index(b"MM\x00*"))
    if name == "a.png":
        at = data.index(b"eXIf")
        end = at + 4 + int.from_bytes(data[at - 4 : at], "big")
        data = data[:end] + zlib.crc32(data[at:end]).to_bytes(4, "big") + data[end + 4 :]
    (tmp_path / name).write_bytes(data)
    assert is_image(tmp_path / name)
    assert np.abs(read_image(tmp_path / name).astype(int) - GRADIENT).max() <= (3 if name in ("a.jpg", "a.avif") else 0)


@pytest.mark.parametrize("orientation", [2, 4, 5, 6, 8])
def test_orientation_of_avif_is_that_of_its_boxes(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "maker of the camera", orientation
    Image.fromarray(GRADIENT).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(GRADIENT).save(tmp_path / "a.avif", exif=exif, quality=100)
    expected = read_image(tmp_path / "a.png").astype(int)
    data = (tmp_path / "a.avif").read_bytes()
    (tmp_path / "broken.avif").write_bytes(data.replace(b"MM\x00*", b"GONE"))
    for name in ("a.avif", "broken.avif"):
        assert np.abs(read_image(tmp_path / name) - expected).max() <= 3


def test_damaged_metadata_of_png_are_left_out_and_damaged_pixels_are_not(tmp_path):
    Image.fromarray(GRADIENT).save(tmp_path / "a.png", dpi=(72, 72))
    data = (tmp_path / "a.png").read_bytes()
    at = data.index(b"pHYs")
    (tmp_path / "a.png").write_bytes(data[: at + 5] + b"\xff" + data[at + 6 :])
    assert np.array_equal(read_image(tmp_path / "a.png"), GRADIENT)
    at = data.index(b"IHDR")
    (tmp_path / "a.png").write_bytes(data[: at + 6] + b"\xff" + data[at + 7 :])
    with pytest.raises(InputError, match=r"a\.png"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("tags", [{254: 1}, {50706: b"\1\4\0\0"}])
def test_the_preview_in_a_raw_file_is_not_taken_for_the_picture(tmp_path, tags):
    Image.fromarray(GRADIENT).save(tmp_path / "a.dng", "TIFF", tiffinfo=tags)
    with pytest.raises(InputError, match="raw file"):
        read_image(tmp_path / "a.dng")


def test_a_jpeg_of_several_pictures_is_its_first(tmp_path):
    first, second = (Image.fromarray(picture) for picture in (GRADIENT, 255 - GRADIENT))
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second], quality=95)
    assert is_image(tmp_path / "a.jpg")
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - GRADIENT).max() <= 4


def test_shared_case_of_broken_exif(shared_dir):
    assert read_image(shared_dir / "cases" / "exifbad.png").shape == (256, 256, 3)


def test_transparency_is_composited_on_white(tmp_path):
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:, 2:] = (10, 20, 30, 255)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    expected = np.full((4, 4, 3), 255, np.uint8)
    expected[:, 2:] = (10, 20, 30)
    assert np.array_equal(read_image(tmp_path / "a.png"), expected)
    palette = Image.fromarray(rgba).convert("P")
    palette.save(tmp_path / "b.png", transparency=palette.getpixel((0, 0)))
    assert np.array_equal(read_image(tmp_path / "b.png")[:, 0], expected[:, 0])


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "LA", "I;16", "I", "F"])
def test_other_modes(tmp_path, mode):
    if mode == "I;16":
        picture = Image.fromarray(GRADIENT[:, :, 0].astype(np.uint16) * 257)
    elif mode == "I":
        picture = Image.fromarray(GRADIENT[:, :, 0].astype(np.int32) * 257)
    elif mode == "F":
        picture = Image.fromarray(GRADIENT[:, :, 0].astype(np.float32) / 255)
    elif mode == "P":
        picture = Image.fromarray(GRADIENT).quantize(64)
    else:
        picture = Image.fromarray(GRADIENT).convert(mode)
    path = tmp_path / ("a.tif" if mode in ("CMYK", "F", "I") else "a.png")
    picture.save(path)
    result = read_image(path)
    assert result.shape == GRADIENT.shape
    if mode != "1":
        assert np.abs(result.astype(int) - GRADIENT).max() <= 3


def test_sizes_from_one_pixel_to_twelve_megapixels(tmp_path):
    for name, shape in (("one.png", (1, 1)), ("large.jpg", (3000, 4000))):
        write_image(tmp_path / name, np.full((*shape, 3), 77, np.uint8))
        assert read_image(tmp_path / name).shape == (*shape, 3)


def test_too_many_pixels(tmp_path, monkeypatch):
    write_image(tmp_path / "a.png", GRADIENT)
    monkeypatch.setattr(image, "MAX_PIXELS", 100)
    with pytest.raises(InputError, match="scale it down"):
        read_image(tmp_path / "a.png")


def test_bad_input(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    write_image(tmp_path / "cut.png", np.random.default_rng(0).integers(0, 255, (50, 50, 3), dtype=np.uint8))
    data = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    for name, sentence in (
        ("text.png", "not a picture"),
        ("empty.png", "empty"),
        ("cut.png", "damaged"),
        ("no.png", "exist"),
    ):
        with pytest.raises(InputError, match=sentence) as caught:
            read_image(tmp_path / name)
        assert name in str(caught.value)
    with pytest.raises(InputError, match="folder"):
        read_image(tmp_path)
    assert not is_image(tmp_path / "text.png")
    assert not is_image(tmp_path / "no.png")


def test_output_rules(tmp_path):
    write_image(tmp_path / "a.png", GRADIENT)
    with pytest.raises(OutputError, match="exists already"):
        write_image(tmp_path / "a.png", 255 - GRADIENT)
    assert np.array_equal(read_image(tmp_path / "a.png"), GRADIENT)
    write_image(tmp_path / "a.png", 255 - GRADIENT, overwrite=True)
    assert np.array_equal(read_image(tmp_path / "a.png"), 255 - GRADIENT)
    with pytest.raises(OutputError, match=r"\.png"):
        write_image(tmp_path / "a.bmp", GRADIENT)
    with pytest.raises(OutputError, match="not an existing folder"):
        write_image(tmp_path / "none" / "a.png", GRADIENT)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
