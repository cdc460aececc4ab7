"""Square crops of a face, one for a picture or a clip, framed like those that the published networks were trained on.

VoxCeleb's protocol (Siarohin et al., video-preprocessing): the union of a face detector's boxes along the clip, made
square and enlarged. The boxes of its detector (S3FD) differ from the mesh's, so the enlargement here was fitted to
seven clips cropped by that protocol: there the side is 1.33 to 1.66 (median 1.48) times the longer side of the union of
mesh boxes, whose centre is at 0.41 to 0.58 (median 0.56) of the height.
"""

import dataclasses
import math
from collections.abc import Sequence

import cv2
import numpy as np

from avfr_jax.errors import ConfigError, FaceError
from avfr_jax.faces.face import Face
from avfr_jax.landmarks import NUM_LANDMARKS, NUM_VERTICES
from avfr_jax.typing import Float, UInt8

UNION_TO_SIDE = 1.5  # side of the crop over the longer side of the union of boxes
FACE_TO_SIDE = 1.6  # and at least this over the longer side of the median box: a still face moves a little
VERTICAL_CENTRE = 0.555  # height in the crop of the union's middle
TUBE_OVERLAP = 0.25  # VoxCeleb's: a box that overlaps the clip's usual one less does not belong to the tube
OUTLIERS = 2.0  # per cent of the frames that may lie outside the union, on each side
FIT_SHIFT = 0.25  # a crop is moved by up to this share of its side to stay inside the image
FIT_UNION = 0.93  # a crop larger than the image is made as small as it, if the union fills no more of that


@dataclasses.dataclass(frozen=True)
class Crop:
    """A square of an image: [x, x + side) by [y, y + side), in pixels, where pixel i covers [i, i + 1); it may extend
    outside the image. Raises ConfigError for a side that is not positive."""

    x: float
    y: float
    side: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.x) and math.isfinite(self.y) and 0 < self.side < math.inf):
            raise ConfigError(f"a crop needs a finite corner and a positive side, not {self}")

    def apply(self, image: UInt8[np.ndarray, "h w 3"], size: int) -> UInt8[np.ndarray, "{size} {size} 3"]:
        """The crop resized to [size, size, 3]: area averaging to shrink, bicubic to enlarge, border pixels repeated."""
        if self.side <= size:
            return self._warp(image, size, cv2.INTER_CUBIC)
        # Averaging over whole pixels is fast: anything else is first brought to a multiple of the size.
        whole = size * math.ceil(self.side / size - 1e-9)
        if all(value == round(value) for value in (self.x, self.y, self.side)):
            pixels = self._slice(image, round(self.side))
            if pixels.shape[0] != whole:
                pixels = cv2.resize(pixels, (whole, whole), interpolation=cv2.INTER_LINEAR)
        else:
            pixels = self._warp(image, whole, cv2.INTER_LINEAR)
        return cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)

    def _warp(self, image: UInt8[np.ndarray, "h w 3"], size: int, method: int) -> UInt8[np.ndarray, "s s 3"]:
        scale = self.side / size
        back = np.array([[scale, 0, self.x + scale / 2 - 0.5], [0, scale, self.y + scale / 2 - 0.5]])
        flags = method | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(image, back, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)

    def _slice(self, image: UInt8[np.ndarray, "h w 3"], side: int) -> UInt8[np.ndarray, "s s 3"]:
        height, width = image.shape[:2]
        x, y = round(self.x), round(self.y)
        if x >= 0 and y >= 0 and x + side <= width and y + side <= height:
            return image[y : y + side, x : x + side]
        from avfr_jax.faces.windows import Window

        return Window(x, y, side).cut(image)

    def to_crop(self, points: Float[np.ndarray, "*n d"], size: int) -> Float[np.ndarray, "*n d"]:
        """Points (x, y) or (x, y, z) of the image → of the crop resized to `size`; z is only scaled."""
        return _rescaled(points, (self.x, self.y), size / self.side, (0.0, 0.0))

    def to_frame(self, points: Float[np.ndarray, "*n d"], size: int) -> Float[np.ndarray, "*n d"]:
        """The inverse of `to_crop`."""
        return _rescaled(points, (0.0, 0.0), self.side / size, (self.x, self.y))

    def outside(self, image_shape: Sequence[int]) -> float:
        """The fraction of the crop's area outside an image of shape [H, W, …], in [0, 1]."""
        height, width = image_shape[:2]
        across = max(0.0, min(self.x + self.side, width) - max(self.x, 0.0))
        down = max(0.0, min(self.y + self.side, height) - max(self.y, 0.0))
        return 1.0 - across * down / self.side**2


def _rescaled(
    points: Float[np.ndarray, "*n d"], old: tuple[float, float], scale: float, new: tuple[float, float]
) -> Float[np.ndarray, "*n d"]:
    """Scale points and move their origin; corners are pixel edges, points pixel centres."""
    result: np.ndarray = np.array(points) * points.dtype.type(scale)
    for axis in (0, 1):
        result[..., axis] += (0.5 - old[axis]) * scale + new[axis] - 0.5
    return result


