"""Face backend on mediapipe's `solutions` interface, whose models are inside the wheel (up to 0.10.21)."""

import importlib.util
import pathlib
from typing import Any

import numpy as np

from avfr_jax.errors import MissingBackendError
from avfr_jax.faces.mediapipe_base import Detection, MediapipeBackend, mesh_pixels
from avfr_jax.packages import FACE_BACKEND, importing
from avfr_jax.runtime import silence_native_logging
from avfr_jax.typing import Float, UInt8

MODEL_FILES = (
    "modules/face_detection/face_detection_full_range_sparse.tflite",
    "modules/face_detection/face_detection_short_range.tflite",
    "modules/face_landmark/face_landmark_with_attention.tflite",
    "modules/selfie_segmentation/selfie_segmentation.tflite",
    "python/solutions/face_mesh.py",
)


def missing_solution_models() -> list[str]:
    """Names of the model files that the installed mediapipe lacks; all of them without it."""
    spec = importlib.util.find_spec("mediapipe")
    folders = list(spec.submodule_search_locations or []) if spec else []
    return [name for name in MODEL_FILES if not any((pathlib.Path(f) / name).is_file() for f in folders)]


class SolutionsBackend(MediapipeBackend):
    """FaceMesh with refined eyes and lips, both ranges of face detection, and selfie segmentation."""

    name = "mediapipe solutions"

    def __init__(self) -> None:
        super().__init__()
        with silence_native_logging(), importing("mediapipe"):
            import mediapipe

            solutions: Any = mediapipe.solutions
        self._solutions = solutions
        self._graphs: dict[str, Any] = {}
        self._logged: set[str] = set()

    def _graph(self, name: str) -> Any:
        """Build a graph on first use."""
        if name not in self._graphs:
            mesh, detection = self._solutions.face_mesh.FaceMesh, self._solutions.face_detection.FaceDetection
            segmentation = self._solutions.selfie_segmentation.SelfieSegmentation
            builders = {
                "full range": lambda: detection(model_selection=1, min_detection_confidence=0.5),
                "short range": lambda: detection(model_selection=0, min_detection_confidence=0.5),
                "still": lambda: mesh(static_image_mode=True, max_num_faces=4, refine_landmarks=True),
                "video": lambda: mesh(static_image_mode=False, max_num_faces=1, refine_landmarks=True),
                "mask": lambda: segmentation(model_selection=0),
            }
            try:
                self._graphs[name] = builders[name]()
            except (AttributeError, TypeError) as error:  # of another protobuf's messages
                raise MissingBackendError(
                    f"mediapipe fails with the installed protobuf ({str(error)[:80]}): {FACE_BACKEND}"
                ) from error
        return self._graphs[name]

    def _process(self, name: str, image: UInt8[np.ndarray, "h w 3"], field: str) -> Any:
        """Run a graph, with native logging silenced until its first result."""
        if name in self._logged:
            return getattr(self._graphs[name].process(image), field)
        with silence_native_logging():
            result = getattr(self._graph(name).process(image), field)
        if result is not None:
            self._logged.add(name)
        return result

    def _detections(self, image: UInt8[np.ndarray, "h w 3"], near: bool) -> list[Detection]:
        height, width = image.shape[:2]
        detections = []
        for name in ("full range", "short range") if near else ("full range",):
            for detection in self._process(name, image, "detections") or []:
                box = detection.location_data.relative_bounding_box
                x0, y0 = box.xmin * width, box.ymin * height
                corners = (x0, y0, x0 + box.width * width, y0 + box.height * height)
                detections.append(Detection(corners, float(detection.score[0])))
        return detections

    def _still_meshes(self, image: UInt8[np.ndarray, "h w 3"]) -> list[Float[np.ndarray, "478 3"]]:
        return [
            mesh_pixels(face.landmark, image) for face in self._process("still", image, "multi_face_landmarks") or []
        ]

    def _video_mesh(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "478 3"] | None:
        faces = self._process("video", image, "multi_face_landmarks")
        return mesh_pixels(faces[0].landmark, image) if faces else None

    def _soft_mask(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
        return np.array(self._process("mask", image, "segmentation_mask"), np.float32)

    def close(self) -> None:
        for graph in self._graphs.values():
            graph.close()
        self._graphs.clear()
        self._logged.clear()
