"""Audio-driven mouth: lips and jaw of the face mesh from speech, for mesh-driven models.

A small network predicts opening and width of the mouth from an eighth of a second of audio before and after each frame;
two fitted blend shapes turn them into a mesh in the head's pose. The weights in the package were fitted by
`experiments.fit_spoken_mouth` on two minutes of eighteen people.
"""

import dataclasses
import functools
import os
import pathlib

import jax.numpy as jnp
import numpy as np

from avfr_jax.errors import CheckpointError
from avfr_jax.landmarks import LIPS, LOWER_LIP, MOUTH_CORNERS, RIGID, UPPER_LIP, canonical_face
from avfr_jax.media.mel import COLUMNS_PER_SECOND, SILENCE
from avfr_jax.motion.openings import close_lips
from avfr_jax.typing import Float, Int

SHIPPED = pathlib.Path(__file__).with_name("spoken_mouth.npz")
_BANDS, _CONTEXT = 16, 6  # of the spectrogram; half frames to either side
_QUIET = 0.1  # above the spectrogram's floor: silence
_FULL = 0.15  # of the largest displacement by the jaw: from there on points follow the audio alone


@dataclasses.dataclass(frozen=True)
class Placement:
    """The similarity from the canonical face (centimetres) to a face: `scale · rotation · x + shift`.

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
        """Least-squares fit to the points that move with the skull (Umeyama 1991)."""
        points = list(RIGID)
        model, face = canonical_face()[points].astype(np.float64), landmarks[points].astype(np.float64)
        a, b = model - model.mean(0), face - face.mean(0)
        u, values, vt = np.linalg.svd(b.T @ a)
        signs = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
        rotation = (u * signs) @ vt
        scale = float((values * signs).sum() / (a**2).sum())
        return cls(scale, rotation, face.mean(0) - scale * rotation @ model.mean(0))

    def placed(self, points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        """From centimetres of the canonical face to the face."""
        return np.asarray(self.scale * points @ self.rotation.T + self.shift)

    def removed(self, points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        """The inverse."""
        return np.asarray((points - self.shift) @ self.rotation / self.scale)


def mouth_numbers(face: Float[np.ndarray, "*n 478 3"]) -> Float[np.ndarray, "*n 2"]:
    """Opening and width of the mouth in centimetres, of faces with their pose removed."""
    pairs = ((UPPER_LIP, LOWER_LIP), MOUTH_CORNERS)
    return np.stack([np.linalg.norm(face[..., a, :] - face[..., b, :], axis=-1) for a, b in pairs], -1)


def features(
    mel: Float[np.ndarray, "80 m"], frames: Int[np.ndarray, "n"], fps: float = 25.0
) -> Float[np.ndarray, "n f"]:
    """Inputs of the network for each frame: 16 bands and loudness every half frame, normalised over the recording."""
    bands = mel.reshape(_BANDS, -1, mel.shape[1]).mean(1)
    loudness = mel.mean(0)
    low, high = np.percentile(loudness, 10), np.percentile(loudness, 95)
    normalised = (np.concatenate([bands, loudness[None]]) - low) / max(high - low, 0.5)
    middle = (np.asarray(frames) + 0.5) * COLUMNS_PER_SECOND / fps - 0.5
    columns = np.arange(mel.shape[1])
    around = [
        np.stack([np.interp(middle + k * COLUMNS_PER_SECOND / fps / 2, columns, row) for row in normalised], 1)
        for k in range(-_CONTEXT, _CONTEXT + 1)
    ]
    return np.concatenate(around, 1).astype(np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class SpokenMouth:
    """Network and blend shapes.

    Attributes:
      mean: of the features.
      spread: standard deviation of the features.
      layers: kernel and bias of each, ReLUs between.
      usual: centimetres a unit of the network's two outputs.
      shapes: float32 [2, 478, 3]: displacement of the canonical face's points for each centimetre of opening and width.
    """

    mean: Float[np.ndarray, " f"]
    spread: Float[np.ndarray, " f"]
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    usual: Float[np.ndarray, "2"]
    shapes: Float[np.ndarray, "2 478 3"]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an npz of half precision."""
        arrays = {name: getattr(self, name) for name in ("mean", "spread", "usual", "shapes")}
        for i, (kernel, bias) in enumerate(self.layers):
            arrays |= {f"w{i}": kernel, f"b{i}": bias}
        with open(path, "wb") as file:
            np.savez_compressed(file, **{name: array.astype(np.float16) for name, array in arrays.items()})

    def numbers(
        self, mel: Float[np.ndarray, "80 m"], frames: Int[np.ndarray, "n"], fps: float = 25.0
    ) -> Float[np.ndarray, "n 2"]:
        """Opening and change of width of the mouth in each frame, centimetres; zeros for silence."""
        if mel.max() < SILENCE + _QUIET:
            return np.zeros((len(frames), 2), np.float32)
        x = (features(mel, frames, fps) - self.mean) / self.spread
        for i, (kernel, bias) in enumerate(self.layers):
            x = (np.maximum(x, 0) if i else x) @ kernel + bias
        x[:, 0] = np.maximum(x[:, 0], 0)  # a shut mouth
        return np.asarray(x * self.usual)

    @functools.cached_property
    def share(self) -> Float[np.ndarray, "478 1"]:
        """Weight of the audio for each point, 0 to 1: lips and jaw 1, cheeks less."""
        shift = np.linalg.norm(self.shapes[0], axis=-1)
        share = np.clip(shift / (_FULL * shift.max()), 0, 1)
        share[list(LIPS)] = 1
        share[list(RIGID)] = 0
        return np.asarray(share[:, None])

    def shut(self, face: Float[np.ndarray, "478 3"]) -> Float[np.ndarray, "478 3"]:
        """A face, with its pose removed, with the mouth shut: the lips meet from corner to corner."""
        nearly = face - mouth_numbers(face)[0] * self.shapes[0]
        return np.asarray(close_lips(jnp.asarray(nearly[None], jnp.float32)))[0]

    def spoken(
        self,
        landmarks: Float[np.ndarray, "478 3"],
        rest: Float[np.ndarray, "478 3"],
        numbers: Float[np.ndarray, "2"],
    ) -> Float[np.ndarray, "478 3"]:
        """Landmarks with the predicted mouth.

        Args:
          landmarks: of the frame, with one unit for x, y and z.
          rest: the same person's face with pose removed and mouth shut, see `Placement.removed` and `shut`.
          numbers: of the frame, see `numbers`.
        """
        moved = Placement.of(landmarks).placed(rest + np.tensordot(numbers, self.shapes, 1))
        return np.asarray(landmarks + self.share * (moved - landmarks), np.float32)


def load(path: str | os.PathLike[str] = SHIPPED) -> SpokenMouth:
    """Read a file of `SpokenMouth.save`. Raises CheckpointError for another."""
    try:
        with np.load(path) as stored:
            arrays = {name: stored[name].astype(np.float32) for name in stored.files}
        count = sum(name.startswith("w") for name in arrays)
        layers = tuple((arrays[f"w{i}"], arrays[f"b{i}"]) for i in range(count))
        return SpokenMouth(arrays["mean"], arrays["spread"], layers, arrays["usual"], arrays["shapes"])
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is no file of an audio-driven mouth: {error}") from error


@functools.cache
def shipped() -> SpokenMouth:
    """The one in the package."""
    return load()
