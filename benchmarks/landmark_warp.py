"""Frame rate of `landmark-warp` at 256 × 256, face tracking included.

    python -m benchmarks.landmark_warp

The driving clip is the bundled one, the source the head of `skimage.data.astronaut()`. Decoding and encoding of video
are left out. Every round goes through all the frames; the table holds medians over the rounds.
"""

import argparse
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

import avfr_jax
from avfr_jax.faces import FaceBackend, open_face_backend
from avfr_jax.landmarks import normalise_landmarks
from avfr_jax.media.video import VideoReader
from avfr_jax.models import landmark_warp
from avfr_jax.motion import FaceMesh
from avfr_jax.nn.allocator import keep_freed_memory
from benchmarks.fomm_inference import processor

CLIP = pathlib.Path(avfr_jax.__file__).with_name("assets") / "driver.mp4"
CONFIG = landmark_warp.LandmarkWarpConfig()


def find_source(priors: FaceBackend) -> tuple[Any, Any]:
    """The encoded source and its keypoints."""
    from skimage.data import astronaut

    image = np.ascontiguousarray(astronaut()[:256, 96:352])
    faces = priors.detect(image)
    if not faces:
        raise SystemExit("no face was found in the source picture")
    landmarks = normalise_landmarks(faces[0].landmarks, 256, 256)
    encoded = landmark_warp.encode(CONFIG, image.astype(np.float32) / 255, landmarks, priors.person_mask(image))
    return encoded, FaceMesh.from_landmarks(landmarks[None])


def track(priors: FaceBackend, frames: Sequence[np.ndarray]) -> np.ndarray:
    """Landmarks [N, 478, 3] in [-1, 1] of a clip; a frame without a face keeps those before it."""
    priors.reset()
    found: list[np.ndarray] = []
    for frame in frames:
        face = priors.track(frame)
        if face is not None:
            found.append(normalise_landmarks(face.landmarks, frame.shape[1], frame.shape[0]))
        elif found:
            found.append(found[-1])
    return np.stack(found)


def measure(rounds: int, batches: Sequence[int]) -> list[tuple[str, float]]:
    """(what, seconds a frame) of tracking, and of keypoints and animation at each batch size."""
    frames = list(VideoReader(CLIP))
    with open_face_backend() as priors:
        encoded, source = find_source(priors)
        tracking, landmarks = [], track(priors, frames[:8])
        for _ in range(rounds):
            start = time.perf_counter()
            landmarks = track(priors, frames)
            tracking.append((time.perf_counter() - start) / len(frames))
    rows = [("face tracking", float(np.median(tracking)))]
    for batch in batches:
        whole = [landmarks[i : i + batch] for i in range(0, len(landmarks) - batch + 1, batch)]

        def animate(part: np.ndarray) -> Any:
            return landmark_warp.animate(CONFIG, encoded, source, FaceMesh.from_landmarks(part))

        jax.block_until_ready(animate(whole[0]))
        seconds = []
        for _ in range(rounds):
            start = time.perf_counter()
            for part in whole:
                jax.block_until_ready(animate(part))
            seconds.append((time.perf_counter() - start) / (len(whole) * batch))
        rows.append((f"keypoints and animation, batch {batch}", float(np.median(seconds))))
    best = min(seconds for what, seconds in rows[1:])
    return [*rows, ("tracking, keypoints and animation", rows[0][1] + best)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="landmark-warp frame rate, face tracking included")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    options = parser.parse_args(arguments)
    keep_freed_memory()
    rows = measure(options.rounds, options.batches)
    print(f"landmark-warp at 256 × 256, {processor()}; JAX {jax.__version__}; medians of {options.rounds} rounds.\n")
    print("| | ms a frame | frames a second |\n| --- | --- | --- |")
    for what, seconds in rows:
        print(f"| {what} | {1e3 * seconds:.1f} | {1 / seconds:.0f} |")


if __name__ == "__main__":
    main()
