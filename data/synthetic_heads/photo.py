"""The portrait itself, animated in 3-D by its own face mesh: `PhotoRenderer`, `render_photo_clip`.

scikit-image's `astronaut()` (NASA, public domain) is texture and shape: FaceMesh's vertices carry the face, a grid
around them hair, head and neck, whose depth continues the face's to the silhouette. Brows, lids, lips and jaw move
as in `geometry`. A still track gives the photograph; all angles are relative to its pose, and the eyes keep their
gaze. Behind the head lies the photograph without it, filled smoothly from around.
"""

import dataclasses
import functools

import numpy as np

from avfr_jax.landmarks import NUM_VERTICES
from avfr_jax.typing import Bool, Float, Int, UInt8
from data.synthetic_heads import geometry as g
from data.synthetic_heads import measure, mesh, raster
from data.synthetic_heads.anatomy import eye_centres
from data.synthetic_heads.expression import close_lid, jaw_weight, move_brows, move_lips, smoothstep
from data.synthetic_heads.identity import Scene, astronaut_identity
from data.synthetic_heads.motion import MotionTrack, sample_motion
from data.synthetic_heads.render import FPS, SAMPLES, Renderer, SyntheticClip, SyntheticFrame, render_track
from data.synthetic_heads.template import FACE_WIDTH_CM, LOWER_LIDS, LOWER_LIP, OVAL, UPPER_LIDS, UPPER_LIP, template

CROP = (98, 0, 256)  # x, y, side of the part of the portrait that is shown; all pixels below are of this crop
AXIS_DEPTH = 45.0  # of the silhouette, on the landmarks' scale of depth
NECK = np.array([[86, 138], [88, 182], [82, 200], [82, 232], [162, 232], [163, 200], [157, 184], [162, 138]], np.int32)
NECK_BEHIND = 190  # below this row the same dark cloth lies behind the neck
NECK_FADE = (165.0, 228.0)  # rows over which the head's motion dies away
SPACING = 5  # of the grid around the face
STRIP = 16  # rows below the photograph that hold the mouth's inside
MAX_YAW, MAX_PITCH = 22.0, 13.0  # of sampled tracks; beyond, the one photograph shows too little of the head


@functools.cache
def _crop() -> UInt8[np.ndarray, "256 256 3"]:
    import skimage.data

    x, y, side = CROP
    return np.ascontiguousarray(skimage.data.astronaut()[y : y + side, x : x + side])


@functools.cache
def _landmarks() -> Float[np.ndarray, "478 3"]:
    with np.load(measure.PATH) as stored:
        return stored["landmarks"].astype(np.float64) - [CROP[0], CROP[1], 0.0]


def _cut(labels: np.ndarray) -> Bool[np.ndarray, "256 256"]:
    """GrabCut (Rother et al., SIGGRAPH 2004) from OpenCV's four labels, with a fixed seed."""
    import cv2

    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(_crop(), labels, (0, 0, 1, 1), models[0], models[1], 5, cv2.GC_INIT_WITH_MASK)
    return (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)


@functools.cache
def _regions() -> tuple[Bool[np.ndarray, "256 256"], Bool[np.ndarray, "256 256"], Bool[np.ndarray, "256 256"]]:
    """Head (hair and face), head with neck, and the whole person."""
    import cv2

    hull = cv2.convexHull(np.round(_landmarks()[:NUM_VERTICES, :2]).astype(np.int32))
    labels = np.full((256, 256), cv2.GC_BGD, np.uint8)
    for axes, centre, label in (((86, 80), 82, cv2.GC_PR_BGD), ((74, 66), 80, cv2.GC_PR_FGD), ((58, 48), 72, 1)):
        cv2.ellipse(labels, (129, centre), axes, 0, 0, 360, int(label), -1)
    labels[146:] = cv2.GC_BGD
    cv2.fillConvexPoly(labels, hull, cv2.GC_FGD)
    head = _cut(labels)
    neck = np.zeros((256, 256), np.uint8)
    cv2.fillPoly(neck, [NECK], 1)
    moving = head | (neck > 0)
    labels = np.full((256, 256), cv2.GC_BGD, np.uint8)
    cv2.ellipse(labels, (116, 216), (108, 76), 28, 0, 360, cv2.GC_PR_FGD, -1)
    cv2.ellipse(labels, (116, 216), (84, 50), 28, 0, 360, cv2.GC_FGD, -1)
    labels[moving] = cv2.GC_FGD
    labels[:140][~moving[:140]] = cv2.GC_BGD
    orange = (_crop()[..., 0].astype(int) - _crop()[..., 2] > 90) & (np.arange(256)[:, None] > 195)
    labels[orange] = cv2.GC_FGD
    return head, moving, _cut(labels)


