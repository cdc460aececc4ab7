"""Measurement of the portrait's face mesh, the origin of the template: `portrait_mesh.npz`.

`python -m data.synthetic_heads.measure` runs mediapipe's FaceMesh on scikit-image's `astronaut()` (NASA, public domain)
and rewrites the file. Rendering needs the file alone, without mediapipe.
"""

import pathlib

import numpy as np

from avfr_jax.landmarks import NUM_VERTICES, triangles
from avfr_jax.typing import Float, Int

PATH = pathlib.Path(__file__).parent / "portrait_mesh.npz"


def portrait_landmarks() -> Float[np.ndarray, "478 3"]:
    """FaceMesh landmarks in pixels of the 512x512 portrait (z in the same scale), averaged over three crops."""
    import cv2
    import mediapipe as mp
    import skimage.data

    photo = skimage.data.astronaut()
    crops = []
    with mp.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True) as mesh:
        for x, y, side in [(96, 0, 256), (80, 0, 290), (110, 10, 230)]:
            crop = cv2.resize(photo[y : y + side, x : x + side], (768, 768), interpolation=cv2.INTER_CUBIC)
            points = mesh.process(crop).multi_face_landmarks[0].landmark
            crops.append([[p.x * side + x - 0.5, p.y * side + y - 0.5, p.z * side] for p in points])
    return np.mean(crops, axis=0).astype(np.float32)


def mirror_pairs(landmarks: Float[np.ndarray, "k 3"]) -> tuple[Int[np.ndarray, " k"], Float[np.ndarray, "k 3"]]:
    """Mirror image of every vertex, and the mesh rotated to the front.

    Alternates between matching the mesh to its mirror image (Hungarian algorithm) and aligning it with the plane of
    symmetry (orthogonal Procrustes).
    """
    from scipy.optimize import linear_sum_assignment

    points = (landmarks * [1.0, -1.0, -1.0]).astype(np.float64)
    points -= points.mean(0)
    flip = np.array([-1.0, 1.0, 1.0])
    pairs = np.arange(len(points))
    for _ in range(30):
        mirrored = points * flip
        pairs = linear_sum_assignment(((points[:, None] - mirrored[None]) ** 2).sum(-1))[1]
        target = (points + mirrored[pairs]) / 2
        points, target = points - points.mean(0), target - target.mean(0)
        u, _, vt = np.linalg.svd(points.T @ target)
        points = points @ (u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt)
    return pairs.astype(np.int32), points.astype(np.float32)


def _sorted(faces: Int[np.ndarray, "t 3"]) -> Int[np.ndarray, "t 3"]:
    """Triangles with ascending vertices, in lexicographic order."""
    return np.array(sorted(map(tuple, np.sort(faces, 1))), np.int32)


def main() -> None:
    landmarks = portrait_landmarks()
    pairs, _ = mirror_pairs(landmarks[:NUM_VERTICES])
    np.savez_compressed(PATH, landmarks=landmarks, triangles=_sorted(triangles()), mirror=pairs)
    print(PATH)


if __name__ == "__main__":
    main()
