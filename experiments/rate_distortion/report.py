"""Tables of measured points: means over clips, Bjøntegaard rates, the papers' rows, and files."""

import csv
import dataclasses
import io
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from avfr_jax.metrics.rate import bd_quality, bd_rate
from experiments.harness import markdown as markdown_table
from experiments.harness import write_text
from experiments.rate_distortion.measure import MEASURES, Measure, Record
from experiments.rate_distortion.papers import PaperRow, Preset

ARROWS = {"higher": " ↑", "lower": " ↓", "": ""}
COMPARED = tuple(measure for measure in MEASURES if measure.better)
Means = dict[tuple[str, str], dict[str, float]]


def means(records: Sequence[Record]) -> Means:
    """Figures of each codec and point: means over the clips that have them.

    Landmark distances are means over clips with a detected face; `missed` is the share of frames without one.
    """
    grouped: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        grouped.setdefault((record.codec, record.point), []).append(record)
    return {
        key: {
            m.key: float(np.mean([r.figures[m.key] for r in group if m.key in r.figures]))
            for m in MEASURES
            if any(m.key in r.figures for r in group)
        }
        for key, group in grouped.items()
    }


@dataclasses.dataclass(frozen=True)
class Difference:
    """A codec against the anchor in one measure.

    Attributes:
      rate: BD-rate in per cent, the mean over clips; negative: fewer bits than the anchor. None: no clip has one.
      quality: difference of the measure itself at equal rate, with its own sign.
      clips: number of clips with both curves over a common range.
      why_not: reason for the first of the other clips.
    """

    rate: float | None
    quality: float | None
    clips: int
    why_not: str = ""


def differences(records: Sequence[Record], anchor: str) -> dict[str, dict[str, Difference]]:
    """BD-rates against the anchor by codec and measure: means over clips."""
    names = dict.fromkeys(r.codec for r in records if r.codec != anchor and r.figures["kbps"] > 0)
    keys = [m for m in COMPARED if any(m.key in r.figures for r in records)]
    return {name: {m.key: _difference(records, anchor, name, m) for m in keys} for name in names}


def comparable(
    rates: Mapping[str, Mapping[str, Difference]], anchor: str
) -> tuple[dict[str, Mapping[str, Difference]], list[str]]:
    """Codecs with a BD-rate in some measure, and a sentence for each other one."""
    kept = {codec: row for codec, row in rates.items() if any(d.rate is not None for d in row.values())}
    reasons = {codec: next(iter(row.values())).why_not for codec, row in rates.items() if codec not in kept}
    return kept, [f"There is no BD-rate of {codec} against {anchor}: {why}." for codec, why in reasons.items()]


def _difference(records: Sequence[Record], anchor: str, codec: str, measure: Measure) -> Difference:
    sign = 1 if measure.better == "higher" else -1
    rates, qualities, why_not = [], [], ""
    for clip in dict.fromkeys(r.clip for r in records):
        curves: list[list[float]] = []
        for name in (anchor, codec):
            points = [r.figures for r in records if (r.clip, r.codec) == (clip, name) and measure.key in r.figures]
            curves += [[p["kbps"] for p in points], [sign * p[measure.key] for p in points]]
        try:
            rates.append(bd_rate(*curves))
            qualities.append(sign * bd_quality(*curves))
        except ValueError as error:
            why_not = why_not or f"{clip}: {error}"
    if not rates:
        return Difference(None, None, 0, why_not)
    return Difference(float(np.mean(rates)), float(np.mean(qualities)), len(rates), why_not)


def markdown(records: Sequence[Record], preset: Preset | None = None) -> str:
    """Format the means over clips as a table, with the paper's marked rows below."""
    averages = means(records)
    paper = preset.rows if preset else ()
    # Measures that most codecs lack are left out.
    shown = [m for m in MEASURES if any(m.key in row for row in averages.values())]
    heads = ["codec", *(f"{m.title}{ARROWS[m.better]}" for m in shown), *(["FID ↓"] if paper else [])]
    rows = [
        [f"{codec} {point}", *(format(row[m.key], m.form) if m.key in row else "-" for m in shown)]
        + (["-"] if paper else [])
        for (codec, point), row in averages.items()
    ]
    text = markdown_table(heads, rows + [_paper_row(row, shown) for row in paper])
    if paper:
        text += "\n\n† The paper's figures, measured on another dataset, VoxCeleb's test videos."
    return text


def _paper_row(row: PaperRow, shown: Sequence[Measure]) -> list[str]:
    known = {name: value for name, value in dataclasses.asdict(row).items() if isinstance(value, float)}
    cells = [format(known[m.key], m.form) if m.key in known else "-" for m in shown]
    return [f"† {row.name}", *cells, f"{row.fid:.2f}"]


def bd_markdown(rates: Mapping[str, Mapping[str, Difference]], anchor: str, clips: int) -> str:
    """Format BD-rates and the PSNR gain at equal rate as a table; cells of fewer clips than all state their number."""
    keys = [m for m in COMPARED if any(m.key in row for row in rates.values())]
    rows = []
    for codec, row in rates.items():
        cells = [_cell(row[m.key].rate, "+.1f", " %", row[m.key].clips, clips) for m in keys]
        cells.append(_cell(row["psnr"].quality, "+.2f", "", row["psnr"].clips, clips) if "psnr" in row else "-")
        rows.append([codec, *cells])
    heads = [f"against {anchor}", *(f"rate at equal {m.title}" for m in keys), "PSNR dB at equal rate"]
    return markdown_table(heads, rows)


def _cell(value: float | None, form: str, unit: str, have: int, clips: int) -> str:
    if value is None:
        return "-"
    return format(value, form) + unit + (f" ({have} of {clips} clips)" if have < clips else "")


def write_json(path: pathlib.Path, facts: Mapping[str, Any], records: Sequence[Record], anchor: str | None) -> None:
    """Write every clip's figures and bytes by kind, the means and the differences, by size."""
    sizes: dict[str, Any] = {}
    for size in dict.fromkeys(r.size for r in records):
        here = [r for r in records if r.size == size]
        against = differences(here, anchor) if anchor else {}
        sizes[str(size)] = {
            "clips": [dataclasses.asdict(r) for r in here],
            "mean": [{"codec": codec, "point": point, **row} for (codec, point), row in means(here).items()],
            "bd": {c: {k: dataclasses.asdict(d) for k, d in row.items()} for c, row in against.items()},
        }
    write_text(path, json.dumps({**facts, "anchor": anchor, "sizes": sizes}, indent=1))


def write_csv(path: pathlib.Path, records: Sequence[Record]) -> None:
    """Write a line per size, codec, point and clip, and one of the mean over clips; missing figures are empty."""
    kinds = list(dict.fromkeys(kind for r in records for kind in r.kinds))
    keys = [m.key for m in MEASURES]
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(["size", "codec", "point", "clip", *keys, *(f"{kind}_bytes" for kind in kinds)])
    for size in dict.fromkeys(r.size for r in records):
        here = [r for r in records if r.size == size]
        for r in here:
            cells = [r.figures.get(k, "") for k in keys] + [r.kinds.get(k, "") for k in kinds]
            out.writerow([size, r.codec, r.point, r.clip, *cells])
        for (codec, point), row in means(here).items():
            out.writerow([size, codec, point, "mean", *(row.get(k, "") for k in keys), *("" for _ in kinds)])
    write_text(path, text.getvalue())
