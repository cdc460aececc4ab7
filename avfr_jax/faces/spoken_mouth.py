"""The mouth that a sound asks for: lips and jaw of the face mesh from speech, for models that the mesh moves.

A small network hears an eighth of a second before and after each frame and says how far the lips are apart and how wide
the mouth is; two fitted shapes make a mesh of that, in the pose that the head has. `experiments.fit_spoken_mouth` made
the numbers, which come with the package, from two minutes of eighteen people.
"""

import dataclasses
import functools
import os
import pathlib

import numpy as np

from avfr_jax.errors import CheckpointError
from avfr_jax.landmarks import LIPS, LOWER_LIP, MOUTH_CORNERS, RIGID, UPPER_LIP, canonical_face
from avfr_jax.media.mel import COLUMNS_PER_SECOND, SILENCE
from avfr_jax.typing import Float, Int

SHIPPED = pathlib.Path(__file__).with_name("spoken_mouth.npz")
_BANDS, _CONTEXT = 16, 6  # of the spectrogram; half frames to either side
_QUIET = 0.1  # above the floor: no sound
_FULL = 0.15  # of the largest shift: points that move so far with the jaw are the sound's alone


@dataclasses.dataclass(frozen=True)
class Placement:
    """The similarity that takes the canonical face (centimetres) to a face: `scale · rotation · x + shift`.

    Attributes:
      scale: units of the face a centimetre.
      rotation: [3, 3].
      shift: [3].
    """

    scale: float
    rotation: Float[np.ndarray, "3 3"]
    shift: Float[np.ndarray, "3"]

    @classmethod
    def of(cls, landmarks: Float[np.ndarray, "478 3"]) -> "Placement":
        """By the points that move with the skull, least squares (Umeyama 1991)."""
        points = list(RIGID)
        model, seen = canonical_face()[points].astype(np.float64), landmarks[points].astype(np.float64)
        a, b = model - model.mean(0), seen - seen.mean(0)
        u, values, vt = np.linalg.svd(b.T @ a)
        signs = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
        rotation = (u * signs) @ vt
        scale = float((values * signs).sum() / (a**2).sum())
        return cls(scale, rotation, seen.mean(0) - scale * rotation @ model.mean(0))

    def placed(self, points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        """From centimetres of the canonical face to the face."""
        return self.scale * points @ self.rotation.T + self.shift

    def removed(self, points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        """The inverse."""
        return (points - self.shift) @ self.rotation / self.scale


def mouth_numbers(face: Float[np.ndarray, "*n 478 3"]) -> Float[np.ndarray, "*n 2"]:
    """How far the lips are apart and how wide the mouth is, of faces without their pose; centimetres."""
    apart = np.linalg.norm(face[..., UPPER_LIP, :] - face[..., LOWER_LIP, :], axis=-1)
    return np.stack(
        [apart, np.linalg.norm(face[..., MOUTH_CORNERS[0], :] - face[..., MOUTH_CORNERS[1], :], axis=-1)], -1
    )


def features(
    mel: Float[np.ndarray, "80 m"], frames: Int[np.ndarray, "n"], fps: float = 25.0
) -> Float[np.ndarray, "n f"]:
    """What the network hears around each frame: 16 bands and loudness every half frame, levelled over the recording."""
    bands = mel.reshape(_BANDS, -1, mel.shape[1]).mean(1)
    loudness = mel.mean(0)
    low, high = np.percentile(loudness, 10), np.percentile(loudness, 95)
    levelled = (np.concatenate([bands, loudness[None]]) - low) / max(high - low, 0.5)
    middle = (np.asarray(frames) + 0.5) * COLUMNS_PER_SECOND / fps - 0.5
    columns = np.arange(mel.shape[1])
    around = [
        np.stack([np.interp(middle + k * COLUMNS_PER_SECOND / fps / 2, columns, row) for row in levelled], 1)
        for k in range(-_CONTEXT, _CONTEXT + 1)
    ]
    return np.concatenate(around, 1).astype(np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class SpokenMouth:
    """The network and the shapes.

    Attributes:
      mean: of the features.
      spread: the same; features are taken in units of it.
      layers: kernel and bias of each, ReLUs between.
      usual: centimetres that one unit of the network's two numbers stands for.
      shapes: float32 [2, 478, 3]: by how many centimetres the points of the canonical face move for each centimetre of
        opening and of width.
    """

    mean: Float[np.ndarray, " f"]
    spread: Float[np.ndarray, " f"]
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    usual: Float[np.ndarray, "2"]
    shapes: Float[np.ndarray, "2 478 3"]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an npz of half-precision numbers."""
        arrays = {name: getattr(self, name) for name in ("mean", "spread", "usual", "shapes")}
        for i, (kernel, bias) in enumerate(self.layers):
            arrays |= {f"w{i}": kernel, f"b{i}": bias}
        with open(path, "wb") as file:
            np.savez_compressed(file, **{name: array.astype(np.float16) for name, array in arrays.items()})

    def numbers(
        self, mel: Float[np.ndarray, "80 m"], frames: Int[np.ndarray, "n"], fps: float = 25.0
    ) -> Float[np.ndarray, "n 2"]:
        """Opening and change of width of the mouth in each frame, centimetres; zeros where the sound is silent
        throughout."""
        if mel.max() < SILENCE + _QUIET:
            return np.zeros((len(frames), 2), np.float32)
        x = (features(mel, frames, fps) - self.mean) / self.spread
        for i, (kernel, bias) in enumerate(self.layers):
            x = (np.maximum(x, 0) if i else x) @ kernel + bias
        x[:, 0] = np.maximum(x[:, 0], 0)  # no mouth is more than shut
        return x * self.usual

    @functools.cached_property
    def share(self) -> Float[np.ndarray, "478 1"]:
        """How much of each point is the sound's, 0 to 1: lips and jaw wholly, cheeks in part."""
        shift = np.linalg.norm(self.shapes[0], axis=-1)
        share = np.clip(shift / (_FULL * shift.max()), 0, 1)
        share[list(LIPS)] = 1
        share[list(RIGID)] = 0
        return share[:, None]

    def shut(self, face: Float[np.ndarray, "478 3"]) -> Float[np.ndarray, "478 3"]:
        """A face, without its pose, whose mouth is shut."""
        return face - mouth_numbers(face)[0] * self.shapes[0]

    def spoken(
        self,
        landmarks: Float[np.ndarray, "478 3"],
        rest: Float[np.ndarray, "478 3"],
        numbers: Float[np.ndarray, "2"],
    ) -> Float[np.ndarray, "478 3"]:
        """A face's landmarks with the mouth that the sound asks for.

        Args:
          landmarks: of the frame, in any unit that is one for x, y and z.
          rest: the same person's face without pose and with the mouth shut, see `Placement.removed` and `shut`.
          numbers: of the frame, see `numbers`.
        """
        moved = Placement.of(landmarks).placed(rest + np.tensordot(numbers, self.shapes, 1))
        return (landmarks + self.share * (moved - landmarks)).astype(np.float32)


def load(path: str | os.PathLike[str] = SHIPPED) -> SpokenMouth:
    """Read the numbers. Raises CheckpointError for a file that does not hold them."""
    try:
        with np.load(path) as stored:
            held = {name: stored[name].astype(np.float32) for name in stored.files}
        count = sum(name.startswith("w") for name in held)
        layers = tuple((held[f"w{i}"], held[f"b{i}"]) for i in range(count))
        return SpokenMouth(held["mean"], held["spread"], layers, held["usual"], held["shapes"])
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} does not hold a mouth that speaks: {error}") from error


@functools.cache
def shipped() -> SpokenMouth:
    """The one that comes with the package."""
    return load()
