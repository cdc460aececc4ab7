"""Crops of a face that moves far: from boxes alone, before (`following_crops`) or while (`CropFollower`) they come."""

import numpy as np
import pytest

from avfr_jax.errors import FaceError
from avfr_jax.faces import Crop, CropFollower, Face, crop_for_clip, face_boxes, faces_outside, following_crops, holds
from avfr_jax.landmarks import NUM_VERTICES, canonical_face

SHAPE = (400, 2000)
TIME = np.arange(100) / 25


def _faces(x, size=100.0, y=200.0) -> list[Face]:
    points = canonical_face()[:, :3].astype(np.float64)
    low, high = points[:NUM_VERTICES].min(0), points[:NUM_VERTICES].max(0)
    points = (points - (low + high) / 2) / (high - low)[:2].max()
    tracks = np.broadcast_arrays(np.asarray(x, float), y, size)
    return [Face((points * s + (a, b, 0)).astype(np.float32), 1.0) for a, b, s in zip(*tracks, strict=True)]


def _numbers(crops: list[Crop]) -> np.ndarray:
    return np.array([(crop.x, crop.y, crop.side) for crop in crops])


def _whole(crops: list[Crop], boxes: np.ndarray) -> bool:
    return not any(faces_outside(crop, box[None], SHAPE)[0] for crop, box in zip(crops, boxes, strict=True))


def _sway(scale: float) -> np.ndarray:
    return scale * np.column_stack([np.sin(2 * np.pi * 1.3 * TIME), np.cos(2 * np.pi * 0.7 * TIME)])


def test_one_crop_holds_an_ordinary_talking_head_and_no_walk_or_zoom():
    for x, size, held in (
        (300 + _sway(8)[:, 0], 100, True),
        (300 + 200 * TIME, 100, False),
        (np.full(100, 800), 60 * np.exp(0.3 * TIME), False),
        (np.where(TIME < 3, 300, 900), 100, False),
    ):
        boxes = face_boxes(_faces(x, size))
        assert holds(crop_for_clip(_faces(x, size), SHAPE), boxes, SHAPE) == held
    nowhere = np.full((5, 4), np.nan)
    assert holds(Crop(0.0, 0.0, 50.0), nowhere, SHAPE)


def test_only_the_part_of_a_face_that_the_image_shows_counts():
    boxes = face_boxes(_faces([-20.0, 30.0]))
    assert faces_outside(Crop(0.0, 100.0, 200.0), boxes, SHAPE).tolist() == [False, False]
    assert faces_outside(Crop(10.0, 100.0, 200.0), boxes, SHAPE).tolist() == [True, True]


def test_a_crop_follows_a_walk_evenly_and_leaves_the_head_its_own_motion():
    sway = _sway(6)
    boxes = face_boxes(_faces(200 + 250 * TIME + sway[:, 0], y=200 + sway[:, 1]))
    crops = following_crops(boxes, SHAPE, 25.0)
    assert _whole(crops, boxes)
    numbers = _numbers(crops)
    assert np.abs(np.diff(numbers, 2, axis=0)).max() < 0.02
    assert np.ptp(numbers[:, 1:], axis=0).max() < 3
    assert 1.6 < numbers[0, 2] / 100 < 2.0
    moved = np.diff(boxes[:, 0] - numbers[:, 0])
    assert np.corrcoef(moved, np.diff(sway[:, 0]))[0, 1] > 0.95


@pytest.mark.parametrize("seed", range(3))
def test_a_face_is_never_cut_whatever_its_motion(seed):
    rng = np.random.default_rng(seed)
    steps = np.convolve(rng.normal(0, 40, 124), np.ones(25) / 25, "valid")
    boxes = face_boxes(_faces(900 + np.cumsum(steps) + rng.normal(0, 1, 100), 100 * np.exp(0.3 * np.sin(TIME))))
    crops = following_crops(boxes, SHAPE, 25.0)
    assert _whole(crops, boxes)
    ratio = _numbers(crops)[:, 2] / (boxes[:, 2:] - boxes[:, :2]).max(1)
    assert ratio.min() > 1.3
    assert ratio.max() < 2.6
    centres = (boxes[:, 0] + boxes[:, 2]) / 2
    crop_centres = _numbers(crops)[:, 0] + _numbers(crops)[:, 2] / 2
    assert np.diff(crop_centres, 2).std() < 0.3 * np.diff(centres, 2).std()


