"""Interlaced video becomes whole frames at the same times; progressive video is untouched."""

import pathlib
from fractions import Fraction

import av
import av.filter
import cv2
import numpy as np
import pytest

from avfr_jax.media.deinterlace import deinterlaced
from avfr_jax.media.video import VideoReader
from tests.media_fixtures import astronaut

SPEED = 3  # pixels a field


def panned(field: int) -> np.ndarray:
    shift = np.float32([[1, 0, SPEED * field], [0, 1, 0]])
    return cv2.warpAffine(astronaut(128), shift, (128, 128), borderMode=cv2.BORDER_REPLICATE)


def woven(index: int, first: str) -> np.ndarray:
    """A frame of two fields: the first that of frame `index`, the second half a frame later."""
    frame, later = panned(2 * index), panned(2 * index + 1)
    rows = slice(1, None, 2) if first == "tff" else slice(0, None, 2)
    frame[rows] = later[rows]
    return frame


def write_interlaced(path: pathlib.Path, codec: str, options: dict[str, str], first: str, count: int = 12) -> None:
    graph = av.filter.Graph()
    size = {"width": 128, "height": 128}
    chain = [graph.add_buffer(**size, format=av.VideoFormat("yuv420p"), time_base=Fraction(1, 25))]
    chain += [graph.add("setfield", mode=first), graph.add("buffersink")]
    chain[0].link_to(chain[1])
    chain[1].link_to(chain[2])
    graph.configure()
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 128, 128, "yuv420p"
        for index in range(count):
            chain[0].push(av.VideoFrame.from_ndarray(woven(index, first), format="rgb24").reformat(format="yuv420p"))
            frame = chain[2].pull()
            frame.pts, frame.pict_type = None, 0
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def combing(frame: np.ndarray) -> float:
    """Mean difference of a row from the mean of its neighbours."""
    grey = frame.astype(float).mean(2)
    return float(np.abs(grey[1:-1] - (grey[:-2] + grey[2:]) / 2).mean())


INTERLACED = {
    "a.mpg": ("mpeg2video", {"flags": "+ildct+ilme", "b": "5M"}),
    "b.mp4": ("libx264", {"flags": "+ildct+ilme", "crf": "12"}),
}


@pytest.mark.parametrize("name", INTERLACED)
@pytest.mark.parametrize("first", ["tff", "bff"])
def test_fields_become_whole_frames(tmp_path, name, first):
    write_interlaced(tmp_path / name, *INTERLACED[name], first)
    reader = VideoReader(tmp_path / name)
    frames = list(reader)
    assert len(frames) == reader.info.frames == 12
    for index in (3, 8):
        clean = panned(2 * index)
        assert combing(woven(index, first)) > 2.5 * combing(clean)
        assert combing(frames[index]) < 1.1 * combing(clean)
        errors = [np.abs(frames[index].astype(int) - panned(2 * index + k)).mean() for k in (-1, 0, 1)]
        assert np.argmin(errors) == 1  # the first field's time


def test_sample_is_deinterlaced(tmp_path):
    write_interlaced(tmp_path / "a.mpg", *INTERLACED["a.mpg"], "tff")
    reader = VideoReader(tmp_path / "a.mpg")
    for index, frame in reader.sample(4):
        assert combing(frame) < 1.1 * combing(panned(2 * index))


def test_times_stay(tmp_path):
    write_interlaced(tmp_path / "b.mp4", *INTERLACED["b.mp4"], "tff")
    with av.open(str(tmp_path / "b.mp4")) as container:
        frames = list(deinterlaced(container.decode(video=0)))
    assert [float(frame.pts * frame.time_base) for frame in frames] == pytest.approx([n / 25 for n in range(12)])
    assert all(float(frame.duration * frame.time_base) == pytest.approx(0.04) for frame in frames)


def test_progressive_frames_pass_as_they_are(clip):
    with av.open(str(clip(count=5))) as container:
        frames = list(container.decode(video=0))
    passed = list(deinterlaced(frames))
    assert len(passed) == 5
    assert all(one is other for one, other in zip(frames, passed, strict=True))
