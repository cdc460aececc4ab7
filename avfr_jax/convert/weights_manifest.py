"""Weights in the layout of TensorFlow.js: a manifest in JSON that lists the tensors, and files of their bytes.

The manifest is a list of groups `{"weights": [{"name", "shape", "dtype", "quantization"}, …], "paths": […]}`; the
tensors of a group follow one another, without gaps, in its files joined together. Where a tensor is quantised, its
value is integer · scale + min.
"""

import json
import math
import pathlib
import tarfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from avfr_jax.errors import CheckpointError, shortened
from avfr_jax.media.files import check_input

_SUFFIX = "-weights_manifest.json"
_DTYPES = {"float32": "<f4", "int32": "<i4", "uint8": "u1", "uint16": "<u2", "float16": "<f2"}
_LARGEST = 1 << 30  # bytes of an archive or file that are looked at
Read = Callable[[str], bytes]


def read_manifest_weights(path: pathlib.Path, network: str, package: str) -> dict[str, np.ndarray]:
    """The tensors of one network, float32, from a package's archive or from a manifest beside its files.

    Args:
      path: a `.tgz` as `npm pack` writes it, or a manifest.
      network: its files in the archive are `NETWORK-weights_manifest.json` and those that the manifest names.
      package: name of the npm package, for messages.

    Raises:
      InputError: there is no such file.
      CheckpointError: it is neither, or damaged, or lacks the network.
    """
    path = check_input(path)
    if path.stat().st_size > _LARGEST:
        raise CheckpointError(f"{shortened(path.name)} is too large for {package}'s archive or a manifest of weights.")
    with path.open("rb") as stream:
        head = stream.read(2)
    if head == b"\x1f\x8b":
        return _from_archive(path, network, package)
    manifest = path.read_bytes()
    if not manifest.lstrip()[:1] == b"[":
        raise CheckpointError(
            f"{shortened(path.name)} is neither the archive that npm pack {package} writes nor a manifest "
            f"({network}{_SUFFIX}): give one of the two."
        )
    return _tensors(manifest, lambda name: _sibling(path, name), shortened(path.name))


def _from_archive(path: pathlib.Path, network: str, package: str) -> dict[str, np.ndarray]:
    what = shortened(path.name)
    try:
        with tarfile.open(path, "r:gz") as archive:
            members = {}
            for member in archive:
                if member.offset_data + member.size > _LARGEST:
                    raise CheckpointError(f"{what} unpacks to more than {package} holds; fetch it again.")
                if member.isfile():
                    members[member.name] = member
            manifests = [name for name in members if name.rpartition("/")[2] == network + _SUFFIX]
            if not manifests:
                raise CheckpointError(f"{what} has no {network}{_SUFFIX}: it is not the archive of {package}.")
            folder = manifests[0].rpartition("/")[0]

            def read(name: str) -> bytes:
                full = f"{folder}/{name}" if folder else name
                stream = archive.extractfile(members[full]) if full in members else None
                if stream is None:
                    raise CheckpointError(f"{what} lacks {shortened(full)}, which its manifest names; fetch it again.")
                return stream.read()

            return _tensors(read(network + _SUFFIX), read, what)
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        reason = shortened(error, 80)
        raise CheckpointError(f"{what} is no tar archive, or a damaged one ({reason}); fetch it again.") from None


def _sibling(manifest: pathlib.Path, name: str) -> bytes:
    """Content of a file in the manifest's folder."""
    path = manifest.parent / name
    if not path.is_file() or path.stat().st_size > _LARGEST:
        raise CheckpointError(
            f"{shortened(manifest.name)} needs {shortened(name)}, which is not beside it: put both in one folder."
        )
    return path.read_bytes()


def _tensors(manifest: bytes, read: Read, what: str) -> dict[str, np.ndarray]:
    """Decode all groups of a manifest."""
    try:
        groups = json.loads(manifest)
        listed = [([_entry(w) for w in group["weights"]], [str(p) for p in group["paths"]]) for group in groups]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{what} holds no readable manifest of weights ({shortened(error, 80)}).") from None
    tensors: dict[str, np.ndarray] = {}
    for entries, paths in listed:
        for name in paths:
            if name in ("", ".", "..") or "/" in name or "\\" in name:
                raise CheckpointError(f"The manifest of {what} names a file outside its folder ({shortened(name)}).")
        content = b"".join(read(name) for name in paths)
        wanted = sum(_size(entry) for entry in entries)
        if len(content) != wanted:
            raise CheckpointError(
                f"The weights of {what} are {len(content)} bytes, not the {wanted} of its manifest; fetch it again."
            )
        start = 0
        for entry in entries:
            tensors[entry["name"]] = _decoded(entry, content[start : start + _size(entry)])
            start += _size(entry)
    return tensors


def _entry(given: Mapping[str, Any]) -> dict[str, Any]:
    """A tensor's entry with checked types. ValueError where it cannot be read."""
    quantised = given.get("quantization") or {}
    stored = str(quantised.get("dtype", given["dtype"]))
    shape = [int(side) for side in given["shape"]]
    scale, low = float(quantised.get("scale", 1)), float(quantised.get("min", 0))
    if stored not in _DTYPES or any(side < 0 for side in shape) or math.prod(shape) > _LARGEST:
        raise ValueError(f"tensor {given['name']!r} of dtype {stored} and shape {shape}")
    if not (math.isfinite(scale) and math.isfinite(low)):
        raise ValueError(f"the scale of tensor {given['name']!r}")
    return {"name": str(given["name"]), "shape": shape, "dtype": np.dtype(_DTYPES[stored]), "scale": scale, "min": low}


def _size(entry: Mapping[str, Any]) -> int:
    return int(math.prod(entry["shape"]) * entry["dtype"].itemsize)


def _decoded(entry: Mapping[str, Any], content: bytes) -> np.ndarray:
    # The reference program computes in float32 from scale and minimum in double precision; both roundings are small.
    values = np.frombuffer(content, entry["dtype"]).astype(np.float64) * entry["scale"] + entry["min"]
    decoded: np.ndarray = values.astype(np.float32).reshape(entry["shape"])
    return decoded
