"""Picture distances: L1, PSNR and SSIM, one number a frame.

Frames are RGB, float in [0,1], [N,H,W,3].
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.typing import Array, Float


def _check(a: Array, b: Array, least: int = 1) -> None:
    if a.shape != b.shape or a.ndim != 4:
        raise ValueError(f"two batches [N,H,W,C] of one shape are wanted, not {list(a.shape)} and {list(b.shape)}")
    if min(a.shape[1:3]) < least:
        raise ValueError(f"frames must measure at least {least} pixels either way, not {list(a.shape[1:3])}")


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


def _window_matrix(size: int) -> np.ndarray:
    """[size - 10, size]: each row the 11-tap Gaussian window of sigma 1.5, one step further along."""
    window = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    matrix = np.zeros((size - 10, size))
    for i in range(11):
        matrix[np.arange(size - 10), np.arange(size - 10) + i] = window[i] / window.sum()
    return matrix


def _gaussian(image: Float[Array, "n h w c"]) -> Float[Array, "n hh ww c"]:
    """Mean under an 11 x 11 Gaussian window, sigma 1.5, where it fits inside the frame."""
    # As matrix products: forward and backward several times faster on a CPU than convolutions or shifted sums.
    down, across = (jnp.asarray(_window_matrix(n), image.dtype) for n in image.shape[1:3])
    rows = jnp.einsum("yh,nhwc->nywc", down, image, precision="highest")
    return jnp.einsum("xw,nywc->nyxc", across, rows, precision="highest")


def ssim_map(a: Float[Array, "n h w c"], b: Float[Array, "n h w c"]) -> Float[Array, "n hh ww c"]:
    """Structural similarity (Wang et al. 2004) around each pixel at least 5 from the border.

    Gaussian window of 11 pixels and sigma 1.5, population covariance, K1 0.01, K2 0.03, range 1: what scikit-image
    computes with `gaussian_weights=True, sigma=1.5, use_sample_covariance=False`, and dm-pix and TensorFlow alike.

    Raises:
      ValueError: shapes that differ, or frames below 11 pixels.
    """
    _check(a, b, 11)
    mean: Callable[[Array], Array] = _gaussian
    # Variances are differences of near-equal numbers in flat regions: shift the grey level towards zero first.
    shift = a.mean((1, 2), keepdims=True)
    x, y = a - shift, b - shift
    mx, my = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    ma, mb = mx + shift, my + shift
    c1, c2 = 0.01**2, 0.03**2
    return (2 * ma * mb + c1) * (2 * vxy + c2) / ((ma * ma + mb * mb + c1) * (vx + vy + c2))


@jax.jit
def ssim(a: Float[Array, "n h w c"], b: Float[Array, "n h w c"]) -> Float[Array, " n"]:
    """Mean of `ssim_map` over pixels and channels; 1 for equal frames."""
    return ssim_map(a, b).mean((1, 2, 3))
