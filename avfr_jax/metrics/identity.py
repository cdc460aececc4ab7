"""Likeness of two people by a face descriptor: distances of dlib's 128 numbers (`backbones.face_recognition`).

The descriptor separates people unequally well. Between two frames of one clip the distance is 0.25 in the median
(95 %: 0.46), between people 0.84 (1 %: 0.54); but among faces that are not white, different people come as near as
0.38 to 0.50, so a threshold that serves one population fails another. State the network beside every figure, compare a
person with themselves, and do not use it to tell who somebody is.

The cosine of two descriptors as they are is nearly constant (0.985 for one person against 0.84 for two): they share a
large mean, which `centred_cosine` takes off.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.typing import Array, Float

NETWORK = "dlib's face_recognition_resnet_model_v1"
_MEAN = pathlib.Path(__file__).parents[1] / "assets" / "mean_descriptor.csv"


@functools.cache
def mean_descriptor() -> Float[np.ndarray, "128"]:
    """The mean descriptor, float32, of 56 people in 58 clips; made by `experiments.fit_face68`."""
    mean = np.loadtxt(_MEAN, dtype=np.float32)
    mean.setflags(write=False)
    return mean


def identity_distance(a: Float[Array, "n 128"], b: Float[Array, "n 128"]) -> Float[Array, " n"]:
    """Euclidean distance of descriptors: 0 for the same picture, about 0.25 for one person, 0.84 for two."""
    distance: jax.Array = jnp.linalg.norm(jnp.asarray(a) - jnp.asarray(b), axis=-1)
    return distance


def cosine_distance(a: Float[Array, "n 128"], b: Float[Array, "n 128"]) -> Float[Array, " n"]:
    """1 − cosine of descriptors as they are. Descriptors being about 1.4 long, 0.05 corresponds to a distance of 0.44:
    about the 95th percentile of one person's, and the threshold of face-vid2vid's table 3."""
    return 1 - _cosine(jnp.asarray(a), jnp.asarray(b))


def centred_cosine(
    a: Float[Array, "n 128"], b: Float[Array, "n 128"], mean: Float[Array, "128"] | None = None
) -> Float[Array, " n"]:
    """Cosine of descriptors less the mean descriptor: 1 for the same picture, about 0 for two people.

    Args:
      a, b: descriptors of the pictures to compare.
      mean: what is taken off; None is `mean_descriptor()`.
    """
    centre = jnp.asarray(mean_descriptor() if mean is None else mean)
    return _cosine(jnp.asarray(a) - centre, jnp.asarray(b) - centre)


def _cosine(x: Float[Array, "n 128"], y: Float[Array, "n 128"]) -> jax.Array:
    length = jnp.linalg.norm(x, axis=-1) * jnp.linalg.norm(y, axis=-1)
    cosine: jax.Array = (x * y).sum(-1) / jnp.maximum(length, 1e-9)
    return cosine
