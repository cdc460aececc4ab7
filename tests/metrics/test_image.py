"""Image metrics against the reference values and scikit-image."""

import dm_pix
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from avfr_jax.errors import InputError
from avfr_jax.metrics import image


@pytest.mark.shared
@pytest.mark.parametrize("kind", ["noise", "blur", "jpeg15", "shift_gain"])
def test_equal_reference(shared_dir, kind):
    numbers = np.load(shared_dir / "golden" / "metrics.npz")
    a, b = (jnp.asarray(numbers[f"{k}_NHWC_uint8"], jnp.float32) / 255 for k in ("refs", kind))
    np.testing.assert_allclose(image.l1(a, b), numbers[f"{kind}/l1_mean_01"], rtol=1e-5)
    np.testing.assert_allclose(image.mse(a, b), numbers[f"{kind}/mse_mean_01"], rtol=1e-5)
    np.testing.assert_allclose(image.psnr(a, b), numbers[f"{kind}/psnr_data_range255"], atol=1e-3)
    np.testing.assert_allclose(image.ssim(a, b), numbers[f"{kind}/ssim_skimage_gauss_dr1"], atol=1e-5)


def _pair():
    from skimage.data import astronaut

    a = astronaut()[100:196, 150:230].astype(np.float32) / 255
    b = np.clip(a + np.random.default_rng(0).normal(0, 0.05, a.shape), 0, 1).astype(np.float32)
    return a[None], b[None]


def test_ssim_equals_dm_pix_and_scikit_image():
    from skimage.metrics import structural_similarity

    a, b = _pair()
    ours = float(image.ssim(jnp.asarray(a), jnp.asarray(b))[0])
    assert ours == pytest.approx(float(dm_pix.ssim(jnp.asarray(a), jnp.asarray(b))[0]), abs=1e-4)
    theirs = structural_similarity(
        a[0], b[0], channel_axis=-1, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ours == pytest.approx(theirs, abs=1e-5)


def test_psnr_equals_dm_pix():
    a, b = (jnp.asarray(x) for x in _pair())
    np.testing.assert_allclose(image.psnr(a, b), dm_pix.psnr(a, b), atol=1e-4)


def test_equal_frames():
    a = jnp.asarray(_pair()[0])
    assert float(image.l1(a, a)[0]) == 0
    assert float(image.psnr(a, a)[0]) == pytest.approx(100)
    assert float(image.ssim(a, a)[0]) == pytest.approx(1)


def test_each_frame_has_its_own_value():
    a, b = (jnp.asarray(x) for x in _pair())
    both = image.ssim(jnp.concatenate([a, a]), jnp.concatenate([a, b]))
    assert both.shape == (2,)
    assert float(both[0]) == pytest.approx(1)
    assert float(both[1]) < 0.95


@pytest.mark.parametrize("metric", [image.l1, image.mse, image.psnr, image.ssim, image.ms_ssim])
def test_wrong_shapes(metric):
    with pytest.raises((InputError, jaxtyping.TypeCheckError), match=r"one shape|Type-check"):
        metric(jnp.zeros((1, 16, 16, 3)), jnp.zeros((1, 16, 17, 3)))


@pytest.mark.parametrize("metric", [image.ssim, image.ms_ssim])
def test_too_small_for_the_window(metric):
    with pytest.raises(InputError, match="11 pixels"):
        metric(jnp.zeros((1, 8, 16, 3)), jnp.zeros((1, 8, 16, 3)))


def _ms_ssim_by_the_book(a, b, weights):
    """Wang et al. 2003, equation 7, in float64 with scipy's filter; a and b are one channel."""
    from scipy.ndimage import gaussian_filter1d

    def mean(x):
        for axis in (0, 1):
            x = gaussian_filter1d(x, 1.5, axis=axis, radius=5)
        return x[5:-5, 5:-5]

    result = 1.0
    for scale, weight in enumerate(weights):
        ma, mb = mean(a), mean(b)
        structure = (2 * (mean(a * b) - ma * mb) + 0.03**2) / (mean(a * a) - ma**2 + mean(b * b) - mb**2 + 0.03**2)
        if scale == len(weights) - 1:
            structure = structure * (2 * ma * mb + 0.01**2) / (ma**2 + mb**2 + 0.01**2)
        result *= structure.mean() ** weight
        a, b = (x[: len(x) // 2 * 2, : x.shape[1] // 2 * 2] for x in (a, b))
        a, b = (x.reshape(len(x) // 2, 2, -1, 2).mean((1, 3)) for x in (a, b))
    return result


def test_ms_ssim_equals_its_definition():
    from skimage.data import astronaut

    published = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])
    a = astronaut()[40:221, 100:290].astype(np.float32) / 255  # odd height: the last row goes when halved
    b = np.clip(0.9 * a + np.random.default_rng(1).normal(0, 0.1, a.shape), 0, 1).astype(np.float32)
    for size, scales in ((181, 5), (100, 4), (30, 2)):
        assert image.ms_ssim_scales(size, size) == scales
        x, y = a[:size, :size], b[:size, :size]
        weights = published[:scales] / published[:scales].sum() * published.sum()
        expected = np.mean([_ms_ssim_by_the_book(x[..., c], y[..., c], weights) for c in range(3)])
        assert float(image.ms_ssim(x[None], y[None])[0]) == pytest.approx(expected, abs=1e-4)
        assert expected < 0.99


def test_ms_ssim_of_equal_and_of_inverted_frames():
    a = _pair()[0]
    assert float(image.ms_ssim(a, a)[0]) == pytest.approx(1)
    assert float(image.ms_ssim(a, 1 - a)[0]) == 0