def crop_for_face(face: Face, image_shape: Sequence[int]) -> Crop:
    """The crop for one picture, of shape [H, W, …]: as `crop_for_clip`, but wholly inside the picture wherever that is
    as large as the crop, so that a face at the border is off the crop's centre and every pixel is the picture's own."""
    crop = crop_for_clip([face], image_shape)
    height, width = image_shape[:2]
    corner = [
        min(max(start, 0.0), length - crop.side) if crop.side <= length else start
        for start, length in ((crop.x, width), (crop.y, height))
    ]
    return Crop(corner[0], corner[1], crop.side)


def share_in_view(face: Face, image_shape: Sequence[int]) -> float:
    """The share, in [0, 1], of the area of a face's box that lies inside an image of shape [H, W, …]."""
    edges = np.array(face.box).reshape(2, 2)
    inside = np.clip(edges, -0.5, np.array([image_shape[1], image_shape[0]]) - 0.5)
    return float(np.diff(inside, axis=0).prod() / max(np.diff(edges, axis=0).prod(), 1e-9))


def crop_for_clip(faces: Sequence[Face | None] | Float[np.ndarray, "n 478 3"], image_shape: Sequence[int]) -> Crop:
    """One crop for a whole clip whose frames have shape [H, W, …].

    Frames whose box overlaps the median box by less than VoxCeleb's 0.25 and the outermost two per cent do not count.
    VoxCeleb's protocol drops a clip whose crop leaves the image; here the crop is reduced to the image's size (so that
    a clip which is such a crop already stays whole) and moved inwards, and what is still outside (`Crop.outside`) is
    filled by repeating the border. Corner and side are whole pixels.

    Args:
      faces: the followed face in each frame: faces (None in frames without it) or landmarks (NaN there).
      image_shape: of the frames.

    Raises:
      FaceError: no frame has a face.
    """
    boxes = face_boxes(faces)
    boxes = boxes[np.isfinite(boxes).all(1)]
    if len(boxes) == 0:
        raise FaceError("no frame has a face to crop to: use a clip that shows one, or crop none")
    tube = boxes[_overlaps(boxes, np.median(boxes, 0)) >= TUBE_OVERLAP]
    if len(tube) == 0:  # no box overlaps the median
        tube = boxes
    low, high, side = union_and_side(tube)
    centre = (low + high) / 2
    side = min(side, max(float(min(image_shape[:2])), (high - low).max() / FIT_UNION))
    whole = max(1.0, float(round(side)))
    x, y = fit(centre[0] - side / 2, centre[1] - side * VERTICAL_CENTRE, whole, image_shape)
    return Crop(float(round(x)), float(round(y)), whole)


def union_and_side(boxes: Float[np.ndarray, "m 4"]) -> tuple[Float[np.ndarray, "2"], Float[np.ndarray, "2"], float]:
    """The union of the boxes of a clip without outliers, its low and high corner, and the side of a crop for it."""
    low, high = np.percentile(boxes[:, :2], OUTLIERS, 0), np.percentile(boxes[:, 2:], 100 - OUTLIERS, 0)
    typical = float(np.median(boxes[:, 2:] - boxes[:, :2], 0).max())
    return low, high, max(UNION_TO_SIDE * float((high - low).max()), FACE_TO_SIDE * typical)


def face_boxes(faces: Sequence[Face | None] | Float[np.ndarray, "n 478 3"]) -> Float[np.ndarray, "n 4"]:
    """Edges (x0, y0, x1, y1) of each frame's face in pixels, where pixel i covers [i, i + 1); NaN without a face.

    Args:
      faces: see `crop_for_clip`.
    """
    if isinstance(faces, np.ndarray):
        landmarks = faces
    else:
        nobody = np.full((NUM_LANDMARKS, 3), np.nan, np.float32)
        landmarks = np.array([nobody if face is None else face.landmarks for face in faces], np.float32)
    points = landmarks.reshape(-1, NUM_LANDMARKS, 3)[:, :NUM_VERTICES, :2]
    return np.concatenate([points.min(1), points.max(1)], 1).astype(np.float64) + 0.5


def _overlaps(boxes: Float[np.ndarray, "m 4"], one: Float[np.ndarray, "4"]) -> Float[np.ndarray, "m"]:
    """Intersection over union of each box with one."""
    low, high = np.maximum(boxes[:, :2], one[:2]), np.minimum(boxes[:, 2:], one[2:])
    shared = np.clip(high - low, 0, None).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (one[2:] - one[:2]).prod()
    return np.asarray(shared / np.maximum(areas - shared, 1e-9))


def fit(x: float, y: float, side: float, image_shape: Sequence[int]) -> tuple[float, float]:
    """The corner of a crop moved into an image of shape [H, W, …], by up to FIT_SHIFT of its side."""
    corner = []
    for start, length in ((x, image_shape[1]), (y, image_shape[0])):
        inside = min(max(start, 0), max(length - side, 0)) if side <= length else (length - side) / 2
        corner.append(start + min(max(inside - start, -FIT_SHIFT * side), FIT_SHIFT * side))
    return corner[0], corner[1]
