"""The landmark warp on a real portrait (scikit-image's astronaut), moved by made-up landmarks."""

import dataclasses

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from avfr_jax import landmarks as points
from avfr_jax.models import landmark_warp as lw
from avfr_jax.motion import FaceMesh

CONFIG = lw.LandmarkWarpConfig()


@dataclasses.dataclass
class Portrait:
    image: np.ndarray
    landmarks: np.ndarray
    mask: np.ndarray
    encoded: lw.EncodedSource
    keypoints: FaceMesh

    def pixels(self, *indices: int) -> np.ndarray:
        """Index coordinates of landmarks."""
        return ((self.landmarks[list(indices), :2] + 1) * 256 - 1) / 2


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    mediapipe = pytest.importorskip("mediapipe")
    from skimage.data import astronaut

    photo = np.ascontiguousarray(astronaut()[0:256, 96:352])
    with mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True) as mesh:
        result = mesh.process(photo).multi_face_landmarks[0].landmark
    landmarks = np.array([[2 * p.x - 1, 2 * p.y - 1, 2 * p.z] for p in result], np.float32)
    # A made-up mask that covers head and shoulders: it need not be good, it must be usable.
    y, x = np.mgrid[:256, :256]
    centre = ((landmarks[:468, :2].mean(0) + 1) * 256 - 1) / 2
    head = ((x - centre[0]) / 62) ** 2 + ((y - centre[1] + 10) / 85) ** 2 < 1
    mask = (head | ((y > 190) & (np.abs(x - centre[0]) < 100))).astype(np.float32)
    image = photo.astype(np.float32) / 255
    encoded = lw.encode(CONFIG, image, landmarks, mask)
    return Portrait(image, landmarks, mask, encoded, FaceMesh.from_landmarks(landmarks[None]))


def animate(portrait: Portrait, landmarks: np.ndarray, config: lw.LandmarkWarpConfig = CONFIG) -> np.ndarray:
    if landmarks.ndim == 2:
        landmarks = landmarks[None]
    driving = FaceMesh.from_landmarks(landmarks.astype(np.float32))
    return np.asarray(lw.animate(config, portrait.encoded, portrait.keypoints, driving))


def open_mouth(landmarks: np.ndarray, pixels: float) -> np.ndarray:
    """Move the lower lip, its inner edge included, down (the corners stay)."""
    moved = landmarks.copy()
    lower = [*points.MOUTH_LOWER[1:-1], 146, 91, 181, 84, 17, 314, 405, 321, 375, 18, 200, 199, 152, 148, 377]
    moved[lower, 1] += pixels / 128
    return moved


def test_the_same_landmarks_give_the_source_back(portrait):
    assert float(portrait.encoded.layered) == 1
    np.testing.assert_allclose(animate(portrait, portrait.landmarks)[0], portrait.image, atol=1e-6)


def test_tracker_noise_leaves_the_picture_alone(portrait):
    noise = np.random.default_rng(0).normal(0, 0.1 / 128, portrait.landmarks.shape)
    changed = np.abs(animate(portrait, portrait.landmarks + noise)[0] - portrait.image)
    assert changed.mean() < 2e-4


def test_a_shift_moves_the_face_by_as_much(portrait):
    moved = portrait.landmarks + np.array([10 / 128, -6 / 128, 0], np.float32)
    out = animate(portrait, moved)[0]
    x, y = np.round(portrait.pixels(*points.NOSE).mean(0)).astype(int)
    face = portrait.image[y - 30 : y + 30, x - 25 : x + 25]
    there = out[y - 36 : y + 24, x - 15 : x + 35]
    stayed = np.abs(face - out[y - 30 : y + 30, x - 25 : x + 25]).mean()
    assert np.abs(face - there).mean() < 0.01
    assert stayed > 0.08