def _fill(image: np.ndarray, known: np.ndarray) -> Float[np.ndarray, "h w 3"]:
    """Inpaint by normalised convolution with growing widths (Knutsson and Westin 1993)."""
    import cv2

    out, weight = np.where(known[..., None], image, 0.0).astype(np.float32), known.astype(np.float32)
    result, missing = out.copy(), ~known
    for sigma in (2.0, 4.0, 8.0, 16.0, 32.0, 64.0):
        share = np.asarray(cv2.GaussianBlur(weight, (0, 0), sigma))
        colour = np.asarray(cv2.GaussianBlur(out, (0, 0), sigma)) / np.maximum(share, 1e-6)[..., None]
        done = missing & (share > 0.08)
        result[done] = colour[done]
        missing &= ~done
    soft = np.asarray(cv2.GaussianBlur(result, (0, 0), 4.0))
    return np.where(known[..., None], result, soft)


def _outside() -> tuple[Float[np.ndarray, "k 3"], Int[np.ndarray, "t 3"]]:
    """Grid around the face: new vertices (crop pixels and depth) and triangles, with the oval as vertices 0..35."""
    import cv2
    from scipy.interpolate import RBFInterpolator
    from scipy.spatial import Delaunay

    head, moving, _ = _regions()
    points = _landmarks()[:NUM_VERTICES]
    oval = points[OVAL, :2]
    margin = np.asarray(cv2.dilate(moving.astype(np.uint8), np.ones((15, 15), np.uint8)))
    grid = np.stack(np.meshgrid(*[np.arange(0, 256, SPACING)] * 2), -1).reshape(-1, 2).astype(np.float64)
    gap = np.array([cv2.pointPolygonTest(oval.astype(np.float32), (float(x), float(y)), True) for x, y in grid])
    grid = grid[(margin[grid[:, 1].astype(int), grid[:, 0].astype(int)] > 0) & (gap < -3.5)]
    contours, _ = cv2.findContours(head.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    edge = max(contours, key=len)[::6, 0].astype(np.float64)
    edge = edge[edge[:, 1] < 135]
    sides = np.array([[x, y] for y in (190, 210, 230) for x in (80, 165)], np.float64)
    front = np.array([[123, y] for y in (192, 210, 230)], np.float64)
    known = np.concatenate([points[:, :2], edge, sides, front])
    depth = np.concatenate([points[:, 2], np.full(len(edge) + len(sides), AXIS_DEPTH), np.full(len(front), 20.0)])
    z = RBFInterpolator(known, depth, neighbors=40, smoothing=1.0)(grid)
    flat = np.concatenate([oval, grid])
    triangles = Delaunay(flat).simplices
    centres = flat[triangles].mean(1)
    keep = [
        cv2.pointPolygonTest(oval.astype(np.float32), (float(x), float(y)), False) < 0
        and margin[min(255, int(y)), min(255, int(x))] > 0
        for x, y in centres
    ]
    return np.concatenate([grid, np.clip(z, -15.0, AXIS_DEPTH + 5.0)[:, None]], 1), triangles[np.array(keep)]


@dataclasses.dataclass(frozen=True)
class PhotoRig(g.Rig):
    """`Rig` of the portrait in the world of its scene. `origin`: of the template's frame in the world."""

    origin: Float[np.ndarray, "3"]
    follow: Float[np.ndarray, "o 36"]  # weights of the outline's motion for the grid vertices

    def expression(self, track: MotionTrack, i: int) -> Float[np.ndarray, "v 3"]:
        """Vertices in the world with the expression of frame `i`, before the head's rotation."""
        p = self.points.astype(np.float64)
        rest = template().points.astype(np.float64)
        start = p[:NUM_VERTICES] - self.origin
        face = start.copy()
        move_brows(face, rest, float(track.brow[i]))
        move_lips(face, rest, float(track.lip_width[i]), float(track.smile[i]))
        jaw = g.rotation(0.0, -g.JAW_DEGREES * float(track.jaw[i]), 0.0)
        face += jaw_weight(rest)[:, None] * ((face - g.HINGE) @ jaw.T + g.HINGE - face)
        for side in range(2):
            if track.blink[i, side] > 0:
                close_lid(face, side, float(track.blink[i, side]), self.eye_centres[side])
        p[:NUM_VERTICES] = face + self.origin
        p[self.parts["outside"]] += self.follow @ (face - start)[OVAL]
        loop = np.concatenate([UPPER_LIP[3], LOWER_LIP[3]])
        p[self.parts["cavity"]] += (face - start)[loop]
        return p

    def pose(self, track: MotionTrack, i: int) -> Float[np.ndarray, "v 3"]:
        p = self.expression(track, i)
        pivot = g.PIVOT + self.origin
        turn = g.rotation(float(track.yaw[i]), float(track.pitch[i]), float(track.roll[i]))
        head = (p - pivot) @ turn.T + pivot + track.translation[i]
        return (p + self.weight[:, None] * (head - p)).astype(np.float32)

    def landmarks(self, vertices: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "478 3"]:
        return np.concatenate([vertices[self.parts["face"]], vertices[self.parts["iris"]]])


def _spread(row: np.ndarray, factor: float) -> np.ndarray:
    return row.mean(0) + (row - row.mean(0)) * factor


def build_photo_rig(lift, scale: float) -> PhotoRig:
    """The mesh. `lift` takes crop pixels and depth [k,3] to the world; texture coordinates are crop pixels * `scale`
    (centres at whole numbers)."""
    marks = _landmarks()
    grid, around = _outside()
    lip_loop = np.concatenate([UPPER_LIP[3], LOWER_LIP[3]])
    parts: dict[str, slice] = {}
    points, uv, triangles, limits = [], [], [], []
    count = 0

    def add(name: str, where: np.ndarray, faces: np.ndarray, texture: np.ndarray | None = None, limit=0.0) -> None:
        nonlocal count
        parts[name] = slice(count, count + len(where))
        points.append(where)
        uv.append(((where[:, :2] + 0.5) * scale - 0.5) if texture is None else texture)
        triangles.append(faces)
        limits.append(np.full(len(faces), limit))
        count += len(where)

    add("face", marks[:NUM_VERTICES], template().triangles)
    add("outside", grid, np.where(around < 36, OVAL[np.minimum(around, 35)], around - 36 + NUM_VERTICES), limit=0.5)
    for side in range(2):
        # Wider than the lids' opening and behind it, so that no gap shows when the head turns.
        eye = _spread(marks[np.concatenate([UPPER_LIDS[side], LOWER_LIDS[side]])], 1.2) + np.array([0, 0, 1.8])
        add(f"eye {side}", eye, mesh.grid_triangles(2, 9) + count)
    add("teeth", marks[lip_loop] + [0, 0, 2.5], mesh.grid_triangles(2, 11) + count)
    across = np.tile(np.linspace(2.0, 256 * scale - 3.0, 11), 2)
    down = 256 * scale + np.repeat([1.0, (STRIP - 3.0)], 11)
    # Reaches well behind the lips, for the same reason.
    cavity = _spread(marks[lip_loop], 1.2) + np.array([0, 0, 7.0])
    cavity[:, 1] += np.repeat([-6.0, 5.0], 11)
    add("cavity", cavity, mesh.grid_triangles(2, 11) + count, np.stack([across, down], -1))
    add("iris", marks[NUM_VERTICES:], np.zeros((0, 3), np.int32))
    pixels = np.concatenate(points)
    world = lift(pixels)
    origin = (world[:NUM_VERTICES] - template().points).mean(0)
    weight = 1.0 - smoothstep(pixels[:, 1], *NECK_FADE)
    weight[[i for name, s in parts.items() if name != "outside" for i in range(s.start, s.stop)]] = 1.0
    far = np.linalg.norm(grid[:, None, :2] - marks[OVAL][None, :, :2], axis=-1)
    near = np.exp(-0.5 * (far / 6.0) ** 2) + 1e-12
    follow = near / near.sum(1, keepdims=True) * (1.0 - smoothstep(far.min(1), 0.0, 32.0))[:, None]
    faces = np.concatenate(triangles)
    return PhotoRig(
        identity=astronaut_identity(),
        points=world.astype(np.float32),
        triangles=np.ascontiguousarray(faces, np.int32),
        uv=np.concatenate(uv).astype(np.float32),
        tint=np.ones((count, 3), np.float32),
        weight=weight.astype(np.float32),
        material=np.full(len(faces), mesh.SKIN, np.int32),
        threshold=np.concatenate(limits).astype(np.float32),
        parts=parts,
        loft_steps=np.zeros(0),
        eye_centres=eye_centres((world[:NUM_VERTICES] - origin).astype(np.float32)).astype(np.float32),
        beard=np.zeros(0, np.int64),
        beard_lift=np.zeros((0, 3)),
        origin=origin.astype(np.float32),
        follow=follow.astype(np.float32),
    )


class PhotoRenderer(Renderer):
    """Render the portrait frame by frame, with the interface of `Renderer`."""

    def __init__(self, size: int = 256) -> None:
        import cv2

        if size < 32:
            raise ValueError(f"size must be at least 32 pixels, got {size}")
        cm = FACE_WIDTH_CM / float(np.ptp(_landmarks()[:NUM_VERTICES, 0]))
        self.identity, self.size = astronaut_identity(), size
        self.scene = Scene(seed=0, background="photo", span=256 * cm, noise=0.0, blur=0.0)
        self._scale = size / 256
        self.rig: PhotoRig = build_photo_rig(self._lift, self._scale)
        method = cv2.INTER_AREA if size < 256 else cv2.INTER_CUBIC

        def resize(image: np.ndarray) -> np.ndarray:
            return np.asarray(cv2.resize(image.astype(np.float32), (size, size), interpolation=method))

        _, moving, person = _regions()
        hole = np.asarray(cv2.dilate(moving.astype(np.uint8), np.ones((7, 7), np.uint8))) > 0
        hole[NECK_BEHIND:] = False
        photo = _crop().astype(np.float32)
        body = person.copy()
        body[:NECK_BEHIND] &= ~moving[:NECK_BEHIND]
        # Keep the dark collar out of the wall behind the head.
        near_body = np.asarray(cv2.dilate(body.astype(np.uint8), np.ones((9, 9), np.uint8))) > 0
        down = smoothstep(np.arange(256.0), 144.0, 162.0)[:, None, None].astype(np.float32)
        wall, all_round = _fill(photo, ~hole & ~near_body), _fill(photo, ~hole)
        self._behind = resize(np.where(hole[..., None], wall + down * (all_round - wall), photo))
        self._body = np.clip(resize(cv2.GaussianBlur(body.astype(np.float32), (0, 0), 0.8)), 0.0, 1.0)
        wide = np.asarray(cv2.dilate(moving.astype(np.uint8), np.ones((3, 3), np.uint8))).astype(np.float32)
        alpha = np.clip(resize(cv2.GaussianBlur(wide, (0, 0), 1.0)), 0.0, 1.0)
        dark = np.linspace(0, 1, STRIP, dtype=np.float32)[:, None, None]
        inside = np.array([26, 9, 9], np.float32) + dark**2 * np.array([92, 42, 42], np.float32)
        self._rgb = np.concatenate([resize(photo), np.repeat(inside, size, 1)])
        self._alpha = np.ascontiguousarray(np.concatenate([alpha, np.ones((STRIP, size), np.float32)]))

    def _lift(self, pixels: Float[np.ndarray, "k 3"]) -> Float[np.ndarray, "k 3"]:
        """Crop pixels and depth to world points; the inverse of `project`."""
        distance, span = self.scene.distance, self.scene.span
        z = -pixels[:, 2] * span / 256
        flat = (pixels[:, :2] - 127.5) * [1.0, -1.0] * ((distance - z) / distance * span / 256)[:, None]
        return np.concatenate([flat, z[:, None]], 1)

    def frame(self, motion: MotionTrack, i: int) -> SyntheticFrame:
        import cv2

        rig, side = self.rig, self.size * SAMPLES
        vertices = rig.pose(motion, i)
        index = np.full((side, side), -1, np.int32)
        depth, bary = np.zeros((side, side), np.float32), np.zeros((side, side, 2), np.float32)
        # The image keeps the soft edge of the hair, the ground truth does not.
        soft = np.minimum(rig.threshold, np.float32(0.12))
        raster.rasterise(
            self.project(vertices, side), rig.triangles, rig.uv, soft, self._alpha, True, depth, index, bary
        )
        weights = np.concatenate([bary, 1.0 - bary.sum(-1, keepdims=True)], -1)
        at = (rig.uv[rig.triangles[np.maximum(index, 0)]] * weights[..., None]).sum(2).astype(np.float32)
        colour = np.asarray(
            cv2.remap(self._rgb, at[..., 0], at[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        )
        alpha = cv2.remap(self._alpha, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        alpha = np.where(index >= 0, np.asarray(alpha), np.float32(0.0))
        alpha = np.clip(alpha, 0.0, 1.0)
        over = cv2.resize(np.dstack([colour * alpha[..., None], alpha]), (self.size,) * 2, interpolation=cv2.INTER_AREA)
        colour, alpha = np.asarray(over)[..., :3], np.asarray(over)[..., 3]
        image = colour + (1.0 - alpha)[..., None] * self._behind
        mask = alpha + (1.0 - alpha) * self._body
        landmarks = self.project(rig.landmarks(vertices))[:, :2]
        return SyntheticFrame(np.clip(image + 0.5, 0, 255).astype(np.uint8), mask, landmarks, vertices)


def sample_photo_motion(seed: int, frames: int) -> MotionTrack:
    """Sample motion within the limits of one photograph, relative to its pose."""
    track = sample_motion(seed, frames, FPS, amplitude=0.7)
    yaw = np.clip(track.yaw, -MAX_YAW, MAX_YAW)
    pitch = np.clip(track.pitch + 6.0, -MAX_PITCH, MAX_PITCH)  # sampled heads look down by about 6 degrees
    return dataclasses.replace(track, yaw=yaw, pitch=pitch, smile=np.float32(0.3) * track.smile)


def render_photo_clip(motion: MotionTrack | int, frames: int = 100, size: int = 256) -> SyntheticClip:
    """Render the portrait driven by a track, or by one sampled from a seed (with `frames` frames), with voice and
    ground truth. `pose` is relative to the photograph's. A pure function of its arguments."""
    track = sample_photo_motion(motion, frames) if isinstance(motion, int) else motion
    return render_track(PhotoRenderer(size), track)
