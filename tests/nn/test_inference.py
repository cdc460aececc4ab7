import flax.linen as nn
import jax
import numpy as np
import pytest

from avfr_jax.nn import fast
from avfr_jax.nn.blocks import ResBlock, UpBlock
from avfr_jax.nn.inference import quick_convolutions
from avfr_jax.nn.layers import Conv


def _counted(monkeypatch, name):
    calls = []
    plain = getattr(fast, name)
    monkeypatch.setattr(fast, name, lambda *a, **k: calls.append(name) or plain(*a, **k))
    return calls


@pytest.mark.parametrize(
    ("module", "used", "times"),
    [
        (ResBlock(64), "conv3x3_winograd", 2),
        (UpBlock(16), "upsample_conv3x3", 1),
        (Conv(24, (3, 3), 1), "conv3x3_winograd", 0),  # too narrow to pay
        (Conv(64, (3, 3), 1, 2), "conv3x3_winograd", 0),  # stride 2
        (Conv(64, (3, 3), 0), "conv3x3_winograd", 0),  # no padding
        (Conv(64, (3, 3), 1, use_bias=False), "conv3x3_winograd", 1),
        (Conv(64, (3, 3), 1, spectral=True), "conv3x3_winograd", 0),
    ],
)
def test_quick_convolutions_give_what_the_plain_ones_give(module, used, times, monkeypatch):
    calls = _counted(monkeypatch, used)
    x = np.random.default_rng(0).normal(size=(2, 10, 7, 64)).astype(np.float32)
    with quick_convolutions():
        variables = module.init(jax.random.key(0), x)
    assert not calls
    plain = module.apply(variables, x)
    with quick_convolutions():
        quick = jax.jit(module.apply)(variables, x)
    assert len(calls) == times
    np.testing.assert_allclose(quick, plain, rtol=1e-4, atol=2e-5 * np.abs(plain).max())
    module.apply(variables, x)
    assert len(calls) == times  # outside nothing is changed


def test_other_modules_are_left_alone():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            return 2 * nn.Dense(3)(x)

    x = np.ones((1, 2), np.float32)
    variables = Twice().init(jax.random.key(0), x)
    with quick_convolutions():
        np.testing.assert_array_equal(Twice().apply(variables, x), Twice().apply(variables, x))
