"""Texture atlas of one person, 1024x1024, from the portrait's skin relief and procedural colour.

The portrait contributes pores, folds, lids and the relief of lips and nostrils; its brows, hair and light are removed.
Colour, brows, lips, age, freckles, stubble, eyes, teeth, hair and cloth are procedural.
"""

import functools

import numpy as np

from avfr_jax.typing import Float
from data.synthetic_heads import mesh as g
from data.synthetic_heads.identity import IdentityParams, Real
from data.synthetic_heads.mesh import FACE_TILE, tile_uv
from data.synthetic_heads.raster import rasterise
from data.synthetic_heads.template import BROWS, LOWER_LIDS, LOWER_LIP, OVAL, UPPER_LIDS, UPPER_LIP, template

SIZE = 1024
FACE = 512


def _blur(image: np.ndarray, sigma: Real, sigma_y: Real | None = None) -> np.ndarray:
    import cv2

    return cv2.GaussianBlur(image, (0, 0), sigmaX=sigma, sigmaY=sigma if sigma_y is None else sigma_y)


def _noise(rng: np.random.Generator, height: int, width: int, sx: Real, sy: Real | None = None) -> np.ndarray:
    """Gaussian noise of unit variance with features of the given size."""
    noise = _blur(rng.normal(size=(height, width)).astype(np.float32), sx, sy)
    return (noise - noise.mean()) / (noise.std() + 1e-9)


def _texels(index: np.ndarray) -> np.ndarray:

    return tile_uv(template().uv[index].astype(np.float64), FACE_TILE)


def _polygon(index: np.ndarray, soft: Real, grow: Real = 1.0) -> np.ndarray:
    """Soft mask [512,512] of the polygon through the given vertices."""
    import cv2

    points = _texels(index)
    points = points.mean(0) + (points - points.mean(0)) * grow
    mask = np.zeros((FACE, FACE), np.float32)
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 1.0, lineType=cv2.LINE_AA, shift=4)
    return _blur(mask, soft) if soft > 0 else mask


def _stroke(path: np.ndarray, width: Real, soft: Real) -> np.ndarray:
    """Soft mask of a line through points given in texels."""
    import cv2

    mask = np.zeros((FACE, FACE), np.float32)
    points = np.round(path * 16).astype(np.int32)
    cv2.polylines(mask, [points], False, 1.0, max(1, round(width)), cv2.LINE_AA, 4)
    return _blur(mask, soft)


@functools.cache
def portrait_relief() -> tuple[Float[np.ndarray, "512 512 3"], Float[np.ndarray, "512 512"]]:
    """(log-albedo relief of the portrait's skin, luminance of its lips) in the face's texture space.

    The relief is the photo's logarithm without its low frequencies, which hold light and complexion.
    """
    import cv2
    import skimage.data

    base = template()
    photo = skimage.data.astronaut().astype(np.float32) / 255.0
    zoom = 4
    big = cv2.resize(photo, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_LANCZOS4)
    texels = tile_uv(base.uv.astype(np.float64), FACE_TILE)
    points = np.concatenate([texels, np.ones((468, 1))], 1).astype(np.float32)
    index = np.full((FACE, FACE), -1, np.int32)
    bary = np.zeros((FACE, FACE, 2), np.float32)
    depth = np.zeros((FACE, FACE), np.float32)
    ones = np.zeros(len(base.triangles), np.float32)
    rasterise(points, base.triangles, base.uv, ones, np.ones((2, 2), np.float32), False, depth, index, bary)
    inside = index >= 0
    corners = base.photo[base.triangles[index]]
    weights = np.concatenate([bary, 1 - bary.sum(-1, keepdims=True)], -1)
    where = ((corners * weights[..., None]).sum(2) + 0.5) * zoom - 0.5
    baked = cv2.remap(big, where[..., 0].astype(np.float32), where[..., 1].astype(np.float32), cv2.INTER_CUBIC)

    lips = np.maximum(
        _polygon(np.concatenate([UPPER_LIP[0], UPPER_LIP[3][::-1]]), 0),
        _polygon(np.concatenate([LOWER_LIP[0], LOWER_LIP[3][::-1]]), 0),
    )
    trusted = _polygon(OVAL, 0, 0.86) * inside
    trusted *= np.abs(np.arange(FACE) - FACE / 2)[None] < 0.205 * FACE  # hair and ears lie beyond
    brow_line = _texels(np.array([70, 63, 105, 66, 107, 9, 336, 296, 334, 293, 300]))
    rows = np.interp(np.arange(FACE), brow_line[:, 0], brow_line[:, 1])
    trusted *= np.arange(FACE)[:, None] > rows[None] + 2.0  # hair covers the forehead above
    for brow in BROWS:
        trusted *= 1.0 - (_polygon(brow, 5.0, 1.25) > 0.12)
    soft = _blur(trusted.astype(np.float32), 12.0) * _blur(trusted.astype(np.float32), 3.0)

    log = np.log(np.clip(baked, 0.02, 1.0))
    weight = (trusted * (1 - lips)).astype(np.float32)
    low = _blur(log * weight[..., None], 24.0) / (_blur(weight, 24.0)[..., None] + 1e-3)
    relief = (log - low) * soft[..., None]
    relief = 0.7 * relief + 0.3 * relief[:, ::-1]
    # Remove the highlights of the studio's lamp.
    relief = np.clip(relief, -1.2, 0.16)
    luminance = log.mean(-1)
    inside_lips = lips > 0.5
    shine = np.where(inside_lips, luminance - luminance[inside_lips].mean(), 0.0)
    return relief.astype(np.float32), np.clip(_blur(shine.astype(np.float32), 1.0), -0.5, 0.35)


