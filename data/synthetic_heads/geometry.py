"""From a person to triangles: face, skull, hair, eyes, mouth, neck and clothes, and how motion bends them."""

import dataclasses

import numpy as np

from avfr_jax.typing import Float, Int
from data.synthetic_heads.identity import IdentityParams, Real
from data.synthetic_heads.motion import MotionTrack
from data.synthetic_heads.template import (
    BROWS,
    LIP_CORNERS,
    LOWER_LIDS,
    LOWER_LIP,
    MOUTH_HALF,
    MOUTH_LINE,
    OVAL,
    UPPER_LIDS,
    UPPER_LIP,
    template,
)

# Materials, in the order of `texture.material_table`.
SKIN, HAIR, CLOTH, EYE, TEETH, MOUTH, FRAME, LIPS = range(8)

# Tiles of the 1024x1024 atlas: x, y, width, height.
FACE_TILE = (0, 0, 512, 512)
HAIR_TILE = (512, 0, 512, 512)
CLOTH_TILE = (0, 512, 512, 512)
EYE_TILE = (512, 512, 256, 256)
TEETH_TILE = (768, 512, 128, 128)
FRAME_TILE = (896, 512, 128, 128)
MOUTH_TILE = (768, 640, 128, 128)
NECK_TILE = (768, 768, 256, 256)

SKULL = np.array([0.0, 3.0, -6.0])
PIVOT = np.array([0.0, -4.0, -6.5])  # where the head turns on the neck
HINGE = np.array([0.0, -0.5, -6.0])  # the jaw's axis
JAW_DEGREES = 12.0
# The rig at rest looks down by this much in the measure of `avfr_jax.faces.head_pose`, whose canonical face carries
# its chin further forward.
REST_PITCH = -10.5
EYEBALL = 2.15  # radius of the visible cap; larger than a real eye's so that it fills the lids


def smoothstep(x: np.ndarray, low: Real, high: Real) -> np.ndarray:
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def rotation(yaw: Real, pitch: Real, roll: Real) -> Float[np.ndarray, "3 3"]:
    """Head to world, degrees: pitch · yaw · roll, the order and signs of `avfr_jax.faces.pose`."""
    y, p, r = np.deg2rad([yaw, -pitch, -roll])
    turn = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    nod = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    tilt = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return nod @ turn @ tilt


def head_rotation(yaw: Real, pitch: Real, roll: Real) -> Float[np.ndarray, "3 3"]:
    """The rig's frame to the world for a head that `avfr_jax.faces.head_pose` sees at these angles."""
    return rotation(yaw, pitch, roll) @ rotation(0.0, -REST_PITCH, 0.0)


def tile_uv(uv: np.ndarray, tile: tuple[int, int, int, int]) -> np.ndarray:
    """[0,1] coordinates to atlas texels, a margin inside the tile."""
    x, y, width, height = tile
    return np.array([x + 2, y + 2]) + np.clip(uv, 0.0, 1.0) * np.array([width - 5, height - 5])


class _Builder:
    """Collects parts into one mesh."""

    def __init__(self) -> None:
        self.parts: dict[str, slice] = {}
        self._columns: dict[str, list[np.ndarray]] = {
            k: [] for k in ("points", "uv", "tint", "weight", "triangles", "material", "threshold")
        }
        self._count = 0

    def add(self, name, points, triangles, uv, material, tint=None, threshold=0.0, weight=1.0) -> slice:
        count, faces = len(points), len(triangles)
        where = slice(self._count, self._count + count)
        if tint is None:
            tint = np.ones((count, 3))
        elif np.ndim(tint) == 1:
            tint = np.repeat(np.asarray(tint)[:, None], 3, 1)
        for key, value in (
            ("points", points),
            ("uv", uv),
            ("tint", tint),
            ("weight", np.broadcast_to(weight, count)),
            ("triangles", np.asarray(triangles) + self._count),
            ("material", np.broadcast_to(material, faces)),
            ("threshold", np.broadcast_to(threshold, faces)),
        ):
            self._columns[key].append(np.asarray(value))
        self._count += count
        self.parts[name] = where
        return where

    def column(self, key: str, dtype: type) -> np.ndarray:
        return np.ascontiguousarray(np.concatenate(self._columns[key]), dtype=dtype)