def test_a_crop_keeps_the_size_of_the_face_in_a_zoom():
    size = 60 * np.exp(0.4 * TIME)
    numbers = _numbers(following_crops(face_boxes(_faces(1000, size)), (1000, 2000), 25.0))
    ratio = numbers[:, 2] / size
    assert ratio.max() / ratio.min() < 1.35
    assert np.abs(np.diff(np.log(numbers[:, 2]), 2)).max() < 0.002


def test_a_crop_jumps_at_a_cut_and_rests_before_and_after():
    sway = _sway(4)
    boxes = face_boxes(_faces(np.where(TIME < 2, 300, 1300) + sway[:, 0], np.where(TIME < 2, 100, 150)))
    numbers = _numbers(following_crops(boxes, SHAPE, 25.0))
    for scene in (numbers[:50], numbers[50:]):
        assert np.ptp(scene, axis=0).max() < 0.5
    assert numbers[50, 0] - numbers[49, 0] > 900
    assert numbers[50, 2] / numbers[49, 2] == pytest.approx(1.5, abs=0.02)


def test_frames_without_the_face_and_false_detections_do_not_disturb_the_path():
    boxes = face_boxes(_faces(200 + 250 * TIME))
    gaps = boxes.copy()
    gaps[:5] = gaps[40:60] = gaps[-8:] = np.nan
    gaps[75:77] = face_boxes(_faces([1800.0, 1805.0], 40))
    assert np.isnan(gaps).any()
    crops = following_crops(gaps, SHAPE, 25.0)
    assert _whole(crops[5:-8], boxes[5:-8])
    assert np.abs(np.diff(_numbers(crops), 2, axis=0)).max() < 1


def test_a_path_needs_a_face_and_few_frames():
    with pytest.raises(FaceError, match="no frame has a face"):
        following_crops(np.full((3, 4), np.nan), SHAPE, 25.0)
    for count in (1, 2, 3):
        boxes = face_boxes(_faces(np.linspace(300, 900, count)))
        assert _whole(following_crops(boxes, SHAPE, 25.0), boxes)


def _followed(faces, first=None) -> list[Crop]:
    follow = CropFollower(first or crop_for_clip(faces[:1], SHAPE), SHAPE, 25.0)
    return [follow(face) for face in faces]


def test_a_follower_rests_while_the_face_is_inside():
    faces = _faces(300 + _sway(12)[:, 0], y=200 + _sway(6)[:, 1])
    crops = _followed(faces)
    assert all(crop is crops[0] for crop in crops)
    tight = Crop(0.0, 0.0, 400.0)  # the image has no larger crop
    assert set(_followed(_faces(np.full(5, 200.0), 380), tight)) == {tight}


def test_a_crop_chosen_from_samples_rests_until_the_face_is_cut():
    crop = Crop(200.0, 100.0, 200.0)
    for x, size, rests in ((252, 100, True), (300, 50, True), (240, 100, False)):
        follow = CropFollower(crop, SHAPE, 25.0, sampled=True)
        assert all(follow(face) is crop for face in _faces(np.full(5, x), size)) == rests


def test_a_follower_keeps_up_with_a_walk_and_comes_to_rest():
    x = 300 + 250 * np.clip(TIME - 0.4, 0, 2)
    faces = _faces(x)
    crops = _followed(faces)
    assert _whole(crops, face_boxes(faces))
    numbers = _numbers(crops)
    assert np.abs(np.diff(numbers[:, 0], 2)).max() < np.abs(np.diff(x, 2)).max()
    assert np.ptp(np.diff(numbers[30:58, 0])) < 0.5 * 10  # even, where the face is
    rest = _followed(faces + [faces[-1]] * 60)[-20:]
    assert len(set(rest)) == 1
    assert abs(rest[0].x + rest[0].side / 2 - x[-1]) < 0.15 * 100


@pytest.mark.parametrize("speed", [0.5, -0.5])
def test_a_follower_keeps_the_size_of_the_face_in_a_zoom(speed):
    size = 120 * np.exp(speed * np.clip(TIME, 0, 2))
    faces = _faces(1000.0, size)
    crops = _followed(faces)
    assert _whole(crops, face_boxes(faces))
    ratio = _numbers(crops)[:, 2] / size
    assert ratio.min() > 1.1
    assert ratio.max() < 2.8


def test_a_follower_jumps_at_a_cut_and_holds_while_there_is_no_face():
    faces = [*_faces([300.0] * 5), None, None, *_faces([1300.0] * 5)]
    crops = _followed(faces)
    assert len(set(crops[:7])) == len(set(crops[7:])) == 1
    assert crops[7].x + crops[7].side / 2 == pytest.approx(1300, abs=2)
