"""A template is made from the bundled clip and moves the astronaut, beside the clip itself."""

import io

import numpy as np
import pytest

from avfr_jax.cli.main import main
from avfr_jax.codec.bitstream import Kind, ReferenceCoding
from avfr_jax.codec.container import read_stream, write_stream
from avfr_jax.codec.files import Stream, decode_frames, encode_file
from avfr_jax.codec.settings import FOR_TEMPLATES
from avfr_jax.codec.stream_source import StreamSource
from avfr_jax.errors import ConfigError, InputError
from avfr_jax.landmarks import landmarks_to_pixels
from avfr_jax.media.audio import has_audio
from avfr_jax.media.image import write_image
from avfr_jax.media.video import VideoReader
from avfr_jax.reenact import Reenactor
from avfr_jax.tracking import track
from tests.cli.test_cli import refused
from tests.media_fixtures import astronaut, write_clip

COUNT = 12


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The beginning of the bundled clip, where the face moves, with a tone."""
    from benchmarks.fuzz_inputs import CLIP

    frames = list(VideoReader(CLIP))[20 : 20 + COUNT]
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", frames)


@pytest.fixture(scope="module")
def template(clip, tmp_path_factory):
    out = tmp_path_factory.mktemp("template") / "clip.avfr"
    encode_file(clip, out, settings=FOR_TEMPLATES, sound=clip)
    return out


@pytest.fixture(scope="module")
def reenactor():
    return Reenactor("landmark-warp", best_frame="first")


def test_a_template_holds_no_image(template):
    data = template.read_bytes()
    pivots = [p for p in read_stream(data) if p.kind is Kind.PIVOT]
    # Form none, no bytes of a picture, and the rest is the pose, which is no larger than a pose.
    assert {p.payload[:3] for p in pivots if p.coding is not None} == {bytes([0, ReferenceCoding.NONE, 0])}
    assert sum(len(p.payload) for p in pivots) < 700 * len(pivots)
    assert {p.kind for p in read_stream(data)} == {Kind.HEADER, Kind.PIVOT, Kind.MOTION, Kind.SOUND}
    assert Stream.parse(data).template


def test_recorded_motion_is_the_tracked_motion(template, clip, reenactor):
    tracked = landmarks_to_pixels(
        np.stack([frame.landmarks for frame in track(clip, 256, capabilities=reenactor.model.capabilities)]), 256
    )
    told = landmarks_to_pixels(np.stack([frame.landmarks for frame in StreamSource(template, reenactor.model)]), 256)
    assert told.shape == tracked.shape == (COUNT, 478, 3)
    assert np.linalg.norm((told - tracked)[..., :2], axis=-1).mean() < 0.6  # pixels of 256


def test_it_moves_a_portrait_as_the_video_does(template, clip, reenactor):
    source = astronaut(256)
    by_video = np.stack(list(reenactor.reenact(source, clip))).astype(float)
    session = reenactor.steps(source, template)
    by_template = np.stack([step.frame for step in session]).astype(float)
    apart = np.abs(by_video - by_template).mean()
    assert apart < 3.0
    assert apart < 0.3 * np.abs(by_video - by_video[:1]).mean()
    assert session.report.frames == COUNT
    assert session.report.reference == 0


def test_the_reference_is_chosen_among_its_poses(template, reenactor):
    motion = StreamSource(template, reenactor.model)
    assert motion.frames == COUNT
    assert [frame.index for frame in motion.sample(5)] == [0, 3, 6, 8, 11]
    chosen = Reenactor(reenactor.model, best_frame=7).steps(astronaut(256), template)
    first = next(chosen).frame
    assert chosen.report.reference == 7
    auto = Reenactor(reenactor.model).steps(astronaut(256), template)
    next(auto)
    assert auto.report.reference in range(COUNT)
    assert np.abs(first.astype(float) - next(reenactor.reenact(astronaut(256), template))).mean() > 0
    with pytest.raises(ConfigError, match="no frame 99"):
        next(Reenactor(reenactor.model, best_frame=99).reenact(astronaut(256), template))


def test_another_rate_is_shown_at_25(template, reenactor, tmp_path):
    """The same motion stated to be of 50 frames a second takes half the time."""
    packets = list(read_stream(template.read_bytes()))
    header = packets[0].payload
    at = header.index(bytes([25, 1]))
    packets[0] = type(packets[0])(Kind.HEADER, 0, header[:at] + bytes([50]) + header[at + 1 :])
    file = io.BytesIO()
    write_stream(file, packets)
    (tmp_path / "fast.avfr").write_bytes(file.getvalue())
    fast, slow = (StreamSource(path, reenactor.model) for path in (tmp_path / "fast.avfr", template))
    assert fast.frames == len(list(fast)) == COUNT // 2
    for quick, usual in zip(fast, list(slow)[::2], strict=True):
        np.testing.assert_array_equal(quick.motion, usual.motion)


def test_the_command(template, clip, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("AVFR_HOME", str(tmp_path / "home"))
    source, out = tmp_path / "me.png", tmp_path / "out.mp4"
    write_image(source, astronaut(256))
    same = tmp_path / "again.avfr"
    assert main(["encode", str(clip), str(same), "--template"]) == 0
    assert same.read_bytes() == template.read_bytes()
    use = ["reenact", "--source", str(source), "--driving", str(template), "--output"]
    assert main([*use, str(out), "--watermark", "none"]) == 0
    assert VideoReader(out).info.frames == COUNT
    assert has_audio(out)
    capsys.readouterr()
    assert main(["inspect", str(template)]) == 0
    assert "template" in capsys.readouterr().out

    wrong = tmp_path / "wrong.mp4"
    assert "holds no image; drive a portrait" in refused(capsys, "decode", template, wrong)
    assert "drive landmark-warp with it" in refused(capsys, *use, wrong, "--model", "mesh-fomm")
    assert "--compare" in refused(capsys, *use, wrong, "--compare")
    assert "smooth" in refused(capsys, *use, wrong, "--smooth")
    assert "driving_face" in refused(capsys, *use, wrong, "--driving-face", "left")
    assert "missing_face" in refused(capsys, *use, wrong, "--missing-face", "skip")
    assert "--template" in refused(capsys, "encode", clip, tmp_path / "x.avfr", "--call", "--template")
    assert not wrong.exists()


def test_what_holds_no_motion_drives_nothing(template, reenactor, tmp_path):
    packets = list(read_stream(template.read_bytes()))
    for name, kept in (("empty", [Kind.HEADER]), ("posed", [Kind.HEADER, Kind.PIVOT])):
        file = io.BytesIO()
        write_stream(file, [p for p in packets if p.kind in kept])
        (tmp_path / name).write_bytes(file.getvalue())
        with pytest.raises(InputError, match="no motion"):
            StreamSource(tmp_path / name, reenactor.model)
    file = io.BytesIO()
    write_stream(file, [p for p in packets if p.kind is not Kind.PIVOT])
    (tmp_path / "blind").write_bytes(file.getvalue())
    with pytest.raises(InputError, match="before its first pivot"):
        list(StreamSource(tmp_path / "blind", reenactor.model))
    with pytest.raises(InputError, match="before its first pivot"):
        list(decode_frames(file.getvalue()))
