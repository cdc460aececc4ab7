"""Wide-gamut and high-dynamic-range video to 8-bit BT.709 RGB, as an ordinary display shows it."""

import dataclasses
import functools
import itertools
from fractions import Fraction
from typing import Any, Literal

import av
import av.error
import av.filter
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from avfr_jax.interrupts import scratch_folder
from avfr_jax.media.primaries import HDR_TRANSFERS, rgb_to_xyz
from avfr_jax.typing import Float, UInt8

SCALER = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
REFERENCE_WHITE = 203.0
"""cd/m² of white in HDR video (ITU-R BT.2408, table 1): SDR white."""
_PEAK = 1000.0
"""cd/m² of the brightest highlights that keep a level of their own: HLG's nominal peak, and what phones master to."""
_KNEE = 125.0
"""cd/m² up to which light is kept; above, up to `_PEAK`, it is compressed into the upper fifth of the levels."""
_GAMMA = 2.4
"""Exponent of an SDR display (ITU-R BT.1886)."""
_LEVELS = 33
"""Entries of the colour table along each of its three axes: 0.6 of 255 from the exact conversion in the mean."""
_UNSPECIFIED = (2, 3)  # AVCOL_SPC_UNSPECIFIED, _RESERVED

Transfer = Literal["sdr", "pq", "hlg"]


@dataclasses.dataclass(frozen=True)
class Colour:
    """The transfer function and primaries of a video.

    Attributes:
        transfer: `pq` (SMPTE ST 2084), `hlg` (ARIB STD-B67), or `sdr` for any other.
        primaries: `bt2020`, `p3`, or `bt709` for any other: those of standard definition are close to it.
    """

    transfer: Transfer = "sdr"
    primaries: str = "bt709"

    @classmethod
    def of(cls, context: Any) -> "Colour":
        """The colour of a stream by its codec context, once a frame is decoded. HDR without primaries is BT.2020."""
        transfer: Transfer = HDR_TRANSFERS.get(int(context.color_trc or 0), "sdr")
        known = {9: "bt2020", 11: "p3", 12: "p3"}  # AVCOL_PRI_BT2020, _SMPTE431, _SMPTE432
        primaries = int(context.color_primaries or 0)
        if transfer != "sdr" and primaries in (0, 2):  # AVCOL_PRI_UNSPECIFIED
            return cls(transfer, "bt2020")
        return cls(transfer, known.get(primaries, "bt709"))

    @property
    def is_bt709(self) -> bool:
        """Whether RGB values can be shown as they are."""
        return self == Colour()


class RgbConverter:
    """Decoded frames to uint8 RGB of a given size, by the frame's matrix and range and the video's colour.

    Args:
        colour: of the video.
        width, height: of the result.
        interpolation: FFmpeg's, for scaling and for chroma.
    """

    def __init__(self, colour: Colour, width: int, height: int, interpolation: Any) -> None:
        self._colour, self._size, self._interpolation = colour, (width, height), interpolation
        self._reformatter = VideoReformatter()
        self._table: tuple[Any, Any, Any] | None = None

    def __call__(self, frame: Any) -> UInt8[np.ndarray, "h w 3"]:
        """Raises av.error.FFmpegError or ValueError for a pixel format that cannot be converted."""
        if self._colour.is_bt709:
            return self._reformat(frame, "rgb24").to_ndarray()
        rgb = self._reformat(frame, "gbrp16le")
        if self._table is None:
            self._table = _table_graph(self._colour, rgb)
        first, last, _ = self._table
        first.push(rgb)
        return last.pull().to_ndarray()

    def _reformat(self, frame: Any, pixels: str) -> Any:
        matrix = None
        if frame.colorspace in _UNSPECIFIED:
            if self._colour.primaries == "bt2020":
                matrix = Colorspace.BT2020
            else:
                matrix = Colorspace.ITU709 if frame.height >= 720 else Colorspace.ITU601
        return self._reformatter.reformat(
            frame,
            width=self._size[0],
            height=self._size[1],
            format=pixels,
            src_colorspace=matrix,
            dst_color_range=ColorRange.JPEG,
            interpolation=self._interpolation,
        )


