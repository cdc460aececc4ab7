"""Heads turned by asked angles, measured: `python -m experiments.rotation PEOPLE --models landmark-warp NAME`.

Each portrait is turned about the vertical axis (yaw) and about the axis through the ears (pitch), one at a time, from
its own pose. The measured angle is that of the rotation from the model's rendering of the portrait at 0 to its
rendering at the asked angle, by perspective-n-point on 68 landmarks (`avfr_jax.faces.pose68`), which no model here is
driven by or trained with. The error is the difference about the asked axis. Identity is the distance of dlib's
descriptors (`avfr_jax.metrics.identity`, with its caveat) from the portrait itself; that of the rendering at 0 stands
beside it.

PEOPLE are pictures or square videos (whose first frame with a face is taken), folders of them, or prepared datasets.
Rows are kept in `--output`: the same command resumes. Expected: 30 portraits and landmark-warp, two minutes.
"""

from avfr_jax.interrupts import exit_on_signals

if __name__ == "__main__":  # before the imports, which take a while
    exit_on_signals("experiments.rotation", "stopped; measurements in the output folder are kept.")


import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from avfr_jax.errors import ConfigError, FaceError
from avfr_jax.faces.analyser import FaceAnalyser
from avfr_jax.media.files import check_output
from avfr_jax.streams import standard_streams
from experiments.free_view import (
    NO_LIMIT,
    Angles,
    Subject,
    TurnableModel,
    add_models,
    analysed,
    facts_of,
    find_subjects,
    first_face,
    likeness,
    mean_of,
    number,
    relative_angles,
    write_sheet,
)
from experiments.harness import Results, add_output, markdown, progress, run_program, write_text

INSIDE = 20.0  # degrees: the range in which small models are expected to be right
_AXES = ("yaw", "pitch")
_HEADS = ("model", "views", "no face", "limited", "yaw slope", "pitch slope", "error ≤ 20°", "error", "identity at 0",
          "identity ≤ 20°", "identity", "centred cosine")  # fmt: skip


def asked_angles(yaw: float, pitch: float, count: int) -> list[Angles]:
    """The rest pose, then both axes from −largest to largest in `count` steps to each side.

    Raises:
      ConfigError: angles that are not from 0 to 60, or no step.
    """
    if not (0 < yaw <= 60 and 0 <= pitch <= 60 and count >= 1):
        raise ConfigError("--yaw and --pitch must be degrees up to 60, and --count 1 or more.")
    steps = [i / count for i in range(-count, count + 1) if i]
    pitches = [(0.0, pitch * step, 0.0) for step in steps] if pitch else []
    return [(0.0, 0.0, 0.0), *((yaw * step, 0.0, 0.0) for step in steps), *pitches]


def measure(
    model: TurnableModel, subject: Subject, asked: Sequence[Angles], limit: float | None, analyser: FaceAnalyser
) -> tuple[dict[str, Any], np.ndarray]:
    """The row of one portrait, and its frames side by side.

    Args:
      asked: the rest pose first, see `asked_angles`.
      limit: see `TurnableModel.turn`.

    Raises:
      FaceError: no face in the picture, or in the model's rendering of it at rest.
    """
    portrait = model.portrait(subject)
    frames, limited = model.turn(portrait, asked, limit=limit)
    original = analysed(analyser, portrait.frame.image, subject.name)
    rest = analysed(analyser, frames[0], f"{subject.name} at rest")
    views = []
    for angles, face, short in zip(asked[1:], analyser.analyse(list(frames[1:])), limited[1:], strict=True):
        axis = int(angles[1] != 0)
        view: dict[str, Any] = {"axis": _AXES[axis], "asked": angles[axis], "limited": bool(short)}
        if face is not None:
            turned = relative_angles(face, rest)
            view |= {"measured": turned[axis], "angles": turned} | likeness(face, original)
        views.append(view)
    strip = np.concatenate([portrait.frame.image, *frames], axis=1)
    own = {"yaw": rest.pose.yaw, "pitch": rest.pose.pitch, "roll": rest.pose.roll}
    return {"rest": own | likeness(rest, original), "views": views}, strip


