"""VoxCeleb: the table of clips, whole videos and cut clips, rejections, restarts, the command."""

import dataclasses
import json
import pathlib

import cv2
import numpy as np
import pytest

from avfr_jax.errors import ConfigError, InputError, OutputError
from avfr_jax.media.video import VideoReader
from data.clip_folder import ClipConfig
from data.prepare import main
from data.synthetic_heads import render_clip
from data.synthetic_heads.files import write_video
from data.voxceleb import prepare, read_metadata, run
from pipelines.sources import open_dataset

FRAMES, SIZE, BEFORE = 16, 96, 140  # frames of a clip, and of the whole video before it
CONFIG = ClipConfig(crop="box", size=SIZE, min_frames=12, workers=1, max_rejected=1.0)
HEADER = "video_id,start,end,bbox,fps,width,height,partition,person_id\n"
BOX = "120-20-420-360"  # of frames twice as large as the video's: 60 to 210 across, 10 to 180 down
ROWS = f"""-abc_1,{BEFORE},{BEFORE + FRAMES},{BOX},25,544,384,train,id1
-abc_1,0,{FRAMES},{BOX},25,544,384,train,id1
cut,120,{120 + FRAMES},10-10-90-90,25,1280,720,test,id2
gone,0,{FRAMES},{BOX},25,544,384,test,id3
-abc_1,{BEFORE + 8},{BEFORE + FRAMES + 8},{BOX},25,544,384,test,id1
-abc_1,{BEFORE},{BEFORE + FRAMES},{BOX},25,420,384,test,id4
"""


def table(path: pathlib.Path, rows: str, header: str = HEADER) -> pathlib.Path:
    path.write_text(header + rows)
    return path


@pytest.fixture(scope="module")
def rendered():
    pytest.importorskip("mediapipe")
    return render_clip(1, frames=FRAMES, size=128)


@pytest.fixture(scope="module")
def videos(rendered, tmp_path_factory) -> pathlib.Path:
    """A whole video of 272 × 192, whose last frames show a head that is 1.5 times as large as rendered and begins at
    column 40, and a clip that was cut before."""
    folder = tmp_path_factory.mktemp("videos")
    grown = [cv2.resize(frame, (192, 192), interpolation=cv2.INTER_CUBIC) for frame in rendered.frames]
    shown = np.stack([cv2.copyMakeBorder(frame, 0, 0, 40, 40, cv2.BORDER_REPLICATE) for frame in grown])
    grey = np.full((BEFORE, *shown.shape[1:]), 120, np.uint8)
    sound = np.concatenate([np.zeros(BEFORE * 640, np.float32), rendered.audio])
    write_video(folder / "-abc_1.mp4", np.concatenate([grey, shown]), sound)
    (folder / "deep").mkdir()
    write_video(folder / "deep" / f"id2#cut#000120#{120 + FRAMES:06d}.mp4", rendered.frames, rendered.audio)
    return folder


