import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.faces.face_parts import CHANNELS, face_part_masks
from avfr_jax.landmarks import MOUTH_LOWER, MOUTH_UPPER
from avfr_jax.models import landmark_warp, mesh_fomm
from avfr_jax.models.base import Animator, Priors
from avfr_jax.models.keypoints import KeypointDetectorConfig
from avfr_jax.models.mesh_fomm_animator import MeshFommAnimator
from avfr_jax.motion import FaceMesh, Keypoints, MeshKeypoints
from avfr_jax.ops.resize import upsample_nearest

CONFIG = mesh_fomm.MeshFommConfig(
    image_size=64,
    num_keypoints=3,
    keypoint_detector=KeypointDetectorConfig(
        block_expansion=4, num_blocks=1, max_features=8, scale_factor=1.0, single_jacobian_map=True, padding=3
    ),
    motion=mesh_fomm.MeshMotionConfig(size=32, block_expansion=4, num_blocks=1, max_features=8),
    generator=mesh_fomm.MeshGeneratorConfig(fine=4, coarse=8, num_bottleneck_blocks=1),
)


@pytest.fixture(scope="module")
def face():
    """Landmarks of the average head, facing the camera, filling half of the frame."""
    from avfr_jax.landmarks import canonical_face

    shape = canonical_face() - canonical_face().mean(0)
    return jnp.asarray(shape / np.abs(shape[:, :2]).max() * 0.5, jnp.float32)[None]


@pytest.fixture(scope="module")
def model():
    return MeshFommAnimator(CONFIG, jax.jit(lambda k: mesh_fomm.init(CONFIG, k))(jax.random.key(0)))


def _picture(seed=0):
    coarse = np.random.default_rng(seed).random((1, 8, 8, 3)).astype(np.float32)
    return np.asarray(upsample_nearest(jnp.asarray(coarse), (8, 8)))[0]


def test_masks_lie_where_the_parts_are(face):
    drawn = np.asarray(face_part_masks(face, 64))[0]
    assert drawn.shape == (64, 64, CHANNELS)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    # Area of the face's polygon, in pixels, and the centre of the lips.
    from avfr_jax.landmarks import FACE_OVAL, LIPS_OUTER

    x, y = (np.asarray(face)[0, list(FACE_OVAL), :2].T + 1) * 32
    area = 0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))
    assert drawn[..., 0].sum() == pytest.approx(area, rel=0.01)
    lips = (np.asarray(face)[0, list(LIPS_OUTER), :2].mean(0) + 1) * 32 - 0.5
    rows, columns = np.mgrid[:64, :64]
    weight = drawn[..., 1] / drawn[..., 1].sum()
    np.testing.assert_allclose([(weight * columns).sum(), (weight * rows).sum()], lips, atol=1.0)


def test_an_opening_mouth_grows_and_a_missing_face_is_empty(face):
    open_mouth = face.at[:, np.array(MOUTH_LOWER[1:-1]), 1].add(0.1).at[:, np.array(MOUTH_UPPER[1:-1]), 1].add(-0.02)
    missing = jnp.full_like(face, jnp.nan)
    drawn = np.asarray(face_part_masks(jnp.concatenate([face, open_mouth, missing]), 64))
    assert drawn[1, ..., 2].sum() > drawn[0, ..., 2].sum() + 20
    assert not drawn[2].any()


def test_the_mesh_moves_the_face_from_the_start(face):
    config = landmark_warp.LandmarkWarpConfig(size=32, flow_size=32)
    moved = face.at[..., 0].add(0.25)
    one, two = FaceMesh.from_landmarks(face), FaceMesh.from_landmarks(moved)
    shift = np.asarray(mesh_fomm.mesh_displacement(config, one, two))[0, 14:18, 18:22]
    np.testing.assert_allclose(shift.mean((0, 1)), [-0.25, 0.0], atol=0.02)
    nobody = FaceMesh.from_landmarks(jnp.full_like(face, jnp.nan))
    assert not np.asarray(mesh_fomm.mesh_displacement(config, one, nobody)).any()


