"""Hair and beard as fur shells: nested copies of a surface whose outer layers show fewer strands."""

import numpy as np

from avfr_jax.landmarks import NUM_VERTICES
from data.synthetic_heads import mesh as g
from data.synthetic_heads.expression import smoothstep
from data.synthetic_heads.identity import IdentityParams
from data.synthetic_heads.template import LOWER_LIP, OVAL, UPPER_LIP, template


def add_beard(build, face: np.ndarray, identity: IdentityParams) -> tuple[np.ndarray, np.ndarray]:
    """Fur on chin, jaw and upper lip: lifted copies of those triangles that follow the face.

    Returns the face vertex under each vertex of the shells, and its offset.
    """
    if identity.beard < 0.05:
        return np.zeros(0, np.int64), np.zeros((0, 3))
    x, y = np.abs(face[:, 0]), face[:, 1]
    jaw = smoothstep(-(y + 1.2) + 0.72 * np.maximum(0, x - 3.2), 2.2, 3.6)
    moustache = np.exp(-(((y + 2.35) / 0.35) ** 2)) * (x < 3.3)
    cover = np.clip(np.maximum(jaw, moustache), 0, 1)
    lips = np.concatenate([UPPER_LIP.ravel(), LOWER_LIP.ravel()])
    cover[lips] = 0.0
    triangles = template().triangles
    kept = triangles[(cover[triangles] > 0.15).all(1)]
    used = np.unique(kept)
    local = np.full(NUM_VERTICES, -1)
    local[used] = np.arange(len(used))
    normal = face - np.array([0.0, -2.0, -7.0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    layers = 5
    uv = np.stack([face[used, 0] / 16 + 0.5, (face[used, 1] + 10) / 16], -1)
    index, lifts, all_triangles, limits, tints = [], [], [], [], []
    share = cover[kept].mean(1)
    for layer in range(layers):
        height = 0.05 + identity.beard * 0.5 * layer / layers
        index.append(used)
        lifts.append(normal[used] * (height * cover[used])[:, None])
        all_triangles.append(local[kept] + layer * len(used))
        limits.append(np.clip(0.3 + 0.45 * layer / layers + 0.6 * (1 - share), 0.01, 0.98))
        tints.append(np.full(len(used), 0.55 + 0.45 * layer / layers))
    vertices = np.concatenate(index)
    lift = np.concatenate(lifts)
    build.add(
        "beard", face[vertices] + lift, np.concatenate(all_triangles), g.tile_uv(np.tile(uv, (layers, 1)), g.HAIR_TILE),
        g.HAIR, np.concatenate(tints), threshold=np.concatenate(limits),
    )  # fmt: skip
    return vertices, lift


def _hair_uv(points: np.ndarray, identity: IdentityParams) -> np.ndarray:
    """Texture coordinates with strands from the crown (shifted by the parting) down, mirrored at the back."""
    crown = np.array([1.6 * identity.parting, 0.0, -6.0 - 1.5 * (identity.bangs < 0.05)])
    d = points - crown
    angle = np.arctan2(d[:, 0], d[:, 2])
    flat = np.hypot(d[:, 0], d[:, 2])
    down = flat + 0.9 * np.clip(6.0 - points[:, 1], 0, None)
    return np.stack([np.abs(angle) / np.pi * 0.98 + 0.01, np.clip(down / 26.0, 0.0, 1.0)], -1)


def _scalp(face: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """A finer grid [r,c,3] over the skull from the face's outline backwards, and its columns' azimuth [c]."""
    d = face[OVAL] - g.SKULL
    phi = np.unwrap(np.arctan2(d[:, 1], d[:, 0]))
    order = np.argsort(phi)
    grid = np.linspace(phi[order[0]], phi[order[0]] + 2 * np.pi, 96, endpoint=False)
    wrapped = np.concatenate([phi[order], phi[order[:1]] + 2 * np.pi])
    ring = np.concatenate([face[OVAL][order], face[OVAL][order[:1]]])
    fine = np.stack([np.interp(grid, wrapped, ring[:, k]) for k in range(3)], -1)
    steps = np.linspace(0.0, 1.0, 30)
    return g.loft(fine, steps, width), grid


def hair_cover(p: np.ndarray, identity: IdentityParams) -> np.ndarray:
    """Density of the hair on the skull, in [0,1]: above a line from the sideburns over the ears to the nape."""
    side_line = np.interp(p[:, 2], [-16, -12, -9.5, -7.5, -6.0, -5.0], [-5.5, -5.0, -1.0, 2.3, 1.8, 2.6])
    cover = smoothstep(p[:, 1] - side_line, -0.2, 1.0)
    if identity.hair_style == "receding":
        cover *= 1.0 - smoothstep(p[:, 1], 4.2, 6.5) * smoothstep(p[:, 2], -13.0, -9.0)
    return cover


def add_hair(build, face: np.ndarray, width: float, identity: IdentityParams) -> None:
    """Hair of the identity's style."""
    style, volume = identity.hair_style, identity.hair_volume
    top, sides = {
        "shaved": (0.18, 0.14), "short": (1.5, 0.75), "crop": (0.8, 0.4), "bob": (1.3, 1.2), "long": (1.1, 1.0),
        "curly": (2.6, 2.3), "bun": (0.6, 0.45), "receding": (0.5, 0.5),
    }[style]  # fmt: skip
    scalp, _ = _scalp(face, width)
    rows, columns = scalp.shape[:2]
    rng = np.random.default_rng([identity.seed, 14])
    p = scalp.reshape(-1, 3)
    t = np.repeat(np.linspace(0, 1, rows), columns)
    cover = hair_cover(p, identity)
    if style != "receding":
        dip = 0.05 * np.exp(-((np.abs(p[:, 0]) - 4.5) ** 2) / 2.0) * (identity.jaw_width > 0.2)
        recess = rng.uniform(0.0, 0.07) if identity.bangs < 0.05 else 0.0
        cover *= smoothstep(t - dip - recess, -0.01, 0.03)
    taper = np.minimum(1.0, 0.35 + t / 0.12) if style not in ("shaved",) else 1.0
    lump = np.zeros(len(p))
    for _ in range(5):
        lump += np.sin(p @ rng.normal(0, 0.45, 3) + rng.uniform(0, 6)) * 0.12
    thick = (sides + (top - sides) * smoothstep(p[:, 1], 5.0, 10.0)) * volume * taper * (1 + lump) * cover
    outward = p - (g.SKULL + np.array([0, -1.0, 0.0]))
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    triangles = g.grid_triangles(rows, columns, closed=True)
    share = cover[triangles].mean(1)
    triangles, share = triangles[share > 0.04], share[share > 0.04]
    uv = g.tile_uv(_hair_uv(p, identity), g.HAIR_TILE)
    layers = 6
    for layer in range(layers):
        level = (layer + 0.5) / layers
        base = 0.0 if layer < 2 else 0.12 + 0.5 * level
        limit = np.clip(base + 1.05 * (1.0 - share), 0.0, 0.97)
        points = p + outward * (0.12 + thick * (0.35 + 0.65 * level))[:, None]
        build.add(f"hair {layer}", points, triangles, uv, g.HAIR, np.full(len(p), 0.62 + 0.38 * level), threshold=limit)
    if style in ("bob", "long"):
        _add_curtain(build, width, identity, volume)
    if style == "bun":
        _add_ball(build, np.array([0.0, 10.5, -13.5]), 3.2 * volume, identity)
    if identity.bangs > 0.05 and style not in ("shaved", "receding", "bun"):
        _add_bangs(build, face, top * volume, identity)


def _add_curtain(build, width: float, identity: IdentityParams, volume: float) -> None:
    """Hanging part of long hair: sheets around the head with an uneven edge."""
    rng = np.random.default_rng([identity.seed, 15])
    bottom = rng.uniform(-9.5, -6.0) if identity.hair_style == "bob" else rng.uniform(-21.0, -13.0)
    rows, columns = 24, 72
    front = np.deg2rad(rng.uniform(58.0, 70.0))
    angle = np.linspace(front, 2 * np.pi - front, columns)
    y = np.linspace(7.5, bottom, rows)
    s = (7.5 - y) / (7.5 - bottom)
    crown = np.sqrt(np.clip(1 - ((y - 3.0) / 9.0) ** 2, 0.3, 1)) * (y > 3) + (y <= 3)
    curl_in = 1.0 - 0.14 * smoothstep(s, 0.6, 1.0) * (identity.hair_style == "bob")
    across = (7.5 * width * crown + 1.05 * volume + 0.5 * smoothstep(s, 0.2, 0.7)) * curl_in
    deep = (9.2 * crown + 1.0 * volume - 2.0 * smoothstep(s, 0.35, 0.9)) * curl_in
    wave = identity.curl * 0.7
    phase = rng.uniform(0, 6)
    ripple = wave * np.sin(y[:, None] * 1.1 + 3.0 * np.sin(angle[None] * 2.0) + phase) * s[:, None]
    x = (across[:, None] + ripple) * np.sin(angle)
    z = -6.3 + (deep[:, None] + ripple) * np.cos(angle)
    p = np.stack([x, np.repeat(y[:, None], columns, 1), z], -1).reshape(-1, 3)
    fold = np.abs(angle - np.pi) / (np.pi - front)
    down = np.repeat(y[:, None], columns, 1)
    frac = 0.5 + 0.49 * (angle - np.pi) / (np.pi - front)
    uv = np.stack([np.repeat(frac[None], rows, 0), np.clip((16.0 - down) / 40.0, 0, 1)], -1).reshape(-1, 2)
    end = np.repeat(smoothstep(s, 0.8, 1.0)[:, None], columns, 1)
    edge = np.repeat(smoothstep(fold, 0.9, 1.0)[None], rows, 0)
    start = np.repeat((1 - smoothstep(s, 0.0, 0.06))[:, None], columns, 1)
    bare = np.maximum(np.maximum(end, edge), start).ravel()
    triangles = g.grid_triangles(rows, columns)
    share = bare[triangles].mean(1)
    outward = p * [1.0, 0.0, 1.0] - [0.0, 0.0, -6.3]
    outward /= np.linalg.norm(outward, axis=1, keepdims=True) + 1e-9
    weight = np.repeat(1.0 - 0.75 * smoothstep(-y, 3.0, 18.0), columns)
    for layer in range(4):
        level = layer / 3
        limit = np.clip((0.0 if layer == 0 else 0.2 + 0.45 * level) + 0.85 * share, 0.0, 0.97)
        points = p + outward * (0.28 * (layer - 1.5)) + [0, -0.5 * level, 0]
        shade = np.full(len(p), 0.6 + 0.4 * level)
        build.add(
            f"curtain {layer}", points, triangles, g.tile_uv(uv, g.HAIR_TILE), g.HAIR, shade, threshold=limit,
            weight=weight,
        )  # fmt: skip


def _add_ball(build, centre: np.ndarray, radius: float, identity: IdentityParams) -> None:
    polar, around = np.meshgrid(
        np.linspace(0.02, np.pi - 0.02, 16), np.linspace(0, 2 * np.pi, 28, endpoint=False), indexing="ij"
    )
    d = np.stack([np.sin(polar) * np.cos(around), np.cos(polar), np.sin(polar) * np.sin(around)], -1).reshape(-1, 3)
    uv = np.stack([np.abs(around / np.pi - 1), polar / np.pi], -1).reshape(-1, 2)
    for layer in range(3):
        points = centre + d * [1.0, 0.85, 0.85] * (radius * (0.9 + 0.06 * layer))
        build.add(
            f"bun {layer}", points, g.grid_triangles(16, 28, closed=True), g.tile_uv(uv, g.HAIR_TILE), g.HAIR,
            np.full(len(d), 0.7 + 0.15 * layer), threshold=0.0 if layer == 0 else 0.3 + 0.15 * layer,
        )  # fmt: skip


def _add_bangs(build, face: np.ndarray, thick: float, identity: IdentityParams) -> None:
    """A fringe over the forehead, in three sheets."""
    rng = np.random.default_rng([identity.seed, 16])
    near = face[(face[:, 1] > 4.4)]
    basis = np.stack([np.ones(len(near)), near[:, 0] ** 2, near[:, 1], near[:, 1] ** 2], -1)
    fit = np.linalg.lstsq(basis, near[:, 2], rcond=None)[0]
    columns, rows = 40, 12
    x = np.linspace(-6.3, 6.3, columns)
    oval = face[OVAL]
    upper = oval[oval[:, 1] > 2.0]
    order = np.argsort(upper[:, 0])
    hairline = np.interp(x, upper[order, 0], upper[order, 1])
    sweep = 0.35 * identity.parting * x / 6.3
    length = identity.bangs * 2.9 * (1.0 - 0.25 * (x / 6.3) ** 2 + sweep) + rng.normal(0, 0.12, columns)
    s = np.linspace(0, 1, rows)[:, None]
    top = hairline + 1.6
    y = np.maximum(top - s * (1.6 + length), 5.05)
    z = fit[0] + fit[1] * x**2 + fit[2] * y + fit[3] * y**2
    lift = 0.3 + 0.45 * thick * (1 - s) ** 0.7 * 0.8 + 0.25 * np.sin(np.pi * s)
    z = z + lift - 0.6 * np.clip(y - hairline, 0, None)
    bare = np.maximum(smoothstep(s, 0.7, 1.0) + 0 * x, smoothstep(np.abs(x), 5.4, 6.3) + 0 * s)
    triangles = g.grid_triangles(rows, columns)
    share = bare.reshape(-1)[triangles].mean(1)
    lean = identity.parting * 1.2 * s
    uv = np.stack([np.clip((x + lean + 7.5) / 15.0, 0.01, 0.99) + 0 * s, 0.25 + 0.3 * s + 0 * x], -1).reshape(-1, 2)
    for layer in range(3):
        p = np.stack([x + lean, y - 0.06 * layer, z + 0.14 * layer], -1).reshape(-1, 3)
        limit = np.clip((0.0, 0.3, 0.5)[layer] + 0.85 * share**2, 0, 0.97)
        build.add(
            f"bangs {layer}", p, triangles, g.tile_uv(uv, g.HAIR_TILE), g.HAIR,
            np.full(len(p), 0.72 + 0.14 * layer), threshold=limit,
        )  # fmt: skip
