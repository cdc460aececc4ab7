"""Fit the linear bases in which a call codes the face mesh: `python -m experiments.fit_mesh_motion DATASET OUT.npz`.

Motion: principal components of the displacement of the 478 points from a reference frame, over pairs of frames of each
clip, all clips weighted alike, each with its mirror image. Faces: principal components of single meshes. Points of the
lips and lids weigh more, depth weighs less. The mean magnitudes of the components and of their prediction residuals
initialise the entropy coder's probabilities.

DATASET is a folder of `python -m data.clip_folder`. Expected: forty people, two minutes on one core.
"""

from avfr_jax.interrupts import exit_on_signals

if __name__ == "__main__":  # before the imports, which take a while
    exit_on_signals("experiments.fit_mesh_motion", "stopped; nothing was written.")


import argparse
import pathlib
import sys

import numpy as np

from avfr_jax.codec.mesh_basis import FACES, MOTIONS, MeshSpace, weights
from avfr_jax.landmarks import mirror_indices
from avfr_jax.media.files import atomic_file
from avfr_jax.streams import standard_streams
from avfr_jax.typing import Float
from experiments.harness import run_program, tracked_clips

_PAIRS = 4  # reference frames per clip
_STRIDE = 2  # frames: neighbours are similar


def clips(dataset: pathlib.Path) -> list[Float[np.ndarray, "t 478 3"]]:
    """Landmarks in pixels of a 256 × 256 frame; clips and errors as `tracked_clips`."""
    size, tracked = tracked_clips(dataset)
    return [(points * (256 / size)).astype(np.float64) for _, points in tracked if len(points) > 1]


def _components(covariance: np.ndarray, count: int) -> np.ndarray:
    from scipy.linalg import eigh

    n = len(covariance)
    _, vectors = eigh(covariance, subset_by_index=(n - count, n - 1))
    vectors = vectors[:, ::-1].T
    return vectors * np.where(vectors[np.arange(count), np.abs(vectors).argmax(1)] < 0, -1, 1)[:, None]


def fit(tracks: list[Float[np.ndarray, "t 478 3"]], seed: int = 0) -> MeshSpace:
    """Fit the bases of these clips."""
    random = np.random.default_rng(seed)
    flipped = [points[:, mirror_indices()] * [-1, 1, 1] + [255, 0, 0] for points in tracks]
    weight = weights().reshape(-1)
    motion: np.ndarray = np.zeros((weight.size, weight.size))
    faces = []
    for points in tracks + flipped:
        flat = points.reshape(len(points), -1) * weight
        for pivot in random.integers(0, len(points), _PAIRS):
            moved = flat[::_STRIDE] - flat[pivot]
            motion += moved.T @ moved / len(moved)
        faces.append(flat[random.integers(0, len(flat), 16)])
    samples = np.concatenate(faces)
    mean = samples.mean(0)
    centred = samples - mean
    components = _components(motion, MOTIONS)
    return MeshSpace(
        motion=_as_stored(components),
        mean=(mean / weight).reshape(-1, 3).astype(np.float32),
        faces=_as_stored(_components(centred.T @ centred, FACES)),
        levels=_levels(tracks, components * weight, random),
    )


def _as_stored(components: np.ndarray) -> np.ndarray:
    return components.astype(np.float16).astype(np.float32)


def _levels(tracks: list[np.ndarray], components: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Levels of the entropy coder at a step of one: of motion, and of the residual of prediction by half a slope."""
    motions, residuals = [], []
    for points in tracks:
        pivot = random.integers(0, len(points))
        motion = (points - points[pivot]).reshape(len(points), -1) @ components.T
        motions.append(np.abs(motion).mean(0))
        predicted = motion[1:-1] + (motion[1:-1] - motion[:-2]) / 2
        residuals.append(np.abs(motion[2:] - predicted).mean(0))
    # A Laplace distribution's mean magnitude is its scale.
    scales = np.stack([np.mean(motions, 0), np.mean(residuals, 0)])
    return np.round(24 + 4 * np.log2(np.maximum(scales, 1e-3))).astype(np.int64)


@standard_streams("experiments.fit_mesh_motion")
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.fit_mesh_motion",
        description="Fit the linear bases in which a call codes the face mesh.",
        epilog="example:\n  python -m experiments.fit_mesh_motion clips mesh.npz",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", type=pathlib.Path, metavar="DATASET", help="a prepared folder of clips")
    parser.add_argument("output", type=pathlib.Path, metavar="OUT.npz")
    options = parser.parse_args(argv)

    def run() -> None:
        space = fit(clips(options.dataset))
        with atomic_file(options.output, overwrite=True) as scratch:
            space.save(scratch)

    return run_program(run)


if __name__ == "__main__":
    sys.exit(main())
