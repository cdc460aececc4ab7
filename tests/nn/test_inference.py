"""Folded and transformed layers against the plain ones."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avfr_jax.nn import fast, fast_volumes
from avfr_jax.nn.blocks import DownBlock, ResBlock, SameBlock, UpBlock
from avfr_jax.nn.inference import apply, prepare
from avfr_jax.nn.layers import BatchNorm, Conv
from avfr_jax.nn.spade import SpadeResBlock


def _lively(variables):
    """Random parameters and statistics: normalisations that are not the identity."""
    rng = np.random.default_rng(1)

    def sample(path, x):
        noise = rng.standard_normal(x.shape).astype(np.float32)
        name = path[-1].key
        if name in ("var", "scale"):
            return np.abs(1 + 0.3 * noise)
        return noise / np.sqrt(np.prod(x.shape[:-1])) if name == "kernel" else 0.2 * noise

    return jax.tree_util.tree_map_with_path(sample, variables)


def _compared(module, *inputs, **named):
    variables = _lively(module.init(jax.random.key(0), *inputs))
    prepared = prepare(module, variables, *inputs, **named)
    plain = module.apply(variables, *inputs)
    quick = jax.jit(lambda v, *x: apply(module, v, *x))(prepared, *inputs)
    np.testing.assert_allclose(quick, plain, rtol=1e-4, atol=3e-5 * np.abs(plain).max())
    return prepared


def _image(channels=64, n=2):
    return np.random.default_rng(0).normal(size=(n, 10, 7, channels)).astype(np.float32)


@pytest.mark.parametrize(
    ("module", "path", "kind"),
    [
        (SameBlock(64), ("conv",), fast.WinogradKernel),
        (DownBlock(64), ("conv",), fast.WinogradKernel),
        (ResBlock(64), ("conv1",), fast.WinogradKernel),
        (UpBlock(16), ("conv",), fast.UpsampleKernel),
        (Conv(16, (3, 3), 1, upsample=2), (), fast.UpsampleKernel),
        (Conv(8, (3, 3), 1, upsample=4), (), fast.UpsampleKernel),
        (Conv(8, (7, 7), 0), (), fast.TapKernel),
        (Conv(24, (3, 3), 1), (), jax.Array),  # too narrow to pay
        (Conv(64, (3, 3), 1, 2), (), jax.Array),  # stride 2
        (Conv(64, (3, 3), 0), (), jax.Array),  # no padding
        (Conv(64, (3, 3), 1, use_bias=False), (), fast.WinogradKernel),
        (SameBlock(6, dims=3), ("conv",), jax.Array),
        (SameBlock(64, dims=3), ("conv",), fast_volumes.VolumeWinogradKernel),
        (UpBlock(16, dims=3), ("conv",), fast_volumes.VolumeUpsampleKernel),
        (Conv(8, (3, 3, 3), 1, upsample=4), (), fast_volumes.VolumeUpsampleKernel),
    ],
)
def test_prepared_layers_equal_the_plain_ones(module, path, kind):
    volume = getattr(module, "dims", 2) == 3 or len(getattr(module, "kernel_size", ())) == 3
    prepared = _compared(module, _image(n=10).reshape(2, 5, 10, 7, -1) if volume else _image())
    for name in path:
        prepared = {k: v.get(name, {}) for k, v in prepared.items()}
    assert isinstance(prepared["prepared"]["kernel"], kind)


def test_on_an_accelerator_normalisations_are_folded_and_kernels_stay():
    prepared = _compared(ResBlock(64), _image(), reduce_arithmetic=False)
    assert prepared["prepared"]["conv1"]["kernel"].shape == (3, 3, 64, 64)
    assert set(prepared) == {"prepared"}
    assert set(prepared["prepared"]) == {"norm1", "conv1", "conv2"}


def test_spectrally_normalised_kernels_are_divided_once():
    prepared = _compared(Conv(64, (3, 3), 1, spectral=True), _image())
    assert set(prepared) == {"prepared"}
    assert isinstance(prepared["prepared"]["kernel"], fast.WinogradKernel)


def test_a_normalisation_of_an_output_that_others_read_too_is_not_folded():
    """In a SPADE block the shortcut adds the input of the first normalisation."""

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            return SpadeResBlock(8, hidden=4, name="block")(Conv(8, (1, 1), name="conv")(x), x)

    _compared(Network(), _image(3))


def test_large_kernels_of_one_input_are_one_convolution():
    class Heads(nn.Module):
        @nn.compact
        def __call__(self, x):
            one, two = Conv(5, (7, 7), 3, name="a")(x), Conv(1, (7, 7), 3, name="b")(x)
            return jnp.concatenate([one, two, Conv(2, (7, 7), 3, name="c")(jnp.tanh(x))], axis=-1)

    kernels = _compared(Heads(), _image(8))["prepared"]
    assert set(kernels) == {"a", "c"}
    assert kernels["a"]["bias"].shape == (6,)


def test_other_modules_and_plain_variables_are_left_alone():
    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3)(BatchNorm()(x))

    _compared(Network(), _image(4))
    variables = _lively(Network().init(jax.random.key(0), _image(4)))
    np.testing.assert_array_equal(apply(Network(), variables, _image(4)), Network().apply(variables, _image(4)))
