"""A picture of a frame's intermediate results: keypoints, heatmaps, dense flow, occlusion and audio-visual attention
(the thesis's figure 2.5)."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from avfr_jax.ops.grids import pixel_grid
from avfr_jax.ops.heatmaps import gaussian_heatmaps
from avfr_jax.ops.resize import resize_linear
from avfr_jax.reenact import Explained
from avfr_jax.training import panels
from avfr_jax.typing import Float, UInt8

_LABEL, _GAP = 18, 4  # pixels
_MOST_HEATMAPS = 24
_VARIANCE = 0.01  # of FOMM's own heatmaps


def explanation_sheet(explained: Explained) -> UInt8[np.ndarray, "height width 3"]:
    """A frame's intermediate results as one labelled picture, uint8.

    First row: source and driving frame with their keypoints, the result, the dense flow (hue: direction of the
    displacement; saturation: length), the occlusion map (black: occluded in the source) and the audio-visual attention
    over the result. Below: a heatmap for each keypoint over the driving frame, for models with no more than 24.
    """
    first, heatmaps = _first_row(explained), _heatmaps(explained)
    width = len(first)
    rows = [first, *(heatmaps[i : i + width] for i in range(0, len(heatmaps), width))]
    return np.concatenate([_row(row, width) for row in rows])


def _first_row(explained: Explained) -> list[tuple[str, Any]]:
    behind, shape = explained.behind, explained.source.shape[:2]
    frame = np.asarray(behind.frames[0])
    tiles = [
        ("source", _with_keypoints(explained.source, explained.source_keypoints.positions)),
        (f"driving frame {explained.index}", _with_keypoints(explained.driving, explained.driving_keypoints.positions)),
        ("result", frame),
        ("flow", panels.render_displacement(behind.displacement[:1], shape)[0]),
    ]
    if behind.occlusion is not None:
        tiles.append(("occlusion", panels.render_occlusion(behind.occlusion[:1], shape)[0]))
    if behind.attention is not None:
        attention = np.asarray(resize_linear(behind.attention[:1].astype(jnp.float32), shape)[0])
        tiles.append(("audio-visual attention", _overlay(frame, attention, np.array([1.0, 0.25, 0.0]))))
    return [(name, np.asarray(tile)) for name, tile in tiles]


def _with_keypoints(image: UInt8[np.ndarray, "h w 3"], value: Any) -> Any:
    return panels.render_keypoints(jnp.asarray(image[None], jnp.float32) / 255, value[:1, :, :2])[0]


def _heatmaps(explained: Explained) -> list[tuple[str, Any]]:
    value = explained.driving_keypoints.positions[:1, :, :2]
    if value.shape[1] > _MOST_HEATMAPS:
        return []
    size, image = explained.driving.shape[0], explained.driving.astype(np.float32) / 255
    heat = np.asarray(gaussian_heatmaps(value, pixel_grid(size, size), _VARIANCE)[0])
    colours = panels.keypoint_colours(value.shape[1])
    return [(f"keypoint {k}", _overlay(image, heat[..., k, None], colours[k])) for k in range(value.shape[1])]


def _overlay(image: Any, share: Float[np.ndarray, "h w 1"], colour: Float[np.ndarray, "3"]) -> Any:
    """Blend a colour over a darkened grey image."""
    grey = np.repeat(image.mean(-1, keepdims=True), 3, axis=-1) * 0.6
    return grey * (1 - share) + colour * share


def _row(tiles: list[tuple[str, Any]], width: int) -> UInt8[np.ndarray, "height total 3"]:
    """Tiles beside each other with names above, padded with white."""
    size = tiles[0][1].shape[0]
    out = np.full((size + _LABEL + _GAP, width * (size + _GAP) - _GAP, 3), 255, np.uint8)
    for i, (name, tile) in enumerate(tiles):
        left = i * (size + _GAP)
        out[_LABEL : _LABEL + size, left : left + size] = (np.clip(tile, 0, 1) * 255 + 0.5).astype(np.uint8)
        _label(out[:_LABEL, left : left + size], name)
    return out


def _label(strip: UInt8[np.ndarray, "h w 3"], text: str) -> None:
    """Write a name into a white strip, in place."""
    from PIL import Image, ImageDraw

    picture = Image.fromarray(strip)
    ImageDraw.Draw(picture).text((2, 3), text, fill=(0, 0, 0))
    strip[:] = np.asarray(picture)