def _brows(identity: IdentityParams, rng: np.random.Generator) -> np.ndarray:
    """Opacity of the brows: short hairs along a curve through the mesh's brow vertices."""
    import cv2

    mask = np.zeros((FACE, FACE), np.float32)
    thick = 4.0 + 9.0 * identity.brow_thickness
    for side, brow in enumerate(BROWS):
        upper, lower = _texels(brow[:5]), _texels(brow[5:][::-1])
        line = (upper + lower) / 2
        along = np.linspace(0, 1, 60)
        knots = np.linspace(0, 1, 5)
        curve = np.stack([np.interp(along, knots, line[:, k]) for k in range(2)], -1)
        curve[:, 1] = _blur(curve[:, 1:].astype(np.float32), 0.01, 6.0).ravel()
        count = int(220 + 380 * identity.brow_thickness)
        towards_temple = -1.0 if side == 0 else 1.0
        for _ in range(count):
            s = rng.uniform(0, 1)  # 0 at the temple, 1 at the nose
            spread = thick * (0.35 + 0.65 * np.clip(s * 1.6, 0, 1)) * (1.0 if s < 0.93 else 0.8)
            start = np.array([np.interp(s, along, curve[:, 0]), np.interp(s, along, curve[:, 1])])
            start[1] += rng.uniform(-0.5, 0.5) * spread
            upright = np.clip((s - 0.55) / 0.45, 0, 1)
            angle = np.deg2rad(12 + 55 * upright + rng.normal(0, 9))
            tip = start + rng.uniform(5, 10) * np.array([towards_temple * np.cos(angle), -np.sin(angle) * 0.8])
            ends = np.round(np.stack([start, tip]) * 16).astype(np.int32)
            cv2.line(mask, tuple(ends[0]), tuple(ends[1]), float(rng.uniform(0.55, 1.0)), 1, cv2.LINE_AA, 4)
    soft = _blur(mask, 0.8) * 0.75 + _blur(mask, 3.0) * 0.35
    return np.clip(soft * (0.65 + 0.35 * identity.brow_thickness), 0, 0.95)


def _age_lines(identity: IdentityParams, rng: np.random.Generator) -> np.ndarray:
    """Darkening by folds: forehead, crow's feet, under the eyes, from the nose to the mouth."""
    lines = np.zeros((FACE, FACE), np.float32)
    x = np.linspace(-1, 1, 30)
    centre = _texels(np.array([151]))[0]
    if identity.age > 0.35:
        for k in range(3):
            wobble = _blur(rng.normal(0, 6, (30, 1)).astype(np.float32), 0.01, 3.0).ravel()
            path = np.stack([centre[0] + x * rng.uniform(55, 85), centre[1] - 12 + 17 * k + 5 * x**2 + wobble], -1)
            lines += _stroke(path, 2, 1.6) * rng.uniform(0.4, 1.0) * (identity.age - 0.25)
    for chain in ([129, 203, 206, 216, 212], [358, 423, 426, 436, 432]):
        lines += _stroke(_texels(np.array(chain)), 3, 3.0) * (0.10 + 0.75 * identity.age)
    for chain in ([243, 112, 26, 22, 23, 24], [463, 341, 256, 252, 253, 254]):
        lines += _stroke(_texels(np.array(chain)) + np.array([0, 7]), 3, 3.5) * (0.12 + 0.7 * identity.age)
    for outer, sign in ((33, -1), (263, 1)):
        corner = _texels(np.array([outer]))[0]
        for k in range(3):
            r = np.linspace(10, 30, 8)
            angle = np.deg2rad(-25 + 25 * k + rng.normal(0, 4))
            path = corner + np.stack([sign * r * np.cos(angle), r * np.sin(angle)], -1)
            lines += _stroke(path, 1, 1.0) * 0.7 * max(0.0, identity.age - 0.3)
    return lines


