"""Convolutions for training: on a CPU each way of computing them equals the plain operation, gradients included."""

import contextvars
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.nn import train_conv
from avfr_jax.nn.layers import Conv
from avfr_jax.ops.platform import kernels_for
from avfr_jax.ops.resize import upsample_nearest

CASES = {  # batch, side, channels in and out, kernel, padding
    "winograd everywhere": (2, 100, 192, 192, 3, 1),
    "winograd for the kernel": (2, 50, 128, 130, 3, 1),
    "blocks, image shifted": (2, 70, 8, 12, 4, 0),
    "blocks, gradient shifted": (3, 50, 20, 3, 7, 3),
    "blocks, a last one that is not full": (1, 131, 6, 6, 5, 1),
    "few channels": (2, 64, 3, 16, 7, 3),
    "small image": (2, 8, 16, 32, 3, 1),
    "rectangle": (2, (40, 70), 8, 5, (3, 5), (0, 2)),
}


@pytest.fixture(autouse=True)
def training():
    with kernels_for("training"):
        yield


def both(value):
    return value if isinstance(value, tuple) else (value, value)


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_equal_the_plain_operation(case):
    n, side, c, o, size, padding = CASES[case]
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(n, *both(side), c)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(*both(size), c, o)), jnp.float32)

    def ours(x, kernel):
        return train_conv.convolution(x, kernel, (1, 1), both(padding))

    def plain(x, kernel):
        pads = [(p, p) for p in both(padding)]
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def everything(f):
        def run(x, kernel, g):
            y, pull = jax.vjp(f, x, kernel)
            return y, *pull(g)

        return jax.jit(run)

    g = jnp.asarray(rng.normal(size=jax.eval_shape(plain, x, kernel).shape), jnp.float32)
    for a, b in zip(everything(ours)(x, kernel, g), everything(plain)(x, kernel, g), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, atol=3e-5 * float(jnp.abs(b).max()))


def test_cases_take_the_ways_that_they_are_named_after():
    def ways(case):
        n, side, c, o, size, padding = CASES[case]
        x, kernel = jnp.zeros((n, *both(side), c)), jnp.zeros((*both(size), c, o))
        text = str(
            jax.make_jaxpr(lambda x, k, g: train_conv._cpu_gradients(both(padding), x, k, g))(
                x, kernel, jax.eval_shape(lambda x, k: train_conv.convolution(x, k, (1, 1), both(padding)), x, kernel)
            )
        )
        return "f32[36," in text, "scan" in text or "while" in text

    assert ways("winograd everywhere") == (True, False)
    assert ways("winograd for the kernel") == (True, False)
    assert ways("blocks, image shifted") == (False, True)
    assert ways("blocks, gradient shifted") == (False, True)
    assert ways("few channels") == (False, False)
    assert ways("small image") == (False, False)


def test_outside_training_a_network_is_plain_operations():
    """Forward-mode and second derivatives, float64 and export, none of which the kernels for training have."""
    module, x = Conv(128, (3, 3), 1), jnp.ones((1, 64, 64, 128))
    variables = module.init(jax.random.key(0), x)
    with kernels_for("training"):
        assert "custom_vjp" in str(jax.make_jaxpr(module.apply)(variables, x))
    contextvars.Context().run(_plain_checks, module, variables, x)


def _plain_checks(module, variables, x):
    text = str(jax.make_jaxpr(module.apply)(variables, x))
    assert "custom_vjp" not in text
    assert "platform_index" not in text
    jax.jvp(lambda x: module.apply(variables, x), (x,), (x,))
    up = Conv(2, (3, 3), 1, upsample=2)
    weights, small = up.init(jax.random.key(0), x[:, :4, :4, :3]), x[:, :4, :4, :3]
    assert jax.jacfwd(lambda x: up.apply(weights, x))(small).shape == (1, 8, 8, 2, 1, 4, 4, 3)
    jax.export.export(jax.jit(module.apply), platforms=("cpu", "cuda", "tpu"))(variables, x)


def test_other_dtypes_and_strides_are_plain():
    x, kernel = jnp.ones((1, 32, 32, 32), jnp.bfloat16), jnp.ones((3, 3, 32, 32), jnp.bfloat16)
    assert train_conv.convolution(x, kernel, (1, 1), (1, 1)).dtype == jnp.bfloat16
    assert train_conv.convolution(x, kernel, (2, 2), (1, 1)).shape == (1, 16, 16, 32)


