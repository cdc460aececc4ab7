"""`landmark-warp`: a face moved by its landmarks, with no learned weights.

The baseline that every learned model has to beat. A thin-plate spline through some 150 points of the face mesh says
where each pixel of the new frame lies in the source picture. Around that:

* hair and ears follow the head's own plane, the torso stays, the neck between them bends;
* the person is a layer over a background that is filled in behind it once and never moves;
* a mouth or an eye that opens although the source's is shut shows an inside made from the source's colours;
* displacements well below a pixel, which are the face tracker's noise, are drawn towards zero.

Source of the spline: Bookstein, "Principal Warps", PAMI 1989. The rest is this package's own.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.models import _face_points as points
from avfr_jax.models._apertures import Palette, measure_palette, paint_apertures
from avfr_jax.ops import tps
from avfr_jax.ops.grids import pixel_grid
from avfr_jax.ops.keypoints import Keypoints
from avfr_jax.typing import Array, Float

LANDMARKS = 478


@dataclasses.dataclass(frozen=True)
class LandmarkWarpConfig:
    """Settings. Lengths named `_px` are in pixels of a 256 x 256 frame and scale with the frame.

    Attributes:
      size: height and width of the frames.
      flow_size: side of the grid on which the spline is evaluated.
      kernel: see `avfr_jax.ops.tps.fit`.
      smoothing: of the spline, pixels² (thin_plate) or pixels (linear) of a 256 x 256 frame.
      dead_zone_px: displacements about this long or shorter are tracker noise.
      pose_dead_zone_px: the same for what hair and neck do with the head, which is fitted to fewer points.
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
    """What `animate` needs of the source picture; shapes are those of one.

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


# ---------------------------------------------------------------------------------------------- keypoints


def keypoints_from_landmarks(landmarks: Float[np.ndarray | Array, "n 478 3"]) -> Keypoints:
    """Split face meshes into head pose and face shape.

    A weak-perspective camera: x = s R d + t for every point, with R and s from the least-squares fit (Umeyama, PAMI
    1991) of an average head's rigid points to the mesh's.

    Args:
      landmarks: (x, y, z), x and y in [-1,1], z in the unit of x, growing away from the camera.

    Returns:
      Keypoints with `value` [N,478,2] (x, y as given); `rotation` [N,3,3] R; `translation` [N,3] (t_x, t_y, log s);
      `deformation` [N,478,3] d, the face in its own head's frame, where an average head measures 1.

    Raises:
      ValueError: wrong shape.
    """
    if landmarks.ndim != 3 or landmarks.shape[1:] != (LANDMARKS, 3):
        raise ValueError(f"landmarks must be [N,{LANDMARKS},3], not {list(landmarks.shape)}")
    return decompose(jnp.asarray(landmarks, jnp.float32))


@jax.jit
def decompose(landmarks: Float[Array, "n 478 3"]) -> Keypoints:
    """`keypoints_from_landmarks` for traced arrays; a frame without a face (NaN) gives NaN."""
    shape = jnp.asarray(points.RIGID_SHAPE)
    centre_shape = shape.mean(0)
    rigid = landmarks[:, np.array(points.RIGID)]
    centre = rigid.mean(1)
    covariance = jnp.einsum("nki,kj->nij", rigid - centre[:, None], shape - centre_shape)
    u, singular, vt = jnp.linalg.svd(covariance)
    sign = jnp.stack([*[jnp.ones(len(landmarks))] * 2, jnp.linalg.det(u) * jnp.linalg.det(vt)], -1)
    rotation = jnp.einsum("nij,nj,njk->nik", u, sign, vt)
    scale = (singular * sign).sum(-1) / ((shape - centre_shape) ** 2).sum()
    origin = centre - scale[:, None] * jnp.einsum("nij,j->ni", rotation, centre_shape)
    deformation = jnp.einsum("nij,nki->nkj", rotation, landmarks - origin[:, None]) / scale[:, None, None]
    translation = jnp.concatenate([origin[:, :2], jnp.log(scale)[:, None]], -1)
    return Keypoints(landmarks[..., :2], None, rotation, translation, deformation)


def _compose(rotation: Array, translation: Array, deformation: Array) -> Keypoints:
    scale = jnp.exp(translation[:, 2])[:, None, None]
    value = scale * jnp.einsum("nij,nkj->nki", rotation, deformation)[..., :2] + translation[:, None, :2]
    return Keypoints(value, None, rotation, translation, deformation)


def retarget(
    source: Keypoints,
    driving: Keypoints,
    initial: Keypoints,
    *,
    mode: str = "absolute",
    adapt_scale: bool = True,
) -> Keypoints:
    """Give the driving face's motion to the source's face.

    Args:
      source: keypoints of the source picture, one frame.
      driving: N frames.
      initial: one driving frame, the one that corresponds to the source picture (usually the first).
      mode: `absolute`: the driving head's pose and place in the frame; `relative`: the source's, changed as the
        driving head's has changed since `initial`.
      adapt_scale: absolute: keep the source's facial proportions and add only the driving expression's change since
        `initial`; without it the driving landmarks are taken as they are, proportions included. Relative: measure
        the head's translation in head sizes, so that a small driving head moves a large one further.

    Returns:
      Keypoints of N frames. With `relative` and driving == initial they are the source's, up to rounding.

    Raises:
      ValueError: unknown mode, or keypoints without pose and shape.
    """
    if mode not in ("absolute", "relative"):
        raise ValueError(f"mode must be absolute or relative, not {mode!r}")
    for name, keypoints in (("source", source), ("driving", driving), ("initial", initial)):
        if keypoints.rotation is None or keypoints.translation is None or keypoints.deformation is None:
            raise ValueError(f"the {name} keypoints lack pose or shape: make them with keypoints_from_landmarks")
    if mode == "absolute" and not adapt_scale:
        return driving
    return _retarget(source, driving, initial, mode == "relative", adapt_scale)


@partial(jax.jit, static_argnums=(3, 4))
def _retarget(source: Keypoints, driving: Keypoints, initial: Keypoints, relative: bool, adapt: bool) -> Keypoints:
    shape = source.deformation + (driving.deformation - initial.deformation)
    if not relative:
        return _compose(driving.rotation, driving.translation, shape)
    turn = jnp.einsum("nij,mkj->nik", driving.rotation, initial.rotation)
    rotation = jnp.einsum("nij,mjk->nik", turn, source.rotation)
    change = driving.translation - initial.translation
    if adapt:
        ratio = jnp.exp(source.translation[:, 2:] - initial.translation[:, 2:])
        change = jnp.concatenate([change[:, :2] * ratio, change[:, 2:]], -1)
    return _compose(rotation, source.translation + change, shape)


# ------------------------------------------------------------------------------------------------- encode


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
      landmarks: (x, y, z) as for `keypoints_from_landmarks`.
      person_mask: 1 on the person, 0 beside. A mask that is nearly constant or misses the face is set aside; the
        picture is then warped whole.

    Raises:
      ValueError: wrong shapes.
    """
    size = config.size
    if tuple(source.shape) != (size, size, 3):
        raise ValueError(f"source must be [{size},{size},3], not {list(source.shape)}")
    if tuple(landmarks.shape) != (LANDMARKS, 3):
        raise ValueError(f"landmarks must be [{LANDMARKS},3], not {list(landmarks.shape)}")
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
    # What the mask leaves over at its edge (loose hair) must not colour the background.
    reach = max(1, config.size // 32)
    grown = jax.lax.reduce_window(opacity, 0.0, jax.lax.max, (2 * reach + 1,) * 2, (1, 1), "SAME")
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


# ------------------------------------------------------------------------------------------------ animate


def animate(
    config: LandmarkWarpConfig, encoded: EncodedSource, source: Keypoints, driving: Keypoints
) -> Float[Array, "n h w 3"]:
    """The source picture with its face moved from `source` to `driving`.

    Args:
      config: the one given to `encode`.
      encoded: from `encode`.
      source: keypoints of the source picture, one frame.
      driving: N frames.

    Returns:
      N frames, RGB in [0,1]. Equal keypoints give the source picture back, up to rounding.

    Raises:
      ValueError: wrong shapes.
    """
    for name, value in (("source", source.value), ("driving", driving.value)):
        if value.ndim != 3 or tuple(value.shape[1:]) != (LANDMARKS, 2):
            raise ValueError(f"{name} keypoints must be [N,{LANDMARKS},2], not {list(value.shape)}")
    if source.value.shape[0] != 1:
        raise ValueError(f"source keypoints must be of one frame, not {source.value.shape[0]}")
    if tuple(encoded.background.shape) != (config.size, config.size, 3):
        raise ValueError(f"the source was encoded at {encoded.background.shape[0]} pixels, not {config.size}")
    if driving.rotation is None or driving.deformation is None:
        raise ValueError("the driving keypoints lack pose or shape: make them with keypoints_from_landmarks")
    return _animate(config, encoded, jnp.asarray(source.value[0]), driving)


@partial(jax.jit, static_argnums=0)
def _animate(
    config: LandmarkWarpConfig, encoded: EncodedSource, source: Float[Array, "478 2"], driving: Keypoints
) -> Float[Array, "n h w 3"]:
    displacement = _displacement(config, encoded.layered, source, driving)
    return _compose_frames(config, encoded, displacement, source, driving.value)[..., :3]


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


def mesh_of(keypoints: Keypoints) -> Float[Array, "n 478 3"]:
    """The mesh of keypoints with pose and shape: the inverse of `keypoints_from_landmarks`, z up to a shift."""
    scale = jnp.exp(keypoints.translation[:, 2])[:, None, None]
    turned = scale * jnp.einsum("nij,nkj->nki", keypoints.rotation, keypoints.deformation)
    return turned + keypoints.translation.at[:, 2].set(0.0)[:, None]


def displacement(
    config: LandmarkWarpConfig, source: Float[Array, "478 2"], driving: Keypoints
) -> Float[Array, "n size size 2"]:
    """The smooth warp alone, for networks that take it as one candidate motion.

    Args:
      config: `size` is the side of the result.
      source: the source's landmarks (x, y) in [-1, 1].
      driving: keypoints of N frames with pose and shape.

    Returns:
      How far from each place of the new frame, in half frames, to look in the source. The frame's border moves with
      the person.
    """
    mesh = Keypoints(mesh_of(driving)[..., :2], None, driving.rotation, driving.translation, driving.deformation)
    return _displacement(config, jnp.ones(()), source, mesh) * (2 / config.size)


def render(
    config: LandmarkWarpConfig, encoded: EncodedSource, source: Float[Array, "478 2"], driving: Keypoints
) -> Float[Array, "n h w 4"]:
    """`animate` without its checks, for traced arrays, with the person's opacity as a fourth channel; a frame without a
    face (NaN) shows the source as it is.

    Args:
      config: the one of `encoded`.
      encoded: from `encode_traced`.
      source: the source's landmarks (x, y) in [-1, 1].
      driving: keypoints of N frames with pose and shape.
    """
    known = jnp.isfinite(driving.value).all((1, 2)) & jnp.isfinite(source).all()
    still = jnp.where(jnp.isfinite(source), source, 0.0)
    value = jnp.where(known[:, None, None], driving.value, still)
    face = Keypoints(value, None, _finite(driving.rotation), None, _finite(driving.deformation))
    flow = jnp.where(known[:, None, None, None], _displacement(config, encoded.layered, still, face), 0.0)
    return _compose_frames(config, encoded, flow, still, value)


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
    oval = source[np.array(points.OVAL)]
    centre = oval.mean(0)
    width = oval[:, 0].max() - oval[:, 0].min()
    height = oval[:, 1].max() - oval[:, 1].min()
    # Hair and ears lie about in the plane of the face's outline: where that plane goes, they go. The jaw has a life of
    # its own and is left out.
    skull = source[np.array(points.SKULL)]
    plane = _affine(skull, driving[:, np.array(points.SKULL)])
    jaw = source[np.array(points.JAW)]
    hair, neck = centre + config.hair * (skull - centre), centre + 1.25 * (jaw - centre)
    ring = jnp.concatenate([hair, neck])
    ring_moved = plane[:, None, 0] + jnp.einsum("ki,nij->nkj", ring, plane[:, 1:])
    move = _shrink(ring_moved - ring, config.pose_dead_zone_px / 128)
    # The neck keeps out of what the jaw does, as far as it can without coming to lie over it.
    dragged = driving[:, np.array(points.JAW)] - jaw
    free = dragged - config.neck * move[:, len(hair) :]
    length = jnp.maximum(jnp.linalg.norm(free, axis=-1, keepdims=True), 1e-6)
    dragged = dragged - free * jnp.minimum(1, 0.05 * height / length)
    ring_moved = ring + jnp.concatenate([move[:, : len(hair)], dragged], 1)
    # Shoulders.
    across = centre[0] + width * jnp.array([-1.6, -1.0, -0.5, 0.0, 0.5, 1.0, 1.6])
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
    loose = jnp.where(layered > 0, 1e6, config.smoothing)  # the frame's border moves with the person, or holds still
    smoothing = jnp.concatenate(
        [
            jnp.full(len(points.CONTROL), config.smoothing),
            jnp.full(len(ring), config.hair_smoothing_px),
            jnp.full(len(torso), config.smoothing),
            jnp.full(len(frame), loose),
        ]
    )
    return a, b, smoothing


def _hidden(driving: Keypoints) -> Float[Array, "n k"]:
    """1 for control points on the side of the head that is turned away, 0 for those in view.

    Hidden points pile up behind the face's edge, where no unfolded map can follow them. The skull is taken for an
    ellipsoid.
    """
    shape = driving.deformation[:, np.array(points.CONTROL)]
    normal = (shape - jnp.array([0.0, 0.2, 1.1])) / jnp.array([1.35, 1.75, 1.5]) ** 2
    normal /= jnp.linalg.norm(normal, axis=-1, keepdims=True)
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
    config: LandmarkWarpConfig, layered: Array, source: Float[Array, "478 2"], driving: Keypoints
) -> Float[Array, "n h w 2"]:
    """Pixels to go from a pixel of the new frame to where it lies in the source."""
    gap = config.least_gap_px / 128
    a, b, smoothing = _anchors(config, layered, _part(source[None], gap)[0], _part(driving.value, gap))
    unit = 1 / 128 if config.kernel == "linear" else 1 / 128**2
    smoothing = jnp.broadcast_to(smoothing, b.shape[:2])
    smoothing = smoothing.at[:, : len(points.CONTROL)].add(1e3 * _hidden(driving))
    spline = tps.fit(b, a - b, smoothing * unit, kernel=config.kernel)
    g = config.flow_size
    driving = driving.value
    grid = jnp.broadcast_to(pixel_grid(g, g).reshape(1, -1, 2), (len(driving), g * g, 2))
    flow = tps.evaluate(spline, grid).reshape(len(driving), g, g, 2) * (config.size / 2)
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
    """1 where the source shows what is asked of it, falling to 0 above and beside it: a head that the source's frame
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
