"""The insides of mouths and eyes that the source picture shows shut and that have to open.

A warp can only stretch existing pixels: a closed mouth has no inside. Here it is painted, dark, soft and low in
contrast, in the source's own colours, between the lips as the driving landmarks place them. Each is painted in a small
window of the frame, and only when something opens.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax import landmarks as points
from avfr_jax.typing import Array, Float

Outline = tuple[tuple[int, ...], tuple[int, ...]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Palette:
    """Median colours, RGB in [0,1], each [3]; of one picture."""

    skin: Array
    lips: Array


@dataclasses.dataclass(frozen=True)
class _Field:
    """Coordinates of a window's pixels, each [N,h,w] ([N,1,1] for `width`); lengths in pixels of a 256 x 256 frame.

    Attributes:
      width: from corner to corner.
      x, y: position in the frame.
      along: 0 to 1 from the opening's left corner to its right.
      below, above: distances below the upper and above the lower edge; negative outside.
    """

    width: Array
    x: Array
    y: Array
    along: Array
    below: Array
    above: Array


def measure_palette(source: Float[Array, "h w 3"], pixels: Float[Array, "478 2"]) -> Palette:
    """Colours of the source at the landmarks, which are given in its pixels."""
    h, w, _ = source.shape
    index = jnp.clip(jnp.round(pixels), 0, jnp.array([w - 1, h - 1])).astype(jnp.int32)

    def colour(which: tuple[int, ...]) -> Array:
        at = index[np.array(which)]
        return jnp.median(source[at[:, 1], at[:, 0]], axis=0)

    return Palette(skin=colour(points.CHEEKS[:10]), lips=colour((37, 0, 267, 84, 17, 314, 40, 270, 91, 321)))


def _step(x: Array, low: float, high: float) -> Array:
    t = jnp.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _opening(landmarks: Float[Array, "n 478 2"], outline: Outline) -> Float[Array, " n"]:
    """Gap between the middles of two edges, over the distance of their corners."""
    up, low = (landmarks[:, np.array(edge)] for edge in outline)
    middle = slice(up.shape[1] // 2 - 1, up.shape[1] // 2 + 2)
    gap = jnp.linalg.norm(up[:, middle] - low[:, middle], axis=-1).mean(1)
    return gap / jnp.maximum(jnp.linalg.norm(up[:, 0] - up[:, -1], axis=-1), 1e-3)


def _field(
    up: Float[Array, "n k 2"], low: Float[Array, "n k 2"], x: Float[Array, "n 1 w"], y: Float[Array, "n h 1"]
) -> _Field:
    """The field of the opening between the edges `up` and `low`, given left to right, at columns x and rows y."""
    start, axis = up[:, 0], up[:, -1] - up[:, 0]
    length = jnp.maximum(jnp.linalg.norm(axis, axis=-1, keepdims=True), 1e-3)
    ex = axis / length
    ey = jnp.stack([-ex[:, 1], ex[:, 0]], -1)
    dx, dy = x - start[:, 0, None, None], y - start[:, 1, None, None]
    u = dx * ex[:, 0, None, None] + dy * ex[:, 1, None, None]
    v = dx * ey[:, 0, None, None] + dy * ey[:, 1, None, None]

    def height(edge: Array) -> Array:
        """The edge as a function of u: straight pieces, written as a sum of ramps."""
        local = edge - start[:, None]
        pu, pv = jnp.einsum("nkc,nc->nk", local, ex), jnp.einsum("nkc,nc->nk", local, ey)
        pu = jax.lax.cummax(pu, axis=1)  # a mouth seen from the side may fold over itself
        total = jnp.zeros_like(u)
        for i in range(pu.shape[1] - 1):
            run = jnp.maximum(pu[:, i + 1] - pu[:, i], 1e-2)[:, None, None]
            slope = (pv[:, i + 1] - pv[:, i])[:, None, None] / run
            total += slope * jnp.clip(u - pu[:, i, None, None], 0, run)
        return total

    return _Field(length[:, :, None], x, y, u / length[:, :, None], v - height(up), height(low) - v)


def _mouth(palette: Palette, at: _Field) -> tuple[Float[Array, "n h w 3"], Float[Array, "n h w"]]:
    """Colour and opacity of the inside of a mouth: a hint of upper teeth and of a tongue in the dark."""
    inside = _step(jnp.minimum(at.below, at.above), -0.6, 1.4) * (jnp.abs(at.along - 0.5) < 0.5)
    gap = jnp.maximum(at.below + at.above, 1e-3)
    middle = jnp.clip(1 - (2 * at.along - 1) ** 4, 0, 1)
    dark = palette.lips * jnp.array([0.36, 0.20, 0.20], jnp.float32)
    tongue = palette.lips * jnp.array([0.78, 0.56, 0.56], jnp.float32)
    teeth = 0.75 * palette.skin.mean() * jnp.array([1.28, 1.22, 1.14], jnp.float32) + 0.25 * palette.skin
    wide = _step(gap, 4.0, 10.0)
    edge = jnp.minimum(0.34 * gap, 0.13 * at.width) * middle  # teeth do not grow with the opening
    at_teeth = 0.72 * wide * middle * (1 - _step(at.below - edge, -1.3, 1.3))
    at_teeth *= 0.55 + 0.45 * _step(at.below, 0.0, 4.0)  # the lip's shadow
    at_tongue = 0.7 * wide * middle * _step(at.below / gap, 0.5, 0.9)
    colour = dark + at_tongue[..., None] * (tongue - dark)
    return colour + at_teeth[..., None] * (teeth - colour), inside


def _eye(palette: Palette, iris: Array, at: _Field) -> tuple[Float[Array, "n h w 3"], Float[Array, "n h w"]]:
    """Colour and opacity of an eyeball under its lid's shadow; `iris` [N,5,2] is the centre and the rim."""
    inside = _step(jnp.minimum(at.below, at.above), -0.5, 1.0) * (jnp.abs(at.along - 0.5) < 0.5)
    radius = jnp.linalg.norm(iris[:, 1:] - iris[:, :1], axis=-1).mean(1)[:, None, None]
    away = jnp.hypot(at.x - iris[:, 0, 0, None, None], at.y - iris[:, 0, 1, None, None])
    white = 0.6 * palette.skin.mean() + 0.4 * palette.skin
    brown = palette.skin.mean() * jnp.array([0.46, 0.36, 0.30], jnp.float32)
    disc = 0.9 * (1 - _step(away - radius, -1.6, 0.8))
    pupil = 0.6 * (1 - _step(away - 0.4 * radius, -1.0, 1.0))
    shade = 0.55 + 0.45 * _step(at.below, 0.0, 4.5)
    ball = white + disc[..., None] * (brown - white)
    return jnp.clip(ball * (1 - pupil[..., None]) * shade[..., None], 0, 1), inside


