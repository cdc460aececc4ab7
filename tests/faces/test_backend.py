"""Detection and tracking of faces by the installed backend."""

import pathlib
import subprocess
import sys
import zipfile

import cv2
import numpy as np
import pytest
import skimage.data

from avfr_jax.errors import ConfigError, InputError, MissingBackendError
from avfr_jax.faces import Face, FaceBackend, open_face_backend
from avfr_jax.faces.mediapipe_base import overlap


def _mean_distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a[:, :2] - b[:, :2], axis=1).mean())


def test_one_face_in_a_portrait(portrait_face):
    x0, y0, x1, y1 = portrait_face.box
    assert portrait_face.landmarks.shape == (478, 3)
    assert portrait_face.landmarks.dtype == np.float32
    assert 170 < x0 < 190 < 260 < x1 < 280
    assert 60 < y0 < 80 < 170 < y1 < 185
    assert portrait_face.size == pytest.approx(y1 - y0)
    assert portrait_face.score > 0.8
    # The subject's right eye is on the image's left; the nose's tip is nearer than the ears.
    assert portrait_face.landmarks[33, 0] < portrait_face.landmarks[263, 0]
    assert portrait_face.landmarks[4, 2] < portrait_face.landmarks[[234, 454], 2].min()


@pytest.mark.parametrize("scale", [0.3, 0.2, 2.0, 6.77])
def test_landmarks_scale_with_the_image(portrait, portrait_face, priors, scale):
    """A face of 32 px, one of 22 px, and the one of a 12-megapixel portrait."""
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image = cv2.resize(portrait, None, fx=scale, fy=scale, interpolation=method)
    (face,) = priors.detect(image)
    error = _mean_distance((face.landmarks + 0.5) / scale - 0.5, portrait_face.landmarks)
    assert error < (4 if scale < 0.3 else 2)


def test_a_mirror_image_has_mirrored_landmarks(portrait, portrait_face, priors):
    from avfr_jax.landmarks import mirror_indices

    (face,) = priors.detect(np.ascontiguousarray(portrait[:, ::-1]))
    back = face.landmarks[mirror_indices()].copy()
    back[:, 0] = portrait.shape[1] - 1 - back[:, 0]
    assert _mean_distance(back, portrait_face.landmarks) < 2


@pytest.mark.parametrize(
    "corner", [(60, 200, 165, 280), (0, 400, 172, 420), (72, 512, 0, 512)], ids=["tight", "left", "top"]
)
def test_a_face_that_fills_the_image_or_touches_its_border(portrait, portrait_face, priors, corner):
    y0, y1, x0, x1 = corner
    (face,) = priors.detect(portrait[y0:y1, x0:x1])
    assert _mean_distance(face.landmarks + np.float32([x0, y0, 0]), portrait_face.landmarks) < 4


@pytest.mark.parametrize("angle", [-60, 30, 90])
def test_a_tilted_head(portrait, portrait_face, priors, angle):
    matrix = cv2.getRotationMatrix2D((225, 123), angle, 1)
    (face,) = priors.detect(cv2.warpAffine(portrait, matrix, (512, 512), borderMode=cv2.BORDER_REPLICATE))
    expected = portrait_face.landmarks[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    assert _mean_distance(face.landmarks, expected) < 5


def test_several_faces_come_largest_first(two_people, priors):
    faces = priors.detect(two_people)
    assert len(faces) == 2
    assert faces[0].size > 1.2 * faces[1].size
    assert faces[0].centre[0] < 512 < faces[1].centre[0]


def test_a_small_face_in_a_large_empty_image(portrait, priors):
    small = cv2.resize(portrait, (154, 154), interpolation=cv2.INTER_AREA)
    image = np.full((1500, 2000, 3), 120, np.uint8)
    image[900:1054, 1400:1554] = small
    (face,) = priors.detect(image)
    assert overlap(face.box, (1452.0, 920.0, 1482.0, 954.0)) > 0.6


def test_no_face():
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3)).astype(np.uint8)
    with open_face_backend("solutions") as priors:
        for image in (skimage.data.coffee(), noise, np.zeros((1, 1, 3), np.uint8), np.zeros((1, 300, 3), np.uint8)):
            assert priors.detect(image) == []
            assert priors.track(image) is None


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)]
)
def test_what_is_no_image_is_refused(priors, image):
    with pytest.raises(Exception, match=r"RGB|type|shape") as caught:  # beartype may be the first to refuse
        priors.detect(image)
    assert isinstance(caught.value, InputError) or "type" in str(caught.value).lower()


def test_tracking_follows_motion_exactly(portrait, portrait_face, priors):
    for step in range(12):
        image = np.roll(portrait, (3 * step, 8 * step), (0, 1))
        face = priors.track(image)
        assert face is not None
        expected = portrait_face.landmarks + np.float32([8 * step, 3 * step, 0])
        assert _mean_distance(face.landmarks, expected) < 2.5


def test_tracking_keeps_the_chosen_face(two_people, priors):
    right = priors.detect(two_people)[1]
    priors.follow(right)
    for step in range(8):
        face = priors.track(np.roll(two_people, -4 * step, 1))
        assert face is not None
        assert face.centre[0] == pytest.approx(right.centre[0] - 4 * step, abs=4)


