"""Parts of a head around the face mesh, in centimetres; each function adds one part to a mesh builder."""

import numpy as np

from avfr_jax.landmarks import NUM_VERTICES
from avfr_jax.typing import Float
from data.synthetic_heads import mesh as g
from data.synthetic_heads.expression import EYEBALL, smoothstep
from data.synthetic_heads.hair import hair_cover
from data.synthetic_heads.identity import IdentityParams
from data.synthetic_heads.template import LOWER_LIDS, LOWER_LIP, MOUTH_LINE, OVAL, UPPER_LIDS, UPPER_LIP, template

EYE_RINGS = np.concatenate([np.arange(1, 7) / 6 * 15.8, [19.0, 24.0, 31.0, 40.0, 50.0, 60.0]])
EYE_SPOKES = 32


def eye_centres(face: Float[np.ndarray, "468 3"]) -> Float[np.ndarray, "2 3"]:
    """Centres of the eyeballs, whose fronts touch the lids."""
    centres = []
    for side in range(2):
        loop = face[np.concatenate([UPPER_LIDS[side], LOWER_LIDS[side]])]
        corners = face[UPPER_LIDS[side][[0, -1]]]
        middle = np.array([corners[:, 0].mean(), (loop[:, 1].max() + loop[:, 1].min()) / 2, 0.0])
        flat = ((corners[:, :2] - middle[:2]) ** 2).sum(1).max()
        reach = np.sqrt(max(EYEBALL**2 - flat, 0.3))
        middle[2] = corners[:, 2].mean() - reach - 0.05
        centres.append(middle)
    return np.stack(centres)


def add_face(build, face: np.ndarray, loft: np.ndarray, identity: IdentityParams) -> None:
    """The 468-vertex face and the skin of the skull, which shares the outline's vertices."""
    base = template()
    uv = base.uv.astype(np.float64)
    tint = np.ones((NUM_VERTICES, 3))
    lips = np.concatenate([UPPER_LIP[3], LOWER_LIP[3]])
    tint[lips] = [0.62, 0.5, 0.5]
    material = np.full(len(base.triangles), g.SKIN)
    inner = np.isin(base.triangles, np.concatenate([UPPER_LIP.ravel(), LOWER_LIP.ravel()])).all(1)
    material[inner] = g.LIPS
    build.add("face", face, base.triangles, g.tile_uv(uv, g.FACE_TILE), material, tint)
    rings, count = loft.shape[:2]
    outline = uv[OVAL] - 0.5
    outward = outline / np.linalg.norm(outline, axis=1, keepdims=True)
    ring_uv = uv[OVAL][None] + outward[None] * np.minimum(0.012 * np.arange(1, rings + 1), 0.08)[:, None, None]
    offset = build.parts["face"].start
    triangles = g.grid_triangles(rings + 1, count, closed=True)
    # Row 0 of the grid is the outline itself; later rows are the new vertices.
    new = triangles - count + NUM_VERTICES
    first = triangles < count
    joined = np.where(first, OVAL[np.where(first, triangles, 0)] + offset, new)
    below = np.clip(-(loft[..., 1] + 5.0) / 4.0, 0, 1) * np.clip(np.linspace(0, 2, rings), 0, 1)[:, None]
    build.add(
        "loft",
        loft.reshape(-1, 3),
        joined - NUM_VERTICES,
        g.tile_uv(ring_uv.reshape(-1, 2), g.FACE_TILE),
        g.SKIN,
        (1.0 - 0.4 * below).reshape(-1, 1) * _scalp_tint(loft.reshape(-1, 3), identity),
    )


def _scalp_tint(points: np.ndarray, identity: IdentityParams) -> np.ndarray:
    """Colour of the scalp relative to the face's skin [k,3], with the roots of the hair."""
    share = hair_cover(points, identity)[:, None] * (0.75 if identity.hair_style in ("shaved", "receding") else 0.95)
    roots = (np.array(identity.hair) * 0.85 / np.array(identity.skin)) ** 2.2
    return 1.0 - share + share * np.minimum(roots, 1.5)


