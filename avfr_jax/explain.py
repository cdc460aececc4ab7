"""A picture of how a frame came about: keypoints, a heatmap for each, dense flow, occlusion, and where the sound draws
the network to (the thesis's figure 2.5)."""

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
    """The frame and what lies behind it as one labelled picture.

    First row: source and driving frame with their keypoints, the result, the dense flow (hue: where a place looks in
    the source; saturation: how far), the occlusion map (black: nothing of use in the source) and the audio-visual
    attention over the result. Below: a heatmap for each keypoint over the driving frame, for models with no more than
    24.
    """
    first = _first_row(explained)
    rows = [first]
    heatmaps = _heatmaps(explained)
    width = len(first)
    rows += [heatmaps[i : i + width] for i in range(0, len(heatmaps), width)]
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
        tiles.append(("audio-visual attention", _glow(frame, attention, np.array([1.0, 0.25, 0.0]))))
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
    return [(f"keypoint {k}", _glow(image, heat[..., k, None], colours[k])) for k in range(value.shape[1])]


def _glow(image: Any, share: Float[np.ndarray, "h w 1"], colour: Float[np.ndarray, "3"]) -> Any:
    """A colour over a darkened, colourless image, as strong as its share."""
    grey = np.repeat(image.mean(-1, keepdims=True), 3, axis=-1) * 0.6
    return grey * (1 - share) + colour * share


def _row(tiles: list[tuple[str, Any]], width: int) -> UInt8[np.ndarray, "height total 3"]:
    """Tiles beside each other, names above, white where a row is short."""
    size = tiles[0][1].shape[0]
    out = np.full((size + _LABEL + _GAP, width * (size + _GAP) - _GAP, 3), 255, np.uint8)
    for i, (name, tile) in enumerate(tiles):
        left = i * (size + _GAP)
        out[_LABEL : _LABEL + size, left : left + size] = (np.clip(tile, 0, 1) * 255 + 0.5).astype(np.uint8)
        _write(out[:_LABEL, left : left + size], name)
    return out


def _write(strip: UInt8[np.ndarray, "h w 3"], text: str) -> None:
    """A name in a white strip, in place."""
    from PIL import Image, ImageDraw

    picture = Image.fromarray(strip)
    ImageDraw.Draw(picture).text((2, 3), text, fill=(0, 0, 0))
    strip[:] = np.asarray(picture)
