"""Portraits turned to the front, table 3 of face-vid2vid: `python -m experiments.frontalisation PEOPLE --models NAME`.

A result is good where the cosine distance of the face descriptors of result and original is at most 0.05, and where the
head's largest angle is at most 15° by an independent solver. The table has the share of either and of both, beside the
picture as it is. The paper's face-recognition and pose networks are others (and its FID is left out): figures here
compare models with each other, not with the paper. See `avfr_jax.metrics.identity` for the network and its caveat.

PEOPLE are pictures or square videos, of which the frame turned furthest is taken, folders of them, or prepared
datasets. Heads turned by less than `--least` or more than `--most` degrees of yaw are left out: nothing to do, or
nothing to see. Rows are kept in `--output`: the same command resumes. Expected: 60 clips and landmark-warp, four
minutes.
"""

from avfr_jax.interrupts import exit_on_signals

if __name__ == "__main__":  # before the imports, which take a while
    exit_on_signals("experiments.frontalisation", "stopped; measurements in the output folder are kept.")


import argparse
import json
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from avfr_jax.errors import FaceError, InputError
from avfr_jax.faces.analyser import FaceAnalyser, FaceFacts
from avfr_jax.media.files import check_output
from avfr_jax.streams import standard_streams
from experiments.evaluate import COPY
from experiments.free_view import (
    NO_LIMIT,
    Subject,
    TurnableModel,
    add_models,
    analysed,
    facts_of,
    find_subjects,
    likeness,
    mean_of,
    number,
    write_sheet,
)
from experiments.harness import Results, add_output, markdown, progress, run_program, write_text

IDENTITY, ANGLE = 0.05, 15.0
"""Table 3's thresholds: distance of identity, degrees."""
_HEADS = ("model", "identity %", "angle %", "both %", "angle", "identity", "cosine distance", "no face")


def turned_frame(analyser: FaceAnalyser, least: float, most: float) -> Callable[[list[np.ndarray]], int | None]:
    """Choose the frame with the largest yaw of at most `most` degrees; None where that is below `least`."""

    def choose(frames: list[np.ndarray]) -> int | None:
        yaws = [0.0 if face is None else abs(face.pose.yaw) for face in analyser.analyse(frames)]
        allowed = [yaw if yaw <= most else 0.0 for yaw in yaws]
        at = int(np.argmax(allowed))
        return at if allowed[at] >= least else None

    return choose


def largest_angle(face: FaceFacts) -> float:
    """The largest of yaw, pitch and roll, in degrees."""
    return max(abs(face.pose.yaw), abs(face.pose.pitch), abs(face.pose.roll))


def judged(face: FaceFacts | None, original: FaceFacts) -> dict[str, float]:
    """Figures of a result; empty without a face."""
    if face is None:
        return {}
    return {"angle": largest_angle(face), "yaw": face.pose.yaw} | likeness(face, original)


def measure(model: TurnableModel, subject: Subject, limit: float | None, analyser: FaceAnalyser) -> dict[str, Any]:
    """The rows of the picture as it is and of the result, and both pictures. FaceError without a face."""
    portrait = model.portrait(subject)
    (output,), _ = model.turn(portrait, [(0.0, 0.0, 0.0)], "absolute", limit)
    source: np.ndarray = portrait.frame.image
    original = analysed(analyser, source, subject.name)
    (face,) = analyser.analyse([output])
    return {"original": judged(original, original), "result": judged(face, original), "pictures": (source, output)}


