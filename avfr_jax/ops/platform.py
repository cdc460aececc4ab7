"""The one place that chooses a platform's own kernels, by purpose, dtype and platform.

Everything is plain JAX operations, which every transformation, dtype and exporter takes, unless it is traced inside

    with kernels_for("training"):
        gradients = jax.grad(loss)(params)

which the training step does, and `nn.inference.apply` for inference. Only tracing counts: a program that was compiled
inside keeps its kernels.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp

Purpose = Literal["training", "inference"]
_PURPOSE: contextvars.ContextVar[Purpose | None] = contextvars.ContextVar("purpose", default=None)


@contextlib.contextmanager
def kernels_for(purpose: Purpose) -> Iterator[None]:
    """Trace what is inside with the kernels for a purpose: those for `training` have gradients of first order by
    reverse mode alone; those for `inference` need none."""
    token = _PURPOSE.set(purpose)
    try:
        yield
    finally:
        _PURPOSE.reset(token)


def kernels_wanted(purpose: Purpose, *arrays: Any) -> bool:
    """Whether operations on these arrays are traced for that purpose and all of them are float32.

    Kernels for training are chosen when the program is lowered (`by_platform`), since a step may be compiled for
    another platform than this process computes on; those for inference where this process computes on a CPU.
    """
    if _PURPOSE.get() != purpose or any(x.dtype != jnp.float32 for x in arrays):
        return False
    return purpose == "training" or on_cpu()


def on_cpu() -> bool:
    """Whether this process computes on a CPU."""
    return jax.default_backend() == "cpu"


def by_platform(*arguments: Any, default: Callable[..., Any], **platforms: Callable[..., Any]) -> Any:
    """One of equal functions of the arguments, by the platform (`cpu`, `tpu`, `cuda`) for which the program is
    lowered."""
    return jax.lax.platform_dependent(*arguments, default=default, **platforms)
