"""Pivots that are told as repairs: the picture that the receiver would draw, and what it lacks, in signs of a residual
coder (Wang et al. 2021, appendix C.3). The repaired picture is what motion is applied to from then on.

Both ends draw from the same decoded pivot and the same decoded pose, so that on one machine they hold the same picture
bit for bit; which cells are sent and how many signs of each is the sender's choice.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from avfr_jax.codec.residual_signs import get_signs, put_signs
from avfr_jax.codec.spaces import Pose, Space, motion_of
from avfr_jax.errors import ConfigError
from avfr_jax.models.base import Animator, EncodedSource
from avfr_jax.typing import Float, UInt8

if TYPE_CHECKING:
    from avfr_jax.models.residual import ResidualCodec

REPAIRED = 5
"""The form of a pivot whose picture is another's, moved and repaired; `ImageCodec` and `film.NEXT` have the others."""
_PRICE = 2.5e-3  # of a bit at quality 0, as mean absolute difference of one cell
_HALVED = 15  # by so much quality
_FEWEST = 2  # maps of a cell, at least


def price_of(quality: int) -> float:
    """By how much one bit has to lessen a cell's mean absolute difference, at a quality of 0 to 100."""
    return _PRICE * 2.0 ** (-quality / _HALVED)


class ResidualCoding:
    """Draws from pivots and repairs what it draws.

    Args:
      model: which draws.
      residual_codec: of frames of its size.
      space: of the poses.

    Raises:
      ConfigError: the residual_codec is for another size.
    """

    def __init__(self, model: Animator, residual_codec: "ResidualCodec", space: Space) -> None:
        if residual_codec.config.image_size != model.image_size:
            side = residual_codec.config.image_size
            raise ConfigError(
                f"{residual_codec.name} repairs frames of {side} × {side}, and {model.name} draws {model.image_size} × "
                f"{model.image_size}"
            )
        self._model, self._residual_codec, self._space = model, residual_codec, space

    def drawn(self, encoded: EncodedSource, base: Pose, pose: Pose) -> UInt8[np.ndarray, "s s 3"]:
        """The picture of a pose, drawn from the pivot that shows another."""
        own, driving = (motion_of(self._model.motion_spec, [one]) for one in (base, pose))
        drawn = np.asarray(self._model.animate(encoded, own, driving))[0]
        return (np.clip(np.nan_to_num(drawn), 0, 1) * 255 + 0.5).astype(np.uint8)

    def read(self, data: bytes, drawn: UInt8[np.ndarray, "s s 3"]) -> UInt8[np.ndarray, "s s 3"]:
        """The repaired picture. Raises BitstreamError for signs of more maps than there are."""
        config = self._residual_codec.config
        return self._decode(get_signs(data, config.side, config.bits), drawn)

    def write(
        self, frame: UInt8[np.ndarray, "s s 3"], drawn: UInt8[np.ndarray, "s s 3"], price: float
    ) -> tuple[bytes, UInt8[np.ndarray, "s s 3"]]:
        """The signs that are worth their bits, and the picture that they make.

        Every number of maps is tried, and with each the cells that gain more than it costs.

        Args:
          frame: the true one.
          drawn: the receiver's.
          price: of a bit, see `price_of`.
        """
        signs = self._residual_codec.encode(frame[None], drawn[None])[0]
        before = self._wrong(frame, drawn)
        best, chosen = 0.0, np.zeros_like(signs)
        maps = min(_FEWEST, self._residual_codec.config.bits)
        while maps <= self._residual_codec.config.bits:
            some = signs.copy()
            some[..., maps:] = 0
            gain = before - self._wrong(frame, self._decode(some, drawn)) - price * maps
            worth = float(gain[gain > 0].sum())
            if worth > best:
                some[gain <= 0] = 0
                best, chosen = worth, some
            maps *= 2
        return put_signs(chosen), self._decode(chosen, drawn)

    def cost(self, frame: Any, image: Any, size: int, price: float) -> float:
        """What a picture of so many bytes costs in all: its difference from the true one, and its bits."""
        return float(self._wrong(frame, image).sum()) + price * 8 * size

    def _decode(self, signs: Any, drawn: Any) -> Any:
        return self._residual_codec.decode(signs[None], drawn[None])[0]

    def _wrong(self, frame: Any, image: Any) -> Float[np.ndarray, "a a"]:
        """Mean absolute difference of each cell, of 1."""
        side, cell = self._residual_codec.config.side, self._residual_codec.config.cell
        far = np.abs(frame.astype(np.float32) - image.astype(np.float32)) / 255
        return far.reshape(side, cell, side, cell, -1).mean((1, 3, 4))
