"""Watermarks: visibility, robustness to video codecs, no false positives."""

import json
import pathlib

import numpy as np
import pytest
from skimage import data, transform

from avfr_jax.errors import ConfigError, InputError
from avfr_jax.media.image import write_image
from avfr_jax.media.video import VideoReader
from avfr_jax.media.video_writer import VideoWriter
from avfr_jax.media.watermark import (
    KINDS,
    TEXT,
    Reading,
    Watermark,
    describe,
    payload_from_text,
    provenance,
    read_invisible,
)

PAYLOAD = 0xC0FFEE42


def _portrait(width: int, height: int, count: int = 25) -> list[np.ndarray]:
    """A photograph whose middle, with the face, moves and turns a little from frame to frame."""
    still = transform.resize(data.astronaut()[:400, 60:460], (height, width), anti_aliasing=True)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    inside = np.clip(4.0 * (0.8 - np.hypot(x, y)), 0.0, 1.0)[:, :, None]
    frames = []
    for index in range(count):
        motion = transform.EuclideanTransform(
            rotation=0.02 * np.sin(index / 6), translation=(3 * np.sin(index / 5), 2 * np.cos(index / 7))
        )
        moved = transform.warp(still, motion, mode="edge")
        frames.append((255 * (inside * moved + (1.0 - inside) * still)).astype(np.uint8))
    return frames


@pytest.fixture(scope="module")
def portrait() -> list[np.ndarray]:
    return _portrait(256, 256)


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def _through_codec(path: pathlib.Path, frames: list[np.ndarray], crf: int) -> list[np.ndarray]:
    with VideoWriter(path, frames[0].shape[1], frames[0].shape[0], crf=crf, overwrite=True) as writer:
        for frame in frames:
            writer.write(frame)
    return list(VideoReader(path))


def test_survives_strong_compression(tmp_path):
    portrait = _portrait(256, 256, 50)
    marked = [Watermark("invisible", PAYLOAD).apply(frame, i) for i, frame in enumerate(portrait)]
    reading = read_invisible(_through_codec(tmp_path / "a.mp4", marked, 28))
    assert (reading.present, reading.payload) == (True, PAYLOAD)
    assert reading.confidence > 0.5


def test_survives_a_second_encoding(tmp_path, portrait):
    marked = [Watermark("invisible", PAYLOAD).apply(frame, i) for i, frame in enumerate(portrait)]
    once = _through_codec(tmp_path / "a.mp4", marked, 20)
    assert read_invisible(once).confidence > 0.9
    assert read_invisible(_through_codec(tmp_path / "b.mp4", once, 24)).payload == PAYLOAD


@pytest.mark.parametrize(("width", "height"), [(480, 480), (426, 240)])
def test_survives_scaling(portrait, width, height):
    marked = [Watermark("invisible", PAYLOAD).apply(frame) for frame in portrait[:10]]
    scaled = [
        (255 * transform.resize(frame, (height, width), anti_aliasing=True)).round().astype(np.uint8)
        for frame in marked
    ]
    assert read_invisible(scaled).payload == PAYLOAD


@pytest.mark.parametrize(("width", "height"), [(256, 256), (640, 360), (1920, 1080)])
@pytest.mark.parametrize("kind", ["photo", "flat", "noise", "black"])
def test_invisible_in_any_frame(width, height, kind):
    frame = {
        "photo": lambda: _portrait(width, height, 1)[0],
        "flat": lambda: np.full((height, width, 3), 127, np.uint8),
        "noise": lambda: np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8),
        "black": lambda: np.zeros((height, width, 3), np.uint8),
    }[kind]()
    before = frame.copy()
    marked = Watermark("invisible").apply(frame, 0)
    assert marked.dtype == np.uint8
    assert marked.shape == frame.shape
    assert not np.array_equal(marked, frame)
    assert _psnr(marked, frame) >= 40
    assert np.abs(marked.astype(int) - frame).max() <= 12
    assert np.array_equal(frame, before)


def test_invisible_mark_of_a_single_picture(tmp_path, portrait):
    marked = Watermark("both", PAYLOAD).apply(portrait[0])
    assert read_invisible([marked]).payload == PAYLOAD


