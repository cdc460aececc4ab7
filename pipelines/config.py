"""Settings of the input pipeline."""

import dataclasses
from typing import Literal

from avfr_jax.arguments import set_whole_numbers
from avfr_jax.errors import ConfigError

FRAMES = {"pair": ("source", "driving"), "triplet": ("source", "between", "driving"), "single": ("driving",)}
"""Frames of a sample: a pair, a pair and the frame halfway between, or the second frame alone."""


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Settings of the input pipeline.

    Attributes:
      path: folder of a prepared dataset, or several separated by commas.
      batch_size: pairs in a batch of all processes together.
      size: height and width of the frames, pixels; those of the dataset must be a multiple of it.
      seed: of the order of everything, 0 ≤ seed < 2**64.
      repeats: samples per identity (or clip) and epoch.
      balance: `identity`: identities are sampled alike (FOMM's id_sampling); `clip`: clips are.
      time_flip: whether half of the pairs are reversed in time.
      frames: of a sample: `pair`, `triplet` (and the frame halfway, `between`) or `single` (`driving` alone).
      spans: distances between a pair's frames, each as frequent as the others; empty samples any two. Triplets need
        even ones.
      priors: two more channels: the mesh image and the head mask.
      landmarks: `source_landmarks` and `driving_landmarks`.
      mel: the mel spectrogram around the driving frame.
      identities, clips: read only these; everything if both are empty.
      exclude_identities, exclude_clips: never read these.
      workers: reading processes; 0 reads in threads of this one.
      threads: batches that a process reads concurrently.
      prefetch: batches that a process holds ready.
      max_corrupt: largest share of samples that may be unreadable.
    """

    path: str = ""
    batch_size: int = 36
    size: int = 256
    seed: int = 0
    repeats: int = 75
    balance: Literal["identity", "clip"] = "identity"
    time_flip: bool = True
    frames: Literal["pair", "triplet", "single"] = "pair"
    spans: tuple[int, ...] = ()
    priors: bool = False
    landmarks: bool = False
    mel: bool = False
    identities: tuple[str, ...] = ()
    clips: tuple[str, ...] = ()
    exclude_identities: tuple[str, ...] = ()
    exclude_clips: tuple[str, ...] = ()
    workers: int = 0
    threads: int = 4
    prefetch: int = 4
    max_corrupt: float = 0.01

    def __post_init__(self) -> None:
        least = {"batch_size": 1, "size": 2, "seed": 0, "repeats": 1, "workers": 0, "threads": 1, "prefetch": 1}
        set_whole_numbers(self, least, "data.")
        if self.seed >= 2**64:
            raise ConfigError(f"data.seed must be below 2**64, not {self.seed}.")
        if not 0 <= self.max_corrupt <= 1:
            raise ConfigError(f"data.max_corrupt is a share between 0 and 1, not {self.max_corrupt}.")
        if any(span < 1 for span in self.spans):
            raise ConfigError(f"data.spans must be at least 1, not {list(self.spans)}.")
        if self.frames == "triplet" and (not self.spans or any(span % 2 for span in self.spans)):
            raise ConfigError(f"Triplets need data.spans of even numbers of frames, not {list(self.spans)}.")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the frames of a sample."""
        return FRAMES[self.frames]

    def places(self, source: int, driving: int) -> dict[str, int]:
        """Frame numbers of a sample by name."""
        pair = {"source": source, "between": (source + driving) // 2, "driving": driving}
        return {name: pair[name] for name in self.names}

    def what(self, which: str) -> tuple[str, ...]:
        """Entries to read of frame `which` (one of `names`), for `ClipDataset.read_frame`."""
        names = ("priors", "landmarks", "mel") if which == "driving" else ("priors", "landmarks")
        return ("image", *(name for name in names if getattr(self, name)))
