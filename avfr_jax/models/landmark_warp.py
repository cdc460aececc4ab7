"""`landmark-warp`: a face moved by its landmarks, with no learned weights.

The baseline that every learned model has to beat. A thin-plate spline through some 150 points of the face mesh maps
each pixel of the new frame to its position in the source picture. Around that:

* hair and ears follow the head's own plane, the torso stays, the neck between them bends;
* the person is a layer over a background that is filled in behind it once and never moves;
* a mouth or an eye that opens although the source's is shut shows an inside made from the source's colours;
* displacements well below a pixel, which are the face tracker's noise, are shrunk towards zero.

Source of the spline: Bookstein, "Principal Warps", PAMI 1989. The rest is this package's own.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax import landmarks as points
from avfr_jax.models._apertures import Palette, measure_palette, paint_apertures
from avfr_jax.motion import FaceMesh
from avfr_jax.motion.face_mesh import skull_normals
from avfr_jax.ops import tps
from avfr_jax.ops.grids import pixel_grid
from avfr_jax.typing import Array, Float


@dataclasses.dataclass(frozen=True)
class LandmarkWarpConfig:
    """Settings. Lengths named `_px` are in pixels of a 256 x 256 frame and scale with the frame.

    Attributes:
      size: height and width of the frames.
      flow_size: side of the grid on which the spline is evaluated.
      kernel: see `avfr_jax.ops.tps.fit`.
      smoothing: of the spline, pixels² (thin_plate) or pixels (linear) of a 256 x 256 frame.
      dead_zone_px: displacements about this long or shorter are tracker noise.
      pose_dead_zone_px: the same for the motion of hair and neck with the head, which is fitted to fewer points.
      least_gap_px: lips and lids are kept this far apart.
      hair: how far out the hair is tied to the head, in radii of the face's outline.
      hair_smoothing_px: how loosely.
      neck: share of the head's small motions that the neck takes part in; shoulders stay.
      paint: fill the inside of a mouth or an eye that the source picture shows shut.
    """

    size: int = 256
    flow_size: int = 96
    kernel: str = "linear"
    smoothing: float = 0.3
    dead_zone_px: float = 0.8
    pose_dead_zone_px: float = 3.5
    least_gap_px: float = 1.5
    hair: float = 1.05
    hair_smoothing_px: float = 6.0
    neck: float = 0.2
    paint: bool = True


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EncodedSource:
    """Layers of the source picture for `animate`; shapes are those of one.

    Attributes:
      layer: [2H,2W,4], twice enlarged: the person's colours with the background's share taken off, and its opacity.
      background: [H,W,3] in [0,1], filled in where the person stands.
      layered: scalar, 1 where the person's mask was fit for use, else 0 (then the layer is the whole picture).
      palette: colours of skin and lips.
    """

    layer: Array
    background: Array
    layered: Array
    palette: Palette


def encode(
    config: LandmarkWarpConfig,
    source: Float[np.ndarray | Array, "h w 3"],
    landmarks: Float[np.ndarray | Array, "478 3"],
    person_mask: Float[np.ndarray | Array, "h w"],
) -> EncodedSource:
    """Prepare the source picture, once.

    Args:
      config: settings.
      source: RGB in [0,1], `config.size` pixels high and wide.
      landmarks: (x, y, z) as in `motion.FaceMesh`.
      person_mask: 1 on the person, 0 beside. A mask that is nearly constant or misses the face is set aside; the
        picture is then warped whole.

    Raises:
      ValueError: wrong shapes.
    """
    size = config.size
    if tuple(source.shape) != (size, size, 3):
        raise ValueError(f"source must be [{size},{size},3], not {list(source.shape)}")
    if tuple(landmarks.shape) != (points.NUM_LANDMARKS, 3):
        raise ValueError(f"landmarks must be [{points.NUM_LANDMARKS},3], not {list(landmarks.shape)}")
    if tuple(person_mask.shape) != (size, size):
        raise ValueError(f"person_mask must be [{size},{size}], not {list(person_mask.shape)}")
    return _encode(config, *(jnp.asarray(x, jnp.float32) for x in (source, landmarks, person_mask)))


@partial(jax.jit, static_argnums=0)
def _encode(config: LandmarkWarpConfig, source: Array, landmarks: Array, mask: Array) -> EncodedSource:
    pixels = ((landmarks[:, :2] + 1) * config.size - 1) / 2
    index = jnp.clip(jnp.round(pixels), 0, config.size - 1).astype(jnp.int32)
    on_face = mask[index[np.array(points.CONTROL), 1], index[np.array(points.CONTROL), 0]].mean()
    layered = ((mask.mean() > 0.05) & (mask.mean() < 0.95) & (on_face > 0.8)).astype(jnp.float32)
    opacity = jnp.clip((mask - 0.1) / 0.8, 0, 1)
    opacity = jnp.where(layered > 0, opacity, 1.0)
    # Loose hair outside of the mask must not colour the background.
    reach = max(1, config.size // 32)
    grown = jax.lax.reduce_window(opacity, np.float32(0), jax.lax.max, (2 * reach + 1,) * 2, (1, 1), "SAME")
    background = _fill(source, 1 - grown)
    # Person = picture - (1 - opacity) background: with nothing moved the two layers add up to the picture itself.
    person = source - (1 - opacity)[..., None] * background
    layer = jnp.concatenate([person, opacity[..., None]], -1)
    return EncodedSource(_double(_double(layer, 0), 1), background, layered, measure_palette(source, pixels))


def _fill(image: Float[Array, "h w c"], weight: Float[Array, "h w"]) -> Float[Array, "h w c"]:
    """`image` where weight is 1; elsewhere a smooth continuation (pull-push over a pyramid, Gortler et al. 1996)."""
    h, w, c = image.shape
    stack = jnp.concatenate([image * weight[..., None], weight[..., None]], -1)
    if min(h, w) > 2:
        pad = jnp.pad(stack, ((0, h % 2), (0, w % 2), (0, 0)), mode="edge")
        half = pad.reshape(pad.shape[0] // 2, 2, pad.shape[1] // 2, 2, c + 1).mean((1, 3))
        total = jnp.maximum(half[..., c:], 1e-8)
        filled = _fill(half[..., :c] / total, jnp.minimum(half[..., c] * 4, 1.0))
        coarse = jax.image.resize(filled, (pad.shape[0], pad.shape[1], c), "linear")[:h, :w]
    else:
        coarse = jnp.broadcast_to(stack[..., :c].sum((0, 1)) / jnp.maximum(stack[..., c].sum(), 1e-8), image.shape)
    return weight[..., None] * image + (1 - weight[..., None]) * coarse


def _double(image: Array, axis: int) -> Array:
    """Twice as many samples along an axis; the old ones, unchanged, are the even ones, the new ones cubic."""
    n = image.shape[axis]
    before, here, after, beyond = (
        jnp.take(image, jnp.clip(jnp.arange(n) + k, 0, n - 1), axis=axis) for k in (-1, 0, 1, 2)
    )
    between = (9 * (here + after) - before - beyond) / 16
    shape = list(image.shape)
    shape[axis] = 2 * n
    return jnp.stack([here, between], axis + 1).reshape(shape)


def animate(
    config: LandmarkWarpConfig, encoded: EncodedSource, source: FaceMesh, driving: FaceMesh
) -> Float[Array, "n h w 3"]:
    """The source picture with its face moved from `source` to `driving`.

    Args:
      config: the one given to `encode`.
      encoded: from `encode`.
      source: mesh of the source picture, one frame.
      driving: meshes of N frames.

    Returns:
      N frames, RGB in [0,1]. Equal meshes give the source picture back, up to rounding.

    Raises:
      ValueError: wrong shapes.
    """
    for name, mesh in (("source", source), ("driving", driving)):
        if mesh.landmarks.ndim != 3 or tuple(mesh.landmarks.shape[1:]) != (points.NUM_LANDMARKS, 3):
            raise ValueError(f"{name} landmarks must be [N,{points.NUM_LANDMARKS},3], not {list(mesh.landmarks.shape)}")
    if len(source) != 1:
        raise ValueError(f"the source mesh must be of one frame, not {len(source)}")
    if tuple(encoded.background.shape) != (config.size, config.size, 3):
        raise ValueError(f"the source was encoded at {encoded.background.shape[0]} pixels, not {config.size}")
    return _animate(config, encoded, jnp.asarray(source.positions[0], jnp.float32), driving)


@partial(jax.jit, static_argnums=0)
def _animate(
    config: LandmarkWarpConfig, encoded: EncodedSource, source: Float[Array, "478 2"], driving: FaceMesh
) -> Float[Array, "n h w 3"]:
    displacement = _displacement(config, encoded.layered, source, driving)
    return _compose_frames(config, encoded, displacement, source, driving.positions)[..., :3]


def _compose_frames(
    config: LandmarkWarpConfig,
    encoded: EncodedSource,
    displacement: Float[Array, "n h w 2"],
    source: Float[Array, "478 2"],
    driving: Float[Array, "n 478 2"],
) -> Float[Array, "n h w 4"]:
    """The person's layer moved, its openings painted, laid over the background; the person's opacity comes fourth."""
    moved = _sample(encoded.layer, displacement) * _known(displacement, encoded.layered)[..., None]
    if config.paint:
        # Without the barrier XLA fuses the gathers into every later use and repeats them.
        moved = paint_apertures(jax.lax.optimization_barrier(moved), encoded.palette, source, driving)
    opacity = moved[..., 3:]
    frames = moved[..., :3] + (1 - opacity) * encoded.background
    return jnp.clip(jnp.concatenate([frames, opacity], -1), 0, 1)


def displacement(
    config: LandmarkWarpConfig, source: Float[Array, "478 2"], driving: FaceMesh
) -> Float[Array, "n size size 2"]:
    """The smooth warp alone, for networks that take it as one candidate motion.

    Args:
      config: `size` is the side of the result.
      source: the source's landmarks (x, y) in [-1, 1].
      driving: meshes of N frames.

    Returns:
      From each position of the new frame to that in the source, in half frames. The frame's border moves with
      the person.
    """
    return _displacement(config, jnp.ones((), jnp.float32), source, driving) * (2 / config.size)


def render(
    config: LandmarkWarpConfig, encoded: EncodedSource, source: Float[Array, "478 2"], driving: FaceMesh
) -> Float[Array, "n h w 4"]:
    """`animate` without its checks, for traced arrays, with the person's opacity as a fourth channel; a frame without a
    face (NaN) shows the source as it is.

    Args:
      config: the one of `encoded`.
      encoded: from `encode_traced`.
      source: the source's landmarks (x, y) in [-1, 1].
      driving: meshes of N frames.
    """
    known = jnp.isfinite(driving.positions).all((1, 2)) & jnp.isfinite(source).all()
    still = jnp.where(jnp.isfinite(source), source, 0.0)
    flat = jnp.pad(still, ((0, 0), (0, 1)))
    landmarks = jnp.where(known[:, None, None], driving.landmarks, flat)
    face = FaceMesh(landmarks, _finite(driving.rotation), _finite(driving.translation), _finite(driving.shape))
    flow = jnp.where(known[:, None, None, None], _displacement(config, encoded.layered, still, face), 0.0)
    return _compose_frames(config, encoded, flow, still, face.positions)


def _finite(x: Array) -> Array:
    return jnp.where(jnp.isfinite(x), x, 0.0)


def encode_traced(config: LandmarkWarpConfig, source: Array, landmarks: Array, mask: Array) -> EncodedSource:
    """`encode` without its checks, for traced arrays; without a face (NaN) the picture stays whole."""
    known = jnp.isfinite(landmarks).all()
    return _encode(config, source, _finite(landmarks), jnp.where(known, mask, 1.0))


def _affine(a: Float[Array, "k 2"], b: Float[Array, "n k 2"]) -> Float[Array, "n 3 2"]:
    """Least-squares affine maps from `a` to each `b`: [1, x, y] @ map."""
    rows = jnp.concatenate([jnp.ones_like(a[:, :1]), a], -1)
    gram = rows.T @ rows
    return jnp.linalg.solve(gram, jnp.einsum("ki,nkj->nij", rows, b))


def _anchors(
    config: LandmarkWarpConfig, layered: Array, source: Float[Array, "478 2"], driving: Float[Array, "n 478 2"]
) -> tuple[Float[Array, "k 2"], Float[Array, "n k 2"], Float[Array, " k"]]:
    """Control points in the source and in the driving frames, and how loosely each holds (unit of `smoothing`)."""
    n = len(driving)
    oval = source[np.array(points.FACE_OVAL)]
    centre = oval.mean(0)
    width = oval[:, 0].max() - oval[:, 0].min()
    height = oval[:, 1].max() - oval[:, 1].min()
    # Hair and ears lie about in the plane of the face's outline: where that plane goes, they go. The jaw has a life of
    # its own and is left out.
    skull = source[np.array(points.OVAL_UPPER)]
    plane = _affine(skull, driving[:, np.array(points.OVAL_UPPER)])
    jaw = source[np.array(points.OVAL_JAW)]
    hair, neck = centre + config.hair * (skull - centre), centre + 1.25 * (jaw - centre)
    ring = jnp.concatenate([hair, neck])
    ring_moved = plane[:, None, 0] + jnp.einsum("ki,nij->nkj", ring, plane[:, 1:])
    move = _shrink(ring_moved - ring, config.pose_dead_zone_px / 128)
    # The neck does not follow the jaw, except where the jaw would come to lie over it.
    dragged = driving[:, np.array(points.OVAL_JAW)] - jaw
    free = dragged - config.neck * move[:, len(hair) :]
    length = jnp.maximum(jnp.linalg.norm(free, axis=-1, keepdims=True), 1e-6)
    dragged = dragged - free * jnp.minimum(1, 0.05 * height / length)
    ring_moved = ring + jnp.concatenate([move[:, : len(hair)], dragged], 1)
    # Shoulders.
    across = centre[0] + width * jnp.array([-1.6, -1.0, -0.5, 0.0, 0.5, 1.0, 1.6], jnp.float32)
    torso = jnp.concatenate(
        [jnp.stack([across, jnp.full(7, oval[:, 1].max()) + height * down], -1) for down in (0.45, 1.0)]
    )
    edge = np.linspace(-1, 1, 9, dtype=np.float32)
    frame = jnp.asarray([(x, y) for x in edge for y in edge if abs(x) == 1 or (y == -1)], jnp.float32)
    a = jnp.concatenate([source[np.array(points.CONTROL)], ring, torso, frame])
    still = jnp.concatenate([torso, frame])
    b = jnp.concatenate(
        [driving[:, np.array(points.CONTROL)], ring_moved, jnp.broadcast_to(still, (n, *still.shape))], 1
    )
    # The frame's border moves with the person, or holds still.
    loose = jnp.where(layered > 0, np.float32(1e6), np.float32(config.smoothing))
    smoothing = jnp.concatenate(
        [
            jnp.full(len(points.CONTROL), config.smoothing, jnp.float32),
            jnp.full(len(ring), config.hair_smoothing_px, jnp.float32),
            jnp.full(len(torso), config.smoothing, jnp.float32),
            jnp.full(len(frame), loose),
        ]
    )
    return a, b, smoothing


def _hidden(driving: FaceMesh) -> Float[Array, "n k"]:
    """1 for control points on the side of the head that is turned away, 0 for those in view.

    Hidden points pile up behind the face's edge, where no unfolded map can follow them.
    """
    normal = skull_normals(driving.shape[:, np.array(points.CONTROL)])
    towards_camera = -jnp.einsum("nj,nkj->nk", driving.rotation[:, 2], normal)
    return 1 - jnp.clip(towards_camera / 0.2, 0, 1)


def _part(driving: Float[Array, "n 478 2"], gap: float) -> Float[Array, "n 478 2"]:
    """Keep lids and lips that meet at least `gap` apart and in order: where they cross, the map would fold."""
    for upper, lower in points.APERTURES:
        up, low = driving[:, np.array(upper[1:-1])], driving[:, np.array(lower[1:-1])]
        across = driving[:, upper[-1]] - driving[:, upper[0]]
        across /= jnp.maximum(jnp.linalg.norm(across, axis=-1, keepdims=True), 1e-6)
        down = jnp.stack([-across[:, 1], across[:, 0]], -1)[:, None]
        push = 0.5 * jnp.maximum(gap - ((low - up) * down).sum(-1, keepdims=True), 0) * down
        driving = driving.at[:, np.array(upper[1:-1])].add(-push).at[:, np.array(lower[1:-1])].add(push)
    return driving


def _displacement(
    config: LandmarkWarpConfig, layered: Array, source: Float[Array, "478 2"], driving: FaceMesh
) -> Float[Array, "n h w 2"]:
    """Pixels to go from a pixel of the new frame to where it lies in the source."""
    gap = config.least_gap_px / 128
    a, b, smoothing = _anchors(config, layered, _part(source[None], gap)[0], _part(driving.positions, gap))
    unit = 1 / 128 if config.kernel == "linear" else 1 / 128**2
    smoothing = jnp.broadcast_to(smoothing, b.shape[:2])
    smoothing = smoothing.at[:, : len(points.CONTROL)].add(1e3 * _hidden(driving))
    spline = tps.fit(b, a - b, smoothing * unit, kernel=config.kernel)
    g = config.flow_size
    n = len(driving)
    grid = jnp.broadcast_to(pixel_grid(g, g).reshape(1, -1, 2), (n, g * g, 2))
    flow = tps.evaluate(spline, grid).reshape(n, g, g, 2) * (config.size / 2)
    enlarge = jnp.asarray(_enlarging_matrix(g, config.size))
    flow = jnp.einsum("yi,nijc->nyjc", enlarge, flow)
    flow = jnp.einsum("xj,nyjc->nyxc", enlarge, flow)
    flow = jnp.where(jnp.isfinite(flow), flow, 0.0)  # a face shrunk to a point moves nothing
    return _shrink(flow, config.dead_zone_px * config.size / 256)


def _shrink(vectors: Array, length: float) -> Array:
    """Vectors [..., 2] up to `length` to zero, far longer ones hardly changed (the non-negative garrote)."""
    square = (vectors * vectors).sum(-1, keepdims=True)
    return vectors * jnp.maximum(1 - length**2 / jnp.maximum(square, 1e-12), 0)


def _enlarging_matrix(small: int, large: int) -> Float[np.ndarray, "large small"]:
    """Catmull-Rom interpolation from `small` to `large` samples of the same span, edges repeated."""
    where = (np.arange(large) + 0.5) * small / large - 0.5
    base = np.floor(where).astype(int)
    matrix = np.zeros((large, small), np.float32)
    for tap in range(-1, 3):
        t = np.abs(where - (base + tap))
        weight = np.where(t < 1, 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2)
        np.add.at(matrix, (np.arange(large), np.clip(base + tap, 0, small - 1)), weight)
    return matrix


def _known(displacement: Float[Array, "n h w 2"], layered: Array) -> Float[Array, "n h w"]:
    """1 inside of the source, falling to 0 above and beside it: a head that the source's frame
    cuts off ends softly, not in streaks. Shoulders do go on below the frame."""
    _, h, w, _ = displacement.shape
    x = jnp.arange(w) + displacement[..., 0]
    y = jnp.arange(h)[:, None] + displacement[..., 1]
    beyond = jnp.maximum(jnp.maximum(-x, x - (w - 1)), -y) * (256 / h)
    return 1 - layered * jnp.clip(beyond / 12, 0, 1)


def _sample(layer: Float[Array, "hh ww c"], displacement: Float[Array, "n h w 2"]) -> Float[Array, "n h w c"]:
    """Bilinear samples of the twice enlarged layer: at half the pitch linear interpolation hardly blurs."""
    _, h, w, _ = displacement.shape
    x = jnp.clip(2 * (jnp.arange(w, dtype=jnp.float32) + displacement[..., 0]), 0, 2 * w - 2)
    y = jnp.clip(2 * (jnp.arange(h, dtype=jnp.float32)[:, None] + displacement[..., 1]), 0, 2 * h - 2)
    x0, y0 = jnp.floor(x), jnp.floor(y)
    fx, fy = (x - x0)[..., None], (y - y0)[..., None]
    rows = layer.reshape(-1, layer.shape[-1])
    corner = y0.astype(jnp.int32) * (2 * w) + x0.astype(jnp.int32)

    def tap(step: int) -> Array:
        return jnp.take(rows, corner + step, axis=0, mode="clip")

    top = tap(0) * (1 - fx) + tap(1) * fx
    bottom = tap(2 * w) * (1 - fx) + tap(2 * w + 1) * fx
    return top * (1 - fy) + bottom * fy
