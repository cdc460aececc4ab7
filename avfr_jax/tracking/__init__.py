"""Driving sources: a clip, its crop and its tracked frames; used by the codec and the reenactor."""

from avfr_jax.tracking.clip import Clip, FrameRate, check_frame_rate, open_clip, read_portrait
from avfr_jax.tracking.prefetch import prefetch
from avfr_jax.tracking.source import DrivingSource, TrackedFrame
from avfr_jax.tracking.tracker import (
    SAMPLES,
    CropMode,
    Portrait,
    TrackedClip,
    Tracking,
    track,
    track_landmarks,
    track_portrait,
)

__all__ = [
    "SAMPLES",
    "Clip",
    "CropMode",
    "DrivingSource",
    "FrameRate",
    "Portrait",
    "TrackedClip",
    "TrackedFrame",
    "Tracking",
    "check_frame_rate",
    "open_clip",
    "prefetch",
    "read_portrait",
    "track",
    "track_landmarks",
    "track_portrait",
]
