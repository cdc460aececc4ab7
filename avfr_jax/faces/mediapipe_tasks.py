"""Face backend on mediapipe's Tasks interface, the only one of newer releases; its models are downloads.

Tested with mediapipe 0.10.21, its wheel's own detector and segmenter and a substitute landmark model, not with the
published `face_landmarker.task`.
"""

import pathlib
from typing import Any

import numpy as np

from avfr_jax.errors import MissingBackendError
from avfr_jax.faces.mediapipe_base import Detection, MediapipeBackend, mesh_pixels
from avfr_jax.folders import face_model_folder
from avfr_jax.landmarks import NUM_LANDMARKS
from avfr_jax.packages import FACE_BACKEND, importing
from avfr_jax.runtime import silence_native_logging
from avfr_jax.typing import Float, UInt8

_STORE = "https://storage.googleapis.com/mediapipe-models"
MODELS = {
    "face_landmarker.task": f"{_STORE}/face_landmarker/face_landmarker/float16/latest/face_landmarker.task",
    "blaze_face_short_range.tflite": (
        f"{_STORE}/face_detector/blaze_face_short_range/float16/latest/blaze_face_short_range.tflite"
    ),
    "selfie_segmenter.tflite": (f"{_STORE}/image_segmenter/selfie_segmenter/float16/latest/selfie_segmenter.tflite"),
}
FRAME_MS = 40  # the tracker needs increasing time stamps


class TasksBackend(MediapipeBackend):
    """FaceLandmarker (stills and video), short-range face detection and selfie segmentation.

    Raises:
      MissingBackendError: model files are not in the weights folder; the message has their addresses.
    """

    name = "mediapipe tasks"

    def __init__(self) -> None:
        super().__init__()
        self._files = _model_files()
        with silence_native_logging(), importing("mediapipe"):
            import mediapipe

        self._mediapipe: Any = mediapipe
        self._runners: dict[str, Any] = {}
        self._time = 0

    def _runner(self, name: str) -> Any:
        """Build a task on first use."""
        if name not in self._runners:
            with silence_native_logging():
                self._runners[name] = self._build(name)
        return self._runners[name]

    def _build(self, name: str) -> Any:
        vision, base = self._mediapipe.tasks.vision, self._mediapipe.tasks.BaseOptions

        def options(file: str) -> Any:
            return base(model_asset_path=str(self._files[file]))

        if name == "detector":
            detection = options("blaze_face_short_range.tflite")
            return vision.FaceDetector.create_from_options(vision.FaceDetectorOptions(base_options=detection))
        if name == "mask":
            segmentation = vision.ImageSegmenterOptions(
                base_options=options("selfie_segmenter.tflite"), output_confidence_masks=True
            )
            return vision.ImageSegmenter.create_from_options(segmentation)
        mode = vision.RunningMode.VIDEO if name == "video" else vision.RunningMode.IMAGE
        mesh = vision.FaceLandmarkerOptions(
            base_options=options("face_landmarker.task"),
            running_mode=mode,
            num_faces=1 if name == "video" else 4,
        )
        return vision.FaceLandmarker.create_from_options(mesh)

    def _image(self, image: UInt8[np.ndarray, "h w 3"]) -> Any:
        return self._mediapipe.Image(image_format=self._mediapipe.ImageFormat.SRGB, data=image)

    def _detections(self, image: UInt8[np.ndarray, "h w 3"], near: bool) -> list[Detection]:
        runner = self._runner("detector")
        with silence_native_logging():
            result = runner.detect(self._image(image))
        detections = []
        for detection in result.detections:
            box = detection.bounding_box
            x0, y0 = float(box.origin_x), float(box.origin_y)
            corners = (x0, y0, x0 + box.width, y0 + box.height)
            detections.append(Detection(corners, float(detection.categories[0].score)))
        return detections

    def _still_meshes(self, image: UInt8[np.ndarray, "h w 3"]) -> list[Float[np.ndarray, "478 3"]]:
        runner = self._runner("still")
        with silence_native_logging():
            result = runner.detect(self._image(image))
        return [_points(face, image) for face in result.face_landmarks]

    def _video_mesh(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "478 3"] | None:
        runner = self._runner("video")
        self._time += FRAME_MS
        with silence_native_logging():
            result = runner.detect_for_video(self._image(image), self._time)
        return _points(result.face_landmarks[0], image) if result.face_landmarks else None

    def _soft_mask(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
        runner = self._runner("mask")
        with silence_native_logging():
            result = runner.segment(self._image(image))
        # One mask (person), or two (background, person), by the model.
        mask = np.array(result.confidence_masks[-1].numpy_view(), np.float32)
        return mask.reshape(image.shape[:2])

    def close(self) -> None:
        for runner in self._runners.values():
            runner.close()
        self._runners.clear()


def _model_files() -> dict[str, pathlib.Path]:
    folder = face_model_folder()
    missing = [name for name in MODELS if not (folder / name).is_file()]
    if missing:
        raise MissingBackendError(
            f"this mediapipe carries no models: {FACE_BACKEND} (or, untried, {', '.join(missing)} in {folder}, whose "
            "addresses are in avfr_jax.faces.mediapipe_tasks.MODELS)"
        )
    return {name: folder / name for name in MODELS}


def _points(face: Any, image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "478 3"]:
    if len(face) != NUM_LANDMARKS:
        raise MissingBackendError(
            f"face_landmarker.task gives {len(face)} landmarks where {NUM_LANDMARKS} are needed: fetch "
            f"{MODELS['face_landmarker.task']} into {face_model_folder()}"
        )
    return mesh_pixels(face, image)
