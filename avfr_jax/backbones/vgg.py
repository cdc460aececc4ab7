"""VGG19 and VGG16 (Simonyan and Zisserman 2015) up to the layers of perceptual losses and LPIPS, and the VGG16 that was
trained to recognise faces (Parkhi et al., "Deep Face Recognition", 2015)."""

from typing import Any

from avfr_jax.backbones.stack import Convolution, Pool, Stack


def _plan(*groups: tuple[int, int]) -> tuple[Convolution | Pool, ...]:
    return tuple(layer for features, count in groups for layer in (*[Convolution(features)] * count, Pool()))


# relu1_1, relu2_1, relu3_1, relu4_1, relu5_1: FOMM's and face-vid2vid's perceptual loss.
VGG19_TAPS = (1, 6, 11, 20, 29)
# relu1_2, relu2_2, relu3_3, relu4_3, relu5_3: LPIPS.
VGG16_TAPS = (3, 8, 15, 22, 29)
# relu1_1, relu2_1, relu3_1, relu4_1, relu5_1: face-vid2vid's second perceptual loss.
FACE_VGG_TAPS = (1, 6, 11, 18, 25)
# The face network takes RGB from 0 to 255 less its training set's mean.
_FACE_MEAN = (129.186279296875 / 255, 104.76238250732422 / 255, 93.59396362304688 / 255)


def vgg19(dtype: Any = None, taps: tuple[int, ...] = VGG19_TAPS) -> Stack:
    """VGG19; 64, 128, 256, 512 and 512 channels at 1/1, 1/2, 1/4, 1/8 and 1/16 of the image."""
    return Stack(_plan((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)), taps, dtype)


def vgg16(dtype: Any = None, taps: tuple[int, ...] = VGG16_TAPS) -> Stack:
    """VGG16; channels and scales as VGG19's."""
    return Stack(_plan((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), taps, dtype)


def face_vgg(dtype: Any = None, taps: tuple[int, ...] = FACE_VGG_TAPS) -> Stack:
    """VGG-Face; channels and scales as VGG16's."""
    return vgg16(dtype, taps).clone(mean=_FACE_MEAN, std=(1 / 255,) * 3)
