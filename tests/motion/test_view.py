"""Head poses asked for: signs, relative and absolute, limits; for every motion that knows a head pose."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.errors import ConfigError
from avfr_jax.faces.pose import rotation_from_angles
from avfr_jax.landmarks import canonical_face
from avfr_jax.motion import (
    FaceMesh,
    FaceMeshSpec,
    HeadMotion,
    HeadSpec,
    Keypoints,
    KeypointSpec,
    MeshKeypoints,
    MeshKeypointSpec,
    Orbit,
    View,
)
from avfr_jax.motion.face_mesh import skull_centre
from avfr_jax.motion.turner import Turner
from avfr_jax.motion.view import angles_of, rotation_of

FRAMES = 4
ANGLES = np.linspace(-6, 6, FRAMES, dtype=np.float32)  # of the driver
NOSE, RIGHT_EAR, LEFT_EAR, CHIN, FOREHEAD = 1, 127, 356, 152, 10


def _meshes(angles):
    angles = np.asarray(angles, np.float32)
    shape = np.tile(FaceMesh.from_landmarks(canonical_face()[None]).shape, (len(angles), 1, 1))
    turned = rotation_of(np.stack([angles, 0.5 * angles, -0.3 * angles], 1))
    shift = np.stack([0.004 * angles, 0.1 + 0 * angles, np.log(0.3) + 0.002 * angles], 1).astype(np.float32)
    return FaceMesh.from_pose(turned, jnp.asarray(shift), jnp.asarray(shape))


def _mesh_keypoints(angles):
    points = np.random.default_rng(0).uniform(-0.2, 0.2, (1, 5, 2)) + np.asarray(angles)[:, None, None] * 0.004
    jacobian = np.tile(np.eye(2), (len(angles), 5, 1, 1))
    return MeshKeypoints(
        Keypoints(jnp.asarray(points, jnp.float32), jnp.asarray(jacobian, jnp.float32)), _meshes(angles)
    )


def _heads(angles):
    angles, rng = np.asarray(angles, np.float32), np.random.default_rng(1)
    canonical = np.tile(canonical_face()[None, [NOSE, RIGHT_EAR, LEFT_EAR, CHIN, FOREHEAD]] / 20, (len(angles), 1, 1))
    shift = np.stack([0.004 * angles, 0 * angles, 0 * angles], 1)
    expression = np.tile(0.02 * rng.standard_normal((1, 5, 3)), (len(angles), 1, 1))
    turned = rotation_of(np.stack([angles, 0.5 * angles, -0.3 * angles], 1))
    return HeadMotion(*(jnp.asarray(x, jnp.float32) for x in (canonical, turned, shift, expression)))


KINDS = {
    "mesh": (FaceMeshSpec(), _meshes),
    "mesh-keypoints": (MeshKeypointSpec(5), _mesh_keypoints),
    "heads": (HeadSpec(5), _heads),
}


@pytest.fixture(params=KINDS)
def kind(request):
    """Specification, motion of the source, motion of the driver."""
    spec, motion = KINDS[request.param]
    return spec, motion([2.0]), motion(ANGLES)


def _turn(kind, view, moved=None, **options):
    spec, source, driver = kind
    moved = driver if moved is None else moved
    change = view.change(range(FRAMES))
    return spec.turn(source, moved, change, absolute=view.mode == "absolute", **options)


def _close(a, b, atol=2e-5):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, atol=atol)


def _angles(spec, motion):
    return np.asarray(angles_of(spec.head_rotation(motion)))


def test_a_rotation_by_nothing_changes_nothing(kind):
    _close(_turn(kind, View((0.0, 0.0, 0.0), (0.0, 0.0, 1.0))).motion.positions, kind[2].positions)
    assert not _turn(kind, View((0.0, 0.0, 0.0))).limited.any()


def test_absolute_takes_exactly_the_pose_whatever_the_drivers(kind):
    view = View((12.0, -8.0, 5.0), (0.1, 0.0, 1.2), "absolute")
    turned = _turn(kind, view).motion
    np.testing.assert_allclose(_angles(kind[0], turned), np.tile(view.rotate, (FRAMES, 1)), atol=1e-3)
    still = kind[0].turn(kind[1], kind[1], view.change([0]), absolute=True).motion  # of a driver who is the source
    heads, head = (motion.mesh if hasattr(motion, "mesh") else motion for motion in (turned, still))
    np.testing.assert_allclose(heads.positions, np.tile(head.positions, (FRAMES, 1, 1)), atol=1e-4)


def test_relative_reaches_the_pose_that_absolute_asks_for(kind):
    """Frame by frame: the absolute pose, then the relative rotation that leads there from the driver's."""
    spec, _, driver = kind
    absolute = _turn(kind, View((9.0, 6.0, -4.0), None, "absolute")).motion
    back = spec.head_rotation(absolute) @ jnp.swapaxes(spec.head_rotation(driver), 1, 2)
    change = View((0.0, 0.0, 0.0)).change(range(FRAMES))._replace(rotation=back)
    relative = spec.turn(kind[1], driver, change).motion
    _close(relative, absolute, 1e-4)


