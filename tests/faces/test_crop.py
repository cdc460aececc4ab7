"""Crops, pasting back, landmark filtering and the choice among faces."""

import logging

import numpy as np
import pytest

from avfr_jax.errors import ConfigError, FaceError
from avfr_jax.faces import (
    Crop,
    Face,
    LandmarkFilter,
    apply_filled,
    choose_face,
    crop_for_clip,
    crop_for_face,
    paste_back,
    share_in_view,
)
from avfr_jax.tracking import track_landmarks


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(float) - b.astype(float)) ** 2))))


def _ramp(height: int, width: int) -> np.ndarray:
    """Red rises along x, green along y, so that a pixel encodes its position."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, 0 * x], -1).astype(np.uint8)


@pytest.mark.parametrize(
    "crop", [Crop(20.0, 30.0, 64.0), Crop(20.5, 30.25, 60.0), Crop(10.0, 20.0, 128.0), Crop(10.3, 20.7, 200.4)]
)
def test_points_and_pixels_go_to_the_same_place(crop):
    image = crop.apply(_ramp(250, 250), 64)
    inside = np.array([[15, 15], [15, 50], [40, 20]], np.float32)
    there = crop.to_frame(inside, 64)
    for (column, row), (x, y) in zip(inside.astype(int), there, strict=True):
        assert image[row, column, 0] == pytest.approx(x, abs=0.8)
        assert image[row, column, 1] == pytest.approx(y, abs=0.8)
    np.testing.assert_allclose(crop.to_crop(there, 64), inside, atol=1e-4)
    scaled = crop.to_crop(np.float32([[1, 2, 3]]), 64)
    assert scaled[0, 2] == pytest.approx(3 * 64 / crop.side)


def test_a_crop_of_its_own_size_is_a_slice(portrait):
    np.testing.assert_array_equal(Crop(100.0, 50.0, 256.0).apply(portrait, 256), portrait[50:306, 100:356])


def test_the_border_is_repeated_outside(portrait):
    image = Crop(-100.0, -50.0, 200.0).apply(portrait, 200)
    np.testing.assert_array_equal(image[50:, 100:], portrait[:150, :100])
    assert (image[:50, :100] == portrait[0, 0]).all()
    assert Crop(-100.0, -50.0, 200.0).outside(portrait.shape) == pytest.approx(1 - 150 * 100 / 200**2)
    assert (Crop(-900.0, -900.0, 100.0).apply(portrait, 32) == portrait[0, 0]).all()
    assert Crop(0.0, 0.0, 512.0).outside(portrait.shape) == 0


def test_shrinking_does_not_alias():
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    for crop in (Crop(0.0, 0.0, 512.0), Crop(3.0, 3.0, 500.0), Crop(5.3, 4.1, 497.7)):
        assert np.ptp(crop.apply(stripes, 128)[2:-2, 2:-2].astype(int)) < 40


@pytest.mark.parametrize("side", [0.0, -3.0, float("nan"), float("inf")])
def test_an_impossible_crop_is_refused(side):
    with pytest.raises(ConfigError, match="side"):
        Crop(0.0, 0.0, side)


def test_a_face_is_framed_as_in_voxceleb(portrait, portrait_face):
    crop = crop_for_face(portrait_face, portrait.shape)
    points = crop.to_crop(portrait_face.landmarks[:468], 1)
    assert 0.45 < np.ptp(points[:, 0]) < 0.6
    middle = (points[:, 1].min() + points[:, 1].max()) / 2 + 0.5
    assert 0.5 < middle < 0.6
    assert crop.outside(portrait.shape) == 0
    assert crop.side == round(crop.side)
    # The image of a crop is its own crop.
    again = crop_for_face(Face(crop.to_crop(portrait_face.landmarks, 256), 1.0), (256, 256))
    assert again.side == pytest.approx(256, abs=2)
    assert (again.x, again.y) == pytest.approx((0, 0), abs=2)


def test_a_close_up_is_not_smeared(portrait, portrait_face):
    tight = Face(portrait_face.landmarks - np.float32([165, 55, 0]), 1.0)
    crop = crop_for_face(tight, (130, 130))
    assert (crop.x, crop.y, crop.side) == (0, 0, 130)


@pytest.mark.parametrize("columns", [slice(0, 225), slice(225, 512)])
def test_a_face_cut_by_the_border_has_its_crop_inside(portrait, portrait_face, columns):
    picture = portrait[:, columns]
    face = Face(portrait_face.landmarks - np.float32([columns.start, 0, 0]), 1.0)
    crop = crop_for_face(face, picture.shape)
    assert crop.outside(picture.shape) == 0
    assert crop.side == pytest.approx(crop_for_face(portrait_face, portrait.shape).side, abs=60)
    assert 0.3 < share_in_view(face, picture.shape) < 0.7
    assert share_in_view(portrait_face, portrait.shape) == 1


def test_what_a_portrait_lacks_is_filled_without_streaks(portrait):
    crop, picture = Crop(0.0, 0.0, 256.0), np.ascontiguousarray(portrait[60:316, 120:260])
    filled = apply_filled(crop, picture, 256)
    np.testing.assert_array_equal(filled[:, :140], picture)
    steps = np.abs(np.diff(filled.astype(int), axis=1)).mean((0, 2))
    assert steps[140:155].min() > 1  # no repeated column
    assert steps[139] < 3 * steps[100:139].mean()
    assert filled[:, 200:].std((0, 1)).max() < picture.std((0, 1)).max()  # no second face
    np.testing.assert_array_equal(apply_filled(crop, portrait, 128), crop.apply(portrait, 128))
    assert apply_filled(Crop(-7.3, -9.1, 300.4), picture, 64).shape == (64, 64, 3)


def test_a_clips_crop_holds_the_whole_motion_and_ignores_outliers(portrait_face):
    base = portrait_face.landmarks + np.float32([500, 300, 0])
    motion = np.stack([base + np.float32([dx, 0, 0]) for dx in np.linspace(-20, 20, 100)])
    crop = crop_for_clip(motion, (1080, 1920))
    for points in motion:
        inside = crop.to_crop(points[:468, :2], 1)
        assert inside.min() > -0.5
        assert inside.max() < 0.5
    wild = motion.copy()
    wild[50] += np.float32([400, 200, 0])
    wild[60] = np.nan
    other = crop_for_clip(wild, (1080, 1920))
    assert (other.x, other.y, other.side) == pytest.approx((crop.x, crop.y, crop.side), abs=3)
    assert crop_for_clip([portrait_face, None], (512, 512)) == crop_for_face(portrait_face, (512, 512))


def test_no_crop_without_a_face():
    for nobody in ([], [None], np.full((3, 478, 3), np.nan, np.float32)):
        with pytest.raises(FaceError, match="no frame has a face"):
            crop_for_clip(nobody, (64, 64))


@pytest.mark.parametrize(
    "crop",
    [
        Crop(150.0, 40.0, 130.0),
        Crop(130.5, 20.25, 233.3),
        Crop(100.0, 10.0, 256.0),
        Crop(100.5, 10.5, 255.5),
        Crop(-40.0, -60.0, 250.0),
    ],
)
def test_pasting_back_what_was_cut_out_changes_nothing(portrait, crop):
    before = portrait.copy()
    result = paste_back(portrait, crop.apply(portrait, 256), crop)
    assert _psnr(result, portrait) > 45
    assert result is not portrait
    np.testing.assert_array_equal(before, portrait)


def test_pasting_has_no_feather_at_the_frames_own_border():
    frame, square = np.full((300, 300, 3), 60, np.uint8), np.full((128, 128, 3), 180, np.uint8)
    result = paste_back(frame, square, Crop(100.0, 50.0, 200.0)).astype(int)
    assert (result[120:180, -20:] == 180).all()  # the frame ends there
    assert (result[150, 101:103] < 70).all()
    assert result[51, 200].max() < 70
    assert (paste_back(frame, square, Crop(-20.0, -20.0, 340.0)) == 180).all()


@pytest.mark.parametrize("side", [100.0, 200.0, 400.0, 401.5])
def test_a_pasted_square_has_no_seam_and_no_shift(side):
    frame, square = np.full((512, 512, 3), 60, np.uint8), np.full((256, 256, 3), 180, np.uint8)
    result = paste_back(frame, square, Crop(50.0, 50.0, side)).astype(int)
    middle = round(50 + side / 2)
    assert (result[middle, middle] == 180).all()
    assert np.abs(np.diff(result[..., 0], axis=0)).max() < 240 / (0.08 * side)
    assert (result[:49] == 60).all()
    assert (result[:, round(51 + side) :] == 60).all()
    rows = (result[..., 0] - 60).sum(1)
    assert (rows * np.arange(512)).sum() / rows.sum() == pytest.approx(50 + side / 2 - 0.5, abs=0.05)


def test_pasting_outside_the_frame_or_a_wrong_shape(portrait):
    square = np.zeros((64, 64, 3), np.uint8)
    np.testing.assert_array_equal(paste_back(portrait, square, Crop(900.0, 900.0, 64.0)), portrait)
    with pytest.raises(ConfigError, match="square"):
        paste_back(portrait, square[:, :32], Crop(0.0, 0.0, 64.0))


def _noisy(base: np.ndarray, path: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 0.002 * np.ptp(base[:468, 1]), (len(path), 478, 3))
    return (base + path[:, None, None] * np.float32([1, 0.5, 0]) + noise).astype(np.float32)


def _smoothed(landmarks: np.ndarray) -> np.ndarray:
    smooth = LandmarkFilter()
    return np.stack([smooth(frame) for frame in landmarks])


def test_filter_removes_jitter_of_a_still_face(portrait_face):
    raw = _noisy(portrait_face.landmarks, np.zeros(150))
    smooth = _smoothed(raw)
    assert np.diff(raw[30:], axis=0).std() > 3 * np.diff(smooth[30:], axis=0).std()
    np.testing.assert_allclose(smooth[30:].mean(0), raw[30:].mean(0), atol=0.2)


@pytest.mark.parametrize(("amplitude", "hertz"), [(0.1, 0.5), (0.25, 1.0), (0.05, 3.0)])
def test_filter_has_little_lag(portrait_face, amplitude, hertz):
    time = np.arange(150) / 25
    path = amplitude * portrait_face.size * np.sin(2 * np.pi * hertz * time)
    raw = _noisy(portrait_face.landmarks, path)
    smooth = _smoothed(raw)
    wave = np.exp(-2j * np.pi * hertz * time[25:])
    phases = [np.angle(((p[25:, :, 0] - p[25:, :, 0].mean(0)).mean(1) * wave).sum()) for p in (raw, smooth)]
    assert (phases[0] - phases[1]) / (2 * np.pi * hertz) * 25 < 0.6  # frames


def test_filter_restarts_after_a_gap(portrait_face):
    steady = LandmarkFilter()
    first = steady(portrait_face.landmarks)
    np.testing.assert_array_equal(first, portrait_face.landmarks)
    assert steady(None) is None
    far = portrait_face.landmarks + np.float32(300)
    np.testing.assert_array_equal(steady(far), far)
    with pytest.raises(ConfigError, match="positive"):
        LandmarkFilter(fps=0.0)


def _face(x: float, size: float) -> Face:
    points = np.random.default_rng(0).random((478, 3)).astype(np.float32)
    points[:2, :2] = [[0, 0], [1, 1]]
    return Face(points * np.float32(size) + np.float32([x, 0, 0]), 0.9)


def test_choosing_among_faces(caplog):
    faces = [_face(300, 90), _face(600, 80), _face(0, 70)]
    assert choose_face(faces, "largest") is faces[0]
    assert choose_face(faces, "left") is faces[2]
    assert choose_face(faces, "right") is faces[1]
    assert choose_face(faces, "center") is faces[0]
    assert choose_face(faces, "center", width=1400) is faces[1]
    assert choose_face(faces, 0) is faces[2]
    assert choose_face(faces, 2) is faces[1]
    assert not caplog.records
    with caplog.at_level(logging.WARNING, "avfr_jax"):
        assert choose_face(faces, name="a.png") is faces[0]
    assert "3 faces in a.png" in caplog.text


def test_impossible_choices_are_refused():
    with pytest.raises(FaceError, match=r"no face was found in a\.png"):
        choose_face([], name="a.png")
    with pytest.raises(FaceError, match=r"a face of 21 px .* at least 32 px are needed"):
        choose_face([_face(0, 21)])
    with pytest.raises(FaceError, match="there is no 1"):
        choose_face([_face(0, 90)], 1)
    with pytest.raises((ConfigError, Exception), match="tallest"):
        choose_face([_face(0, 90)], "tallest")


@pytest.mark.shared
@pytest.mark.parametrize("name", ["v001.mp4", "v017.mpg", "v029.mp4", "v055.mp4"])
def test_real_clips_are_tracked_and_cropped(shared_dir, priors, name):
    import av

    with av.open(str(shared_dir / "clips" / "video" / name)) as container:
        frames = [
            frame.to_ndarray(format="rgb24") for frame, _ in zip(container.decode(video=0), range(50), strict=False)
        ]
    landmarks = track_landmarks(frames, priors)
    assert np.isfinite(landmarks).all((1, 2)).mean() >= 0.98
    crop = crop_for_clip(landmarks, frames[0].shape)
    points = crop.to_crop(landmarks[:, :468], 1)
    assert 0.42 < np.median(np.ptp(points[..., 0], axis=1)) < 0.68
    assert crop.outside(frames[0].shape) < 0.05
