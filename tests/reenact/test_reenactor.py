import contextlib
import dataclasses
import functools
from fractions import Fraction

import av
import numpy as np
import pytest

from avfr_jax.errors import ConfigError, FaceError, InputError
from avfr_jax.motion import FaceMesh, KeypointSpec
from avfr_jax.reenact import Reenactor, side_by_side
from avfr_jax.tracking import TrackedFrame, track
from tests.media_fixtures import astronaut, moved, panned, write_clip
from tests.reenact.stub import PixelStub, Stub

warping = functools.partial(Reenactor, "landmark-warp", batch_size=4)
stubbed = functools.partial(Reenactor, Stub(), crop="none")


@pytest.fixture(scope="module")
def reenactor():
    return warping()


@pytest.fixture(scope="module")
def frames():
    return np.stack([moved(astronaut(), i) for i in range(10)])


@pytest.fixture(scope="module")
def half_second(tmp_path_factory):
    """A clip of twelve frames with sound."""
    path = tmp_path_factory.mktemp("half") / "half.mp4"
    return write_clip(path, [moved(astronaut(), i) for i in range(12)])


def test_every_driving_frame_gives_one_frame(reenactor, portrait, driving):
    session = reenactor.steps(portrait, driving)
    out = [step.frame for step in session]
    assert len(out) == session.frames == 20
    assert all(f.shape == (256, 256, 3) and f.dtype == np.uint8 for f in out)
    assert session.report.frames == 20
    assert session.report.missing == []
    assert session.report.first_frame_seconds > 0


def test_interleaved_runs_equal_separate_ones(portrait, half_second):
    """Two iterators of one reenactor, one of them dubbed and with another source."""
    reenactor = stubbed(best_frame="first")
    runs = ((portrait, half_second, "driving"), (moved(astronaut(), 3), half_second, _speech()))
    separate = [np.stack(list(reenactor.reenact(*run))) for run in runs]
    sessions = [reenactor.steps(*run) for run in runs]
    pairs = list(zip(*sessions, strict=True))
    for i, frames in enumerate(separate):
        np.testing.assert_array_equal(np.stack([pair[i].frame for pair in pairs]), frames)
    assert [session.report.frames for session in sessions] == [12, 12]


