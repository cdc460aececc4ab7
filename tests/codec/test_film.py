"""Pivot pictures as a film, and the bits of repairs."""

import numpy as np
import pytest
from skimage import data

from avfr_jax.codec.bitstream import BitstreamError
from avfr_jax.codec.film import FilmReader, FilmWriter
from avfr_jax.codec.signs import get_signs, put_signs
from avfr_jax.codec.still import Still, decode_still
from avfr_jax.errors import ConfigError


def pictures(count=4):
    """A portrait that moves by two pixels a picture."""
    portrait = data.astronaut()[:160, 140:320]
    return [np.ascontiguousarray(portrait[:128, 2 * i : 2 * i + 128]) for i in range(count)]


def test_a_film_costs_less_than_its_pictures_and_comes_at_once():
    writer, reader = FilmWriter(128, 40), FilmReader(128)
    coded = [writer.put(picture) for picture in pictures()]
    writer.close()
    shown = [reader.get(one) for one in coded]
    for picture, got in zip(pictures(), shown, strict=True):
        assert np.abs(got.astype(float) - picture).mean() < 8
    np.testing.assert_array_equal(decode_still(coded[0], Still.AV1, 128), shown[0])
    assert max(len(one) for one in coded[1:]) < 0.5 * len(coded[0])


def test_a_broken_film_is_refused():
    with pytest.raises(BitstreamError, match=r"cannot be decoded|is not of the stated"):
        FilmReader(128).get(b"\x12\x00nothing of the kind")
    writer = FilmWriter(128, 40)
    first = writer.put(pictures()[0])
    writer.close()
    with pytest.raises(BitstreamError, match=r"is not of the stated 64 × 64"):
        FilmReader(64).get(first)


def some_signs(maps, share, seed=0):
    rng = np.random.default_rng(seed)
    signs = rng.choice(np.int8([-1, 1]), (16, 16, 32))
    signs[rng.random((16, 16)) > share] = 0
    signs[..., maps:] = 0
    return signs


@pytest.mark.parametrize(("maps", "share"), [(32, 1.0), (8, 0.3), (1, 0.02), (5, 0.0)])
def test_signs_come_back(maps, share):
    signs = some_signs(maps, share)
    coded = put_signs(signs)
    np.testing.assert_array_equal(get_signs(coded, 16, 32), signs)
    sent = np.count_nonzero(signs)
    assert len(coded) < sent * 1.2 / 8 + 34  # random signs cannot be made smaller, and hardly grow


def test_signs_that_agree_with_their_neighbours_cost_less():
    smooth = np.ones((16, 16, 32), np.int8)
    smooth[:, 8:] = -1
    assert len(put_signs(smooth)) < 0.5 * len(put_signs(some_signs(32, 1.0)))


def test_impossible_signs_are_refused():
    uneven = some_signs(8, 1.0)
    uneven[0, 0, 7] = 0
    with pytest.raises(ConfigError, match="same first maps"):
        put_signs(uneven)
    with pytest.raises(BitstreamError, match="40 maps; there are 32"):
        get_signs(bytes([40, 1, 2]), 16, 32)
    for seed in range(50):  # any bytes give some signs
        got = get_signs(bytes([8]) + np.random.default_rng(seed).bytes(seed), 16, 32)
        assert set(np.unique(got)) <= {-1, 0, 1}
