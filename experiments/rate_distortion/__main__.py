"""Rate-distortion measurements: `python -m experiments.rate_distortion CLIPS --output runs/rates`.

Every codec codes every clip at every point of its curve; the output is compared with the clip as in
`experiments.evaluate`, and the bytes are counted. The folder keeps each point: the same command resumes, and further
codecs are added to the measured ones.
"""

from avfr_jax.interrupts import exit_on_signals

if __name__ == "__main__":  # before the imports, which take a while
    exit_on_signals("experiments.rate_distortion", "stopped; measurements in the output folder are kept.")


import argparse
import pathlib
import sys
import time
from collections.abc import Sequence

from avfr_jax.errors import ConfigError, MissingBackendError
from avfr_jax.media.files import check_output
from avfr_jax.streams import standard_streams
from experiments.evaluate import Reference
from experiments.harness import (
    FPS,
    SOUND_RATE,
    Clip,
    Results,
    add_clips,
    add_output,
    check_seconds,
    find_clips,
    progress,
    run_program,
)
from experiments.rate_distortion import plots, report
from experiments.rate_distortion.base import VideoCodec
from experiments.rate_distortion.measure import Measurements, Record, open_networks
from experiments.rate_distortion.papers import PRESETS, Preset
from experiments.rate_distortion.registry import CODECS, ON_REQUEST, open_codecs

ANCHOR = "x265"


def measure(
    clips: Sequence[Clip], codecs: Sequence[VideoCodec], stored: Measurements, size: int, seconds: float, *, sound: bool
) -> list[Record]:
    """Measure every point on every clip at one size, or read it from the stored results; ordered by codec."""
    records: list[Record] = []
    for number, clip in enumerate(clips):
        frames = clip.read(seconds, size)
        whole = clip.sound() if sound else None
        audio = None if whole is None else whole[: len(frames) * SOUND_RATE // FPS]
        reference = None
        for codec in codecs:
            start, record = time.perf_counter(), stored.find(codec, clip.name, frames, audio)
            if record is None:
                reference = reference or Reference(frames, with_points=False)
                record = stored.measure(codec, clip.name, reference, audio)
            place = f"{size} x {size}, clip {number + 1}/{len(clips)} {clip.name}, {codec.name} {codec.point}"
            progress(f"{place}: {record.figures['kbps']:.1f} kbit/s, {time.perf_counter() - start:.0f} s")
            records.append(record)
    progress("")
    order = {(codec.name, codec.point): index for index, codec in enumerate(codecs)}
    return sorted(records, key=lambda r: order[r.codec, r.point])


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.rate_distortion",
        description="Code clips of talking heads with several codecs and measure rate and distortion.",
        epilog="example:\n  python -m experiments.rate_distortion clips/ --codecs copy,x265,av1:63+50 --seconds 5",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_clips(parser, seconds=5.0)
    add_output(parser, "runs/rate_distortion")
    parser.add_argument(
        "--codecs",
        help=f"of {', '.join(CODECS)}, separated by commas; NAME:POINT+POINT for some points of one; "
        f"default: all but {' and '.join(ON_REQUEST)}",
    )
    parser.add_argument(
        "--preset", choices=list(PRESETS), help="codecs and sizes of a table of the paper, and its rows"
    )
    parser.add_argument("--size", help="pixels of a side, or several separated by commas; default: 256")
    parser.add_argument("--anchor", help=f"reference codec of the BD-rates; default: {ANCHOR}")
    parser.add_argument("--audio", action="store_true", help="code the sound too, counted separately")
    return parser.parse_args(argv)


def _sizes(text: str | None, preset: Preset | None) -> tuple[int, ...]:
    """Parse sizes: even numbers of pixels, as every codec needs."""
    if text is None:
        return preset.sizes if preset else (256,)
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if not word.isdecimal() or int(word) % 2 or not 64 <= int(word) <= 4096:
            raise ConfigError(f"--size {word!r} is not an even number of pixels from 64 to 4096.")
    return tuple(dict.fromkeys(map(int, words)))


def _anchor(given: str | None, codecs: Sequence[VideoCodec]) -> str | None:
    """Reference codec of the BD-rates, or None where the default one is not measured."""
    names = {codec.name for codec in codecs}
    if given is not None and given not in names:
        raise ConfigError(f"--anchor {given} is not among the codecs measured: {', '.join(sorted(names))}.")
    return given or (ANCHOR if ANCHOR in names else None)


def _report(folder: pathlib.Path, records: Sequence[Record], preset: Preset | None, anchor: str | None) -> None:
    """Print the tables of one size and plot its curves."""
    size, clips = records[0].size, len({r.clip for r in records})
    print(f"\n{size} x {size} pixels, mean of {clips} clip{'s' if clips > 1 else ''}\n")
    print(report.markdown(records, preset))
    if anchor:
        rows, sentences = report.comparable(report.differences(records, anchor), anchor)
        if rows:
            print(f"\n{report.bd_markdown(rows, anchor, clips)}")
        for sentence in sentences:
            print(sentence, file=sys.stderr)
    try:
        plots.plot(folder / f"curves-{size}.png", records, preset.rows if preset else ())
    except MissingBackendError as error:
        print(error, file=sys.stderr)


def run(options: argparse.Namespace) -> None:
    """Measure, then write and print.

    Raises:
      AvfrError: bad clips, codecs, sizes or output folder.
    """
    preset = PRESETS[options.preset] if options.preset else None
    sizes = _sizes(options.size, preset)
    check_seconds(options.seconds)
    words = options.codecs.split(",") if options.codecs else preset.codecs if preset else ()
    codecs, left_out = open_codecs([word.strip() for word in words])
    anchor = _anchor(options.anchor, codecs)
    clips = find_clips(options.clips)
    results = Results(options.output / "points")
    check_output(options.output / "results.json", overwrite=True)
    networks, missing = open_networks()
    left_out += missing
    for sentence in left_out:
        print(sentence, file=sys.stderr)
    stored, records = Measurements(results, networks), []
    for size in sizes:
        here = measure(clips, codecs, stored, size, options.seconds, sound=options.audio)
        _report(options.output, here, preset, anchor)
        records += here
    facts = {"seconds": options.seconds, "left_out": left_out, "preset": options.preset}
    report.write_json(options.output / "results.json", facts, records, anchor)
    report.write_csv(options.output / "results.csv", records)


@standard_streams("experiments.rate_distortion")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _arguments(argv)
    return run_program(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