@pytest.fixture(scope="module")
def prepared(videos, tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("prepared")
    reports = prepare(videos, table(folder / "vox.csv", ROWS), folder / "out", CONFIG)
    assert {split: (report.sources, report.clips) for split, report in reports.items()} == {
        "train": (2, 1),
        "test": (4, 1),
    }
    return folder / "out"


def test_clips_are_the_boxes_of_the_table(prepared, videos, rendered):
    dataset = open_dataset(prepared / "train")
    (clip,) = dataset.clips
    assert (clip.name, clip.identity, clip.source) == ("id1#-abc_1#000140#000156", "id1", "-abc_1.mp4")
    assert (clip.frames, clip.missing_faces, clip.has_audio) == (FRAMES, 0, True)
    whole = list(VideoReader(videos / "-abc_1.mp4"))
    for index in (0, FRAMES - 1):
        read = dataset.read_frame(clip, index, ("image", "priors", "landmarks"))
        box = whole[BEFORE + index][10:180, 60:210]
        want = cv2.resize(box, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        assert np.abs(want.astype(int) - read["image"][..., :3]).mean() < 3
        points = (read["landmarks"][:, :2] + 1) * (SIZE - 1) / 2
        truth = ((rendered.landmarks[index] + 0.5) * 1.5 + (40 - 60, -10)) * SIZE / (150, 170) - 0.5
        assert np.linalg.norm(points - truth, axis=-1).mean() < 0.04 * SIZE
        assert 0.2 < (read["image"][..., 4] > 127).mean() < 0.95
    import soundfile  # of librosa

    samples, _ = soundfile.read(prepared / "train" / "clips" / clip.name / "audio.wav", dtype="float32")
    assert len(samples) == FRAMES * 640
    assert np.corrcoef(samples, rendered.audio)[0, 1] > 0.9


def test_cut_clips_are_taken_whole(prepared, rendered):
    dataset = open_dataset(prepared / "test")
    (clip,) = dataset.clips
    assert (clip.name, clip.identity, clip.frames) == ("id2#cut#000120#000136", "id2", FRAMES)
    want = cv2.resize(rendered.frames[5], (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    assert np.abs(want.astype(int) - dataset.read_frame(clip, 5)["image"]).mean() < 4


def test_every_clip_that_is_left_out_has_its_reason(prepared):
    reasons = {
        entry["source"]: entry["reason"]
        for split in ("train", "test")
        for entry in json.loads((prepared / split / "rejected.json").read_text())
    }
    assert reasons.keys() == {
        f"id1#-abc_1#000000#{FRAMES:06d}",
        f"id3#gone#000000#{FRAMES:06d}",
        "id1#-abc_1#000148#000164",
        "id4#-abc_1#000140#000156",
    }
    assert "no face in 16 of 16" in reasons["id1#-abc_1#000000#000016"]
    assert "missing" in reasons["id3#gone#000000#000016"]
    assert "ends 8 frames before" in reasons["id1#-abc_1#000148#000164"]
    assert "272 × 192, of another shape" in reasons["id4#-abc_1#000140#000156"]


def test_missing_videos_are_prepared_once_they_are_there(videos, tmp_path, rendered):
    mine = tmp_path / "videos"
    mine.mkdir()
    (mine / "-abc_1.mp4").symlink_to(videos / "-abc_1.mp4")
    rows = ROWS.splitlines(keepends=True)
    metadata = table(tmp_path / "vox.csv", rows[0] + rows[2])
    config = dataclasses.replace(CONFIG, priors=False, storage="arrayrecord")
    first = prepare(mine, metadata, tmp_path / "out", config)
    assert {split: report.clips for split, report in first.items()} == {"train": 1, "test": 0}
    name = f"id2#cut#000120#{120 + FRAMES:06d}.mp4"
    (mine / name).symlink_to(videos / "deep" / name)
    again = prepare(mine, metadata, tmp_path / "out", config)
    assert {split: (report.clips, report.taken_over) for split, report in again.items()} == {
        "train": (1, 1),
        "test": (1, 0),
    }
    assert json.loads((tmp_path / "out" / "test" / "rejected.json").read_text()) == []
    with pytest.raises(ConfigError, match="crop"):
        prepare(mine, metadata, tmp_path / "out", dataclasses.replace(config, crop="square"))


def test_squares_grow_around_the_box(videos, tmp_path):
    config = dataclasses.replace(CONFIG, crop="square", priors=False)
    prepare(videos, table(tmp_path / "vox.csv", ROWS.splitlines()[0]), tmp_path / "out", config)
    (clip,) = open_dataset(tmp_path / "out" / "train").clips
    assert clip.crop == (50, 10, 170)


def test_rows_without_a_clip(tmp_path):
    good = "v,10,90,20-40-220-240,25,640,480,train,id1"
    broken = {
        good: "twice",
        good.replace("v,", ",", 1): "id is ''",
        good.replace("v,", "../v,", 1): "id is '../v'",
        good.replace("10,90", "90,10"): "from frame 90 to 10",
        good.replace("10,90", "ten,90"): "start is 'ten'",
        good.replace("20-40-220-240", "20-40-900-240"): "not inside",
        good.replace("20-40-220-240", "220-40-20-240"): "not inside",
        good.replace("20-40-220-240", "20 40"): "left-top-right-bottom",
        good.replace(",25,", ",0,"): "0 a second",
        good.replace(",25,", ",nan,"): "fps is 'nan'",
        good.replace("train", "valid"): "partition is 'valid'",
        "v,10": "partition is None",
    }
    spans, faults = read_metadata(table(tmp_path / "a.csv", "\n".join([good, *broken])))
    assert [span.name for span in spans] == ["id1#v#000010#000090"]
    assert spans[0].frames(50) == (20, 180)
    assert [line for _, line, _ in faults] == list(range(3, 3 + len(broken)))
    for (_, _, reason), want in zip(faults, broken.values(), strict=True):
        assert want in reason
    older = table(tmp_path / "b.csv", good.removesuffix(",id1"), HEADER.replace(",person_id", ""))
    assert read_metadata(older).spans[0].name == "v#v#000010#000090"


def test_tables_that_cannot_be_used_are_refused(tmp_path):
    for text, sentence in {
        "": "lacks the columns video_id",
        HEADER: "lists no clip",
        "file,identity\na,b\n": "lacks the columns video_id, start",
        HEADER.replace("bbox,", ""): "lacks the columns bbox",
    }.items():
        (tmp_path / "a.csv").write_text(text)
        with pytest.raises(ConfigError, match=sentence):
            read_metadata(tmp_path / "a.csv")
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read as CSV"):
            read_metadata(path)


def test_a_disk_that_is_too_small_is_refused_before_the_start(videos, tmp_path, monkeypatch):
    usage = run.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(run.shutil, "disk_usage", lambda _: usage._replace(free=10_000))
    with pytest.raises(OutputError, match="make space"):
        prepare(videos, table(tmp_path / "vox.csv", ROWS), tmp_path / "out", CONFIG)
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="None of the table's videos"):
        prepare(videos, table(tmp_path / "vox.csv", ROWS.splitlines()[3]), tmp_path / "out", CONFIG)
    with pytest.raises(ConfigError, match="box or square"):
        prepare(videos, table(tmp_path / "vox.csv", ROWS), tmp_path / "out", ClipConfig())


def test_the_command(videos, prepared, tmp_path, capsys):
    metadata = table(tmp_path / "vox.csv", ROWS)
    call = ["voxceleb", "--videos", str(videos), "--metadata", str(metadata), "--size", str(SIZE), "--min-frames", "12"]
    call += ["--workers", "1", "--storage", "folder"]
    assert main([*call, "--out", str(prepared)]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == str(prepared)
    assert "2 sources in 0 s, 2 of them taken over" in out
    assert "the video is missing" in out
    assert "6 clips, 0 rows without one; the videos of 5 clips are there, 1 videos are missing" in err
    assert main([*call, "--out", str(tmp_path / "new"), "--max-rejected", "0.2"]) == 2
    assert "sources gave no clip" in capsys.readouterr().err
    assert main([*call[:4], str(tmp_path / "none.csv"), "--out", str(tmp_path / "new")]) == 2
    assert "cannot be read as CSV" in capsys.readouterr().err