def add_eye(build, side: int, centre: np.ndarray) -> None:
    """A cap of the eyeball: the pole is the pupil's centre, ring 5 the iris's rim."""
    polar = np.deg2rad(EYE_RINGS)
    around = np.linspace(0, 2 * np.pi, EYE_SPOKES, endpoint=False)
    direction = np.stack(
        [
            np.sin(polar)[:, None] * np.cos(around),
            np.sin(polar)[:, None] * np.sin(around),
            np.repeat(np.cos(polar)[:, None], EYE_SPOKES, 1),
        ],
        -1,
    ).reshape(-1, 3)
    # The cornea bulges a little and catches the highlight.
    points = np.concatenate([[[0, 0, 1.0]], direction]) * EYEBALL
    fan = [(0, 1 + k, 1 + (k + 1) % EYE_SPOKES) for k in range(EYE_SPOKES)]
    triangles = np.concatenate([fan, g.grid_triangles(len(polar), EYE_SPOKES, closed=True)[:, ::-1] + 1])
    radius = np.concatenate([[0.0], np.repeat(EYE_RINGS / EYE_RINGS[-1], EYE_SPOKES)])
    spin = np.concatenate([[0.0], np.tile(around, len(polar))])
    uv = 0.5 + 0.49 * radius[:, None] * np.stack([np.cos(spin), -np.sin(spin)], -1)
    height = points[:, 1]
    shade = 0.92 - 0.5 * smoothstep(height, -0.1, 0.62) - 0.18 * smoothstep(np.abs(points[:, 0]), 0.7, 1.5)
    build.add(f"eye {side}", points + centre, triangles, g.tile_uv(uv, g.EYE_TILE), g.EYE, shade)


