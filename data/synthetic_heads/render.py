"""Talking-head clips with exact ground truth: `render_clip`, `iter_clip`, `SyntheticClip`."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from avfr_jax.typing import Bool, Float, UInt8
from data.synthetic_heads import raster
from data.synthetic_heads.background import render_background
from data.synthetic_heads.geometry import Rig, build_rig
from data.synthetic_heads.identity import IdentityParams, Real, Scene, sample_identity, sample_scene
from data.synthetic_heads.motion import MotionTrack, sample_motion
from data.synthetic_heads.texture import build_atlas, material_table
from data.synthetic_heads.voice import synthesise

SAMPLES = 2  # samples a pixel along each axis
SHADOW_SIZE = 256
SHADOW_REACH = 25.0  # cm around the head that the shadow map covers
FPS = 25.0


@dataclasses.dataclass(frozen=True)
class SyntheticFrame:
    """One frame: image, soft person mask in [0,1], 478 landmarks in pixels (FaceMesh's order; pixel centres at
    whole numbers) and the mesh's vertices in the world (cm)."""

    image: UInt8[np.ndarray, "h w 3"]
    person_mask: Float[np.ndarray, "h w"]
    landmarks: Float[np.ndarray, "478 2"]
    vertices: Float[np.ndarray, "v 3"]


class Renderer:
    """Render one person in one scene, frame by frame."""

    def __init__(self, identity: IdentityParams, scene: Scene, size: int = 256) -> None:
        if size < 32:
            raise ValueError(f"size must be at least 32 pixels, got {size}")
        self.identity, self.scene, self.size = identity, scene, size
        self.rig: Rig = build_rig(identity)
        self._rgb, self._alpha = build_atlas(identity)
        self._materials = material_table(identity)
        self._background = render_background(scene, size)
        self._eye = np.array([0.0, 0.0, scene.distance], np.float32)
        self._lights, self._ambient = _lights(scene)
        self._shadow_matrix = _shadow_matrix(self._lights[0, :3])

    def project(self, points: Float[np.ndarray, "k 3"], size: int | None = None) -> Float[np.ndarray, "k 3"]:
        """World to image: pixel x, pixel y (centres at whole numbers) and 1/depth (1/cm)."""
        side = self.size if size is None else size
        key = 1.0 / (self.scene.distance - points[:, 2].astype(np.float64))
        focal = side * self.scene.distance / self.scene.span
        x = side / 2 - 0.5 + focal * points[:, 0] * key
        y = side / 2 - 0.5 - focal * points[:, 1] * key
        return np.stack([x, y, key], -1).astype(np.float32)

    def _rasterise(self, projected: np.ndarray, side: int, perspective: bool, floor: float = 0.0):
        index = np.full((side, side), -1, np.int32)
        depth = np.full((side, side), floor, np.float32)
        bary = np.zeros((side, side, 2), np.float32)
        rig = self.rig
        raster.rasterise(projected, rig.triangles, rig.uv, rig.threshold, self._alpha, perspective, depth, index, bary)
        return index, bary, depth

    def surface(self, vertices: Float[np.ndarray, "v 3"]):
        """Visible surface at pixel centres: triangle [h,w] (-1: background), weights of its first two corners [h,w,2],
        1/depth [h,w]."""
        return self._rasterise(self.project(vertices), self.size, True)

    def frame(self, motion: MotionTrack, i: int) -> SyntheticFrame:
        """Render frame `i` of the track."""
        import cv2

        vertices = self.rig.pose(motion, i)
        normals = np.zeros_like(vertices)
        raster.vertex_normals(vertices, self.rig.triangles, normals)
        index, bary, _ = self._rasterise(self.project(vertices, self.size * SAMPLES), self.size * SAMPLES, True)
        m = self._shadow_matrix
        _, _, shadow = self._rasterise((vertices @ m[:, :3].T + m[:, 3]).astype(np.float32), SHADOW_SIZE, False, -1e6)
        linear = np.empty((self.size, self.size, 3), np.float32)
        mask = np.empty((self.size, self.size), np.float32)
        rig = self.rig
        raster.shade(
            index, bary, rig.triangles, vertices, normals, rig.uv, rig.frame_tint(motion, i), rig.material,
            self._materials, self._rgb, self._eye, self._lights, self._ambient, shadow, m, np.float32(0.45),
            self._background, linear, mask,
        )  # fmt: skip
        if self.scene.blur > 0:
            cv2.GaussianBlur(linear, (0, 0), max(0.05, self.scene.blur * self.size / 256), dst=linear)
        rng = np.random.default_rng([self.scene.seed, 5, i])
        grain = rng.standard_normal(linear.shape, dtype=np.float32) * np.float32(self.scene.noise * 255)
        image = _tone(np.asarray(linear)) + grain
        landmarks = self.project(self.rig.landmarks(vertices))[:, :2]
        return SyntheticFrame(np.clip(image + 0.5, 0, 255).astype(np.uint8), mask, landmarks, vertices)


