"""HDR and wide-gamut video against the SDR picture that it was made from."""

import pathlib

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from avfr_jax.media.colour import Colour, to_bt709
from avfr_jax.media.video import VideoReader
from tests.media_fixtures import astronaut

# Linear BT.709 to linear BT.2020 (ITU-R BT.2087, equation 4) and to P3-D65 (SMPTE EG 432-1).
TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
TO_P3 = np.array([[0.8225, 0.1774, 0.0], [0.0332, 0.9669, 0.0], [0.0171, 0.0724, 0.9108]])
BT709, BT2020, P3, PQ, HLG, UNKNOWN = 1, 9, 12, 16, 18, 2  # code points of ITU-T H.273


def graded(picture: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """cd/m² of an SDR picture in other primaries; white has 203."""
    return 203 * np.clip((picture / 255) ** 2.4 @ matrix.T, 0, None)


def pq(light: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084, inverse EOTF."""
    power = (light / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def hlg(light: np.ndarray) -> np.ndarray:
    """ITU-R BT.2100 for a display of 1000 cd/m²: inverse OOTF, then OETF."""
    share = light / 1000
    luminance = np.maximum(share @ [0.2627, 0.6780, 0.0593], 1e-9)[..., None]
    scene = share * luminance ** (1 / 1.2 - 1)
    return np.where(
        scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    )


def encode(path: pathlib.Path, signal: np.ndarray, codec: str, tags: tuple[int, int, int, int], pixels: str) -> None:
    """Three frames of an R'G'B' signal in [0, 1]; tags: primaries, transfer, matrix, range."""
    primaries, transfer, matrix, scale = tags
    levels = np.rint(np.clip(signal, 0, 1) * 65535).astype(np.uint16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=QUALITY[codec])
        stream.height, stream.width = signal.shape[:2]
        stream.pix_fmt = pixels
        context = stream.codec_context
        context.color_primaries, context.color_trc = primaries, transfer
        context.colorspace, context.color_range = matrix, scale
        for _ in range(3):
            frame = VideoReformatter().reformat(
                av.VideoFrame.from_ndarray(levels, format="rgb48le"),
                format=pixels,
                dst_colorspace={1: Colorspace.ITU709, 9: Colorspace.BT2020}.get(matrix, Colorspace.ITU601),
                dst_color_range=ColorRange(scale),
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


QUALITY = {
    "libx264": {"crf": "4"},
    "libx265": {"x265-params": "log-level=none:qp=6:pools=none", "preset": "ultrafast"},
    "libsvtav1": {"crf": "8", "preset": "12"},
    "ffv1": {},
}
HDR = {
    "pq_hevc.mp4": (pq, TO_BT2020, "libx265", (BT2020, PQ, 9, 1), "yuv420p10le"),
    "pq_full.mkv": (pq, TO_BT2020, "ffv1", (BT2020, PQ, 9, 2), "yuv444p10le"),
    "pq_p3.mkv": (pq, TO_P3, "ffv1", (P3, PQ, 1, 1), "yuv444p10le"),
    "pq_without_primaries.mp4": (pq, TO_BT2020, "libx265", (UNKNOWN, PQ, UNKNOWN, 1), "yuv420p10le"),
    "hlg_hevc.mp4": (hlg, TO_BT2020, "libx265", (BT2020, HLG, 9, 1), "yuv420p10le"),
    "hlg_av1.mp4": (hlg, TO_BT2020, "libsvtav1", (BT2020, HLG, 9, 1), "yuv420p10le"),
}


@pytest.mark.parametrize("name", HDR)
def test_hdr_becomes_the_sdr_picture(tmp_path, name):
    transfer, matrix, codec, tags, pixels = HDR[name]
    picture = astronaut(128)
    encode(tmp_path / name, transfer(graded(picture, matrix)), codec, tags, pixels)
    frame = list(VideoReader(tmp_path / name))[1].astype(int)
    assert np.abs(frame - picture).mean() < 3
    assert np.abs((frame - picture).mean((0, 1))).max() < 2


def test_highlights_keep_their_order():
    signal = pq(np.repeat(np.linspace(100, 1000, 10)[:, None], 3, 1))
    grey = to_bt709(signal, Colour("pq", "bt2020"))[:, 0] * 255
    assert grey[0] == pytest.approx(255 * (100 / 203) ** (1 / 2.4), abs=0.1)  # below the knee as graded
    assert grey[1] > 230  # white
    assert np.all(np.diff(grey) > 0.5)
    assert grey[-1] == pytest.approx(255, abs=0.1)
    assert to_bt709(pq(np.full(3, 9000.0)), Colour("pq", "bt2020")) == pytest.approx(1)


def test_saturated_highlights_keep_their_hue():
    light = np.array([900.0, 450.0, 90.0])
    shown = to_bt709(pq(light), Colour("pq", "bt709")) ** 2.4
    assert shown / shown[0] == pytest.approx(light / light[0], abs=0.002)


@pytest.mark.parametrize(
    ("matrix", "primaries", "spread"), [(TO_BT2020, BT2020, 9), (TO_P3, P3, 1)], ids=["bt2020", "p3"]
)
def test_wide_gamut_becomes_bt709(tmp_path, matrix, primaries, spread):
    picture = astronaut(128)
    signal = (graded(picture, matrix) / 203) ** (1 / 2.4)
    encode(tmp_path / "a.mkv", signal, "ffv1", (primaries, BT709, spread, 1), "yuv444p10le")
    frame = next(iter(VideoReader(tmp_path / "a.mkv"))).astype(int)
    assert np.abs(frame - picture).mean() < 1.5
    assert np.abs(np.rint(signal * 255) - picture).mean() > 2  # what is shown without a conversion


@pytest.mark.parametrize("matrix", [1, 6, 5])
@pytest.mark.parametrize("scale", [1, 2])
def test_matrix_and_range_of_sdr(tmp_path, matrix, scale):
    colours = np.array([[255, 255, 255], [0, 0, 0], [200, 40, 30], [30, 180, 60], [20, 60, 210], [230, 180, 150]])
    picture = np.repeat(np.repeat(colours[None], 64, 0), 32, 1)
    encode(tmp_path / "a.mp4", picture / 255, "libx264", (BT709, BT709, matrix, scale), "yuv420p")
    error = np.abs(next(iter(VideoReader(tmp_path / "a.mp4"))).astype(int) - picture)[:, 8::32]
    assert error.max() <= 4


@pytest.mark.shared
def test_hdr_of_a_phone(shared_dir):
    frames = np.stack(list(VideoReader(shared_dir / "cases" / "pq.mp4")))
    assert frames.mean((0, 1, 2)) == pytest.approx([111.6, 106.8, 107.9], abs=2)
