"""Loss terms of face-vid2vid's heads against closed forms and known heads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax import losses
from avfr_jax.backbones.hopenet import PoseNetwork
from avfr_jax.landmarks import HEAD_KEYPOINTS
from avfr_jax.motion import HeadMotion, Keypoints
from avfr_jax.ops.rotations import euler_to_matrix
from avfr_jax.training.forward import Forward, Heads
from avfr_jax.training.head_terms import (
    Deformation,
    HeadPose,
    KeypointPrior,
    MeshCanonical,
    MeshKeypoints,
    MeshTranslation,
)
from avfr_jax.training.terms import FACE_VID2VID_TERMS, FacePerceptual

ANGLES = np.array([[20.0, -10.0, 5.0], [-30.0, 12.0, -8.0], [0.0, 0.0, 0.0]], np.float32)  # yaw, pitch, roll


def _landmarks():
    """Normalised landmarks of average faces turned by `ANGLES`, seen by `faces.mesh_head`'s camera; the last one has no
    face."""
    from avfr_jax.faces.mesh_head import FOCAL
    from avfr_jax.landmarks import canonical_face

    turns = np.asarray(euler_to_matrix(*ANGLES.T))
    points = np.einsum("nij,kj->nki", turns, canonical_face()) + np.array([1.5, -2.0, 100.0])
    z, lens = points[..., 2:], 2 * FOCAL
    seen = np.concatenate([lens * points[..., :2] / z, lens * (z - 100) / 100], -1).astype(np.float32)
    seen[2] = np.nan
    return seen


def _heads(count=20):
    """Heads that are off from the meshes' by known amounts."""
    from avfr_jax.faces.mesh_head import mesh_head

    mesh = jax.jit(mesh_head, static_argnums=1)(_landmarks(), HEAD_KEYPOINTS[:count])
    known = jax.tree.map(jnp.nan_to_num, mesh)
    head = HeadMotion(known.canonical + 0.1, known.rotation, known.translation - 0.2, 0.01 * known.positions)
    off = known.positions + jnp.asarray([0.3, 0.0, 0.0])
    angles = jnp.asarray(ANGLES) + jnp.asarray([1.0, -2.0, 3.0])
    return Forward(
        None,
        None,
        {},
        {},
        Keypoints(off),
        Keypoints(off),
        outputs={"heads": Heads((head, head), (angles, angles), (mesh, mesh))},
    )


@pytest.fixture(scope="module")
def forward():
    return _heads()


def test_mesh_rotations_are_those_of_the_solver():
    from avfr_jax.faces.mesh_head import FOCAL, mesh_rotations
    from avfr_jax.faces.pose import head_pose
    from avfr_jax.landmarks import landmarks_to_pixels

    seen = _landmarks()
    rotations = np.asarray(mesh_rotations(seen))
    np.testing.assert_allclose(rotations[:2], euler_to_matrix(*ANGLES[:2].T), atol=1e-4)
    for i in range(2):
        solved = head_pose(landmarks_to_pixels(seen[i], 256), 256, 256, FOCAL).rotation
        np.testing.assert_allclose(rotations[i], solved, atol=1e-4)
    assert np.isnan(rotations[2]).all()


def test_terms_of_the_mesh(forward):
    """Two of three frames have a face."""
    pose = HeadPose(target="mesh")
    assert pose.READS == ("heads", "landmarks")
    terms = {
        "mesh_keypoints": (MeshKeypoints(), 0.3 / 3),
        "mesh_canonical": (MeshCanonical(), 0.1),
        "mesh_translation": (MeshTranslation(), 0.2),
        "driving": (pose, 1 + 2 + 3),
        "both": (HeadPose(target="mesh", frames="both"), 1 + 2 + 3),
    }
    frozen = {"head_pose": pose.load()}
    values = jax.jit(lambda forward: {name: term(forward, frozen) for name, (term, _) in terms.items()})(forward)
    for name, (_, wanted) in terms.items():
        np.testing.assert_allclose(values[name], 2 / 3 * wanted, rtol=1e-3, err_msg=name)


def test_head_pose_with_hopenet(monkeypatch, tmp_path, forward):
    monkeypatch.setenv("AVFR_HOME", str(tmp_path))
    assert "avfr import hopenet hopenet_robust_alpha1.pkl" in HeadPose().load().description
    assert HeadPose(target="hopenet").READS == ("heads",)
    monkeypatch.setattr(PoseNetwork, "__call__", lambda self, images: images[:, 0, 0] + jnp.asarray([0.0, 1.0, 0.0]))
    batch = {"driving": jnp.asarray(ANGLES)[:, None, None] * jnp.asarray([1, -1, 1])}
    network = {"head_pose": PoseNetwork({})}
    upwards = forward._replace(batch=batch)
    assert HeadPose(target="hopenet")(upwards, network) == pytest.approx(1 + abs(-2 + 1) + 3, rel=1e-4)
    downwards = forward._replace(batch={"driving": jnp.asarray(ANGLES)[:, None, None]})
    assert HeadPose(as_published=True)(downwards, network) == pytest.approx(1 + abs(-2 - 1) + 3, rel=1e-4)


def test_frames_without_a_face_have_finite_gradients(forward):
    def total(value):
        moved = forward._replace(driving=Keypoints(value), source=Keypoints(value))
        return MeshKeypoints()(moved, {}) + KeypointPrior()(moved, {})

    assert np.isfinite(jax.jit(jax.grad(total))(forward.driving.value)).all()


def test_keypoint_prior():
    """Pairs of 0.2 and 0.5 apart, mean depth 0.5."""
    value = jnp.asarray([[[0.0, 0.0, 0.5], [0.2, 0.0, 0.5], [0.5, 0.0, 0.5]]])
    pairs = 3 * 0.1 + 2 * (0.1 - 0.2**2) + 2 * (0.1 - 0.3**2)
    np.testing.assert_allclose(losses.keypoint_prior(value), pairs + 0.5 - 0.33, rtol=1e-4)
    forward = Forward(None, None, {}, driving=Keypoints(value))
    np.testing.assert_allclose(KeypointPrior(least=0.0, depth=-0.5)(forward, {}), 1.0, rtol=1e-4)


def test_deformation(forward):
    expected = np.abs(forward.outputs["heads"].motion[1].expression).sum() / 3
    np.testing.assert_allclose(Deformation()(forward, {}), expected, rtol=1e-5)


def test_a_face_network_that_is_absent_is_left_out(monkeypatch, tmp_path):
    monkeypatch.setenv("AVFR_HOME", str(tmp_path))
    term = FacePerceptual()
    network = term.load()
    assert network.description.startswith("losses.face_perceptual is left out. The weights of face-vgg are not in ")
    assert "avfr import face-vgg vgg_face_dag.pth" in network.description
    images = jnp.zeros((1, 8, 8, 3))
    assert term(Forward(images, images, {}), {"face_perceptual": network}) == 0


def test_the_papers_weights():
    weights = {term.NAME: term.weight for term in FACE_VID2VID_TERMS}
    assert weights == {
        "perceptual": 10, "face_perceptual": 10, "adversarial": 1, "feature_matching": 10,
        "equivariance_value": 20, "keypoint_prior": 10, "head_pose": 20, "deformation": 5,
    }  # fmt: skip
