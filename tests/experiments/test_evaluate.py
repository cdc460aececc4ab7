"""Evaluation: figures against copying the source, clips from videos and prepared datasets, models of several sizes."""

import json

import numpy as np
import pytest

from data.clip_folder import prepare_synthetic
from experiments.evaluate import COLUMNS, COPY, Reference, main
from experiments.harness import find_clips, resized
from tests.media_fixtures import write_clip

pytest.importorskip("mediapipe")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A rendered head that moves."""
    folder = tmp_path_factory.mktemp("heads") / "data"
    prepare_synthetic(folder, clips=1, frames=12, size=256, seed=3)
    return folder


def test_a_model_beats_copying_and_the_true_frames_beat_all(dataset, tmp_path, capsys):
    assert main([str(dataset), "--models", "landmark-warp", "--seconds", "1", "--json", str(tmp_path / "f.json"),
                 "--sheet", str(tmp_path / "sheet.png")]) == 0  # fmt: skip
    figures = json.loads((tmp_path / "f.json").read_text())["mean"]
    assert set(figures[COPY]) == set(COLUMNS)
    assert figures["landmark-warp"]["l1"] < figures[COPY]["l1"]
    assert figures["landmark-warp"]["lmd"] < 0.5 * figures[COPY]["lmd"]
    assert "landmark-warp" in capsys.readouterr().out
    assert (tmp_path / "sheet.png").stat().st_size > 10_000

    (clip,) = find_clips([dataset])
    frames = clip.read(1.0, 256)
    assert frames.shape == (12, 256, 256, 3)
    perfect = Reference(frames, with_points=False).score(frames)
    assert perfect["l1"] == 0
    assert perfect["lmd"] < 0.2
    assert perfect["motion"] > 0.999


def test_videos_are_read_at_any_size(dataset, tmp_path):
    (clip,) = find_clips([dataset])
    frames = clip.read(0.2, 256)
    assert len(frames) == 5
    video = write_clip(tmp_path / "head.mp4", list(frames), sound=False)
    (read,) = find_clips([video])
    small = read.read(1.0, 64)
    assert small.shape == (5, 64, 64, 3)
    expected = np.stack([resized(frame, 64) for frame in frames])
    assert np.abs(small.astype(int) - expected).mean() < 3


def test_bad_clips_are_one_sentence(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "There is no clip in" in capsys.readouterr().err
    write_clip(tmp_path / "wide.mp4", [np.zeros((64, 96, 3), np.uint8)] * 3, sound=False)
    assert main([str(tmp_path)]) == 2
    assert "wide.mp4 is 96 x 64 pixels, not square" in capsys.readouterr().err
