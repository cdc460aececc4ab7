"""Rate-distortion measurements: codecs, figures, stored points, tables and BD-rates."""

import csv
import dataclasses
import json
import math

import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from avfr_jax.errors import ConfigError, MissingBackendError
from experiments.rate_distortion import registry, report
from experiments.rate_distortion.__main__ import main
from experiments.rate_distortion.base import Coded, VideoCodec
from experiments.rate_distortion.measure import Record, figures, open_networks
from experiments.rate_distortion.papers import PRESETS
from experiments.rate_distortion.registry import CODECS, open_codecs
from experiments.rate_distortion.rivals import ENCODERS, Copy, Rival, _without_sei, opus_bytes, to_rgb, to_yuv
from tests.media_fixtures import astronaut, moved, write_clip

pytest.importorskip("mediapipe")


def _frames(count=10, size=128):
    return np.stack([moved(astronaut(size), i) for i in range(count)])


def _psnr(a, b):
    return -10 * math.log10(((a.astype(float) - b) ** 2).mean() / 255**2)


@pytest.mark.parametrize("name", [name for name in ENCODERS if name != "h266"])
def test_rivals_return_every_frame_and_more_bits_reduce_distortion(name):
    frames = _frames()
    points = list(CODECS[name]())
    few, many = (points[i].code(frames, 25.0) for i in (0, -1))
    for coded in (few, many):
        assert coded.frames.shape == frames.shape
        assert coded.frames.dtype == np.uint8
        assert coded.bytes_by_kind["key"] > 0
        assert coded.bytes_by_kind["inter"] > 0
        assert coded.bytes_by_kind["container"] > 0
        assert coded.stream_bytes == coded.bytes_by_kind["key"] + coded.bytes_by_kind["inter"]
        assert coded.encode_seconds > 0
    assert many.stream_bytes > 2 * few.stream_bytes
    assert _psnr(frames, many.frames) > _psnr(frames, few.frames) + 4
    assert np.abs(frames.mean((0, 1, 2)) - many.frames.mean((0, 1, 2))).max() < 2
    # Frame i belongs to frame i: the neighbour fits worse.
    assert _psnr(frames[:-1], many.frames[:-1]) > _psnr(frames[:-1], many.frames[1:]) + 1
    assert points[0].code(frames, 25.0).bytes_by_kind == few.bytes_by_kind


def test_colours_are_bt709_in_limited_range():
    # Red: Y 16 + 219 x 0.2126; Cb 128 - 224 x 0.2126 / 1.8556; Cr 128 + 224 / 2.
    colours = {(255, 0, 0): (63, 102, 240), (255, 255, 255): (235, 128, 128), (0, 0, 0): (16, 128, 128)}
    converter = VideoReformatter()
    for rgb, yuv in colours.items():
        flat = np.full((64, 64, 3), rgb, np.uint8)
        picture = to_yuv(flat, converter)
        planes = [np.frombuffer(plane, np.uint8).mean() for plane in picture.planes]
        np.testing.assert_allclose(planes, yuv, atol=1)
        assert np.abs(to_rgb(picture, converter).astype(int) - flat).max() <= 3


def test_x264_identification_is_not_counted():
    assert (
        _without_sei(b"\0\0\0\1\x67abc\0\0\1\x06x264 - core\0\0\1\x65pic", "h264") == b"\0\0\0\1\x67abc\0\0\0\1\x65pic"
    )
    assert _without_sei(b"\0\0\1\x06as it is", "hevc") == b"\0\0\1\x06as it is"


def test_sound_is_counted_separately():
    speech = (0.1 * np.random.default_rng(0).normal(size=16000)).astype(np.float32)
    assert opus_bytes(speech) == pytest.approx(2000, rel=0.2)  # 16 kbit/s
    frames = _frames(3)
    with_sound, without = (Rival("x264", "51").code(frames, 25.0, audio) for audio in (speech, None))
    assert with_sound.bytes_by_kind["sound"] == opus_bytes(speech)
    assert with_sound.stream_bytes == without.stream_bytes