@pytest.mark.parametrize(("fps", "count"), [(25, 6), ("source", 12), (12.5, 3)])
def test_the_frame_rate_is_a_setting(frames, tmp_path, fps, count):
    clip = write_clip(tmp_path / "fast.mp4", [frames[i // 2] for i in range(12)], sound=False, rate=50)
    session = stubbed(fps=fps).steps(frames[0], clip, None)
    assert session.fps == (50 if fps == "source" else fps)
    assert len(list(session)) == session.frames == count


def test_audio_windows_follow_the_frame_rate(frames):
    noise = np.random.default_rng(0).normal(0, 0.3, 3200).clip(-1, 1).astype(np.float32)  # 0.2 s
    for fps, count in ((25, 11), (50, 20)):
        still, by_driver = np.stack([frames[0]] * count), stubbed(fps=fps, mouth="driver")
        loud, silent = (np.stack(list(by_driver.reenact(frames[0], still, audio))) for audio in (noise, None))
        changed = (loud != silent).any((1, 2, 3))
        assert 0.28 <= changed.sum() / fps <= 0.36  # seconds: the audio and half a window
        assert changed[: changed.sum()].all()


class Recorded:
    """Recorded motion of some frames: a `DrivingSource` without images."""

    name, fps, repeatable = "recorded", Fraction(25), True

    def __init__(self, frames):
        tracked = list(track(frames, 32, capabilities=Stub.capabilities, crop="none"))
        numbers = np.asarray(
            Stub.motion_spec.flatten(FaceMesh.from_landmarks(np.stack([f.landmarks for f in tracked])))
        )
        self._items = [TrackedFrame(f.index, None, f.landmarks, None, n) for f, n in zip(tracked, numbers, strict=True)]
        self.frames = len(self._items)

    def __iter__(self):
        return iter(self._items)

    def sample(self, count):
        return self._items[:count]

    def frame(self, index):
        return self._items[index]

    def audio_file(self):
        return contextlib.nullcontext(None)


def test_recorded_motion_drives_as_its_frames_do(frames):
    reenactor, recorded = stubbed(best_frame="first"), Recorded(frames)
    steps = list(reenactor.steps(frames[3], recorded, None))
    by_frames = np.stack(list(reenactor.reenact(frames[3], frames, None)))
    np.testing.assert_allclose(np.stack([step.frame for step in steps]).astype(int), by_frames, atol=2)
    assert steps[0].driving is None
    with pytest.raises(InputError, match="no images"):
        reenactor.explain(frames[3], recorded)
    with pytest.raises(ValueError, match="driving frames"):
        side_by_side(steps[0])


def test_settings_are_frozen(reenactor):
    with pytest.raises(dataclasses.FrozenInstanceError):
        reenactor.motion = "absolute"


def test_a_clip_driving_its_own_first_frame_is_reproduced(frames):
    still = np.abs(frames.astype(float) - frames[0]).mean()
    out = np.stack(list(warping(crop="none", best_frame="first").reenact(frames[0], frames)))
    error = np.abs(out.astype(float) - frames)
    # Only the person moves in the output; the whole picture, background and all, moves in this clip.
    face = (slice(None), slice(60, 190), slice(70, 190))
    assert error[0].mean() < 1.5
    assert error[face].mean() < 0.6 * np.abs(frames.astype(float) - frames[0])[face].mean()
    assert error.mean() < still


def test_iterables_arrays_and_floats_are_taken(frames):
    one = list(stubbed().reenact(frames[0], list(frames[:3])))
    two = list(stubbed().reenact(frames[0] / np.float32(255), iter(frames[:3] / np.float32(255))))
    assert len(one) == len(two) == 3
    np.testing.assert_allclose(one[2].astype(int), two[2].astype(int), atol=2)


def _with_gap(frames):
    blank = np.full_like(frames[0], 127)
    return np.concatenate([frames[:4], np.stack([blank] * 3), frames[4:8]])


def test_a_face_that_leaves_is_held_skipped_or_refused(frames):
    clip = _with_gap(frames)
    hold = stubbed(missing_face="hold")
    session = hold.steps(frames[0], clip)
    steps = list(session)
    assert [s.held for s in steps] == [False] * 4 + [True] * 3 + [False] * 4
    np.testing.assert_array_equal(steps[5].frame, steps[3].frame)
    assert session.report.held == 3
    assert "3 of the driving frames" in session.report.warnings[-1]
    skip = stubbed(missing_face="skip").steps(frames[0], clip)
    assert len(list(skip)) == 8
    assert skip.report.missing == [4, 5, 6]
    for fps, time in ((25, "0.16"), (50, "0.08")):
        fail = stubbed(missing_face="fail", fps=fps)
        with pytest.raises(FaceError, match=f"driving frame 4 .{time} s"):
            list(fail.reenact(frames[0], clip))


def test_frames_before_the_first_face_show_the_source(frames):
    blank = np.full_like(frames[0], 127)
    steps = list(stubbed().steps(frames[0], np.concatenate([blank[None], frames[:3]])))
    assert steps[0].held
    np.testing.assert_array_equal(steps[0].frame, steps[0].source)


def test_the_head_stays_in_the_picture_while_the_camera_pans(frames):
    from avfr_jax.faces import open_face_backend
    from avfr_jax.tracking import track_landmarks

    out = list(warping(best_frame="first").reenact(frames[0], panned(astronaut(128), 12)))
    with open_face_backend() as backend:
        points = track_landmarks(out, backend)[:, :468, :2]
    assert points.min() > 0
    assert points.max() < 255
    assert np.ptp(points.mean(1), axis=0).max() < 25  # the pan crosses 1.4 pictures


def test_paste_back_leaves_the_rest_of_the_picture_alone(frames):
    from skimage import data

    picture = data.astronaut()
    reenactor = warping(paste_back=True)
    out = list(reenactor.reenact(picture, frames[:3]))
    assert out[0].shape == picture.shape
    np.testing.assert_array_equal(out[2][-100:], picture[-100:])
    assert np.abs(out[2].astype(int) - picture).max() > 10


def test_paste_back_reports_a_result_smaller_than_the_picture(frames):
    from skimage import data

    def warnings(picture):
        steps = warping(paste_back=True).steps(picture, frames[:2])
        shape = next(steps).frame.shape
        list(steps)
        return shape, [text for text in steps.report.warnings if "pasted back" in text]

    small = data.astronaut()
    assert warnings(small) == ((512, 512, 3), [])
    large = np.concatenate([np.repeat(np.repeat(small, 3, 0), 3, 1), np.zeros((1536, 512, 3), np.uint8)], axis=1)
    shape, sentences = warnings(large)
    assert shape == (960, 1280, 3)
    assert sentences == [
        "The result has 1280 × 960 pixels, the source 2048 × 1536: results are pasted back at no more than 1280 pixels "
        "on the longer side."
    ]


def test_best_frame_is_the_one_that_looks_like_the_source(frames):
    auto = stubbed(best_frame="auto").steps(frames[6], frames)
    next(auto)
    assert auto.report.reference in (4, 5, 6, 7, 8)  # turned by 5° to 6°; the first frames stand upright
    chosen = stubbed(best_frame=3).steps(frames[0], frames)
    next(chosen)
    assert chosen.report.reference == 3
    with pytest.raises(ConfigError, match="no frame 99"):
        list(stubbed(best_frame=99).reenact(frames[0], frames))


def test_smoothing_reduces_jitter(frames):
    rng = np.random.default_rng(0)
    noisy = np.clip(np.stack([frames[0]] * 12) + rng.normal(0, 25, (12, *frames[0].shape)), 0, 255).astype(np.uint8)

    def shake(smooth):
        out = np.stack(list(warping(crop="none", smooth=smooth).reenact(frames[0], noisy))).astype(float)
        return np.abs(np.diff(out, axis=0)).mean()

    assert shake(True) < 0.8 * shake(False)


def test_absolute_motion_takes_over_the_pose(frames):
    large = [moved(astronaut(), 4)] * 2
    relative = list(warping(crop="none").reenact(frames[0], large))
    absolute = list(warping(crop="none", motion="absolute").reenact(frames[0], large))
    # The clip stands still: relative motion leaves the source as it is, absolute motion turns it.
    assert np.abs(relative[1].astype(int) - frames[0]).mean() < 2
    assert np.abs(absolute[1].astype(int) - frames[0]).mean() > 2


def test_a_model_without_faces_needs_none():
    noise = np.random.default_rng(0).integers(0, 255, (5, 64, 64, 3), np.uint8)
    session = Reenactor(PixelStub(), crop="none").steps(noise[0], noise)
    assert len(list(session)) == 5
    assert session.report.reference == 0


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"motion": "sideways"}, "motion must be one of"),
        ({"crop": "square"}, "crop must be one of"),
        ({"best_frame": -1}, "best_frame"),
        ({"fps": 0}, "fps must be"),
        ({"fps": float("nan")}, "fps must be"),
        ({"paste_back": True, "crop": "none"}, "Pasting back"),
    ],
)
def test_impossible_settings_are_refused(settings, match):
    with pytest.raises(ConfigError, match=match):
        Reenactor(**settings)


