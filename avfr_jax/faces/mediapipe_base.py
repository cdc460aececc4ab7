"""Face detection and tracking at any size with mediapipe's networks, for both of its interfaces.

mediapipe's mesh detects its face at 128x128 pixels: a face must fill a fifth of the image. So detection runs here at
several scales, and the mesh on a window around each detection.
"""

import abc
import dataclasses
import types
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np

from avfr_jax.faces.face import Box, Face
from avfr_jax.faces.windows import Window, check_image
from avfr_jax.typing import Float, UInt8

DETECTION_SIZE = 384  # inputs of the detectors are 192x192 and 128x128 pixels
MESH_SIZES = (192, 800)  # input of the landmark network is 192x192 pixels around the face
MASK_SIZE = 512  # input of the segmentation network is 256x256 pixels
SMALLEST_TILE = 384  # detects a face of 32 pixels
MESH_MARGINS = (2.0, 1.4, 3.0)  # side of the mesh's window over the detection's side, tried in this order
TRACK_MARGIN = 2.5  # the same over the face's side while it is tracked
PATIENCE = 12  # frames for which a lost face is expected near its last position
LOST_INTERVAL = 12  # frames between two searches through small tiles without a face


@dataclasses.dataclass(frozen=True)
class Detection:
    """A detector's box (x0, y0, x1, y1) in pixels, about eyebrows to chin, and its confidence in [0, 1]."""

    box: Box
    score: float

    @property
    def centre(self) -> tuple[float, float]:
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2

    @property
    def side(self) -> float:
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])

    def placed(self, window: Window, scale: float) -> "Detection":
        """From pixels of a resized window to pixels of the image."""
        x0, y0, x1, y1 = (value * scale for value in self.box)
        return Detection((x0 + window.x, y0 + window.y, x1 + window.x, y1 + window.y), self.score)


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def mesh_pixels(points: Sequence[Any], image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "n 3"]:
    """Landmarks relative to the image's extent to 0-based pixels (the extent begins half a pixel earlier)."""
    height, width = image.shape[:2]
    relative = np.array([(point.x, point.y, point.z) for point in points], np.float32)
    return relative * np.array([width, height, width], np.float32) - np.array([0.5, 0.5, 0], np.float32)


