"""Visualisation of keypoints, occlusion and optical flow as pure JAX functions, and the contact sheet (NumPy)."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from avfr_jax.ops.grids import to_pixels
from avfr_jax.ops.resize import resize_linear
from avfr_jax.typing import Array, Float, UInt8

COLUMNS = ("source", "between", "driving", "output", "keypoints", "occlusion", "flow")
# Hues between red, yellow, green, cyan, blue and magenta on the colour wheel of Baker et al., "A Database and
# Evaluation Methodology for Optical Flow" (2011).
_WHEEL_STEPS = (15, 6, 4, 11, 13, 6)
_WHEEL_CORNERS = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1], [1, 0, 0]], np.float32)


def colour_wheel() -> Float[np.ndarray, "55 3"]:
    """The 55 fully saturated hues of the optical-flow colour wheel, from red over green and blue; float32 in [0, 1]."""
    parts = []
    for steps, start, end in zip(_WHEEL_STEPS, _WHEEL_CORNERS, _WHEEL_CORNERS[1:], strict=False):
        share = np.arange(steps, dtype=np.float32)[:, None] / steps
        parts.append(start + share * (end - start))
    return np.concatenate(parts)


def keypoint_colours(count: int) -> Float[np.ndarray, "count 3"]:
    """A colour for each of `count` keypoints, evenly around the wheel; float32 in [0, 1]."""
    wheel = colour_wheel()
    return wheel[(np.arange(count) * len(wheel) // max(count, 1)) % len(wheel)]


def render_keypoints(
    images: Float[Array, "n h w 3"],
    keypoints: Float[Array, "n k 2"],
    *,
    align_corners: bool = True,
) -> Float[Array, "n h w 3"]:
    """Render keypoints as anti-aliased dots, each in its own colour.

    Args:
      images: in [0, 1].
      keypoints: (x, y) in [-1, 1]; those outside, or not finite, are left out.
      align_corners: convention of the keypoints; FOMM's are corner-aligned.

    Returns:
      The images with dots, float32.
    """
    height, width = images.shape[1:3]
    size = max(1.5, height / 60)
    x = to_pixels(keypoints[..., 0], width, align_corners=align_corners)
    y = to_pixels(keypoints[..., 1], height, align_corners=align_corners)
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)[None, :]

    def dot(canvas: Array, keypoint: tuple[Array, Array, Array]) -> tuple[Array, None]:
        cx, cy, colour = keypoint
        distance = jnp.sqrt((columns - cx[:, None, None]) ** 2 + (rows - cy[:, None, None]) ** 2)
        # NaN compares as false, so a keypoint that is not finite covers nothing.
        cover = jnp.where(distance < size + 1, jnp.clip(size + 0.5 - distance, 0, 1), 0)[..., None]
        return canvas * (1 - cover) + colour * cover, None

    colours = jnp.asarray(keypoint_colours(keypoints.shape[1]))
    canvas, _ = jax.lax.scan(dot, images.astype(jnp.float32), (x.T, y.T, colours))
    return canvas


def render_occlusion(occlusion: Float[Array, "n h w 1"], shape: tuple[int, int]) -> Float[Array, "n h2 w2 3"]:
    """Render an occlusion map in [0, 1] as a grey image of `shape` (height, width): white is visible."""
    grey = resize_linear(occlusion.astype(jnp.float32), shape)
    return jnp.broadcast_to(jnp.clip(grey, 0, 1), (*grey.shape[:3], 3))


def flow_colours(
    displacement: Float[Array, "n h w 2"], *, largest: Float[Array, ""] | float | None = None
) -> Float[Array, "n h w 3"]:
    """Colour-code displacements: hue is direction, saturation is length, white is none.

    Args:
      displacement: (x, y), x to the right and y down, in any unit.
      largest: the length that gets the fullest colour; None is the longest of all.

    Returns:
      float32 in [0, 1].
    """
    wheel = jnp.asarray(colour_wheel())
    flow = displacement.astype(jnp.float32)
    length = jnp.sqrt((flow**2).sum(-1))
    # The floor keeps a still image white instead of amplifying rounding errors.
    length = jnp.clip(length / jnp.maximum(length.max() if largest is None else largest, 1e-4), 0, 1)
    turn = (jnp.arctan2(-flow[..., 1], -flow[..., 0]) / jnp.pi + 1) / 2 * (len(wheel) - 1)
    low = jnp.clip(jnp.floor(turn).astype(jnp.int32), 0, len(wheel) - 1)
    share = (turn - low)[..., None]
    hue = wheel[low] * (1 - share) + wheel[(low + 1) % len(wheel)] * share
    return 1 - length[..., None] * (1 - hue)


def render_displacement(displacement: Float[Array, "n h w 2"], shape: tuple[int, int]) -> Float[Array, "n h2 w2 3"]:
    """Render `flow_colours` at the given height and width."""
    return jnp.clip(resize_linear(flow_colours(displacement), shape), 0, 1)


def contact_sheet(
    panels: Mapping[str, Any], *, rows: int = 8, columns: Sequence[str] = COLUMNS, gap: int = 2
) -> UInt8[np.ndarray, "height width 3"]:
    """Join images to one: a row a sample, a column a panel, white lines between.

    Args:
      panels: images `[N, H, W, 3]` in [0, 1] by name, all of one size.
      rows: at most so many samples.
      columns: order of the panels; others come last.
      gap: width of the lines in pixels.

    Raises:
      ValueError: there are no panels.
    """
    if not panels:
        raise ValueError("a contact sheet needs at least one panel")
    names = [c for c in columns if c in panels] + sorted(set(panels) - set(columns))
    stack = np.stack([np.asarray(panels[name])[:rows] for name in names], axis=1)
    stack = (np.clip(np.nan_to_num(stack), 0, 1) * 255 + 0.5).astype(np.uint8)
    stack = np.pad(stack, ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255)
    n, m, h, w, c = stack.shape
    sheet = stack.transpose(0, 2, 1, 3, 4).reshape(n * h, m * w, c)
    return sheet[: n * h - gap, : m * w - gap]
