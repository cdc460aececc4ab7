import json
import re

import cv2
import numpy as np
import pytest

from avfr_jax.codec import mesh_basis as mesh
from avfr_jax.codec.motion import MotionFormat, MotionWriter
from avfr_jax.motion import Keypoints, KeypointSpec
from experiments import motion_rates
from experiments.motion_rates import LinearWriter, code, code_by_frame, fit_taps, main


def _swings(frames: int = 300) -> list[np.ndarray]:
    """Two oscillating numbers, predictable from the last two changes."""
    time = np.arange(frames)
    return [40 * np.stack([np.sin(time / 5 + phase), np.cos(time / 7 + phase)], -1) for phase in (0.0, 1.0)]


def _form(count: int = 2, slope: int = 0) -> MotionFormat:
    return MotionFormat(np.stack([np.full(count, 40), np.full(count, 28)]), np.zeros(count, np.int64), slope)


def test_exp_golomb_by_frame_is_counted_by_hand():
    track = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, -3.0], [9.0, -3.0]])
    # Codes of 0, 1, -3 and 8 take 1, 3, 5 and 9 bits: frames of 2, 4, 6 and 10 bits.
    coded = code_by_frame([track], np.ones(2))
    assert coded.kilobits == pytest.approx((8 + 8 + 8 + 16) / 4 * 25 / 1000)
    np.testing.assert_array_equal(coded.held[0], track)


def test_a_fitted_predictor_saves_bits_on_predictable_motion():
    tracks, form = _swings(), _form()
    last = code(tracks, MotionWriter(form, 0.25), 250)
    taps = fit_taps(tracks, form, 0.25, 250, 2)
    learned = code(tracks, LinearWriter(form, 0.25, taps), 250)
    assert learned.kilobits < 0.8 * last.kilobits
    for one, other in zip(learned.held, tracks, strict=True):
        assert np.abs(one - other).max() <= 0.76


def test_one_tap_is_the_slope():
    tracks = _swings()
    slope = code(tracks, MotionWriter(_form(slope=64), 0.25), 50)
    assert code(tracks, LinearWriter(_form(), 0.25, np.full((1, 2), 64)), 50).kilobits == slope.kilobits


class Spot:
    """One keypoint at a frame's brightness; renders a grey frame of that brightness."""

    motion_spec, image_size, batch_size = KeypointSpec(1), 64, 4

    def keypoints(self, frames, priors):
        level = np.asarray(frames).mean((1, 2, 3))
        jacobian = np.tile(np.eye(2, dtype=np.float32), (len(level), 1, 1, 1))
        return Keypoints(np.stack([level, level], -1)[:, None], jacobian)

    def encode_source(self, source, keypoints, priors=None):
        return source

    def animate(self, source, source_keypoints, driving):
        level = np.asarray(driving.value)[:, 0, 0, None, None, None]
        return np.broadcast_to(level + 0.1, (len(level), 64, 64, 3))  # never quite right, as no model is


@pytest.fixture
def prepared(tmp_path):
    """A dataset of two clips: swaying faces, frames of varying brightness."""
    listing = []
    for name, phase in (("a", 0.0), ("b", 1.0)):
        folder = tmp_path / "clips" / name
        (folder / "frames").mkdir(parents=True)
        sway = np.sin(np.arange(40) / 4 + phase)
        face = mesh.shipped().mean / 4 + sway[:, None, None] * np.array([2.0, 0, 0])
        np.save(folder / "landmarks.npy", face.astype(np.float32))
        for i, level in enumerate(120 + 60 * sway):
            cv2.imwrite(str(folder / f"frames/{i:06d}.jpg"), np.full((64, 64, 3), level, np.uint8))
        listing.append({"name": name, "identity": name, "frames": 40, "missing_faces": 0})
    facts = {"format": "avfr-clips", "version": 1, "storage": "folder", "size": 64, "fps": 25, "priors": False}
    (tmp_path / "dataset.json").write_text(json.dumps(facts | {"clips": listing}))
    return tmp_path


def test_the_command(prepared, monkeypatch, capsys):
    monkeypatch.setattr(motion_rates, "load_model", lambda name: Spot())
    words = [str(prepared), "--fit", str(prepared), "--models", "spot", "--components", "8", "--refresh", "40"]
    assert main(words) == 0
    out = capsys.readouterr().out
    rates = {row[0]: float(row[1]) for row in re.findall(r"^\| ([^|]+) \| ([\d.]+) \| [\d.]* \|$", out, re.M)}
    assert list(rates) == [
        "last value", "slope 64/256", "slope 128/256", "learned, last 1", "learned, last 3",
        "Exp-Golomb by frame", "raw, 80 bytes",
    ]  # fmt: skip
    assert rates["last value"] < rates["Exp-Golomb by frame"] < rates["raw, 80 bytes"] == 16
    rows = re.findall(r"^\| spot \| ([^|]+) \| ([\d.e+-]+) \| ([\d.-]+) \| ([\d.]+) \| ([\d.]+) \|", out, re.M)
    assert [row[0] for row in rows] == ["2: keypoints", "6: keypoints, jacobians"]
    for _, step, lost, ours, plain in rows:
        assert float(lost) <= 0.1
        assert float(step) <= 2
        assert float(ours) > 0
        assert float(plain) >= 8 * 25 / 1000  # a byte a frame


def test_bad_input(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "not a prepared dataset" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--components", "49"])
