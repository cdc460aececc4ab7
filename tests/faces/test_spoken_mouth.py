"""Audio-driven mouth landmarks."""

import numpy as np
import pytest

from avfr_jax.errors import CheckpointError, InputError
from avfr_jax.faces.spoken_mouth import (
    LOWER_LIP,
    UPPER_LIP,
    Placement,
    SpokenMouth,
    features,
    load,
    mouth_numbers,
    shipped,
)
from avfr_jax.landmarks import LEFT_EYE, LIPS, RIGID, canonical_face
from avfr_jax.media.mel import mel_spectrogram, silence


def turned(degrees=20.0, scale=0.1):
    """The canonical face, turned, small and elsewhere."""
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    return (scale * canonical_face() @ turn.T + [0.1, -0.2, 0.05]).astype(np.float32)


def syllables(seconds=4.0):
    """Voiced bursts, three a second, and the silence between them."""
    t = np.arange(int(16000 * seconds)) / 16000
    loud = np.clip(np.sin(2 * np.pi * 3 * t), 0, None) ** 2
    return (0.3 * loud * sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 20))).astype(np.float32), loud


def test_a_pose_is_removed_and_put_back():
    face = turned()
    place = Placement.of(face)
    assert place.scale == pytest.approx(0.1, rel=1e-4)
    np.testing.assert_allclose(place.removed(face), canonical_face(), atol=1e-4)
    np.testing.assert_allclose(place.placed(canonical_face()), face, atol=1e-5)
    np.testing.assert_allclose(place.rotation @ place.rotation.T, np.eye(3), atol=1e-6)


def test_the_mouth_opens_where_it_is_loud():
    sound, loud = syllables()
    numbers = shipped().numbers(mel_spectrogram(sound), np.arange(100))
    assert numbers.shape == (100, 2)
    level = loud[(np.arange(100) * 640 + 320)]
    assert np.corrcoef(numbers[:, 0], level)[0, 1] > 0.35
    assert numbers[:, 0].min() >= 0
    assert numbers[level > 0.5, 0].mean() > 0.3  # centimetres
    assert not shipped().numbers(silence(200), np.arange(50)).any()
    quieter = shipped().numbers(mel_spectrogram(0.1 * sound), np.arange(100))
    assert np.corrcoef(numbers[:, 0], quieter[:, 0])[0, 1] > 0.9  # the level is the recording's own


def test_only_lips_and_jaw_move_and_with_the_head():
    mouth, face = shipped(), turned()
    rest = mouth.shut(Placement.of(face).removed(face))
    assert mouth_numbers(rest)[0] < 0.5 * mouth_numbers(canonical_face())[0] + 0.05
    opened = mouth.spoken(face, rest, np.float32([1.0, 0.0]))
    still = [*RIGID, *LEFT_EYE]
    np.testing.assert_allclose(opened[still], face[still], atol=2e-3)
    moved = Placement.of(face).removed(opened)
    apart = np.linalg.norm(moved[LOWER_LIP] - moved[UPPER_LIP])
    assert apart == pytest.approx(1.0 + np.linalg.norm(rest[LOWER_LIP] - rest[UPPER_LIP]), abs=0.15)
    straight = mouth.spoken(canonical_face(), rest, np.float32([1.0, 0.0]))
    np.testing.assert_allclose(moved[list(LIPS)], straight[list(LIPS)], atol=5e-3)
    wide = Placement.of(face).removed(mouth.spoken(face, rest, np.float32([0.0, 0.5])))
    assert mouth_numbers(wide)[1] > mouth_numbers(rest)[1] + 0.3


def test_features_depend_on_the_window_alone():
    sound, _ = syllables()
    mel = mel_spectrogram(sound)
    some = features(mel, np.arange(10, 20))
    np.testing.assert_array_equal(features(mel, np.arange(100))[10:20], some)


def test_save_and_load(tmp_path):
    mouth = shipped()
    mouth.save(tmp_path / "a.npz")
    again = load(tmp_path / "a.npz")
    sound, _ = syllables(1.0)
    mel = mel_spectrogram(sound)
    np.testing.assert_array_equal(again.numbers(mel, np.arange(25)), mouth.numbers(mel, np.arange(25)))
    (tmp_path / "b.npz").write_bytes(b"nothing of the kind")
    with pytest.raises(CheckpointError, match="no file of an audio-driven mouth"):
        load(tmp_path / "b.npz")
    assert isinstance(again, SpokenMouth)


@pytest.mark.heavy
def test_a_mouth_is_fitted_on_clips(tmp_path):
    from experiments.fit_spoken_mouth import Track, correlations, fit

    sound, loud = syllables(8.0)
    rng = np.random.default_rng(0)
    shape = np.zeros((478, 3), np.float32)
    shape[[LOWER_LIP, *LIPS[1:10]]] = [0, 1, 0]
    clips = []
    for i in range(3):
        shifted = np.roll(sound, 4000 * i)
        level = np.roll(loud, 4000 * i)[np.arange(200) * 640 + 320] + 0.05 * rng.normal(size=200)
        clips.append(Track(str(i), canonical_face() + np.abs(level)[:, None, None] * shape, mel_spectrogram(shifted)))
    mouth = fit(clips[:2])
    assert correlations(mouth, clips[2:])["2"] > 0.6
    assert correlations(mouth, clips[2:], late=4)["2"] < 0.5 * correlations(mouth, clips[2:])["2"]
    assert mouth.shapes[0, LOWER_LIP, 1] == pytest.approx(1, abs=0.2)
    with pytest.raises(InputError, match="no clip has sound"):
        fit([Track("a", clips[0].faces, silence(10))])
