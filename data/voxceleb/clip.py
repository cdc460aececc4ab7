"""Preparation of one clip of VoxCeleb: its frames and sound out of a whole video, its box, its face."""

import pathlib
from collections.abc import Iterator

import cv2
import numpy as np

from avfr_jax.errors import FaceError, InputError
from avfr_jax.faces import Crop, FaceBackend
from avfr_jax.landmarks import NUM_LANDMARKS
from avfr_jax.media.video import VideoReader
from avfr_jax.typing import UInt8
from data.clip_folder.clip import MOST_MISSING, clip_sound, encode, read_samples
from data.clip_folder.config import ClipConfig
from data.clip_folder.run import Job, prepare_guarded
from data.clip_folder.store import EncodedFrame, SourceWriter
from data.clip_folder.track import SETTLE
from data.voxceleb.metadata import Span

_ASPECT = 0.02  # largest relative difference of the frames' aspect from the table's


def prepare_one(job: Job, out: pathlib.Path, config: ClipConfig) -> None:
    """Prepare one clip, or note why there is none."""
    prepare_guarded(job, out, config, _prepare)


def _prepare(job: Job, config: ClipConfig, priors: FaceBackend | None, writer: SourceWriter) -> None:
    if not isinstance(job.spec, Span):
        raise InputError(job.spec)
    if job.stamp == [0, 0]:
        raise InputError("the video is missing")
    assert priors is not None
    prepare_span(job.source, job.spec, config, priors, writer)


def prepare_span(
    video: pathlib.Path, span: Span, config: ClipConfig, priors: FaceBackend, writer: SourceWriter
) -> None:
    """Write one clip. A file of the clip's name holds its frames alone, already cut; another the whole video.

    Raises:
      InputError: it cannot be decoded, or its frames are not those that the table describes.
      FaceError: the clip is too short, its box too small, or shows no face.
      OutputError: the disk fails.
    """
    whole, reader = video.stem != span.name, VideoReader(video, config.fps)
    first, stop = span.frames(config.fps)
    count = stop - first
    if count < config.min_frames:
        raise FaceError(f"too short: {count} of the {config.min_frames} frames that a clip needs")
    x, y, w, h = _rectangle(reader, span, whole, config)
    first = first if whole else 0
    frames = (_cut(frame, (x, y, w, h), config.size) for frame in reader.part(first, first + count))
    samples = read_samples(video, (first + count) / config.fps) if reader.info.has_audio else None
    sound = clip_sound(samples, first, count, config.fps)
    clip = writer.clip(span.name, video.name, [x, y, max(w, h)], sound, _encoded(frames, config, priors))
    if clip["frames"] < count - 1:  # the last may be cut off by rounding
        raise InputError(f"the video ends {count - clip['frames']} frames before the clip does")
    if clip["missing_faces"] > MOST_MISSING * clip["frames"]:
        raise FaceError(f"no face in {clip['missing_faces']} of {clip['frames']} frames")


def _rectangle(reader: VideoReader, span: Span, whole: bool, config: ClipConfig) -> tuple[int, int, int, int]:
    """x, y, width and height of what is cut, in pixels of the video."""
    width, height = reader.info.width, reader.info.height
    if not whole:
        if width != height:
            raise InputError(
                f"the clip's frames are {width} × {height}, not square as FOMM's preprocessing leaves them"
            )
        return 0, 0, width, height
    if abs(width / height / span.aspect - 1) > _ASPECT:
        raise InputError(
            f"the video is {width} × {height}, of another shape than the table's, {span.aspect:.3f} times as wide as "
            "high"
        )
    left, top, right, bottom = (int(share * side) for share, side in zip(span.box, (width, height) * 2, strict=True))
    w, h = right - left, bottom - top
    enlarged = config.size / max(w, h, 1)
    if min(w, h) < 1 or enlarged > config.max_enlarge:
        raise FaceError(f"the face is too small: its box of {w} × {h} would be enlarged {enlarged:.1f} times")
    if config.crop == "box":
        return left, top, w, h
    side = max(w, h)
    square = Crop(float(left - (side - w) // 2), float(top - (side - h) // 2), float(side))
    if (outside := square.outside((height, width))) > config.max_outside:
        raise FaceError(f"the face is at the border: {outside:.0%} of its square lies outside the picture")
    return int(square.x), int(square.y), side, side


def _cut(
    picture: UInt8[np.ndarray, "h w 3"], rectangle: tuple[int, int, int, int], size: int
) -> UInt8[np.ndarray, "s s 3"]:
    """A rectangle as a square: one that is not square is squeezed, as FOMM's preprocessing does."""
    x, y, w, h = rectangle
    if w == h:
        return Crop(float(x), float(y), float(w)).apply(picture, size)
    part = np.ascontiguousarray(picture[y : y + h, x : x + w])
    method = cv2.INTER_AREA if min(w, h) >= size else cv2.INTER_CUBIC
    return cv2.resize(part, (size, size), interpolation=method)


def _encoded(
    frames: Iterator[UInt8[np.ndarray, "s s 3"]], config: ClipConfig, priors: FaceBackend
) -> Iterator[EncodedFrame]:
    """Frames with the landmarks of the tracked face and the person's mask, one at a time."""
    no_face, tracked = np.full((NUM_LANDMARKS, 3), np.nan, np.float32), False
    priors.reset()
    for frame in frames:
        face = priors.track(frame)
        if face is not None and not tracked:
            for _ in range(SETTLE):
                face = priors.track(frame) or face
        tracked = face is not None
        landmarks = no_face if face is None else face.landmarks
        yield encode(frame, landmarks, priors.person_mask(frame) if config.priors else None)