def _tone(linear: np.ndarray) -> np.ndarray:
    """Linear light to sRGB-like [0,255] with a soft shoulder above 0.7."""
    over = np.maximum(linear - 0.7, 0.0)
    soft = np.minimum(linear, 0.7) + 0.3 * (1.0 - np.exp(-over / 0.3))
    return np.power(np.maximum(soft, 0.0), np.float32(1 / 2.2)) * 255.0


def _lights(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    def direction(azimuth: Real, elevation: Real) -> np.ndarray:
        a, e = np.deg2rad([azimuth, elevation])
        return np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])

    warm = np.array([1 + 0.10 * scene.warmth, 1.0, 1 - 0.13 * scene.warmth])
    rows = [
        (direction(scene.light_azimuth, scene.light_elevation), scene.key * warm),
        (direction(-1.2 * scene.light_azimuth, 8.0), scene.fill * (2.0 - warm)),
        (direction(180.0 - 0.9 * scene.light_azimuth, 30.0), scene.rim * np.ones(3)),
    ]
    lights = np.array([np.concatenate(row) for row in rows], np.float32)
    tint = 0.85 + 0.3 * np.array(scene.background_colour) / max(0.05, float(np.mean(scene.background_colour))) * 0.5
    ambient = np.stack([scene.ambient * tint, scene.ambient * 0.55 * np.array([1.05, 1.0, 0.92])])
    return lights, ambient.astype(np.float32)


def _shadow_matrix(light: np.ndarray) -> Float[np.ndarray, "3 4"]:
    """World to shadow-map pixel and distance towards the light."""
    right = np.cross([0.0, 1.0, 0.0], light)
    right /= np.linalg.norm(right)
    up = np.cross(light, right)
    scale = SHADOW_SIZE / (2 * SHADOW_REACH)
    centre = np.array([0.0, -3.0, -5.0])
    rows = np.stack([right * scale, -up * scale, light])
    shift = np.array([SHADOW_SIZE / 2, SHADOW_SIZE / 2, 0.0]) - rows @ centre
    return np.concatenate([rows, shift[:, None]], 1).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class SyntheticClip:
    """A rendered clip with its ground truth: n frames of h x w pixels, 25 per second.

    audio: 16 kHz mono in [-1,1], exactly n/25 seconds. pose: yaw, pitch, roll in degrees (see `MotionTrack`).
    mouth_opening: distance of the inner lips in pixels of a frame 256 wide; mouth_ratio: the same over the
    mouth's width. blink: closure in [0,1], the eye on the image's left first. landmarks: FaceMesh's 478 points
    in pixels (centres at whole numbers). person_mask: in [0,1].
    """

    frames: UInt8[np.ndarray, "n h w 3"]
    audio: Float[np.ndarray, " t"]
    pose: Float[np.ndarray, "n 3"]
    mouth_opening: Float[np.ndarray, " n"]
    mouth_ratio: Float[np.ndarray, " n"]
    blink: Float[np.ndarray, "n 2"]
    landmarks: Float[np.ndarray, "n 478 2"]
    person_mask: Float[np.ndarray, "n h w"]
    vertices: Float[np.ndarray, "n v 3"]
    motion: MotionTrack
    renderer: Renderer

    @property
    def identity(self) -> IdentityParams:
        return self.renderer.identity

    @property
    def scene(self) -> Scene:
        return self.renderer.scene

    def flow(self, i: int, j: int) -> tuple[Float[np.ndarray, "h w 2"], Bool[np.ndarray, "h w"]]:
        """Exact optical flow: the surface at pixel p of frame `i` lies at p + flow[p] in frame `j`.

        Returns (flow in pixels (x, y), visibility of that surface point in frame j). Sampling frame j at p + flow[p]
        gives frame i, up to light and noise.
        """
        renderer = self.renderer
        index, bary, _ = renderer.surface(self.vertices[i])
        seen_index, _, seen_key = renderer.surface(self.vertices[j])
        height, width = index.shape
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        flow = np.zeros((height, width, 2), np.float32)
        person = index >= 0
        corners = renderer.rig.triangles[index[person]]
        w = np.concatenate([bary[person], 1.0 - bary[person].sum(-1, keepdims=True)], -1)
        target = renderer.project((self.vertices[j][corners] * w[..., None]).sum(1))
        flow[person] = target[:, :2] - np.stack([x[person], y[person]], -1)
        visible = ~person & (seen_index < 0)
        tx, ty = np.round(target[:, 0]).astype(int), np.round(target[:, 1]).astype(int)
        inside = (tx >= 0) & (tx < width) & (ty >= 0) & (ty < height)
        tx, ty = np.clip(tx, 0, width - 1), np.clip(ty, 0, height - 1)
        hidden = 1.0 / target[:, 2] - 1.0 / np.maximum(seen_key[ty, tx], 1e-6)  # cm behind the visible surface
        visible[person] = inside & (seen_index[ty, tx] >= 0) & (np.abs(hidden) < 0.5)
        return flow, visible


