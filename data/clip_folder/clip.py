"""Preparation of one video: face tracking, one square crop per clip, frames encoded with their priors."""

import dataclasses
import itertools
import math
import pathlib
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from avfr_jax.errors import FaceError, InputError
from avfr_jax.faces import SMALLEST_FACE, Crop, FaceBackend, crop_for_clip, mesh_image
from avfr_jax.landmarks import NUM_LANDMARKS
from avfr_jax.media.animation import AnimationReader, open_reader
from avfr_jax.media.audio import audio_blocks
from avfr_jax.media.image import read_image
from avfr_jax.media.mel import COLUMNS_PER_SECOND, RATE, mel_spectrogram, silence
from avfr_jax.media.video import VideoReader
from avfr_jax.typing import Float, UInt8
from data.clip_folder import track as tracking
from data.clip_folder.config import ClipConfig
from data.clip_folder.store import EncodedFrame, Sound, SourceWriter

MOST_MISSING = 0.5  # largest share of a shot's frames without a face
INAUDIBLE = 1e-4  # amplitude below which a sound track counts as silent
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 3)


@dataclasses.dataclass(frozen=True, eq=False)
class _Piece:
    """Frames [first, stop) of a video that become one clip, and their crop."""

    name: str
    first: int
    stop: int
    crop: Crop


def prepare_video(
    video: pathlib.Path, name: str, config: ClipConfig, priors: FaceBackend | None, writer: SourceWriter
) -> None:
    """Write the clips of one video and record unused parts with their reasons.

    name: of the clip; several clips of one video get the number of their first frame appended.
    priors: the face backend; None only where neither crop nor priors need one.

    Raises InputError for a video that cannot be decoded, OutputError if the disk fails.
    """
    reader = open_reader(video, config.fps)
    if config.crop == "none" and reader.info.width != reader.info.height:
        raise InputError(f"{video} is {reader.info.width}×{reader.info.height}: only square videos can stay uncropped")
    if priors is None:
        count = sum(1 for _ in _frames(reader, config))
        track = tracking.VideoTrack(
            np.full((count, NUM_LANDMARKS, 3), np.nan, np.float32), (), {}, reader.info.height, reader.info.width
        )
        ranges = [(0, count)]
    else:
        track = tracking.track_faces(_frames(reader, config), priors)
        ranges = tracking.split(track)
    pieces = []
    for first, stop in ranges:
        try:
            pieces.append(_piece(track, first, stop, name if len(ranges) == 1 else "", config, priors is not None))
        except FaceError as error:
            where = "" if len(ranges) == 1 else f"frames {first} to {stop - 1}: "
            writer.reject(video.name, where + str(error))
    pieces = [dataclasses.replace(piece, name=piece.name or f"{name}-f{piece.first:06d}") for piece in pieces]
    _write(video, reader, track, pieces, config, priors, writer)


def prepare_still(
    picture: pathlib.Path, name: str, config: ClipConfig, priors: FaceBackend | None, writer: SourceWriter
) -> None:
    """Write a picture of one face as a clip of one frame; arguments and errors as `prepare_video`, FaceError without a
    usable face."""
    image = read_image(picture)
    height, width = image.shape[:2]
    if config.crop == "none" and height != width:
        raise InputError(f"{picture} is {width}×{height}: only square pictures can stay uncropped")
    faces = priors.detect(image) if priors is not None else []
    if priors is not None and not faces:
        raise FaceError("no face")
    landmarks = faces[0].landmarks if faces else np.full((NUM_LANDMARKS, 3), np.nan, np.float32)
    track = tracking.VideoTrack(landmarks[None], (), {}, height, width)
    still = dataclasses.replace(config, min_frames=1)
    crop = _piece(track, 0, 1, name, still, priors is not None).crop
    frame = crop.apply(image, config.size)
    points = crop.to_crop(track.landmarks, config.size)[0]
    places = [round(value) for value in (crop.x, crop.y, crop.side)]
    sound = clip_sound(None, 0, 1, config.fps)
    writer.clip(name, picture.name, places, sound, [_with_mask(frame, points, config, priors)])


def _frames(reader: VideoReader | AnimationReader, config: ClipConfig) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    limit = None if config.seconds is None else max(1, round(config.seconds * config.fps))
    return itertools.islice(iter(reader), limit)