def test_one_source_for_all_equals_one_a_frame(face):
    config = landmark_warp.LandmarkWarpConfig(size=16, flow_size=16)
    driving = FaceMesh.from_landmarks(jnp.concatenate([face, face.at[..., 1].add(0.1)]))
    displacement = jax.jit(mesh_fomm.mesh_displacement, static_argnums=0)
    shared = displacement(config, FaceMesh.from_landmarks(face), driving)
    each = displacement(config, FaceMesh.from_landmarks(jnp.concatenate([face, face])), driving)
    np.testing.assert_allclose(shared, each, atol=1e-5)


def test_it_is_an_animator(model, face):
    assert isinstance(model, Animator)
    picture = _picture()
    kp = model.keypoints(picture[None], Priors(np.asarray(face)))
    assert kp.learned.value.shape == (1, 3, 2)
    assert kp.mesh.landmarks.shape == (1, 478, 3)
    encoded = model.encode_source(picture, kp)
    out = np.asarray(model.animate(encoded, kp, kp))
    assert out.shape == (1, 64, 64, 3)
    assert np.isfinite(out).all()
    # A fresh model shows mostly the source itself where nothing moves.
    assert np.abs(out[0] - picture).mean() < 0.6 * np.abs(picture.mean() - picture).mean()


def test_its_first_picture_is_the_layered_warps(face):
    """`landmark_warp.render` under a trace is `landmark_warp.animate`, and the picture itself where a face is missing;
    a fresh model shows mostly that."""
    config = landmark_warp.LandmarkWarpConfig(size=64)
    mask = np.zeros((64, 64), np.float32)
    mask[8:, 12:52] = 1
    picture = _picture()
    moved = jnp.concatenate([face.at[..., 0].add(0.1), jnp.full_like(face, jnp.nan)])
    one, two = FaceMesh.from_landmarks(face), FaceMesh.from_landmarks(moved)
    encoded = landmark_warp.encode(config, picture, face[0], mask)
    first = landmark_warp.animate(config, encoded, one, jax.tree.map(lambda x: x[:1], two))
    layers = jax.jit(lambda *x: landmark_warp.encode_traced(config, *x))(jnp.asarray(picture), face[0], mask)
    frames = jax.jit(lambda e, s, d: landmark_warp.render(config, e, s, d))(layers, one.positions[0], two)
    np.testing.assert_allclose(frames[0, ..., :3], first[0], atol=5e-5)
    np.testing.assert_allclose(frames[1, ..., :3], picture, atol=2e-2)
    assert 0.3 < frames[0, ..., 3].mean() < 0.9

    module = mesh_fomm.generator(CONFIG)
    learned = Keypoints(jnp.zeros((1, 3, 2)), jnp.eye(2)[None, None].repeat(3, 1))
    kp, to = (MeshKeypoints(learned, mesh[:1]) for mesh in (one, two))
    weights = jax.jit(lambda k: mesh_fomm.init(CONFIG, k))(jax.random.key(0))["generator"]
    arguments = (jnp.asarray(picture)[None], face, jnp.asarray(mask)[None], kp, to)
    out = jax.jit(lambda *x: module.apply(weights, *x, method=mesh_fomm.encode_and_animate))(*arguments)
    np.testing.assert_allclose(out.layered[0], first[0], atol=1e-4)
    np.testing.assert_allclose(out.shares.sum(-1), 1, atol=1e-5)
    assert np.median(out.shares[..., 0]) > 0.6


def test_one_encoded_source_equals_one_a_frame_in_the_whole_model(model, face):
    picture = _picture()
    kp = model.keypoints(picture[None], Priors(np.asarray(face)))
    frames = np.concatenate([np.asarray(face), np.asarray(face) + np.array([0.08, 0.02, 0])]).astype(np.float32)
    driving = model.keypoints(np.stack([picture, picture]), Priors(frames))
    together = model.animate(model.encode_source(picture, kp), kp, driving)
    for i in range(2):
        alone = model.animate(model.encode_source(picture, kp), kp, jax.tree.map(lambda x, i=i: x[i : i + 1], driving))
        np.testing.assert_allclose(together[i], alone[0], atol=1e-4)


def test_saved_and_loaded(model, tmp_path):
    from avfr_jax.model_store import load_model, save_model

    variables = jax.jit(lambda k: mesh_fomm.init(CONFIG, k))(jax.random.key(0))
    save_model(tmp_path / "m", "mesh-fomm", CONFIG, variables)
    again = load_model(tmp_path / "m")
    assert again.family == "mesh-fomm"
    assert again.config == CONFIG
