"""Convolution and normalisation layers that behave as the published PyTorch programs' do: same initial weights, same
running statistics, same epsilon."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.nn.fast import weighted_conv_sums
from avfr_jax.nn.train_conv import convolution, upsampled_convolution
from avfr_jax.ops.platform import kernels_wanted
from avfr_jax.ops.precision import widen
from avfr_jax.ops.resize import upsample_nearest
from avfr_jax.typing import Array, Float

Initialiser = Callable[..., Any]


def uniform_fan_in(shape: tuple[int, ...], fan_in: int, key: Array, dtype: Any = jnp.float32) -> Array:
    """U(-b, b), b = 1/sqrt(fan_in): PyTorch's default for convolution kernels (He uniform, a = sqrt 5) and biases."""
    bound = 1 / np.sqrt(fan_in)
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def _float32(initialiser: Initialiser) -> Initialiser:
    """The same values, whatever JAX's default dtype."""
    return lambda key, shape: jnp.asarray(initialiser(key, shape), jnp.float32)


class Conv(nn.Module):
    """Convolution over 1–3 spatial axes, channels last, with optional spectral normalisation.

    Spectral normalisation divides the kernel by its largest singular value, estimated by one power iteration a
    training step (Miyato et al. 2018); the vectors `u` and `v` live in the collection `spectral`, laid out as
    PyTorch's are.

    Attributes:
      features: output channels.
      kernel_size: one number an axis.
      padding: zeros added on either side of every axis, or one number an axis.
      strides: step along every axis.
      spectral: normalise the kernel.
      upsample: enlarge height and width by this factor, pixels repeated, before the convolution; above 1 only for
        3 × 3 and 3 × 3 × 3 with padding 1 and stride 1.
      dtype: dtype of the computation; parameters stay float32.
    """

    features: int
    kernel_size: tuple[int, ...]
    padding: int | tuple[int, ...] = 0
    strides: int = 1
    use_bias: bool = True
    spectral: bool = False
    upsample: int = 1
    kernel_init: Initialiser | None = None
    bias_init: Initialiser | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "n *space c"], train: bool = False) -> Float[Array, "n *space2 features"]:
        shape = (*self.kernel_size, x.shape[-1], self.features)
        fan_in = int(np.prod(shape[:-1]))
        kernel = self.param("kernel", _float32(self.kernel_init or (lambda k, s: uniform_fan_in(s, fan_in, k))), shape)
        if self.spectral:
            kernel = self._normalised(kernel, train)
        dtype = self.dtype or jnp.result_type(x, kernel)
        y = self.convolve(x.astype(dtype), kernel.astype(dtype))
        if self.use_bias:
            init = _float32(self.bias_init or (lambda k, s: uniform_fan_in(s, fan_in, k)))
            y = y + self.param("bias", init, (self.features,)).astype(dtype)
        return y

    def convolve(self, x: Float[Array, "n *space c"], kernel: Float[Array, "*taps c o"]) -> Float[Array, "n *space2 o"]:
        """The convolution alone, with a given kernel."""
        dims = len(self.kernel_size)
        padding = self.padding if isinstance(self.padding, tuple) else (self.padding,) * dims
        if self.upsample == 2 and kernels_wanted("training"):
            return upsampled_convolution(x, kernel)
        x = upsample_nearest(x, (*(1,) * (dims - 2), self.upsample, self.upsample)) if self.upsample > 1 else x
        return convolution(x, kernel, (self.strides,) * dims, padding)

    def _normalised(self, kernel: Array, train: bool) -> Array:
        matrix = jnp.moveaxis(kernel, (-1, -2), (0, 1)).reshape(self.features, -1)

        def unit(x: Array) -> Array:
            return x / jnp.maximum(jnp.linalg.norm(x), 1e-12)

        def sample(size: int) -> Array:
            return unit(jax.random.normal(self.make_rng("params"), (size,), jnp.float32))

        u = self.variable("spectral", "u", sample, matrix.shape[0])
        v = self.variable("spectral", "v", sample, matrix.shape[1])
        left, right = u.value, v.value
        if train:
            fixed = jax.lax.stop_gradient(matrix)
            right = unit(fixed.T @ left)
            left = unit(fixed @ right)
            if not self.is_initializing():
                u.value, v.value = left, right
        return kernel / (left @ matrix @ right)


