"""Plain stacks of convolutions, ReLUs and max-pooling with taps: VGG and AlexNet up to their last convolution."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.nn.layers import Conv
from avfr_jax.ops.resize import max_pool
from avfr_jax.typing import Array, Float

# ImageNet's mean and standard deviation of RGB in [0, 1]; LPIPS's own "scaling layer" is the same numbers on [-1, 1].
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A square convolution followed by ReLU."""

    features: int
    size: int = 3
    stride: int = 1
    padding: int = 1


@dataclasses.dataclass(frozen=True)
class Pool:
    """Max-pooling without padding."""

    size: int = 2
    stride: int = 2


class Stack(nn.Module):
    """Layers numbered as torchvision numbers them in `features` (a convolution and its ReLU count as two).

    Attributes:
      plan: the layers.
      taps: numbers of the ReLUs whose outputs are returned; nothing is computed behind the last.
      dtype: dtype of the computation; parameters stay float32.
      mean: of RGB in [0, 1], subtracted from the image.
      std: by which the difference is divided.
    """

    plan: tuple[Convolution | Pool, ...]
    taps: tuple[int, ...]
    dtype: Any = None
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD

    @nn.compact
    def __call__(self, images: Float[Array, "n h w 3"]) -> list[Float[Array, "n h2 w2 c"]]:
        """RGB in [0, 1] -> the tapped feature maps; the normalisation is part of the network."""
        x = (images - jnp.asarray(self.mean, images.dtype)) / jnp.asarray(self.std, images.dtype)
        number, out = 0, []
        for layer in self.plan:
            if isinstance(layer, Pool):
                pool: Any = nn.max_pool  # untyped
                window, strides = (layer.size,) * 2, (layer.stride,) * 2
                x = max_pool(x, layer.size) if window == strides else pool(x, window, strides)
                number += 1
            else:
                conv = Conv(
                    *(layer.features, (layer.size, layer.size), layer.padding, layer.stride),
                    dtype=self.dtype,
                    name=f"features_{number}",
                )
                x = nn.relu(conv(x))
                if number + 1 in self.taps:
                    out.append(x)
                number += 2
            if len(out) == len(self.taps):
                return out
        raise ValueError(f"the taps {self.taps} lie behind the last layer ({number - 1})")


def shapes(stack: Stack) -> Any:
    """Shapes of the variables."""
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    return jax.eval_shape(stack.init, jax.random.key(0), image)


def random_variables(stack: Stack, seed: int = 0) -> Any:
    """He-normal kernels and small random biases (standard deviation 0.1) from NumPy: the same on every machine."""
    rng = np.random.default_rng(seed)

    def sample(x: jax.ShapeDtypeStruct) -> np.ndarray:
        deviation = np.sqrt(2 / np.prod(x.shape[:-1])) if len(x.shape) > 1 else 0.1
        values: np.ndarray = (deviation * rng.standard_normal(x.shape)).astype(np.float32)
        return values

    return jax.tree.map(sample, shapes(stack))