@pytest.mark.parametrize("shape", [(2, 5, 7, 3, 4), (1, 32, 32, 48, 24), (2, 3, 5, 7, 3, 4)])
def test_upsampling_in_one_equals_the_two_steps(shape):
    n, *depth, h, w, c, o = shape
    dims = 2 + len(depth)
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(n, *depth, h, w, c)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(*(3,) * dims, c, o)), jnp.float32)
    g = jnp.asarray(rng.normal(size=(n, *depth, 2 * h, 2 * w, o)), jnp.float32)

    def two_steps(x, kernel):
        x = upsample_nearest(x, (*(1,) * len(depth), 2, 2))
        return train_conv.convolution(x, kernel, (1,) * dims, (1,) * dims)

    def run(f):
        y, pull = jax.vjp(f, x, kernel)
        return y, *pull(g)

    for a, b in zip(run(train_conv.upsampled_convolution), run(two_steps), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * float(jnp.abs(b).max()))


VOLUMES = {  # batch, depth and side, channels in and out, kernel, padding
    "planes": (2, (5, 9), 3, 4, (3, 3, 3), (1, 1, 1)),
    "large kernel, few outputs": (1, (6, 9), 3, 5, (7, 7, 7), (3, 3, 3)),
    "shallow volume": (1, (2, 9), 2, 3, (3, 3, 3), (1, 1, 1)),
    "one tap": (2, (3, 9), 4, 2, (1, 1, 1), (0, 0, 0)),
    "small planes": (1, (4, 4), 3, 4, (3, 3, 3), (1, 1, 1)),
}


@pytest.mark.parametrize(
    ("case", "purpose"),
    [*((case, "inference") for case in VOLUMES), *((case, "training") for case in ("planes", "small planes"))],
)
def test_volumes_equal_the_plain_operation(case, purpose):
    n, (depth, side), c, o, size, padding = VOLUMES[case]
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(n, depth, side, side + 2, c)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(*size, c, o)), jnp.float32)

    def ours(x, kernel):
        return train_conv.convolution(x, kernel, (1, 1, 1), padding)

    def plain(x, kernel):
        pads = [(p, p) for p in padding]
        return jax.lax.conv_general_dilated(x, kernel, (1, 1, 1), pads, dimension_numbers=("NDHWC", "DHWIO", "NDHWC"))

    def everything(f):
        def run(x, kernel):
            y, pull = jax.vjp(f, x, kernel)
            return y, *(pull(jnp.cos(y)) if purpose == "training" else ())

        with kernels_for(purpose):
            program = jax.jit(run)
            return program(x, kernel), str(program.lower(x, kernel).as_text())

    (got, program), (want, other) = everything(ours), everything(plain)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * float(jnp.abs(b).max()))
    assert (program != other) == (case != "small planes")


@pytest.mark.parametrize("case", ["planes", "large kernel, few outputs", "shallow volume", "one tap"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_volumes_on_a_tpu_are_convolutions_of_planes(case, dtype, monkeypatch):
    n, (depth, side), c, o, size, padding = VOLUMES[case]
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(n, depth, side, side + 2, c)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(*size, c, o)), jnp.float32)
    plain = functools.partial(train_conv._plain, strides=(1, 1, 1), padding=padding)

    def everything(f, x, kernel):
        y, pull = jax.vjp(f, x, kernel)
        return y, *pull(jnp.cos(y))

    want = everything(plain, x, kernel)
    for channels in (1, 1000):  # one tap after the other, and all at once
        monkeypatch.setattr(train_conv, "_TPU_CHANNELS", channels)
        got = everything(functools.partial(train_conv._volumes_on_tpu, padding), x, kernel)
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5 * float(jnp.abs(b).max()))

    def ours(x, kernel):
        with kernels_for("training"):
            return everything(lambda x, k: train_conv.convolution(x, k, (1, 1, 1), padding), x, kernel)

    def axes(platform):
        """Spatial axes of the convolutions in the program for a platform."""
        traced = jax.jit(ours).trace(x.astype(dtype), kernel.astype(dtype))
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        return {order.count(",") - 1 for order in re.findall(r"dim_numbers = \[([^\]]*)\]", text)}

    assert axes("tpu") == {2}
    assert axes("cuda") == {3}
    assert axes("cpu") == ({2} if dtype == jnp.float32 else {3})
