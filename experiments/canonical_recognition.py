"""People told apart by their canonical keypoints, face-vid2vid's appendix B.6:
`python -m experiments.canonical_recognition CLIPS --models NAME`.

Canonical keypoints should carry a person's geometry and neither pose nor expression. Each person has a gallery of
keypoints from some frames of one clip; the frames of their other clips are given to the person of the nearest keypoints
in it (Euclidean distance). The share that are right stands beside chance, one over the number of people. 68 landmarks,
aligned by eyes and nose, are the paper's comparison. Where nobody has a second clip, or with `--one-clip`, the second
half of each clip is tested against its first: an easier task, since camera, light and place are the same.

CLIPS are square videos, folders of them, or prepared datasets; the person of a video is its name, or that of
`--identities`, a CSV file with the columns file (or name) and person. Expected: 110 people, three minutes a model.
"""

from avfr_jax.interrupts import exit_on_signals

if __name__ == "__main__":  # before the imports, which take a while
    exit_on_signals("experiments.canonical_recognition", "stopped; measurements in the output folder are kept.")


import argparse
import csv
import json
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from avfr_jax.errors import ConfigError, InputError, MissingBackendError
from avfr_jax.faces.analyser import FaceAnalyser
from avfr_jax.faces.chips import CHIP_POINTS, CHIP_TEMPLATE, similarity
from avfr_jax.model_store import load_model
from avfr_jax.models.base import Animator
from avfr_jax.streams import standard_streams
from avfr_jax.typing import Float
from experiments.evaluate import code_digest
from experiments.free_view import number
from experiments.harness import (
    Clip,
    Results,
    add_clips,
    add_output,
    digest,
    find_clips,
    markdown,
    progress,
    run_program,
    write_text,
)

LANDMARKS = "68 landmarks"
_HEADS = ("features", "people", "tested", "right %", "chance %", "times chance")

Features = Callable[[np.ndarray], np.ndarray]
"""Frames `[N, S, S, 3]` uint8 -> `[M, D]`, M of them with a face."""


def canonical_features(model: Animator) -> Features:
    """The canonical keypoints of frames, flattened.

    Raises:
      ConfigError: the model has none.
    """

    def features(frames: np.ndarray) -> np.ndarray:
        found = []
        for start in range(0, len(frames), model.batch_size):
            part = frames[start : start + model.batch_size].astype(np.float32) / 255
            padded = np.concatenate([part, np.repeat(part[-1:], model.batch_size - len(part), 0)])
            motion = model.keypoints(padded)
            if not hasattr(motion, "canonical"):
                raise ConfigError(f"{model.name} has no canonical keypoints; give a model of the family face-vid2vid.")
            found.append(np.asarray(motion.canonical)[: len(part)].reshape(len(part), -1))
        return np.concatenate(found)

    return features


def aligned_landmarks(points: Float[np.ndarray, "68 2"]) -> np.ndarray:
    """Landmarks moved as dlib aligns a face, by the corners of the eyes and the base of the nose, flattened."""
    move = similarity(points[list(CHIP_POINTS)], np.array(CHIP_TEMPLATE))
    return np.asarray(points @ move[:, :2].T + move[:, 2]).ravel()


def landmark_features(analyser: FaceAnalyser) -> Features:
    """The 68 landmarks of frames, aligned."""

    def features(frames: np.ndarray) -> np.ndarray:
        faces = [face for face in analyser.analyse(list(frames)) if face is not None]
        return np.array([aligned_landmarks(face.points) for face in faces]).reshape(len(faces), -1)

    return features


def nearest(
    gallery: Mapping[str, Float[np.ndarray, "_ d"]], tested: Mapping[str, Float[np.ndarray, "_ d"]]
) -> tuple[int, int]:
    """Give each tested vector to the person of the nearest one in the gallery.

    Returns:
      How many are right, and how many were tested.
    """
    people = [person for person, vectors in gallery.items() for _ in vectors]
    known = np.concatenate(list(gallery.values()))
    right = count = 0
    for person, vectors in tested.items():
        for vector in vectors:
            right += people[int(np.argmin(((known - vector) ** 2).sum(-1)))] == person
            count += 1
    return right, count