def test_absent_in_unmarked_frames(portrait):
    nothing = Reading(False, None, 0.0)
    assert read_invisible([]) == nothing
    assert read_invisible(portrait) == nothing
    assert read_invisible(Watermark("visible").apply(frame) for frame in portrait) == nothing
    assert read_invisible([np.full((256, 256, 3), 90, np.uint8)] * 3) == nothing
    assert read_invisible([np.zeros((1, 1, 3), np.uint8)]) == nothing
    rng = np.random.default_rng(1)
    for _ in range(50):
        assert read_invisible([rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)]) == nothing


@pytest.mark.parametrize("payload", [0, 1, 2**31, 2**32 - 1, payload_from_text("avfr")])
def test_any_payload(portrait, payload):
    assert read_invisible([Watermark("invisible", payload).apply(portrait[3])]).payload == payload


@pytest.mark.parametrize(("width", "height"), [(256, 256), (720, 1280), (1920, 1080)])
@pytest.mark.parametrize("corner", ["left", "right"])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_visible_mark_is_small_and_legible(width, height, corner, level):
    frame = np.full((height, width, 3), level, np.uint8)
    marked = Watermark("visible", corner=corner).apply(frame, 0)
    rows, columns = np.nonzero((marked != frame).any(axis=2))
    assert rows.min() > 0.85 * height
    assert rows.max() < height
    left, right = columns.min() / width, columns.max() / width
    assert (left < 0.1 and right < 0.55) if corner == "left" else (right > 0.9 and left > 0.45)
    area = marked[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1, 0].astype(int)
    assert area.shape[0] >= 10
    assert area.max() - np.median(area) > 50  # letters against their plate, on black and on white


@pytest.mark.parametrize(("width", "height"), [(1, 1), (8, 8), (40, 20), (20, 200)])
@pytest.mark.parametrize("kind", KINDS)
def test_tiny_frames(width, height, kind):
    frame = np.full((height, width, 3), 99, np.uint8)
    assert Watermark(kind).apply(frame, 0).shape == frame.shape


def test_none_changes_nothing(portrait):
    assert np.array_equal(Watermark("none").apply(portrait[0], 0), portrait[0])


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="visible, invisible, both, none"):
        Watermark("loud")
    with pytest.raises(ConfigError, match="32 bits"):
        Watermark("both", payload=2**32)
    with pytest.raises(ConfigError, match="left or right"):
        Watermark("both", corner="top")


def test_describe(tmp_path, portrait):
    path = tmp_path / "a.mp4"
    mark = Watermark("both", payload_from_text("model"))
    with VideoWriter(path, 256, 256, metadata=provenance("landmark-warp")) as writer:
        for index, frame in enumerate(portrait):
            writer.write(mark.apply(frame, index))
    facts = describe(path)
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["kind"], facts["codec"], facts["width"], facts["frames"]) == ("video", "h264", 256, 25)
    assert facts["declared_generated"]
    assert "landmark-warp" in facts["metadata"]["comment"]
    assert facts["watermark"]["payload"] == payload_from_text("model")
    write_image(tmp_path / "a.png", portrait[0])
    facts = describe(tmp_path / "a.png")
    assert (facts["kind"], facts["declared_generated"], facts["watermark"]["present"]) == ("image", False, False)
    with pytest.raises(InputError, match="does not exist"):
        describe(tmp_path / "b.mp4")
    assert TEXT == "AI-generated"


@pytest.mark.shared
@pytest.mark.parametrize("name", ["v029.mp4", "v055.mp4", "v002.mp4"])
def test_real_clips(shared_dir, tmp_path, name):
    frames = []
    for frame in VideoReader(shared_dir / "clips" / "video" / name):
        frames.append(frame)
        if len(frames) == 25:
            break
    assert not read_invisible(frames).present
    marked = [Watermark("invisible", PAYLOAD).apply(frame) for frame in frames]
    assert read_invisible(_through_codec(tmp_path / "a.mp4", marked, 28)).payload == PAYLOAD
