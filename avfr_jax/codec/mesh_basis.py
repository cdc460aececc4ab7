"""Principal components of the face mesh, fitted on clips of many people and shipped with the package.

A mesh is 478 points (x, y, z) in pixels of a 256 × 256 frame. *Motion* is the change since the pivot frame, in 48
components, the largest first, of which a stream uses a prefix. *Face* is the mesh of one frame about the mean, in 40
components and their residual, and is coded with a pivot. `experiments.fit_mesh_motion` made the file.
"""

import dataclasses
import functools
import hashlib
import os
import pathlib

import numpy as np

from avfr_jax.errors import CheckpointError
from avfr_jax.landmarks import LEFT_EYE, LIPS, NUM_LANDMARKS, RIGHT_EYE
from avfr_jax.typing import Float, Int

MOTIONS = 48
FACES = 40
POINTS = NUM_LANDMARKS
FRAME = 256
"""Side in pixels of the frames that the meshes are stated in."""
SHIPPED = pathlib.Path(__file__).with_name("mesh_motion.npz")
_FACE_STEP = 2.0  # of a component of the face, in weighted pixels
_POINT_STEP = np.array([1.0, 1.0, 4.0], np.float32)  # pixels, of the residual of a point


def weights() -> Float[np.ndarray, "478 3"]:
    """Weights of the coordinates: higher at the lips and the eyes, lower for depth."""
    weight = np.ones((POINTS, 3), np.float64)
    weight[list(LIPS)] = 2.0
    weight[[*LEFT_EYE, *RIGHT_EYE]] = 1.5
    weight[:, 2] *= 0.3
    return weight


@dataclasses.dataclass(frozen=True, eq=False)
class MeshSpace:
    """Bases of orthonormal rows over the weighted coordinates, flattened [x0, y0, z0, x1, …].

    Attributes:
      motion: float32 [48, 1434].
      mean: float32 [478, 3], the mean face in pixels.
      faces: float32 [40, 1434].
      levels: int16 [2, 48], of the entropy coder, at a step of one: of motion after a refresh, and of prediction
        residuals.
    """

    motion: Float[np.ndarray, "48 1434"]
    mean: Float[np.ndarray, "478 3"]
    faces: Float[np.ndarray, "40 1434"]
    levels: Int[np.ndarray, "2 48"]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an npz of half-precision components. Equal spaces give equal files."""
        with open(path, "wb") as file:
            np.savez_compressed(
                file,
                motion=self.motion.astype(np.float16),
                mean=self.mean.astype(np.float32),
                faces=self.faces.astype(np.float16),
                levels=self.levels.astype(np.int16),
            )

    @functools.cached_property
    def identity(self) -> bytes:
        """Eight bytes of a hash of the stored numbers, which a stream's header states."""
        stored = [self.motion.astype(np.float16), self.mean.astype(np.float32), self.faces.astype(np.float16)]
        return hashlib.sha256(
            b"".join(np.asarray(a).tobytes() for a in stored) + self.levels.astype("<i2").tobytes()
        ).digest()[:8]

    @functools.cached_property
    def _weight(self) -> Float[np.ndarray, "1434"]:
        return weights().reshape(-1).astype(np.float32)

    def motion_of(
        self, mesh: Float[np.ndarray, "n 478 3"], pivot: Float[np.ndarray, "478 3"], count: int = MOTIONS
    ) -> Float[np.ndarray, "n count"]:
        """Project the displacement of N meshes from the pivot's onto the first components; weighted pixels."""
        moved = (mesh - pivot).reshape(len(mesh), -1) * self._weight
        return moved @ self.motion[:count].T

    def moved(
        self, pivot: Float[np.ndarray, "478 3"], motion: Float[np.ndarray, "n count"]
    ) -> Float[np.ndarray, "n 478 3"]:
        """Displace the pivot's mesh: the inverse of `motion_of` within the space; float32."""
        motion = np.asarray(motion, np.float32)
        return pivot + ((motion @ self.motion[: motion.shape[1]]) / self._weight).reshape(len(motion), POINTS, 3)

    def face_symbols(self, mesh: Float[np.ndarray, "478 3"]) -> Int[np.ndarray, "1474"]:
        """Quantise one mesh: 40 components, then the residual of every coordinate."""
        about = (mesh - self.mean).reshape(-1) * self._weight
        components = np.round(self.faces @ about / _FACE_STEP)
        left = mesh - self.face_of(np.concatenate([components, np.zeros(3 * POINTS)]).astype(np.int64))
        return np.concatenate([components, np.round(left / _POINT_STEP).reshape(-1)]).astype(np.int64)

    def face_of(self, symbols: Int[np.ndarray, "1474"]) -> Float[np.ndarray, "478 3"]:
        """The mesh of `face_symbols`, within half a pixel in x and y."""
        components = symbols[:FACES].astype(np.float32) * _FACE_STEP
        mesh: np.ndarray = self.mean + ((components @ self.faces) / self._weight).reshape(POINTS, 3)
        mesh = mesh + symbols[FACES:].reshape(POINTS, 3) * _POINT_STEP
        return mesh.astype(np.float32, copy=False)


def load(path: str | os.PathLike[str] = SHIPPED) -> MeshSpace:
    """Read a space. Raises CheckpointError for a file that is not one."""
    try:
        with np.load(path) as stored:
            space = MeshSpace(
                motion=stored["motion"].astype(np.float32),
                mean=stored["mean"].astype(np.float32),
                faces=stored["faces"].astype(np.float32),
                levels=stored["levels"].astype(np.int64),
            )
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} does not hold the spaces of a face mesh: {error}") from error
    shapes = ((MOTIONS, 3 * POINTS), (POINTS, 3), (FACES, 3 * POINTS), (2, MOTIONS))
    if tuple(a.shape for a in (space.motion, space.mean, space.faces, space.levels)) != shapes:
        raise CheckpointError(f"{path} holds spaces of other sizes than this version reads")
    return space


@functools.cache
def shipped() -> MeshSpace:
    """The space that comes with the package."""
    return load()
