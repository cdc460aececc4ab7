"""A face in an image, and the protocol of face backends."""

import dataclasses
import types
from typing import Protocol, runtime_checkable

import numpy as np

from avfr_jax.landmarks import NUM_VERTICES
from avfr_jax.typing import Float, UInt8

Box = tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True, eq=False)
class Face:
    """A face detected in an image.

    Attributes:
      landmarks: mediapipe's 478 points (468 of the mesh, 10 of the irises) as (x, y, z), float32, in pixels of the
        image, 0-based, pixel centres at whole numbers. z has the scale of x, its origin near the middle of the head,
        and is negative towards the camera.
      score: the detector's confidence in [0, 1].
    """

    landmarks: Float[np.ndarray, "478 3"]
    score: float

    @property
    def box(self) -> Box:
        """(x0, y0, x1, y1), the bounding box of the mesh: about hairline to chin and cheek to cheek."""
        low = self.landmarks[:NUM_VERTICES, :2].min(0)
        high = self.landmarks[:NUM_VERTICES, :2].max(0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y), the centre of the box."""
        x0, y0, x1, y1 = self.box
        return (x0 + x1) / 2, (y0 + y1) / 2

    @property
    def size(self) -> float:
        """The longer side of the box, in pixels."""
        x0, y0, x1, y1 = self.box
        return max(x1 - x0, y1 - y0)


@runtime_checkable
class FaceBackend(Protocol):
    """A face detector, tracker and person segmenter. Not thread-safe; to be closed after use.

    Images are RGB, uint8, [H, W, 3], of any size.
    """

    name: str

    def detect(self, image: UInt8[np.ndarray, "h w 3"]) -> list[Face]:
        """The faces of a single image, the largest first."""
        ...

    def track(self, image: UInt8[np.ndarray, "h w 3"]) -> Face | None:
        """The tracked face in the next frame of a clip, or None while it is not in view.

        The first call, and the first after `reset`, starts with the largest face, unless `follow` chose one.
        """
        ...

    def follow(self, face: Face) -> None:
        """Choose the face to track, detected in the next frame given to `track`."""
        ...

    def reset(self) -> None:
        """Drop the tracked face: call it between clips and at a known cut."""
        ...

    def person_mask(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
        """Soft mask of the people in the image, float32 in [0, 1]."""
        ...

    def close(self) -> None:
        """Free the backend's graphs; nothing else may be called afterwards."""
        ...

    def __enter__(self) -> "FaceBackend": ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None: ...