def test_the_background_stays(portrait):
    out = animate(portrait, portrait.landmarks + np.array([12 / 128, 5 / 128, 0], np.float32))[0]
    far = np.ones((256, 256), bool)
    for y, x in np.argwhere(portrait.mask > 0)[::7]:
        far[max(y - 26, 0) : y + 27, max(x - 26, 0) : x + 27] = False
    assert far.sum() > 3000
    np.testing.assert_allclose(out[far], portrait.image[far], atol=1e-6)


def test_an_opening_mouth_is_dark_inside_and_nowhere_else(portrait):
    # The astronaut smiles with her teeth in view: shut the lips in the landmarks that the picture is said to have.
    shut = portrait.landmarks.copy()
    middle = (shut[list(points.MOUTH_UPPER)] + shut[list(points.MOUTH_LOWER)]) / 2
    shut[list(points.MOUTH_UPPER)] = shut[list(points.MOUTH_LOWER)] = middle
    source = FaceMesh.from_landmarks(shut[None])
    encoded = lw.encode(CONFIG, portrait.image, shut, portrait.mask)
    driving = FaceMesh.from_landmarks(open_mouth(shut, 16)[None])
    painted = np.asarray(lw.animate(CONFIG, encoded, source, driving))[0]
    plain = np.asarray(lw.animate(dataclasses.replace(CONFIG, paint=False), encoded, source, driving))[0]
    change = np.abs(painted - plain).max(-1)
    x, y = ((np.asarray(driving.positions[0, [13, 14]]) + 1) * 128 - 0.5).mean(0)
    inside = painted[int(y) + 1 : int(y) + 6, int(x) - 6 : int(x) + 6]
    assert inside.mean() < 0.6 * plain[int(y) + 1 : int(y) + 6, int(x) - 6 : int(x) + 6].mean()
    rows, columns = np.nonzero(change > 1e-3)
    corners = ((np.asarray(driving.positions[0, [78, 308]]) + 1) * 128 - 0.5)[:, 0]
    assert columns.min() >= corners.min() - 3
    assert columns.max() <= corners.max() + 3
    assert rows.max() - rows.min() < 24


def test_a_mouth_that_stays_as_it_is_is_not_painted(portrait):
    turned = portrait.landmarks + np.array([4 / 128, 0, 0], np.float32)
    plain = animate(portrait, turned, dataclasses.replace(CONFIG, paint=False))
    np.testing.assert_allclose(animate(portrait, turned), plain, atol=1e-6)


def test_closing_eyes_hides_the_irises(portrait):
    shut = portrait.landmarks.copy()
    for upper, lower in points.APERTURES[1:]:
        shut[list(upper[1:-1])] = shut[list(lower[1:-1])] = shut[list(lower[1:-1])]
    out = animate(portrait, shut)[0]
    for iris in ((points.RIGHT_PUPIL, *points.RIGHT_IRIS), (points.LEFT_PUPIL, *points.LEFT_IRIS)):
        x, y = np.round(portrait.pixels(iris[0])[0]).astype(int)
        window = np.s_[y - 4 : y + 2, x - 4 : x + 5]
        assert out[window].mean() > portrait.image[window].mean() + 0.1  # skin is lighter than an iris


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_useless_mask_is_set_aside(portrait, value):
    encoded = lw.encode(CONFIG, portrait.image, portrait.landmarks, np.full((256, 256), value, np.float32))
    assert float(encoded.layered) == 0
    moved = FaceMesh.from_landmarks(portrait.landmarks[None] + np.array([8 / 128, 0, 0], np.float32))
    out = np.asarray(lw.animate(CONFIG, encoded, portrait.keypoints, moved))[0]
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out[0], portrait.image[0], atol=0.02)  # the frame's border holds still
    still = np.asarray(lw.animate(CONFIG, encoded, portrait.keypoints, portrait.keypoints))[0]
    np.testing.assert_allclose(still, portrait.image, atol=1e-6)


