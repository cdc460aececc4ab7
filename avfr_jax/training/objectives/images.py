"""Shared training code of image-to-image networks: evaluation and panels against a baseline without a network."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp

from avfr_jax.metrics import image
from avfr_jax.training.composed import Mode, Task
from avfr_jax.training.objective import Variables


class Predicted(NamedTuple):
    """Images of the network, of the baseline, and true ones; further metrics `[N]` and panels."""

    prediction: Any
    baseline: Any
    target: Any
    metrics: Mapping[str, Any]
    panels: Mapping[str, Any]


Predict = Callable[[Any, Variables, Mapping[str, Any], Mode], Predicted]


def image_task(predict: Predict, baseline: str, **parts: Any) -> Task:
    """A `Task` whose evaluation and panels compare the network with a baseline, e.g. `l1` with `l1_BASELINE`."""

    def evaluate(config: Any, variables: Variables, batch: Any, mode: Mode) -> tuple[dict[str, Any], Any]:
        ours, plain, target, more, _ = predict(config, variables, batch, mode)
        metrics = {
            "l1": image.l1(ours, target),
            f"l1_{baseline}": image.l1(plain, target),
            "psnr": image.psnr(ours, target),
            f"psnr_{baseline}": image.psnr(plain, target),
            "ssim": image.ssim(ours, target),
        }
        return {**metrics, **more}, ours

    def panels(config: Any, variables: Variables, batch: Any, mode: Mode) -> dict[str, Any]:
        ours, plain, target, _, more = predict(config, variables, batch, mode)
        return {
            **more,
            "output": ours,
            baseline: plain,
            "difference": jnp.clip(4 * jnp.abs(ours - target), 0, 1),
            f"difference_of_{baseline}": jnp.clip(4 * jnp.abs(plain - target), 0, 1),
        }

    return Task(evaluate=evaluate, panels=panels, **parts)