def test_codecs_by_name():
    codecs, _ = open_codecs(["x265:51+39", "copy", "x265:51"])
    assert [(c.name, c.point) for c in codecs] == [("x265", "51"), ("x265", "39"), ("copy", "first")]
    assert all(isinstance(c, VideoCodec) for c in codecs)
    assert {c.name for c in open_codecs([])[0]} >= {"copy", "x264", "x265", "av1", "vp9"}
    rows = {"table3.1": 3, "table3.2": 4, "table3.3": 5, "table3.4": 6}
    for table, preset in PRESETS.items():
        opened = open_codecs(preset.codecs)[0]
        assert [c.point for c in opened[:3]] == ["first", "51", "51"]
        assert len({c.point for c in opened[3:] if c.name == f"avfr-{table}"}) == rows[table]
    with pytest.raises(ConfigError, match="did you mean x265"):
        open_codecs(["x256"])
    with pytest.raises(ConfigError, match="x265 has no point '60'; it has 51, 47"):
        open_codecs(["x265:60"])


def test_a_codec_that_cannot_run_is_one_sentence(monkeypatch):
    def absent():
        raise MissingBackendError("h266 is left out: this PyAV was built without libvvenc.")

    monkeypatch.setitem(registry.CODECS, "h266", absent)
    codecs, missing = open_codecs(["copy", "h266"])
    assert [c.name for c in codecs] == ["copy"]
    assert missing == ["h266 is left out: this PyAV was built without libvvenc."]
    with pytest.raises(ConfigError, match="can run here"):
        open_codecs(["h266"])
    monkeypatch.setitem(ENCODERS, "x264", dataclasses.replace(ENCODERS["x264"], library="libnone"))
    assert open_codecs(["copy", "x264"])[1] == ["x264 is left out: this PyAV was built without libnone."]


class _Plain:
    """A reference without faces."""

    def __init__(self, frames):
        self.frames = frames

    def score(self, output):
        return {"psnr": 30.0, "mouth_l1": 0.5, "faces_missed": 2.0}


def test_figures_by_hand():
    frames = _frames(4, 64)
    kinds = {"key": 900, "motion": 100, "container": 500, "sound": 200}
    double = frames.repeat(2, axis=1).repeat(2, axis=2)
    found = figures(_Plain(frames), Coded(kinds, double, 0.4, 0.2), {"lpips": lambda a, b: abs(a - b).mean((1, 2, 3))})
    assert found["kbps"] == pytest.approx(8 * 1000 * 25 / 4 / 1000)
    assert found["bpp"] == pytest.approx(8 * 1000 / (4 * 128 * 128))  # at the size that is shown
    assert found["file_kbps"] == pytest.approx(75)
    assert found["sound_kbps"] == pytest.approx(10)
    assert found["missed"] == 50
    assert (found["encode_ms"], found["decode_ms"]) == (pytest.approx(100), pytest.approx(50))
    assert found["ms_ssim"] == pytest.approx(1)
    assert found["lpips"] == 0
    assert "mouth_l1" not in found


def test_missing_networks_are_reported(monkeypatch, tmp_path):
    monkeypatch.setenv("AVFR_HOME", str(tmp_path))
    networks, left_out = open_networks()
    assert not networks
    assert left_out[0].startswith("LPIPS is left out: The weights of alexnet are not in")
    assert left_out[1].startswith("FID is left out")


def _curve(codec, factor, clip, *, broken=False):
    rates, psnr = (5.0, 10.0, 20.0, 40.0), (25.0, 28.0, 30.0, 31.0)
    return [
        Record(256, codec, str(i), clip, {"kbps": r * factor, "bpp": r, "psnr": 20 if broken else q, "l1": 1 / q}, {})
        for i, (r, q) in enumerate(zip(rates, psnr, strict=True))
    ]


