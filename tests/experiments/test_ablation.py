"""The ablation's rows differ in their parts alone; further arguments are passed to the training."""

import os
import signal
import threading
import time

import pytest

from avfr_jax.models import avfr
from experiments import ablation, harness
from experiments.experiment import Experiment, check
from experiments.settings import load_config, override, parse_overrides


@pytest.mark.parametrize("row", ablation.ROWS)
def test_a_row_is_the_config_with_its_switches(row):
    config = override(load_config("avfr128", Experiment), parse_overrides(ablation.switches(row)))
    check(config)
    on = {name for name in avfr.SWITCHES if getattr(config.model, name)}
    assert on == set(ablation.ROWS[row])
    assert ablation.ROWS["whole"] == avfr.SWITCHES


def test_rows_are_trained_in_turn_and_compared(monkeypatch, tmp_path, capsys):
    (tmp_path / "a.mp4").touch()
    trained, measured = [], {}

    def train(row, config, workdir, overrides):
        trained.append((row, config, workdir, list(overrides)))
        return 0

    def evaluate(clips, models, seconds, results):
        measured.update(clips=[c.name for c in clips], seconds=seconds, folder=results.folder)
        return {"copy": {"a": {"l1": 0.06}}, **{name: {"a": {"l1": 0.05, "ssim": 0.7}} for name in models}}

    monkeypatch.setattr(ablation, "train", train)
    monkeypatch.setattr(ablation, "evaluate", evaluate)
    words = [str(tmp_path / "a.mp4"), "--workdir", str(tmp_path), "--rows", "baseline", "whole"]
    further = ["--data.path", "clips,stills", "--loop.steps", "5"]
    assert ablation.main([*words, *further]) == 0
    assert trained == [(row, "avfr128", tmp_path, further) for row in ("baseline", "whole")]
    assert measured == {"clips": ["a"], "seconds": 3.0, "folder": tmp_path / "figures"}
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| copying | 0.06 | - |")
    assert lines[4].startswith("| whole | 0.05 | - | 0.7 |")
    assert lines[4].endswith("0.824 / 8.48 / 5.45 |")

    monkeypatch.setattr(ablation, "train", lambda *_: 3)
    assert ablation.main([*words, *further]) == 3
    assert ablation.main([str(tmp_path / "none"), *further]) == 2
    assert "There is no clip in" in capsys.readouterr().err


def test_a_signal_goes_to_the_training(tmp_path):
    """It may then end in its own time, and its status is the result."""
    before, ready = signal.getsignal(signal.SIGTERM), tmp_path / "ready"

    def send():
        while not ready.exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=send)
    thread.start()
    script = f"trap 'sleep 0.1; exit 9' TERM; : > '{ready}'; while :; do sleep 0.05; done"
    assert harness.run_child(["sh", "-c", script]) == 9
    thread.join()
    assert signal.getsignal(signal.SIGTERM) == before
    assert harness.run_child(["sh", "-c", "kill -HUP $$"]) == 129
