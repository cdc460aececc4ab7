"""68 face landmarks in the order of 300-W (Sagonas et al. 2013), from the depthwise network of face-api (V. Mühler
2018, MIT), 112 × 112 pixels. It shares nothing with the face mesh that the models are driven by and trained with."""

import dataclasses
import functools
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from avfr_jax.backbones.depthwise import depthwise
from avfr_jax.backbones.face_recognition import MEAN_PIXEL
from avfr_jax.backbones.weights import load_weights, origin
from avfr_jax.nn.layers import Conv
from avfr_jax.typing import Array, Float

NAME = "landmarks68"
INPUT_SIZE = 112
NUM_POINTS = 68
_CHANNELS = (32, 64, 128, 256)


class Separable(nn.Module):
    """A 3 × 3 convolution of each channel, then one across the channels.

    Attributes:
      features: output channels.
      stride: of the first.
    """

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 features"]:
        init = nn.initializers.lecun_normal()
        kernel = self.param("depthwise", init, (3, 3, x.shape[-1]), jnp.float32)
        return Conv(self.features, (1, 1), name="pointwise")(depthwise(x, kernel, (self.stride, self.stride)))


class Landmarks68Net(nn.Module):
    """Four densely connected groups of four convolutions, each of which halves the image."""

    @nn.compact
    def __call__(self, images: Float[Array, "n 112 112 3"]) -> Float[Array, "n 68 2"]:
        """RGB in [0, 1] -> (x, y) in [0, 1] of the image."""
        x = images - jnp.asarray(MEAN_PIXEL, images.dtype) / 255
        for group, channels in enumerate(_CHANNELS):
            if group == 0:
                # TensorFlow's padding: with a stride of 2 and an even size, the zeros go behind.
                y = Conv(channels, (3, 3), strides=2, name="dense0_conv0")(jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0))))
            else:
                y = Separable(channels, 2, name=f"dense{group}_conv0")(x)
            x = total = nn.relu(y)
            for layer in (1, 2, 3):
                total = total + Separable(channels, name=f"dense{group}_conv{layer}")(x)
                x = nn.relu(total)
        points = nn.Dense(2 * NUM_POINTS, precision="highest", name="fc")(x.mean((1, 2)))
        return points.reshape(-1, NUM_POINTS, 2)


@partial(jax.tree_util.register_dataclass, data_fields=["variables"], meta_fields=["network", "description"])
@dataclasses.dataclass(frozen=True)
class Landmarks68:
    """The network with its weights; a pytree, to be an argument of a jitted function.

    Attributes:
      network: its layers.
      variables: its weights.
      description: for logs and reports.
    """

    network: Landmarks68Net
    variables: Any
    description: str = ""

    def __call__(self, crops: Float[Array, "n 112 112 3"]) -> Float[Array, "n 68 2"]:
        """Landmarks (x, y) of square crops around a face, RGB in [0, 1], as shares of the crop's side from its upper
        left corner; differentiable."""
        points: Any = self.network.apply(self.variables, crops)
        return points


@functools.cache
def shapes() -> Any:
    """Shapes of the variables."""
    image = jax.ShapeDtypeStruct((1, INPUT_SIZE, INPUT_SIZE, 3), jnp.float32)
    return jax.eval_shape(Landmarks68Net().init, jax.random.key(0), image)


def load_landmarks68() -> Landmarks68:
    """The network with its imported weights.

    Raises:
      MissingBackendError: the weights are absent; names the file to fetch.
      CheckpointError: they are damaged.
    """
    return Landmarks68(Landmarks68Net(), load_weights(NAME), f"face-api's 68 landmarks from {origin(NAME)}")
