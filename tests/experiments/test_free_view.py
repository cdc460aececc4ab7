"""Experiments that turn heads, with a model and an analyser that know the angles exactly."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from avfr_jax.errors import ConfigError
from avfr_jax.faces.analyser import FaceFacts
from avfr_jax.faces.pose import HeadPose, rotation_from_angles
from avfr_jax.models.base import EncodedSource
from avfr_jax.motion import HeadMotion, HeadSpec, KeypointSpec
from avfr_jax.motion.view import angles_of
from experiments import canonical_recognition, free_view, frontalisation, rotation
from experiments.harness import Clip
from tests.media_fixtures import write_clip

SIDE = 16
_BY_ANGLE = 128, 2.0  # grey level of 0°, and levels a degree


class Head:
    """A model of one keypoint whose frames code the head's yaw, pitch and roll as the levels of red, green, blue; it
    turns heads by `gain` times what its motion says."""

    name, family, fingerprint = "head", "stub", b"stub\0\0\0\0"
    capabilities = SimpleNamespace(landmarks=False, person_masks=False)
    motion_spec = HeadSpec(1)
    image_size, batch_size = SIDE, 4
    gain = 1.0

    def keypoints(self, frames, priors=None):
        angles = (np.asarray(frames)[:, 0, 0] * 255 - _BY_ANGLE[0]) / _BY_ANGLE[1]
        turned = np.stack([rotation_from_angles(*map(float, own)) for own in angles]).astype(np.float32)
        person = np.asarray(frames)[:, -1, -1][:, None]
        still = np.zeros((len(frames), 1, 3), np.float32)
        return HeadMotion(person.astype(np.float32), turned, still[:, 0], still)

    def encode_source(self, source, keypoints, priors=None):
        return EncodedSource(source, None)

    def animate(self, source, source_keypoints, driving, mel=None):
        angles = np.asarray(angles_of(driving.rotation)) * self.gain
        frames = np.broadcast_to(_coded(angles)[:, None, None], (len(angles), SIDE, SIDE, 3)) / 255
        return np.array(frames, np.float32)


def _coded(angles):
    return np.asarray(angles) * _BY_ANGLE[1] + _BY_ANGLE[0]


class Analyser:
    """Reads what `Head` codes. The descriptor changes with the head's yaw, by 0.01 a degree."""

    description = "a stub"
    landmarks = SimpleNamespace(description="stub landmarks")

    def analyse(self, pictures):
        return [self._face(picture[0, 0].astype(float)) for picture in pictures]

    def _face(self, level):
        if level.max() == 0:
            return None
        yaw, pitch, roll = ((level - _BY_ANGLE[0]) / _BY_ANGLE[1]).tolist()
        turned = rotation_from_angles(yaw, pitch, roll).astype(np.float32)
        descriptor = np.zeros(128, np.float32)
        descriptor[:2] = 1.4, 0.01 * yaw
        points = np.random.default_rng(int(level.sum())).normal(size=(68, 2))
        return FaceFacts(points, HeadPose(yaw, pitch, roll, turned, np.zeros(3, np.float32)), descriptor)

    def close(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False


@pytest.fixture(autouse=True)
def stubs(monkeypatch):
    """Models by name: `head`, `lazy`, which turns by half of what is asked, and `flat`, which cannot turn."""
    models = {name: type(name, (Head,), {"name": name, "fingerprint": name.encode()})() for name in ("head", "lazy")}
    models["lazy"].gain = 0.5
    models["flat"] = type("Flat", (Head,), {"motion_spec": KeypointSpec(1)})()
    monkeypatch.setattr("avfr_jax.model_store.load_model", models.__getitem__)
    monkeypatch.setattr(canonical_recognition, "load_model", models.__getitem__)
    for module in (rotation, frontalisation, canonical_recognition):
        monkeypatch.setattr(module, "FaceAnalyser", Analyser)
    monkeypatch.setattr(
        free_view.TurnableModel,
        "portrait",
        lambda self, subject: SimpleNamespace(
            frame=SimpleNamespace(image=subject.picture),
            keypoints=self.model.keypoints(subject.picture[None].astype(np.float32) / 255),
            encoded=EncodedSource(subject.picture, None),
        ),
    )
    return models


@pytest.fixture
def people(tmp_path):
    """Three portraits, whose heads are turned by 0, 10 and -20 degrees of yaw."""
    folder = tmp_path / "people"
    folder.mkdir()
    for name, yaw in (("a", 0), ("b", 10), ("c", -20)):
        picture = np.broadcast_to(_coded([yaw, 0, 0]), (SIDE, SIDE, 3)).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{name}.png")
    return folder


def test_rotation_is_measured_from_each_portraits_own_pose(people, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    words = [str(people), "--models", "head", "lazy", "--output", str(out), "--no-limit", "--count", "2"]
    assert rotation.main([*words, "--sheet", str(tmp_path / "sheet.png")]) == 0
    printed = capsys.readouterr().out
    report = json.loads((out / "rotation.json").read_text())
    exact, lazy = report["summary"]["head"], report["summary"]["lazy"]
    assert exact["portraits"] == 3
    assert exact["views"] == 3 * 8
    assert exact["no_face"] == 0
    assert exact["error"] < 0.6  # half a degree is one level of grey
    assert exact["yaw_slope"] == pytest.approx(1, abs=0.02)
    assert lazy["yaw_slope"] == pytest.approx(0.5, abs=0.02)
    # Half of 15 and of 30 degrees of yaw, and of 7.5 and 15 of pitch, is missing.
    assert lazy["yaw_error_inside"] == pytest.approx(7.5, abs=0.5)
    assert lazy["yaw_error"] == pytest.approx((7.5 + 15) / 2, abs=0.5)
    assert lazy["error_inside"] == pytest.approx((7.5 + 3.75 + 7.5) / 3, abs=0.5)
    # The descriptor of the exact model's results is 0.01 a degree away from that of the portrait.
    assert exact["identity"] == pytest.approx((0.15 + 0.30) / 2 / 2, abs=0.01)
    assert exact["identity_rest"] == pytest.approx(0, abs=0.006)
    assert "| lazy | 24 | 0 | 0 | 0.50 |" in printed
    assert (out / "rotation.md").read_text().strip() == printed.strip()

    with monkeypatch.context() as patch:  # all rows and strips come from the folder
        patch.setattr(rotation, "measure", None)
        assert rotation.main([*words, "--sheet", str(tmp_path / "sheet.png")]) == 0
    assert capsys.readouterr().out == printed


def test_models_that_cannot_turn_and_bad_angles_are_refused(people, tmp_path, capsys):
    words = [str(people), "--output", str(tmp_path / "out")]
    assert rotation.main([*words, "--models", "flat"]) == 2
    assert "flat cannot turn a head" in capsys.readouterr().err
    assert rotation.main([*words, "--models", "head", "--yaw", "90"]) == 2
    assert "degrees up to 60" in capsys.readouterr().err
    assert rotation.main([str(tmp_path / "nowhere"), "--models", "head"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_lost_face_is_counted():
    rows = {"a": {"rest": {"identity": 0.0}, "views": [{"axis": "yaw", "asked": 10.0, "limited": True}]}}
    figures = rotation.summary(rows)
    assert (figures["views"], figures["no_face"], figures["limited"]) == (1, 1, 1)
    assert np.isnan(figures["error"])
    assert "| a | 1 | 1 | 1 | - |" in rotation.report({"a": rows}, "it")


def test_frontalisation(people, tmp_path, capsys):
    out = tmp_path / "out"
    words = [str(people), "--models", "head", "lazy", "--output", str(out), "--least", "5", "--no-limit"]
    assert frontalisation.main([*words, "--sheet", str(tmp_path / "sheet.png")]) == 0
    assert Image.open(tmp_path / "sheet.png").size == (SIDE, 4 * SIDE // 2)  # two people by two models, at half size
    summary = json.loads((out / "frontalisation.json").read_text())["summary"]
    assert list(summary) == ["copy", "head", "lazy"]
    assert "2 people" in capsys.readouterr().out  # one looks ahead already
    # Of the pictures as they are, one of two is within 15 degrees; the result always is.
    assert summary["copy"]["angle_share"] == 50
    assert summary["copy"]["identity_share"] == summary["head"]["identity_share"] == 100
    assert summary["head"]["both_share"] == 100
    assert summary["head"]["angle"] < 0.6
    assert summary["head"]["identity"] == pytest.approx(0.15, abs=0.01)
    assert frontalisation.main([*words[:-3], "--least", "30"]) == 2
    assert "Nobody's head is turned by 30 to 45 degrees" in capsys.readouterr().err


def test_shares_count_each_threshold():
    rows = [
        {"cosine_distance": 0.04, "angle": 3.0, "identity": 0.1},
        {"cosine_distance": 0.06, "angle": 3.0, "identity": 0.1},
        {"cosine_distance": 0.04, "angle": 16.0, "identity": 0.1},
        {},
    ]
    figures = frontalisation.shares(rows)
    assert [figures[key] for key in ("identity_share", "angle_share", "both_share", "no_face")] == [50, 50, 25, 1]


def test_people_are_recognised_by_their_canonical_keypoints(tmp_path, capsys):
    """Head's canonical keypoint is the colour of the last pixel, which is the person's whatever the pose."""
    rng = np.random.default_rng(0)
    rows = ["file,person"]
    for person, colour in enumerate([(250, 0, 0), (0, 250, 0), (0, 0, 250)]):
        for take in range(2):
            frames = np.zeros((6, 64, 64, 3), np.uint8)
            frames[:, :32, :32] = _coded(rng.uniform(-30, 30, (6, 3)))[:, None, None]
            frames[:, 32:, 32:] = colour
            write_clip(tmp_path / f"p{person}t{take}.mp4", list(frames), sound=False)
            rows.append(f"people/p{person}t{take}.mp4,p{person}")
    (tmp_path / "people.csv").write_text("\n".join(rows))
    out = tmp_path / "out"
    clips = sorted(str(path) for path in tmp_path.glob("*.mp4"))
    words = [*clips, "--models", "head", "--output", str(out)]
    assert canonical_recognition.main([*words, "--identities", str(tmp_path / "people.csv")]) == 0
    printed = capsys.readouterr().out
    ours, landmarks = json.loads((out / "canonical_recognition.json").read_text())
    assert (ours["people"], ours["tested"], ours["right"]) == (3, 18, 100)
    assert ours["chance"] == pytest.approx(100 / 3)
    assert landmarks["name"] == canonical_recognition.LANDMARKS
    assert "other clips against each person's first" in printed
    assert canonical_recognition.main(words[:1] + words[len(clips) :]) == 2
    assert "two or more of them with a face, not 1" in capsys.readouterr().err


def test_nearest_and_its_division():
    near = {"a": [np.zeros((2, 2)), np.full((1, 2), 0.1)], "b": [np.ones((2, 2)), np.full((2, 2), 0.2)]}
    gallery, tested = canonical_recognition.divide(near, one_clip=False)
    assert canonical_recognition.nearest(gallery, tested) == (1, 3)
    gallery, tested = canonical_recognition.divide(near, one_clip=True)
    assert canonical_recognition.nearest(gallery, tested) == (2, 2)
    model = SimpleNamespace(name="it", batch_size=2, keypoints=lambda frames: SimpleNamespace())
    with pytest.raises(ConfigError, match="no canonical keypoints"):
        canonical_recognition.canonical_features(model)(np.zeros((1, 4, 4, 3), np.uint8))


def test_sources_from_clips_are_the_frames_turned_furthest(tmp_path, monkeypatch):
    yaws = [0, 10, 30, 60]
    frames = np.stack([np.broadcast_to(_coded([yaw, 0, 0]), (SIDE, SIDE, 3)) for yaw in yaws]).astype(np.uint8)
    frames = np.clip(frames, 1, 255)
    clip = Clip("a", tmp_path)
    monkeypatch.setattr(free_view, "find_clips", lambda paths: [clip])
    monkeypatch.setattr(Clip, "read", lambda clip, seconds, size: frames)
    (subject,) = free_view.find_subjects([tmp_path / "a.mp4"], frontalisation.turned_frame(Analyser(), 15, 45))
    np.testing.assert_array_equal(subject.picture, frames[2])
    (subject,) = free_view.find_subjects([tmp_path / "a.mp4"], free_view.first_face(Analyser()))
    np.testing.assert_array_equal(subject.picture, frames[0])
