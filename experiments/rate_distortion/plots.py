"""Each measure against the rate, as in the paper's figure 3.3: one panel a measure, one line a codec."""

import pathlib
from collections.abc import Sequence
from typing import Any

from experiments.harness import FPS, new_figure, save_figure
from experiments.rate_distortion.measure import Measure, Record
from experiments.rate_distortion.papers import PaperRow
from experiments.rate_distortion.report import ARROWS, COMPARED, Means, means

# Okabe and Ito's colours, safe for colour-blind readers; one per codec.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKS = "os^Dv<>"


def plot(path: pathlib.Path, records: Sequence[Record], paper: Sequence[PaperRow] = ()) -> None:
    """Plot the means over clips against bits per pixel (kbit/s above) on a logarithmic axis, as PNG.

    Codecs that send nothing are dashed lines; the paper's rows are hollow diamonds.

    Raises:
      MissingBackendError: matplotlib is not installed.
      OutputError: the file cannot be written.
    """
    averages, size = means(records), records[0].size
    measures = [m for m in COMPARED if any(m.key in row for row in averages.values())]
    across = -(-len(measures) // 2)  # two rows
    figure = new_figure(3.6 * across, 7)
    for index, measure in enumerate(measures):
        axes = figure.add_subplot(2, across, index + 1)
        _panel(axes, averages, measure, paper)
        _rate_axes(axes, size * size * FPS / 1000)
    lines = {str(line.get_label()): line for axes in figure.axes for line in axes.get_lines()}
    figure.legend(list(lines.values()), list(lines), loc="outside lower center", ncols=8, frameon=False)
    clips = len({r.clip for r in records})
    figure.suptitle(f"{size} x {size}, mean of {clips} clip{'s' if clips > 1 else ''}")
    save_figure(figure, path)


def _panel(axes: Any, averages: Means, measure: Measure, paper: Sequence[PaperRow]) -> None:
    names = list(dict.fromkeys(codec for codec, _ in averages))
    for index, name in enumerate(names):
        points = [row for (codec, _), row in averages.items() if codec == name and measure.key in row]
        colour, mark = _COLOURS[index % len(_COLOURS)], _MARKS[index % len(_MARKS)]
        sent = sorted((row["bpp"], row[measure.key]) for row in points if row["bpp"] > 0)
        if sent:
            axes.plot(*zip(*sent, strict=True), color=colour, marker=mark, markersize=4, label=name)
        for row in points:
            if row["bpp"] == 0:
                axes.axhline(row[measure.key], color="0.5", linestyle="--", linewidth=1, label=name)
    known = [(r.bpp, getattr(r, measure.key, None)) for r in paper if r.bpp]
    known = [(bpp, value) for bpp, value in known if value is not None]
    if known:
        axes.plot(*zip(*known, strict=True), "D", color="0.4", fillstyle="none", label="paper (VoxCeleb)")
    axes.set_ylabel(f"{measure.title}{ARROWS[measure.better]}")
    axes.grid(alpha=0.3)


def _rate_axes(axes: Any, factor: float) -> None:
    """Bits per pixel below, and kbit/s, `factor` times as many, above."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    above = axes.secondary_xaxis("top", functions=(lambda x: x * factor, lambda x: x / factor))
    for axis, name in ((axes.xaxis, "bits per pixel"), (above.xaxis, "kbit/s")):
        axis.set_label_text(name)
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axis.set_minor_formatter(NullFormatter())