def _teeth_row(face: np.ndarray, upper: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A curved sheet behind the lips: points [r*c,3], uv, tint."""
    columns, rows = 25, 5
    line = (face[UPPER_LIP[3]] + face[LOWER_LIP[3]]) / 2
    x = np.linspace(-2.35, 2.35, columns)
    depth = np.interp(0.0, line[:, 0], line[:, 2]) - 0.5 - 2.3 * (np.abs(x) / 2.35) ** 2.2
    level = np.interp(0.0, line[:, 0], line[:, 1])
    heights = np.linspace(0.72, -0.2, rows) if upper else np.linspace(-0.1, -0.95, rows)
    bend = 0.1 * (x / 2.35) ** 2 * (1 if upper else -0.5)
    y = level + heights[:, None] + bend[None]
    z = np.repeat((depth - (0.0 if upper else 0.18))[None], rows, 0)
    points = np.stack([np.repeat(x[None], rows, 0), y, z], -1).reshape(-1, 3)
    v = np.linspace(0.0, 0.5, rows) if upper else np.linspace(0.5, 1.0, rows)
    uv = np.stack(np.meshgrid(np.linspace(0, 1, columns), v), -1).reshape(-1, 2)
    shade = (0.95 - 0.62 * (np.abs(x) / 2.35) ** 1.6) * (1.0 if upper else 0.72)
    return points, uv, np.tile(shade, rows)


def add_mouth(build, face: np.ndarray) -> None:
    """Cavity, two rows of teeth and the tongue. The cavity's vertices are placed frame by frame."""
    loop = len(UPPER_LIP[3]) + len(LOWER_LIP[3]) - 2
    rings = 6
    fade = np.repeat([0.9, 0.55, 0.28, 0.13, 0.06, 0.05], loop)
    uv = np.stack(np.meshgrid(np.linspace(0, 1, loop), np.linspace(0, 1, rings)), -1).reshape(-1, 2)
    build.add(
        "mouth",
        np.zeros((rings * loop, 3)),
        g.grid_triangles(rings, loop, closed=True),
        g.tile_uv(uv, g.MOUTH_TILE),
        g.MOUTH,
        fade,
    )
    for name, upper in (("upper teeth", True), ("lower teeth", False)):
        points, uv, shade = _teeth_row(face, upper)
        build.add(name, points, g.grid_triangles(5, 25), g.tile_uv(uv, g.TEETH_TILE), g.TEETH, shade)
    u, v = np.meshgrid(np.linspace(-1, 1, 13), np.linspace(0, 1, 9))
    level, depth = MOUTH_LINE - 0.75, float(face[14, 2]) - 1.0
    points = np.stack(
        [
            u * 1.15,
            level + 0.42 * (1 - u**2) * np.sin(np.pi * (0.15 + 0.7 * v)) - 0.25 * (1 - v),
            depth - 3.2 * v - 1.1 * u**2,
        ],
        -1,
    ).reshape(-1, 3)
    shade = np.clip(0.75 - 0.6 * v.ravel(), 0.1, 1)
    build.add(
        "tongue", points, g.grid_triangles(9, 13),
        g.tile_uv(np.stack([u / 2 + 0.5, v], -1).reshape(-1, 2), g.MOUTH_TILE), g.MOUTH, shade,
    )  # fmt: skip


def add_ears(build, face: np.ndarray, identity: IdentityParams) -> None:
    """Two flat shells with a rolled rim and a dark bowl."""
    rng = np.random.default_rng([identity.seed, 12])
    size = rng.uniform(0.9, 1.1)
    rings, spokes = 8, 28
    rho = np.linspace(0, 1, rings)[:, None]
    around = np.linspace(0, 2 * np.pi, spokes, endpoint=False)[None]
    lobe = 1.0 - 0.30 * np.clip(-np.sin(around), 0, 1) ** 1.5
    back = rho * 1.75 * np.cos(around) * lobe * size
    up = rho * 3.1 * np.sin(around) * size
    rim = 0.5 * np.exp(-(((rho - 0.86) / 0.12) ** 2)) * (1 - 0.4 * np.clip(np.cos(around + 0.4), 0, 1))
    bowl = -0.45 * np.exp(-(((rho - 0.30) / 0.25) ** 2)) - 0.9 * (rho > 0.97)
    out = 0.35 + rim + bowl + 0.25 * rho * -np.cos(around)
    shade = np.clip(0.95 - 0.45 * np.exp(-(((rho - 0.3) / 0.28) ** 2)) + 0 * around, 0, 1)
    tint = shade.reshape(-1, 1) * np.array([1.02, 0.88, 0.86])
    uv = np.stack([0.06 + 0.05 * rho * np.cos(around), 0.06 + 0.05 * rho * np.sin(around)], -1).reshape(-1, 2)
    for side, anchor in ((-1.0, 234), (1.0, 454)):
        tilt = np.deg2rad(24.0)
        x = out * np.cos(tilt) - back * -np.sin(tilt)
        z = -back * np.cos(tilt) + out * np.sin(tilt) * 0.3
        points = np.stack([side * x, up + 0.12 * back, z], -1).reshape(-1, 3)
        base = face[anchor] + np.array([side * 0.05, -0.3, -1.6])
        triangles = g.grid_triangles(rings, spokes, closed=True)
        build.add(
            f"ear {side:+.0f}", points + base, triangles if side < 0 else triangles[:, ::-1],
            g.tile_uv(uv, g.FACE_TILE), g.SKIN, tint,
        )  # fmt: skip


def _shoulders(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Half width and half depth of the trunk at height y."""
    width = np.interp(
        -y, [11.0, 13.0, 15.0, 17.0, 19.5, 23.0, 30.0, 45.0], [5.4, 6.6, 10.5, 15.5, 18.8, 20.8, 21.5, 21.0]
    )
    depth = np.interp(-y, [11.0, 13.0, 15.0, 18.0, 23.0, 45.0], [5.2, 5.8, 6.8, 8.2, 9.8, 11.0])
    return width, depth


def _trunk(y: np.ndarray, columns: int, grow: float) -> tuple[np.ndarray, np.ndarray]:
    width, depth = _shoulders(y)
    angle = np.linspace(0, 2 * np.pi, columns, endpoint=False)
    c, s = np.cos(angle), np.sin(angle)
    x = (width[:, None] + grow) * np.sign(s) * np.abs(s) ** 0.85
    z = -7.5 + (depth[:, None] + grow) * np.sign(c) * np.abs(c) ** 0.85
    points = np.stack([x, np.repeat(y[:, None], columns, 1), z], -1)
    u = 0.5 + 0.5 * np.where(angle <= np.pi, angle, angle - 2 * np.pi) / np.pi  # the seam lies on the back
    uv = np.stack([np.repeat(u[None], len(y), 0), np.repeat(((-11.0 - y) / 34.0)[:, None], columns, 1)], -1)
    return points.reshape(-1, 3), uv.reshape(-1, 2)


def add_body(build, identity: IdentityParams) -> None:
    """Neck, chest and clothes. The neck bends between head and shoulders."""
    from scipy.ndimage import gaussian_filter1d

    slim = 0.93 + 0.035 * np.clip(identity.jaw_width, -1.5, 2.0)
    y = np.linspace(-1.0, -16.0, 18)
    columns = 36
    angle = np.linspace(0, 2 * np.pi, columns, endpoint=False)
    flare = gaussian_filter1d(np.interp(-y, [0, 11.0, 13.5, 16.0], [0, 0, 0.9, 4.0]), 1.0)
    x = (4.9 * slim**0.6 + flare)[:, None] * np.sin(angle)
    centre = np.interp(-y, [1.0, 5.0, 9.0, 16.0], [-9.5, -9.0, -7.0, -7.8])
    slim = slim * np.interp(-y, [1.0, 5.0, 9.0], [0.45, 0.62, 1.0])  # thin above: clear of the mouth's cavity
    z = centre[:, None] + (5.2 * slim + 0.4 * flare)[:, None] * np.cos(angle)
    cords = 0.22 * np.exp(-(((np.abs(angle[None] - np.pi) - 2.55) / 0.16) ** 2)) * smoothstep(-y, 5, 12)[:, None]
    x, z = x * (1 + cords * 0.1), z + cords * 1.4
    points = np.stack([x, np.repeat(y[:, None], columns, 1), z], -1).reshape(-1, 3)
    weight = np.repeat(1.0 - smoothstep(-y, 5.0, 14.5), columns)
    under_chin = 1.0 - 0.42 * (1 - smoothstep(-y, 8.5, 12.5))
    u = np.abs(np.linspace(-1, 1, columns, endpoint=False))
    uv = np.stack(np.meshgrid(u, np.linspace(0, 1, len(y))), -1).reshape(-1, 2)
    build.add(
        "neck", points, g.grid_triangles(len(y), columns, closed=True), g.tile_uv(uv, g.NECK_TILE), g.SKIN,
        np.repeat(under_chin, columns), weight=weight,
    )  # fmt: skip
    rows = np.concatenate([np.linspace(-12.2, -20, 16), np.linspace(-21, -45, 10)])
    skin, uv = _trunk(rows, 64, -0.25)
    triangles = g.grid_triangles(len(rows), 64, closed=True)
    if identity.cloth in ("v-neck", "shirt"):
        build.add("chest", skin, triangles, g.tile_uv(uv, g.NECK_TILE), g.SKIN, weight=0.0)
    cloth, uv = _trunk(rows, 64, 0.25)
    rng = np.random.default_rng([identity.seed, 13])
    for _ in range(4):  # folds
        wave = rng.normal(0, [0.35, 0.25, 0.3])
        cloth[:, 2] += 0.16 * np.sin(cloth @ wave + rng.uniform(0, 6)) * smoothstep(-cloth[:, 1], 14, 20)
    build.add("cloth", cloth, triangles, g.tile_uv(uv, g.CLOTH_TILE), g.CLOTH, threshold=0.5, weight=0.0)
    _add_collar(build, identity, float(slim[-1]))


def _add_collar(build, identity: IdentityParams, slim: float) -> None:
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    radius = 5.6 * slim + 0.7
    if identity.cloth == "turtleneck":
        y = np.linspace(-10.2, -14.0, 8)
        around = np.stack([np.sin(angle), np.zeros(48), np.cos(angle)], -1)
        points = around[None] * (5.5 * slim + 0.35 + 0.06 * np.arange(8))[:, None, None] + [0.0, 0.0, -7.4]
        points[..., 1] = y[:, None]
        points = points.reshape(-1, 3)
        uv = np.stack(np.meshgrid(np.abs(np.linspace(-1, 1, 48)) * 0.5 + 0.25, np.linspace(0.02, 0.2, 8)), -1)
        build.add(
            "collar", points, g.grid_triangles(8, 48, closed=True), g.tile_uv(uv.reshape(-1, 2), g.CLOTH_TILE), g.CLOTH,
            weight=np.repeat(0.35 * (1 - smoothstep(-y, 10, 14)), 48),
        )  # fmt: skip
        return
    if identity.cloth == "v-neck":
        return
    thick = {"crew": 0.45, "shirt": 0.75, "hoodie": 1.5}[identity.cloth]
    lift = {"crew": 0.0, "shirt": 0.5, "hoodie": 0.6}[identity.cloth]
    back = np.clip(-np.cos(angle), 0, 1)
    drop = np.clip(np.cos(angle), 0, 1) ** 2 * (1.2 if identity.cloth == "crew" else 2.2)
    path = np.stack(
        [
            (radius + 0.35 * thick) * np.sin(angle),
            -12.6 + lift + 0.8 * back - drop,
            -7.6 + (radius + 0.4 * drop) * np.cos(angle),
        ],
        -1,
    )  # fmt: skip
    points, triangles = g.tube(path, thick, True, 8)
    rows = len(points) // 8
    uv = np.stack(np.meshgrid(np.linspace(0.3, 0.5, 8), np.abs(np.linspace(-1, 1, rows)) * 0.3 + 0.6), -1)
    build.add("collar", points, triangles, g.tile_uv(uv.reshape(-1, 2), g.CLOTH_TILE), g.CLOTH, weight=0.0)


def add_glasses(build, face: np.ndarray, centres: np.ndarray) -> None:
    """Two rims, a bridge and temples."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    front = float(face[168, 2]) + 0.75
    paths = []
    for side in range(2):
        c, s = np.cos(angle), np.sin(angle)
        rim = np.stack(
            [
                centres[side, 0] * 1.06 + 2.55 * np.sign(c) * np.abs(c) ** 0.75,
                centres[side, 1] - 0.25 + 1.9 * np.sign(s) * np.abs(s) ** 0.75,
                np.full(40, front),
            ],
            -1,
        )
        rim[:, 2] -= 0.035 * rim[:, 0] ** 2
        paths.append((rim, True))
        outer = np.sign(centres[side, 0])
        hinge = rim[np.argmax(rim[:, 0] * outer)]
        ear = np.array([outer * 7.9, centres[side, 1] - 0.3, -7.5])
        paths.append((hinge + (ear - hinge) * np.linspace(0, 1, 12)[:, None], False))
    inner = [rim[np.argmin(np.abs(rim[:, 0]))] for rim, closed in paths if closed]
    bridge = inner[0] + (inner[1] - inner[0]) * np.linspace(0, 1, 10)[:, None]
    bridge[:, 1] += 0.35 * np.sin(np.linspace(0, np.pi, 10)) + 0.4
    paths.append((bridge, False))
    for k, (path, closed) in enumerate(paths):
        points, triangles = g.tube(path, 0.13, closed)
        uv = np.full((len(points), 2), 0.5)
        build.add(f"glasses {k}", points, triangles, g.tile_uv(uv, g.FRAME_TILE), g.FRAME)
