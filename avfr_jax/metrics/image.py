"""Image metrics: L1, PSNR, SSIM and MS-SSIM, one number a frame.

Frames are RGB, float in [0, 1], [N, H, W, 3].
"""

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.errors import InputError
from avfr_jax.typing import Array, Float


def _check(a: Array, b: Array, least: int = 1) -> None:
    if a.shape != b.shape or a.ndim != 4:
        raise InputError(f"two batches [N,H,W,C] of one shape are wanted, not {list(a.shape)} and {list(b.shape)}")
    if min(a.shape[1:3]) < least:
        raise InputError(f"frames must measure at least {least} pixels either way, not {list(a.shape[1:3])}")


def l1(a: Float[Array, "n h w c"], b: Float[Array, "n h w c"]) -> Float[Array, " n"]:
    """Mean absolute difference over pixels and channels."""
    _check(a, b)
    return jnp.abs(a - b).mean((1, 2, 3))


def mse(a: Float[Array, "n h w c"], b: Float[Array, "n h w c"]) -> Float[Array, " n"]:
    """Mean squared difference over pixels and channels."""
    _check(a, b)
    return ((a - b) ** 2).mean((1, 2, 3))


def psnr(a: Float[Array, "n h w c"], b: Float[Array, "n h w c"]) -> Float[Array, " n"]:
    """Peak signal-to-noise ratio in dB, peak 1; equal frames give 100 (the error is taken as at least 1e-10)."""
    return -10 * jnp.log10(jnp.maximum(mse(a, b), 1e-10))


_WINDOW = 11  # pixels of SSIM's window
_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # exponents of MS-SSIM, finest first


def _window_matrix(size: int) -> np.ndarray:
    """[size - 10, size]: the 11-tap Gaussian window of sigma 1.5 in each row, shifted by one."""
    window = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    matrix = np.zeros((size - 10, size))
    for i in range(11):
        matrix[np.arange(size - 10), np.arange(size - 10) + i] = window[i] / window.sum()
    return matrix


def _gaussian(image: Float[Array, "n h w c"]) -> Float[Array, "n hh ww c"]:
    """Mean under an 11 x 11 Gaussian window, sigma 1.5, where it fits inside the frame."""
    # Matrix products: forward and backward several times faster on a CPU than convolutions or shifted sums.
    down, across = (jnp.asarray(_window_matrix(n), image.dtype) for n in image.shape[1:3])
    rows = jnp.einsum("yh,nhwc->nywc", down, image, precision="highest")
    return jnp.einsum("xw,nywc->nyxc", across, rows, precision="highest")


def _similarity(
    a: Float[Array, "n h w c"], b: Float[Array, "n h w c"]
) -> tuple[Float[Array, "n hh ww c"], Float[Array, "n hh ww c"]]:
    """SSIM's two factors around each pixel: luminance, and contrast times structure."""
    _check(a, b, _WINDOW)
    # Variances are differences of near-equal numbers in flat regions: shift the grey level towards zero first.
    shift = a.mean((1, 2), keepdims=True)
    x, y = a - shift, b - shift
    mx, my = _gaussian(x), _gaussian(y)
    vx, vy, vxy = _gaussian(x * x) - mx * mx, _gaussian(y * y) - my * my, _gaussian(x * y) - mx * my
    ma, mb = mx + shift, my + shift
    c1, c2 = 0.01**2, 0.03**2
    return (2 * ma * mb + c1) / (ma * ma + mb * mb + c1), (2 * vxy + c2) / (vx + vy + c2)


def ssim_map(a: Float[Array, "n h w c"], b: Float[Array, "n h w c"]) -> Float[Array, "n hh ww c"]:
    """Structural similarity (Wang et al. 2004) around each pixel at least 5 from the border.

    Gaussian window of 11 pixels and sigma 1.5, population covariance, K1 0.01, K2 0.03, range 1: what scikit-image
    computes with `gaussian_weights=True, sigma=1.5, use_sample_covariance=False`, and dm-pix and TensorFlow alike.

    Raises:
      ValueError: shapes that differ, or frames below 11 pixels.
    """
    luminance, structure = _similarity(a, b)
    return luminance * structure


@jax.jit
def ssim(a: Float[Array, "n h w c"], b: Float[Array, "n h w c"]) -> Float[Array, " n"]:
    """Mean of `ssim_map` over pixels and channels; 1 for equal frames."""
    return ssim_map(a, b).mean((1, 2, 3))


def ms_ssim_scales(height: int, width: int) -> int:
    """Number of scales of `ms_ssim` for a frame's size: five from 176 pixels of the shorter side on, four from 88,
    three from 44, two from 22, one from 11, none below."""
    return sum(min(height, width) >> scale >= _WINDOW for scale in range(len(_SCALES)))


@jax.jit
def ms_ssim(a: Float[Array, "n h w c"], b: Float[Array, "n h w c"]) -> Float[Array, " n"]:
    """Multi-scale structural similarity (Wang, Simoncelli and Bovik 2003); 1 for equal frames.

    Contrast times structure at five scales, each the 2 x 2 mean of the one before (an odd last row or column is left
    out), with luminance at the coarsest; means over pixels, to the published exponents, multiplied, then averaged over
    channels. A negative factor, as of an inverted image, counts as zero. Frames too small for five scales are compared
    on `ms_ssim_scales`, with their exponents scaled to the same sum: comparable between sizes only roughly.

    Raises:
      ValueError: shapes that differ, or frames below 11 pixels.
    """
    _check(a, b, _WINDOW)
    scales = ms_ssim_scales(*a.shape[1:3])
    weights = np.array(_SCALES[:scales]) * sum(_SCALES) / sum(_SCALES[:scales])
    product: Array | float = 1.0
    for scale, weight in enumerate(weights):
        luminance, structure = _similarity(a, b)
        last = scale == scales - 1
        factor = (luminance * structure if last else structure).mean((1, 2))
        product = product * jnp.maximum(factor, 0.0) ** float(weight)
        if not last:
            a, b = _halved(a), _halved(b)
    return jnp.asarray(product).mean(-1)


def _halved(image: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    """Means of 2 x 2 pixels."""
    n, h, w, c = image.shape
    even = image[:, : h // 2 * 2, : w // 2 * 2]
    return even.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))
