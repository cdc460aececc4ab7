"""Rendered heads as a dataset of prepared clips, with exact landmarks and masks."""

import os
import pathlib
from collections.abc import Iterator

import numpy as np

from avfr_jax.errors import ConfigError
from avfr_jax.landmarks import NUM_VERTICES, tessellation_edges
from avfr_jax.typing import Float
from data.clip_folder.clip import clip_sound, encode
from data.clip_folder.config import ClipConfig, Report
from data.clip_folder.run import Job, run_jobs
from data.clip_folder.store import EncodedFrame, Store
from data.synthetic_heads import MotionTrack, Renderer, sample_identity, sample_motion, sample_scene
from data.synthetic_heads.render import FPS
from data.synthetic_heads.voice import synthesise
from pipelines import record
from pipelines.record import Storage


def prepare_synthetic(
    out: str | os.PathLike[str],
    clips: int = 12,
    frames: int = 24,
    size: int = 64,
    seed: int = 0,
    *,
    people: int | None = None,
    storage: Storage = "folder",
    workers: int = 1,
) -> Report:
    """Render talking heads as a dataset of prepared clips.

    The dataset is a pure function of the arguments other than `workers`; resumes an earlier run.

    Args:
      out: folder of the dataset.
      clips: number of clips, each with its own motion, scene and voice.
      frames: of each clip, at 25 frames per second.
      size: side of the frames in pixels, even.
      seed: of the whole set; datasets with seeds at least `clips` apart share no clip.
      people: number of identities, which alternate; None for one per clip.
      storage: "folder" or "arrayrecord".
      workers: processes; 0 for one per core.

    Raises ConfigError for impossible numbers or a folder prepared with others, OutputError as `prepare`,
    MissingBackendError where mediapipe is not installed.
    """
    people = clips if people is None else people
    if min(clips, people) < 1 or frames < 2 or seed < 0:
        raise ConfigError("clips and people must be positive, frames at least 2 and the seed not negative")
    if size % 2:
        raise ConfigError(f"the size must be an even number of pixels, not {size}")
    config = ClipConfig(storage=storage, size=size, fps=FPS, workers=workers, min_frames=1, crop="none")
    jobs, identities = [], {}
    for number in range(clips):
        person = seed + number % people
        key = f"synthetic-{seed + number:06d}"
        jobs.append(Job(key, pathlib.Path(key), [seed + number, person, frames]))
        identities[key] = f"synthetic-person-{person:06d}"
    if not (pathlib.Path(out) / record.INDEX).is_file():
        tessellation_edges()  # a missing mediapipe is reported at once, not after minutes of rendering
    return run_jobs(jobs, identities, pathlib.Path(out), config, _render_one)


def _render_one(job: Job, out: pathlib.Path, config: ClipConfig) -> None:
    clip, person, frames = job.stamp
    motion = sample_motion(clip, frames, FPS)
    renderer = Renderer(sample_identity(person), sample_scene(clip), config.size)
    with Store(out, config).source(job.key, job.stamp) as writer:
        sound = clip_sound(synthesise(renderer.identity, motion, FPS), 0, frames, FPS)
        writer.clip(job.key, job.key, [0, 0, config.size], sound, _frames(renderer, motion))


def _frames(renderer: Renderer, motion: MotionTrack) -> Iterator[EncodedFrame]:
    for index in range(len(motion)):
        frame = renderer.frame(motion, index)
        yield encode(frame.image, landmarks_3d(renderer, frame.vertices), np.clip(frame.person_mask, 0, 1))


def landmarks_3d(renderer: Renderer, vertices: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "478 3"]:
    """FaceMesh's 478 points (x, y, z) in pixels, as of mediapipe: z in x's unit, negative towards the camera, with zero
    mean over the mesh."""
    world = renderer.rig.landmarks(vertices)
    points = renderer.project(world)
    middle = world[:NUM_VERTICES, 2].mean()
    pixels_per_cm = renderer.size / renderer.scene.span * renderer.scene.distance / (renderer.scene.distance - middle)
    points[:, 2] = (middle - world[:, 2]) * pixels_per_cm
    return points.astype(np.float32)
