import json

import av
import numpy as np
import pytest
from PIL import Image

from avfr_jax.cli.main import main
from tests.media_fixtures import astronaut, moved, write_clip

QUICK = ["reenact", "--model", "landmark-warp"]  # nothing to load, little to compile


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("AVFR_HOME", str(tmp_path_factory.mktemp("home")))


def refused(capsys, *words) -> str:
    """Run a command that must fail; gives its one sentence."""
    assert main([str(w) for w in words]) == 2
    captured = capsys.readouterr()
    sentences = [line for line in captured.err.splitlines() if line.startswith("avfr: ")]
    assert len(sentences) == 1, captured.err
    assert "Traceback" not in captured.err
    return sentences[0]


def test_help_and_version(capsys):
    for words in (["--help"], ["--version"], ["reenact", "--help"], ["import", "--help"], ["demo", "--help"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 0
    assert "example" in capsys.readouterr().out


def test_wrong_options_exit_with_2(capsys):
    for words in (
        ["dance"],
        ["reenact"],
        ["reenact", "--source", "a", "--driving", "b", "--output", "c", "--motion", "x"],
        ["reenact", "--source", "a", "--driving", "b", "--output", "c", "--fps", "fast"],
        ["reenact", "--source", "a", "--driving", "b", "--output", "c", "--rotate", "10,left,0"],
        ["reenact", "--source", "a", "--driving", "b", "--output", "c", "--rotate", "-10,0"],
        ["reenact", "--source", "a", "--driving", "b", "--output", "c", "--translate", "0,0,inf"],
        ["orbit", "a", "b.mp4", "--degrees", "far"],
    ):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 2


def test_reenact_writes_video_sound_and_marks(portrait, driving, tmp_path, capsys):
    out = tmp_path / "out.mp4"
    assert main([*QUICK, "--source", str(portrait), "--driving", str(driving), "--output", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    with av.open(str(out)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.audio[0].codec_context.name == "aac"
        assert sum(1 for _ in container.decode(video=0)) == 20
    assert main(["inspect", "--json", str(out)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["declared_generated"] is True
    assert facts["watermark"]["present"] is True


def test_compare_pictures_and_no_sound(portrait, short, tmp_path, capsys):
    words = [*QUICK, "--source", str(portrait), "--driving", str(short), "--audio", "none", "--compare"]
    assert main([*words, "--output", str(tmp_path / "c.mp4"), "--watermark", "none"]) == 0
    with av.open(str(tmp_path / "c.mp4")) as container:
        assert not container.streams.audio
        assert container.streams.video[0].width == 3 * 256
    picture = [*QUICK, "--source", str(portrait), "--driving", str(portrait), "--output", str(tmp_path / "p.png")]
    assert main(picture) == 0
    assert Image.open(tmp_path / "p.png").size == (256, 256)


def test_frame_rate_of_the_source_or_a_number(portrait, tmp_path, capsys):
    clip = write_clip(tmp_path / "fast.mp4", [moved(astronaut(), i / 2) for i in range(8)], sound=False, rate=50)
    words = [*QUICK, "--source", str(portrait), "--driving", str(clip), "--output"]
    for fps, rate, count in (("source", 50, 8), ("12.5", 12.5, 2)):
        assert main([*words, str(tmp_path / f"{fps}.mp4"), "--fps", fps]) == 0
        with av.open(str(tmp_path / f"{fps}.mp4")) as container:
            assert container.streams.video[0].average_rate == rate
            assert sum(1 for _ in container.decode(video=0)) == count
    assert "fps must be" in refused(capsys, *words, tmp_path / "x.mp4", "--fps", "0")


def test_other_sound_is_taken(portrait, driving, tmp_path):
    silent = write_clip(tmp_path / "silent.mp4", [moved(astronaut(), i) for i in range(6)], sound=False)
    words = [*QUICK, "--source", str(portrait), "--driving", str(silent)]
    assert main([*words, "--output", str(tmp_path / "a.mp4")]) == 0
    assert main([*words, "--output", str(tmp_path / "b.mp4"), "--audio", str(driving)]) == 0
    for name, tracks in (("a.mp4", 0), ("b.mp4", 1)):
        with av.open(str(tmp_path / name)) as container:
            assert len(container.streams.audio) == tracks


@pytest.fixture
def bad(tmp_path, driving):
    """Files that are not what they should be."""
    files = {name: tmp_path / name for name in ("text.mp4", "cut.mp4", "empty.mp4", "dot.png", "flat.png", "tiny.png")}
    files["text.mp4"].write_text("this is no video\n")
    files["cut.mp4"].write_bytes(driving.read_bytes()[:600])
    files["empty.mp4"].write_bytes(b"")
    Image.new("RGB", (1, 1)).save(files["dot.png"])
    Image.fromarray(np.full((200, 200, 3), 120, np.uint8)).save(files["flat.png"])
    canvas = np.full((300, 300, 3), 200, np.uint8)
    canvas[100:148, 100:148] = astronaut(48)
    Image.fromarray(canvas).save(files["tiny.png"])
    return files


@pytest.mark.parametrize(
    ("source", "clip", "expected"),
    [
        ("nowhere.jpg", None, "nowhere.jpg"),
        (None, "nowhere.mp4", "nowhere.mp4"),
        (None, "text.mp4", "text.mp4"),
        (None, "cut.mp4", "cut.mp4"),
        (None, "empty.mp4", "empty.mp4"),
        ("text.mp4", None, "text.mp4"),
        ("dot.png", None, "1×1"),
        ("flat.png", None, "no face"),
        ("tiny.png", None, "32 px"),
    ],
)
def test_bad_input_gets_one_sentence(bad, portrait, driving, tmp_path, capsys, source, clip, expected):
    out = tmp_path / "out.mp4"
    s = portrait if source is None else bad.get(source, tmp_path / source)
    d = driving if clip is None else bad.get(clip, tmp_path / clip)
    assert expected in refused(capsys, *QUICK, "--source", s, "--driving", d, "--output", out)
    assert not out.exists()
    assert not [p for p in tmp_path.iterdir() if p.name not in bad]


def test_two_faces_are_chosen_between(short, tmp_path, capsys):
    two = np.concatenate([astronaut(), astronaut()[:, ::-1]], axis=1)
    path = tmp_path / "two.png"
    Image.fromarray(two).save(path)
    words = [*QUICK, "--source", str(path), "--driving", str(short), "--audio", "none"]
    assert main([*words, "--output", str(tmp_path / "a.mp4")]) == 0
    assert "2 faces" in capsys.readouterr().err
    assert main([*words, "--output", str(tmp_path / "b.mp4"), "--source-face", "right"]) == 0
    assert "2 faces" not in capsys.readouterr().err
    assert "there is no 5" in refused(capsys, *words, "--output", tmp_path / "c.mp4", "--source-face", "5")


def test_outputs_are_guarded(portrait, driving, tmp_path, capsys):
    out = tmp_path / "out.mp4"
    out.write_text("precious")
    words = [*QUICK, "--source", portrait, "--driving", driving, "--output"]
    assert "--overwrite" in refused(capsys, *words, out)
    assert out.read_text() == "precious"
    refused(capsys, *words, tmp_path / "no" / "such" / "folder.mp4")
    refused(capsys, *words, tmp_path / "out.gif")
    refused(capsys, *words, "/proc/out.mp4")
    copy = tmp_path / "driving.mp4"
    copy.write_bytes(driving.read_bytes())
    refused(capsys, *QUICK, "--source", portrait, "--driving", copy, "--output", copy, "--overwrite")
    assert copy.read_bytes() == driving.read_bytes()


def test_large_portraits_are_reduced(short, tmp_path):
    path = tmp_path / "large.jpg"
    Image.fromarray(astronaut()).resize((3500, 3500)).save(path)
    out = tmp_path / "out.mp4"
    assert main([*QUICK, "--source", str(path), "--driving", str(short), "--output", str(out), "--paste-back"]) == 0
    with av.open(str(out)) as container:
        assert container.streams.video[0].width == 1280


def test_broken_checkpoints_and_models(tmp_path, portrait, driving, capsys):
    path = tmp_path / "weights.pth.tar"
    path.write_bytes(b"not a checkpoint")
    assert "weights.pth.tar" in refused(capsys, "import", "fomm", path, tmp_path / "model")
    assert "does not exist" in refused(capsys, "import", "fomm", tmp_path / "none.pth", tmp_path / "model")
    (tmp_path / "broken").mkdir()
    words = ["reenact", "--source", portrait, "--driving", driving, "--output", tmp_path / "o.mp4", "--model"]
    assert "no model" in refused(capsys, *words, tmp_path / "broken")
    assert "There is no model" in refused(capsys, *words, "unknown")
    assert not (tmp_path / "model").exists()


def test_import_makes_a_model_that_reenacts(golden_dir, tmp_path, portrait, short, capsys):
    golden = golden_dir
    words = ["import", "fomm", str(golden / "fomm_tiny.pth.tar"), str(tmp_path / "tiny"), "--config",
             str(golden / "fomm_tiny.yaml"), "--sampling", "centred"]  # fmt: skip
    assert main(words) == 0
    assert "exists already" in refused(capsys, *words)
    out = tmp_path / "out.mp4"
    assert main(["reenact", "--source", str(portrait), "--driving", str(short), "--output", str(out), "--model",
                 str(tmp_path / "tiny")]) == 0  # fmt: skip
    with av.open(str(out)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 4
    capsys.readouterr()
    assert main(["inspect", "--json", str(tmp_path / "tiny")]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["provenance"]["source_sha256"]


def test_models_and_doctor(capsys):
    assert main(["models", "--json"]) == 0
    assert {"landmark-warp"} <= {m["name"] for m in json.loads(capsys.readouterr().out)}
    assert main(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["packages"]["jax"]
    assert "vox-adv-cpk" in facts["models"]["fomm"]


def test_views_that_are_refused(portrait, driving, tmp_path, capsys):
    words = [*QUICK, "--source", portrait, "--driving", driving, "--output", tmp_path / "o.mp4"]
    assert "give one of them" in refused(capsys, *words, "--rotate-mode", "absolute")
    assert "scales a head" in refused(capsys, *words, "--translate", "-0.1,0,9")
    assert "avfr128 cannot turn a head" in refused(capsys, *words, "--rotate", "-10,0,0", "--model", "avfr128")
    blank = tmp_path / "blank.png"
    Image.fromarray(np.full((256, 256, 3), 200, np.uint8)).save(blank)
    view = ["--model", "landmark-warp"]
    assert "no face" in refused(capsys, "frontalize", blank, tmp_path / "f.png", *view)
    assert "there is no 5" in refused(capsys, "frontalize", portrait, tmp_path / "f.png", *view, "--source-face", "5")
    assert "f.mp4" in refused(capsys, "frontalize", portrait, tmp_path / "f.mp4", *view)
    assert "--driving is a video" in refused(
        capsys, "frontalize", portrait, tmp_path / "f.png", *view, "--driving", driving
    )
    assert "is a picture" in refused(capsys, "orbit", portrait, tmp_path / "o.mp4", "--driving", portrait)
    assert "--seconds" in refused(capsys, "orbit", portrait, tmp_path / "o.mp4", "--seconds", "0")
    assert "o.png" in refused(capsys, "orbit", portrait, tmp_path / "o.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blank.png"]


def test_an_orbit_is_marked_and_clamped_with_a_warning(portrait, tmp_path, capsys):
    view = ["--model", "landmark-warp", "--seconds", "0.24"]
    assert main(["orbit", str(portrait), str(tmp_path / "o.mp4"), *view, "--degrees", "40"]) == 0
    assert "clamped to 20°" in capsys.readouterr().err
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 6
    assert main(["inspect", "--json", str(tmp_path / "o.mp4")]) == 0
    assert json.loads(capsys.readouterr().out)["watermark"]["present"] is True
