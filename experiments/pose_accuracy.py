"""Head-pose solvers on rendered heads at known angles: `python -m experiments.pose_accuracy`.

Sampled people of `data.synthetic_heads`, turned in yaw and in pitch, one at a time: slope of measured against true
angle, and mean error, of `faces.pose68` on 68 landmarks (with the camera's axis through the image's middle, as
`FaceAnalyser` has it, and through the face) and of `faces.pose` on the face mesh. Angles are relative to each person's
own at 0, whose mean absolute value stands beside them. Expected: six people, one minute.
"""

from avfr_jax.interrupts import exit_on_signals

if __name__ == "__main__":  # before the imports, which take a while
    exit_on_signals("experiments.pose_accuracy", "stopped.")


import argparse
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from avfr_jax.errors import ConfigError, FaceError
from avfr_jax.faces import open_face_backend
from avfr_jax.faces.analyser import FaceAnalyser
from avfr_jax.faces.pose import HeadPose, head_pose
from avfr_jax.faces.pose68 import head_pose68
from avfr_jax.streams import standard_streams
from avfr_jax.typing import Float
from data.synthetic_heads.identity import sample_identity, sample_scene
from data.synthetic_heads.motion import still_motion
from data.synthetic_heads.render import Renderer
from experiments.harness import markdown, progress, run_program

SIZE, FIRST_SEED = 256, 100
ANGLES = (*((float(yaw), 0.0) for yaw in range(-40, 50, 10)), *((0.0, float(pitch)) for pitch in (-20, -10, 10, 20)))
INSIDE = 20.0
_HEADS = ("solver", "axis", "slope", "error ≤ 20°", "error", "at 0°")

Measured = dict[str, Float[np.ndarray, "a 2"]]
"""Yaw and pitch at each of `ANGLES` by solver, NaN without a face."""


def measure(people: int) -> Iterator[Measured]:
    """Render each person at `ANGLES` and solve the pose."""
    axis = ((SIZE - 1) / 2, (SIZE - 1) / 2)
    with FaceAnalyser() as analyser, open_face_backend() as backend:
        for seed in range(FIRST_SEED, FIRST_SEED + people):
            renderer = Renderer(sample_identity(seed), sample_scene(seed), SIZE)
            frames = [renderer.frame(still_motion(1, yaw=yaw, pitch=pitch), 0).image for yaw, pitch in ANGLES]
            faces = analyser.analyse(frames)
            meshes = [backend.detect(frame) for frame in frames]
            yield {
                "68 landmarks": _angles([face and head_pose68(face.points, axis) for face in faces]),
                "68 landmarks, axis through the face": _angles([face and head_pose68(face.points) for face in faces]),
                "face mesh": _angles([mesh and head_pose(mesh[0].landmarks, SIZE, SIZE) for mesh in meshes]),
            }
            progress(f"{seed - FIRST_SEED + 1}/{people}")
    progress("")


def _angles(poses: Sequence[HeadPose | list[object] | None]) -> Float[np.ndarray, "a 2"]:
    return np.array([[p.yaw, p.pitch] if isinstance(p, HeadPose) else [np.nan, np.nan] for p in poses], np.float64)


def figures(people: Sequence[Float[np.ndarray, "a 2"]], axis: int) -> tuple[float, float, float, float]:
    """Slope, mean error inside ±20° and over all angles, and the mean absolute angle at 0, of one solver.

    Args:
      people: measured at `ANGLES`, of each person.
      axis: 0 for yaw, 1 for pitch.

    Raises:
      FaceError: no face was found.
    """
    true = np.array(ANGLES)
    front = int(np.flatnonzero((true == 0).all(1))[0])
    rest = np.array([own[front, axis] for own in people])
    turned = np.concatenate([own[:, axis] - own[front, axis] for own in people])
    asked = np.tile(true[:, axis], len(people))
    used = (asked != 0) & np.isfinite(turned)
    if not used.any():
        raise FaceError("no face was found in the rendered heads")
    turned, asked = turned[used], asked[used]
    error = np.abs(turned - asked)
    slope = float(turned @ asked / (asked @ asked))
    return slope, float(error[np.abs(asked) <= INSIDE].mean()), float(error.mean()), float(np.nanmean(np.abs(rest)))


def run(options: argparse.Namespace) -> None:
    """Measure, then print."""
    if options.people < 1:
        raise ConfigError("--people must be 1 or more.")
    measured = list(measure(options.people))
    rows = []
    for solver in measured[0]:
        for axis, name in enumerate(("yaw", "pitch")):
            slope, *errors = figures([own[solver] for own in measured], axis)
            rows.append([solver, name, f"{slope:.2f}", *(f"{error:.1f}" for error in errors)])
    print(markdown(_HEADS, rows))


@standard_streams("experiments.pose_accuracy")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.pose_accuracy",
        description="Measure the head-pose solvers on rendered heads at known angles.",
        epilog="example:\n  python -m experiments.pose_accuracy --people 12",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--people", type=int, default=6, help="rendered people; default: %(default)d")
    options = parser.parse_args(argv)
    return run_program(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
