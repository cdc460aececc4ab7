"""Preparation of videos: stored data, restarts, rejections, processes, the command."""

import dataclasses
import json
import pathlib
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from avfr_jax import interrupts
from avfr_jax.errors import ConfigError, InputError, OutputError
from avfr_jax.media.mel import mel_spectrogram
from avfr_jax.media.video_writer import VideoWriter
from data.clip_folder import ClipConfig, TooManyRejectedError, prepare, prepare_synthetic, store
from data.clip_folder.__main__ import main
from data.clip_folder.run import Job, run_jobs
from data.synthetic_heads import render_clip
from data.synthetic_heads.files import write_video
from pipelines import record
from pipelines.sources import open_dataset
from tests.data.clip_folder.deaths import one_dies

FRAMES, SIZE = 16, 96
LEFT, SCALE = 40, 1.5  # a rendered pixel x lies in the video at (x + 0.5) * SCALE - 0.5 + LEFT
CONFIG = ClipConfig(size=SIZE, min_frames=12, workers=1)


def in_video(frames: np.ndarray) -> np.ndarray:
    """Rendered frames of 128 × 128 in a wider picture of 272 × 192."""
    grown = [cv2.resize(frame, (192, 192), interpolation=cv2.INTER_CUBIC) for frame in frames]
    return np.stack([cv2.copyMakeBorder(frame, 0, 0, LEFT, LEFT, cv2.BORDER_REPLICATE) for frame in grown])


@pytest.fixture(scope="module")
def rendered():
    pytest.importorskip("mediapipe")
    return [render_clip(seed, frames=FRAMES, size=128) for seed in (1, 4)]


@pytest.fixture(scope="module")
def videos(rendered, tmp_path_factory) -> pathlib.Path:
    """One video at 25 frames per second with sound, one at 50 without, in a folder of its own."""
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "ann#1.mp4", in_video(rendered[0].frames), rendered[0].audio)
    (folder / "more").mkdir()
    with VideoWriter(folder / "more" / "bob.mkv", 272, 192, fps=50.0, crf=18) as writer:
        for frame in np.repeat(in_video(rendered[1].frames), 2, axis=0):
            writer.write(frame)
    (folder / "notes.txt").write_text("no video")
    (folder / ".hidden.mp4").write_text("no video either")
    return folder


@pytest.fixture(scope="module")
def prepared(videos, tmp_path_factory) -> pathlib.Path:
    out = tmp_path_factory.mktemp("prepared") / "clips"
    report = prepare(videos, out, CONFIG)
    assert (report.clips, report.frames, report.missing_faces) == (2, 2 * FRAMES, 0)
    assert (report.identities, report.taken_over, report.unusable) == (2, 0, 0)
    return out


