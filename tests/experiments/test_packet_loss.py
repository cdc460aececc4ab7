"""Calls over channels that lose packets: measured once, stored, tabulated and plotted."""

import json
import pathlib
from types import SimpleNamespace

import numpy as np
import pytest

import avfr_jax
from avfr_jax.model_store import load_model
from experiments import packet_loss
from experiments.packet_loss import Loss, main
from tests.codec.stubs import Mover, grey_frames
from tests.media_fixtures import write_clip

DRIVER = pathlib.Path(avfr_jax.__file__).with_name("assets") / "driver.mp4"


class Plain(packet_loss.Reference):
    """Figures of frames without faces."""

    def __init__(self, clip, with_points):
        self.frames = clip

    def score(self, shown):
        return {"l1": np.abs(shown.astype(float) - self.frames).mean() / 255, "psnr": 1.0}


def _calls(folder):
    rows = [json.loads(path.read_text()) for path in (folder / "calls").iterdir()]
    order = [loss.name for loss in packet_loss.losses(1)]
    return sorted(rows, key=lambda row: (row["refresh"], order.index(row["loss"]), row["seed"]))


def test_channels():
    result = packet_loss.losses(3)
    names = ["0 %", "1 %", "3 %", "10 %", "20 %", "30 %", "50 %", "2 s"]
    assert [loss.name for loss in result if loss.seed == 0] == names
    assert len(result) == len(set(result)) == 1 + 6 * 3 + 3
    (first, last) = Loss(None, 0).channel(6.0).bursts[0]
    assert last - first == pytest.approx(2)
    assert 1 <= first < last <= 5.5
    assert Loss(0.3, 4).channel(6.0).loss == 0.3
    assert Loss(0.3, 4).channel(6.0).seed == 4


def test_calls_are_measured_once_and_loss_costs_quality(tmp_path, monkeypatch, capsys):
    clip = write_clip(tmp_path / "clip.mp4", list(grey_frames(100)), sound=False)
    monkeypatch.setattr(packet_loss, "load_model", lambda name: Mover())
    monkeypatch.setattr(packet_loss, "Reference", Plain)
    monkeypatch.setattr(packet_loss, "REFRESHES", (6, 25))
    words = [str(clip), "--output", str(tmp_path / "out"), "--seconds", "4", "--seeds", "2"]
    assert main(words) == 0
    table = capsys.readouterr().out
    assert table.count("\n") == 2 + 2 * 8
    rows = _calls(tmp_path / "out")
    assert len(rows) == 2 * (1 + 6 * 2 + 2)
    mean = {(refresh, name): row for refresh, name, row in packet_loss.means(rows)}
    for refresh in (6, 25):
        held = [mean[refresh, name]["held"] for name in ("0 %", "10 %", "30 %", "50 %")]
        assert held[0] == 0
        assert held == sorted(held)
        assert mean[refresh, "50 %"]["l1"] > 2 * mean[refresh, "0 %"]["l1"]
        assert mean[refresh, "2 s"]["held"] >= 50
        assert "lmd" not in mean[refresh, "0 %"]
    assert mean[6, "30 %"]["held"] < mean[25, "30 %"]["held"]
    assert mean[6, "0 %"]["kbps"] > mean[25, "0 %"]["kbps"]
    assert (tmp_path / "out" / "loss.png").stat().st_size > 10_000
    monkeypatch.setattr(packet_loss, "play", None)  # nothing is simulated again
    assert main(words) == 0
    assert capsys.readouterr().out == table


def test_calls_are_compared_by_poses_without_rendering(tmp_path, monkeypatch, capsys):
    model = load_model("landmark-warp")
    monkeypatch.setattr(packet_loss, "load_model", lambda name: model)
    monkeypatch.setattr(model, "animate", None)  # nothing is rendered
    monkeypatch.setattr(packet_loss, "REFRESHES", (12,))
    monkeypatch.setattr(packet_loss, "LOSSES", (0.0, 0.5))
    words = [str(DRIVER), "--output", str(tmp_path / "out"), "--seconds", "2", "--seeds", "1", "--poses"]
    assert main(words) == 0
    assert "px" in capsys.readouterr().out
    whole, lost, _ = _calls(tmp_path / "out")
    assert whole["held"] == 0 < lost["held"]
    assert 0 < whole["lmd"] < 1.5 < lost["lmd"]


def test_poses_are_compared_with_faces():
    landmarks = np.random.default_rng(0).uniform(-1, 1, (478, 3)).astype(np.float32)
    seen = [SimpleNamespace(landmarks=points) for points in (landmarks, None, landmarks)]
    shown = [{"mesh": landmarks}, {"mesh": landmarks * 9}, {"mesh": landmarks + np.float32([3, 4, 0]) / 128}]
    result = packet_loss.PoseReference(seen).score(shown)
    assert result["lmd"] == pytest.approx(2.5, abs=1e-3)  # the second frame shows no face
    assert result["mouth"] == pytest.approx(0, abs=1e-3)


def test_bad_numbers_are_refused(tmp_path, capsys):
    clip = write_clip(tmp_path / "clip.mp4", list(grey_frames(2)), sound=False)
    (tmp_path / "file").write_text("x")
    assert main([str(clip), "--output", str(tmp_path / "file")]) == 2
    assert "cannot be made a folder" in capsys.readouterr().err
    for wrong in (["--poses", "--model", "mesh-fomm"], ["--seconds", "nan"], ["--seeds", "0"], ["--model", "none"]):
        assert main([str(clip), "--output", str(tmp_path / "out"), *wrong]) == 2
        assert capsys.readouterr().err.startswith("avfr: ")
