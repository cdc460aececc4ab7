"""face-vid2vid trained with the face mesh: generators driven by it, detectors by themselves."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.errors import ConfigError
from avfr_jax.faces.mesh_head import mesh_head, turned_landmarks
from avfr_jax.landmarks import HEAD_KEYPOINTS, RIGID, canonical_face
from avfr_jax.models import face_vid2vid
from avfr_jax.models.dense_motion_3d import VolumeMotion
from avfr_jax.models.head_pose import HeadPoseConfig, HeadPoseEstimator
from avfr_jax.motion import HeadMotion
from avfr_jax.ops.rotations import euler_to_matrix
from avfr_jax.training.composed import ComposedObjective
from avfr_jax.training.forward import Forward, TurnedSources
from avfr_jax.training.head_terms import Deformation, MeshKeypoints
from avfr_jax.training.objectives.face_vid2vid import TASK, _for_generator
from avfr_jax.training.terms import MeshFlow, PyramidL1, TurnedFlow, TurnedShare
from tests.training.networks import FACE_VID2VID

CONFIG = dataclasses.replace(FACE_VID2VID, keypoint_dropout=0.0)


def _meshes():
    """Landmarks of three turned heads as source and driving frames; the last driving frame has no face."""
    angles = jnp.asarray([[10.0, 0, 0], [0, 8, 0], [-20, 5, 3]])
    turned = jnp.einsum("nij,kj->nki", euler_to_matrix(*angles.T), jnp.asarray(canonical_face()))
    turned = 0.1 * turned
    driving = (turned[::-1] + jnp.asarray([0.1, -0.05, 0])).at[2].set(jnp.nan)
    return turned, driving


def _heads(seed):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=(3, *shape)), jnp.float32)  # noqa: E731
    return HeadMotion(draw(4, 3), euler_to_matrix(*draw(3).T), draw(3), draw(4, 3))


def test_the_meshes_drive_the_chosen_pairs_with_a_face():
    points = HEAD_KEYPOINTS[:4]
    meshes = tuple(mesh_head(x, points) for x in _meshes())
    own = _heads(0), _heads(1)
    given = _for_generator(own, meshes, {"mesh_driven": jnp.asarray([True, False, True])})
    for before, mesh, after in zip(own, meshes, given, strict=True):
        # Up to the depth, which is scaled, so that turned heads are not quite rigid.
        np.testing.assert_allclose(after.positions[0, :, :2], mesh.positions[0, :, :2], atol=0.02)
        np.testing.assert_array_equal(after.positions[1:], before.positions[1:])
    np.testing.assert_array_equal(given[0].canonical[0], given[1].canonical[0])  # the source's


def test_a_share_of_pairs_is_drawn():
    config = dataclasses.replace(CONFIG, mesh_driven=0.5)
    drawn = TASK.sample(config, jax.random.key(0), 1000)["mesh_driven"]
    assert 400 < int(drawn.sum()) < 600
    assert "mesh_driven" not in TASK.sample(CONFIG, jax.random.key(0), 2)
    with pytest.raises(ConfigError, match="from 0 to 1"):
        dataclasses.replace(CONFIG, mesh_driven=1.5)
    with pytest.raises(ConfigError, match="composed"):
        dataclasses.replace(CONFIG, mesh_driven=0.5, keypoints="direct")


def _gradients(terms, config=CONFIG):
    objective = ComposedObjective(TASK, config, terms)
    rng = np.random.default_rng(0)
    source, driving = _meshes()
    frames = {name: jnp.asarray(rng.random((3, 32, 32, 3)), jnp.float32) for name in ("source", "driving")}
    batch = {**frames, "source_landmarks": source, "driving_landmarks": driving}
    variables = objective.init(jax.random.key(0))
    run = jax.jit(lambda v, b: objective.gradients(v, objective.frozen, b, objective.sample(jax.random.key(1), 3)))
    compiled = run.lower(variables, batch).compile()
    return compiled(variables, batch), compiled.cost_analysis()["flops"]


def test_detectors_are_trained_without_the_generator():
    alone, cost = _gradients((MeshKeypoints(10.0), Deformation(0.1)))
    _, whole = _gradients((MeshKeypoints(10.0), Deformation(0.1), PyramidL1(1.0)))
    assert cost < 0.6 * whole
    assert "generator" not in alone.collections
    largest = {name: max(float(jnp.abs(x).max()) for x in jax.tree.leaves(tree)) for name, tree in alone.grads.items()}
    assert largest["generator"] == 0
    assert min(largest["head_pose"], largest["keypoint_detector"]) > 0


def test_positions_tell_the_estimator_where_a_pattern_is():
    frames = np.zeros((2, 128, 128, 3), np.float32)
    frames[0, 32:64, 32:64] = 1
    frames[1, 64:96, 64:96] = 1
    moved = {}
    for positions in (False, True):
        config = HeadPoseConfig(block_expansion=8, max_features=16, stage_blocks=(1, 1), positions=positions)
        network = HeadPoseEstimator(config, 2)
        variables = network.init(jax.random.key(0), frames)
        translation = network.apply(variables, frames, train=True, mutable=["batch_stats"])[0].translation
        moved[positions] = float(jnp.abs(translation[0] - translation[1]).max())
    assert moved[False] < 1e-5 < 1e-3 < moved[True]


def test_heads_of_the_mesh_compose_to_its_points():
    points = HEAD_KEYPOINTS
    mesh = mesh_head(_meshes()[0], points)
    heads = mesh.motion()
    np.testing.assert_allclose(heads.positions, mesh.positions, atol=1e-5)
    rigid = np.isin(points, RIGID)
    assert float(jnp.abs(heads.expression[:, rigid]).max()) < 1e-5
    # The average face turned has no expression: its other points are canonical too.
    assert float(jnp.abs(heads.expression).max()) < 0.1
    np.testing.assert_allclose(heads.canonical[0], heads.canonical[1], atol=0.05)


def test_a_generator_of_the_mesh_alone():
    config = dataclasses.replace(CONFIG, keypoints="mesh")
    assert set(face_vid2vid.init(config, jax.random.key(0))) == {"generator", "discriminator"}
    assert TASK.networks(config) == ("generator",)
    gradients, _ = _gradients((PyramidL1(1.0),), config)
    assert set(gradients.grads) == {"generator"}
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(gradients.grads))
    with pytest.raises(ConfigError, match="20 keypoints, not 21"):
        dataclasses.replace(config, num_keypoints=21)


def test_mesh_flow_is_the_landmarks_displacement():
    driving = _meshes()[1]
    moved = driving - jnp.asarray([0.2, -0.1, 0])
    batch = {"source_landmarks": moved, "driving_landmarks": driving}

    def loss(flow):
        motion = VolumeMotion(None, None, None, flow)
        return MeshFlow(1.0)(Forward(None, None, {}, batch, outputs={"motion": motion}), {})

    right = jnp.broadcast_to(jnp.asarray([-0.2, 0.1]), (3, 8, 8, 2))
    np.testing.assert_allclose(loss(right), 0, atol=1e-6)
    np.testing.assert_allclose(loss(jnp.zeros((3, 8, 8, 2))), 2 / 3 * 0.15, atol=1e-5)  # one of three has no face
    assert bool(jnp.isfinite(jax.grad(loss)(right + 0.1)).all())


def test_landmarks_of_turned_heads():
    face = 0.1 * jnp.asarray(canonical_face())
    landmarks = jnp.stack([face, face, face + jnp.asarray([0.8, 0, 0]), face * jnp.nan])
    angles = jnp.asarray([0.0, 40, 40, 40])
    turned = np.asarray(turned_landmarks(landmarks, euler_to_matrix(angles, 0 * angles, 0 * angles)))
    seen = np.isfinite(turned).all(-1)
    assert seen[0].mean() > 0.9
    assert not seen[3].any()
    np.testing.assert_allclose(turned[0][seen[0]], face[seen[0], :2], atol=1e-5)
    nose, cheeks = 1, [234, 454]
    assert seen[1, nose]
    assert seen[1, cheeks].sum() == 1  # one cheek is behind the head now
    # The whole head moves with its centre, and what leaves the frame is left out.
    assert seen[2].sum() < seen[1].sum()
    both = seen[1] & seen[2]
    np.testing.assert_allclose(turned[2][both] - turned[1][both], [[0.8, 0]] * both.sum(), atol=1e-5)
    # Points near the camera move one way, points behind the centre the other.
    depth = canonical_face()[:, 2] - canonical_face()[list(RIGID), 2].mean()
    shift = turned[1][seen[1], 0] - np.cos(np.radians(40)) * face[seen[1], 0]
    np.testing.assert_array_equal(
        np.sign(shift[np.abs(shift) > 0.02]),
        np.sign(shift[0] * depth[0]) * np.sign(depth[seen[1]][np.abs(shift) > 0.02]),
    )


def test_turned_flow_is_met_by_the_rigid_turn_alone():
    landmarks = _meshes()[0]
    rotation = euler_to_matrix(*jnp.asarray([[30.0, -30, 0], [0, 0, 10], [0, 0, 0]]))
    turned = turned_landmarks(landmarks, rotation)

    def loss(flow):
        motion = VolumeMotion(None, None, None, flow)
        outputs = {"turned": TurnedSources(turned, motion)}
        return TurnedFlow(1.0)(Forward(None, None, {}, {"source_landmarks": landmarks}, outputs=outputs), {})

    still = loss(jnp.zeros((3, 8, 8, 2)))
    np.testing.assert_allclose(still, jnp.nan_to_num(jnp.abs(landmarks[..., :2] - turned)).mean(), rtol=1e-5)
    assert bool(jnp.isfinite(jax.grad(loss)(jnp.full((3, 8, 8, 2), 0.1))).all())


def test_sources_are_turned_beside_the_pairs():
    config = dataclasses.replace(CONFIG, keypoints="mesh", turned=40.0, keypoint_dropout=0.5)
    terms = (PyramidL1(1.0), TurnedFlow(20.0))
    gradients, cost = _gradients(terms, config)
    assert float(gradients.metrics["loss/turned_flow"]) > 0
    moved = jax.tree.map(jnp.abs, gradients.grads["generator"]["dense_motion"])
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(moved))
    pairs, alone = _gradients(terms[:1], config)
    assert cost > alone  # without the term sources are not turned
    np.testing.assert_allclose(gradients.metrics["l1"], pairs.metrics["l1"], rtol=0.2)
    painted = dataclasses.replace(config, generator=dataclasses.replace(config.generator, source_skip=False))
    with pytest.raises(ConfigError, match="turned_share reads turned_share"):
        _gradients((*terms, TurnedShare(1.0)), painted)
    with pytest.raises(ConfigError, match="turned_flow reads turned"):
        _gradients(terms, dataclasses.replace(config, turned=0.0))
    with pytest.raises(ConfigError, match="from 0 to 60"):
        dataclasses.replace(config, turned=61.0)
    with pytest.raises(ConfigError, match="no pose"):
        dataclasses.replace(CONFIG, turned=10.0, keypoints="direct")


def test_the_share_of_turned_sources_is_learned_from_their_frames():
    generator = dataclasses.replace(CONFIG.generator, source_skip=True)
    config = dataclasses.replace(CONFIG, keypoints="mesh", turned=40.0, generator=generator)
    gradients, cost = _gradients((TurnedFlow(20.0), TurnedShare(1.0)), config)
    # The share starts out with nine tenths, of the landmarks in view.
    assert 0.02 < float(gradients.metrics["loss/turned_share"]) < 0.12
    assert float(jnp.abs(gradients.grads["generator"]["painter"]["share"]["kernel"]).max()) > 0
    without, less = _gradients((TurnedFlow(20.0),), config)
    assert float(jnp.abs(without.grads["generator"]["painter"]["share"]["kernel"]).max()) == 0
    assert cost > less
    rotation = jnp.broadcast_to(jnp.eye(3), (3, 3, 3))
    landmarks = turned_landmarks(_meshes()[1], rotation)  # the last has no face
    whole = Forward(None, None, {}, outputs={"turned": TurnedSources(landmarks, None, jnp.ones((3, 8, 8, 1)))})
    np.testing.assert_allclose(TurnedShare()(whole, {}), 0, atol=1e-6)
