"""Landmarks, head pose and descriptor of the faces in pictures, for measurements.

No model here is driven by these networks or trained with them. The face backend only says where the face is.
"""

import dataclasses
import types
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np

from avfr_jax.backbones.face_recognition import CHIP_SIZE, load_face_recognition
from avfr_jax.backbones.landmarks68 import INPUT_SIZE, load_landmarks68
from avfr_jax.faces.backend import open_face_backend
from avfr_jax.faces.chips import face_chip, landmark_crop, points_in_image
from avfr_jax.faces.face import FaceBackend
from avfr_jax.faces.pose import HeadPose
from avfr_jax.faces.pose68 import head_pose68
from avfr_jax.typing import Float, UInt8

_BATCH = 8  # pictures at once, padded to this number: one compilation


@dataclasses.dataclass(frozen=True, eq=False)
class FaceFacts:
    """The largest face of a picture.

    Attributes:
      points: float64 `[68, 2]`, (x, y) in pixels, in the order of 300-W.
      pose: of the head relative to the axis through the picture's middle, see `head_pose68`.
      descriptor: float32 `[128]`, dlib's.
    """

    points: Float[np.ndarray, "68 2"]
    pose: HeadPose
    descriptor: Float[np.ndarray, "128"]


class FaceAnalyser:
    """The two networks and a face backend; a context manager, to be closed after use.

    Args:
      backend: a face backend, which is closed with this; None opens one.

    Raises:
      MissingBackendError: the weights of a network, or a face backend, are not there.
      CheckpointError: the weights are damaged.
    """

    def __init__(self, backend: FaceBackend | None = None) -> None:
        self.landmarks, self.recognition = load_landmarks68(), load_face_recognition()
        self._backend = backend or open_face_backend()
        self._run: Callable[..., Any] = jax.jit(lambda network, pictures: network(pictures))

    @property
    def description(self) -> str:
        """The networks, for reports."""
        return f"{self.landmarks.description}; {self.recognition.description}"

    def analyse(self, pictures: Sequence[UInt8[np.ndarray, "h w 3"]]) -> list[FaceFacts | None]:
        """Measure the largest face of each picture; None where none is found."""
        detected = [self._backend.detect(picture) for picture in pictures]
        known = [i for i, faces in enumerate(detected) if faces]
        crops = [landmark_crop(detected[i][0].box) for i in known]
        inputs = [crop.apply(pictures[i], INPUT_SIZE) for i, crop in zip(known, crops, strict=True)]
        points = [
            points_in_image(np.asarray(found, np.float64), crop)
            for found, crop in zip(self._batched(self.landmarks, inputs, INPUT_SIZE), crops, strict=True)
        ]
        chips = [face_chip(pictures[i], own) for i, own in zip(known, points, strict=True)]
        descriptors = self._batched(self.recognition, chips, CHIP_SIZE)
        facts: list[FaceFacts | None] = [None] * len(pictures)
        for i, own, descriptor in zip(known, points, descriptors, strict=True):
            height, width = pictures[i].shape[:2]
            facts[i] = FaceFacts(own, head_pose68(own, ((width - 1) / 2, (height - 1) / 2)), descriptor)
        return facts

    def _batched(self, network: Any, pictures: Sequence[np.ndarray], size: int) -> list[np.ndarray]:
        results: list[np.ndarray] = []
        for start in range(0, len(pictures), _BATCH):
            part = np.stack(pictures[start : start + _BATCH]).astype(np.float32) / 255
            full = np.concatenate([part, np.zeros((_BATCH - len(part), size, size, 3), np.float32)])
            results += list(np.asarray(self._run(network, full))[: len(part)])
        return results

    def close(self) -> None:
        """Close the face backend."""
        self._backend.close()

    def __enter__(self) -> "FaceAnalyser":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> Literal[False]:
        self.close()
        return False
