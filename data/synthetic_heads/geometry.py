"""Mesh of a person (face, skull, hair, eyes, mouth, neck, clothes) and its deformation by motion."""

import dataclasses

import numpy as np

from avfr_jax.typing import Float, Int
from data.synthetic_heads import anatomy, hair
from data.synthetic_heads.expression import EYEBALL, close_lid, jaw_weight, move_brows, move_lips, smoothstep
from data.synthetic_heads.identity import IdentityParams, Real
from data.synthetic_heads.mesh import MeshBuilder, loft
from data.synthetic_heads.motion import MotionTrack
from data.synthetic_heads.template import LOWER_LIP, MOUTH_LINE, OVAL, UPPER_LIP, resting_lips, template

PIVOT = np.array([0.0, -4.0, -6.5])  # head rotation centre on the neck
HINGE = np.array([0.0, -0.5, -6.0])  # jaw axis
JAW_DEGREES = 12.0
# Pitch of the rig at rest as measured by `avfr_jax.faces.head_pose`, whose canonical face has its chin further forward.
REST_PITCH = -10.5


def rotation(yaw: Real, pitch: Real, roll: Real) -> Float[np.ndarray, "3 3"]:
    """Head to world, degrees: pitch · yaw · roll, the order and signs of `avfr_jax.faces.pose`."""
    y, p, r = np.deg2rad([yaw, -pitch, -roll])
    turn = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    nod = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    tilt = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return nod @ turn @ tilt


def head_rotation(yaw: Real, pitch: Real, roll: Real) -> Float[np.ndarray, "3 3"]:
    """Rig to world for a head at these angles as measured by `avfr_jax.faces.head_pose`."""
    return rotation(yaw, pitch, roll) @ rotation(0.0, -REST_PITCH, 0.0)


def shape_face(identity: IdentityParams) -> Float[np.ndarray, "468 3"]:
    """Deform the template into one person's face: smooth displacement fields, then small random asymmetry."""
    p = template().points.astype(np.float64).copy()
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


@dataclasses.dataclass(frozen=True)
class Rig:
    """One person's mesh at rest and its rig. v vertices, t triangles."""

    identity: IdentityParams
    points: Float[np.ndarray, "v 3"]
    triangles: Int[np.ndarray, "t 3"]
    uv: Float[np.ndarray, "v 2"]
    tint: Float[np.ndarray, "v 3"]
    weight: Float[np.ndarray, " v"]  # 1: follows the head, 0: the shoulders
    material: Int[np.ndarray, " t"]
    threshold: Float[np.ndarray, " t"]
    parts: dict[str, slice]
    loft_steps: np.ndarray
    eye_centres: Float[np.ndarray, "2 3"]
    beard: np.ndarray  # face vertex under each vertex of the beard's shells
    beard_lift: np.ndarray

    def expression(self, track: MotionTrack, i: int) -> Float[np.ndarray, "v 3"]:
        """Vertices in the head's frame with the expression of frame `i`."""
        p = self.points.astype(np.float64).copy()
        jaw = float(track.jaw[i])
        face = p[self.parts["face"]]
        rest = face.copy()
        move_brows(face, rest, float(track.brow[i]))
        move_lips(face, rest, float(track.lip_width[i]), float(track.smile[i]))
        hinge = rotation(0.0, -JAW_DEGREES * jaw, 0.0)
        turned = (face - HINGE) @ hinge.T + HINGE
        face += jaw_weight(rest)[:, None] * (turned - face)
        lift = float(track.smile[i]) * 0.12
        for side in range(2):
            close_lid(face, side, min(1.0, float(track.blink[i, side]) + lift), self.eye_centres[side])
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
        """Vertex tints of frame `i`: closing lids darken the eyes."""
        tint = self.tint.copy()
        for side in range(2):
            where = self.parts[f"eye {side}"]
            tint[where] *= 1.0 - 0.3 * float(track.blink[i, side])
        return tint

    def _fill_mouth(self, p: np.ndarray, face: np.ndarray) -> None:
        """Move the rings of the mouth cavity with the inner lips."""
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
        # The cap is flatter than an eyeball: scale the angle so that the iris moves as far as a real one.
        angles = np.rad2deg(np.arcsin(np.clip(1.2 / EYEBALL * np.sin(np.deg2rad(gaze)), -0.5, 0.5)))
        where = self.parts[f"eye {side}"]
        centre = self.eye_centres[side]
        cap = (p[where] - centre) @ rotation(float(angles[0]), float(angles[1]), 0.0).T
        # Recess the cap behind the lids, whose triangles cut into the sphere.
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


def build_rig(identity: IdentityParams) -> Rig:
    """Build the mesh of one person at rest."""
    face = shape_face(identity)
    centres = anatomy.eye_centres(face)
    for side in range(2):
        close_lid(face, side, 0.0, centres[side])
    steps = np.linspace(0.0, 1.0, 13)[1:] ** 1.15
    width = float(np.ptp(face[OVAL, 0]) / 14.2)
    build = MeshBuilder()
    anatomy.add_face(build, face, loft(face[OVAL], steps, width), identity)
    for side in range(2):
        anatomy.add_eye(build, side, centres[side])
    anatomy.add_mouth(build, face)
    anatomy.add_ears(build, face, identity)
    anatomy.add_body(build, identity)
    beard, lift = hair.add_beard(build, face, identity)
    hair.add_hair(build, face, width, identity)
    if identity.glasses:
        anatomy.add_glasses(build, face, centres)
    f, i = np.float32, np.int32
    return Rig(
        identity, build.column("points", f), build.column("triangles", i), build.column("uv", f),
        build.column("tint", f), build.column("weight", f), build.column("material", i), build.column("threshold", f),
        build.parts, steps, centres.astype(f), beard, lift,
    )  # fmt: skip
