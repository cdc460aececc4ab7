"""Deformation of the 468-vertex face by jaw, lips, brows and eyelids."""

import numpy as np

from data.synthetic_heads.identity import Real
from data.synthetic_heads.template import LOWER_LIDS, LOWER_LIP, MOUTH_HALF, MOUTH_LINE, UPPER_LIDS, UPPER_LIP

EYEBALL = 2.15  # radius of the visible cap in cm; larger than a real eye's so that it fills the lids


def smoothstep(x: np.ndarray, low: Real, high: Real) -> np.ndarray:
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def jaw_weight(rest: np.ndarray) -> np.ndarray:
    """Share of the jaw's rotation for each face vertex: chin and lower lip fully, cheeks partly."""
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


def move_brows(face: np.ndarray, rest: np.ndarray, amount: float) -> None:
    x, y = np.abs(rest[:, 0]), rest[:, 1]
    near = np.exp(-0.5 * ((y - 5.4) / 1.0) ** 2) * smoothstep(y, 4.0, 5.0)
    face[:, 1] += near * (0.38 * max(amount, 0.0) + 0.22 * min(amount, 0.0) * np.exp(-x / 2.5))
    face[:, 0] += near * np.sign(rest[:, 0]) * 0.15 * min(amount, 0.0) * np.exp(-x / 2.5)


def move_lips(face: np.ndarray, rest: np.ndarray, width: float, smile: float) -> None:
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


def close_lid(face: np.ndarray, side: int, closed: float, centre: np.ndarray) -> None:
    """Move both lids of an eye towards their meeting line, outside the eyeball."""
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
