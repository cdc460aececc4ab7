"""Inter-coded reference frames: a low-delay AV1 sequence, each frame predicted from the one before.

A frame of the same person costs a third of an intra-coded one. Frames are decoded in order and without a gap; the first
of a sequence is a key frame, which `intra_coding.decode_image` decodes too.
"""

import av
import av.error
import numpy as np

from avfr_jax.codec.bitstream import BitstreamError, ReferenceCoding
from avfr_jax.codec.intra_coding import count_av1, crf_of, from_video, open_decoder, open_encoder, to_video
from avfr_jax.typing import UInt8

MAX_CHAIN = 250
"""Frames of a sequence, which bounds the damage of one that is lost for good."""
_PARAMETERS = "pred-struct=1:keyint=-1:lp=1"  # low delay, one key frame, one thread


class InterEncoder:
    """Encodes one sequence: low delay, one packet a frame.

    Args:
      size: side of the square frames, even.
      quality: 0 to 100, of all of them.

    Raises:
      ConfigError: an odd size, or another quality.
      MissingBackendError: this build of PyAV has no AV1 encoder.
    """

    def __init__(self, size: int, quality: int) -> None:
        options = {"preset": "4", "svtav1-params": _PARAMETERS, "crf": crf_of(ReferenceCoding.AV1, quality)}
        self._context = open_encoder(ReferenceCoding.AV1, size, size, options)
        self.count = 0

    def put(self, image: UInt8[np.ndarray, "s s 3"]) -> bytes:
        """Encode the next frame."""
        frame = to_video(image)
        frame.pts = self.count
        self.count += 1
        packets = [bytes(packet) for packet in self._context.encode(frame)]
        if len(packets) != 1:
            raise RuntimeError(f"the AV1 encoder gave {len(packets)} packets for a frame")
        return packets[0]

    def close(self) -> None:
        """End the sequence: the encoder has to be flushed."""
        self._context.encode(None)


class InterDecoder:
    """Decodes one sequence of square frames of side `size`."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._context = open_decoder(ReferenceCoding.AV1, size)

    def get(self, data: bytes) -> UInt8[np.ndarray, "s s 3"]:
        """Decode the next frame. Raises BitstreamError where there is none of that size, which ends the sequence."""
        if count_av1(data) != 1:
            raise BitstreamError("a pivot does not hold one image")
        try:
            frames = self._context.decode(av.Packet(data))
        except (av.error.FFmpegError, ValueError) as error:
            raise BitstreamError(f"a pivot's image cannot be decoded ({error})") from error
        if len(frames) != 1 or (frames[0].width, frames[0].height) != (self._size, self._size):
            raise BitstreamError(f"a pivot's image is not of the stated {self._size} × {self._size} pixels")
        return from_video(frames[0])
