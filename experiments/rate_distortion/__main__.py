"""Video codecs on talking heads, measured: `python -m experiments.rate_distortion CLIPS --output runs/rates`.

Every codec codes every clip at every point of its curve, what comes back is compared with what went in as
`experiments.evaluate` does, and the bytes are counted. The folder keeps each point measured: the same command goes on
where it was stopped, and a further codec is measured beside those there are.
"""

import argparse
import pathlib
import sys
import time
from collections.abc import Sequence

import numpy as np

from avfr_jax.errors import ConfigError, MissingBackendError, OutputError
from avfr_jax.media.files import check_output
from experiments.evaluate import Clip, Reference, find_clips
from experiments.program import run_program
from experiments.rate_distortion import plots, report
from experiments.rate_distortion.base import VideoCodec
from experiments.rate_distortion.measure import Points, Record, open_networks
from experiments.rate_distortion.papers import PRESETS, Preset
from experiments.rate_distortion.registry import CODECS, ON_REQUEST, open_codecs

ANCHOR = "x265"


def measure(
    clips: Sequence[Clip], codecs: Sequence[VideoCodec], points: Points, size: int, seconds: float, *, sound: bool
) -> list[Record]:
    """Every point on every clip at one size, a clip after the other; what is in the folder already is read there."""
    records: list[Record] = []
    for number, clip in enumerate(clips):
        frames = clip.read(seconds, size)
        heard = clip.sound() if sound else None
        audio = None if heard is None else heard[: len(frames) * 16000 // 25]
        reference = None
        for codec in codecs:
            record = points.find(codec, clip.name, frames, audio)
            start = time.perf_counter()
            if record is None:
                reference = reference or Reference(frames, with_points=False)
                record = points.measure(codec, clip.name, reference, audio)
            took = time.perf_counter() - start
            where = f"{size} x {size}, clip {number + 1}/{len(clips)} {clip.name}, {codec.name} {codec.point}"
            print(f"\r{where}: {record.figures['kbps']:.1f} kbit/s, {took:.0f} s\033[K", end="", file=sys.stderr)
            sys.stderr.flush()
            records.append(record)
    print(file=sys.stderr)
    return _by_codec(records, codecs)


def _by_codec(records: Sequence[Record], codecs: Sequence[VideoCodec]) -> list[Record]:
    order = {(codec.name, codec.point): index for index, codec in enumerate(codecs)}
    return sorted(records, key=lambda r: order[r.codec, r.point])


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.rate_distortion",
        description="Code clips of talking heads with several codecs and measure what is left of them, at which rate.",
        epilog="example: python -m experiments.rate_distortion clips/ --codecs copy,x265,av1:63+50 --seconds 5",
    )
    parser.add_argument(
        "clips", nargs="+", type=pathlib.Path, help="square videos, folders of them, or prepared datasets"
    )
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        default=pathlib.Path("runs/rate_distortion"),
        help="folder of the points, tables and plots; goes on with what is there; default: runs/rate_distortion",
    )
    parser.add_argument(
        "--codecs",
        help=f"of {', '.join(CODECS)}, separated by commas; NAME:POINT+POINT for some points of one; "
        f"default: all but {' and '.join(ON_REQUEST)}",
    )
    parser.add_argument(
        "--preset", choices=list(PRESETS), help="codecs and sizes of a table of the paper, and its rows"
    )
    parser.add_argument("--size", help="pixels of a side, or several separated by commas; default: 256")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each clip; default: 5")
    parser.add_argument("--anchor", help=f"codec that the others' BD-rates refer to; default: {ANCHOR}")
    parser.add_argument("--audio", action="store_true", help="the sound as well, counted apart")
    return parser.parse_args(argv)


def _sizes(text: str | None, preset: Preset | None) -> tuple[int, ...]:
    """Even numbers of pixels that every rival takes."""
    if text is None:
        return preset.sizes if preset else (256,)
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if not word.isdecimal() or int(word) % 2 or not 64 <= int(word) <= 4096:
            raise ConfigError(f"--size {word!r} is not an even number of pixels from 64 to 4096.")
    return tuple(dict.fromkeys(map(int, words)))


def _anchor(given: str | None, codecs: Sequence[VideoCodec]) -> str | None:
    """The codec that others are compared with, or None where the usual one is not measured."""
    names = {codec.name for codec in codecs}
    if given is not None and given not in names:
        raise ConfigError(f"--anchor {given} is not among the codecs measured: {', '.join(sorted(names))}.")
    return given or (ANCHOR if ANCHOR in names else None)


def _folder(path: pathlib.Path) -> pathlib.Path:
    """The folder of the points, made if need be."""
    try:
        (path / "points").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path} cannot be made a folder ({error.strerror}): choose another --output.") from None
    check_output(path / "results.json", overwrite=True)
    return path / "points"


def _show(folder: pathlib.Path, records: Sequence[Record], preset: Preset | None, anchor: str | None) -> None:
    """Tables of one size to stdout, and its plots."""
    size, clips = records[0].size, len({r.clip for r in records})
    print(f"\n{size} x {size} pixels, mean of {clips} clip{'s' if clips > 1 else ''}\n")
    print(report.markdown(records, preset))
    if anchor:
        found, sentences = report.comparable(report.differences(records, anchor), anchor)
        if found:
            print(f"\n{report.bd_markdown(found, anchor, clips)}")
        for sentence in sentences:
            print(sentence, file=sys.stderr)
    try:
        plots.draw(folder / f"curves-{size}.png", records, preset.rows if preset else ())
    except MissingBackendError as error:
        print(error, file=sys.stderr)


def run(options: argparse.Namespace) -> None:
    """Measure, then write and print.

    Raises:
      AvfrError: bad clips, codecs, sizes or output folder.
    """
    preset = PRESETS[options.preset] if options.preset else None
    sizes = _sizes(options.size, preset)
    if not (np.isfinite(options.seconds) and options.seconds > 0):
        raise ConfigError(f"--seconds {options.seconds} is not a length of time.")
    words = options.codecs.split(",") if options.codecs else preset.codecs if preset else ()
    codecs, left_out = open_codecs([word.strip() for word in words])
    anchor = _anchor(options.anchor, codecs)
    clips = find_clips(options.clips)
    points = _folder(options.output)
    networks, without = open_networks()
    left_out += without
    for sentence in left_out:
        print(sentence, file=sys.stderr)
    kept, records = Points(points, networks), []
    for size in sizes:
        here = measure(clips, codecs, kept, size, options.seconds, sound=options.audio)
        _show(options.output, here, preset, anchor)
        records += here
    facts = {"seconds": options.seconds, "left_out": left_out, "preset": options.preset}
    report.write_json(options.output / "results.json", facts, records, anchor)
    report.write_csv(options.output / "results.csv", records)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    options = _arguments(argv)
    return run_program(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
