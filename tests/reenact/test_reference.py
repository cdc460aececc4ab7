"""Choice of the reference frame."""

import contextlib
import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from avfr_jax.landmarks import canonical_face
from avfr_jax.reenact.reference import choose_reference, mesh_distance
from avfr_jax.tracking import TrackedFrame


def _face(*, yaw=0.0, shift=(0.0, 0.0), size=0.06, jaw=0.0):
    """Landmarks of an upright head in [-1, 1], turned by `yaw` degrees and with the lower face moved by `jaw`."""
    points = canonical_face() - canonical_face().mean(0)
    points[points[:, 1] > 3] += [0, jaw, 0]
    c, s = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
    turned = points @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]]) * size
    return (turned + np.array([*shift, 0])).astype(np.float32)


@dataclasses.dataclass
class _Driving:
    """A clip of landmarks; `sample` measures them less exactly than `frame`."""

    faces: list
    error: float = 0.0
    name: str = "clip"
    fps: Fraction = Fraction(25)
    repeatable: bool = True

    @property
    def frames(self):
        return len(self.faces)

    def __iter__(self):
        return iter([self.frame(i) for i in range(len(self.faces))])

    def sample(self, count):
        noise = np.random.default_rng(3).normal(0, self.error, (len(self.faces), 478, 3)).astype(np.float32)
        frames = [self.frame(i) for i in range(len(self.faces))]
        return [
            f if f.landmarks is None else dataclasses.replace(f, landmarks=f.landmarks + noise[f.index]) for f in frames
        ]

    def frame(self, index):
        return TrackedFrame(index, landmarks=self.faces[index])

    def audio_file(self):
        return contextlib.nullcontext()


def _choose(best_frame, source, driving):
    faces = [frame for frame in driving.sample(48) if frame.landmarks is not None]
    return choose_reference(best_frame, TrackedFrame(0, landmarks=source), driving, faces)


def _chosen(source, driving):
    frame = _choose("auto", source, driving)
    return 0 if frame is None else frame.index


def test_first_frame_that_is_the_source_is_taken_though_samples_are_noisy():
    faces = [_face(yaw=0.3 * np.sin(i)) for i in range(30)]
    assert _chosen(faces[0], _Driving(faces, error=0.01)) == 0


def test_the_source_among_later_frames_is_found():
    faces = [_face(yaw=3.0 * i - 30, shift=(0.01 * i, 0)) for i in range(20)]
    assert _chosen(faces[13], _Driving(faces, error=0.002)) == 13


def test_the_same_picture_is_recognised_in_another_crop():
    faces = [_face(yaw=3.0 * i, shift=(0.3 - 0.03 * i, 0)) for i in range(12)]
    assert _chosen(_face(), _Driving(faces)) == 0  # frame 10 has the source's place, and another pose


def test_pose_and_place_count():
    turned, moved, opened = _face(yaw=25), _face(yaw=6, shift=(0.2, 0)), _face(yaw=3, jaw=0.3)
    assert _chosen(_face(), _Driving([turned, moved, opened])) == 2


def test_earliest_of_equals():
    faces = [_face(yaw=8 + 0.05 * np.cos(i)) for i in range(20)]
    assert _chosen(_face(), _Driving(faces)) == 0


def test_frames_without_a_face_are_passed_over():
    assert _chosen(_face(), _Driving([None, _face(yaw=20), None, _face(yaw=1)])) == 3
    assert _choose("auto", _face(), _Driving([None, _face(yaw=20)])) is None


def test_settings_other_than_auto():
    driving = _Driving([_face(), _face(yaw=5), _face(yaw=9)])
    source = _face(yaw=9)
    assert _choose("first", source, driving) is None
    chosen = _choose(1, source, driving)
    assert chosen is not None
    assert chosen.index == 1


def test_mesh_distance_is_in_head_sizes():
    a = _face()
    assert mesh_distance(a, a) == 0
    assert mesh_distance(a, a + np.float32([0.1, 0, 0]), placed=False) == pytest.approx(0, abs=1e-5)
    far = mesh_distance(a, a + np.float32([0.1, 0, 0]))
    assert mesh_distance(2 * a, 2 * (a + np.float32([0.1, 0, 0]))) == pytest.approx(far, rel=1e-4)