def to_bt709(signal: Float[np.ndarray, "*n 3"], colour: Colour) -> Float[np.ndarray, "*n 3"]:
    """Full-range R'G'B' signal in [0, 1] as BT.709 R'G'B' in [0, 1] for a display of gamma 2.4.

    Light up to `_KNEE` is kept, `REFERENCE_WHITE` being SDR white; above it max(R, G, B) is compressed, so that hues
    stay. Colours outside BT.709 are clipped.
    """
    light = _display_light(signal, colour.transfer)
    if colour.transfer != "sdr":
        brightest = light.max(-1, keepdims=True)
        light = light * (_compressed(brightest) / np.maximum(brightest, 1e-6)) / REFERENCE_WHITE
    matrix = np.linalg.inv(rgb_to_xyz("bt709")) @ rgb_to_xyz(colour.primaries)
    return np.clip(light @ matrix.T, 0.0, 1.0) ** (1 / _GAMMA)


def _display_light(signal: Float[np.ndarray, "*n 3"], transfer: Transfer) -> Float[np.ndarray, "*n 3"]:
    """Light of a display: cd/m² for HDR, for SDR a share of its white."""
    if transfer == "pq":
        return _pq_light(signal)
    if transfer == "hlg":  # ITU-R BT.2100, table 5: inverse OETF, then OOTF of a display of 1000 cd/m²
        a = 0.17883277
        b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
        scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
        luminance = scene @ np.array([0.2627, 0.6780, 0.0593])
        return _PEAK * scene * luminance[..., None] ** 0.2
    return signal**_GAMMA


def _compressed(light: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """cd/m² on an SDR display whose white is `REFERENCE_WHITE`: the identity up to `_KNEE`, then a hyperbola in the
    perceptually uniform PQ signal, of slope one at the knee, that ends with `_PEAK` at white."""
    knee, white, peak = (_pq_signal(np.asarray(level)) for level in (_KNEE, REFERENCE_WHITE, _PEAK))
    above = np.clip((_pq_signal(light) - knee) / (peak - knee), 0, 1)
    slope = (peak - knee) / (white - knee)
    signal = knee + (white - knee) * above * slope / (1 + (slope - 1) * above)
    return np.where(light <= _KNEE, light, _pq_light(signal))


def _pq_light(signal: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """cd/m² of a PQ signal (ITU-R BT.2100, table 4)."""
    root = signal ** (32 / 2523)
    return 10000 * (np.maximum(root - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * root)) ** (16384 / 2610)


def _pq_signal(light: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """The inverse of `_pq_light`."""
    power = (light / 10000) ** (2610 / 16384)
    return np.asarray(((107 / 128 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32))


@functools.lru_cache(maxsize=4)
def _cube(colour: Colour) -> str:
    """`to_bt709` as a table in the .cube format, red changing fastest."""
    axis = np.linspace(0.0, 1.0, _LEVELS)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")
    values = to_bt709(np.stack([red, green, blue], -1), colour).reshape(-1, 3).tolist()
    return f"LUT_3D_SIZE {_LEVELS}\n" + "".join(f"{r:.6f} {g:.6f} {b:.6f}\n" for r, g, b in values)


def _table_graph(colour: Colour, frame: Any) -> tuple[Any, Any, Any]:
    """First and last filter, and the graph, that take frames like this one through the colour table to RGB."""
    graph = av.filter.Graph()
    first = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 1000)
    )
    with scratch_folder() as folder:  # FFmpeg reads the table when the graph is configured
        path = folder / "colour.cube"
        path.write_text(_cube(colour))
        filters = [first, graph.add("lut3d", file=str(path)), graph.add("format", pix_fmts="rgb24")]
        filters.append(graph.add("buffersink"))
        for one, following in itertools.pairwise(filters):
            one.link_to(following)
        graph.configure()
    return first, filters[-1], graph