def _piece(track: tracking.VideoTrack, first: int, stop: int, name: str, config: ClipConfig, faces: bool) -> _Piece:
    """Clip of one shot or tube, without its ends without a face. FaceError: the reason where there is none."""
    if faces:
        detected = track.detected[first:stop]
        if detected.mean() < 1 - MOST_MISSING:
            raise FaceError(f"no face in {(~detected).mean():.0%} of {len(detected)} frames")
        first, stop = tracking.trim(track.detected, first, stop)
    if stop - first < config.min_frames:
        raise FaceError(f"too short: {stop - first} of the {config.min_frames} frames that a clip needs")
    if config.crop == "none":
        return _Piece(name, first, stop, Crop(0.0, 0.0, float(track.width)))
    crop = crop_for_clip(track.landmarks[first:stop], (track.height, track.width))
    boxes = tracking.face_boxes(track.landmarks[first:stop])
    face = float(np.nanmedian((boxes[:, 2:] - boxes[:, :2]).max(1)))
    enlarged = config.size / crop.side
    if enlarged > config.max_enlarge or face < SMALLEST_FACE:
        raise FaceError(f"the face is too small ({face:.0f} px): its crop would be enlarged {enlarged:.1f} times")
    outside = crop.outside((track.height, track.width))
    if outside > config.max_outside:
        raise FaceError(f"the face is at the border: {outside:.0%} of its crop lies outside the picture")
    if tracking.several_people(track, crop, first, stop):
        raise FaceError("several people are in view around the face")
    return _Piece(name, first, stop, crop)


def _write(
    video: pathlib.Path,
    reader: VideoReader | AnimationReader,
    track: tracking.VideoTrack,
    pieces: list[_Piece],
    config: ClipConfig,
    priors: FaceBackend | None,
    writer: SourceWriter,
) -> None:
    """Decode the video a second time and encode its pieces."""
    if not pieces:
        return
    samples = read_samples(video, config.seconds) if reader.info.has_audio else None
    frames = enumerate(_frames(reader, config))
    for piece in pieces:
        of_piece = itertools.islice((f for i, f in frames if i >= piece.first), piece.stop - piece.first)
        crop = [round(value) for value in (piece.crop.x, piece.crop.y, piece.crop.side)]
        landmarks = piece.crop.to_crop(track.landmarks[piece.first : piece.stop], config.size)
        encoded = (
            _with_mask(piece.crop.apply(frame, config.size), points, config, priors)
            for frame, points in zip(of_piece, landmarks, strict=True)
        )
        sound = clip_sound(samples, piece.first, piece.stop - piece.first, config.fps)
        writer.clip(piece.name, video.name, crop, sound, encoded)


def _with_mask(
    image: UInt8[np.ndarray, "s s 3"], landmarks: Float[np.ndarray, "478 3"], config: ClipConfig, priors: Any
) -> EncodedFrame:
    return encode(image, landmarks, priors.person_mask(image) if config.priors and priors is not None else None)


def encode(
    image: UInt8[np.ndarray, "s s 3"], landmarks: Float[np.ndarray, "478 3"], mask: Float[np.ndarray, "s s"] | None
) -> EncodedFrame:
    """Encode a frame: JPEG of quality 95 without chroma subsampling, mesh image and mask as grey PNG.

    landmarks: in pixels of the frame, NaN without a face (the mesh image is then black). mask: of the person, in
    [0, 1]; without one, no mesh image is stored either.
    """
    images = {"image": cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), _JPEG)[1].tobytes()}
    if mask is not None:
        for name, grey in (("mesh", mesh_image(landmarks, image.shape[0])), ("mask", mask)):
            images[name] = cv2.imencode(".png", np.round(grey * 255).astype(np.uint8), _PNG)[1].tobytes()
    return EncodedFrame(images, landmarks)


def read_samples(video: pathlib.Path, seconds: float | None) -> Float[np.ndarray, "t"] | None:
    """Sound of a video, 16 kHz mono, from its first frame on, for at most `seconds`; None where it is silent or
    cannot be decoded."""
    blocks, length = [], 0
    for block in audio_blocks(video, RATE, channels=1):
        blocks.append(block[0])
        length += block.shape[1]
        if seconds is not None and length > (seconds + 1) * RATE:
            break
    samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    audible = np.isfinite(samples).all() and np.abs(samples).max(initial=0.0) > INAUDIBLE
    return np.clip(samples, -1.0, 1.0) if audible else None


def clip_sound(samples: Float[np.ndarray, "t"] | None, first: int, count: int, fps: float) -> Sound:
    """Sound of frames [first, first + count), cut or padded with silence to their exact length.

    The spectrogram is that of the stored samples, with 16 bits.
    """
    start, length = round(first / fps * RATE), round(count / fps * RATE)
    if samples is None:
        return Sound(None, silence(1 + math.floor(length * COLUMNS_PER_SECOND / RATE)))
    part = samples[start : start + length]
    part = np.pad(part, (0, length - len(part)))
    stored = (np.rint(part * 32767.0) / 32768.0).astype(np.float32)  # as read from the WAV file
    return Sound(part, mel_spectrogram(stored))
