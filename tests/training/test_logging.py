"""Where figures go, and that a resumed run's figures read as if it had never stopped."""

import json
import sys
import types

import jax
import numpy as np
import pytest

from avfr_jax.errors import MissingBackendError, OutputError
from avfr_jax.training.logging import JsonLines, TensorBoard, open_writers, read_metrics


def test_json_lines_drop_what_a_resumed_run_does_again(tmp_path):
    writer = JsonLines(tmp_path)
    for step in range(1, 6):
        writer.scalars(step, {"loss": 1 / step})
    writer.close()
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 6, "lo')  # cut off by a kill
    again = JsonLines(tmp_path, first_step=3)
    again.scalars(4, {"loss": 0.5, "psnr": float("inf")})
    again.close()
    assert [line["step"] for line in read_metrics(path)] == [1, 2, 3, 4]
    assert json.loads(path.read_text().splitlines()[-1]) == {"step": 4, "loss": 0.5, "psnr": None}
    assert read_metrics(path)[2]["loss"] == 1 / 3  # every digit


def test_tensorboard_gets_scalars_and_pictures(tmp_path):
    pytest.importorskip("tensorboardX")
    writer = TensorBoard(tmp_path)
    writer.scalars(3, {"train/loss": 0.25})
    writer.images(3, {"panels": np.zeros((8, 6, 3), np.uint8)})
    writer.close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    content = events.read_bytes()
    assert b"train/loss" in content
    assert b"PNG" in content


def test_only_process_0_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    writer = open_writers(tmp_path / "run", wandb_project="never opened")
    writer.scalars(1, {"loss": 1.0})
    writer.images(1, {"panels": np.zeros((2, 2, 3), np.uint8)})
    writer.close()
    assert not (tmp_path / "run").exists()


def test_weights_and_biases_when_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingBackendError, match="pip install wandb"):
        open_writers(tmp_path, tensorboard=False, wandb_project="heads")
    # The package is not a dependency: what matters is what is asked of it.
    calls = []

    class FakeRun:
        id = "abc"

        def log(self, values, step):
            calls.append(("log", values, step))

        def finish(self):
            calls.append("finish")

    def init(**options):
        calls.append((options["project"], options["id"], options["config"]))
        return FakeRun()

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init, Image=lambda image: image.shape))
    for _ in range(2):
        writer = open_writers(tmp_path, tensorboard=False, wandb_project="heads", config={"seed": 1})
        writer.scalars(1, {"loss": 2.0})
        writer.images(1, {"panels": np.zeros((2, 4, 3), np.uint8)})
        writer.close()
    once = [("log", {"loss": 2.0}, 1), ("log", {"panels": (2, 4, 3)}, 1), "finish"]
    assert calls == [("heads", None, {"seed": 1}), *once, ("heads", "abc", {"seed": 1}), *once]


def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        JsonLines(tmp_path / "file")