def test_bd_rates_are_means_over_clips():
    records = [r for clip in "ab" for name, factor in (("x265", 1), ("half", 0.5)) for r in _curve(name, factor, clip)]
    records += [r for clip in "ab" for r in _curve("odd", 2, clip, broken=clip == "b")]
    found = report.differences(records, "x265")
    assert found["half"]["psnr"].rate == pytest.approx(-50)
    assert found["half"]["l1"].rate == pytest.approx(-50)
    assert found["half"]["psnr"].quality > 0
    assert found["half"]["l1"].quality < 0  # a smaller distance at the same rate
    assert found["odd"]["psnr"].rate == pytest.approx(100)
    assert found["odd"]["psnr"].clips == 1
    text = report.bd_markdown(found, "x265", 2)
    assert "| half | -50.0 % | -50.0 % |" in text
    assert "+100.0 % (1 of 2 clips)" in text
    kept, sentences = report.comparable(report.differences(records[:5], "x265"), "x265")
    assert not kept
    assert sentences[0].startswith("There is no BD-rate of half against x265: a: the codec has 1 points")


def test_the_papers_rows_are_marked():
    text = report.markdown(_curve("x265", 1, "a"), PRESETS["table3.1"])
    assert "| † H.265, CRF 51 | - | 0.0039 |" in text
    assert "another dataset" in text
    assert text.splitlines()[0].endswith("| FID ↓ |")
    counted = {len(line.split("|")) for line in text.splitlines() if line.startswith("|")}
    assert len(counted) == 1
    # Ten points of two 32-bit numbers at 256 x 256, and a quarter of half of it with interpolation at 512 x 512.
    rows = {row.name: row.bpp for row in PRESETS["table3.1"].rows}
    assert rows["keypoints"] == pytest.approx(640 / 256**2, abs=1e-4)
    assert rows["keypoints, interpolation, super-resolution"] == pytest.approx(640 / 2 / 512**2, abs=1e-4)


def test_a_row_of_the_papers_tables():
    """Every second frame sent, the others interpolated, then upscaled: fewer bits, all frames at the clip's size."""
    whole, half, large = (row for row in CODECS["avfr-table3.1"]())
    frames = _frames(7, 320)
    coded = [one.code(frames, 25.0) for one in (whole, half, large)]
    assert coded[0].bytes_by_kind["motion"] > coded[1].bytes_by_kind["motion"] == coded[2].bytes_by_kind["motion"]
    assert {one.frames.shape for one in coded} == {frames.shape}
    assert 0.1 < np.abs(coded[1].frames.astype(float) - coded[2].frames).mean() < 6
    keys = {row.label: row.settings for row in CODECS["avfr-table3.4"]()}
    assert len({json.dumps(settings) for settings in keys.values()}) == 6  # all distinct


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A face that moves a little, with sound."""
    return write_clip(tmp_path_factory.mktemp("clips") / "head.mp4", list(_frames()))


@pytest.fixture(scope="module")
def measured(clip, tmp_path_factory):
    """The command's folder after a first run."""
    folder = tmp_path_factory.mktemp("rates")
    assert main(_words(clip, folder)) == 0
    return folder


def _words(clip, folder, codecs="copy,x264:51+43+35,x265:51+43+35"):
    return [str(clip), "--output", str(folder), "--codecs", codecs, "--size", "128", "--seconds", "1", "--audio"]


