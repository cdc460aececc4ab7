"""Frozen networks of perceptual losses, by name."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import jax

from avfr_jax.backbones import weights
from avfr_jax.backbones.mediapipe_nets import FACE_LAYERS, face_features, load_network
from avfr_jax.backbones.stack import Stack, random_variables
from avfr_jax.backbones.vgg import face_vgg, vgg19
from avfr_jax.errors import ConfigError
from avfr_jax.typing import Array, Float

PerceptualName = Literal["auto", "face", "vgg19", "vgg19-random", "face-vgg", "none"]
FACE_VID2VID_LAYERS = (0.03125, 0.0625, 0.125, 0.25, 1.0)
"""Weights of relu1_1 … relu5_1 in face-vid2vid (Wang et al. 2021, appendix A.2)."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["variables"],
    meta_fields=["function", "name", "description", "weights", "scales", "normalise"],
)
@dataclasses.dataclass(frozen=True)
class PerceptualNetwork:
    """A frozen feature network with its weights, and the settings of its loss. A pytree: pass it as an argument of the
    jitted step, so that its weights are not compiled into the program.

    Attributes:
      variables: its weights.
      function: (variables, images in [0, 1]) -> feature arrays.
      name: one of `PerceptualName`.
      description: origin of the weights, for logs and model cards.
      weights: of its layers, in `losses.perceptual`.
      scales: of the pyramid, likewise.
      normalise: likewise.
    """

    variables: Any
    function: Callable[[Any, Any], list[Any]]
    name: str
    description: str
    weights: tuple[float, ...]
    scales: tuple[float, ...]
    normalise: bool

    def __call__(self, images: Float[Array, "n h w 3"]) -> list[Any]:
        """Feature arrays of images in [0, 1]."""
        return self.function(self.variables, images)


def _nothing(variables: Any, images: Any) -> list[Any]:
    return []


@dataclasses.dataclass(frozen=True)
class _Apply:
    """A Flax module's `apply`, hashable and equal to another of the same module."""

    stack: Stack

    def __call__(self, variables: Any, images: Any) -> list[Any]:
        features: list[Any] = self.stack.apply(variables, images)  # type: ignore[assignment]
        return features


def _face(network: Any, images: Any) -> list[Any]:
    features: list[Any] = face_features(images, network)
    return features


def _imported(name: str, title: str) -> tuple[Any, str]:
    """Imported weights and their description."""
    return weights.load_weights(name), f"{title} from {weights.origin(name)}"


def perceptual_network(name: PerceptualName = "auto", dtype: Any = None, seed: int = 0) -> PerceptualNetwork:
    """The frozen network of a perceptual loss.

    Args:
      name: `face`, the trunk of mediapipe's face-landmark network, which most installations carry; `vgg19`, FOMM's
        and face-vid2vid's, whose weights are imported once; `face-vgg`, a VGG16 of face recognition, likewise;
        `vgg19-random`, a VGG19 with random weights (for benchmarks, and a usable loss when nothing else is there);
        `none`; `auto`, VGG19 where its weights are, else the face network.
      dtype: dtype of a VGG19's computation; None follows the images.
      seed: of random weights.

    Raises:
      ConfigError: an unknown name.
      MissingBackendError: the weights are absent; names the file to fetch and the command that imports it.
      CheckpointError: they are damaged.
    """
    if name not in get_args(PerceptualName):
        raise ConfigError(
            f"There is no perceptual network {name!r}: choose one of {', '.join(get_args(PerceptualName))}."
        )
    if name == "none":
        return PerceptualNetwork({}, _nothing, name, "no perceptual network", (), (), False)
    if name == "auto":
        name = "vgg19" if weights.is_imported("vgg19") else "face"
    if name == "face":
        origin = "mediapipe's face_landmark network (features under the face mesh)"
        layers = (10.0,) * len(FACE_LAYERS)
        return PerceptualNetwork(load_network("face_landmark"), _face, name, origin, layers, (1.0, 0.5), True)
    if name == "face-vgg":
        # Its input is 255 times as large as VGG19's, and so are its features: the loss has no unit.
        variables, origin = _imported("face-vgg", "VGG-Face")
        return PerceptualNetwork(variables, _Apply(face_vgg(dtype)), name, origin, FACE_VID2VID_LAYERS, (1.0,), True)
    stack = vgg19(dtype)
    if name == "vgg19":
        variables, origin = _imported("vgg19", "VGG19")
    else:
        variables, origin = random_variables(stack, seed), f"VGG19 with random weights (seed {seed})"
    return PerceptualNetwork(variables, _Apply(stack), name, origin, (10.0,) * 5, (1.0, 0.5, 0.25, 0.125), False)
