"""Calls over networks that lose packets: played once, kept, told in a table and a plot."""

import json
import pathlib

import numpy as np
import pytest

import avfr_jax
from avfr_jax.model_store import load_model
from avfr_jax.tracking import TrackedFrame
from experiments import packet_loss
from experiments.packet_loss import Line, main
from tests.codec.test_call import Mover, frames
from tests.media_fixtures import write_clip

DRIVER = pathlib.Path(avfr_jax.__file__).with_name("assets") / "driver.mp4"


class Plain(packet_loss.Reference):
    """What is measured of pictures without faces."""

    def __init__(self, clip, with_points):
        self.frames = clip

    def score(self, shown):
        return {"l1": np.abs(shown.astype(float) - self.frames).mean() / 255, "psnr": 1.0}


def test_networks_do_what_they_say():
    found = packet_loss.lines(3)
    names = ["0 %", "1 %", "3 %", "10 %", "20 %", "30 %", "50 %", "2 s"]
    assert [line.name for line in found if line.seed == 0] == names
    assert len(found) == len(set(found)) == 1 + 6 * 3 + 3
    (first, last) = Line(None, 0).network(6.0).bursts[0]
    assert last - first == pytest.approx(2)
    assert 1 <= first < last <= 5.5
    assert Line(0.3, 4).network(6.0).loss == 0.3
    assert Line(0.3, 4).network(6.0).seed == 4


def test_calls_are_played_once_and_loss_costs_quality(tmp_path, monkeypatch, capsys):
    clip = write_clip(tmp_path / "clip.mp4", list(frames(100)), sound=False)
    monkeypatch.setattr(packet_loss, "load_model", lambda name: Mover())
    monkeypatch.setattr(packet_loss, "Reference", Plain)
    monkeypatch.setattr(packet_loss, "REFRESHES", (6, 25))
    words = [str(clip), "--output", str(tmp_path / "out"), "--seconds", "4", "--seeds", "2"]
    assert main(words) == 0
    table = capsys.readouterr().out
    assert table.count("\n") == 2 + 2 * 8
    rows = json.loads((tmp_path / "out" / "calls.json").read_text())
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
    monkeypatch.setattr(packet_loss, "play", None)  # nothing is played again
    assert main(words) == 0
    assert capsys.readouterr().out == table


def test_calls_are_compared_by_poses_without_being_drawn(tmp_path, monkeypatch, capsys):
    model = load_model("landmark-warp")
    monkeypatch.setattr(packet_loss, "load_model", lambda name: model)
    monkeypatch.setattr(model, "animate", None)  # nothing is drawn
    monkeypatch.setattr(packet_loss, "REFRESHES", (12,))
    monkeypatch.setattr(packet_loss, "LOSSES", (0.0, 0.5))
    words = [str(DRIVER), "--output", str(tmp_path / "out"), "--seconds", "2", "--seeds", "1", "--poses"]
    assert main(words) == 0
    assert "px" in capsys.readouterr().out
    whole, lost, _ = json.loads((tmp_path / "out" / "calls.json").read_text())
    assert whole["held"] == 0 < lost["held"]
    assert 0 < whole["lmd"] < 1.5 < lost["lmd"]


def test_poses_are_compared_with_faces():
    landmarks = np.random.default_rng(0).uniform(-1, 1, (478, 3)).astype(np.float32)
    seen = [TrackedFrame(0, None, landmarks), TrackedFrame(1, None, None), TrackedFrame(2, None, landmarks)]
    shown = [
        {"mesh": landmarks},
        {"mesh": landmarks * 9},
        {"mesh": landmarks + np.float32([3, 4, 0]) / 128},
    ]
    found = packet_loss.PoseReference(seen).score(shown)
    assert found["lmd"] == pytest.approx(2.5, abs=1e-3)  # the second frame shows no face
    assert found["mouth"] == pytest.approx(0, abs=1e-3)


def test_bad_numbers_are_refused(tmp_path, capsys):
    clip = write_clip(tmp_path / "clip.mp4", list(frames(2)), sound=False)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "calls.json").write_text("[{")
    assert main([str(clip), "--output", str(tmp_path / "out")]) == 2
    assert "damaged" in capsys.readouterr().err
    (tmp_path / "out" / "calls.json").unlink()
    for wrong in (["--poses", "--model", "mesh-fomm"], ["--seconds", "nan"], ["--seeds", "0"], ["--model", "none"]):
        assert main([str(clip), "--output", str(tmp_path / "out"), *wrong]) == 2
        assert capsys.readouterr().err.startswith("avfr: ")