def grid_triangles(rows: int, columns: int, closed: bool = False) -> Int[np.ndarray, "t 3"]:
    """Two triangles a cell of a rows x columns grid of vertices; `closed` joins the last column to the first."""
    r, c = np.meshgrid(np.arange(rows - 1), np.arange(columns if closed else columns - 1), indexing="ij")
    a, b = r * columns + c, r * columns + (c + 1) % columns
    quads = np.stack([a, b, a + columns, b, b + columns, a + columns], -1)
    return quads.reshape(-1, 3).astype(np.int32)


def tube(path: np.ndarray, radius: Real, closed: bool, sides: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """A pipe along `path` [n,3]."""
    step = np.roll(path, -1, 0) - np.roll(path, 1, 0) if closed else np.gradient(path, axis=0)
    step /= np.linalg.norm(step, axis=1, keepdims=True) + 1e-9
    side = np.cross(step, [0.0, 0.3, 1.0])
    side /= np.linalg.norm(side, axis=1, keepdims=True) + 1e-9
    third = np.cross(step, side)
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    ring = np.cos(angle)[None, :, None] * side[:, None] + np.sin(angle)[None, :, None] * third[:, None]
    points = path[:, None] + radius * ring
    if closed:
        points = np.concatenate([points, points[:1]])
    return points.reshape(-1, 3), grid_triangles(len(points), sides, closed=True)


def shape_face(identity: IdentityParams) -> Float[np.ndarray, "468 3"]:
    """The template bent into one person's face: smooth displacement fields, then small random asymmetry."""
    p = template().points.astype(np.float64).copy()
    from data.synthetic_heads.template import resting_lips

    upper, lower = resting_lips(identity.lip_fullness)
    p[UPPER_LIP.ravel()], p[LOWER_LIP.ravel()] = upper.reshape(-1, 3), lower.reshape(-1, 3)
    x, y, z = p.T.copy()

    def bump(cx: float, cy: float, sx: float, sy: float) -> np.ndarray:
        return np.exp(-0.5 * (((np.abs(x) - cx) / sx) ** 2 + ((y - cy) / sy) ** 2))

    p[:, 0] *= 1.0 + 0.035 * identity.face_width
    p[:, 0] *= 1.0 + 0.045 * identity.jaw_width * smoothstep(-y, 0.5, 6.0)
    p[:, 1] -= 0.32 * identity.chin_length * smoothstep(-y, 3.5, 8.0)
    p[:, 2] += 0.12 * identity.chin_length * smoothstep(-y, 5.0, 8.0)
    cheek = bump(5.0, 0.6, 1.4, 1.2)
    p[:, 0] += np.sign(x) * 0.25 * identity.cheekbones * cheek
    p[:, 2] += 0.2 * identity.cheekbones * cheek
    nose = bump(0.0, -0.6, 1.5, 1.1) * smoothstep(z, 0.3, 1.6)
    p[:, 0] += x * 0.13 * identity.nose_width * nose
    tip = np.exp(-0.5 * ((x / 1.0) ** 2 + ((y + 0.5) / 1.2) ** 2))
    p[:, 2] += 0.22 * identity.nose_length * tip
    p[:, 1] -= 0.14 * identity.nose_length * tip
    mouth = np.exp(-0.5 * ((x / 3.4) ** 2 + ((y - MOUTH_LINE) / 1.3) ** 2))
    p[:, 0] += x * 0.06 * identity.mouth_width * mouth
    for side in (-1.0, 1.0):
        centre = np.array([side * 3.2, 3.2])
        near = np.exp(-0.5 * (((x - centre[0]) / 1.7) ** 2 + ((y - centre[1]) / 0.95) ** 2))
        p[:, 1] += (y - centre[1]) * 0.13 * identity.eye_size * near
        p[:, 0] += (x - centre[0]) * 0.05 * identity.eye_size * near
        wide = np.exp(-0.5 * (((x - centre[0]) / 1.9) ** 2 + ((y - 3.4) / 2.0) ** 2))
        p[:, 0] += side * 0.12 * identity.eye_spacing * wide
    brow = bump(3.0, 5.2, 2.2, 0.7)
    p[:, 1] += 0.16 * identity.brow_height * brow
    p[:, 2] -= 0.12 * identity.brow_height * brow
    p[:, 1] += 0.3 * identity.forehead * smoothstep(y, 5.5, 8.5)
    rng = np.random.default_rng([identity.seed, 11])
    strength = 0.06 if identity.name != "astronaut" else 0.0
    for _ in range(6):
        wave, phase, amount = rng.normal(0, 0.28, 3), rng.uniform(0, 2 * np.pi), rng.normal(0, strength, 3)
        p += np.sin(p @ wave + phase)[:, None] * amount
    return p


def _skull_radius(direction: np.ndarray, width: float) -> np.ndarray:
    """Distance from the skull's centre to its surface along unit vectors."""
    up = np.where(direction[..., 1] > 0, 8.6, 7.2)
    back = np.where(direction[..., 2] > 0, 8.0, 8.9)
    return 1.0 / np.sqrt(
        (direction[..., 0] / (7.35 * width)) ** 2 + (direction[..., 1] / up) ** 2 + (direction[..., 2] / back) ** 2
    )


def _loft(boundary: np.ndarray, steps: np.ndarray, width: float) -> np.ndarray:
    """Rings [k,b,3] that lead from the face's outline over the skull to the back of the head."""
    from scipy.ndimage import gaussian_filter1d

    d = boundary - SKULL
    radius = np.linalg.norm(d, axis=1)
    theta = np.arccos(d[:, 2] / radius)
    phi = np.arctan2(d[:, 1], d[:, 0])
    own = radius - _skull_radius(d / radius[:, None], width)
    rings = []
    for t in steps:
        angle = theta + (np.pi - theta) * t
        direction = np.stack([np.sin(angle) * np.cos(phi), np.sin(angle) * np.sin(phi), np.cos(angle)], -1)
        keep = (1.0 - smoothstep(np.full(len(own), t), 0.0, 0.55)) * own
        if t > 0.15:
            keep = gaussian_filter1d(keep, 1.5, mode="wrap")
        rings.append(SKULL + direction * (_skull_radius(direction, width) + keep)[:, None])
    return np.stack(rings)


@dataclasses.dataclass(frozen=True)
class Rig:
    """One person as a mesh at rest, with everything that `pose` needs. v vertices, t triangles."""

    identity: IdentityParams
    points: Float[np.ndarray, "v 3"]
    triangles: Int[np.ndarray, "t 3"]
    uv: Float[np.ndarray, "v 2"]
    tint: Float[np.ndarray, "v 3"]
    weight: Float[np.ndarray, " v"]  # 1: moves with the head, 0: with the shoulders
    material: Int[np.ndarray, " t"]
    threshold: Float[np.ndarray, " t"]
    parts: dict[str, slice]
    loft_steps: np.ndarray
    eye_centres: Float[np.ndarray, "2 3"]
    beard: np.ndarray  # face vertices under each vertex of the beard's shells
    beard_lift: np.ndarray

    def expression(self, track: MotionTrack, i: int) -> Float[np.ndarray, "v 3"]:
        """Vertices in the head's frame after jaw, lips, brows and lids have moved."""
        p = self.points.astype(np.float64).copy()
        jaw = float(track.jaw[i])
        face = p[self.parts["face"]]
        rest = face.copy()
        _move_brows(face, rest, float(track.brow[i]))
        _move_lips(face, rest, float(track.lip_width[i]), float(track.smile[i]))
        hinge = _jaw_rotation(JAW_DEGREES * jaw)
        turned = (face - HINGE) @ hinge.T + HINGE
        face += _jaw_weight(rest)[:, None] * (turned - face)
        lift = float(track.smile[i]) * 0.12
        for side in range(2):
            _close_lid(face, side, min(1.0, float(track.blink[i, side]) + lift), self.eye_centres[side])
        p[self.parts["face"]] = face
        moved = face[OVAL] - rest[OVAL]
        loft = p[self.parts["loft"]].reshape(len(self.loft_steps), len(OVAL), 3)
        loft += moved[None] * ((1.0 - self.loft_steps) ** 2)[:, None, None]
        for name, share in (("lower teeth", 1.0), ("tongue", 0.85)):
            part = p[self.parts[name]]
            p[self.parts[name]] = part + share * ((part - HINGE) @ hinge.T + HINGE - part)
        self._fill_mouth(p, face)
        for side in range(2):
            self._turn_eye(p, side, track.gaze[i])
        if len(self.beard):
            p[self.parts["beard"]] = face[self.beard] + self.beard_lift
        return p

    def pose(self, track: MotionTrack, i: int) -> Float[np.ndarray, "v 3"]:
        """Vertices in the world at frame `i` of the track (float32, cm)."""
        p = self.expression(track, i)
        turn = head_rotation(float(track.yaw[i]), float(track.pitch[i]), float(track.roll[i]))
        head = (p - PIVOT) @ turn.T + PIVOT
        sway = rotation(0.12 * float(track.yaw[i]), 0.0, 0.1 * float(track.roll[i]))
        body = (p - PIVOT) @ sway.T + PIVOT
        w = self.weight[:, None]
        return (head * w + body * (1.0 - w) + track.translation[i] * (0.6 + 0.4 * w)).astype(np.float32)

    def frame_tint(self, track: MotionTrack, i: int) -> Float[np.ndarray, "v 3"]:
        """Vertex tints of frame `i`: a closing lid darkens the eye, an opening jaw lights the mouth."""
        tint = self.tint.copy()
        for side in range(2):
            where = self.parts[f"eye {side}"]
            tint[where] *= 1.0 - 0.3 * float(track.blink[i, side])
        return tint

    def _fill_mouth(self, p: np.ndarray, face: np.ndarray) -> None:
        """Rings of the mouth cavity follow the inner lips."""
        loop = face[np.concatenate([UPPER_LIP[3], LOWER_LIP[3][-2:0:-1]])]
        centre = loop.mean(0)
        rings = [loop]
        for depth, across, tall in (
            (0.35, 1.03, 1.25),
            (1.0, 1.05, 1.7),
            (2.4, 0.95, 1.9),
            (4.0, 0.5, 1.0),
            (4.4, 0, 0),
        ):
            ring = centre + (loop - centre) * [across, tall, 0.6]
            ring[:, 2] -= depth
            rings.append(ring)
        p[self.parts["mouth"]] = np.concatenate(rings)

    def _turn_eye(self, p: np.ndarray, side: int, gaze: np.ndarray) -> None:
        # The cap is flatter than a real eyeball: turn it so that the iris moves as far as a real one's would.
        angles = np.rad2deg(np.arcsin(np.clip(1.2 / EYEBALL * np.sin(np.deg2rad(gaze)), -0.5, 0.5)))
        where = self.parts[f"eye {side}"]
        centre = self.eye_centres[side]
        cap = (p[where] - centre) @ rotation(float(angles[0]), float(angles[1]), 0.0).T
        # Behind the lids' skin, whose triangles cut a little into the sphere, the cap draws back.
        cap[:, 2] -= np.maximum(np.abs(cap[:, 1]) - 0.72, 0.0) + 0.6 * np.maximum(np.abs(cap[:, 0]) - 1.45, 0.0)
        p[where] = cap + centre

    def landmarks(self, vertices: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "478 3"]:
        """World positions of the 478 landmarks: the face's vertices, then five points on each iris
        (centre, then the rim in the order right, top, left, bottom), in FaceMesh's order of the eyes."""
        irises = []
        for side in range(2):
            eye = vertices[self.parts[f"eye {side}"]]
            ring = eye[1 + 5 * 32 : 1 + 6 * 32]  # the ring on the edge of the iris
            irises += [eye[:1], ring[[0, 8, 16, 24]]]
        return np.concatenate([vertices[self.parts["face"]], *irises])


def _jaw_rotation(degrees: Real) -> np.ndarray:
    return rotation(0.0, -degrees, 0.0)


def _jaw_weight(rest: np.ndarray) -> np.ndarray:
    """How far each face vertex follows the jaw: chin and lower lip fully, the cheeks partly."""
    x, y = np.abs(rest[:, 0]), rest[:, 1]
    line = MOUTH_LINE + 0.62 * np.maximum(0.0, x - MOUTH_HALF)
    weight = smoothstep(line - y, -0.5, 2.6) * (1.0 - 0.55 * smoothstep(x, 3.5, 7.5))
    column = np.abs(np.linspace(-1, 1, 11))
    corner = 0.42 + 0.58 * (1.0 - column**3.0)
    for ring in range(4):
        weight[LOWER_LIP[ring]] = corner
        weight[UPPER_LIP[ring]] = 0.42 * column**5
    weight[[18, 83, 313, 182, 406, 200, 199, 175, 152]] = np.maximum(
        weight[[18, 83, 313, 182, 406, 200, 199, 175, 152]], 0.97
    )
    return weight


def _move_brows(face: np.ndarray, rest: np.ndarray, amount: float) -> None:
    x, y = np.abs(rest[:, 0]), rest[:, 1]
    near = np.exp(-0.5 * ((y - 5.4) / 1.0) ** 2) * smoothstep(y, 4.0, 5.0)
    face[:, 1] += near * (0.38 * max(amount, 0.0) + 0.22 * min(amount, 0.0) * np.exp(-x / 2.5))
    face[:, 0] += near * np.sign(rest[:, 0]) * 0.15 * min(amount, 0.0) * np.exp(-x / 2.5)


def _move_lips(face: np.ndarray, rest: np.ndarray, width: float, smile: float) -> None:
    x, y = rest[:, 0], rest[:, 1]
    near = np.exp(-0.5 * ((x / 3.2) ** 2 + ((y - MOUTH_LINE) / 1.5) ** 2))
    lips = np.exp(-0.5 * ((x / 2.6) ** 2 + ((y - MOUTH_LINE) / 1.0) ** 2))
    face[:, 0] += x * near * (0.13 * width if width > 0 else 0.24 * width)
    face[:, 2] += lips * (-0.45 * width if width < 0 else -0.12 * width)
    lip_rows = np.exp(-0.5 * ((x / 2.0) ** 2 + ((y - MOUTH_LINE) / 0.9) ** 2))
    face[:, 1] += (y - MOUTH_LINE) * lip_rows * (-0.12 * width)
    corner = np.exp(-0.5 * (((np.abs(x) - 2.9) / 1.1) ** 2 + ((y - MOUTH_LINE - 0.2) / 1.1) ** 2))
    face[:, 0] += np.sign(x) * corner * 0.36 * smile
    face[:, 1] += corner * 0.42 * smile
    face[:, 2] -= corner * 0.22 * smile
    cheek = np.exp(-0.5 * (((np.abs(x) - 4.2) / 1.5) ** 2 + ((y - 0.2) / 1.2) ** 2))
    face[:, 1] += cheek * 0.26 * smile
    face[:, 2] += cheek * 0.2 * smile


def _close_lid(face: np.ndarray, side: int, closed: float, centre: np.ndarray) -> None:
    """Bring both lids of an eye towards the line where they meet, keeping them outside the eyeball."""
    upper, lower = face[UPPER_LIDS[side]], face[LOWER_LIDS[side]]
    meet = upper + 0.86 * (lower - upper)
    order = np.argsort(upper[:, 0])
    x = face[:, 0]
    inside = (x > upper[order[0], 0] - 1.2) & (x < upper[order[-1], 0] + 1.2)
    top = np.interp(x, upper[order, 0], upper[order, 1])
    bottom = np.interp(x, upper[order, 0], lower[order, 1])
    drop = np.interp(x, upper[order, 0], meet[order, 1] - upper[order, 1], left=0.0, right=0.0)
    rise = np.interp(x, upper[order, 0], meet[order, 1] - lower[order, 1], left=0.0, right=0.0)
    above = face[:, 1] - top
    below = bottom - face[:, 1]
    middle = (top + bottom) / 2
    falls = np.clip(1.0 - above / 1.05, 0.0, 1.0) ** 1.6 * (face[:, 1] > middle) * inside
    rises = np.clip(1.0 - below / 0.9, 0.0, 1.0) ** 1.6 * (face[:, 1] <= middle) * inside
    falls[UPPER_LIDS[side]], rises[UPPER_LIDS[side]] = 1.0, 0.0
    falls[LOWER_LIDS[side]], rises[LOWER_LIDS[side]] = 0.0, 1.0
    corners = [UPPER_LIDS[side][0], UPPER_LIDS[side][-1]]
    falls[corners], rises[corners] = 0.0, 0.0
    near = np.flatnonzero(inside & ((falls > 0) | (rises > 0) | np.isin(np.arange(len(face)), corners)))
    face[near, 1] += closed * (falls * drop + rises * rise)[near]
    flat = (face[near, 0] - centre[0]) ** 2 + (face[near, 1] - centre[1]) ** 2
    limit = EYEBALL + 0.07
    surface = centre[2] + np.sqrt(np.maximum(limit**2 - flat, 0.0))
    face[near, 2] = np.where(flat < limit**2, np.maximum(face[near, 2], surface), face[near, 2])


def build_rig(identity: IdentityParams) -> Rig:
    """The mesh of one person at rest."""
    from data.synthetic_heads import anatomy

    face = shape_face(identity)
    centres = anatomy.eye_centres(face)
    for side in range(2):
        _close_lid(face, side, 0.0, centres[side])
    steps = np.linspace(0.0, 1.0, 13)[1:] ** 1.15
    width = float(np.ptp(face[OVAL, 0]) / 14.2)
    build = _Builder()
    anatomy.add_face(build, face, _loft(face[OVAL], steps, width), identity)
    for side in range(2):
        anatomy.add_eye(build, side, centres[side])
    anatomy.add_mouth(build, face)
    anatomy.add_ears(build, face, identity)
    anatomy.add_body(build, identity)
    beard, lift = anatomy.add_beard(build, face, identity)
    anatomy.add_hair(build, face, width, identity)
    if identity.glasses:
        anatomy.add_glasses(build, face, centres)
    return Rig(
        identity,
        build.column("points", np.float32),
        build.column("triangles", np.int32),
        build.column("uv", np.float32),
        build.column("tint", np.float32),
        build.column("weight", np.float32),
        build.column("material", np.int32),
        build.column("threshold", np.float32),
        build.parts,
        steps,
        centres.astype(np.float32),
        beard,
        lift,
    )


__all__ = ["BROWS", "LIP_CORNERS", "Rig", "build_rig", "head_rotation", "rotation", "smoothstep"]