def test_relative_after_absolute_is_absolute_by_the_sum(kind):
    """About one axis the angles add up, and so do places."""
    first = _turn(kind, View((5.0, 0.0, 0.0), (0.1, 0.0, 1.0), "absolute")).motion
    then = _turn(kind, View((6.0, 0.0, 0.0), (0.05, -0.1, 1.1)), first).motion
    at_once = _turn(kind, View((11.0, 0.0, 0.0), (0.15, -0.1, 1.1), "absolute")).motion
    _close(then, at_once, 1e-4)


def test_signs_are_those_that_the_viewer_sees():
    """Positive yaw takes the nose to the image's right, pitch up, roll turns clockwise; for the mesh and for heads."""
    for spec, motion, points in ((*KINDS["mesh"], (NOSE, RIGHT_EAR, LEFT_EAR)), (*KINDS["heads"], (0, 1, 2))):
        front = motion([0.0])
        nose, right, left = points

        def moved(rotate, spec=spec, front=front):
            turned = spec.turn(front, front, View(rotate).change([0])).motion
            return np.asarray(turned.positions - front.positions)[0]

        assert moved((15.0, 0.0, 0.0))[nose, 0] > 0.02
        assert moved((0.0, 15.0, 0.0))[nose, 1] < -0.02  # y grows downwards
        assert moved((0.0, 0.0, 15.0))[left, 1] > 0.02 > -0.02 > moved((0.0, 0.0, 15.0))[right, 1]
    asked = (20.0, -10.0, 5.0)
    np.testing.assert_allclose(rotation_of(np.array([asked], np.float32))[0], rotation_from_angles(*asked), atol=1e-6)
    np.testing.assert_allclose(angles_of(rotation_of(np.array([asked, (120.0, 10, 5)])))[:, 0], (20, 120), atol=1e-3)


def test_the_mesh_turns_about_the_centre_of_the_skull():
    spec, mesh = FaceMeshSpec(), _meshes(ANGLES)
    turned = spec.turn(mesh[0], mesh, View((15.0, 10.0, 5.0), (0.1, 0.05, 1.5)).change(range(FRAMES))).motion
    np.testing.assert_allclose(skull_centre(turned), skull_centre(mesh) + np.array([0.1, 0.05]), atol=1e-5)
    np.testing.assert_allclose(np.exp(turned.translation[:, 2] - mesh.translation[:, 2]), 1.5, rtol=1e-5)
    np.testing.assert_array_equal(turned.shape, mesh.shape)
    again = FaceMesh.from_landmarks(turned.landmarks)  # as seen, not as stated
    np.testing.assert_allclose(again.rotation, turned.rotation, atol=1e-3)


def test_a_scaled_head_keeps_the_canonical_keypoints_of_the_source():
    """Models replace them by the source's."""
    spec, heads = KINDS["heads"][0], _heads(ANGLES)
    turned = spec.turn(heads[0], heads, View((15.0, 0.0, 0.0), (0.1, 0.05, 1.5)).change([0])).motion
    np.testing.assert_array_equal(turned.canonical, heads.canonical)
    turn = rotation_from_angles(15.0, 0.0, 0.0)
    around = np.asarray(heads.positions - heads.expression - heads.translation[:, None]) @ turn.T
    place = np.asarray(heads.translation)[:, None] + np.array([0.1, 0.05, 0])
    np.testing.assert_allclose(turned.positions, 1.5 * (around + np.asarray(heads.expression)) + place, atol=1e-5)


def test_learned_keypoints_follow_the_head_and_shoulders_stay():
    mesh = _meshes([0.0])
    centre, size = np.asarray(skull_centre(mesh))[0], float(np.exp(mesh.translation[0, 2]))
    places = np.stack([centre + size * np.array(offset) for offset in ((0, -1.2), (1.0, 0), (0, 3.0))])
    jacobian = np.tile(np.array([[1.2, 0.1], [0, 0.9]]), (1, 3, 1, 1))
    motion = MeshKeypoints(Keypoints(jnp.asarray(places[None], jnp.float32), jnp.asarray(jacobian, jnp.float32)), mesh)
    roll = MeshKeypointSpec(3).turn(motion, motion, View((0.0, 0.0, 20.0)).change([0])).motion.learned
    turn = rotation_from_angles(0.0, 0.0, 20.0)[:2, :2]
    np.testing.assert_allclose(roll.value[0, :2], (places[:2] - centre) @ turn.T + centre, atol=1e-5)
    np.testing.assert_allclose(roll.jacobian[0, :2], turn @ jacobian[0, :2], atol=1e-5)
    np.testing.assert_allclose(roll.value[0, 2], places[2], atol=1e-6)
    np.testing.assert_allclose(roll.jacobian[0, 2], jacobian[0, 2], atol=1e-6)


