"""Super-resolution and interpolation networks at the receiver."""

import numpy as np
import pytest

from avfr_jax import model_store
from avfr_jax.codec import files, upscaling
from avfr_jax.codec.container import write_stream
from avfr_jax.codec.settings import SenderSettings
from avfr_jax.errors import ConfigError
from avfr_jax.media.video import VideoReader
from avfr_jax.models.interpolation import Interpolator
from tests.cli.test_cli import refused
from tests.codec.stubs import Mover
from tests.codec.test_call import frames, receiver, sent
from tests.models import test_interpolation, test_super_resolution


@pytest.fixture
def stream(tmp_path):
    """18 frames of 32 × 32 pixels, every third of which was sent."""
    path = tmp_path / "clip.avfr"
    with open(path, "wb") as file:
        write_stream(file, sent(SenderSettings(skipped_frames=2), frames(18)), lambda: 18)
    return path


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """An empty place where models are found by name."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setattr(model_store, "model_folders", lambda: [folder])
    return folder


def _save(folder, family, case):
    model_store.save_model(
        folder, family, case.CONFIG, {"generator": case.random_weights(*_arguments(case))["generator"]}
    )
    return folder


def _arguments(case):
    return (case.CONFIG,) if case is test_interpolation else ()


class Recorder:
    """A super-resolver that returns white and records its arguments."""

    def __init__(self):
        self.asked = []

    def __call__(self, pictures, height, width):
        self.asked.append((pictures.shape, height, width))
        return np.full((len(pictures), height, width, 3), 255, np.uint8)


def test_growing_frames_are_upscaled_in_small_batches(stream, tmp_path):
    larger = Recorder()
    done = files.decode_file(stream, tmp_path / "a.mp4", model=Mover(), size=(64, 48), super_resolver=larger)
    assert done.frames == 18
    assert larger.asked == [((n, 32, 32, 3), 48, 64) for n in (4, 4, 4, 4, 2)]
    assert np.min(list(VideoReader(tmp_path / "a.mp4"))) > 240
    for size in (None, 32, 16):
        larger.asked.clear()
        files.decode_file(stream, tmp_path / "a.mp4", model=Mover(), size=size, super_resolver=larger, overwrite=True)
        assert not larger.asked


def test_choice_of_the_super_resolver(shelf):
    assert upscaling.choose_super_resolver(None) is upscaling.choose_super_resolver("bicubic") is None
    folder = _save(shelf / upscaling.SUPER_RESOLVER, "super-resolution", test_super_resolution)
    found = upscaling.choose_super_resolver(None)
    assert found is not None
    assert found.name == upscaling.SUPER_RESOLVER
    assert upscaling.choose_super_resolver("bicubic") is None
    picture = (test_super_resolution.picture(32, 32) * 255).astype(np.uint8)
    by_folder = upscaling.choose_super_resolver(str(folder))
    assert by_folder is not None
    np.testing.assert_array_equal(by_folder(picture, 48, 48), found(picture, 48, 48))
    assert np.abs(found(picture, 48, 48)[0].astype(int) - upscaling.resize_bicubic(picture[0], 48, 48)).max() > 5
    with pytest.raises(ConfigError, match="no model 'other'"):
        upscaling.choose_super_resolver("other")
    with pytest.raises(ConfigError, match="upscales frames"):
        upscaling.choose_super_resolver("landmark-warp")


def test_choice_of_the_interpolator(shelf):
    assert upscaling.choose_interpolator("motion", None) is None
    with pytest.raises(ConfigError, match="--interpolator"):
        upscaling.choose_interpolator("pictures", None)
    with pytest.raises(ConfigError, match="--interpolate pictures"):
        upscaling.choose_interpolator("motion", "some")
    _save(shelf / upscaling.INTERPOLATOR, "interpolation", test_interpolation)
    found = upscaling.choose_interpolator("pictures", None)
    assert found is not None
    assert found.name == upscaling.INTERPOLATOR
    with pytest.raises(ConfigError, match="interpolates frames"):
        upscaling.choose_interpolator("pictures", "landmark-warp")


def test_skipped_frames_are_those_of_the_network(stream):
    network = Interpolator(test_interpolation.CONFIG, test_interpolation.random_weights(test_interpolation.CONFIG))
    data = stream.read_bytes()
    ends = receiver(), receiver(interpolator=network)
    moved, painted = (np.stack(list(files.decode_frames(data, receiver=end))) for end in ends)
    np.testing.assert_array_equal(moved[::3], painted[::3])
    np.testing.assert_array_equal(painted[4:6], network(moved[3], moved[6], 2))
    assert np.abs(moved[4].astype(int) - painted[4]).max() > 10
    np.testing.assert_array_equal(painted[16:], painted[[15, 15]])  # nothing comes after


def test_missing_networks_are_named(stream, shelf, tmp_path, capsys):
    out = tmp_path / "out.mp4"
    assert "trained model" in refused(capsys, "decode", stream, out, "--interpolate", "pictures")
    assert "'none'" in refused(capsys, "decode", stream, out, "--interpolate", "pictures", "--interpolator", "none")
    assert "'none'" in refused(capsys, "decode", stream, out, "--super-resolver", "none")
    for option in ("--skip-frames", "--between"):  # the old spelling is an alias
        assert "skipped_frames" in refused(capsys, "encode", stream, tmp_path / "o.avfr", option, "4")
    assert not out.exists()
