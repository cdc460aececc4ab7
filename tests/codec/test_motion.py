import numpy as np
import pytest
from avfr_jax.codec.spaces import KEYPOINTS, KEYPOINTS_WITH_JACOBIANS, KeypointPart, MeshPart, Pose, Space, space_from

from avfr_jax.codec import mesh_basis as mesh
from avfr_jax.codec.motion import MotionFormat, MotionReader, MotionWriter, step_of
from avfr_jax.codec.range_coder import Reader, Writer
from avfr_jax.errors import CheckpointError, ConfigError


def _walk(frames: int, count: int, seed: int = 0) -> np.ndarray:
    """Smooth motion."""
    steps = np.random.default_rng(seed).normal(size=(frames, count))
    return np.cumsum(np.apply_along_axis(lambda s: np.convolve(s, np.ones(5) / 5, "same"), 0, steps), 0) * 4


def _form(count: int, step: int, slope: int = 64) -> MotionFormat:
    return MotionFormat(np.stack([np.full(count, 36), np.full(count, 28)]), np.full(count, step), slope)


@pytest.mark.parametrize("slope", [0, 64, 256])
def test_receiver_holds_what_the_sender_holds(slope):
    motion, form = _walk(60, 6), _form(6, 4, slope)
    sender, receiver, writer = MotionWriter(form), MotionReader(form), Writer()
    held = []
    for i, vector in enumerate(motion):
        if i == 30:
            sender.refresh()
        held.append(sender.put(writer, vector))
    reader = Reader(writer.finish())
    for i, vector in enumerate(held):
        if i == 30:
            receiver.refresh()
        np.testing.assert_array_equal(receiver.get(reader), vector)


def test_errors_stay_within_the_quantiser():
    form = _form(6, 4)
    motion = _walk(200, 6)
    for zone in (0.0, 0.25):
        sender = MotionWriter(form, zone)
        held = np.stack([sender.put(Writer(), vector) for vector in motion])
        assert np.abs(held - motion).max() <= step_of(4) * (0.5 + zone) + 1e-4
        assert np.abs(held - motion).mean() < step_of(4) * (0.3 + zone / 4)


def test_prediction_saves_bytes_on_smooth_motion():
    time = np.arange(300)[:, None] / 25
    motion = 60 * np.sin(time * np.array([1.0, 2.0, 3.0, 0.7]))
    size = {}
    for slope in (0, 256):
        sender, writer = MotionWriter(_form(4, 2, slope), 0.0), Writer()
        for vector in motion:
            sender.put(writer, vector)
        size[slope] = len(writer.finish())
    assert size[256] < 0.8 * size[0]


def test_coarser_steps_cost_less_and_err_more():
    motion = _walk(200, 6)
    sizes, errors = [], []
    for step in (0, 8, 16):
        form = _form(6, step)
        sender, writer = MotionWriter(form), Writer()
        held = np.stack([sender.put(writer, vector) for vector in motion])
        sizes.append(len(writer.finish()))
        errors.append(np.abs(held - motion).mean())
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)


def test_impossible_numbers_are_cut_off():
    sender = MotionWriter(_form(2, 0))
    assert np.abs(sender.put(Writer(), np.array([1e30, -1e30]))).max() == 1 << 18


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """A face that the components know, turned into one they do not quite."""
    space = mesh.shipped()
    about = np.random.default_rng(0).normal(size=mesh.FACES) * np.linspace(60, 2, mesh.FACES)
    points = space.mean + (about @ space.faces / mesh.weights().reshape(-1)).reshape(-1, 3)
    return (points + np.random.default_rng(1).normal(size=points.shape)).astype(np.float32)


def test_components_are_orthonormal_and_named_by_what_they_are():
    space = mesh.shipped()
    np.testing.assert_allclose(space.motion @ space.motion.T, np.eye(mesh.MOTIONS), atol=2e-3)
    np.testing.assert_allclose(space.faces @ space.faces.T, np.eye(mesh.FACES), atol=2e-3)
    assert space.identity == mesh.load().identity
    other = mesh.MeshSpace(space.motion * 1.01, space.mean, space.faces, space.levels)
    assert other.identity != space.identity


def test_motion_within_the_space_comes_back(face):
    space = mesh.shipped()
    motion = np.random.default_rng(2).normal(size=(3, 20)) * 20
    moved = space.moved(face, motion)
    np.testing.assert_allclose(space.motion_of(moved, face, 20), motion, atol=0.3)
    assert np.abs(space.moved(face, np.zeros((1, 20)))[0] - face).max() == 0


def test_a_face_costs_some_hundred_bytes_and_is_right_to_half_a_pixel(face):
    part = MeshPart(32, mesh.shipped())
    space = Space((part,))
    data = space.put_pivot(Pose(face))
    again = space.get_pivot(data).mesh
    assert np.abs(again - face)[:, :2].max() <= 0.51
    assert np.abs(again - face)[:, 2].max() <= 2.01
    assert len(data) < 700


@pytest.mark.parametrize("kind", [KEYPOINTS, KEYPOINTS_WITH_JACOBIANS])
def test_learned_keypoints_go_through(kind, face):
    random = np.random.default_rng(3)
    jacobian = random.normal(size=(10, 2, 2)).astype(np.float32) if kind == KEYPOINTS_WITH_JACOBIANS else None
    pose = Pose(face, random.uniform(-1, 1, (10, 2)).astype(np.float32), jacobian)
    space = Space((MeshPart(8, mesh.shipped()), KeypointPart(20 if jacobian is None else 60, kind)))
    pivot = space.get_pivot(space.put_pivot(pose))
    np.testing.assert_allclose(pivot.value, pose.value, atol=0.5 / 8 / 128 + 1e-6)
    keypoints = space.keypoints(pivot, space.vector(pose, pivot)[None])
    np.testing.assert_allclose(keypoints.value[0], pose.value, atol=1e-5)
    if jacobian is not None:
        np.testing.assert_allclose(keypoints.jacobian[0], jacobian, atol=1e-5)
    assert keypoints.rotation.shape == (1, 3, 3)


def test_spaces_that_do_not_exist_are_refused():
    for kinds, counts in (((1,), (49,)), ((1,), (0,)), ((2,), (3,)), ((3,), (20,)), ((9,), (4,))):
        with pytest.raises(ConfigError, match="no motion of kind"):
            space_from(kinds, counts)
    assert space_from((1, 3), (24, 60)).counts == (24, 60)


def test_a_file_of_other_numbers_is_refused(tmp_path):
    (tmp_path / "broken.npz").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="does not hold"):
        mesh.load(tmp_path / "broken.npz")
    space = mesh.shipped()
    mesh.MeshSpace(space.motion[:3], space.mean, space.faces, space.levels).save(tmp_path / "few.npz")
    with pytest.raises(CheckpointError, match="other sizes"):
        mesh.load(tmp_path / "few.npz")