def test_a_mesh_is_turned_by_twenty_degrees_from_the_picture_and_a_head_by_sixty():
    for name, limit in (("mesh", 20), ("heads", 60)):
        spec, motion = KINDS[name]
        source = motion([10.0])
        far = View((55.0 if name == "mesh" else -55.0, 0.0, 0.0), None, "absolute")
        turned, limited = spec.turn(source, motion(ANGLES), far.change(range(FRAMES)), absolute=True)
        assert limited.all()
        away = angles_of(turned.rotation @ jnp.swapaxes(source.rotation, 1, 2))
        np.testing.assert_allclose(np.abs(away[:, 0]), limit, atol=1e-2)
        free, limited = spec.turn(source, motion(ANGLES), far.change([0]), absolute=True, limit=90.0)
        assert not limited.any()
        np.testing.assert_allclose(_angles(spec, free)[:, 0], far.rotate[0], atol=1e-2)


def test_the_limit_leaves_the_drivers_own_motion():
    """A driver who turns further than the limit does so as without a view, and a view adds nothing to that side."""
    spec, source, driver = FaceMeshSpec(), _meshes([0.0]), _meshes([0.0, 15.0, 19.0, 28.0])
    turned, limited = spec.turn(source, driver, View((10.0, 0.0, 0.0)).change([0]))
    before, after = _angles(spec, driver)[:, 0], _angles(spec, turned)[:, 0]
    np.testing.assert_allclose(after, np.maximum(np.minimum(before + 10, 20), before), atol=0.3)
    assert list(np.asarray(limited)) == [False, True, True, True]


def test_a_turner_clamps_and_says_so_once():
    spec, source, driver = FaceMeshSpec(), _meshes([0.0]), _meshes(ANGLES)
    for view, word in (
        (View((35.0, 0.0, 0.0)), "clamped to 20°"),
        (View((80.0, 0.0, 0.0), None, "absolute"), "clamped to 60°"),
        (View((30.0, 0.0, 0.0), None, "absolute"), "up to 20°"),
        (View((19.0, 0.0, 0.0)), "up to 20°"),
    ):
        said = []
        turner = Turner(spec, view, "landmark-warp", said.append)
        for _ in range(2):
            turned = turner(source, driver, range(FRAMES))
        assert len(said) == 1
        assert word in said[0]
        assert _angles(spec, turned)[:, 0].max() < 20.1
    said = []
    Turner(spec, View((5.0, 5.0, 0.0)), "landmark-warp", said.append)(source, driver, range(FRAMES))
    assert not said


def test_an_orbit_goes_to_both_sides_and_back():
    orbit = Orbit(degrees=30.0, frames=40)
    yaw = orbit.angles(range(41))[:, 0]
    np.testing.assert_allclose(yaw[[0, 10, 20, 30, 40]], [0, 30, 0, -30, 0], atol=1e-4)
    assert np.abs(np.diff(yaw)).max() < 5
    assert np.abs(orbit.within(20.0).angles(range(41))).max() == pytest.approx(20)


def test_what_makes_no_view():
    for numbers in ((1.0, 2.0), (np.nan, 0.0, 0.0), "abc", 5.0):
        with pytest.raises(ConfigError, match="three numbers"):
            View(numbers)
    for numbers, word in (((0.0, 0.0, 0.0), "scales"), ((3.0, 0.0, 1.0), "half frames")):
        with pytest.raises(ConfigError, match=word):
            View(None, numbers)
    with pytest.raises(ConfigError, match="relative or absolute"):
        View((0.0, 0.0, 0.0), None, "sideways")
    with pytest.raises(ConfigError, match="two frames"):
        Orbit(frames=1)
    for spec in (KeypointSpec(10), HeadSpec(5, turns=False)):
        with pytest.raises(ConfigError, match="fomm cannot turn a head"):
            Turner(spec, View(), "fomm", print)
        with pytest.raises(ValueError, match="no head pose"):
            spec.head_rotation(None)
        with pytest.raises(ValueError, match="no head pose"):
            spec.turn(None, None, View((0.0, 0.0, 0.0)).change([0]))