def test_one_trace_serves_all_frames_and_a_batch_equals_its_frames(portrait):
    rng = np.random.default_rng(1)
    shifts = rng.normal(0, 4 / 128, (3, 1, 3)).astype(np.float32)
    moved = portrait.landmarks + shifts
    batch = animate(portrait, moved)
    animate(portrait, moved[:1])
    traces = lw._animate._cache_size()
    singles = np.concatenate([animate(portrait, m) for m in moved])
    assert lw._animate._cache_size() == traces
    np.testing.assert_allclose(batch, singles, atol=2e-3)
    assert np.abs(batch - singles).mean() < 1e-5


def test_extreme_landmarks_stay_finite(portrait):
    rng = np.random.default_rng(2)
    wild = np.stack(
        [
            portrait.landmarks * np.array([0.2, 0.2, 0.2], np.float32),
            portrait.landmarks * np.array([-1, 1, 1], np.float32),
            portrait.landmarks + rng.normal(0, 0.3, portrait.landmarks.shape).astype(np.float32),
            np.broadcast_to(portrait.landmarks[:1], portrait.landmarks.shape),
        ]
    )
    out = animate(portrait, wild)
    assert np.isfinite(out).all()
    assert out.min() >= 0
    assert out.max() <= 1


def wrong(message: str):
    """ValueError with that message; where shapes are checked at run time, that check may come first."""
    return pytest.raises((ValueError, jaxtyping.TypeCheckError), match=f"{message}|Type-check")


def test_wrong_input_is_named(portrait):
    mask, marks = portrait.mask, portrait.landmarks
    with wrong(r"source must be \[256,256,3\]"):
        lw.encode(CONFIG, portrait.image[:128], marks, mask)
    with wrong("landmarks must be"):
        lw.encode(CONFIG, portrait.image, marks[:468], mask)
    with wrong("person_mask must be"):
        lw.encode(CONFIG, portrait.image, marks, mask[1:])
    few = jax.tree.map(lambda x: x[:, :10] if x.ndim == 3 and x.shape[1] > 3 else x, portrait.keypoints)
    with wrong("landmarks must be"):
        lw.animate(CONFIG, portrait.encoded, portrait.keypoints, few)
    two = jax.tree.map(lambda x: jnp.concatenate([x, x]), portrait.keypoints)
    with wrong("of one frame"):
        lw.animate(CONFIG, portrait.encoded, two, portrait.keypoints)
    with wrong("encoded at 256"):
        lw.animate(lw.LandmarkWarpConfig(size=128), portrait.encoded, portrait.keypoints, portrait.keypoints)


def test_another_size(portrait):
    size = 150
    config = lw.LandmarkWarpConfig(size=size)
    image = np.asarray(jax.image.resize(portrait.image, (size, size, 3), "linear", antialias=True))
    mask = np.asarray(jax.image.resize(portrait.mask, (size, size), "linear", antialias=True))
    encoded = lw.encode(config, image, portrait.landmarks, mask)
    driving = FaceMesh.from_landmarks(np.stack([portrait.landmarks, open_mouth(portrait.landmarks, 12)]))
    out = np.asarray(lw.animate(config, encoded, portrait.keypoints, driving))
    np.testing.assert_allclose(out[0], image, atol=1e-6)
    big = animate(portrait, open_mouth(portrait.landmarks, 12))[0]
    small = np.asarray(jax.image.resize(big, (size, size, 3), "linear", antialias=True))
    assert np.abs(out[1] - small).mean() < 0.01


def test_a_head_cut_off_by_the_frame_does_not_end_in_streaks(portrait):
    mask = np.maximum(portrait.mask, (np.abs(np.arange(256) - 128) < 30)[None] * np.float32(1))
    encoded = lw.encode(CONFIG, portrait.image, portrait.landmarks, mask)
    down = FaceMesh.from_landmarks(portrait.landmarks[None] + np.array([0, 45 / 128, 0], np.float32))
    out = np.asarray(lw.animate(CONFIG, encoded, portrait.keypoints, down))[0]
    background = np.asarray(encoded.background)
    np.testing.assert_allclose(out[:10, 100:156], background[:10, 100:156], atol=1e-3)
    assert np.abs(out[60:120, 100:156] - background[60:120, 100:156]).mean() > 0.1
