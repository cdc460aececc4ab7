"""Residual-coded reference frames (Wang et al. 2021, appendix C.3): the frame that the receiver would render, plus the
signs of a binary residual codec. Later motion is applied to the result.

Both ends render from the same decoded pivot and pose, so that on one machine they hold the same image bit for bit;
which cells are sent, and how many signs of each, is the sender's choice.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from avfr_jax.codec.motion_space import Pose, stack
from avfr_jax.codec.reference import Reference, render, to_uint8
from avfr_jax.codec.residual_signs import get_signs, put_signs
from avfr_jax.errors import ConfigError
from avfr_jax.models.base import Animator
from avfr_jax.typing import Float, UInt8

if TYPE_CHECKING:
    from avfr_jax.models.residual import ResidualCodec

_LAMBDA = 2.5e-3  # at quality 0, mean absolute difference of one cell for a bit
_HALVED = 15  # by so much quality
_MIN_MAPS = 2  # of a cell


def lagrange_multiplier(quality: int) -> float:
    """λ of the rate-distortion cost D + λ R at a quality of 0 to 100: mean absolute difference of a cell for a bit."""
    return float(_LAMBDA * 2.0 ** (-quality / _HALVED))


class ResidualCoding:
    """Renders the predictions of reference frames and codes their residuals.

    Args:
      model: renders.
      residual_codec: of frames of its size.

    Raises:
      ConfigError: the residual codec is for another size.
    """

    def __init__(self, model: Animator, residual_codec: "ResidualCodec") -> None:
        if residual_codec.config.image_size != model.image_size:
            side = residual_codec.config.image_size
            raise ConfigError(
                f"{residual_codec.name} codes residuals of frames of {side} × {side}, and {model.name} renders "
                f"{model.image_size} × {model.image_size}"
            )
        self._model, self._codec = model, residual_codec

    def predict(self, base: Reference, pose: Pose) -> UInt8[np.ndarray, "s s 3"]:
        """The frame of a pose, rendered from another reference frame."""
        return to_uint8(render(self._model, base, stack(pose)))[0]

    def decode(self, data: bytes, prediction: UInt8[np.ndarray, "s s 3"]) -> UInt8[np.ndarray, "s s 3"]:
        """Add a coded residual. Raises BitstreamError for signs of more maps than there are."""
        config = self._codec.config
        return self._add(get_signs(data, config.side, config.bits), prediction)

    def encode(
        self, frame: UInt8[np.ndarray, "s s 3"], prediction: UInt8[np.ndarray, "s s 3"], multiplier: float
    ) -> tuple[bytes, UInt8[np.ndarray, "s s 3"]]:
        """Code the residual with the least cost D + λ R over numbers of maps and subsets of cells.

        Args:
          frame: the true one.
          prediction: the receiver's.
          multiplier: λ, see `lagrange_multiplier`.

        Returns:
          The coded signs and the decoded frame.
        """
        signs = self._codec.encode(frame[None], prediction[None])[0]
        before = self._distortion(frame, prediction)
        best, chosen = 0.0, np.zeros_like(signs)
        maps = min(_MIN_MAPS, self._codec.config.bits)
        while maps <= self._codec.config.bits:
            some = signs.copy()
            some[..., maps:] = 0
            gain = before - self._distortion(frame, self._add(some, prediction)) - multiplier * maps
            worth = float(gain[gain > 0].sum())
            if worth > best:
                some[gain <= 0] = 0
                best, chosen = worth, some
            maps *= 2
        return put_signs(chosen), self._add(chosen, prediction)

    def cost(self, frame: Any, image: Any, size: int, multiplier: float) -> float:
        """D + λ R of a decoded frame of so many bytes."""
        return float(self._distortion(frame, image).sum()) + multiplier * 8 * size

    def _add(self, signs: Any, prediction: Any) -> UInt8[np.ndarray, "s s 3"]:
        return self._codec.decode(signs[None], prediction[None])[0]

    def _distortion(self, frame: Any, image: Any) -> Float[np.ndarray, "a a"]:
        """Mean absolute difference of each cell, of 1."""
        side, cell = self._codec.config.side, self._codec.config.cell
        far = np.abs(frame.astype(np.float32) - image.astype(np.float32)) / 255
        return far.reshape(side, cell, side, cell, -1).mean((1, 3, 4))