def _face(identity: IdentityParams, rng: np.random.Generator) -> np.ndarray:
    """sRGB [512,512,3] of the face and the skin around it."""

    relief, shine = portrait_relief()
    skin = np.array(identity.skin, np.float32)
    log = np.log(skin) + identity.photo_detail * relief
    # Pores, mottling and a little unevenness of complexion.
    pores = 0.022 * _noise(rng, FACE, FACE, 0.9) + 0.018 * _noise(rng, FACE, FACE, 2.2)
    mottle = 0.02 * _noise(rng, FACE, FACE, 9.0) + 0.022 * _noise(rng, FACE, FACE, 30.0)
    log += (pores * (0.6 + 0.8 * identity.age) + mottle)[..., None]
    log += (0.02 * _noise(rng, FACE, FACE, 14.0))[..., None] * np.array([0.3, -0.6, -0.6], np.float32)
    face = np.exp(log)

    def spot(vertex: int, sx: Real, sy: Real) -> np.ndarray:
        cx, cy = _texels(np.array([vertex]))[0]
        y, x = np.mgrid[0:FACE, 0:FACE].astype(np.float32)
        return np.exp(-0.5 * (((x - cx) / sx) ** 2 + ((y - cy) / sy) ** 2))

    blush = spot(50, 26, 20) + spot(280, 26, 20) + 0.6 * spot(4, 16, 14) + 0.3 * spot(152, 22, 14)
    face *= 1.0 + identity.blush * blush[..., None] * np.array([0.05, -0.13, -0.11], np.float32)
    socket = spot(159, 26, 13) + spot(386, 26, 13) + 0.5 * spot(145, 24, 9) + 0.5 * spot(374, 24, 9)
    face *= 1.0 - 0.10 * socket[..., None] * np.array([0.8, 1.0, 0.95], np.float32)
    if identity.freckles > 0:
        dots = _noise(rng, FACE, FACE, 1.5)
        zone = np.clip(spot(50, 40, 28) + spot(280, 40, 28) + spot(5, 30, 20) + 0.25, 0, 1)
        face *= 1.0 - (identity.freckles * 0.4 * np.clip(dots - 1.6, 0, 1) * zone)[..., None] * np.array(
            [0.6, 0.9, 1.0]
        )
    for _ in range(int(rng.integers(0, 4))):  # moles
        cx, cy = rng.uniform(150, 360), rng.uniform(180, 310)
        y, x = np.mgrid[0:FACE, 0:FACE]
        face *= 1.0 - 0.6 * np.exp(-(((x - cx) ** 2 + (y - cy) ** 2) / rng.uniform(2, 9)))[..., None] * [0.8, 1, 1]
    face *= 1.0 - 0.30 * np.clip(_age_lines(identity, rng), 0, 1.2)[..., None] * np.array([0.75, 1.0, 1.0])

    if identity.stubble > 0 or identity.beard > 0:
        chin = _texels(np.array([152]))[0]
        y, x = np.mgrid[0:FACE, 0:FACE].astype(np.float32)
        nose = _texels(np.array([2]))[0]
        zone = 1 / (1 + np.exp(-(y - nose[1] - 18) / 7.0))
        zone *= 1 / (1 + np.exp(-((y - chin[1] + 175) + 1.1 * (np.abs(x - 256) - 135)) / 8.0))
        cheek = np.exp(-0.5 * (((np.abs(x - 256) - 62) / 20) ** 2 + ((y - nose[1] - 35) / 28) ** 2))
        zone *= 1 - 0.85 * cheek
        grain = np.clip(0.55 + 0.45 * _noise(rng, FACE, FACE, 0.8), 0, 1.3)
        amount = np.clip(max(0.5 * identity.stubble, 0.6 * identity.beard) * zone * grain, 0, 0.85)[..., None]
        face = face * (1 - amount) + amount * (0.55 * np.array(identity.hair) + 0.25 * skin * 0.5)

    lips = np.maximum(
        _polygon(np.concatenate([UPPER_LIP[0], UPPER_LIP[3][::-1]]), 0, 1.0),
        _polygon(np.concatenate([LOWER_LIP[0], LOWER_LIP[3][::-1]]), 0, 1.0),
    )
    lips = _blur(lips, 2.4)[..., None]
    creases = np.exp(0.05 * _noise(rng, FACE, FACE, 0.9, 6.0) + 0.5 * shine)[..., None]
    face = face * (1 - lips) + lips * np.array(identity.lips, np.float32) * creases
    seam = _stroke(_texels(UPPER_LIP[3]), 2, 1.6) + _stroke(_texels(LOWER_LIP[3]), 2, 1.6)
    face *= 1.0 - 0.45 * np.clip(seam, 0, 1)[..., None] * np.array([0.8, 1.0, 1.0])

    brow = _brows(identity, rng)[..., None]
    brow_colour = np.array(identity.hair) * 0.62 + 0.02
    if sum(identity.hair) > 1.7:
        brow_colour = brow_colour * 0.9 + 0.0
    face = face * (1 - brow) + brow * brow_colour
    for side in range(2):
        lash = _stroke(_texels(UPPER_LIDS[side]) + np.array([0, 0.5]), 2 + 2 * identity.lashes, 1.0)
        low = _stroke(_texels(LOWER_LIDS[side]), 1.5, 0.8)
        dark = np.clip((0.55 + 0.4 * identity.lashes) * lash + (0.25 + 0.2 * identity.lashes) * low, 0, 0.93)[..., None]
        face = face * (1 - dark) + dark * np.array([0.10, 0.07, 0.06])
        crease = _stroke(_texels(np.array([[247, 30, 29, 27, 28, 56], [467, 260, 259, 257, 258, 286]][side])), 2, 1.8)
        face *= 1.0 - 0.22 * crease[..., None] * np.array([0.8, 1.0, 1.0])
    return np.clip(face, 0.01, 0.99)