def _paint(
    image: Float[Array, "n h w 4"],
    amount: Float[Array, " n"],
    edges: tuple[Array, Array],
    window: tuple[int, int],
    colours: Callable[[_Field], tuple[Array, Array]],
) -> Float[Array, "n h w 4"]:
    """Blend `colours`, times `amount`, into a window [height, width] about an opening; `edges` in pixels at 256."""
    size = image.shape[1]
    scale = size / 256
    centre = jnp.concatenate(edges, 1).mean(1) * scale
    half = jnp.array([window[1], window[0]], jnp.float32) / 2
    corner = jnp.clip(jnp.round(centre - half), 0, size - 2 * half).astype(jnp.int32)

    def take(picture: Array, at: Array) -> Array:
        return jax.lax.dynamic_slice(picture, (at[1], at[0], np.int32(0)), (*window, picture.shape[-1]))

    def put(picture: Array, patch: Array, at: Array) -> Array:
        return jax.lax.dynamic_update_slice(picture, patch, (at[1], at[0], np.int32(0)))

    def paint(image: Array) -> Array:
        patch = jax.vmap(take)(image, corner)
        x = (corner[:, :1, None] + jnp.arange(window[1], dtype=jnp.float32)[None, None]) / scale
        y = (corner[:, 1:, None] + jnp.arange(window[0], dtype=jnp.float32)[None, :, None]) / scale
        colour, inside = colours(_field(*edges, x, y))
        opaque = jnp.concatenate([colour, jnp.ones_like(colour[..., :1])], -1)
        return jax.vmap(put)(image, patch + (amount[:, None, None] * inside)[..., None] * (opaque - patch), corner)

    return jax.lax.cond(jnp.any(amount > 0), paint, lambda image: image, image)


def paint_apertures(
    image: Float[Array, "n h w 4"], palette: Palette, source: Float[Array, "478 2"], driving: Float[Array, "n 478 2"]
) -> Float[Array, "n h w 4"]:
    """Paint the inside of opening mouths and eyes.

    Args:
      image: RGB times opacity, and opacity, square.
      palette: of the source picture.
      source, driving: (x, y) in [-1,1].
    """
    size = image.shape[1]
    at_256 = (driving + 1) * 128 - 128 / size  # in pixels of a 256 x 256 frame, 0 at the first pixel's centre

    def part(outline: Outline) -> tuple[Array, Array, tuple[Array, Array]]:
        edges = (at_256[:, np.array(outline[0])], at_256[:, np.array(outline[1])])
        return _opening(source[None], outline), _opening(driving, outline), edges

    mouth, right, left = points.APERTURES
    ours, theirs, edges = part(mouth)
    # A source mouth that shows its inside is stretched; paint takes over where it would have to stretch far.
    amount = _step(theirs - ours, 0.05, 0.15) * _step(theirs / (ours + 0.02), 1.6, 3.0)
    image = _paint(image, amount, edges, (size // 2, 9 * size // 16), lambda at: _mouth(palette, at))
    irises = ((right, (points.RIGHT_PUPIL, *points.RIGHT_IRIS)), (left, (points.LEFT_PUPIL, *points.LEFT_IRIS)))
    for outline, ring in irises:
        ours, theirs, edges = part(outline)
        amount = (1 - _step(ours, 0.09, 0.17)) * _step(theirs, 0.12, 0.24)
        iris = at_256[:, np.array(ring)]
        image = _paint(
            image, amount, edges, (3 * size // 16, 5 * size // 16), lambda at, iris=iris: _eye(palette, iris, at)
        )
    return image
