"""Procedural backgrounds, out of focus and static."""

import functools
from collections.abc import Callable

import numpy as np

from avfr_jax.typing import Float
from data.synthetic_heads.identity import Scene


def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    return (x + 0.5) / size, (y + 0.5) / size


def _studio(rng: np.random.Generator, size: int, colour: np.ndarray) -> np.ndarray:
    import cv2

    x, y = _grid(size)
    glow = np.exp(-((x - rng.uniform(0.3, 0.7)) ** 2 + (y - rng.uniform(0.2, 0.6)) ** 2) / rng.uniform(0.15, 0.5))
    cloud = sum(
        cv2.resize(rng.normal(size=(k, k)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC) / k**0.5
        for k in (4, 7, 13)
    )
    return colour * ((0.55 + 0.6 * glow) * np.exp(0.12 * np.asarray(cloud)))[..., None]


def _gradient(rng: np.random.Generator, size: int, colour: np.ndarray) -> np.ndarray:
    x, y = _grid(size)
    angle = rng.uniform(0, 2 * np.pi)
    t = np.clip(0.5 + (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle), 0, 1)[..., None]
    other = np.clip(colour * rng.uniform(0.3, 1.5, 3), 0.03, 0.95)
    return colour * (1 - t) + other * t


def _bokeh(rng: np.random.Generator, size: int, colour: np.ndarray) -> np.ndarray:
    import cv2

    image = np.broadcast_to(colour * 0.22, (size, size, 3)).astype(np.float32).copy()
    for _ in range(int(rng.integers(25, 60))):
        centre = tuple(int(v) for v in rng.uniform(0, size, 2))
        disc = np.zeros((size, size), np.float32)
        cv2.circle(disc, centre, int(size * rng.uniform(0.015, 0.07)), 1.0, -1, cv2.LINE_AA)
        cv2.GaussianBlur(disc, (0, 0), size * rng.uniform(0.002, 0.008), dst=disc)
        lamp = np.array([1.0, rng.uniform(0.5, 0.95), rng.uniform(0.2, 0.9)]) * rng.uniform(0.2, 0.7)
        image += disc[..., None] * lamp
    return image


def _boxes(rng: np.random.Generator, size: int, colour: np.ndarray, window: bool) -> np.ndarray:
    """A room: wall, shelves with books, or a bright window with a frame."""
    import cv2

    image = np.broadcast_to(colour, (size, size, 3)).astype(np.float32).copy()
    if window:
        x0, y0 = (rng.uniform(-0.1, 0.5, 2) * size).astype(int)
        w, h = (rng.uniform([0.35, 0.5], [0.6, 0.8]) * size).astype(int)
        sky = np.array([0.82, 0.90, 0.98]) * rng.uniform(0.75, 1.0)
        cv2.rectangle(image, (int(x0), int(y0)), (int(x0 + w), int(y0 + h)), tuple(map(float, sky)), -1)
        for k in range(4):
            at = int(x0 + w * k / 3)
            cv2.line(image, (at, int(y0)), (at, int(y0 + h)), (0.35, 0.33, 0.3), max(1, size // 50))
        cv2.rectangle(image, (int(x0), int(y0)), (int(x0 + w), int(y0 + h)), (0.4, 0.38, 0.35), max(1, size // 40))
    else:
        for shelf in np.arange(rng.uniform(0.0, 0.15), 1.0, rng.uniform(0.16, 0.26)):
            left = rng.uniform(-0.05, 0.0)
            while left < 1.0:
                wide, tall = rng.uniform(0.015, 0.05), rng.uniform(0.09, 0.15)
                book = tuple(float(v) for v in rng.uniform(0.08, 0.75) * rng.uniform(0.5, 1.2, 3))
                low = int((shelf + 0.16) * size)
                if rng.random() < 0.85:
                    corner = (int(left * size), int(low - tall * size))
                    cv2.rectangle(image, corner, (int((left + wide) * size), low), book, -1)
                left += wide
            cv2.line(image, (0, low), (size, low), (0.25, 0.17, 0.1), max(1, size // 45))
    blur = size * rng.uniform(0.008, 0.03)
    return cv2.GaussianBlur(image, (0, 0), blur)


def _foliage(rng: np.random.Generator, size: int, colour: np.ndarray) -> np.ndarray:
    import cv2

    image = np.zeros((size, size, 3), np.float32)
    for k, amount in ((5, 0.8), (11, 0.7), (24, 0.5), (50, 0.25)):
        image += amount * cv2.resize(
            rng.normal(size=(k, k)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC
        )[..., None]  # fmt: skip
    green = np.array([0.30, 0.42, 0.17]) * rng.uniform(0.7, 1.3) + 0.1 * colour
    sky = np.clip((0.45 - _grid(size)[1]) * 2 + 0.4 * image[..., 0], 0, 1)[..., None]
    return cv2.GaussianBlur(green * np.exp(0.45 * image) * (1 - sky) + sky * 0.85, (0, 0), size * 0.006)


def _wall(rng: np.random.Generator, size: int, colour: np.ndarray) -> np.ndarray:
    import cv2

    x, y = _grid(size)
    brick_h, brick_w = rng.uniform(0.05, 0.11), rng.uniform(0.13, 0.25)
    row = np.floor(y / brick_h).astype(int)
    column = np.floor(x / brick_w + 0.5 * (row % 2)).astype(int)
    tone = rng.uniform(0.75, 1.15, (64, 64)).astype(np.float32)[row % 64, column % 64]
    joint = ((y / brick_h) % 1 < 0.1) | ((x / brick_w + 0.5 * (row % 2)) % 1 < 0.05)
    image = colour * (tone * np.where(joint, 0.7, 1.0))[..., None] * (0.7 + 0.5 * x[..., None])
    return cv2.GaussianBlur(image.astype(np.float32), (0, 0), size * rng.uniform(0.003, 0.01))


def render_background(scene: Scene, size: int) -> Float[np.ndarray, "h w 3"]:
    """Linear RGB [size,size,3] of the scene's background."""
    rng = np.random.default_rng([scene.seed, 31])
    colour = np.array(scene.background_colour, np.float32)
    renderers: dict[str, Callable[[np.random.Generator, int, np.ndarray], np.ndarray]] = {
        "studio": _studio,
        "gradient": _gradient,
        "bokeh": _bokeh,
        "room": functools.partial(_boxes, window=False),
        "window": functools.partial(_boxes, window=True),
        "foliage": _foliage,
        "wall": _wall,
    }
    image = renderers[scene.background](rng, size, colour)
    return (np.clip(image, 0.0, 1.0) ** 2.2).astype(np.float32)
