"""Version 1 streams, encoded and decoded by the program before its rewrite, decode as before."""

import pathlib

import cv2
import numpy as np
import pytest

from avfr_jax.codec.bitstream import ReferenceCoding
from avfr_jax.codec.container import read_stream
from avfr_jax.codec.files import decode_frames
from avfr_jax.codec.header import Header
from avfr_jax.codec.receiver import Receiver

FOLDER = pathlib.Path(__file__).with_name("version1")
CODINGS = {
    "landmark-warp": {ReferenceCoding.AV1},
    "inter": {ReferenceCoding.AV1, ReferenceCoding.AV1_INTER},
    "residual-call": {ReferenceCoding.AV1, ReferenceCoding.RESIDUAL},
    "mesh-fomm": {ReferenceCoding.AV1},
    "avfr128": {ReferenceCoding.AV1},
}


@pytest.mark.parametrize("name", CODINGS)
def test_version_1_streams_decode_as_before(name):
    data = (FOLDER / f"{name}.avfr").read_bytes()
    packets = list(read_stream(data))
    assert Header.from_packet(packets[0]).to_packet() == packets[0]
    assert {packet.coding for packet in packets} - {None} == CODINGS[name]
    frames = list(decode_frames(data, receiver=Receiver(cross_fade=True)))
    chosen = [frames[i] for i in (0, len(frames) // 3, 2 * len(frames) // 3, -1)]
    strip = np.concatenate([cv2.resize(frame, (64, 64), interpolation=cv2.INTER_AREA) for frame in chosen], 1)
    expected = cv2.imread(str(FOLDER / f"{name}.png"))[..., ::-1]
    assert np.abs(strip.astype(float) - expected).mean() < 1.5
