"""HEIC pictures: tiles, orientation, colour, alpha, damage."""

import struct

import numpy as np
import pytest
from PIL import Image

from avfr_jax.errors import InputError
from avfr_jax.media import heic, image
from avfr_jax.media.colour import Colour, to_bt709
from avfr_jax.media.image import is_image, read_image
from avfr_jax.media.video import is_video
from tests.heif_writer import Made, box, coded, full, grid, nclx, size, write_heic

# No two places are alike, so that a tile out of place or turned is wrong everywhere.
Y, X = np.mgrid[:128, :192]
PICTURE = np.stack([40 + X, 40 + 3 * Y / 2, 230 - X / 2 - Y / 2], -1).astype(np.uint8)


@pytest.fixture(scope="module")
def tiles(making, tmp_path_factory):
    """Two rows of three tiles of 64 × 64."""
    folder = tmp_path_factory.mktemp("tiles")
    return [coded(making, folder, PICTURE[y : y + 64, x : x + 64]) for y in (0, 64) for x in (0, 64, 128)]


@pytest.fixture
def made(tmp_path):
    """Write a file of items, the last of which is the picture."""
    return lambda items, **how: write_heic(tmp_path / "a.heic", items, len(items), **how)


def _error(path, expected):
    return np.abs(read_image(path).astype(int) - expected).max()


def test_tiles_are_joined_and_cut_to_the_picture(made, tiles):
    path = made([*tiles, grid(2, 3, 180, 110, [1, 2, 3, 4, 5, 6])])
    assert is_image(path)
    assert not is_video(path)
    assert _error(path, PICTURE[:110, :180]) <= 4


@pytest.mark.parametrize("brand", [b"heix", b"mif1"])
def test_pixel_formats(made, making, tmp_path, brand):
    for pixel_format in ("yuv420p10le", "yuv422p10le", "yuv420p"):
        assert _error(made([coded(making, tmp_path, PICTURE, pixel_format)], brand=brand), PICTURE) <= 6
    gray = np.repeat(PICTURE[:, :, :1], 3, 2)
    assert _error(made([coded(making, tmp_path, gray, "gray")], brand=brand), gray) <= 4


def test_crop_rotation_and_mirroring_in_the_stated_order(made, tiles):
    turn, mirror = box(b"irot", b"\1"), box(b"imir", b"\1")
    tile = PICTURE[:64, :64]
    # 40 × 30 whose centre lies 5 to the right and 4 above the picture's.
    clap = box(b"clap", struct.pack(">IIIIiIiI", 40, 1, 60, 2, 10, 2, -4, 1))
    cut = tile[13:43, 17:57]
    for properties, expected in (
        ([turn], np.rot90(tile)),
        ([box(b"imir", b"\0")], tile[::-1]),
        ([turn, mirror], np.rot90(tile)[:, ::-1]),
        ([mirror, turn], np.rot90(tile[:, ::-1])),
        ([clap, turn], np.rot90(cut)),
    ):
        item = Made(b"hvc1", tiles[0].data, [*tiles[0].properties, *properties])
        assert _error(made([item]), expected) <= 4
    derived = Made(b"iden", b"", [size(64, 64), turn], [(b"dimg", [1])])
    assert _error(made([tiles[0], derived]), np.rot90(tile)) <= 4
    assert _error(made([*tiles, grid(2, 3, 192, 128, [1, 2, 3, 4, 5, 6], turn)]), np.rot90(PICTURE)) <= 4


def test_stated_matrix_and_range_come_before_those_of_the_stream(made, making, tmp_path):
    """A stream that says nothing, BT.601 in limited range by default."""
    colour = np.broadcast_to(np.array([200, 60, 90], np.uint8), (64, 64, 3))
    luma = 16 + 219 / 255 * (0.299 * 200 + 0.587 * 60 + 0.114 * 90)
    cb, cr = (224 / 255 * (90 - (luma - 16) * 255 / 219) / 1.772, 224 / 255 * (200 - (luma - 16) * 255 / 219) / 1.402)
    for matrix, red, green, blue in (
        (6, 1.402, (0.344136, 0.714136), 1.772),
        (1, 1.5748, (0.187324, 0.468124), 1.8556),
    ):
        item = coded(making, tmp_path, colour, properties=(nclx(1, 13, matrix, True),))
        expected = [luma + red * cr, luma - green[0] * cb - green[1] * cr, luma + blue * cb]
        assert _error(made([item]), np.array(expected)) <= 3


def test_hdr_is_tone_mapped(made, making, tmp_path):
    colour = np.broadcast_to(np.array([110, 90, 80], np.uint8), (64, 64, 3))
    item = coded(making, tmp_path, colour, "yuv444p10le", (nclx(9, 16, 6, False),))
    expected = 255 * to_bt709(colour[0, 0] / 255, Colour("pq", "bt2020"))
    assert np.abs(expected - colour[0, 0]).max() > 10
    assert _error(made([item]), expected) <= 3


