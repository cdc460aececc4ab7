"""The programs under `examples/` run, and do what their docstrings state."""

import importlib.util
import pathlib

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]


def load(name):
    spec = importlib.util.spec_from_file_location(f"examples_{name}", ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_warp_image_recovers_the_keypoints():
    losses = load("warp_image").main()
    assert losses[-1] < 0.01 * losses[0]


def test_reenact_moves_the_portrait(tmp_path):
    frames = load("reenact").main(str(tmp_path / "out.mp4"))
    assert frames.shape == (12, 256, 256, 3)
    assert np.abs(frames[-1].astype(int) - frames[0]).mean() > 5
    assert (tmp_path / "out.mp4").stat().st_size > 0


def test_training_step_lowers_the_loss():
    losses = load("training_step").main()
    assert losses[-1] < losses[0]


def test_call_renders_what_was_sent():
    sent, received = load("call").main()
    assert 24 <= len(received) <= len(sent)
    assert np.abs(received.astype(int) - sent[: len(received)]).mean() < 25
