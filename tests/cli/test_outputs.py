"""Outputs that are inputs under another name, and links to model folders."""

import pytest

from avfr_jax.cli.main import main
from avfr_jax.model_store import load_model, save_model
from tests.media_fixtures import astronaut, write_clip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    write_clip(folder / "clip.mp4", [astronaut()] * 3)
    write_clip(folder / "voice.mp4", [astronaut()] * 3)
    (folder / "stream.avfr").write_bytes(b"not read")
    return folder


COMMANDS = [
    ("encode IN/clip.mp4 OUT.avfr", "clip.mp4"),
    ("encode IN/clip.mp4 OUT.avfr --audio IN/voice.mp4", "voice.mp4"),
    ("decode IN/stream.avfr OUT.mp4", "stream.avfr"),
    ("explain IN/clip.mp4 IN/clip.mp4 OUT.png", "clip.mp4"),
    ("explain IN/clip.mp4 IN/clip.mp4 OUT.png --audio IN/voice.mp4", "voice.mp4"),
    ("reenact --source IN/clip.mp4 --driving IN/clip.mp4 --output OUT.mp4", "clip.mp4"),
    ("reenact --source IN/clip.mp4 --driving IN/clip.mp4 --output OUT.mp4 --audio IN/voice.mp4", "voice.mp4"),
    ("reenact --source IN/clip.mp4 --output OUT.mp4 --audio IN/voice.mp4", "voice.mp4"),
]


@pytest.mark.parametrize("by", ["symlink_to", "hardlink_to"])
@pytest.mark.parametrize(("command", "name"), COMMANDS)
def test_an_output_that_is_an_input_is_refused(command, name, by, files, tmp_path, capsys):
    words = command.replace("IN/", f"{files}/").replace("OUT", f"{tmp_path}/out").split()
    (out,) = (tmp_path / word.rpartition("/")[2] for word in words if word.startswith(str(tmp_path)))
    getattr(out, by)(files / name)
    before = (files / name).read_bytes()
    assert main([*words, "--overwrite"]) == 2
    assert capsys.readouterr().err == f"avfr: {out} is one of the inputs: choose another name for the output.\n"
    assert (files / name).read_bytes() == before


@pytest.mark.parametrize("name", ["contact_sheet.png", "metrics.md", "metrics.json"])
def test_the_demo_replaces_no_file_unasked(name, tmp_path, capsys):
    (tmp_path / name).write_text("mine")
    assert main(["demo", "--output", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine")]


def test_an_import_does_not_replace_the_folder_of_its_checkpoint(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.json").write_text("{}")
    (tmp_path / "mine" / "vox.pth.tar").write_text("weights")
    (tmp_path / "link").symlink_to("mine")
    words = ["import", "fomm", str(tmp_path / "mine" / "vox.pth.tar"), str(tmp_path / "link"), "--overwrite"]
    assert main(words) == 2
    assert "which would be replaced" in capsys.readouterr().err
    assert (tmp_path / "mine" / "vox.pth.tar").read_text() == "weights"


def test_a_model_folder_is_written_through_a_link(tmp_path):
    model = load_model("landmark-warp")
    link = tmp_path / "link"
    link.symlink_to("models/mine")
    for number in (1, 2):  # first it leads nowhere
        info = save_model(
            link, "landmark-warp", model.config, {}, provenance={"source": f"run {number}"}, overwrite=number == 2
        )
        assert link.is_symlink()
        assert info.provenance["source"] == f"run {number}"
        assert [path.name for path in (tmp_path / "models").iterdir()] == ["mine"]
    assert load_model(link).name