def _resolve(identity: IdentityParams | int, motion, scene, frames: int):
    seed = identity if isinstance(identity, int) else identity.seed
    person = sample_identity(identity) if isinstance(identity, int) else identity
    track = sample_motion(seed, frames, FPS) if motion is None else motion
    return person, track, sample_scene(seed) if scene is None else scene


def iter_clip(
    identity: IdentityParams | int,
    motion: MotionTrack | None = None,
    scene: Scene | None = None,
    frames: int = 100,
    size: int = 256,
) -> Iterator[SyntheticFrame]:
    """Render frames in constant memory. An int for `identity` is the seed of everything not given; `frames` applies
    without `motion` only."""
    person, track, place = _resolve(identity, motion, scene, frames)
    renderer = Renderer(person, place, size)
    for i in range(len(track)):
        yield renderer.frame(track, i)


def render_clip(
    identity: IdentityParams | int,
    motion: MotionTrack | None = None,
    scene: Scene | None = None,
    frames: int = 100,
    size: int = 256,
) -> SyntheticClip:
    """Render a clip with sound and ground truth, a pure function of its arguments (see `iter_clip`)."""
    person, track, place = _resolve(identity, motion, scene, frames)
    return render_track(Renderer(person, place, size), track)


def render_track(renderer: Renderer, track: MotionTrack) -> SyntheticClip:
    """Render a track, with its voice and ground truth."""
    rendered = [renderer.frame(track, i) for i in range(len(track))]
    landmarks = np.stack([f.landmarks for f in rendered])
    opening, ratio = mouth_measures(landmarks, renderer.size)
    return SyntheticClip(
        frames=np.stack([f.image for f in rendered]),
        audio=synthesise(renderer.identity, track, FPS),
        pose=np.stack([track.yaw, track.pitch, track.roll], -1),
        mouth_opening=opening,
        mouth_ratio=ratio,
        blink=track.blink,
        landmarks=landmarks,
        person_mask=np.stack([f.person_mask for f in rendered]),
        vertices=np.stack([f.vertices for f in rendered]),
        motion=track,
        renderer=renderer,
    )


def mouth_measures(
    landmarks: Float[np.ndarray, "n 478 2"], size: int
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """(opening between the inner lips in pixels of a 256-wide frame, opening over mouth width)."""
    gap = np.linalg.norm(landmarks[:, 13] - landmarks[:, 14], axis=-1)
    wide = np.linalg.norm(landmarks[:, 78] - landmarks[:, 308], axis=-1)
    return (gap * 256 / size).astype(np.float32), (gap / np.maximum(wide, 1e-6)).astype(np.float32)
