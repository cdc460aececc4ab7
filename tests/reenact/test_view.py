"""Portraits with a head pose asked for, with and without a driver."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.errors import ConfigError, FaceError
from avfr_jax.landmarks import canonical_face
from avfr_jax.motion import FaceMesh, KeypointSpec, Orbit, View
from avfr_jax.motion.view import rotation_of
from avfr_jax.reenact import Reenactor
from data.synthetic_heads import Renderer, sample_identity, sample_motion, sample_scene
from tests.media_fixtures import astronaut, moved
from tests.reenact.stub import Stub

stubbed = functools.partial(Reenactor, Stub(), crop="none", best_frame="first")


class TurnedStub(Stub):
    """Sees a head turned by `yaw` in every frame."""

    def __init__(self, yaw):
        self.yaw = yaw

    def keypoints(self, frames, priors=None):
        turn = np.asarray(rotation_of(jnp.array([[self.yaw, 0.0, 0.0]])))[0]
        return FaceMesh.from_landmarks(np.tile(canonical_face() / 20 @ turn.T, (len(frames), 1, 1)))


@pytest.fixture(scope="module")
def frames():
    return np.stack([moved(astronaut(), 2 * i) for i in range(6)])


def _levels(reenactor, source, driving):
    """Grey level of each frame: the mean displacement of the mesh."""
    return np.array([frame.mean() for frame in reenactor.reenact(source, driving, None)])


def test_a_rotation_by_nothing_changes_no_frame(frames):
    plain = np.stack(list(stubbed().reenact(frames[0], frames, None)))
    still = np.stack(list(stubbed(view=View((0.0, 0.0, 0.0))).reenact(frames[0], frames, None)))
    np.testing.assert_allclose(still.astype(int), plain, atol=1)


def test_an_absolute_pose_does_not_follow_the_driver(frames):
    view = View((10.0, 0.0, 0.0), (0.0, 0.0, 1.0), "absolute")
    fixed, driven = _levels(stubbed(view=view), frames[0], frames), _levels(stubbed(), frames[0], frames)
    assert np.ptp(driven) > 5
    assert np.ptp(fixed) < 0.2 * np.ptp(driven)


def test_a_portrait_at_rest_is_turned_without_a_driver(frames):
    source = frames[0]
    (front,) = stubbed().steps(source, source[None], None)
    right, left = (_levels(stubbed(view=View((yaw, 0.0, 0.0))), source, None) for yaw in (15.0, -15.0))
    assert len(right) == 1
    assert right[0] - 2 > front.frame.mean() > left[0] + 2
    steps = stubbed(view=Orbit(degrees=15.0, frames=8)).steps(source, None, None)
    assert steps.frames == 8
    orbit = np.array([step.frame.mean() for step in steps])
    np.testing.assert_allclose(orbit[[0, 2, 6]], [front.frame.mean(), right[0], left[0]], atol=0.5)
    assert np.argmax(orbit) == 2


def test_a_source_in_profile_is_refused_and_a_turned_one_warned_about(frames):
    for yaw, count in ((20.0, 0), (-40.0, 1)):
        session = Reenactor(TurnedStub(yaw), crop="none", view=View((0.0, 0.0, 0.0))).steps(frames[0], None, None)
        next(session)
        assert len(session.report.warnings) == count
    with pytest.raises(FaceError, match="profile"):
        next(Reenactor(TurnedStub(65.0), crop="none", view=View((0.0, 0.0, 0.0))).steps(frames[0], None, None))
    next(Reenactor(TurnedStub(65.0), crop="none").steps(frames[0], frames, None))  # as it always did


@pytest.mark.parametrize(("yaw", "refused"), [(40.0, False), (-75.0, True)])
def test_rendered_profiles_are_told_from_turned_heads(yaw, refused):
    renderer = Renderer(sample_identity(9), sample_scene(3), 256)
    still = np.zeros(1)
    motion = dataclasses.replace(sample_motion(9, 1, 25), yaw=still + yaw, pitch=still, roll=still)
    steps = Reenactor("landmark-warp", view=View((0.0, 0.0, 0.0))).steps(renderer.frame(motion, 0).image, None, None)
    if refused:
        with pytest.raises(FaceError, match="both eyes"):
            next(steps)
    else:
        next(steps)
        assert "turned by 3" in steps.report.warnings[0]


def test_what_cannot_be_turned_is_refused(frames):
    model = Stub()
    model.motion_spec, model.name = KeypointSpec(10), "some-fomm"
    with pytest.raises(ConfigError, match="some-fomm cannot turn a head"):
        Reenactor(model, view=View((10.0, 0.0, 0.0)))
    with pytest.raises(ConfigError, match="View"):
        stubbed(view=(10.0, 0.0, 0.0))
    with pytest.raises(ConfigError, match="no driving clip"):
        stubbed(view=View((10.0, 0.0, 0.0)), best_frame=3).steps(frames[0], None, None)
