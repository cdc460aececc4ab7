"""Evaluation that the image-to-image networks share."""

from typing import Any

import jax.numpy as jnp

from avfr_jax.metrics import image


def compare(prediction: Any, plain: Any, target: Any, baseline: str) -> dict[str, Any]:
    """L1, PSNR and SSIM of each prediction, and L1 and PSNR of a baseline without a network (`l1_BASELINE`)."""
    return {
        "l1": image.l1(prediction, target),
        f"l1_{baseline}": image.l1(plain, target),
        "psnr": image.psnr(prediction, target),
        f"psnr_{baseline}": image.psnr(plain, target),
        "ssim": image.ssim(prediction, target),
    }


def difference(prediction: Any, target: Any) -> Any:
    """Four times the absolute difference as an image in [0, 1]."""
    return jnp.clip(4 * jnp.abs(prediction - target), 0, 1)
