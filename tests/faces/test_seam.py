"""Alignment of a generated square with the picture around it."""

import cv2
import numpy as np
import pytest

from avfr_jax.faces import Crop, SeamAligner, open_sides, paste_back
from avfr_jax.faces.paste import FEATHER, border_distance

_SIDE = 256
_CLOSED = (False, False, False, False)


@pytest.fixture(scope="module")
def source():
    """A person's outline up to the upper and lower border on a smooth background, with some texture."""
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.normal(0, 60, (_SIDE, _SIDE, 3)).astype(np.float32), (0, 0), 3)
    image = np.full((_SIDE, _SIDE, 3), 170, np.float32)
    mask = np.zeros((_SIDE, _SIDE), np.uint8)
    cv2.ellipse(mask, (128, 120), (70, 118), 0, 0, 360, 1, -1)
    cv2.rectangle(mask, (50, 190), (206, 256), 1, -1)
    image[mask > 0] = 70 + texture[mask > 0] * 3
    return np.clip(cv2.GaussianBlur(image, (0, 0), 1), 0, 255).astype(np.uint8), mask.astype(np.float32)


def _moved(image, x, y, angle=0.0):
    """All of the square displaced by pixels and turned about its middle."""
    turn = cv2.getRotationMatrix2D((127.5, 127.5), angle, 1)
    turn[:, 2] += x, y
    return cv2.warpAffine(image, turn, (_SIDE, _SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _mismatch(square, source):
    """Mean difference of the two pictures that are blended, where they are, in levels."""
    ramp = np.clip(border_distance(_SIDE, _CLOSED) / FEATHER, 0, 1)
    weight = ramp * (1 - ramp)
    return (np.abs(square.astype(float) - source).mean(-1) * weight).sum() / weight.sum()


@pytest.mark.parametrize("motion", [(6, 0, 0), (0, 8, 0), (-4, 3, 4)])
def test_what_crosses_the_border_meets_its_continuation(source, motion):
    image, mask = source
    generated = _moved(image, *motion)
    aligned = SeamAligner(image, _CLOSED, mask)(generated)
    assert _mismatch(aligned, image) < 0.5 * _mismatch(generated, image)
    inside = border_distance(_SIDE, _CLOSED) > 0.21
    np.testing.assert_array_equal(aligned[inside], generated[inside])


def test_a_square_like_its_source_is_left_as_it_is(source):
    image, mask = source
    align = SeamAligner(image, _CLOSED, mask)
    np.testing.assert_array_equal(align(image), image)
    noise = np.random.default_rng(1).normal(0, 2, image.shape)
    noisy = np.clip(image + noise, 0, 255).astype(np.uint8)
    assert np.abs(align.displacement(noisy)).max() * _SIDE < 0.5


def test_nothing_is_aligned_along_the_pictures_own_border(source):
    image, mask = source
    whole = SeamAligner(image, open_sides(Crop(0.0, 0.0, 300.0), (300, 300)), mask)
    generated = _moved(image, 6, 2)
    np.testing.assert_array_equal(whole(generated), generated)


def test_displacements_do_not_fold(source):
    image, mask = source
    align = SeamAligner(image, _CLOSED, mask)
    unlike = _moved(image[::-1].copy(), 20, 10, 15)
    moves = align.displacement(unlike) * 128
    assert np.abs(moves).max() <= 0.08 * 128 + 1e-3
    assert np.diff(moves[..., 0], axis=1).min() > -1
    assert np.diff(moves[..., 1], axis=0).min() > -1


def test_a_pasted_head_stays_on_its_neck(source):
    image, mask = source
    picture = cv2.copyMakeBorder(image, 60, 60, 60, 60, cv2.BORDER_REPLICATE)
    crop = Crop(60.0, 60.0, float(_SIDE))
    generated = _moved(image, 8, 0)
    align = SeamAligner(image, open_sides(crop, picture.shape), mask)
    before, after = (paste_back(picture, square, crop).astype(float) for square in (generated, align(generated)))
    band = (slice(296, 314), slice(90, 290))  # the last rows of the crop
    assert np.abs(after - picture)[band].mean() < 0.6 * np.abs(before - picture)[band].mean()