def test_tracking_recovers_a_lost_face(portrait, two_people, priors):
    right = priors.detect(two_people)[1]
    alone = two_people.copy()
    alone[:, 512:] = 120  # the followed person leaves, the other one stays
    priors.follow(right)
    assert priors.track(two_people) is not None
    assert [priors.track(alone) for _ in range(5)] == [None] * 5
    again = priors.track(two_people)
    assert again is not None
    assert again.centre[0] > 512
    # After half a second without her, the other one takes over.
    taken = [priors.track(alone) for _ in range(14)]
    assert taken[0] is None
    assert taken[-1] is not None
    priors.reset()
    assert priors.track(portrait) is not None


def test_tracking_does_not_depend_on_earlier_clips(portrait, two_people, priors):
    first = priors.track(portrait)
    priors.track(two_people)
    priors.reset()
    second = priors.track(portrait)
    np.testing.assert_allclose(first.landmarks, second.landmarks, atol=0.5)


def test_person_mask(portrait, priors):
    mask = priors.person_mask(portrait)
    assert mask.shape == (512, 512)
    assert mask.dtype == np.float32
    assert mask.min() >= 0
    assert mask.max() <= 1
    assert mask[60:180, 180:270].mean() > 0.95
    assert mask[:100, :100].mean() < 0.1
    large = priors.person_mask(cv2.resize(portrait, (1536, 1536)))
    assert large.shape == (1536, 1536)
    np.testing.assert_allclose(cv2.resize(large, (512, 512), interpolation=cv2.INTER_AREA), mask, atol=0.6)
    assert np.abs(cv2.resize(large, (512, 512), interpolation=cv2.INTER_AREA) - mask).mean() < 0.01


def test_close_frees_the_graphs():
    with open_face_backend() as priors:
        assert isinstance(priors, FaceBackend)
        priors.person_mask(np.zeros((8, 8, 3), np.uint8))
    assert not priors._graphs


def test_an_unknown_backend_is_refused():
    with pytest.raises((ConfigError, Exception), match="nosuch"):
        open_face_backend("nosuch")


def test_missing_models_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("AVFR_WEIGHTS", str(tmp_path))
    (tmp_path / "selfie_segmenter.tflite").write_bytes(b"x")
    with pytest.raises(MissingBackendError) as caught:
        open_face_backend("tasks")
    text = str(caught.value)
    assert str(tmp_path) in text
    assert "face_landmarker.task" in text
    assert "blaze_face_short_range.tflite" in text
    assert "selfie_segmenter" not in text


def test_auto_takes_tasks_where_the_wheel_has_no_models(monkeypatch, tmp_path):
    import avfr_jax.faces.mediapipe_solutions as solutions

    monkeypatch.setenv("AVFR_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(solutions, "MODEL_FILES", ("modules/nothing.tflite",))
    with pytest.raises(MissingBackendError, match=r"face_landmarker\.task"):
        open_face_backend()
    with pytest.raises(MissingBackendError, match=r"nothing\.tflite"):
        open_face_backend("solutions")


def test_the_tasks_interface_runs(monkeypatch, tmp_path, portrait):
    """Every call of the Tasks backend, with models of mediapipe's wheel. Its landmark model is another than the
    published one, so only the calls are tested, not the landmarks."""
    import mediapipe

    models = pathlib.Path(mediapipe.__file__).parent / "modules"
    detector = models / "face_detection/face_detection_short_range.tflite"
    with zipfile.ZipFile(tmp_path / "face_landmarker.task", "w") as bundle:
        bundle.write(detector, "face_detector.tflite")
        bundle.write(models / "face_landmark/face_landmark.tflite", "face_landmarks_detector.tflite")
    (tmp_path / "blaze_face_short_range.tflite").write_bytes(detector.read_bytes())
    segmenter = models / "selfie_segmentation/selfie_segmentation.tflite"
    (tmp_path / "selfie_segmenter.tflite").write_bytes(segmenter.read_bytes())
    monkeypatch.setenv("AVFR_WEIGHTS", str(tmp_path))
    with open_face_backend("tasks") as priors:
        (box,) = priors._detections(portrait, near=True)
        assert overlap(box.box, (177.0, 82.0, 272.0, 177.0)) > 0.9
        assert [points.shape for points in priors._still_meshes(portrait)] == [(478, 3)]
        assert priors._video_mesh(portrait).shape == (478, 3)
        assert priors._video_mesh(np.zeros_like(portrait)) is None
        assert priors.person_mask(portrait)[60:180, 180:270].mean() > 0.95
        assert all(isinstance(face, Face) for face in priors.detect(portrait))


def test_nothing_is_written_to_standard_error():
    script = (
        "import skimage.data\n"
        "from avfr_jax.faces import open_face_backend, mesh_image\n"
        "image = skimage.data.astronaut()\n"
        "with open_face_backend() as priors:\n"
        "    face = priors.detect(image)[0]\n"
        "    priors.track(image); priors.track(image[:400]); priors.person_mask(image[:, :300])\n"
        "    mesh_image(face.landmarks, 512)\n"
        "    print(round(face.size))\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert result.stderr == ""
    assert 100 < int(result.stdout) < 120
