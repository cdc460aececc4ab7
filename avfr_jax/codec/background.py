"""Background embeddings, which do not change with the head in front.

The frame, its person masked, goes through a frozen network, whose features are averaged over the background of each of
8 × 8 cells. Two embeddings are compared where both show background. The paper takes VGG-19's features, which are an
option; the default are those of a network inside the mediapipe wheel.
"""

import dataclasses
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.backbones.mediapipe_nets import load_network, selfie_mask
from avfr_jax.backbones.perceptual import PerceptualNetwork, perceptual_network
from avfr_jax.errors import ConfigError, MissingBackendError
from avfr_jax.typing import Array, Float, UInt8

BackgroundName = Literal["face", "vgg19"]
_CELLS = 8  # either way
_LAYER = 2  # of the network's features: an eighth of the frame (`face`), a quarter (`vgg19`)
_VISIBLE = 0.6  # share of a cell that must be background in both frames
_MIN_CELLS = 4  # cells that are
_MARGIN = 5  # of 64, left out around the person, since the mask's edge moves with the head


@dataclasses.dataclass(frozen=True, eq=False)
class Background:
    """An embedding.

    Attributes:
      features: float32 `[64, F]`, one row a cell.
      seen: float32 `[64]` in [0, 1], the share of each cell that is background.
    """

    features: Float[np.ndarray, "64 f"]
    seen: Float[np.ndarray, "64"]

    def distance(self, other: "Background") -> float:
        """Median of |a - b| / (|a| + |b|), from 0 to 1, over the cells that are background in both; 0 for few cells."""
        both = np.minimum(self.seen, other.seen) >= _VISIBLE
        if both.sum() < _MIN_CELLS:
            return 0.0
        a, b = self.features[both], other.features[both]
        size = np.linalg.norm(a, axis=1) + np.linalg.norm(b, axis=1)
        return float(np.median(np.linalg.norm(a - b, axis=1) / np.maximum(size, 1e-6)))


class BackgroundEmbedder:
    """Embeds the backgrounds of frames.

    Args:
      name: of the features: `face`, of mediapipe's face-landmark network; `vgg19`, the paper's.

    Raises:
      ConfigError: there is no such network.
      MissingBackendError: its weights, or the person segmentation network, are absent.
    """

    def __init__(self, name: BackgroundName = "face") -> None:
        if name not in get_args(BackgroundName):
            raise ConfigError(f"backgrounds are embedded by {' or '.join(get_args(BackgroundName))}, not {name!r}")
        self._mask, self._network = load_network("selfie_segmentation"), perceptual_network(name)

    def __call__(self, frame: UInt8[np.ndarray, "s s 3"]) -> Background:
        """The embedding of a frame."""
        features, seen = _embed(self._mask, self._network, jnp.asarray(frame))
        return Background(np.asarray(features), np.asarray(seen))


def find_embedder() -> BackgroundEmbedder | None:
    """The default one; None where its networks are not installed."""
    try:
        return BackgroundEmbedder()
    except MissingBackendError:
        return None


@jax.jit
def _embed(mask: Any, network: PerceptualNetwork, frame: Array) -> tuple[Float[Array, "64 f"], Float[Array, "64"]]:
    image = jnp.asarray(frame, jnp.float32)[None] / 255
    person = selfie_mask(image, mask)[..., None]
    small = jax.image.resize(person, (1, 64, 64, 1), "linear")
    wide = jax.lax.reduce_window(small, np.float32(0), jax.lax.max, (1, _MARGIN, _MARGIN, 1), (1, 1, 1, 1), "SAME")
    behind = 1 - jax.image.resize(wide, person.shape, "linear")
    mean = (image * behind).sum((1, 2), keepdims=True) / jnp.maximum(behind.sum((1, 2), keepdims=True), 1)
    features = network(image * behind + mean * (1 - behind))[_LAYER]
    behind = jax.image.resize(behind, (1, *features.shape[1:3], 1), "linear")
    pool = partial(jax.image.resize, shape=(1, _CELLS, _CELLS, features.shape[-1]), method="linear")
    seen = jax.image.resize(behind, (1, _CELLS, _CELLS, 1), "linear")
    pooled = pool(features * behind) / jnp.maximum(seen, 1e-3)
    return pooled.reshape(_CELLS**2, -1), seen.reshape(-1)
