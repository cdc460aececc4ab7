"""Evaluation: figures against copying the source, clips from videos and prepared datasets, models of several sizes."""

import json

import numpy as np
import pytest
from PIL import Image

import experiments.evaluate as evaluation
from data.clip_folder import prepare_synthetic
from experiments.evaluate import COLUMNS, COPY, Reference, evaluate, main
from experiments.harness import Clip, Results, find_clips, resized
from tests.media_fixtures import write_clip

pytest.importorskip("mediapipe")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A rendered head that moves."""
    folder = tmp_path_factory.mktemp("heads") / "data"
    prepare_synthetic(folder, clips=1, frames=12, size=256, seed=3)
    return folder


def test_a_model_beats_copying_and_the_true_frames_beat_all(dataset, tmp_path, capsys, monkeypatch):
    words = [str(dataset), "--models", "landmark-warp", "--seconds", "1", "--output", str(tmp_path / "kept"), "--each"]
    assert main([*words, "--json", str(tmp_path / "f.json"), "--sheet", str(tmp_path / "sheet.png")]) == 0
    figures = json.loads((tmp_path / "f.json").read_text())["mean"]
    assert set(figures[COPY]) == set(COLUMNS)
    assert figures["landmark-warp"]["l1"] < figures[COPY]["l1"]
    assert figures["landmark-warp"]["lmd"] < 0.5 * figures[COPY]["lmd"]
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()] == [
        "method", COPY, "landmark-warp", "method", COPY, "landmark-warp"
    ]  # fmt: skip
    sheet = (tmp_path / "sheet.png").read_bytes()
    assert len(sheet) > 10_000

    # The same command takes every row and picture from the folder.
    (tmp_path / "sheet.png").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "_landmarks", None)
        assert main([*words, "--json", str(tmp_path / "f.json"), "--sheet", str(tmp_path / "sheet.png")]) == 0
    assert json.loads((tmp_path / "f.json").read_text())["mean"] == figures
    assert capsys.readouterr().out == printed
    assert (tmp_path / "sheet.png").read_bytes() == sheet

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


def test_animated_pictures_are_clips(tmp_path):
    frames = [Image.fromarray(np.full((32, 32, 3), grey, np.uint8)) for grey in (0, 80, 160)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], duration=40, lossless=True)
    frames[0].save(tmp_path / "still.webp")
    (clip,) = find_clips([tmp_path])
    assert clip.read(1.0, 32)[:, 0, 0, 0].tolist() == [0, 80, 160]
    assert clip.sound() is None


class _Stopped(Exception):
    pass


def test_a_stopped_run_goes_on_after_the_last_row(tmp_path, monkeypatch):
    """Each clip is measured once over two runs; other sound is another measurement."""
    measured = []

    class Scorer:
        def __init__(self, frames, with_points):
            self.value = float(frames.mean())

        def score(self, output):
            if len(measured) == 2:
                raise _Stopped
            measured.append(self.value)
            return {"l1": self.value}

    monkeypatch.setattr(evaluation, "Reference", Scorer)
    monkeypatch.setattr(Clip, "read", lambda clip, seconds, size: np.full((2, 8, 8, 3), int(clip.name), np.uint8))
    monkeypatch.setattr(Clip, "sound", lambda clip: np.arange(10, dtype=np.float32))
    clips, shown = [Clip(name, tmp_path) for name in ("1", "2", "3", "4")], []
    results = Results(tmp_path / "rows")
    with pytest.raises(_Stopped):
        evaluate(clips, [], 1.0, results, measured=lambda rows, clip: shown.append(clip))
    assert (measured, shown) == ([1, 2], ["1", "2"])
    assert len(list((tmp_path / "rows").glob("*.json"))) == 2

    measured = [0] * 9  # the third is no longer stopped
    rows = evaluate(clips, [], 1.0, results)
    assert rows == {COPY: {name: {"l1": float(name)} for name in ("1", "2", "3", "4")}}
    assert measured[9:] == [3, 4]
    evaluate(clips[:1], [], 1.0, results, late=None)
    assert measured[11:] == [1]
    evaluate(clips[:1], [], 1.0, results, best_frame="auto")
    assert measured[12:] == [1]
    monkeypatch.setattr(evaluation, "code_digest", lambda: "other code")
    evaluate(clips[:1], [], 1.0, results)
    assert measured[13:] == [1]


def test_the_reference_frame_is_an_option(tmp_path, monkeypatch, capsys):
    """Of the driver: the first by the protocol, which is the source; any other one by the option."""
    taken = []

    class Recorder:
        def __init__(self, model, *, best_frame, **settings):
            taken.append(best_frame)

        def reenact(self, source, frames, sound):
            return frames

    monkeypatch.setattr("avfr_jax.reenact.Reenactor", Recorder)
    monkeypatch.setattr(evaluation, "Reference", lambda *_: type("", (), {"score": lambda self, output: {"l1": 0.0}})())
    monkeypatch.setattr(evaluation, "_has_pose_network", lambda: False)
    monkeypatch.setattr(Clip, "read", lambda clip, seconds, size: np.zeros((2, 8, 8, 3), np.uint8))
    monkeypatch.setattr(Clip, "sound", lambda clip: None)
    write_clip(tmp_path / "a.mp4", [np.zeros((64, 64, 3), np.uint8)] * 2, sound=False)
    words = [str(tmp_path / "a.mp4"), "--models", "landmark-warp", "--output", str(tmp_path / "rows")]
    for option in ([], ["--best-frame", "auto"], ["--best-frame", "1"], ["--best-frame", "auto"]):
        assert main([*words, *option]) == 0
    assert taken == ["first", "auto", 1]  # the last row was kept


def test_bad_clips_are_one_sentence(tmp_path, capsys):
    assert main([str(tmp_path), "--output", str(tmp_path / "rows")]) == 2
    assert "There is no clip in" in capsys.readouterr().err
    write_clip(tmp_path / "wide.mp4", [np.zeros((64, 96, 3), np.uint8)] * 3, sound=False)
    assert main([str(tmp_path), "--output", str(tmp_path / "rows")]) == 2
    assert "wide.mp4 is 96 x 64 pixels, not square" in capsys.readouterr().err