def summary(rows: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Figures of one model over its portraits."""
    views = [view for row in rows.values() for view in row["views"]]
    seen = [view for view in views if "measured" in view]
    near = [view for view in seen if abs(view["asked"]) <= INSIDE + 1e-6]
    figures = {
        "portraits": float(len(rows)),
        "views": float(len(views)),
        "no_face": float(len(views) - len(seen)),
        "limited": float(sum(view["limited"] for view in views)),
    }
    for axis in _AXES:
        own = [view for view in seen if view["axis"] == axis]
        asked, measured = (np.array([view[key] for view in own]) for key in ("asked", "measured"))
        figures[f"{axis}_slope"] = float(asked @ measured / (asked @ asked)) if len(own) else float("nan")
        figures[f"{axis}_error_inside"] = _error([view for view in near if view["axis"] == axis])
        figures[f"{axis}_error"] = _error(own)
    figures |= {"error_inside": _error(near), "error": _error(seen)}
    figures["identity_rest"] = mean_of([row["rest"]["identity"] for row in rows.values()])
    figures["identity_inside"] = mean_of([view["identity"] for view in near])
    figures["identity"] = mean_of([view["identity"] for view in seen])
    figures["centred_cosine"] = mean_of([view["centred_cosine"] for view in seen])
    return figures


def _error(views: Sequence[dict[str, Any]]) -> float:
    return mean_of([abs(view["measured"] - view["asked"]) for view in views])


def by_angle(rows: dict[str, dict[str, Any]]) -> list[list[str]]:
    """For each asked angle the mean and deviation of the measured one, the mean error, and the mean distance of
    identity."""
    views = [view for row in rows.values() for view in row["views"]]
    lines = []
    for axis, asked in sorted({(view["axis"], view["asked"]) for view in views}, key=lambda x: (x[0] == "pitch", x[1])):
        own = [v for v in views if (v["axis"], v["asked"]) == (axis, asked) and "measured" in v]
        measured = [view["measured"] for view in own]
        spread = float(np.std(measured)) if own else float("nan")
        cells = (number(mean_of(measured)), number(spread), number(_error(own)))
        lines.append([axis, f"{asked:+g}", *cells, number(mean_of([view["identity"] for view in own]), 3)])
    return lines


def report(rows: dict[str, dict[str, dict[str, Any]]], networks: str) -> str:
    """The tables of all models, in Markdown."""
    table = []
    for name, own in rows.items():
        s = summary(own)
        counts = (f"{s[key]:.0f}" for key in ("views", "no_face", "limited"))
        slopes = (number(s[f"{axis}_slope"], 2) for axis in _AXES)
        errors = (number(s[key]) for key in ("error_inside", "error"))
        identity = (number(s[key], 3) for key in ("identity_rest", "identity_inside", "identity", "centred_cosine"))
        table.append([name, *counts, *slopes, *errors, *identity])
    parts = [f"{len(next(iter(rows.values())))} portraits; {networks}", markdown(_HEADS, table)]
    for name, own in rows.items():
        parts += [name, markdown(("axis", "asked", "measured", "± over people", "error", "identity"), by_angle(own))]
    return "\n\n".join(parts)


def run(options: argparse.Namespace) -> None:
    """Measure, print the tables and write them.

    Raises:
      AvfrError: bad pictures or models.
    """
    asked = asked_angles(options.yaw, options.pitch, options.count)
    limit = NO_LIMIT if options.no_limit else None
    models = [TurnableModel(name) for name in options.models]
    if options.sheet is not None:
        check_output(options.sheet, overwrite=True)
    results = Results(options.output)
    rows: dict[str, dict[str, dict[str, Any]]] = {model.name: {} for model in models}
    strips = []
    with FaceAnalyser() as analyser:
        for count, subject in enumerate(subjects := find_subjects(options.subjects, first_face(analyser))):
            for model in models:
                facts = facts_of(subject, analyser, *model.facts, asked, limit)
                key = (f"{subject.name}-{model.name}-rotation", facts)
                row, picture = results.find(*key), results.path(*key, ".png")
                if row is None or (options.sheet is not None and not picture.is_file()):
                    row = _measured(model, subject, asked, limit, analyser, picture)
                    results.add(*key, row)
                if "error" in row:
                    progress("")
                    print(f"{subject.name} is left out of {model.name}: {row['error']}", file=sys.stderr)
                else:
                    rows[model.name][subject.name] = row
                    strips += [picture] if options.sheet is not None else []
            progress(f"{count + 1}/{len(subjects)} {subject.name}")
        networks = analyser.description
    progress("")
    _write(options, rows, networks, strips)


def _measured(
    model: TurnableModel, subject: Subject, asked: Any, limit: float | None, analyser: FaceAnalyser, picture: Any
) -> dict[str, Any]:
    from avfr_jax.media.image import write_image

    try:
        row, strip = measure(model, subject, asked, limit, analyser)
    except FaceError as error:
        return {"error": str(error)}
    write_image(picture, strip, overwrite=True)
    return row


def _write(options: argparse.Namespace, rows: Any, networks: str, strips: Sequence[Any]) -> None:
    from avfr_jax.media.image import read_image

    if not any(rows.values()):
        raise FaceError("No face was found in any picture: give portraits in which one is in view.")
    text = report({name: own for name, own in rows.items() if own}, networks)
    write_text(options.output / "rotation.md", text + "\n")
    figures = {name: summary(own) for name, own in rows.items() if own}
    write_text(options.output / "rotation.json", json.dumps({"summary": figures, "rows": rows}, indent=1))
    if options.sheet is not None:
        write_sheet(options.sheet, [read_image(path) for path in strips])
    print(text)


@standard_streams("experiments.rotation")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.rotation",
        description="Turn portraits by asked angles and measure the angles of the results.",
        epilog="example:\n  python -m experiments.rotation portraits/ --models landmark-warp mesh-fomm",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_models(parser)
    add_output(parser, "runs/rotation")
    parser.add_argument("--yaw", type=float, default=30.0, help="largest yaw to both sides; default: %(default)g")
    parser.add_argument(
        "--pitch", type=float, default=15.0, help="largest pitch; 0 leaves it out; default: %(default)g"
    )
    parser.add_argument("--count", type=int, default=3, help="angles to each side of each axis; default: %(default)d")
    options = parser.parse_args(argv)
    return run_program(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