def divide(
    clips: Mapping[str, Sequence[Float[np.ndarray, "_ d"]]], one_clip: bool
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Gallery and tested vectors by person.

    Args:
      clips: vectors of each clip of each person.
      one_clip: the second half of the first clip is tested, else all others of those who have one; the gallery holds
        everybody in either case.
    """
    gallery, tested = {}, {}
    for person, own in clips.items():
        first = own[0]
        if one_clip:
            gallery[person], tested[person] = first[: len(first) // 2], first[len(first) // 2 :]
        else:
            gallery[person] = first
            if len(own) > 1:
                tested[person] = np.concatenate(own[1:])
    return gallery, tested


def read_identities(path: pathlib.Path) -> dict[str, str]:
    """Person by the name of the clip.

    Raises:
      InputError: it cannot be read, or has no such columns.
    """
    try:
        with path.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        return {pathlib.PurePosixPath(row.get("file") or row["name"]).stem: row["person"] for row in rows}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError) as error:
        raise InputError(
            f"{path} cannot be read as a CSV file with the columns file (or name) and person ({error})."
        ) from None


def person_of(clip: Clip, people: Mapping[str, str]) -> str:
    """Who a clip is of: as `people` says by the clip's name, else as its dataset says, else by its name."""
    return people.get(clip.name, clip.entry.identity if clip.entry is not None else clip.name)


def collect(
    clips: Sequence[Clip], people: Mapping[str, str], features: Features, options: Any, results: Results, key: Any
) -> dict[str, list[np.ndarray]]:
    """Vectors of each clip of each person; clips without a face are left out.

    Args:
      clips: in order; a person's first is the gallery's.
      people: person by the clip's name.
      features: of frames.
      options: `seconds`, `frames` and `size`.
      results: holds those of earlier runs.
      key: what `features` depends on.
    """
    found: dict[str, list[np.ndarray]] = {}
    for count, clip in enumerate(clips):
        frames = clip.read(options.seconds, options.size)
        frames = frames[np.linspace(0, len(frames) - 1, min(options.frames, len(frames))).astype(int)]
        name = (f"{clip.name}-{key[0]}-canonical", [code_digest(), *key, digest(frames)])
        row = results.find(*name)
        if row is None:
            row = {"vectors": features(frames).tolist()}
            results.add(*name, row)
        vectors = np.array(row["vectors"])
        if len(vectors) >= 2:
            found.setdefault(person_of(clip, people), []).append(vectors)
        progress(f"{count + 1}/{len(clips)} {clip.name}")
    progress("")
    return found


def line(name: str, found: Mapping[str, Sequence[np.ndarray]], one_clip: bool) -> dict[str, Any]:
    """Figures of one kind of features.

    Raises:
      InputError: fewer than two people.
    """
    gallery, tested = divide(found, one_clip)
    if len(gallery) < 2 or not tested:
        raise InputError(f"To tell people apart takes two or more of them with a face, not {len(gallery)}.")
    right, count = nearest(gallery, tested)
    share, chance = 100 * right / count, 100 / len(gallery)
    return {"name": name, "people": len(gallery), "tested": count, "right": share, "chance": chance}


def run(options: argparse.Namespace) -> None:
    """Measure, print the table and write it.

    Raises:
      AvfrError: bad clips or models.
    """
    if options.frames < 2:
        raise ConfigError("--frames must be 2 or more.")
    people = read_identities(options.identities) if options.identities else {}
    models = [load_model(name) for name in options.models]
    clips, results = find_clips(options.clips), Results(options.output)
    known = [person_of(clip, people) for clip in clips]
    one_clip = options.one_clip or len(set(known)) == len(known)
    lines = []
    for model in models:
        options.size = model.image_size
        key = [model.name, model.fingerprint.hex()]
        found = collect(clips, people, canonical_features(model), options, results, key)
        lines.append(line(model.name, found, one_clip))
    options.size = 256
    try:
        with FaceAnalyser() as analyser:
            key = [LANDMARKS, analyser.landmarks.description]
            found = collect(clips, people, landmark_features(analyser), options, results, key)
        lines.append(line(LANDMARKS, found, one_clip))
    except MissingBackendError as error:
        print(f"{LANDMARKS} are left out: {error}", file=sys.stderr)
    table = [
        [own["name"], str(own["people"]), str(own["tested"]), number(own["right"], 2), number(own["chance"], 2),
         number(own["right"] / own["chance"])]
        for own in lines
    ]  # fmt: skip
    kind = "second half of each clip against its first" if one_clip else "other clips against each person's first"
    text = f"{kind}\n\n{markdown(_HEADS, table)}"
    write_text(options.output / "canonical_recognition.md", text + "\n")
    write_text(options.output / "canonical_recognition.json", json.dumps(lines, indent=1))
    print(text)


@standard_streams("experiments.canonical_recognition")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.canonical_recognition",
        description="Nearest neighbour of canonical keypoints over people, beside chance.",
        epilog="example:\n  python -m experiments.canonical_recognition clips/ --models face-vid2vid",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_clips(parser, seconds=8.0)
    add_output(parser, "runs/canonical_recognition")
    parser.add_argument("--models", nargs="+", required=True, help="names or folders of models of face-vid2vid")
    parser.add_argument("--frames", type=int, default=6, help="of each clip, spread over it; default: %(default)d")
    parser.add_argument("--one-clip", action="store_true", help="test the second half of each clip against its first")
    parser.add_argument(
        "--identities", type=pathlib.Path, metavar="FILE.csv", help="columns file (or name) and person; default: names"
    )
    options = parser.parse_args(argv)
    return run_program(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