def test_tables_and_files(measured):
    facts = json.loads((measured / "results.json").read_text())
    here = facts["sizes"]["128"]
    rows = {(row["codec"], row["point"]): row for row in here["mean"]}
    assert list(rows)[:2] == [("copy", "first"), ("x264", "51")]
    assert rows["copy", "first"]["kbps"] == 0
    for codec in ("x264", "x265"):
        assert rows[codec, "51"]["kbps"] < rows[codec, "43"]["kbps"] < rows[codec, "35"]["kbps"]
        assert rows[codec, "51"]["psnr"] < rows[codec, "43"]["psnr"] < rows[codec, "35"]["psnr"]
        assert rows[codec, "35"]["sound_kbps"] > 5
    assert rows["x265", "35"]["lmd"] < rows["copy", "first"]["lmd"]
    assert here["bd"]["x264"]["psnr"]["clips"] == 1
    assert facts["anchor"] == "x265"
    with (measured / "results.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == 14  # seven points, each of the clip and as the mean
    assert float(lines[1]["psnr"]) == pytest.approx(rows["x264", "51"]["psnr"])
    assert int(lines[1]["key_bytes"]) > 0
    assert (measured / "curves-128.png").stat().st_size > 10_000


def test_points_are_measured_once(measured, clip, monkeypatch, capsys):
    def refuse(*_):
        raise AssertionError("measured again")

    before = (measured / "results.json").read_text()
    monkeypatch.setattr(Rival, "code", refuse)
    monkeypatch.setattr(Copy, "code", refuse)
    assert main(_words(clip, measured)) == 0
    assert (measured / "results.json").read_text() == before
    out = capsys.readouterr().out
    assert "| x265 51 |" in out
    assert "| against x265 |" in out
    # A damaged file, or other settings of the encoder, and its point is measured anew.
    point = next((measured / "points").glob("head-x264-51-*.json"))
    whole = point.read_text()
    point.write_text(whole[: len(whole) // 2])
    with pytest.raises(AssertionError, match="again"):
        main(_words(clip, measured))
    point.write_text(whole)
    monkeypatch.setitem(ENCODERS, "x264", dataclasses.replace(ENCODERS["x264"], options={"preset": "slow"}))
    with pytest.raises(AssertionError, match="again"):
        main(_words(clip, measured))


class _Stopped:
    """A custom codec, interrupted at its second point."""

    name, settings = "mine", {"model": "1"}

    def __init__(self, point):
        self.point = point

    def code(self, frames, fps, audio=None):
        if self.point == "2":
            raise KeyboardInterrupt
        return Coded({"motion": 10}, frames, 0.0, 0.0)


def test_a_custom_codec_and_an_interruption(clip, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(CODECS, "mine", lambda: [_Stopped("1"), _Stopped("2")])
    words = _words(clip, tmp_path / "new" / "folder", "mine")
    assert main(words) == 130
    kept = list((tmp_path / "new" / "folder").rglob("*.*"))
    assert [p.name.split("-")[:3] for p in kept] == [["head", "mine", "1"]]
    monkeypatch.setattr(_Stopped, "code", lambda self, frames, *_: Coded({"motion": 20}, frames, 0.0, 0.0))
    assert main(words) == 0
    kinds = json.loads((tmp_path / "new" / "folder" / "results.json").read_text())["sizes"]["128"]["clips"]
    assert [c["kinds"]["motion"] for c in kinds] == [10, 20]  # the first was kept
    assert "BD-rate" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--codecs", "x266"], "There is no codec 'x266'; did you mean"),
        (["--codecs", "av1:12"], "av1 has no point '12'"),
        (["--size", "127"], "--size '127' is not an even number"),
        (["--size", "256,big"], "--size 'big' is not an even number"),
        (["--seconds", "0"], "--seconds 0.0 is not a length"),
        (["--seconds", "nan"], "--seconds nan is not a length"),
        (["--codecs", "copy", "--anchor", "x265"], "--anchor x265 is not among the codecs"),
        (["--output", "{clip}"], "cannot be made a folder"),
    ],
)
def test_bad_input_is_one_sentence(words, sentence, clip, tmp_path, capsys):
    words = [word.format(clip=clip) for word in words]
    assert main([str(clip), "--output", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error
    assert not list(tmp_path.rglob("*.json"))


def test_no_clip(tmp_path, capsys):
    assert main([str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    assert "There is no clip in" in capsys.readouterr().err
    write_clip(tmp_path / "wide.mp4", [np.zeros((64, 96, 3), np.uint8)] * 3, sound=False)
    assert main([str(tmp_path), "--output", str(tmp_path / "out"), "--codecs", "copy"]) == 2
    assert "not square" in capsys.readouterr().err