def content(folder: pathlib.Path) -> dict[str, bytes]:
    """Files of a dataset without the notes of its preparation."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if ".prepare" not in path.parts}


def test_listing(prepared):
    listing = json.loads((prepared / "dataset.json").read_text())
    assert (listing["format"], listing["version"], listing["storage"]) == ("avfr-clips", 1, "folder")
    assert (listing["size"], listing["fps"], listing["priors"]) == (SIZE, 25, True)
    ann, bob = listing["clips"]
    assert (ann["name"], ann["identity"], ann["source"], ann["frames"]) == ("ann#1", "ann", "ann#1.mp4", FRAMES)
    assert (bob["name"], bob["identity"], bob["source"], bob["frames"]) == ("more_bob", "bob", "bob.mkv", FRAMES)
    assert (ann["has_audio"], bob["has_audio"]) == (True, False)
    assert json.loads((prepared / "clips" / "ann#1" / "clip.json").read_text()) == ann
    assert json.loads((prepared / "rejected.json").read_text()) == []
    assert (prepared / "clips" / "ann#1" / "audio.wav").is_file()
    assert not (prepared / "clips" / "more_bob" / "audio.wav").exists()


@pytest.mark.parametrize("number", [0, 1])
def test_frames_mesh_mask_and_landmarks_match_the_rendered_head(prepared, rendered, number):
    dataset, truth = open_dataset(prepared), rendered[number]
    clip = dataset.clips[number]
    x, y, side = clip.crop
    for index in (0, FRAMES // 2, FRAMES - 1):
        read = dataset.read_frame(clip, index, ("image", "priors", "landmarks", "mel"))
        image, mesh, mask = read["image"][..., :3], read["image"][..., 3], read["image"][..., 4]
        where = (truth.landmarks[index] + 0.5) * SCALE - 0.5 + (LEFT, 0)
        where = (where + 0.5 - (x, y)) * SIZE / side - 0.5
        points = (read["landmarks"][:, :2] + 1) * (SIZE - 1) / 2
        assert np.linalg.norm(points - where, axis=-1).mean() < 0.04 * SIZE
        # The same square of the rendered frame, and of its person mask.
        place = np.float32([[side / SIZE / SCALE, 0, 0], [0, side / SIZE / SCALE, 0]])
        place[:, 2] = (np.array([x - LEFT, y]) + side / SIZE / 2) / SCALE - 0.5
        inverse = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        picture, person = (
            cv2.warpAffine(whole, place, (SIZE, SIZE), flags=inverse, borderMode=cv2.BORDER_REPLICATE)
            for whole in (truth.frames[index], truth.person_mask[index].astype(np.float32))
        )
        person = person > 0.5
        assert np.abs(picture.astype(int) - image).mean() < 6
        assert ((mask > 127) & person).sum() > 0.8 * ((mask > 127) | person).sum()
        lit = np.argwhere(mesh > 0)[:, ::-1]
        assert len(lit) > 200
        assert (lit >= points.min(0) - 3).all()
        assert (lit <= points.max(0) + 3).all()
        assert read["mel"].shape == (80, 16)


def test_sound_and_mel_belong_to_the_frames(prepared, rendered):
    import soundfile  # of librosa

    folder = prepared / "clips" / "ann#1"
    samples, rate = soundfile.read(folder / "audio.wav", dtype="float32")
    assert (rate, samples.shape) == (16000, (FRAMES * 640,))
    assert np.corrcoef(samples, rendered[0].audio)[0, 1] > 0.9
    np.testing.assert_allclose(np.load(folder / "mel.npy"), mel_spectrogram(samples), atol=1e-5)


def test_array_records_equal_folders(videos, prepared, tmp_path):
    report = prepare(videos, tmp_path / "records", dataclasses.replace(CONFIG, storage="arrayrecord"))
    assert report.clips == 2
    files, records = open_dataset(prepared), open_dataset(tmp_path / "records")
    assert files.digest() == records.digest()
    what = ("image", "priors", "landmarks", "mel")
    for one, other in zip(files.clips, records.clips, strict=True):
        for index in range(one.frames):
            a, b = files.read_frame(one, index, what), records.read_frame(other, index, what)
            for name in a:
                np.testing.assert_array_equal(a[name], b[name])
    # A missing shard is written again.
    (tmp_path / "records" / "shard-00000.arrayrecord").unlink()
    again = prepare(videos, tmp_path / "records", dataclasses.replace(CONFIG, storage="arrayrecord"))
    assert again.taken_over == 0
    assert open_dataset(tmp_path / "records").clips == records.clips


def test_two_processes_equal_one(rendered, tmp_path):
    (tmp_path / "raw").mkdir()
    for name, clip in zip("ab", rendered, strict=True):
        write_video(tmp_path / "raw" / f"{name}.mp4", clip.frames[:4], clip.audio[: 4 * 640])
    config = ClipConfig(size=64, min_frames=4, crop="none", priors=False, workers=1)
    prepare(tmp_path / "raw", tmp_path / "one", config)
    prepare(tmp_path / "raw", tmp_path / "two", dataclasses.replace(config, workers=2))
    assert content(tmp_path / "two") == content(tmp_path / "one")


def test_finished_videos_are_kept(videos, prepared, tmp_path):
    out = tmp_path / "clips"
    shutil.copytree(prepared, out)
    before = {path: path.stat().st_mtime_ns for path in out.glob("clips/*/frames/*")}
    report = prepare(videos, out, CONFIG)
    assert (report.taken_over, report.clips) == (2, 2)
    assert {path: path.stat().st_mtime_ns for path in out.glob("clips/*/frames/*")} == before
    assert content(out) == content(prepared)


def test_a_killed_run_resumes(videos, prepared, tmp_path):
    """Killed while one clip was written, and after another was moved to its place but before it was noted."""
    out = tmp_path / "clips"
    shutil.copytree(prepared, out)
    (out / ".prepare" / "done" / "more_bob.json").unlink()
    (out / "dataset.json").unlink()
    for index in range(5, FRAMES):
        (out / "clips" / "more_bob" / "frames" / f"{index:06d}.jpg").unlink()
    half = out / ".prepare" / "partial-x" / "more_bob" / "frames"
    half.mkdir(parents=True)
    (half / "000000.jpg").write_bytes(b"half a picture")
    kept = out / "clips" / "ann#1" / "frames" / "000000.jpg"
    before = kept.stat().st_mtime_ns
    report = prepare(videos, out, CONFIG)
    assert (report.taken_over, report.clips) == (1, 2)
    assert kept.stat().st_mtime_ns == before
    assert not list(out.glob(".prepare/partial-*"))
    assert content(out) == content(prepared)


def test_ctrl_c_leaves_complete_clips_only(videos, prepared, tmp_path, monkeypatch, capsys):
    from data.clip_folder import clip

    written = []

    def stop_in_the_second(*arguments):
        written.append(arguments)
        if len(written) > FRAMES + 3:
            raise KeyboardInterrupt
        return encode(*arguments)

    encode, out = clip.encode, tmp_path / "clips"
    call = [str(videos), str(out), "--size", str(SIZE), "--min-frames", "12", "--workers", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(clip, "encode", stop_in_the_second)
        assert main(call) == 130
    assert "run the same command again" in capsys.readouterr().err
    assert [path.name for path in (out / "clips").iterdir()] == ["ann#1"]
    assert not (out / "dataset.json").exists()
    assert not list(out.glob(".prepare/partial-*"))
    assert main(call) == 0
    assert "1 of them taken over" in capsys.readouterr().out
    assert content(out) == content(prepared)


def test_missing_clips_and_changed_videos_are_prepared_again(videos, prepared, tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "clips"
    shutil.copytree(videos, raw)
    shutil.copytree(prepared, out)
    shutil.rmtree(out / "clips" / "more_bob")
    report = prepare(raw, out, CONFIG)
    assert report.taken_over == 1
    assert content(out) == content(prepared)
    (raw / "more" / "bob.mkv").write_bytes(b"no video any more")
    changed = prepare(raw, out, CONFIG)
    assert (changed.taken_over, changed.clips, changed.unusable) == (1, 1, 1)
    assert not (out / "clips" / "more_bob").exists()
    assert len(open_dataset(out).clips) == 1


@pytest.fixture(scope="module")
def bad_videos(videos, rendered, tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("bad")
    whole = (videos / "ann#1.mp4").read_bytes()
    (folder / "good.mp4").write_bytes(whole)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 3])
    write_video(folder / "short.mp4", in_video(rendered[0].frames[:5]), rendered[0].audio[: 5 * 640])
    hills = np.indices((96, 128)).sum(0)[..., None] * np.ones(3) / 224 * 255
    write_video(folder / "hills.mp4", np.repeat(hills[None].astype(np.uint8), FRAMES, 0), np.zeros(640 * FRAMES))
    return folder


def test_rejections_have_reasons(bad_videos, tmp_path, capsys):
    call = [str(bad_videos), str(tmp_path / "clips"), "--size", str(SIZE), "--min-frames", "12", "--workers", "1"]
    assert main(call) == 2
    printed = capsys.readouterr()
    assert "5 of 6 sources gave no clip, and 50% is the limit" in printed.err
    assert "rejected: short.mp4: too short: 5 of the 12 frames" in printed.out
    # All the same, the good one is prepared, and more may be allowed.
    assert [clip.name for clip in open_dataset(tmp_path / "clips").clips] == ["good"]
    assert main([*call, "--max-rejected", "0.9"]) == 0
    assert "6 of them taken over" in capsys.readouterr().out
    reasons = {r["source"]: r["reason"] for r in json.loads((tmp_path / "clips" / "rejected.json").read_text())}
    assert sorted(reasons) == ["cut.mp4", "empty.mp4", "hills.mp4", "noise.mp4", "short.mp4"]
    assert reasons["hills.mp4"] == f"no face in 100% of {FRAMES} frames"
    assert "empty" in reasons["empty.mp4"]
    assert "is not a video or audio file that can be read" in reasons["noise.mp4"]
    assert str(bad_videos) not in "".join(reasons.values())


def test_largest_share_of_rejections(bad_videos, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    shutil.copy(bad_videos / "noise.mp4", raw)
    with pytest.raises(TooManyRejectedError, match="1 of 1 sources") as raised:
        prepare(raw, tmp_path / "clips", CONFIG)
    assert raised.value.report.rejected[0]["source"] == "noise.mp4"
    with pytest.raises(InputError, match=r"has no clips; its rejected\.json lists"):
        open_dataset(tmp_path / "clips")
    with pytest.raises(ConfigError, match="between 0 and 1"):
        ClipConfig(max_rejected=1.5)


def test_a_dying_process_loses_only_its_video(tmp_path):
    jobs = [Job(key, pathlib.Path(key), [0]) for key in ("a", "bad", "c")]
    report = run_jobs(jobs, {}, tmp_path / "out", ClipConfig(workers=2, max_rejected=1.0), one_dies)
    assert report.rejected == [
        {"source": "a", "reason": "nothing to do"},
        {"source": "bad", "reason": "the process that prepared it died"},
        {"source": "c", "reason": "nothing to do"},
    ]


def test_one_sentence_for_a_wrong_request(videos, prepared, tmp_path, capsys):
    def error_of(*call: object) -> str:
        assert main([str(part) for part in call]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    (tmp_path / "none").mkdir()
    assert "holds no video" in error_of(tmp_path / "none", tmp_path / "out")
    assert "is not a folder" in error_of(tmp_path / "missing", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert "holds something else" in error_of(videos, videos / "more")
    assert "was prepared with size 96, not 64" in error_of(videos, prepared, "--size", 64)
    assert "size must be" in error_of(videos, tmp_path / "out", "--size", 8)
    (tmp_path / "file").write_text("x")
    assert "cannot be written to" in error_of(videos, tmp_path / "file")
    (tmp_path / "people.csv").write_text("file,who\nann#1.mp4,Ann\n")
    assert "columns" in error_of(videos, tmp_path / "out", "--identities", tmp_path / "people.csv")


def test_a_full_disk_stops_the_run_without_partial_clips(videos, prepared, tmp_path, monkeypatch):
    out = tmp_path / "clips"
    frame_file, count = record.frame_file, []

    def full(*arguments):
        count.append(1)
        if len(count) > 5:
            raise OSError(28, "No space left on device")
        return frame_file(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(record, "frame_file", full)
        with pytest.raises(OutputError, match="No space left on device"):
            prepare(videos, out, CONFIG)
    assert not list((out / "clips").iterdir())
    assert not list(out.glob(".prepare/partial-*"))


def test_identities_from_a_csv_file(videos, prepared, tmp_path):
    out, table = tmp_path / "clips", tmp_path / "people.csv"
    shutil.copytree(prepared, out)
    table.write_text("file,identity\nann#1.mp4,Ann\nmore/bob.mkv,Ann\n")
    report = prepare(videos, out, dataclasses.replace(CONFIG, identities=table))
    assert (report.taken_over, report.identities) == (2, 1)
    assert open_dataset(out).identities == ("Ann",)
    assert json.loads((out / "clips" / "more_bob" / "clip.json").read_text())["identity"] == "Ann"


def test_rendered_heads_are_a_dataset(tmp_path):
    report = prepare_synthetic(tmp_path / "one", clips=2, frames=2, size=48, seed=7, people=1)
    assert (report.clips, report.frames, report.identities, report.unusable) == (2, 4, 1, 0)
    assert prepare_synthetic(tmp_path / "one", clips=2, frames=2, size=48, seed=7, people=1).taken_over == 2
    dataset = open_dataset(tmp_path / "one")
    read = dataset.read_frame(dataset.clips[1], 1, ("image", "priors", "landmarks", "mel"))
    assert read["image"].shape == (48, 48, 5)
    assert np.abs(read["landmarks"][:, :2]).max() < 1.2
    with pytest.raises(ConfigError, match="even number"):
        prepare_synthetic(tmp_path / "odd", size=33)


def test_animated_pictures_are_videos(tmp_path):
    (tmp_path / "in").mkdir()
    frames = [Image.fromarray(np.full((64, 64, 3), 40 * i, np.uint8)) for i in range(4)]
    for name in ("a.webp", "b.png", "c.avif"):
        frames[0].save(tmp_path / "in" / name, save_all=True, append_images=frames[1:], duration=40)
    frames[0].save(tmp_path / "in" / "still.png")
    config = ClipConfig(size=64, min_frames=4, workers=1, crop="none", priors=False)
    report = prepare(tmp_path / "in", tmp_path / "out", config)
    assert (report.sources, report.clips, report.frames, report.rejected) == (3, 3, 12, [])
    dataset = open_dataset(tmp_path / "out")
    greys = [dataset.read_frame(dataset.clips[0], i)["image"][0, 0, 0] for i in range(4)]
    assert np.abs(np.subtract(greys, [0, 40, 80, 120])).max() < 8


def test_a_shard_that_is_not_finished_leaves_nothing(tmp_path, monkeypatch):
    there = []

    def fail(shard, part):
        there.extend(tmp_path.glob("out/.*.partial"))
        assert there[0] in interrupts._scratch  # so that a signal removes it
        raise OSError("no space")

    monkeypatch.setattr(store._Shard, "append", fail)
    with pytest.raises(OutputError, match="no space"):
        prepare_synthetic(tmp_path / "out", clips=1, frames=2, size=32, storage="arrayrecord")
    assert len(there) == 1
    assert not there[0].exists()