class WeightedConvSums(nn.Module):
    """Sums over space of a convolution's output under weight maps, without the convolution (see
    `nn.fast.weighted_conv_sums`); parameters as those of `Conv` with `maps * features` outputs. Float32.

    Attributes:
      features: J, outputs a weight map.
      maps: groups of outputs: one a weight map, or 1 that all share.
      kernel_size: height and width.
      padding: zeros added on every side.
    """

    features: int
    maps: int
    kernel_size: tuple[int, int]
    padding: int
    kernel_init: Initialiser
    bias_init: Initialiser

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], weights: Float[Array, "n h2 w2 k"]) -> Float[Array, "n k j"]:
        """Sums for weight maps of the size of the convolution's output, each of which sums to 1."""
        outputs, pad = self.maps * self.features, (self.padding,) * 2
        kernel = self.param("kernel", _float32(self.kernel_init), (*self.kernel_size, x.shape[-1], outputs))
        bias = self.param("bias", _float32(self.bias_init), (outputs,)).reshape(self.maps, self.features)
        padded = jnp.pad(widen(x), ((0, 0), pad, pad, (0, 0)))
        return weighted_conv_sums(padded, weights, kernel.reshape(*kernel.shape[:3], self.maps, -1)) + bias


class BatchNorm(nn.Module):
    """Batch normalisation with PyTorch's bookkeeping: epsilon 1e-5, momentum 0.1, and a running variance that takes
    the *unbiased* estimate while the normalisation uses the biased one (Flax's own layer stores the biased one).

    Under `jit` over a sharded batch the statistics are those of the whole batch; under `shard_map`, name the mesh
    axis in `axis_name`. Statistics are float32 whatever the dtype of the input. Without `affine` there is no gain and
    no bias to learn.
    """

    axis_name: str | None = None
    momentum: float = 0.1
    epsilon: float = 1e-5
    affine: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "n *space c"], train: bool = False) -> Float[Array, "n *space c"]:
        channels = x.shape[-1]
        mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
        if train:
            axes = tuple(range(x.ndim - 1))
            wide = widen(x)
            now = self._across(jnp.mean(wide, axis=axes))
            spread = self._across(jnp.mean((wide - now) ** 2, axis=axes))
            if not self.is_initializing():
                count = x.size // channels * (jax.lax.axis_size(self.axis_name) if self.axis_name else 1)
                unbiased = spread * (count / max(count - 1, 1))
                mean.value = (1 - self.momentum) * mean.value + self.momentum * now
                var.value = (1 - self.momentum) * var.value + self.momentum * unbiased
        else:
            now, spread = mean.value, var.value
        gain = jax.lax.rsqrt(spread + self.epsilon)
        if not self.affine:
            return (x - now.astype(x.dtype)) * gain.astype(x.dtype)
        gain = gain * self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        return (x - now.astype(x.dtype)) * gain.astype(x.dtype) + bias.astype(x.dtype)

    def _across(self, x: Array) -> Array:
        return jax.lax.pmean(x, self.axis_name) if self.axis_name else x


class InstanceNorm(nn.Module):
    """Normalisation of each channel of each sample over space; epsilon 1e-5, biased variance, no running statistics."""

    affine: bool = True
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "n *space c"]) -> Float[Array, "n *space c"]:
        axes = tuple(range(1, x.ndim - 1))
        wide = widen(x)
        mean = jnp.mean(wide, axis=axes, keepdims=True)
        variance = jnp.mean((wide - mean) ** 2, axis=axes, keepdims=True)
        y = (wide - mean) * jax.lax.rsqrt(variance + self.epsilon)
        if self.affine:
            y = y * self.param("scale", nn.initializers.ones, (x.shape[-1],), jnp.float32)
            y = y + self.param("bias", nn.initializers.zeros, (x.shape[-1],), jnp.float32)
        return y.astype(x.dtype)
