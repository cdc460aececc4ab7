"""Pictures as clips of one frame."""

import numpy as np
import pytest
from PIL import Image

from avfr_jax.errors import InputError
from data.clip_folder import ClipConfig, prepare
from pipelines.sources import open_dataset
from tests.media_fixtures import astronaut

pytest.importorskip("mediapipe")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two portraits of one person and a picture without a face."""
    folder = tmp_path_factory.mktemp("pictures")
    portrait = Image.fromarray(astronaut())
    portrait.save(folder / "a.png")
    portrait.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "b.jpg", quality=95)
    Image.new("RGB", (300, 300), "grey").save(folder / "grey.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "people.csv").write_text("file,identity\na.png,eileen\nb.jpg,eileen\n")
    return folder


def test_each_picture_is_a_clip_of_one_frame(pictures, tmp_path):
    config = ClipConfig(stills=True, workers=1, identities=pictures / "people.csv")
    report = prepare(pictures, tmp_path / "stills", config)
    assert (report.clips, report.frames, report.missing_faces, report.unusable) == (2, 2, 0, 2)
    assert [entry["source"] for entry in report.rejected] == ["broken.jpg", "grey.png"]
    assert report.rejected[1]["reason"] == "no face"
    dataset = open_dataset(tmp_path / "stills")
    assert [(clip.name, clip.identity, clip.frames) for clip in dataset.clips] == [
        ("a", "eileen", 1),
        ("b", "eileen", 1),
    ]
    a, b = (dataset.read_frame(clip, 0, ("image", "priors", "landmarks", "mel")) for clip in dataset.clips)
    assert a["image"].shape == (256, 256, 5)
    assert np.abs(a["landmarks"][:, :2]).max() < 0.9
    # The crop of the mirror image is mirrored too.
    np.testing.assert_allclose(a["landmarks"][:, 0].mean(), -b["landmarks"][:, 0].mean(), atol=0.05)
    assert prepare(pictures, tmp_path / "stills", config).taken_over == 4


def test_a_folder_without_pictures(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "clip.mp4").write_bytes(b"")
    with pytest.raises(InputError, match=r"holds no picture: give a folder with \.jpg"):
        prepare(tmp_path / "in", tmp_path / "out", ClipConfig(stills=True))
    assert [p.name for p in tmp_path.iterdir()] == ["in"]
