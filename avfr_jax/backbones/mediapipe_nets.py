"""mediapipe's networks as differentiable JAX functions: face landmarks and their features, body-pose points on the
face, person mask.

They are read from the installed mediapipe wheel (0.10.21 is the last that carries them), else from the copy that
`avfr import mediapipe-nets` writes. The weights are Google's, under the Apache 2.0 licence.
"""

import dataclasses
import functools
import importlib.util
import pathlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from avfr_jax.backbones.tflite import load_graph, run, save_graph
from avfr_jax.backbones.tflite_graph import Graph
from avfr_jax.backbones.weights import sha256
from avfr_jax.errors import MissingBackendError
from avfr_jax.folders import backbone_folder
from avfr_jax.landmarks import NUM_VERTICES
from avfr_jax.ops.grids import pixel_centres
from avfr_jax.ops.sampling import grid_sample_2d
from avfr_jax.packages import FACE_BACKEND
from avfr_jax.typing import Array, Float

# Our name -> the file inside the wheel.
FILES = {
    "face_landmark": "modules/face_landmark/face_landmark.tflite",
    "pose_landmark": "modules/pose_landmark/pose_landmark_full.tflite",
    "selfie_segmentation": "modules/selfie_segmentation/selfie_segmentation.tflite",
}
# The last activation of face_landmark at each resolution: 1/2, 1/4, 1/8, 1/16 and 1/32 of the input.
FACE_LAYERS = ("p_re_lu_3", "p_re_lu_6", "p_re_lu_9", "p_re_lu_12", "p_re_lu_15")
FACE_SIZE, POSE_SIZE, MASK_SIZE = 192, 256, 256
# Rows of `pose_points`: left and right are the subject's own.
POSE_POINTS = (
    *("nose", "left eye inner", "left eye", "left eye outer", "right eye inner", "right eye", "right eye outer"),
    *("left ear", "right ear", "mouth left", "mouth right"),
)


@partial(jax.tree_util.register_dataclass, data_fields=["constants"], meta_fields=["graph"])
@dataclasses.dataclass(frozen=True)
class Network:
    """A graph with its constants; a pytree, to be an argument of a jitted function."""

    graph: Graph
    constants: Any

    def __call__(self, x: Array, outputs: Sequence[str] | None = None) -> list[jax.Array]:
        """See `avfr_jax.backbones.tflite.run`."""
        return run(self.graph, self.constants, x, outputs)


def wheel_file(name: str) -> pathlib.Path | None:
    """The `.tflite` file of a network in the installed mediapipe, without importing it; None if it carries none."""
    spec = importlib.util.find_spec("mediapipe")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := pathlib.Path(folder) / FILES[name]).is_file():
            return path
    return None


def copy_file(name: str) -> pathlib.Path:
    """Path of the converted copy of a network."""
    return backbone_folder() / "mediapipe" / f"{name}.json"


def find_network(name: str) -> pathlib.Path:
    """The file that `load_network` reads: the wheel's own where there is one and it can be read, else the copy.

    Args:
      name: one of `FILES`.

    Raises:
      MissingBackendError: there is neither.
    """
    path = wheel_file(name)
    # The flatbuffer's schema is needed for the wheel's own file alone.
    if path is not None and importlib.util.find_spec("tflite") is not None:
        return path
    copy = copy_file(name)
    if not copy.is_file():
        lacking = "mediapipe's own files" if path is None else "the package tflite"
        raise MissingBackendError(
            f"The network {name} needs {lacking} or a converted copy in {copy.parent}: run {FACE_BACKEND} and pip "
            "install tflite, or run avfr import mediapipe-nets where they are and copy that folder."
        )
    return copy


def load_network(name: str) -> Network:
    """One of mediapipe's networks, read once.

    Args:
      name: one of `FILES`.

    Raises:
      MissingBackendError: neither mediapipe's own file nor a converted copy is there.
      CheckpointError: the copy is damaged.
    """
    return _load(find_network(name))


@functools.lru_cache(maxsize=8)
def _load(path: pathlib.Path) -> Network:
    graph = load_graph(path)
    return Network(dataclasses.replace(graph, constants={}), dict(graph.constants))


def export_networks(folder: pathlib.Path | None = None) -> list[pathlib.Path]:
    """Convert every network of the installed wheel to copies that need neither mediapipe nor `tflite`.

    Args:
      folder: None is the weights folder, from which `load_network` reads.

    Returns:
      The `.json` files written.

    Raises:
      MissingBackendError: mediapipe, or its models, or the package `tflite` are not installed.
      OutputError: the folder cannot be written to.
    """
    written = []
    for name in FILES:
        source = wheel_file(name)
        if source is None:
            raise MissingBackendError(
                f"There is no {FILES[name]} in an installed mediapipe: run {FACE_BACKEND} and pip install tflite."
            )
        about = {"source": f"mediapipe {FILES[name]}", "source_sha256": sha256(source), "licence": "Apache-2.0"}
        target = copy_file(name) if folder is None else pathlib.Path(folder) / copy_file(name).name
        written.append(save_graph(load_graph(source), target, about))
    return written


