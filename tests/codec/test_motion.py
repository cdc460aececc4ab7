import numpy as np
import pytest

from avfr_jax.codec import mesh_basis
from avfr_jax.codec.entropy import RANGE_CODER
from avfr_jax.codec.header import PartHeader
from avfr_jax.codec.motion import MotionFormat, MotionWriter
from avfr_jax.codec.motion_space import space_from, space_of, wrapped
from avfr_jax.errors import CheckpointError, ConfigError
from avfr_jax.landmarks import normalise_landmarks
from avfr_jax.motion import FaceMeshSpec, HeadSpec, KeypointSpec, MeshKeypointSpec


def random_walk(frames: int, count: int, seed: int = 0) -> np.ndarray:
    """Smooth motion."""
    steps = np.random.default_rng(seed).normal(size=(frames, count))
    return np.cumsum(np.apply_along_axis(lambda s: np.convolve(s, np.ones(5) / 5, "same"), 0, steps), 0) * 4


def _coded(motion: np.ndarray, step: int, slope: int = 64, dead_zone: float = 0.15) -> tuple[int, float]:
    """Bytes, and mean error."""
    count = motion.shape[1]
    form = MotionFormat(np.stack([np.full(count, 36), np.full(count, 28)]), np.full(count, step), slope)
    encoder, writer = MotionWriter(form, dead_zone), RANGE_CODER.writer()
    held = np.stack([encoder.put(writer, vector) for vector in motion])
    return len(writer.finish()), float(np.abs(held - motion).mean())


def test_prediction_saves_bytes_on_smooth_motion():
    time = np.arange(300)[:, None] / 25
    motion = 60 * np.sin(time * np.array([1.0, 2.0, 3.0, 0.7]))
    assert _coded(motion, 2, 256, 0.0)[0] < 0.8 * _coded(motion, 2, 0, 0.0)[0]


def test_coarser_steps_cost_less_and_err_more():
    sizes, errors = zip(*(_coded(random_walk(200, 6), step) for step in (0, 8, 16)), strict=True)
    assert list(sizes) == sorted(sizes, reverse=True)
    assert list(errors) == sorted(errors)


def test_components_are_orthonormal_and_identified_by_their_numbers():
    space = mesh_basis.shipped()
    np.testing.assert_allclose(space.motion @ space.motion.T, np.eye(mesh_basis.MOTIONS), atol=2e-3)
    np.testing.assert_allclose(space.faces @ space.faces.T, np.eye(mesh_basis.FACES), atol=2e-3)
    assert space.identity == mesh_basis.load().identity
    other = mesh_basis.MeshSpace(space.motion * 1.01, space.mean, space.faces, space.levels)
    assert other.identity != space.identity


def test_motion_within_the_space_is_kept_and_a_face_costs_some_hundred_bytes():
    space, rng = mesh_basis.shipped(), np.random.default_rng(0)
    about = rng.normal(size=mesh_basis.FACES) * np.linspace(60, 2, mesh_basis.FACES)
    face = space.mean + (about @ space.faces / mesh_basis.weights().reshape(-1)).reshape(-1, 3)
    face = (face + rng.normal(size=face.shape)).astype(np.float32)
    motion = rng.normal(size=(3, 20)) * 20
    moved = space.moved(face, motion)
    np.testing.assert_allclose(space.motion_of(moved, face, 20), motion, atol=0.3)
    assert np.abs(space.moved(face, np.zeros((1, 20)))[0] - face).max() == 0
    landmarks = normalise_landmarks(face, 256, 256).astype(np.float32)
    assert len(space_of(FaceMeshSpec()).put_pivot({"mesh": landmarks})) < 700


def test_version_1_kinds_are_kept_and_other_components_are_named():
    def kinds(spec):
        return [(part.kind, part.size, part.name) for part in space_of(spec, 24).headers(0, 0)]

    assert kinds(MeshKeypointSpec(10)) == [(1, 24, ""), (3, 60, "")]
    assert kinds(KeypointSpec(10, False)) == [(2, 20, "")]
    assert kinds(HeadSpec(4)) == [(5, 3, "rotation"), (4, 3, "translation"), (4, 12, "expression")]
    assert kinds(KeypointSpec(2, False, 3)) == [(4, 6, "keypoints")]


def test_angles_move_along_the_shortest_arc():
    space = space_of(HeadSpec(1))
    pivot = {"rotation": np.float32([170, 0, 0]), "translation": np.zeros(3), "expression": np.zeros((1, 3))}
    pose = pivot | {"rotation": np.float32([-170, 0, 0])}
    vector = space.vector(pose, pivot)
    assert vector[0] == 2 * 20  # in half degrees
    assert space.pose_at(pivot, vector)["rotation"][0] == 190
    np.testing.assert_array_equal(wrapped(np.float32([350, 350]), np.float32([360, np.inf])), [-10, 350])


def test_spaces_that_do_not_exist_are_refused():
    for kind, count in ((1, 49), (1, 0), (2, 3), (3, 20), (9, 4), (4, 3)):
        with pytest.raises(ConfigError, match="no motion of kind"):
            space_from([PartHeader(kind, count, 0)])
    for twice in ([PartHeader(2, 4, 0), PartHeader(3, 6, 0)], [PartHeader(4, 4, 0, "x", 1)] * 2):
        with pytest.raises(ConfigError, match="two parts of one kind"):
            space_from(twice)
    with pytest.raises(ConfigError, match="components"):
        space_of(FaceMeshSpec(), components=49)


def test_a_file_of_other_numbers_is_refused(tmp_path):
    (tmp_path / "broken.npz").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="does not hold"):
        mesh_basis.load(tmp_path / "broken.npz")
    space = mesh_basis.shipped()
    mesh_basis.MeshSpace(space.motion[:3], space.mean, space.faces, space.levels).save(tmp_path / "few.npz")
    with pytest.raises(CheckpointError, match="other sizes"):
        mesh_basis.load(tmp_path / "few.npz")
