"""Picture metrics against the reference values and scikit-image."""

import dm_pix
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

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


@pytest.mark.parametrize("metric", [image.l1, image.mse, image.psnr, image.ssim])
def test_wrong_shapes(metric):
    with pytest.raises((ValueError, jaxtyping.TypeCheckError), match=r"one shape|Type-check"):
        metric(jnp.zeros((1, 16, 16, 3)), jnp.zeros((1, 16, 17, 3)))


def test_too_small_for_the_window():
    with pytest.raises(ValueError, match="11 pixels"):
        image.ssim(jnp.zeros((1, 8, 16, 3)), jnp.zeros((1, 8, 16, 3)))
