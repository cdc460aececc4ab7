"""Small prepared datasets, written as `data.clip_folder` writes them."""

import io
import json
import pathlib
from typing import Any

import msgpack
import numpy as np
from array_record.python import array_record_module
from PIL import Image

from avfr_jax.media import mel as mel_scale

SIZE = 32
# name -> identity, frames; the number of clips must not change an identity's frequency
CLIPS = {"ann-1": ("ann", 9), "ann-2": ("ann", 5), "ann-3": ("ann", 1), "bob-1": ("bob", 12), "cy-1": ("cy", 7)}


def _encoded(image: np.ndarray, kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return out.getvalue()


def frame_files(clip: int, frame: int, size: int = SIZE) -> dict[str, bytes]:
    """JPEG and PNGs of a frame: a smooth picture whose red encodes the clip, green the frame."""
    ramp = np.linspace(0, 60, size, dtype=np.float32)
    red, green = np.full((size, size), 20 + 40 * clip), np.full((size, size), 20 + 15 * frame)
    image = np.stack([red, green, ramp[None, :] + ramp[:, None]], -1).astype(np.uint8)
    mesh, mask = np.full((size, size), 3 * frame, np.uint8), np.full((size, size), 255, np.uint8)
    mask[: size // 4] = 0
    return {"image": _encoded(image, "JPEG"), "mesh": _encoded(mesh, "PNG"), "mask": _encoded(mask, "PNG")}


def clip_arrays(clip: int, frames: int, size: int = SIZE) -> dict[str, np.ndarray]:
    """Landmarks in pixels (no face in frame 2) and the mel of a clip."""
    rng = np.random.default_rng(clip)
    landmarks = rng.uniform(0, size - 1, (frames, 478, 3)).astype(np.float32)
    landmarks[2:3] = np.nan
    return {"landmarks": landmarks, "mel": rng.uniform(-4, 4, (80, int(80 * frames / 25) + 1)).astype(np.float32)}


def write_dataset(
    path: pathlib.Path, storage: str = "folder", clips: dict[str, tuple[str, int]] = CLIPS
) -> pathlib.Path:
    """Write a dataset with the same content in either storage; the last clip is silent."""
    path.mkdir(parents=True)
    listing: list[dict[str, Any]] = []
    records = []
    shards: list[list[bytes]] = [[], []]
    for number, (name, (identity, frames)) in enumerate(clips.items()):
        shard = shards[number % 2]
        silent = number == len(clips) - 1
        arrays = clip_arrays(number, frames)
        files = [frame_files(number, i) for i in range(frames)]
        listing.append(
            {"name": name, "identity": identity, "frames": frames, "missing_faces": int(frames > 2)}
            | {"source": f"{name}.mp4", "has_audio": not silent, "crop": [4, 2, 300]}
            | {"shard": number % 2, "first": len(shard)}
        )
        if storage == "folder":
            _write_folder(path / "clips" / name, files, arrays, silent)
        for i in range(frames):
            mel = mel_scale.silence() if silent else mel_scale.mel_window(arrays["mel"], i)
            record = {**files[i], "landmarks": arrays["landmarks"][i].tobytes(), "mel": mel.tobytes()}
            shard.append(msgpack.packb(record))
    if storage == "arrayrecord":
        for number, records in enumerate(shards):
            writer = array_record_module.ArrayRecordWriter(
                str(path / f"shard-{number:05d}.arrayrecord"), "group_size:1"
            )
            for record in records:
                writer.write(record)
            writer.close()
    write_listing(path, listing, storage=storage)
    return path


def write_listing(path: pathlib.Path, clips: list[dict[str, Any]], **changes: Any) -> None:
    """Write dataset.json."""
    content = {"format": "avfr-clips", "version": 1, "storage": "folder", "size": SIZE, "fps": 25, "clips": clips}
    (path / "dataset.json").write_text(json.dumps(content | changes))


def _write_folder(folder: pathlib.Path, files: list[dict[str, bytes]], arrays: dict[str, np.ndarray], silent: bool):
    for kind, name in (("frames", "image"), ("mesh", "mesh"), ("mask", "mask")):
        (folder / kind).mkdir(parents=True)
        for i, frame in enumerate(files):
            suffix = "jpg" if kind == "frames" else "png"
            (folder / kind / f"{i:06d}.{suffix}").write_bytes(frame[name])
    np.save(folder / "landmarks.npy", arrays["landmarks"])
    if not silent:
        np.save(folder / "mel.npy", arrays["mel"])