def _hair(identity: IdentityParams, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """sRGB [512,512,3] and strand height [512,512] in [0,1]; strands run along v."""
    import cv2

    size = FACE
    curl = identity.curl if identity.hair_style != "curly" else max(0.75, identity.curl)
    if identity.hair_style == "shaved":
        fine, clumps, height = _noise(rng, size, size, 0.8), _noise(rng, size, size, 5.0), _noise(rng, size, size, 0.8)
    elif curl > 0.72:
        fine, clumps = _noise(rng, size, size, 1.3, 3.0), _noise(rng, size, size, 6.0, 7.0)
        height = 0.35 * _noise(rng, size, size, 3.0, 3.5) + 0.8 * _noise(rng, size, size, 0.9, 2.2)
    else:
        fine = 0.7 * _noise(rng, size, size, 0.7, 26.0) + 0.5 * _noise(rng, size, size, 1.6, 40.0)
        clumps = _noise(rng, size, size, 6.0, 70.0)
        height = 0.9 * _noise(rng, size, size, 0.8, 24.0) + 0.3 * _noise(rng, size, size, 3.0, 40.0)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    bend = 26.0 * curl * np.sin(y / (34.0 - 14.0 * curl) + 2.5 * _noise(rng, size, size, 40.0))
    bend += 9.0 * _noise(rng, size, size, 30.0, 60.0)
    layers = [
        cv2.remap(np.ascontiguousarray(a, np.float32), x + bend, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        for a in (fine, clumps, height)
    ]
    fine, clumps, height = layers
    light = np.exp(0.17 * fine + 0.10 * clumps)[..., None]
    colour = np.array(identity.hair, np.float32)
    warm = np.clip(0.5 + 0.25 * clumps, 0, 1)[..., None]
    tips = (0.9 + 0.22 * y / size)[..., None]
    rgb = colour * light * tips * (1 + (warm - 0.5) * np.array([0.10, 0.0, -0.10]))
    rank = np.argsort(np.argsort(height.ravel())).reshape(size, size) / (size * size)
    return np.clip(rgb, 0.008, 0.98), rank.astype(np.float32)


def _cloth(identity: IdentityParams, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """sRGB [512,512,3] and alpha [512,512] of the clothes; u = 0.5 is the middle of the chest."""
    size = FACE
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    first, second = np.array(identity.cloth_colour), np.array(identity.cloth_second)
    rgb = np.broadcast_to(first, (size, size, 3)).copy()
    alpha = np.ones((size, size), np.float32)
    if identity.pattern == "stripes":
        width = rng.uniform(10, 26)
        rgb = np.where((((y if rng.random() < 0.6 else x) / width) % 1.0 < 0.45)[..., None], second, rgb)
    elif identity.pattern == "plaid":
        for axis in (x, y):
            band = 0.5 * ((axis / 34.0) % 1.0 < 0.4) + 0.25 * ((axis / 34.0 + 0.25) % 1.0 < 0.06)
            rgb = rgb * (1 - band[..., None]) + band[..., None] * second
    elif identity.pattern == "knit":
        rgb = rgb * (1 + 0.14 * np.sin(x * 1.3) * np.sin(y * 0.9 + np.abs((x % 9) - 4.5)))[..., None]
    aside = np.abs(x - size / 2)
    if identity.pattern == "suit":
        rgb = np.broadcast_to(first * 0.45, (size, size, 3)).copy()
        opening = aside < 62 - 0.42 * y
        rgb[opening] = 0.55 + 0.4 * second
        tie = (aside < 9 + 0.03 * y) & opening
        rgb[tie] = second * [0.6, 0.3, 0.35]
        lapel = (aside >= 62 - 0.42 * y) & (aside < 92 - 0.45 * y)
        rgb[lapel] = first * 0.52
        rgb *= (1 - 0.4 * np.exp(-(((aside - (62 - 0.42 * y)) / 2.5) ** 2)))[..., None]
    elif identity.cloth == "v-neck":
        alpha = np.clip((aside - (60 - 0.62 * y)) / 2 + 0.5, 0, 1)
        rgb *= (1 - 0.3 * np.exp(-(((aside - (68 - 0.62 * y)) / 2.0) ** 2)))[..., None]
    elif identity.cloth == "shirt":
        alpha = np.clip((aside - (40 - 0.6 * y)) / 2 + 0.5, 0, 1)
        rgb *= (1 - 0.35 * np.exp(-(((x - size / 2 - 7) / 1.6) ** 2)))[..., None]
    elif identity.cloth == "hoodie":
        for cord in (-20, 20):
            rgb[(np.abs(x - size / 2 - cord) < 2.2) & (y > 60) & (y < 170)] = 0.5 + 0.45 * second
    weave = 0.035 * _noise(rng, size, size, 0.7) + 0.02 * _noise(rng, size, size, 0.6, 3.0)
    folds = 0.09 * _noise(rng, size, size, 18.0, 34.0) + 0.05 * _noise(rng, size, size, 7.0, 26.0)
    rgb = rgb * np.exp(weave + folds)[..., None]
    return np.clip(rgb, 0.01, 0.97), alpha


def _eye(identity: IdentityParams, rng: np.random.Generator) -> np.ndarray:
    """sRGB [256,256,3]: iris, pupil and sclera around the tile's middle."""
    size = 256
    y, x = (np.mgrid[0:size, 0:size].astype(np.float32) - size / 2 + 0.5) / (0.49 * size * (size - 5) / size)
    r, angle = np.hypot(x, y), np.arctan2(y, x)
    iris = 15.8 / 60.0
    q = r / iris
    spokes = _noise(rng, 1, 360, 1.0, 0.01)[0]
    fibre = spokes[(np.rad2deg(angle) % 360).astype(int) % 360]
    colour = np.array(identity.eyes, np.float32) * (1 + 0.16 * fibre[..., None] * np.clip(q, 0, 1)[..., None])
    colour = colour * (0.62 + 0.5 * np.exp(-(((q - 0.62) / 0.25) ** 2)))[..., None]
    colour = colour * (1 - 0.7 * np.clip((q - 0.82) / 0.18, 0, 1))[..., None]
    white = np.array([0.86, 0.83, 0.80]) * (1 - 0.25 * np.clip((r - 0.45) / 0.5, 0, 1))[..., None]
    veins = np.clip(_noise(rng, size, size, 1.0, 5.0) - 1.6, 0, 1) * np.clip(r - 0.4, 0, 1)
    white = white * (1 - 0.5 * veins[..., None] * [0.1, 1, 1])
    rim = np.clip((q - 1.0) / 0.10 + 0.5, 0, 1)[..., None]
    pupil = np.clip((q - 0.40) / 0.08 + 0.5, 0, 1)[..., None]
    return np.clip((colour * pupil + 0.015 * (1 - pupil)) * (1 - rim) + white * rim, 0.01, 0.98)


def _teeth(rng: np.random.Generator) -> np.ndarray:
    """sRGB [128,128,3]: the upper row in the upper half, the lower row in the lower half; gums at both ends."""
    size = 128
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    enamel = np.array([0.93, 0.89, 0.82]) * rng.uniform(0.86, 1.0)
    rgb = np.broadcast_to(enamel, (size, size, 3)).copy()
    for upper, edges in ((True, [0.5, 0.615, 0.71, 0.79, 0.86, 0.93]), (False, [0.5, 0.575, 0.65, 0.73, 0.81, 0.9])):
        half = (y < 0.5) == upper
        for edge in edges:
            for at in (edge, 1 - edge):
                gap = np.exp(-(((x - at) / 0.009) ** 2)) * half
                rgb *= 1 - 0.42 * gap[..., None] * [0.9, 1, 1]
    depth = np.where(y < 0.5, y, 1 - y) / 0.5
    gum = 1 / (1 + np.exp((depth - 0.22 - 0.05 * np.cos(x * 60)) / 0.03))
    return rgb * (1 - gum[..., None]) + gum[..., None] * np.array([0.66, 0.33, 0.33])


def build_atlas(identity: IdentityParams) -> tuple[Float[np.ndarray, "1024 1024 3"], Float[np.ndarray, "1024 1024"]]:
    """(linear RGB, alpha) of one person's atlas; the tiles are named in `geometry`."""

    rng = np.random.default_rng([identity.seed, 21])
    rgb = np.full((SIZE, SIZE, 3), 0.5, np.float32)
    alpha = np.ones((SIZE, SIZE), np.float32)

    def put(tile: tuple[int, int, int, int], colour: np.ndarray, opacity: np.ndarray | None = None) -> None:
        x, y, width, height = tile
        rgb[y : y + height, x : x + width] = colour
        if opacity is not None:
            alpha[y : y + height, x : x + width] = opacity

    put(g.FACE_TILE, _face(identity, rng))
    put(g.HAIR_TILE, *_hair(identity, rng))
    put(g.CLOTH_TILE, *_cloth(identity, rng))
    put(g.EYE_TILE, _eye(identity, rng))
    put(g.TEETH_TILE, _teeth(rng))
    dark = rng.choice(np.array([[0.05, 0.05, 0.06], [0.25, 0.14, 0.08], [0.55, 0.53, 0.5], [0.12, 0.05, 0.06]]))
    put(g.FRAME_TILE, np.broadcast_to(dark, (128, 128, 3)))
    inside = np.array([0.62, 0.27, 0.26]) * np.exp(0.07 * _noise(rng, 128, 128, 2.0))[..., None]
    put(g.MOUTH_TILE, inside)
    neck = np.exp(0.02 * _noise(rng, 256, 256, 1.0) + 0.03 * _noise(rng, 256, 256, 20.0))[..., None]
    put(g.NECK_TILE, np.array(identity.skin) * neck * np.array([0.99, 0.97, 0.97]))
    return np.clip(rgb, 0.0, 1.0) ** 2.2, alpha


def material_table(identity: IdentityParams) -> Float[np.ndarray, "8 5"]:
    """specular, gloss, wrap, subsurface, sheen for every material of `geometry`."""
    oily = 0.05 + 0.05 * np.random.default_rng([identity.seed, 22]).random()
    return np.array(
        [
            [oily, 26.0, 0.18, 0.35, 0.0],  # skin
            [0.16, 16.0, 0.25, 0.05, 0.85],  # hair
            [0.01, 5.0, 0.1, 0.0, 0.5],  # cloth
            [0.9, 320.0, 0.3, 0.2, 0.0],  # eye
            [0.25, 90.0, 0.3, 0.3, 0.0],  # teeth
            [0.12, 50.0, 0.2, 0.3, 0.0],  # mouth
            [0.5, 120.0, 0.0, 0.0, 0.0],  # spectacle frame
            [0.13, 45.0, 0.18, 0.4, 0.0],  # lips
        ],
        np.float32,
    )
