"""One video into clips: the face followed, one square cut out, every frame encoded with its priors."""

import dataclasses
import itertools
import math
import pathlib
from collections.abc import Iterator

import cv2
import numpy as np

from avfr_jax.errors import FaceError, InputError
from avfr_jax.faces import SMALLEST_FACE, Crop, FaceBackend, crop_for_clip, mesh_image
from avfr_jax.media.audio import audio_blocks
from avfr_jax.media.image import read_image
from avfr_jax.media.mel import COLUMNS_PER_SECOND, RATE, mel_spectrogram, silence
from avfr_jax.media.video import VideoReader
from avfr_jax.typing import Float, UInt8
from data.clip_folder import track as tracking
from data.clip_folder.config import ClipConfig
from data.clip_folder.store import EncodedFrame, Sound, SourceWriter

MOST_MISSING = 0.5  # share of the frames of a shot that may lack a face
INAUDIBLE = 1e-4  # a track whose samples are all smaller is as good as none
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 3)


@dataclasses.dataclass(frozen=True, eq=False)
class _Piece:
    """Frames [first, stop) of a video that become one clip, and where they are cut out."""

    name: str
    first: int
    stop: int
    crop: Crop


def prepare_video(
    video: pathlib.Path, name: str, config: ClipConfig, priors: FaceBackend | None, writer: SourceWriter
) -> None:
    """Writes the clips of one video and notes what is not used of it, and why.

    name: of the clip; of several clips of one video each gets the number of its first frame added.
    priors: the face backend; None only where neither crop nor priors need one.

    Raises InputError for a video that cannot be decoded, OutputError if the disk fails.
    """
    reader = VideoReader(video, config.fps)
    if config.crop == "none" and reader.info.width != reader.info.height:
        raise InputError(f"{video} is {reader.info.width}×{reader.info.height}: only square videos can stay uncropped")
    if priors is None:
        count = sum(1 for _ in _frames(reader, config))
        track = tracking.VideoTrack(
            np.full((count, 478, 3), np.nan, np.float32), (), {}, reader.info.height, reader.info.width
        )
        ranges = [(0, count)]
    else:
        track = tracking.follow(_frames(reader, config), priors)
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
    """Writes a picture of one face as a clip of one frame; arguments and errors as `prepare_video`, and FaceError
    where there is no face that can be used."""
    image = read_image(picture)
    height, width = image.shape[:2]
    if config.crop == "none" and height != width:
        raise InputError(f"{picture} is {width}×{height}: only square pictures can stay uncropped")
    faces = priors.detect(image) if priors is not None else []
    if priors is not None and not faces:
        raise FaceError("no face")
    landmarks = faces[0].landmarks if faces else np.full((478, 3), np.nan, np.float32)
    track = tracking.VideoTrack(landmarks[None], (), {}, height, width)
    still = dataclasses.replace(config, min_frames=1)
    crop = _piece(track, 0, 1, name, still, priors is not None).crop
    frame = crop.apply(image, config.size)
    points = crop.to_crop(track.landmarks, config.size)[0]
    places = [round(value) for value in (crop.x, crop.y, crop.side)]
    sound = clip_sound(None, 0, 1, config.fps)
    writer.clip(name, picture.name, places, sound, [_encode(frame, points, priors if config.priors else None)])


def _frames(reader: VideoReader, config: ClipConfig) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    limit = None if config.seconds is None else max(1, round(config.seconds * config.fps))
    return itertools.islice(iter(reader), limit)


