"""Clips on disk: `NAME.mp4` with sound beside `NAME.npz` with the ground truth, and contact sheets."""

import dataclasses
import json
import os
import pathlib
import zipfile

import numpy as np

from avfr_jax.errors import ConfigError
from avfr_jax.interrupts import scratch_beside, scratch_folder
from avfr_jax.media.image import write_image
from avfr_jax.media.video import VideoReader
from avfr_jax.media.video_writer import VideoWriter
from avfr_jax.typing import Float, UInt8
from data.synthetic_heads.render import SyntheticClip, render_clip
from data.synthetic_heads.voice import RATE


def write_video(
    path: pathlib.Path,
    frames: UInt8[np.ndarray, "n h w 3"],
    audio: Float[np.ndarray, " t"],
    crf: int = 18,
    overwrite: bool = True,
) -> None:
    """Write H.264 and AAC at 25 frames per second, completely or not at all. Raises OutputError."""
    from scipy.io import wavfile

    with scratch_folder() as folder:
        sound = folder / "voice.wav"
        wavfile.write(sound, RATE, np.round(np.clip(audio, -1, 1) * 32767).astype(np.int16))
        height, width = frames.shape[1:3]
        with VideoWriter(path, width, height, fps=25.0, audio=sound, crf=crf, overwrite=overwrite) as writer:
            for frame in frames:
                writer.write(frame)


def write_clip(folder: pathlib.Path, name: str, clip: SyntheticClip) -> None:
    """Write a clip's video, then its ground truth; the `.npz` comes last and marks a finished clip.

    The archive holds pose [n,3], mouth_opening [n], mouth_ratio [n], blink [n,2], gaze [n,2], jaw [n],
    landmarks [n,478,2], person_mask [n,h,w]
    (uint8, of 255), and identity and scene as JSON.
    """
    write_video(folder / f"{name}.mp4", clip.frames, clip.audio)
    with scratch_beside(folder / f"{name}.npz") as partial:
        np.savez_compressed(
            partial,
            pose=clip.pose,
            mouth_opening=clip.mouth_opening,
            mouth_ratio=clip.mouth_ratio,
            blink=clip.blink,
            gaze=clip.motion.gaze,
            jaw=clip.motion.jaw,
            landmarks=clip.landmarks,
            person_mask=np.round(clip.person_mask * 255).astype(np.uint8),
            identity=json.dumps(dataclasses.asdict(clip.identity)),
            scene=json.dumps(dataclasses.asdict(clip.scene)),
        )
        os.replace(partial, folder / f"{name}.npz")


def clip_name(seed: int) -> str:
    return f"clip{seed:06d}"


def render_one(folder: pathlib.Path, seed: int, frames: int, size: int) -> str:
    """Render the clip of one seed into `folder`; returns its name."""
    write_clip(folder, clip_name(seed), render_clip(seed, frames=frames, size=size))
    return clip_name(seed)


def finished(folder: pathlib.Path, seed: int, frames: int, size: int) -> bool:
    """Whether the clip is complete. Raises ConfigError if it has another length or size."""
    stored = folder / f"{clip_name(seed)}.npz"
    if not stored.exists() or not (folder / f"{clip_name(seed)}.mp4").exists():
        return False
    try:
        with np.load(stored) as truth:
            shape = truth["person_mask"].shape
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return False
    if shape != (frames, size, size):
        raise ConfigError(
            f"{stored} holds {shape[0]} frames of {shape[2]}x{shape[1]} pixels, not {frames} of {size}x{size}; "
            "use another folder or the same --seconds and --size"
        )
    return True


def write_sheet(folder: pathlib.Path, seeds: list[int]) -> None:
    """`contact_sheet.png`: five frames of each of the first sixteen clips."""
    rows = []
    for seed in seeds[:16]:
        frames = [frame for _, frame in VideoReader(folder / f"{clip_name(seed)}.mp4").sample(5)]
        rows.append(frames + [frames[-1]] * (5 - len(frames)))
    sheet = np.concatenate([np.concatenate(row, 1) for row in rows])
    write_image(folder / "contact_sheet.png", sheet, overwrite=True)