# ---------------------------------------------------------------------------------------------------- regions


@partial(jax.tree_util.register_dataclass, data_fields=["centre", "side", "angle"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Region:
    """Rotated square crops of frames, one a frame.

    Attributes:
      centre: `[N, 2]`, (x, y) in [-1, 1] of the frame (±1 are its edges).
      side: `[N]`, share of the frame's width.
      angle: `[N]`, radians, clockwise in the image.
    """

    centre: Any
    side: Any
    angle: Any


def whole_frame(n: int) -> Region:
    """The square in the middle of each frame that spans its width."""
    return Region(jnp.zeros((n, 2), jnp.float32), jnp.ones(n, jnp.float32), jnp.zeros(n, jnp.float32))


def face_region(landmarks: Float[Array, "n k d"], aspect: float = 1.0, scale: float = 1.5) -> Region:
    """The crop of mediapipe's face tracker, from the landmarks of the frame before.

    Args:
      landmarks: mesh landmarks in [-1, 1] of the frame, 468 or 478, NaN where there is no face.
      aspect: the frame's height over its width.
      scale: the square's side over the longer side of the landmarks' box.

    Returns:
      A region without gradient, upright along the line of the eyes' outer corners; the whole frame where a landmark
      is NaN. Read the prediction and the target through the same region.
    """
    xy = jax.lax.stop_gradient(jnp.asarray(landmarks, jnp.float32)[..., :2]) * jnp.asarray([1.0, aspect], jnp.float32)
    low, high = xy.min(1), xy.max(1)
    across = xy[:, 263] - xy[:, 33]
    side = scale * (high - low).max(-1) / 2
    centre, angle = (low + high) / 2 / jnp.asarray([1.0, aspect], jnp.float32), jnp.arctan2(across[:, 1], across[:, 0])
    known = jnp.all(jnp.isfinite(xy), axis=(1, 2))
    default = whole_frame(len(known))
    return Region(
        jnp.where(known[:, None], centre, default.centre),
        jnp.where(known, side, default.side),
        jnp.where(known, angle, default.angle),
    )


def pose_region(landmarks: Float[Array, "n k d"], aspect: float = 1.0) -> Region:
    """A crop for the body-pose network, which expects a whole person with the hips in the middle.

    Side and place were measured on talking heads: at eight times the face's box, centred 3.2 boxes below the face, the
    points correlate with the face mesh's (0.97 across, 0.93 down).

    Args:
      landmarks: mesh landmarks in [-1, 1] of the frame, NaN where there is no face.
      aspect: the frame's height over its width.

    Returns:
      An upright region without gradient. Where a landmark is NaN, that of a face in the middle of the frame whose box
      is half as wide as the frame.
    """
    face = face_region(landmarks, aspect, scale=1.0)
    known = jnp.all(jnp.isfinite(landmarks[..., :2]), axis=(1, 2))
    box = jnp.where(known, face.side, 0.5)
    offset = 3.2 * 2 * box / aspect
    return Region(face.centre.at[:, 1].add(offset), 8 * box, jnp.zeros_like(box))


def _to_offsets(region: Region, xy: Any, aspect: float) -> jax.Array:
    """Offsets from a region's centre, in shares of its side (…, 2), as offsets in [-1, 1] of the frame."""
    lead = (-1, *[1] * (xy.ndim - 2))
    cos, sin = jnp.cos(region.angle).reshape(lead), jnp.sin(region.angle).reshape(lead)
    x, y = xy[..., 0], xy[..., 1]
    rotated = jnp.stack([cos * x - sin * y, (sin * x + cos * y) / aspect], -1)
    offsets: jax.Array = rotated * 2 * region.side.reshape(*lead, 1)
    return offsets


def crop(images: Float[Array, "n h w c"], region: Region, size: int) -> Float[Array, "n {size} {size} c"]:
    """The region's pixels, bilinear, the border repeated outside of the frame; differentiable in both."""
    n, h, w, _ = images.shape
    line = pixel_centres(size) / 2
    y, x = jnp.meshgrid(line, line, indexing="ij")
    grid = _to_offsets(region, jnp.broadcast_to(jnp.stack([x, y], -1), (n, size, size, 2)), h / w)
    return grid_sample_2d(images, grid + region.centre[:, None, None], "border")


def _to_frame(points: jax.Array, region: Region, aspect: float) -> jax.Array:
    """Points [N, K, 3] in shares of the region's side, from its upper left corner, depth likewise -> the frame's."""
    xy = _to_offsets(region, points[..., :2] - 0.5, aspect) + region.centre[:, None]
    return jnp.concatenate([xy, points[..., 2:] * 2 * region.side[:, None, None]], -1)


# ---------------------------------------------------------------------------------------------------- networks


def face_features(images: Float[Array, "n h w 3"], network: Network | None = None) -> list[Float[Array, "n h2 w2 c"]]:
    """Features of the face-landmark network, for perceptual losses.

    Args:
      images: frames around a face, in [0, 1], sides of 32 pixels or more; those above 192 are resized to 192 with
        anti-aliasing.
      network: `load_network("face_landmark")`; None loads it.

    Returns:
      Five arrays: 16, 32, 64, 128 and 128 channels at 1/2, 1/4, 1/8, 1/16 and 1/32 of the network's input.

    Raises:
      ValueError: a side below 32 pixels.
      MissingBackendError: see `load_network`.
    """
    n, h, w, c = images.shape
    if min(h, w) < 32:
        raise ValueError(f"the face features want frames of 32 pixels or more, not {h} x {w}")
    size = (min(h, FACE_SIZE), min(w, FACE_SIZE))
    if size != (h, w):
        images = jax.image.resize(images, (n, *size, c), "linear")
    return (network or load_network("face_landmark"))(images, FACE_LAYERS)


def face_landmarks(
    images: Float[Array, "n h w 3"], region: Region | None = None, network: Network | None = None
) -> Float[Array, "n 468 3"]:
    """mediapipe's face mesh, differentiable.

    Args:
      images: frames in [0, 1].
      region: of the face, see `face_region`; None is the whole frame (the face should fill about half of it).
      network: `load_network("face_landmark")`; None loads it.

    Returns:
      Landmarks (x, y, z) in [-1, 1] of the frame, z in x's unit, negative towards the camera; meaningless where
      there is no face.

    Raises:
      MissingBackendError: see `load_network`.
    """
    network = network or load_network("face_landmark")
    region = region or whole_frame(len(images))
    points = network(crop(images, region, FACE_SIZE), network.graph.outputs[:1])[0]
    return _to_frame(points.reshape(-1, NUM_VERTICES, 3) / FACE_SIZE, region, images.shape[1] / images.shape[2])


def _refined(points: jax.Array, heat: jax.Array) -> jax.Array:
    """Points moved to the local centre of mass of their heatmap, where that is confident, as mediapipe does.

    Args:
      points: `[N, K, 2]` (x, y) in [0, 1] of the network's input.
      heat: `[N, H, W, K]` in [0, 1].
    """
    _, h, w, _ = heat.shape
    at = jax.lax.stop_gradient(jnp.floor(points * jnp.asarray([w, h], points.dtype)))
    y, x = jnp.meshgrid(jnp.arange(h), jnp.arange(w), indexing="ij")
    cells = jnp.stack([x, y], -1)[None, :, :, None]
    near = jnp.all(jnp.abs(cells - at[:, None, None]) <= 3, axis=-1)
    mass = heat * near
    centre = jnp.einsum("nhwk,hwd->nkd", mass, cells[0, :, :, 0].astype(heat.dtype), precision="highest")
    centre = centre / (mass.sum((1, 2))[..., None] + 1e-9) / jnp.asarray([w, h], points.dtype)
    return jnp.where(mass.max((1, 2))[..., None] > 0.5, centre, points)


def pose_points(
    images: Float[Array, "n h w 3"], region: Region | None = None, network: Network | None = None
) -> Float[Array, "n 11 3"]:
    """Points on the face from mediapipe's body-pose network, which are independent of the face mesh.

    Args:
      images: frames in [0, 1].
      region: of the person, see `pose_region`; None suits frames with a face in the middle whose mesh is about half as
        wide as the frame. Frames to be compared need the same region.
      network: `load_network("pose_landmark")`; None loads it.

    Returns:
      `POSE_POINTS`, (x, y, z) in [-1, 1] of the frame, z in x's unit.

    Raises:
      MissingBackendError: see `load_network`.
    """
    network = network or load_network("pose_landmark")
    aspect, count = images.shape[1] / images.shape[2], len(POSE_POINTS)
    region = region or pose_region(jnp.full((len(images), NUM_VERTICES, 2), jnp.nan, jnp.float32), aspect)
    points, heat = network(crop(images, region, POSE_SIZE), (network.graph.outputs[0], network.graph.outputs[3]))
    points = points.reshape(-1, 39, 5)[:, :count, :3] / POSE_SIZE
    xy = _refined(points[..., :2], jax.nn.sigmoid(heat[..., :count]))
    return _to_frame(jnp.concatenate([xy, points[..., 2:]], -1), region, aspect)


def selfie_mask(images: Float[Array, "n h w 3"], network: Network | None = None) -> Float[Array, "n h w"]:
    """Soft mask of the person, in [0, 1], differentiable.

    Args:
      images: frames in [0, 1], any size; resized to 256 x 256 for the network.
      network: `load_network("selfie_segmentation")`; None loads it.

    Raises:
      MissingBackendError: see `load_network`.
    """
    n, h, w, c = images.shape
    small = jax.image.resize(images, (n, MASK_SIZE, MASK_SIZE, c), "linear")
    mask = (network or load_network("selfie_segmentation"))(small)[0]
    out: jax.Array = jax.image.resize(mask[..., 0], (n, h, w), "linear")
    return out
