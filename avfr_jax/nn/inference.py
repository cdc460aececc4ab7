"""Flax networks as users run them: the same modules and weights, on a CPU with fewer multiplications.

    with quick_convolutions():
        frames = module.apply(variables, ...)

What is traced inside is changed, nothing else.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from avfr_jax.nn import fast
from avfr_jax.nn.layers import Conv
from avfr_jax.typing import Array


@contextlib.contextmanager
def quick_convolutions() -> Iterator[None]:
    """While a network is traced inside, its 3 × 3 convolutions of stride 1 in float32 are computed by
    `fast.conv3x3_winograd`, those behind nearest upsampling by `fast.upsample_conv3x3`, where that is quicker. Not to
    be trained through: see `train_conv`. On an accelerator nothing changes. Kernels are transformed in the traced
    program, at every call: for networks of few channels.
    """
    if jax.default_backend() != "cpu":
        yield
        return
    with nn.intercept_methods(_quicker):
        yield


def worth_winograd(inputs: int, outputs: int) -> bool:
    """Whether the transform pays: its cost is a channel's, its gain a pair of channels'. Kernels of more than 512
    channels work at 8 × 8 pixels and less, where reading four times the weights costs more than the products."""
    return min(inputs, outputs) >= 64 and max(inputs, outputs) <= 256


def _quicker(plain: Callable[..., Any], arguments: Any, named: Any, context: nn.module.InterceptorContext) -> Any:
    module = context.module
    if not isinstance(module, Conv) or context.method_name != "__call__" or module.is_initializing():
        return plain(*arguments, **named)
    x: Array = arguments[0]
    kernel: Array = module.get_variable("params", "kernel")
    small = (
        module.kernel_size == (3, 3) and module.strides == 1 and module.padding in (1, (1, 1)) and not module.spectral
    )
    if not small or not (x.dtype == kernel.dtype == jnp.float32):
        return plain(*arguments, **named)
    bias = module.get_variable("params", "bias") if module.use_bias else None
    if module.upsample:
        return fast.upsample_conv3x3(x, fast.traced_upsample_kernel(kernel), bias)
    if not worth_winograd(*kernel.shape[2:]):
        return plain(*arguments, **named)
    y: Array = fast.conv3x3_winograd(x, fast.traced_winograd_kernel(kernel))
    return y if bias is None else y + bias
