"""What is known of a face before any network of ours runs: its landmarks, its box, the mask of its person."""

import dataclasses
import types
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from avfr_jax.errors import ConfigError, MissingBackendError
from avfr_jax.landmarks import NUM_VERTICES
from avfr_jax.typing import Float, UInt8

Box = tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True, eq=False)
class Face:
    """One face found in an image.

    Attributes:
      landmarks: `[478, 3]` float32, MediaPipe's points (468 of the mesh, 10 of the irises) as (x, y, z) in pixels of
        the image, pixel centres at whole numbers. z has the scale of x, its origin near the middle of the head, and is
        negative towards the camera.
      score: the detector's confidence in [0, 1].
    """

    landmarks: Float[np.ndarray, "478 3"]
    score: float

    @property
    def box(self) -> Box:
        """(x0, y0, x1, y1), the tight box of the mesh: about hairline to chin and cheek to cheek."""
        low = self.landmarks[:NUM_VERTICES, :2].min(0)
        high = self.landmarks[:NUM_VERTICES, :2].max(0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y), the middle of the box."""
        x0, y0, x1, y1 = self.box
        return (x0 + x1) / 2, (y0 + y1) / 2

    @property
    def size(self) -> float:
        """The longer side of the box, in pixels."""
        x0, y0, x1, y1 = self.box
        return max(x1 - x0, y1 - y0)


@runtime_checkable
class FaceBackend(Protocol):
    """A face backend. Cheap to call, not safe to share between threads, to be closed after use.

    Images are RGB, uint8, [H, W, 3], of any size.
    """

    name: str

    def detect(self, image: UInt8[np.ndarray, "h w 3"]) -> list[Face]:
        """Every face of one image on its own, the largest first; an empty list if there is none."""
        ...

    def track(self, image: UInt8[np.ndarray, "h w 3"]) -> Face | None:
        """The followed face in the next frame of a clip, or None while it is not in view.

        The first call, and the first after `reset`, follows the largest face, unless `follow` named one.
        """
        ...

    def follow(self, face: Face) -> None:
        """Names the face, found by `detect` in the frame that `track` will see next, that is to be followed."""
        ...

    def reset(self) -> None:
        """Forgets the followed face: call it between clips and at a known cut."""
        ...

    def person_mask(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
        """Soft mask of the people in the image, float32 in [0, 1]."""
        ...

    def close(self) -> None:
        """Frees the backend's graphs; nothing else may be called afterwards."""
        ...

    def __enter__(self) -> "FaceBackend": ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None: ...


def open_face_backend(backend: Literal["auto", "solutions", "tasks"] = "auto") -> FaceBackend:
    """Opens a face backend.

    `solutions` is mediapipe's older interface, whose models lie inside the wheel (mediapipe 0.10.21 and
    before); `tasks` is the newer one, whose models must be downloaded; `auto` takes the first of them that
    can work here.

    Raises MissingBackendError if mediapipe or its models are missing, ConfigError for an unknown name.
    """
    if backend not in ("auto", "solutions", "tasks"):
        raise ConfigError(f'there is no face backend "{backend}": use "auto", "solutions" or "tasks"')
    _check_mediapipe()
    from avfr_jax.faces.mediapipe_solutions import SolutionsBackend, missing_solution_models
    from avfr_jax.faces.mediapipe_tasks import TasksBackend

    missing = missing_solution_models()
    if backend == "solutions" and missing:
        raise MissingBackendError(
            f"the installed mediapipe carries no {missing[0]}: install mediapipe==0.10.21, whose wheel has the "
            'models of the "solutions" face backend, or use the "tasks" backend'
        )
    if backend == "tasks" or missing:
        return TasksBackend()
    return SolutionsBackend()


def _check_mediapipe() -> None:
    import importlib.util

    for module, package in (("mediapipe", "mediapipe"), ("cv2", "opencv-contrib-python-headless")):
        if importlib.util.find_spec(module) is None:
            raise MissingBackendError(
                f"finding faces needs the package {package}, which is not installed: pip install 'avfr-jax[media]'"
            )
