"""Format of a prepared clip dataset on disk, version 1. `data.clip_folder` writes it, `pipelines.sources` reads it.

    dataset.json     {"format", "version", "storage", "size", "fps", "priors", "clips": [CLIP, …]}
    rejected.json    [{"source", "reason"}, …]
    clips/NAME/      storage "folder": frames/000000.jpg …, mesh/000000.png …, mask/000000.png …, landmarks.npy,
                     mel.npy, audio.wav, clip.json
    shard-00000.arrayrecord …   storage "arrayrecord": one record per frame; a clip's frames are consecutive

CLIP holds the fields of `Clip`. Landmarks are float32 [T, 478, 3] in pixels of the prepared frames (centres at whole
numbers), NaN where no face was detected; `mel.npy` is Wav2Lip's spectrogram, float32 [80, M]; `audio.wav` is 16 kHz
mono, missing without audible sound (the spectrogram is then silence). A record is a msgpack dictionary of bytes:
"image" (JPEG), "mesh" and "mask" (grey PNG), "landmarks" (float32 [478, 3]), "mel" (float32 [80, 16], the window
around the frame). Without priors there is no mesh and no mask.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from avfr_jax.landmarks import NUM_LANDMARKS
from avfr_jax.media import mel

FORMAT, VERSION = "avfr-clips", 1
Storage = Literal["folder", "arrayrecord"]
INDEX, REJECTED, CLIPS = "dataset.json", "rejected.json", "clips"
LANDMARKS_FILE, MEL_FILE, AUDIO_FILE = "landmarks.npy", "mel.npy", "audio.wav"
PRIORS = ("mesh", "mask")
FILES = {"image": ("frames", "jpg"), "mesh": ("mesh", "png"), "mask": ("mask", "png")}  # folder and ending
LANDMARKS = (NUM_LANDMARKS, 3)
MEL = (mel.BANDS, mel.WINDOW_COLUMNS)


@dataclasses.dataclass(frozen=True)
class Clip:
    """One prepared clip: consecutive frames of one head.

    Attributes:
      name: unique in the dataset.
      identity: the person; clips of one person share it.
      frames: number of frames.
      missing_faces: frames without a detected face (their landmarks are NaN).
      source: name of the video file.
      has_audio: whether there is sound; without it the mel is that of silence.
      crop: x, y and side of the crop, in pixels of the source.
      shard, first: number of the ArrayRecord shard, and of the clip's first record there.
    """

    name: str
    identity: str
    frames: int
    missing_faces: int = 0
    source: str = ""
    has_audio: bool = False
    crop: tuple[float, ...] = ()
    shard: int = 0
    first: int = 0


def clip_folder(dataset: pathlib.Path, name: str) -> pathlib.Path:
    return dataset / CLIPS / name


def frame_file(name: str, index: int) -> str:
    """Path of one image (`image`, `mesh` or `mask`) of a frame in its clip's folder."""
    folder, ending = FILES[name]
    return f"{folder}/{index:06d}.{ending}"


def shard_path(dataset: pathlib.Path, shard: int) -> pathlib.Path:
    return dataset / f"shard-{shard:05d}.arrayrecord"


def pack(images: Mapping[str, bytes], landmarks: np.ndarray, window: np.ndarray) -> bytes:
    """Serialise a frame's images, landmarks [478, 3] and mel window [80, 16] as a record."""
    import msgpack

    arrays = {"landmarks": landmarks.astype("<f4").tobytes(), "mel": window.astype("<f4").tobytes()}
    return msgpack.packb({"image": images["image"], **arrays, **images})


def unpack_array(record: Mapping[str, Any], name: Literal["landmarks", "mel"]) -> np.ndarray:
    """Array of a record. KeyError, TypeError or ValueError where it is missing or damaged."""
    return np.frombuffer(record[name], "<f4").reshape(LANDMARKS if name == "landmarks" else MEL).copy()