def test_bad_frames_are_refused(reenactor, frames):
    with pytest.raises(InputError, match="shape"):
        list(reenactor.reenact(frames[0, :, :, 0], frames))
    with pytest.raises(InputError, match="no frames"):
        list(reenactor.reenact(frames[0], frames[:0]))
    with pytest.raises(FaceError, match="no face"):
        list(reenactor.reenact(np.full((64, 64, 3), 90, np.uint8), frames))
    with pytest.raises(FaceError, match="No face"):
        list(reenactor.reenact(frames[0], np.full((3, 64, 64, 3), 90, np.uint8)))


def test_stopping_early_ends_the_reading_thread(frames):
    import threading

    steps = stubbed().steps(frames[0], frames)
    next(steps)
    steps.close()
    assert not [t for t in threading.enumerate() if t.name == "avfr-frames"]


@pytest.mark.shared
def test_real_clips_keep_length_rate_and_sound(shared_dir, tmp_path):
    from avfr_jax.cli.main import main

    clips = shared_dir / "clips"
    out = tmp_path / "out.mp4"
    assert main(["reenact", "--source", str(clips / "image/i001.jpg"), "--driving", str(clips / "video/v003.mp4"),
                 "--output", str(out), "--model", "landmark-warp"]) == 0  # fmt: skip
    with av.open(str(out)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert video.average_rate == 25
        assert abs(float(video.duration * video.time_base) - float(audio.duration * audio.time_base)) < 0.05
        assert sum(1 for _ in container.decode(video)) == pytest.approx(4.575 * 25, abs=1)


def _speech(seconds=1.0, since=0.0):
    """Voiced bursts after a silence."""
    t = np.arange(int(16000 * seconds)) / 16000
    loud = np.clip(np.sin(2 * np.pi * 3 * t), 0, None) ** 2 * (t >= since)
    return (0.3 * loud * sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 20))).astype(np.float32)


