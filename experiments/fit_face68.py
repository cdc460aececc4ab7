"""The average face of `avfr_jax.faces.pose68`, and the mean descriptor: `python -m experiments.fit_face68 CLIPS`.

One rigid, symmetric shape for all frames of all people, each frame under a camera of its own (rotation, scale,
translation; no perspective): alternating least squares, from a rough face. Prints the table of `pose68`. Only the 68
landmarks of the frames go in; the scale of depth comes from the rotations, which have to be orthogonal.
With `--descriptor FILE` the mean over the clips of each clip's mean descriptor is written too.
"""

from avfr_jax.interrupts import exit_on_signals

if __name__ == "__main__":  # before the imports, which take a while
    exit_on_signals("experiments.fit_face68", "stopped.")


import argparse
import pathlib
import sys
from collections.abc import Sequence

import numpy as np

from avfr_jax.errors import InputError
from avfr_jax.faces.analyser import FaceAnalyser
from avfr_jax.faces.pose68 import RIGID68
from avfr_jax.media.files import check_output
from avfr_jax.streams import standard_streams
from avfr_jax.typing import Float
from experiments.harness import FPS, find_clips, progress, run_program, write_text

EVERY = 8  # frames
SIZE = 384
_OUTER = (RIGID68.index(36), RIGID68.index(45))


def mirror() -> list[int]:
    """For each point of `RIGID68` the one that takes its place in a mirror image: five in the middle, then pairs."""
    return [*range(5), *(5 + (i ^ 1) for i in range(len(RIGID68) - 5))]


def orthographic_poses(
    frames: Float[np.ndarray, "f k 2"], shape: Float[np.ndarray, "k 3"], steps: int = 30
) -> tuple[Float[np.ndarray, "f 2 3"], Float[np.ndarray, "f"]]:
    """Two rows of the rotation, and the scale, that bring a shape nearest to the points of each frame, both centred.

    Least squares over matrices with orthogonal rows (Stiefel manifold) by majorisation: each step projects a gradient
    step of length 1/L by a singular value decomposition.
    """
    moved, model = frames - frames.mean(1, keepdims=True), shape - shape.mean(0)
    cross, square = np.einsum("fki,kj->fij", moved, model), model.T @ model
    largest = np.linalg.eigvalsh(square)[-1]
    rows = _orthogonal(cross @ np.linalg.inv(square))
    scale = np.ones(len(frames))
    for _ in range(steps):
        scale = np.einsum("fij,fij->f", rows, cross) / np.einsum("fij,jk,fik->f", rows, square, rows)
        rows = _orthogonal(rows + (cross / scale[:, None, None] - rows @ square) / largest)
    return rows, scale


def _orthogonal(matrices: Float[np.ndarray, "f 2 3"]) -> Float[np.ndarray, "f 2 3"]:
    u, _, v = np.linalg.svd(matrices, full_matrices=False)
    return np.asarray(u @ v)


def rough_face(frames: Float[np.ndarray, "f k 2"]) -> Float[np.ndarray, "k 3"]:
    """A start: the median face, upright and symmetric, the nose in front of the eyes, which are a unit apart."""
    across = frames[:, _OUTER[1]] - frames[:, _OUTER[0]]
    length = np.linalg.norm(across, axis=1)
    cos, sin = (across / length[:, None] ** 2).T
    middle = frames - frames[:, _OUTER].mean(1, keepdims=True)
    x = cos[:, None] * middle[..., 0] + sin[:, None] * middle[..., 1]
    y = cos[:, None] * middle[..., 1] - sin[:, None] * middle[..., 0]
    face = np.median(np.stack([x, y], -1), 0)
    face = (face + face[mirror()] * [-1, 1]) / 2
    depth = face[:, 0] ** 2 - 0.25 - 0.3 * np.clip(face[:, 1] / 0.5, 0, 1)
    return np.concatenate([face, depth[:, None]], axis=1)


def fit(frames: Float[np.ndarray, "f k 2"], rounds: int = 60) -> tuple[Float[np.ndarray, "k 3"], float]:
    """The shape, in shares of the distance between the eyes' outer corners, and the root-mean-square distance of the
    landmarks from it in that unit.

    Args:
      frames: landmarks `RIGID68` in pixels.
    """
    shape = rough_face(frames)
    error = 0.0
    for _ in range(rounds):
        rows, scale = orthographic_poses(frames, shape)
        flat = (frames - frames.mean(1, keepdims=True)) / scale[:, None, None]
        square, cross = np.einsum("fij,fik->jk", rows, rows), np.einsum("fki,fij->kj", flat, rows)
        shape = cross @ np.linalg.inv(square)
        shape = (shape + shape[mirror()] * [-1, 1, 1]) / 2
        shape = (shape - shape[list(_OUTER)].mean(0)) / abs(shape[_OUTER[1], 0] - shape[_OUTER[0], 0])
        centred = shape - shape.mean(0)
        error = float(np.sqrt(((flat - np.einsum("kj,fij->fki", centred, rows)) ** 2).sum(-1).mean()))
    # Upright: the median frame looks neither up nor down. The third row of a rotation is the product of the others.
    rows, _ = orthographic_poses(frames, shape)
    third = np.cross(rows[:, 0], rows[:, 1])
    pitch = np.median(np.arctan2(rows[:, 1, 2], third[:, 2]))
    turn = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
    return np.asarray(shape @ turn.T), error


def _measure(paths: Sequence[pathlib.Path], seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks `RIGID68` of every eighth frame with a face, and the mean descriptor."""
    frames, descriptors = [], []
    clips = find_clips(paths)
    with FaceAnalyser() as analyser:
        for number, clip in enumerate(clips):
            facts = analyser.analyse(list(clip.read(seconds, SIZE)[::EVERY]))
            faces = [face for face in facts if face is not None]
            frames += [face.points[list(RIGID68)] for face in faces]
            descriptors += [np.mean([face.descriptor for face in faces], 0)] if faces else []
            progress(f"{number + 1}/{len(clips)} {clip.name}")
    progress("")
    if len(frames) < len(RIGID68):
        raise InputError(f"the clips show a face in {len(frames)} frames only: give more of them.")
    return np.stack(frames), np.mean(descriptors, 0)


def run(options: argparse.Namespace) -> None:
    """Fit, then print."""
    if options.descriptor:
        check_output(options.descriptor, overwrite=True)
    frames, descriptor = _measure(options.clips, options.seconds)
    shape, error = fit(frames)
    for index, (x, y, z) in zip(RIGID68, shape, strict=True):
        print(f"{index}: ({x:.3f}, {y:.3f}, {z:.3f}),")
    if options.descriptor:
        write_text(options.descriptor, "".join(f"{number:.5f}\n" for number in descriptor))
    print(f"{len(frames)} frames, root-mean-square distance {error:.4f} of the eyes' distance", file=sys.stderr)


@standard_streams("experiments.fit_face68")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.fit_face68",
        description="Fit the average face of the pose solver for 68 landmarks.",
        epilog="example:\n  python -m experiments.fit_face68 clips/",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("clips", nargs="+", type=pathlib.Path, help="square videos, folders of them, or datasets")
    parser.add_argument(
        "--seconds", type=float, default=8.0, help=f"of each clip at {FPS} frames; default: %(default)g"
    )
    parser.add_argument("--descriptor", type=pathlib.Path, metavar="FILE", help="write the mean descriptor here")
    options = parser.parse_args(argv)
    return run_program(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
