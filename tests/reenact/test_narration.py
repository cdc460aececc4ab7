"""A portrait and a sound, without a driving clip."""

import itertools

import numpy as np
import pytest

from avfr_jax.errors import ConfigError, InputError
from avfr_jax.landmarks import APERTURES, canonical_face
from avfr_jax.media.mel import RATE, mel_spectrogram
from avfr_jax.reenact import Reenactor
from avfr_jax.reenact.idle import IdleMotion, moved


def _speech(seconds):
    t = np.arange(int(RATE * seconds)) / RATE
    loud = np.clip(np.sin(2 * np.pi * 3 * t), 0, None) ** 2
    return (0.3 * loud * sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 20))).astype(np.float32)


@pytest.fixture(scope="module")
def motion():
    return IdleMotion.of_sound(mel_spectrogram(_speech(30)), 750, 25)


def test_a_head_turns_little_and_starts_at_rest(motion):
    assert len(motion) == 750
    assert np.abs(motion.turn[0]).max() < 0.1
    assert 1 < np.abs(motion.turn).max() < 12
    assert (np.abs(np.diff(motion.turn, axis=0)).max(0) < 2).all()  # degrees a frame


def test_blinks_are_whole_and_two_to_six_seconds_apart(motion):
    shut = np.flatnonzero(motion.lids > 0.99)
    starts = shut[np.diff(shut, prepend=-10) > 1]
    assert 5 <= len(starts) <= 16
    assert np.diff(starts).min() >= 2 * 25 - 1
    assert np.diff(starts).max() <= 6 * 25 + 1
    assert motion.lids.min() == 0


def test_the_same_sound_gives_the_same_motion_without_repeats(motion):
    again = IdleMotion.of_sound(mel_spectrogram(_speech(30)), 750, 25)
    np.testing.assert_array_equal(again.turn, motion.turn)
    assert np.abs(motion.turn[25:375] - motion.turn[400:750]).max() > 1


def test_a_blink_shuts_the_eyes_of_the_mesh(motion):
    face = canonical_face()
    index = int(motion.lids.argmax())
    blinking = moved(face, motion, index)
    for upper, lower in APERTURES[1:]:
        gap = np.linalg.norm(blinking[list(upper[1:-1])] - blinking[list(lower[1:-1])], axis=-1)
        assert gap.max() < 0.02  # centimetres


def test_a_portrait_talks_as_long_as_the_sound(portrait):
    with Reenactor("landmark-warp").steps(portrait, None, _speech(1.01)) as steps:
        assert steps.frames == 26
        frames = [step.frame for step in itertools.islice(steps, 8)]
    assert np.abs(frames[0].astype(int) - frames[7]).mean() > 0.05
    assert steps.report.warnings == []


def test_what_needs_a_driving_clip_is_refused(portrait):
    for settings in ({"smooth": True}, {"best_frame": 3}, {"missing_face": "skip"}, {"mouth": "driver"}):
        with pytest.raises(ConfigError, match="no driving clip"):
            Reenactor("landmark-warp", **settings).steps(portrait, None, _speech(0.2))
    with pytest.raises(ConfigError, match="give audio"):
        Reenactor("landmark-warp").steps(portrait, None)
    with pytest.raises(InputError, match="no samples"):
        Reenactor("landmark-warp").steps(portrait, None, np.zeros(0, np.float32))