def test_an_alpha_plane_is_composited_on_white(made, making, tmp_path, tiles):
    alpha = np.zeros((64, 64, 3), np.uint8)
    alpha[:, 32:] = 255
    kind = full(b"auxC", b"urn:mpeg:hevc:2015:auxid:1\0")
    plane = coded(making, tmp_path, alpha, "gray", properties=(kind, nclx(2, 2, 2, False)))
    plane.references.append((b"auxl", [2]))
    result = read_image(made([plane, tiles[0]]))
    assert result[:, :28].min() >= 250
    assert np.abs(result[:, 36:].astype(int) - PICTURE[:64, 36:64]).max() <= 6


@pytest.mark.parametrize(
    ("kind", "name"), [(b"iovl", "overlaid"), (b"av01", "AV1"), (b"jpeg", "JPEG"), (b"abcd", "abcd")]
)
def test_what_is_not_decoded_is_refused_by_name(made, tiles, kind, name):
    other = Made(kind, b"data", [size(64, 64)], [(b"dimg", [1])])
    with pytest.raises(InputError, match=rf"{name}.*convert it to JPEG or PNG"):
        read_image(made([tiles[0], other]))


def test_claims_are_checked_before_memory_is_taken(made, tiles, monkeypatch):
    whole = grid(2, 3, 192, 128, [1, 2, 3, 4, 5, 6])
    for item, sentence in (
        (grid(1, 1, 65535, 65535, [1]), "65535×65535"),
        (grid(1, 1, 0, 64, [1]), "0×64"),
        (grid(1, 1, 65, 64, [1]), "cover"),
        (grid(200, 200, 64, 64, [1] * 40000), "tiles"),
        (grid(2, 2, 128, 128, [1, 2, 3]), "3 tiles"),
        (grid(1, 1, 64, 64, [2]), "refer"),
        (grid(1, 1, 64, 64, [9]), "refer"),
        (Made(b"hvc1", tiles[0].data, tiles[0].properties[:1]), "size"),
        (Made(b"hvc1", tiles[0].data, [tiles[0].properties[0], size(65, 64)]), "decoded"),
        (Made(b"hvc1", b"\0\0\0\4data", tiles[0].properties), "decoded"),
    ):
        with pytest.raises(InputError, match=sentence) as caught:
            read_image(made([tiles[0], item] if item.kind == b"grid" else [item]))
        assert len(str(caught.value)) < 300
    monkeypatch.setattr(heic, "_MOST_TILES", 3)
    row = grid(1, 3, 192, 64, [1, 1, 1])
    with pytest.raises(InputError, match="far more"):
        read_image(made([tiles[0], row, grid(3, 1, 192, 192, [2, 2, 2])]))
    monkeypatch.undo()
    monkeypatch.setattr(image, "MAX_PIXELS", 20_000)
    with pytest.raises(InputError, match="192×128"):
        read_image(made([*tiles, whole]))


def test_a_stream_larger_than_stated_is_not_decoded(made, making, tmp_path):
    large = coded(making, tmp_path, np.zeros((256, 256, 3), np.uint8))
    with pytest.raises(InputError, match="decoded"):
        read_image(made([Made(b"hvc1", large.data, [large.properties[0], size(64, 64)])]))


def test_damage_ends_in_a_sentence(made, tiles):
    path = made([*tiles[:2], grid(1, 2, 128, 64, [1, 2])])
    data = path.read_bytes()
    meta = data.index(b"meta")
    generator = np.random.default_rng(0)
    refusals = []
    for _ in range(100):
        broken = bytearray(data)
        if generator.random() < 0.2:
            broken = broken[: generator.integers(30, len(data))]
        else:
            for at in generator.integers(meta + 4, data.index(b"mdat"), 3):
                broken[at] = generator.integers(256)
        path.write_bytes(bytes(broken))
        try:
            read_image(path)
        except InputError as error:
            refusals.append(str(error).replace(str(path), "a.heic"))
    assert len(refusals) > 20
    assert all("a.heic" in sentence and len(sentence) < 200 for sentence in refusals)


def test_shared_cases(shared_dir):
    with Image.open(shared_dir / "cases" / "src.png") as source:
        expected = np.asarray(source.convert("RGB").resize((64, 64), Image.Resampling.BOX)).astype(int)
    for name in ("heic_grid.heic", "heic_exif.heic"):
        picture = read_image(shared_dir / "cases" / name)
        assert picture.shape == (1024, 1024, 3)
        small = np.asarray(Image.fromarray(picture).resize((64, 64), Image.Resampling.BOX)).astype(int)
        assert np.abs(small - expected).mean() < 3
