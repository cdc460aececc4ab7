"""Fit the linear spaces in which a call carries the face mesh: `python -m experiments.fit_mesh_motion DATASET OUT.npz`.

Motion: how far the 478 points are from where they were in the pivot frame; principal components over pairs of frames of
each clip, all clips counting alike, each with its mirror image. Faces: the mesh of one frame, about the mean of all.
Points of the lips and lids count more, depth counts less. Beside the components stand the scales of their values and of
what their prediction leaves, from which the entropy coder's first probabilities come.

DATASET is a folder that `python -m data.clip_folder` prepared. Expected: on forty people, two minutes on one core.
"""

import argparse
import pathlib
import sys

import numpy as np

from avfr_jax.codec.mesh_basis import FACES, MOTIONS, MeshSpace, weights
from avfr_jax.errors import InputError
from avfr_jax.media.files import atomic_file
from avfr_jax.typing import Float
from experiments.harness import run_program

_PAIRS = 4  # pivots drawn for each clip
_STRIDE = 2  # frames, for the motion's components: neighbours are alike


def clips(dataset: pathlib.Path) -> list[Float[np.ndarray, "t 478 3"]]:
    """Landmarks of every clip whose face is seen throughout, in pixels of a 256 × 256 frame. InputError if none is."""
    import json

    try:
        size = json.loads((dataset / "dataset.json").read_text())["size"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{dataset} is not a prepared dataset: {error}") from error
    read = (np.load(path) for path in sorted(dataset.glob("clips/*/landmarks.npy")))
    found = [points * (256 / size) for points in read if len(points) > 1 and np.isfinite(points).all()]
    if not found:
        raise InputError(f"no clip of {dataset} shows a face from its first frame to its last")
    return [points.astype(np.float64) for points in found]


def mirror_pairs(faces: Float[np.ndarray, "n 478 3"]) -> np.ndarray:
    """For every point the one that takes its place in a mirror image."""
    from scipy.optimize import linear_sum_assignment

    mean = (faces - faces.mean(1, keepdims=True)).mean(0)
    flipped = mean * [-1, 1, 1]
    distance = np.linalg.norm(mean[:, None] - flipped[None], axis=-1)
    return linear_sum_assignment(distance)[1]


def _components(covariance: np.ndarray, count: int) -> np.ndarray:
    from scipy.linalg import eigh

    n = len(covariance)
    _, vectors = eigh(covariance, subset_by_index=(n - count, n - 1))
    vectors = vectors[:, ::-1].T
    return vectors * np.where(vectors[np.arange(count), np.abs(vectors).argmax(1)] < 0, -1, 1)[:, None]


def fit(tracks: list[Float[np.ndarray, "t 478 3"]], seed: int = 0) -> MeshSpace:
    """The spaces of these clips."""
    random = np.random.default_rng(seed)
    mirrored = mirror_pairs(np.stack([points[0] for points in tracks]))
    flipped = []
    for points in tracks:
        image = points[:, mirrored].copy()
        image[..., 0] = 255 - image[..., 0]
        flipped.append(image)
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
        motion=_rounded(components),
        mean=(mean / weight).reshape(-1, 3).astype(np.float32),
        faces=_rounded(_components(centred.T @ centred, FACES)),
        levels=_levels(tracks, components * weight, random),
    )


def _rounded(components: np.ndarray) -> np.ndarray:
    """As they are stored."""
    return components.astype(np.float16).astype(np.float32)


def _levels(tracks: list[np.ndarray], components: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The entropy coder's levels at a step of one: of motions, and of what half a slope's prediction leaves."""
    motions, left = [], []
    for points in tracks:
        pivot = random.integers(0, len(points))
        motion = (points - points[pivot]).reshape(len(points), -1) @ components.T
        motions.append(np.abs(motion).mean(0))
        predicted = motion[1:-1] + (motion[1:-1] - motion[:-2]) / 2
        left.append(np.abs(motion[2:] - predicted).mean(0))
    # A Laplace distribution's mean magnitude is its scale.
    scales = np.stack([np.mean(motions, 0), np.mean(left, 0)])
    return np.round(24 + 4 * np.log2(np.maximum(scales, 1e-3))).astype(np.int64)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m experiments.fit_mesh_motion", description=__doc__.split("\n")[0])
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
