"""Published rows on video calls, and the codecs to measure beside them.

"Compressing video calls using talking heads" (BMVC 2022; thesis, chapter 3), tables 3.1 to 3.4. All were measured on
VoxCeleb: their order can be compared with measurements here, not their size. Bits are counted over the pixels shown: by
the arithmetic of the keypoints 256 x 256 in table 3.1, and 512 x 512 in its last row and the other tables. The size at
which x264 and x265 ran at CRF 51, the coarsest, is not stated, hence both.
"""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class PaperRow:
    """A published row; None where the table has no such column."""

    name: str
    psnr: float
    ssim: float
    fid: float
    bpp: float | None = None


@dataclasses.dataclass(frozen=True)
class Preset:
    """A table of the paper.

    Attributes:
      title: subject of the comparison.
      rows: published figures.
      codecs: to measure beside them, for `registry.open_codecs`.
      sizes: pixels of a side.
    """

    title: str
    rows: tuple[PaperRow, ...]
    codecs: tuple[str, ...]
    sizes: tuple[int, ...] = (256, 512)


_RIVALS = ("copy", "x264:51", "x265:51")

PRESETS: Mapping[str, Preset] = {
    "table3.1": Preset(
        "codecs",
        (
            PaperRow("FOMM", 26.81, 0.79, 26.81, 0.029),
            PaperRow("Face-vid2vid", 24.37, 0.80, 25.19, 0.016),
            PaperRow("H.264, CRF 51", 30.25, 0.78, 67.54, 0.0057),
            PaperRow("H.265, CRF 51", 30.74, 0.80, 48.20, 0.0039),
            PaperRow("keypoints", 24.48, 0.78, 20.58, 0.0097),
            PaperRow("keypoints, interpolation", 24.21, 0.78, 23.03, 0.0048),
            PaperRow("keypoints, interpolation, super-resolution", 26.73, 0.81, 27.81, 0.0012),
        ),
        (*_RIVALS, "avfr-table3.1"),
    ),
    "table3.2": Preset(
        "interpolated frames between two that are sent",
        (
            PaperRow("none", 29.28, 0.83, 9.10, 0.0024),
            PaperRow("1", 28.49, 0.82, 12.42, 0.0012),
            PaperRow("2", 28.23, 0.81, 12.77, 0.0008),
            PaperRow("3", 27.73, 0.79, 12.92, 0.0006),
        ),
        (*_RIVALS, "avfr-table3.2"),
        sizes=(512,),
    ),
    "table3.3": Preset(
        "patches of the super-resolution",
        (
            PaperRow("128 pixels", 27.37, 0.81, 19.12),
            PaperRow("64 pixels", 27.47, 0.80, 20.16),
            PaperRow("32 pixels", 26.18, 0.79, 20.89),
            PaperRow("16 pixels", 25.34, 0.78, 21.17),
        ),
        (*_RIVALS, "avfr-table3.3"),
        sizes=(512,),
    ),
    "table3.4": Preset(
        "thresholds of adaptive pivots, whose frames count",
        (
            PaperRow("background 0.05", 27.37, 0.81, 19.12, 0.0029),
            PaperRow("background 0.06", 25.93, 0.77, 20.74, 0.0021),
            PaperRow("background 0.07", 24.72, 0.73, 23.17, 0.0016),
            PaperRow("angle 15°", 25.28, 0.75, 22.46, 0.0049),
            PaperRow("angle 30°", 24.02, 0.71, 26.63, 0.0031),
            PaperRow("angle 45°", 23.76, 0.70, 26.93, 0.0018),
        ),
        (*_RIVALS, "avfr-table3.4"),
        sizes=(512,),
    ),
}