def test_dubbing_changes_the_mouth_alone(portrait, half_second, reenactor):
    spoken, shut = (
        np.stack(list(reenactor.reenact(portrait, half_second, sound))) for sound in (_speech(), np.zeros(16000))
    )
    changed = np.abs(spoken.astype(float) - shut).mean((0, 3))
    assert changed[140:210, 90:170].mean() > 20 * changed[:120].mean()
    assert changed[140:210, 90:170].mean() > 1
    own = np.stack(list(reenactor.reenact(portrait, half_second)))
    driver = warping(mouth="driver")
    np.testing.assert_array_equal(np.stack(list(driver.reenact(portrait, half_second, _speech()))), own)
    by_sound = warping(mouth="sound")
    np.testing.assert_array_equal(np.stack(list(by_sound.reenact(portrait, half_second, None))), shut)


def test_a_warning_for_a_dubbed_clip_without_audio(portrait, frames):
    session = warping(crop="none", best_frame="first", mouth="sound").steps(frames[0], frames)
    next(session)
    assert session.report.warnings == ["The driving clip has no audio: the mouth stays shut."]


def test_explanation_of_a_dubbed_frame(portrait, half_second):
    by_sound = stubbed(mouth="sound", best_frame="first")
    spoken, shut = (np.stack(list(by_sound.reenact(portrait, half_second, sound)))[9] for sound in (_speech(), None))
    frame = by_sound.explain(portrait, half_second, _speech(), at=9).behind.frames[0] * 255
    assert np.abs(frame - spoken).max() <= 2
    assert np.abs(frame - shut).max() > 4


class TintingStub(Stub):
    """A stub whose frames are tinted, as those of a network that learned from colour."""

    def animate(self, source, source_keypoints, driving_keypoints, mel=None):
        return super().animate(source, source_keypoints, driving_keypoints, mel) * np.float32([1.0, 0.9, 0.8])


def test_a_greyscale_portrait_stays_grey(frames):
    tinting = Reenactor(TintingStub(), crop="none", mouth="driver")
    grey = np.repeat(frames[0].mean(-1, keepdims=True).astype(np.uint8), 3, -1)
    noisy = np.clip(grey + np.random.default_rng(0).integers(-1, 2, grey.shape), 0, 255).astype(np.uint8)
    for portrait in (grey, noisy):
        out = np.stack(list(tinting.reenact(portrait, frames, None)))
        assert np.ptp(out, axis=-1).max() == 0
        assert 0.85 < out[0].mean() / grey.mean() < 1.0
    coloured = next(iter(tinting.reenact(frames[0], frames, None))).astype(int)
    assert (coloured[..., 0] - coloured[..., 2]).mean() > 10


def test_a_portrait_cut_by_its_border_is_reported(frames):
    driver, picture = frames, frames[0]
    whole = warping(best_frame="first").steps(picture, driver)
    next(whole)
    assert whole.report.warnings == []
    cut = warping(best_frame="first").steps(picture[:, : picture.shape[1] // 2 - 4], driver)
    step = next(cut)
    assert ["border" in warning for warning in cut.report.warnings] == [True]
    columns = np.abs(np.diff(step.source.astype(int), axis=1)).mean((0, 2))
    assert columns[-32:].min() > 0.5  # no column repeats the one before


def test_a_kept_pose_keeps_the_head_where_it_is(frames):
    """The driving head turns and moves; all that the portrait could take over is its expression, which is at rest."""
    turned, still, shut = (
        np.stack(list(warping(crop="none", best_frame="first", keep=keep).reenact(frames[0], frames[::3])))
        for keep in (None, "pose", "expression")
    )
    assert np.abs(turned[-1].astype(int) - frames[0]).mean() > 3 * np.abs(still[-1].astype(int) - frames[0]).mean()
    assert np.abs(shut[-1].astype(int) - turned[-1]).mean() < 0.5 * np.abs(turned[-1].astype(int) - frames[0]).mean()


def test_dubbing_speaks_with_a_kept_expression(portrait, half_second):
    keeping = warping(keep="expression")
    spoken, shut = (
        np.stack(list(keeping.reenact(portrait, half_second, sound))) for sound in (_speech(), np.zeros(16000))
    )
    changed = np.abs(spoken.astype(float) - shut).mean((0, 3))
    assert changed[140:210, 90:170].mean() > max(20 * changed[:120].mean(), 1)


def test_a_model_of_keypoints_alone_keeps_neither():
    class Points(Stub):
        motion_spec = KeypointSpec(10)

    with pytest.raises(ConfigError, match="use mesh-fomm or landmark-warp"):
        Reenactor(Points(), keep="pose")
    with pytest.raises(ConfigError, match="keep must be one of"):
        Reenactor(Stub(), keep="mouth")
    assert Reenactor("landmark-warp", keep="expression").keep == "expression"
