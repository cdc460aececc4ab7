"""Orientation of frames with side data of kinds that PyAV does not know."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from avfr_jax.media.video import VideoReader

TRANSPOSED = {
    1: lambda f: f,
    2: lambda f: f[:, ::-1],
    3: lambda f: np.rot90(f, 2),
    4: lambda f: f[::-1],
    5: lambda f: f.swapaxes(0, 1),
    6: lambda f: np.rot90(f, -1),
    7: lambda f: np.rot90(f, 2).swapaxes(0, 1),
    8: lambda f: np.rot90(f, 1),
}


@pytest.mark.parametrize("value", TRANSPOSED)
def test_exif_in_motion_jpeg(tmp_path, value):
    stored = np.zeros((48, 64, 3), np.uint8)
    stored[:16, :16], stored[32:, :16] = 250, 120
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = value, "a camera"  # the maker keeps the block alive once the orientation is taken out
    jpeg = io.BytesIO()
    Image.fromarray(stored).save(jpeg, "JPEG", quality=95, exif=exif)
    path = tmp_path / "camera.mov"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for time in range(3):
            packet = av.Packet(jpeg.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, time, time, Fraction(1, 25)
            container.mux(packet)
    frames = list(VideoReader(path))
    expected = TRANSPOSED[value](stored)
    assert len(frames) == 3
    assert frames[0].shape == expected.shape
    assert np.abs(frames[0].astype(int) - expected).mean() < 3


@pytest.mark.shared
def test_motion_jpeg_of_a_camera(shared_dir):
    reader = VideoReader(shared_dir / "cases" / "mjpeg_exif.mov")
    assert next(iter(reader)).shape == (reader.info.height, reader.info.width, 3)
