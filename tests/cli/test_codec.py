import json
import shutil

import av
import jax
import numpy as np
import pytest
from PIL import Image

from avfr_jax.cli.main import main
from avfr_jax.codec.bitstream import Kind
from avfr_jax.codec.container import read_index, read_stream
from avfr_jax.codec.files import decode_frames
from avfr_jax.codec.header import Header
from avfr_jax.codec.receiver import Receiver
from avfr_jax.errors import ConfigError
from avfr_jax.media.video import VideoReader
from avfr_jax.model_store import load_model, save_model
from avfr_jax.motion import Orbit, View
from tests.cli.test_cli import refused
from tests.media_fixtures import astronaut, write_clip
from tests.models.test_avfr import CONFIG, amplified_weights


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("AVFR_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="module")
def stream(driving, tmp_path_factory):
    """The driving clip, coded as it is."""
    out = tmp_path_factory.mktemp("stream") / "clip.avfr"
    assert main(["encode", str(driving), str(out), "--crop", "none"]) == 0
    return out


def test_a_clip_round_trips(stream, driving, tmp_path, capsys):
    out = tmp_path / "out.mp4"
    assert main(["decode", str(stream), str(out), "--watermark", "none"]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    seen, shown = (np.stack(list(VideoReader(path))) for path in (driving, out))
    assert shown.shape == seen.shape
    motion = [p for p in read_stream(stream.read_bytes()) if p.kind is Kind.MOTION]
    assert sum(len(p.to_bytes()) for p in motion) < 8 * len(seen)  # bytes a frame
    face = np.s_[:, 60:180, 70:190]  # the background of this clip moves with it, which no face model follows
    error = np.abs(shown.astype(float) - seen)[face].mean()
    assert error < 0.8 * np.abs(seen[:1].astype(float) - seen)[face].mean()
    with av.open(str(out)) as container:
        sound, picture = container.streams.audio[0], container.streams.video[0]
        assert abs(float(sound.duration * sound.time_base) - float(picture.duration * picture.time_base)) < 0.06
        blocks = [f.to_ndarray()[0] for f in container.decode(sound)]
        assert np.abs(np.concatenate(blocks)).max() > 0.1  # the tone is heard


def test_float64_as_the_default_changes_nothing(stream, driving, tmp_path):
    """As with `JAX_ENABLE_X64=1` in the environment."""
    again, out = tmp_path / "again.avfr", tmp_path / "out.mp4"
    for words in (["encode", str(driving), str(again), "--crop", "none"], ["decode", str(again), str(out)]):
        jax.config.update("jax_enable_x64", True)
        try:
            assert main(words) == 0
        finally:
            jax.config.update("jax_enable_x64", False)
    assert again.read_bytes() == stream.read_bytes()
    assert VideoReader(out).info.frames == 20


def test_the_file_decodes_as_a_call_does(stream):
    """Bit for bit, packet by packet."""
    data = stream.read_bytes()
    first = np.stack(list(decode_frames(data)))
    end = Receiver()
    for packet in read_stream(data):
        end.push_bytes(packet.to_bytes())
    np.testing.assert_array_equal(np.stack(list(end.render(len(first)))), first)


def test_frame_count_is_kept_under_a_wrong_container_duration(driving, tmp_path):
    """A container that states a wrong duration."""
    long, stream, out = (tmp_path / name for name in ("long.mkv", "long.avfr", "long.mp4"))
    with av.open(str(driving)) as source, av.open(str(long), "w") as copy:
        ours = {s.index: copy.add_stream_from_template(s) for s in (source.streams.video[0], source.streams.audio[0])}
        for packet in source.demux():
            if packet.dts is not None and (packet.stream.type == "audio" or packet.pts * packet.time_base < 0.5):
                packet.stream = ours[packet.stream.index]
                copy.mux(packet)
    assert VideoReader(long).info.frames > 13
    assert main(["encode", str(long), str(stream), "--crop", "none", "--skip-frames", "2"]) == 0
    count = len(list(VideoReader(long)))
    assert read_index(stream.read_bytes()).frames == count < VideoReader(long).info.frames
    assert main(["decode", str(stream), str(out)]) == 0
    assert len(list(VideoReader(out))) == count


def test_another_size_and_a_lossy_channel(stream, driving, tmp_path, capsys):
    out = tmp_path / "large.mp4"
    assert main(["decode", str(stream), str(out), "--size", "320"]) == 0
    assert VideoReader(out).info.width == 320
    call, seen = tmp_path / "call.avfr", tmp_path / "call.mp4"
    words = ["--crop", "none", "--call", "--audio", "none", "--bitrate", "4000"]
    assert main(["encode", str(driving), str(call), *words]) == 0
    assert main(["decode", str(call), str(seen), "--loss", "0.3", "--jitter", "40ms", "--burst", "0.3-0.5"]) == 0
    assert "came without their motion" in capsys.readouterr().err
    assert VideoReader(seen).info.frames >= 10


def test_inspect_reports_bytes_by_kind(stream, tmp_path, capsys):
    plot = tmp_path / "plot.png"
    assert main(["inspect", str(stream), "--json", "--plot", str(plot)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["bytes"] == stream.stat().st_size
    assert (facts["frames"], facts["pivots"], facts["damaged bytes"]) == (20, 1, 0)
    assert plot.stat().st_size > 1000


def test_what_cannot_be_coded(tmp_path, driving, stream, capsys):
    out = tmp_path / "out.avfr"
    blank = write_clip(tmp_path / "blank.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 5, sound=False)
    assert "No face" in refused(capsys, "encode", blank, out)
    assert ".avfr" in refused(capsys, "encode", driving, tmp_path / "out.mp4")
    assert "missing.mp4" in refused(capsys, "encode", tmp_path / "missing.mp4", out)
    assert "step" in refused(capsys, "encode", driving, out, "--step", "99")
    assert "components" in refused(capsys, "encode", driving, out, "--components", "0")
    assert "quality" in refused(capsys, "encode", driving, out, "--pivot-quality", "101", "--crop", "none")
    assert "bit rate" in refused(capsys, "encode", driving, out, "--audio-bitrate", "1")
    assert "bit rate must be 300" in refused(capsys, "encode", driving, out, "--bitrate", "20")
    assert "--pivot-background must be 0" in refused(capsys, "encode", driving, out, "--pivot-background", "-1")
    threshold = "--pivot-distortion-threshold"
    assert threshold in refused(capsys, "encode", driving, out, threshold, "nan")
    assert threshold in refused(capsys, "encode", driving, out, "--pivot-quality-check", "-1")
    assert "check_interval" in refused(capsys, "encode", driving, out, "--pivot-check-interval", "0")
    assert "1000 bits" in refused(capsys, "encode", driving, out, "--pivot-bitrate", "5")
    assert "vgg19" in refused(capsys, "encode", driving, out, "--pivot-network", "vgg19")
    assert "no sound" in refused(capsys, "encode", driving, out, "--audio", blank)
    assert list(tmp_path.glob("*.avfr")) == list(tmp_path.glob(".*")) == []
    assert "exists already" in refused(capsys, "encode", driving, stream)


def test_what_cannot_be_decoded(tmp_path, driving, stream, capsys):
    out = tmp_path / "out.mp4"
    assert "not an .avfr file" in refused(capsys, "decode", driving, out)
    for name, data in (
        ("cut", stream.read_bytes()[:40]),
        ("early", stream.read_bytes()[:90]),
        ("other", stream.read_bytes().replace(b"landmark-warp", b"landmark-work")),
    ):
        (tmp_path / name).write_bytes(data)
        assert refused(capsys, "decode", tmp_path / name, out)
    assert "lost packets" in refused(capsys, "decode", stream, out, "--loss", "1.5")
    assert "pixels" in refused(capsys, "decode", stream, out, "--size", "5000")
    assert not out.exists()
    picture = tmp_path / "picture.png"
    Image.fromarray(astronaut(64)).save(picture)
    assert "--plot" in refused(capsys, "inspect", picture, "--plot", tmp_path / "p.png")


def test_residual_coded_pivots(driving, tmp_path, capsys):
    """The shipped residual codec reduces the distortion at a few bytes a frame."""
    plain, mended, out = (tmp_path / name for name in ("plain.avfr", "mended.avfr", "out.mp4"))
    words = ["--crop", "none", "--audio", "none", "--pivot-quality", "0"]
    often = [
        "--faithful",
        "--residual-codec",
        "residual256",
        "--pivot-distortion-threshold",
        "0.005",
        "--pivot-check-interval",
        "3",
    ]
    assert main(["encode", str(driving), str(mended), *words, *often]) == 0
    residuals = [p for p in read_stream(mended.read_bytes()) if p.kind is Kind.RESIDUAL]
    assert residuals
    assert max(len(p.to_bytes()) for p in residuals) < 1100
    assert main(["encode", str(driving), str(plain), *words]) == 0
    seen = np.stack(list(VideoReader(driving))).astype(float)
    far = [np.abs(np.stack(list(decode_frames(path.read_bytes()))) - seen).mean() for path in (plain, mended)]
    assert far[1] < 0.95 * far[0]
    capsys.readouterr()
    assert main(["inspect", str(mended)]) == 0
    assert "residual256 (" in capsys.readouterr().out
    assert main(["decode", str(mended), str(out)]) == 0
    assert "a model that codes the residual of generated frames" in refused(
        capsys, "encode", str(driving), str(tmp_path / "x.avfr"), "--residual-codec", "mesh-fomm"
    )


def test_a_stream_finds_its_model_by_fingerprint(short, tmp_path, capsys, monkeypatch):
    """A model of a folder is found by no name, but passed to decode; under another name it is found as well."""
    monkeypatch.setenv("AVFR_MODELS", str(tmp_path / "models"))
    folder = tmp_path / "mine"
    save_model(folder, "avfr", CONFIG, amplified_weights(CONFIG))
    stream, out = tmp_path / "clip.avfr", tmp_path / "out.mp4"
    words = ["--model", str(folder), "--crop", "none", "--audio", "none"]
    assert main(["encode", str(short), str(stream), *words]) == 0
    header = Header.from_packet(next(read_stream(stream.read_bytes())))
    assert header.fingerprint == load_model(folder).fingerprint
    assert f"'mine' of fingerprint {header.fingerprint.hex()}" in refused(capsys, "decode", stream, out)
    assert "the model landmark-warp here is another" in refused(
        capsys, "decode", stream, out, "--model", "landmark-warp"
    )
    assert not out.exists()
    assert main(["decode", str(stream), str(out), "--model", str(folder)]) == 0
    shutil.copytree(folder, tmp_path / "models" / "renamed")
    assert main(["decode", str(stream), str(tmp_path / "again.mp4")]) == 0
    frames = [np.stack(list(VideoReader(path))) for path in (out, tmp_path / "again.mp4")]
    np.testing.assert_array_equal(*frames)


def test_a_viewer_turns_the_callers_head(stream, tmp_path, capsys):
    data = stream.read_bytes()
    plain, same, turned = (
        np.stack(list(decode_frames(data, receiver=Receiver(view=view)))).astype(int)
        for view in (None, View((0.0, 0.0, 0.0)), View((15.0, 0.0, 0.0)))
    )
    np.testing.assert_allclose(same, plain, atol=1)
    change = np.abs(turned - plain).mean((0, 3))
    assert change[60:180, 70:190].mean() > 3 > change[:, :8].mean()  # the face turns, the picture's border rests
    with pytest.raises(ConfigError, match="one side"):
        Receiver(view=Orbit())
    out = tmp_path / "out.mp4"
    assert main(["decode", str(stream), str(out), "--rotate", "-15,0,0", "--watermark", "none"]) == 0
    assert "Traceback" not in capsys.readouterr().err
    shown = np.stack(list(VideoReader(out))).astype(int)
    assert np.abs(shown - plain)[:, 60:180, 70:190].mean() > 3


def test_a_call_with_the_free_view_model(short, portrait, tmp_path, capsys):
    """Encoded, shown from the side by the viewer, and driving another portrait."""
    stream = tmp_path / "call.avfr"
    assert main(["encode", str(short), str(stream), "--model", "face-vid2vid", "--keypoint-threshold", "1"]) == 0
    data = stream.read_bytes()
    plain, turned = (
        np.stack(list(decode_frames(data, receiver=Receiver(view=view)))).astype(int)
        for view in (None, View((40.0, 0.0, 0.0)))
    )
    assert len(plain) == 4
    change = np.abs(turned - plain).mean((0, 3)) / 255
    size = len(change)
    middle, corner = slice(size // 4, 3 * size // 4), size // 8
    assert change[middle, middle].mean() > 0.05 > 10 * change[:corner, -corner:].mean()  # hair is at the left
    out = tmp_path / "out.mp4"
    words = ["reenact", "--source", str(portrait), "--driving", str(stream), "--output", str(out), "--rotate", "0,70,0"]
    assert main([*words, "--model", "face-vid2vid"]) == 0
    assert "60" in capsys.readouterr().err  # clamped with a word
    assert len(list(VideoReader(out))) == 4
