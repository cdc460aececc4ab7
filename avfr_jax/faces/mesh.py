"""The face mesh rendered as an image: the structural prior of AVFR-GAN."""

import functools

import cv2
import numpy as np

from avfr_jax.errors import ConfigError
from avfr_jax.landmarks import NUM_LANDMARKS, landmarks_to_pixels, tessellation_edges
from avfr_jax.typing import Float, Int

_SHIFT = 4  # cv2 takes fixed-point coordinates: 1/16 pixel


@functools.cache
def _edges() -> Int[np.ndarray, "e 2"]:
    return tessellation_edges()


def mesh_image(landmarks: Float[np.ndarray, "478 3"] | None, size: int) -> Float[np.ndarray, "{size} {size}"]:
    """Render mediapipe's tessellation as anti-aliased lines one pixel wide, float32 in [0, 1].

    landmarks: in pixels of the [size, size] image (`Crop.to_crop`); None, or NaN, where no face was found: the
        image is then all zero. Parts outside the image are cut off.

    Raises ConfigError for a size below one or landmarks of another shape.
    """
    if size < 1:
        raise ConfigError(f"a mesh image needs a size of at least 1, not {size}")
    canvas = np.zeros((size, size), np.uint8)
    if landmarks is not None:
        if landmarks.shape != (NUM_LANDMARKS, 3):
            raise ConfigError(f"a mesh image needs landmarks [{NUM_LANDMARKS}, 3], not {list(landmarks.shape)}")
        if np.isfinite(landmarks).all():
            # Far outside, fixed-point coordinates would overflow.
            points = np.clip(landmarks[:, :2], -4 * size, 5 * size)
            lines = np.rint(points[_edges()] * 2**_SHIFT).astype(np.int32)
            cv2.polylines(canvas, lines, False, 255, 1, cv2.LINE_AA, _SHIFT)
    return canvas.astype(np.float32) / np.float32(255)


_SUPERSAMPLED_SIZE = 256


def structural_prior(
    landmarks: Float[np.ndarray, "n 478 3"], person_mask: Float[np.ndarray, "n size size"], size: int
) -> Float[np.ndarray, "n size size 2"]:
    """Mesh image and person mask of N square frames, both in [0, 1]: the structural prior of AVFR-GAN.

    Lines are a pixel wide at about 256 × 256 and averaged down to smaller sizes, as in prepared datasets.

    Args:
      landmarks: normalised to [-1, 1]; NaN for a frame without a face, which has no lines.
      person_mask: of every frame.
      size: side in pixels.
    """
    fold = max(1, _SUPERSAMPLED_SIZE // size)
    large = size * fold
    meshes = np.stack([mesh_image(one, large) for one in landmarks_to_pixels(np.asarray(landmarks), large)])
    meshes = meshes.reshape(-1, size, fold, size, fold).mean((2, 4))
    return np.stack([meshes, np.asarray(person_mask, np.float32)], axis=-1)