class MediapipeBackend(abc.ABC):
    """Common part of both interfaces: a `FaceBackend`. A subclass runs single networks on square images."""

    name = "mediapipe"

    def __init__(self) -> None:
        self._last: Face | None = None
        self._window: Window | None = None
        self._lost = 0

    @abc.abstractmethod
    def _detections(self, image: UInt8[np.ndarray, "h w 3"], near: bool) -> list[Detection]:
        """Boxes in the image; `near` also runs a detector of faces that fill much of it, if that is another."""

    @abc.abstractmethod
    def _still_meshes(self, image: UInt8[np.ndarray, "h w 3"]) -> list[Float[np.ndarray, "478 3"]]: ...

    @abc.abstractmethod
    def _video_mesh(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "478 3"] | None: ...

    @abc.abstractmethod
    def _soft_mask(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]: ...

    @abc.abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> "MediapipeBackend":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self.close()

    # -- one image on its own --

    def detect(self, image: UInt8[np.ndarray, "h w 3"]) -> list[Face]:
        """See `FaceBackend.detect`. Down to 32 pixels in images up to 12 megapixels; beside large faces, ones about ten
        times smaller may be missed. Raises InputError if `image` is no RGB image."""
        check_image(image)
        return self._search(image, thorough=True)

    def _search(self, image: UInt8[np.ndarray, "h w 3"], thorough: bool) -> list[Face]:
        for level, windows in enumerate(_scales(image.shape[1], image.shape[0], thorough)):
            detections = []
            for window in windows:
                pixels = window.cut_to(image, 1, DETECTION_SIZE)
                scale = window.side / len(pixels)
                detections += [d.placed(window, scale) for d in self._detections(pixels, near=level < 2)]
            faces = self._meshes(image, detections)
            if faces:
                return faces
        return []

    def _meshes(self, image: UInt8[np.ndarray, "h w 3"], detections: Sequence[Detection]) -> list[Face]:
        """Run the mesh at each detection, best first; one face for overlapping boxes."""
        faces: list[Face] = []
        tried: list[Detection] = []
        for detection in sorted(detections, key=lambda d: -d.score):
            if any(overlap(detection.box, other.box) > 0.3 for other in tried):
                continue
            tried.append(detection)
            face = self._mesh_at(image, detection)
            if face is not None and all(overlap(face.box, other.box) < 0.4 for other in faces):
                faces.append(face)
        return sorted(faces, key=lambda face: -face.size)

    def _mesh_at(self, image: UInt8[np.ndarray, "h w 3"], detection: Detection) -> Face | None:
        for margin in MESH_MARGINS:
            window = Window.around(detection.centre, detection.side * margin)
            pixels = window.cut_to(image, *MESH_SIZES)
            meshes = [window.to_image(points, len(pixels)) for points in self._still_meshes(pixels)]
            matches = [(overlap(Face(m, 0.0).box, detection.box), m) for m in meshes]
            best = max(matches, key=lambda match: match[0], default=(0.0, None))
            if best[1] is not None and best[0] > 0.25:
                return Face(best[1], detection.score)
        return None

    # -- a clip --

    def track(self, image: UInt8[np.ndarray, "h w 3"]) -> Face | None:
        """See `FaceBackend.track`. After PATIENCE frames without the face, the nearest face anywhere takes over. Raises
        InputError if `image` is no RGB image."""
        check_image(image)
        face = self._continue(image)
        if face is None:
            face = self._recover(image)
        if face is None:
            self._lost += 1
            return None
        self._last, self._lost = face, 0
        return face

    def follow(self, face: Face) -> None:
        """See `FaceBackend.follow`."""
        self.reset()
        self._last = face

    def reset(self) -> None:
        """See `FaceBackend.reset`."""
        self._last, self._window, self._lost = None, None, 0

    def _continue(self, image: UInt8[np.ndarray, "h w 3"]) -> Face | None:
        """The mesh in the window of the last frame, or in a new one if the face has moved too far in it."""
        if self._last is None or self._lost:
            return None
        window = _tracking_window(self._last, self._window, image.shape[1], image.shape[0])
        pixels = window.cut_to(image, *MESH_SIZES)
        if window != self._window:
            # mediapipe starts from the face's position in the last window; an empty frame makes it detect anew.
            self._video_mesh(np.zeros_like(pixels))
            self._window = window
        points = self._video_mesh(pixels)
        if points is None:
            self._window = None
            return None
        face = Face(window.to_image(points, len(pixels)), self._last.score)
        same = overlap(face.box, self._last.box) > 0.2 and 0.5 < face.size / self._last.size < 2
        return face if same else None

    def _recover(self, image: UInt8[np.ndarray, "h w 3"]) -> Face | None:
        self._window = None
        faces = self._search(image, thorough=self._lost % LOST_INTERVAL == 0)
        last = self._last
        if not faces or last is None:
            return faces[0] if faces else None
        nearest = min(faces, key=lambda face: _distance(face, last))
        near = _distance(nearest, last) < 1.5 * last.size and 0.4 < nearest.size / last.size < 2.5
        return nearest if near or self._lost >= PATIENCE else None

    # -- the person --

    def person_mask(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
        """See `FaceBackend.person_mask`. Raises InputError if it is no RGB image."""
        check_image(image)
        height, width = image.shape[:2]
        shrink = min(1.0, MASK_SIZE / max(height, width))
        small = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        pixels = image if shrink == 1 else cv2.resize(image, small, interpolation=cv2.INTER_AREA)
        mask = self._soft_mask(np.ascontiguousarray(pixels))
        if shrink < 1:
            mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(np.clip(mask, 0, 1), np.float32)


def _distance(a: Face, b: Face) -> float:
    return float(np.hypot(a.centre[0] - b.centre[0], a.centre[1] - b.centre[1]))


def _scales(width: int, height: int, thorough: bool) -> Iterator[list[Window]]:
    """Windows to search, coarse to fine: the image; the image with a wide margin (a face that fills it or
    touches its border); then half-overlapping tiles of half the size, and so on, while nothing is detected."""
    longer = max(width, height)
    yield [Window.whole(width, height)]
    yield [Window.whole(width, height, margin=0.3), Window.whole(width, height, margin=0.8)]
    side = longer / 2
    while thorough and side >= SMALLEST_TILE:
        columns, rows = (max(1, int(np.ceil(2 * length / side)) - 1) for length in (width, height))
        yield [
            Window.around(((i + 1) * width / (columns + 1), (j + 1) * height / (rows + 1)), side)
            for j in range(rows)
            for i in range(columns)
        ]
        side /= 2


def _tracking_window(face: Face, current: Window | None, width: int, height: int) -> Window:
    """The current window while the face is well inside it; the whole image if that is hardly larger."""
    if current is not None:
        offset = np.subtract(face.centre, (current.x + current.side / 2, current.y + current.side / 2))
        covers_all = current.side >= max(width, height)
        inside = covers_all or float(np.abs(offset).max()) + face.size / 2 < 0.45 * current.side
        if inside and (covers_all or 0.28 < face.size / current.side < 0.7):
            return current
    if face.size * TRACK_MARGIN * 1.3 >= max(width, height):
        return Window.whole(width, height)
    return Window.around(face.centre, face.size * TRACK_MARGIN)
