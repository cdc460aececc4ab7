"""Figures of one point of a codec's curve on one clip, measured once and stored."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from avfr_jax.errors import CheckpointError, MissingBackendError
from avfr_jax.metrics.image import ms_ssim
from avfr_jax.metrics.rate import bits_per_pixel, kbits_per_second
from experiments.evaluate import Reference, mean_distance
from experiments.harness import FPS, Results, digest, resized
from experiments.rate_distortion.base import Coded, VideoCodec

_FORMAT = 1  # incremented when the figures change, so that old results are measured again


class Measure(NamedTuple):
    """A figure of the tables.

    Attributes:
      key: its name in the files.
      title: its heading.
      better: `higher`, `lower`, or empty; measures with a direction are plotted and have a BD-rate.
      form: format specification.
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
      figures: by the keys of `MEASURES`; unavailable ones are absent, such as landmark distances without any face.
      kinds: bytes sent by kind.
    """

    size: int
    codec: str
    point: str
    clip: str
    figures: dict[str, float]
    kinds: dict[str, int]


Networks = Mapping[str, Callable[[Any, Any], Any]]


def open_networks() -> tuple[Networks, list[str]]:
    """Open the distances that need trained networks, by key; and a sentence for each that is unavailable."""
    from avfr_jax.backbones.lpips import load_lpips

    left_out = ["FID is left out: there is no InceptionV3 in this package."]
    try:
        network = load_lpips("alex")
    except (MissingBackendError, CheckpointError) as error:
        return {}, [f"LPIPS is left out: {error}", *left_out]
    compare = jax.jit(lambda lpips, a, b: lpips(a, b))
    return {"lpips": functools.partial(compare, network)}, left_out


def figures(reference: Reference, coded: Coded, networks: Networks) -> dict[str, float]:
    """Compute the figures of a coded clip.

    Bits per pixel refer to the size of the output, which may be larger; everything else is compared at the clip's.

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


class Measurements:
    """Stored points, identified by the codec's settings, the clip's frames and sound, and the networks used."""

    def __init__(self, results: Results, networks: Networks) -> None:
        self._results, self._networks = results, networks

    def find(self, codec: VideoCodec, clip: str, frames: np.ndarray, audio: np.ndarray | None) -> Record | None:
        """Look up a point; None where it has not been measured."""
        content = self._results.find(*self._key(codec, clip, frames, audio))
        try:
            return None if content is None else Record(**content)
        except TypeError:
            return None

    def measure(self, codec: VideoCodec, clip: str, reference: Reference, audio: np.ndarray | None = None) -> Record:
        """Code the clip and measure the output.

        Raises:
          AvfrError: the codec refuses the clip, or the folder cannot be written to.
        """
        coded = codec.code(reference.frames, FPS, audio)
        size, row = reference.frames.shape[1], figures(reference, coded, self._networks)
        record = Record(size, codec.name, codec.point, clip, row, dict(coded.bytes_by_kind))
        self._results.add(*self._key(codec, clip, reference.frames, audio), dataclasses.asdict(record))
        return record

    def _key(self, codec: VideoCodec, clip: str, frames: np.ndarray, audio: np.ndarray | None) -> tuple[str, list[Any]]:
        facts = [_FORMAT, codec.name, codec.point, sorted(codec.settings.items()), sorted(self._networks)]
        return f"{clip}-{codec.name}-{codec.point}", [*facts, digest(frames, audio)]
