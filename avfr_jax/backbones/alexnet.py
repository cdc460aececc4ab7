"""AlexNet (Krizhevsky 2014, the one-GPU version that torchvision publishes) up to its last convolution."""

from typing import Any

from avfr_jax.backbones.stack import Convolution, Pool, Stack

# All five ReLUs: LPIPS.
ALEXNET_TAPS = (1, 4, 7, 9, 11)
_PLAN = (
    *(Convolution(64, 11, 4, 2), Pool(3)),
    *(Convolution(192, 5, 1, 2), Pool(3)),
    *(Convolution(384), Convolution(256), Convolution(256), Pool(3)),
)


def alexnet(dtype: Any = None, taps: tuple[int, ...] = ALEXNET_TAPS) -> Stack:
    """AlexNet; 64, 192, 384, 256 and 256 channels. Images of 35 pixels or more."""
    return Stack(_PLAN, taps, dtype)