def shares(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Table 3's percentages, and means; a result without a face is not good in either respect."""
    identity = [row.get("cosine_distance", 9.0) <= IDENTITY for row in rows]
    angle = [row.get("angle", 999.0) <= ANGLE for row in rows]
    seen = [row for row in rows if row]
    both = [a and b for a, b in zip(identity, angle, strict=True)]
    return {
        "identity_share": 100 * mean_of(identity),
        "angle_share": 100 * mean_of(angle),
        "both_share": 100 * mean_of(both),
        "no_face": float(len(rows) - len(seen)),
    } | {key: mean_of([row[key] for row in seen]) for key in ("angle", "identity", "cosine_distance")}


def report(figures: dict[str, dict[str, float]], count: int, networks: str) -> str:
    """The table, in Markdown."""
    keys = (("identity_share", 1), ("angle_share", 1), ("both_share", 1), ("angle", 1), ("identity", 3),
            ("cosine_distance", 3), ("no_face", 0))  # fmt: skip
    table = [[name, *(number(own[key], digits) for key, digits in keys)] for name, own in figures.items()]
    return f"{count} people; {networks}\n\n{markdown(_HEADS, table)}"


def run(options: argparse.Namespace) -> None:
    """Measure, print the table and write it.

    Raises:
      AvfrError: bad pictures or models.
    """
    from avfr_jax.media.image import read_image

    models = [TurnableModel(name) for name in options.models]
    if options.sheet is not None:
        check_output(options.sheet, overwrite=True)
    results, limit = Results(options.output), NO_LIMIT if options.no_limit else None
    rows: dict[str, dict[str, dict[str, float]]] = {name: {} for name in (COPY, *options.models)}
    strips = []
    with FaceAnalyser() as analyser:
        choose = turned_frame(analyser, options.least, options.most)
        found = find_subjects(options.subjects, choose)
        subjects = [subject for subject in found if choose([subject.picture]) is not None]
        if not subjects:
            raise InputError(f"Nobody's head is turned by {options.least:g} to {options.most:g} degrees.")
        for count, subject in enumerate(subjects):
            for model in models:
                try:
                    row, picture = _row(results, model, subject, limit, analyser)
                except FaceError as error:
                    progress("")
                    print(f"{subject.name} is left out of {model.name}: {error}", file=sys.stderr)
                    continue
                rows[COPY][subject.name] = row["original"]
                rows[model.name][subject.name] = row["result"]
                strips.append(picture)
            progress(f"{count + 1}/{len(subjects)} {subject.name}")
        networks = analyser.description
    progress("")
    if not rows[COPY]:
        raise FaceError("No face was found in any picture: give portraits in which one is in view.")
    figures = {name: shares(list(own.values())) for name, own in rows.items() if own}
    text = report(figures, len(rows[COPY]), networks)
    write_text(options.output / "frontalisation.md", text + "\n")
    write_text(options.output / "frontalisation.json", json.dumps({"summary": figures, "rows": rows}, indent=1))
    if options.sheet is not None:
        write_sheet(options.sheet, [read_image(path) for path in strips])
    print(text)


def _row(
    results: Results, model: TurnableModel, subject: Subject, limit: float | None, analyser: FaceAnalyser
) -> tuple[dict[str, Any], pathlib.Path]:
    """A row from the folder, else measured, and the file of its pictures: source and result."""
    from avfr_jax.media.image import write_image

    key = (f"{subject.name}-{model.name}-front", facts_of(subject, analyser, *model.facts, limit))
    row, picture = results.find(*key), results.path(*key, ".png")
    if row is None or not picture.is_file():
        row = measure(model, subject, limit, analyser)
        write_image(picture, np.concatenate(row.pop("pictures"), axis=1), overwrite=True)
        results.add(*key, row)
    return row, picture


@standard_streams("experiments.frontalisation")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.frontalisation",
        description="Turn portraits to the front; share of results with the same identity and a frontal pose.",
        epilog="example:\n  python -m experiments.frontalisation clips/ --models landmark-warp --no-limit",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_models(parser)
    add_output(parser, "runs/frontalisation")
    parser.add_argument("--least", type=float, default=15.0, help="yaw of the sources in degrees; default: %(default)g")
    parser.add_argument("--most", type=float, default=45.0, help="see --least; default: %(default)g")
    options = parser.parse_args(argv)
    return run_program(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
