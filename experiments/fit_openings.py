"""Derive the shape of an opening mouth: `python -m experiments.fit_openings OUT.csv`.

Motion moves lips and jaw of a face apart by this shape (`avfr_jax.motion.openings`). It is the audio-driven mouth's
shape of a unit of opening (`experiments.fit_spoken_mouth`), turned to the frame of `landmarks.POSE_SHAPE`, made
symmetric, and zero where the skull alone moves the face. Expected: the file in `avfr_jax/assets`. Time: a second.
"""

from avfr_jax.interrupts import exit_on_signals

if __name__ == "__main__":  # before the imports, which take a while
    exit_on_signals("experiments.fit_openings", "stopped; nothing was written.")


import argparse
import pathlib
import sys

import numpy as np

from avfr_jax.faces.spoken_mouth import shipped
from avfr_jax.landmarks import (
    LOWER_LIP,
    NOSE_BASE,
    NUM_VERTICES,
    POSE_POINTS,
    POSE_SHAPE,
    RIGID,
    UPPER_LIP,
    canonical_face,
    mirror_indices,
)
from avfr_jax.media.files import atomic_file
from avfr_jax.streams import standard_streams
from avfr_jax.typing import Float
from experiments.harness import run_program

_FADE = 0.04, 0.12  # displacements per unit of opening: noise of the regression below, kept whole above


def mouth_opening() -> Float[np.ndarray, "478 2"]:
    """Displacement (y, z) of the landmarks for a unit of gap between the middles of the inner lips."""
    face = canonical_face().astype(np.float64)
    a, b = face[list(POSE_POINTS)], POSE_SHAPE.astype(np.float64)
    u, _, vt = np.linalg.svd((b - b.mean(0)).T @ (a - a.mean(0)))
    shape = shipped().shapes[0] @ (u @ vt).T
    shape = (shape + shape[mirror_indices()] * [-1, 1, 1])[:, 1:] / 2
    shape /= shape[LOWER_LIP, 0] - shape[UPPER_LIP, 0]
    share = np.clip((np.linalg.norm(shape, axis=1) - _FADE[0]) / (_FADE[1] - _FADE[0]), 0, 1)
    share[[*RIGID, *POSE_POINTS]] = 0
    share[NUM_VERTICES:] = 0
    share[face[:, 1] < face[NOSE_BASE, 1]] = 0
    return np.asarray(np.round(shape * (share**2 * (3 - 2 * share))[:, None], 3) + 0.0)  # no -0


@standard_streams("experiments.fit_openings")
def main(argv: list[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.fit_openings",
        description="Derive the shape of an opening mouth.",
        epilog="example:\n  python -m experiments.fit_openings mouth_opening.csv",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("output", type=pathlib.Path, help="file to write, 478 lines of y,z")
    arguments = parser.parse_args(argv)

    def work() -> None:
        with atomic_file(arguments.output) as temporary:
            np.savetxt(temporary, mouth_opening(), fmt="%.3f", delimiter=",")

    return run_program(work)


if __name__ == "__main__":
    sys.exit(main())
