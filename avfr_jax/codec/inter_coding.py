"""Pivot pictures as a film: each predicted from the one before by AV1, a few frames a second at most.

A picture of the same person costs a third of what it costs alone. Pictures have to be decoded in their order and
without a gap; the first of a film is a key frame, which `still.decode_image` reads too.
"""

import av
import av.error
import numpy as np

from avfr_jax.codec.bitstream import BitstreamError
from avfr_jax.codec.intra_coding import ImageCodec, count_av1, crf_of, from_video, open_decoder, open_encoder, to_video
from avfr_jax.typing import UInt8

NEXT = 4
"""The form of a pivot whose picture is a film's next one; `ImageCodec` has the others."""
LONGEST = 250
"""Pictures of a film: what one that is lost for good can cost."""
_PARAMETERS = "pred-struct=1:keyint=-1:lp=1"  # low delay, one key frame, one thread


class InterEncoder:
    """Encodes one film: low delay, one packet a picture, at once.

    Args:
      size: side of the square pictures, even.
      quality: 0 to 100, of all of them.

    Raises:
      ConfigError: an odd size, or another quality.
      MissingBackendError: this build of PyAV has no AV1 encoder.
    """

    def __init__(self, size: int, quality: int) -> None:
        options = {"preset": "4", "svtav1-params": _PARAMETERS, "crf": crf_of(ImageCodec.AV1, quality)}
        self._context = open_encoder(ImageCodec.AV1, size, size, options)
        self.count = 0

    def put(self, image: UInt8[np.ndarray, "s s 3"]) -> bytes:
        """The next picture."""
        frame = to_video(image)
        frame.pts = self.count
        self.count += 1
        packets = [bytes(packet) for packet in self._context.encode(frame)]
        if len(packets) != 1:
            raise RuntimeError(f"the AV1 encoder gave {len(packets)} packets for a picture")
        return packets[0]

    def close(self) -> None:
        """End the film: the encoder wants to be told."""
        self._context.encode(None)


class InterDecoder:
    """Decodes one film.

    Args:
      size: side of the square pictures.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._context = open_decoder(ImageCodec.AV1, size)

    def get(self, data: bytes) -> UInt8[np.ndarray, "s s 3"]:
        """The next picture. Raises BitstreamError where there is none of that size; the film ends with that."""
        if count_av1(data) != 1:
            raise BitstreamError("a pivot does not hold one picture")
        try:
            frames = self._context.decode(av.Packet(data))
        except (av.error.FFmpegError, ValueError) as error:
            raise BitstreamError(f"a pivot's picture cannot be decoded ({error})") from error
        if len(frames) != 1 or (frames[0].width, frames[0].height) != (self._size, self._size):
            raise BitstreamError(f"a pivot's picture is not of the stated {self._size} × {self._size} pixels")
        return from_video(frames[0])
