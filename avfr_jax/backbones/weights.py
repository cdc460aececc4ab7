"""Weights of frozen networks on disk.

Each network is a folder `NAME/` in `avfr_jax.folders.backbone_folder()` with `weights.npz` (arrays by slash-separated
path) and `about.json` (the imported file's name and SHA-256, and the SHA-256 of the arrays, checked on load).
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from avfr_jax.checkpoints import flatten, unflatten
from avfr_jax.errors import CheckpointError, MissingBackendError, OutputError
from avfr_jax.folders import backbone_folder
from avfr_jax.interrupts import scratch_beside, uninterrupted

_TORCHVISION = "https://download.pytorch.org/models/"
_ALBANIE = "https://www.robots.ox.ac.uk/~albanie/models/pytorch-mcn/"
_HOPENET = "https://drive.google.com/open?id=1m25PrSE7g9D2q2XJVMR6IA7RaCvWSzCR as "
_FACE_API = ("vladmandic-face-api-1.7.15.tgz", "https://registry.npmjs.org/@vladmandic/face-api/-/")
_NPM_PACK = "npm pack @vladmandic/face-api@1.7.15"
_LPIPS = "https://github.com/richzhang/PerceptualSimilarity/raw/master/lpips/weights/v0.1/"


@dataclasses.dataclass(frozen=True)
class Source:
    """A published file.

    Attributes:
      file: its name.
      address: its folder on the web, or its page and " as ".
      command: KIND of `avfr import`.
      fetched_by: the command that fetches it, where a package registry has it.
    """

    file: str
    address: str
    command: str
    fetched_by: str = ""

    @property
    def advice(self) -> str:
        """How to get and import it."""
        get = f"run {self.fetched_by} and" if self.fetched_by else f"fetch {self.address}{self.file} and run"
        return f"{get} avfr import {self.command} {self.file}"


SOURCES = {
    "vgg19": Source("vgg19-dcbb9e9d.pth", _TORCHVISION, "vgg19"),
    "vgg16": Source("vgg16-397923af.pth", _TORCHVISION, "vgg16"),
    "alexnet": Source("alexnet-owt-7be5be79.pth", _TORCHVISION, "alexnet"),
    "face-vgg": Source("vgg_face_dag.pth", _ALBANIE, "face-vgg"),
    "hopenet": Source("hopenet_robust_alpha1.pkl", _HOPENET, "hopenet"),
    "lpips-alex": Source("alex.pth", _LPIPS, "lpips"),
    "lpips-vgg": Source("vgg.pth", _LPIPS, "lpips"),
    "face-recognition": Source(*_FACE_API, "face-recognition", _NPM_PACK),
    "landmarks68": Source(*_FACE_API, "landmarks68", _NPM_PACK),
}


def weights_file(name: str) -> pathlib.Path:
    """Path of the weights of a network of `SOURCES`, whether it exists or not."""
    return backbone_folder() / name / "weights.npz"


def is_imported(name: str) -> bool:
    """Whether a network's weights have been imported."""
    return weights_file(name).is_file()


def sha256(path: pathlib.Path) -> str:
    """A file's SHA-256 in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def save_weights(name: str, tree: Mapping[str, Any], source: pathlib.Path) -> pathlib.Path:
    """Store a network's weights in the weights folder, in place of those there.

    Args:
      name: one of `SOURCES`.
      tree: nested dictionaries of arrays.
      source: the file they were read from.

    Returns:
      The folder.

    Raises:
      OutputError: it cannot be written.
    """
    path = weights_file(name)
    about = path.with_name("about.json")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch_beside(path) as new, scratch_beside(about) as new_about:
            with new.open("wb") as stream:
                arrays: Any = {name: np.asarray(value, np.float32) for name, value in flatten(tree).items()}
                np.savez(stream, **arrays)
            facts = {"source": source.name, "source_sha256": sha256(source), "weights_sha256": sha256(new)}
            new_about.write_text(json.dumps(facts, indent=2) + "\n")
            with uninterrupted():
                new.replace(path)
                new_about.replace(about)
    except OSError as error:
        raise OutputError(f"The weights of {name} cannot be written to {path.parent} ({error.strerror}).") from None
    return path.parent


def describe(name: str) -> dict[str, str]:
    """Source and checksums of a network's imported weights.

    Raises:
      MissingBackendError: they are not imported; names the file to fetch and the command that imports it.
      CheckpointError: the record is damaged.
    """
    path = weights_file(name)
    if not path.is_file():
        raise MissingBackendError(f"The weights of {name} are not in {path.parent}: {SOURCES[name].advice}.")
    try:
        facts = json.loads(path.with_name("about.json").read_text())
        return {key: facts[key] for key in ("source", "source_sha256", "weights_sha256")}
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(f"{path.with_name('about.json')} is missing or damaged; {_again(name)}.") from None


def origin(name: str) -> str:
    """The source of a network's imported weights, for logs and model cards: the file's name and the first twelve
    hexadecimal digits of its SHA-256.

    Raises:
      MissingBackendError, CheckpointError: as for `describe`.
    """
    facts = describe(name)
    return f"{facts['source']} (SHA-256 {facts['source_sha256'][:12]})"


def load_weights(name: str) -> dict[str, Any]:
    """A network's weights as nested dictionaries of float32 arrays.

    Raises:
      MissingBackendError: as for `describe`.
      CheckpointError: they are damaged.
    """
    path, facts = weights_file(name), describe(name)
    if sha256(path) != facts["weights_sha256"]:
        raise CheckpointError(f"{path} is damaged (its checksum differs); {_again(name)}.")
    with np.load(path) as arrays:
        return unflatten(arrays)


def _again(name: str) -> str:
    return f"run avfr import {SOURCES[name].command} again with {SOURCES[name].file}"
