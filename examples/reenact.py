"""Reenact from Python: the bundled portrait driven by the bundled clip.

    python examples/reenact.py [OUTPUT.mp4]

Prints how far the generated frames are from the source; with OUTPUT.mp4 it also writes them, marked as generated.
"""

import importlib.resources
import sys

import numpy as np
from skimage import data

import avfr_jax
from avfr_jax.media.video import VideoReader
from avfr_jax.media.video_writer import VideoWriter
from avfr_jax.media.watermark import Watermark, provenance

FRAMES = 12


def main(output: str | None = None) -> np.ndarray:
    """Generate the first frames; gives them as uint8 `[N, 256, 256, 3]`."""
    with importlib.resources.as_file(importlib.resources.files("avfr_jax") / "assets" / "driver.mp4") as clip:
        driving = [frame for frame, _ in zip(VideoReader(clip), range(FRAMES), strict=False)]

    reenactor = avfr_jax.Reenactor("landmark-warp", motion="relative", best_frame="first")
    steps = list(reenactor.steps(data.astronaut(), np.stack(driving)))
    frames = np.stack([step.frame for step in steps])
    change = np.abs(frames.astype(int) - steps[0].source).mean((1, 2, 3))
    print(
        f"{len(frames)} frames of {frames.shape[1]} x {frames.shape[2]}; difference from the source, of 255:",
        change.round(1),
    )

    if output:
        mark = Watermark("both")
        with VideoWriter(output, 256, 256, overwrite=True, metadata=provenance("landmark-warp")) as writer:
            for index, frame in enumerate(frames):
                writer.write(mark.apply(frame, index))
    return frames


if __name__ == "__main__":
    main(*sys.argv[1:2])
