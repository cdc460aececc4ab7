"""One point of a codec's curve on one clip: measured once, kept in a file, and found there the next time."""

import dataclasses
import functools
import hashlib
import json
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from avfr_jax.errors import CheckpointError, MissingBackendError
from avfr_jax.media.files import atomic_file
from avfr_jax.metrics.image import ms_ssim
from avfr_jax.metrics.rate import bits_per_pixel, kbits_per_second
from experiments.evaluate import Reference, mean_distance, resized
from experiments.rate_distortion.base import Coded, VideoCodec

FPS = 25.0
_FORMAT = 1  # of the files: raised when what is measured changes, so that old ones are measured again


class Measure(NamedTuple):
    """A figure of the tables.

    Attributes:
      key: its name in the files.
      title: its heading.
      better: `higher`, `lower`, or empty where neither is meant; what has a direction is drawn and has a BD-rate.
      form: how it is printed.
    """

    key: str
    title: str
    better: str
    form: str


MEASURES = (
    Measure("kbps", "kbit/s", "", ".1f"),
    Measure("bpp", "BPP", "", ".4f"),
    Measure("l1", "L1", "lower", ".4f"),
    Measure("psnr", "PSNR dB", "higher", ".2f"),
    Measure("ssim", "SSIM", "higher", ".3f"),
    Measure("ms_ssim", "MS-SSIM", "higher", ".3f"),
    Measure("lpips", "LPIPS", "lower", ".3f"),
    Measure("lmd", "landmarks px", "lower", ".2f"),
    Measure("mouth", "lips px", "lower", ".2f"),
    Measure("missed", "face lost %", "", ".1f"),
    Measure("file_kbps", "file kbit/s", "", ".1f"),
    Measure("sound_kbps", "sound kbit/s", "", ".1f"),
    Measure("encode_ms", "encode ms", "", ".1f"),
    Measure("decode_ms", "decode ms", "", ".1f"),
)


@dataclasses.dataclass(frozen=True)
class Record:
    """A codec at one setting on one clip.

    Attributes:
      size: pixels of the clip's side.
      figures: by the keys of `MEASURES`; what could not be measured is absent, as landmark distances are where every
        face was lost.
      kinds: bytes sent, by kind.
    """

    size: int
    codec: str
    point: str
    clip: str
    figures: dict[str, float]
    kinds: dict[str, int]


Networks = Mapping[str, Callable[[Any, Any], Any]]


def open_networks() -> tuple[Networks, list[str]]:
    """Distances that need trained networks, by their key, and a sentence for each that is not at hand."""
    from avfr_jax.backbones.lpips import load_lpips

    left_out = ["FID is left out: there is no InceptionV3 in this package."]
    try:
        network = load_lpips("alex")
    except (MissingBackendError, CheckpointError) as error:
        return {}, [f"LPIPS is left out: {error}", *left_out]
    compare = jax.jit(lambda lpips, a, b: lpips(a, b))
    return {"lpips": functools.partial(compare, network)}, left_out


def figures(reference: Reference, coded: Coded, networks: Networks) -> dict[str, float]:
    """Every figure of a clip after its way through a codec.

    Bits a pixel are of the size that came back, which may be larger; all else is compared at the clip's.

    Raises:
      ValueError: the codec lost or invented frames.
    """
    shown, clip = coded.frames, reference.frames
    if len(shown) != len(clip):
        raise ValueError(f"{len(shown)} frames came back of {len(clip)}")
    n, height, width = shown.shape[:3]
    rate = {
        "kbps": kbits_per_second(coded.stream_bytes, n, FPS),
        "bpp": bits_per_pixel(coded.stream_bytes, n, height, width),
        "encode_ms": 1000 * coded.encode_seconds / n,
        "decode_ms": 1000 * coded.decode_seconds / n,
    }
    if "container" in coded.bytes_by_kind:
        rate["file_kbps"] = kbits_per_second(coded.stream_bytes + coded.bytes_by_kind["container"], n, FPS)
    if "sound" in coded.bytes_by_kind:
        rate["sound_kbps"] = kbits_per_second(coded.bytes_by_kind["sound"], n, FPS)
    output = np.stack([resized(frame, clip.shape[1]) for frame in shown])
    row = {key: value for key, value in reference.score(output).items() if key in _KEYS or key == "faces_missed"}
    row["missed"] = 100 * row.pop("faces_missed") / n
    networked = {key: mean_distance(compare, output, clip) for key, compare in networks.items()}
    return rate | row | {"ms_ssim": mean_distance(ms_ssim, output, clip)} | networked


_KEYS = {measure.key for measure in MEASURES}


class Points:
    """The points measured so far: a file each in a folder, written whole or not at all.

    A file is found again by all that its figures depend on: the codec's settings, the clip's pixels and sound, and
    which networks took part.
    """

    def __init__(self, folder: pathlib.Path, networks: Networks) -> None:
        self.folder, self._networks = folder, networks

    def find(self, codec: VideoCodec, clip: str, frames: np.ndarray, audio: np.ndarray | None) -> Record | None:
        """What was measured; None if nothing was, or the file is damaged."""
        try:
            return Record(**json.loads(self._path(codec, clip, frames, audio).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def measure(self, codec: VideoCodec, clip: str, reference: Reference, audio: np.ndarray | None = None) -> Record:
        """Code the clip and measure what comes back.

        Raises:
          AvfrError: the codec refuses the clip, or the folder cannot be written to.
        """
        coded = codec.code(reference.frames, FPS, audio)
        found = figures(reference, coded, self._networks)
        size = reference.frames.shape[1]
        record = Record(size, codec.name, codec.point, clip, found, dict(coded.bytes_by_kind))
        with atomic_file(self._path(codec, clip, reference.frames, audio), overwrite=True) as path:
            path.write_text(json.dumps(dataclasses.asdict(record), indent=1))
        return record

    def _path(self, codec: VideoCodec, clip: str, frames: np.ndarray, audio: np.ndarray | None) -> pathlib.Path:
        facts = [_FORMAT, codec.name, codec.point, sorted(codec.settings.items()), sorted(self._networks), frames.shape]
        digest = hashlib.sha256(json.dumps(facts).encode() + np.ascontiguousarray(frames).tobytes())
        if audio is not None:
            digest.update(np.ascontiguousarray(audio).tobytes())
        name = re.sub(r"[^\w.-]", "_", f"{clip}-{codec.name}-{codec.point}")
        return self.folder / f"{name[-80:]}-{digest.hexdigest()[:16]}.json"