def _piece(track: tracking.VideoTrack, first: int, stop: int, name: str, config: ClipConfig, faces: bool) -> _Piece:
    """The clip of one shot or tube, without its ends where no face is in view. FaceError: why there is none."""
    if faces:
        found = track.found[first:stop]
        if found.mean() < 1 - MOST_MISSING:
            raise FaceError(f"no face in {(~found).mean():.0%} of {len(found)} frames")
        first, stop = tracking.trim(track.found, first, stop)
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
    reader: VideoReader,
    track: tracking.VideoTrack,
    pieces: list[_Piece],
    config: ClipConfig,
    priors: FaceBackend | None,
    writer: SourceWriter,
) -> None:
    """Decodes the video a second time and encodes the pieces on the way."""
    if not pieces:
        return
    samples = read_samples(video, config.seconds) if reader.info.has_audio else None
    frames = enumerate(_frames(reader, config))
    for piece in pieces:
        of_piece = itertools.islice((f for i, f in frames if i >= piece.first), piece.stop - piece.first)
        crop = [round(value) for value in (piece.crop.x, piece.crop.y, piece.crop.side)]
        landmarks = piece.crop.to_crop(track.landmarks[piece.first : piece.stop], config.size)
        encoded = (
            _encode(piece.crop.apply(frame, config.size), points, priors if config.priors else None)
            for frame, points in zip(of_piece, landmarks, strict=True)
        )
        sound = clip_sound(samples, piece.first, piece.stop - piece.first, config.fps)
        writer.clip(piece.name, video.name, crop, sound, encoded)


def _encode(
    image: UInt8[np.ndarray, "s s 3"], landmarks: Float[np.ndarray, "478 3"], priors: FaceBackend | None
) -> EncodedFrame:
    return encode(image, landmarks, None if priors is None else priors.person_mask(image))


def encode(
    image: UInt8[np.ndarray, "s s 3"],
    landmarks: Float[np.ndarray, "478 3"],
    mask: Float[np.ndarray, "s s"] | None,
) -> EncodedFrame:
    """A prepared frame as it is stored: JPEG of quality 95 without chroma subsampling, mesh and mask as grey PNG.

    landmarks: in pixels of the frame, NaN where there is no face (the mesh is then black). mask: of the person, in
    [0, 1]; without one, no mesh is stored either.
    """
    picture = _encoded(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), _JPEG)
    if mask is None:
        return EncodedFrame(picture, None, None, landmarks)
    mesh = mesh_image(landmarks, image.shape[0])
    return EncodedFrame(picture, _encoded(".png", _bytes(mesh), _PNG), _encoded(".png", _bytes(mask), _PNG), landmarks)


def _encoded(ending: str, image: UInt8[np.ndarray, "..."], options: tuple[int, ...]) -> bytes:
    return cv2.imencode(ending, image, options)[1].tobytes()


def _bytes(image: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    return np.round(image * 255).astype(np.uint8)


def read_samples(video: pathlib.Path, seconds: float | None) -> Float[np.ndarray, "t"] | None:
    """The sound of a video, 16 kHz mono, from its first frame on, for at most `seconds`; None where nothing can be
    decoded or heard."""
    blocks, length = [], 0
    for block in audio_blocks(video, RATE, channels=1):
        blocks.append(block[0])
        length += block.shape[1]
        if seconds is not None and length > (seconds + 1) * RATE:
            break
    samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    heard = np.isfinite(samples).all() and np.abs(samples).max(initial=0.0) > INAUDIBLE
    return np.clip(samples, -1.0, 1.0) if heard else None


def clip_sound(samples: Float[np.ndarray, "t"] | None, first: int, count: int, fps: float) -> Sound:
    """The sound of frames [first, first + count): cut, or continued with silence, to their length exactly.

    The spectrogram is that of the samples as they are stored, with 16 bits.
    """
    start, length = round(first / fps * RATE), round(count / fps * RATE)
    if samples is None:
        return Sound(None, silence(1 + math.floor(length * COLUMNS_PER_SECOND / RATE)))
    part = samples[start : start + length]
    part = np.pad(part, (0, length - len(part)))
    stored = (np.rint(part * 32767.0) / 32768.0).astype(np.float32)  # as a reader of the WAV file sees them
    return Sound(part, mel_spectrogram(stored))
