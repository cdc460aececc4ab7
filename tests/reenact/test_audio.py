"""Audio-conditioned models and dubbing through the reenactor and the command line."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from avfr_jax import model_store
from avfr_jax.cli.main import main
from avfr_jax.errors import ConfigError, FaceError, InputError
from avfr_jax.reenact import Reenactor
from tests.media_fixtures import astronaut, moved, write_clip
from tests.models.test_avfr import CONFIG, amplified_weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "little-avfr"
    model_store.save_model(path, "avfr", CONFIG, amplified_weights(CONFIG))
    return path


@pytest.fixture(scope="module")
def reenactor(folder):
    return Reenactor(folder, crop="none", best_frame="first")


def _frames(reenactor, portrait, driving, audio):
    return np.stack(list(reenactor.reenact(portrait, driving, audio))).astype(int)


def test_output_depends_on_the_audio(reenactor, portrait, driving):
    session = reenactor.steps(portrait, driving, "driving")
    own, warnings = np.stack([step.frame for step in session]).astype(int), session.report.warnings
    assert own.shape == (20, 32, 32, 3)
    assert not warnings
    still = _frames(reenactor, portrait, driving, None)
    noise = np.random.default_rng(0).normal(0, 0.3, 16000).clip(-1, 1).astype(np.float32)
    other = _frames(reenactor, portrait, driving, noise)
    assert np.abs(own - still).max() > 0
    assert np.abs(own - other).max() > 0
    np.testing.assert_array_equal(_frames(reenactor, portrait, driving, driving), own)


def test_dubbing_of_a_model_with_mouth_masking(tmp_path, portrait, driving, reenactor):
    config = dataclasses.replace(CONFIG, mouth_masking=0.5)
    path = tmp_path / "dubbing"
    model_store.save_model(path, "avfr", config, amplified_weights(config))
    model = model_store.load_model(path)
    noise = np.random.default_rng(0).normal(0, 0.3, 16000).clip(-1, 1).astype(np.float32)

    def rendered(mouth, audio):
        settings = {"crop": "none", "best_frame": "first", "motion": "absolute"}
        return _frames(Reenactor(model, mouth=mouth, **settings), portrait, driving, audio)

    own = rendered("driver", "driving")
    for audio in ("driving", str(driving)):
        np.testing.assert_array_equal(rendered("auto", audio), own)
    dubbed = rendered("auto", noise)
    np.testing.assert_array_equal(dubbed, rendered("sound", noise))
    assert np.abs(dubbed - rendered("driver", noise)).max() > 0
    with pytest.raises(ConfigError, match="cannot be dubbed"):
        Reenactor(reenactor.model, mouth="sound")


def test_audio_that_ends_early_is_padded_with_silence(reenactor, portrait, driving):
    blip = np.random.default_rng(0).normal(0, 0.3, 1600).clip(-1, 1).astype(np.float32)  # 100 ms
    audio, still = (_frames(reenactor, portrait, driving, sound) for sound in (blip, None))
    assert np.abs(audio - still)[:3].max() > 0
    # Silence after a sound is as silent as no sound at all: the spectrogram's floor in both.
    np.testing.assert_array_equal(audio[10:], still[10:])


def test_a_clip_without_audio_gives_a_warning(reenactor, portrait, tmp_path):
    silent = write_clip(tmp_path / "silent.mp4", [moved(astronaut(), i) for i in range(3)], sound=False)
    session = reenactor.steps(portrait, silent, "driving")
    quiet = np.stack([step.frame for step in session])
    assert "no audio" in session.report.warnings[0]
    np.testing.assert_array_equal(quiet, _frames(reenactor, portrait, silent, None))


def test_audio_with_nan_is_refused(reenactor, portrait, driving):
    with pytest.raises(InputError, match="NaN or infinity"):
        _frames(reenactor, portrait, driving, np.full(16000, np.nan, np.float32))


def test_digital_silence_equals_no_audio(reenactor, portrait, driving):
    zeros, longer = (_frames(reenactor, portrait, driving, np.zeros(n, np.float32)) for n in (16000, 160000))
    still = _frames(reenactor, portrait, driving, None)
    np.testing.assert_array_equal(zeros, still)
    np.testing.assert_array_equal(longer, still)


def test_a_source_without_a_face_is_refused(reenactor, driving):
    with pytest.raises(FaceError, match="face"):
        list(reenactor.reenact(np.full((64, 64, 3), 127, np.uint8), driving))


def test_a_frame_is_explained(reenactor, portrait, driving):
    explained = reenactor.explain(portrait, driving, at=7)
    assert explained.index == 7
    rendered = list(reenactor.reenact(portrait, driving))[7]
    np.testing.assert_allclose(np.asarray(explained.behind.frames[0]) * 255, rendered, atol=3)
    with pytest.raises(ConfigError, match="no frame 20"):
        reenactor.explain(portrait, driving, at=20)


def test_explain_command(folder, portrait, driving, tmp_path, capsys):
    out = tmp_path / "why.png"
    words = ["explain", str(portrait), str(driving), str(out), "--model", str(folder), "--crop", "none", "--at", "3"]
    assert main(words) == 0
    # Source, driving, result, flow, occlusion, attention; then a row for the two keypoints.
    assert Image.open(out).size == (6 * 36 - 4, 2 * (32 + 18 + 4))
    assert main(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*words[:3], str(tmp_path / "why.txt")]) == 2
    assert "is no picture" in capsys.readouterr().err
