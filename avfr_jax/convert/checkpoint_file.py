"""Files of published weights: their kind, which their first bytes tell, and the state dictionaries in them."""

import pathlib
import struct
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from avfr_jax.convert.torch_file import read_torch_file
from avfr_jax.errors import CheckpointError, shortened
from avfr_jax.media.files import check_input

_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf": "7-Zip",
    b"Rar!": "RAR",
}
_OTHER = {b"\x89HDF": "an HDF5 (Keras) file", b"\x93NUMPY": "a NumPy file", b"{": "a JSON file", b"%PDF": "a PDF"}
_PAGES = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")
_WRAPPERS = ("state_dict", "model_state_dict", "model", "params")
_PREFIXES = ("module.", "_orig_mod.")
_LONGEST_NAME = 500


def _check_kind(path: pathlib.Path, head: bytes, size: int) -> None:
    """CheckpointError for what people take for checkpoints, by its first bytes."""
    name = shortened(path.name)
    for magic, program in _COMPRESSED.items():
        if head.startswith(magic):
            raise CheckpointError(f"{name} is compressed with {program}; unpack it and import the file inside.")
    if head.lstrip().lower().startswith(_PAGES):
        raise CheckpointError(
            f"{name} is a web page, not a checkpoint: the address is one of a page about the file, or asks for a "
            "confirmation; fetch the file itself."
        )
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{name} is a git-lfs pointer, not the file that it stands for; run git lfs pull.")
    if head[257:262] == b"ustar":
        raise CheckpointError(f"{name} is a tar archive; unpack it and import the file inside.")
    for magic, kind in _OTHER.items():
        if head.startswith(magic):
            raise CheckpointError(f"{name} is {kind}, not a checkpoint of PyTorch or safetensors.")
    if head.startswith(b"PK\3\4"):
        with path.open("rb") as file:
            file.seek(max(size - 65600, 0))  # the end record, and the longest comment behind it
            if b"PK\5\6" not in file.read():
                raise CheckpointError(f"{name} is cut short: its end is missing; fetch it again.")


def _is_safetensors(head: bytes, size: int) -> bool:
    if len(head) < 9 or head[8:9] != b"{":
        return False
    (header,) = struct.unpack("<Q", head[:8])
    return bool(header <= size)


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{shortened(path.name)} is a damaged safetensors file ({shortened(error, 120)})."
        ) from None


def read_checkpoint(path: str | pathlib.Path) -> Any:
    """Read a file of weights, in PyTorch's format or as safetensors; its content decides, not its name.

    Returns:
      Dictionaries, lists, numbers, strings and arrays.

    Raises:
      InputError: there is no such file, it is empty, or it cannot be read, see `media.files.check_input`.
      CheckpointError: it is damaged, of another kind (a web page, a git-lfs pointer, a compressed file: the sentence
        says which), or unsafe to read, see `read_torch_file`.
    """
    path = check_input(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(512)
    if _is_safetensors(head, size):
        return _read_safetensors(path)
    _check_kind(path, head, size)
    return read_torch_file(path)


def unwrapped(value: Any) -> Any:
    """The dictionary inside `{"state_dict": …}` and its like (`model_state_dict`, `model`, `params`); any other value
    as it is."""
    for _ in range(4):
        if not isinstance(value, dict) or any(isinstance(v, np.ndarray) for v in value.values()):
            break
        inner = [value[name] for name in _WRAPPERS if isinstance(value.get(name), dict)]
        if len(inner) != 1:
            break
        value = inner[0]
    return value


def state_of(value: Any, what: str) -> dict[str, np.ndarray]:
    """The arrays of a state dictionary by name, unwrapped, without the prefixes `module.` (data parallel) and
    `_orig_mod.` (compiled) where every name has one; entries that are no arrays are left out.

    Args:
      value: as `read_checkpoint` gives, or a part of it.
      what: the file, for the message.

    Raises:
      CheckpointError: it is not a dictionary, or a name is longer than any network's.
    """
    value = unwrapped(value)
    if not isinstance(value, dict):
        raise CheckpointError(f"{what} holds no weights by name; save a state dictionary.")
    state = {name: array for name, array in value.items() if isinstance(name, str) and isinstance(array, np.ndarray)}
    if long := next((name for name in state if len(name) > _LONGEST_NAME), None):
        raise CheckpointError(f"{what} has a tensor whose name {shortened(long, 40)!r} is {len(long)} characters long.")
    return without_prefixes(state)


def states_of(value: Any, networks: Iterable[str], what: str) -> dict[str, dict[str, np.ndarray]]:
    """The state dictionaries of those of the named networks that a checkpoint holds.

    Args:
      value: as `read_checkpoint` gives: a dictionary of them, as published, or one dictionary with names such as
        `generator.first.conv.weight`, as safetensors files have.
      networks: their names.
      what: the file, for messages.

    Raises:
      CheckpointError: see `state_of`.
    """
    value = unwrapped(value)
    value = without_prefixes({k: v for k, v in value.items() if isinstance(k, str)}) if isinstance(value, dict) else {}
    states = {}
    for network in networks:
        flat = {name.removeprefix(f"{network}."): v for name, v in value.items() if name.startswith(f"{network}.")}
        if network in value or flat:
            states[network] = state_of(value.get(network, flat), f"The {network} in {what}")
    return states


def without_prefixes(state: Mapping[str, Any]) -> dict[str, Any]:
    """The same values, without the prefixes that all names share."""
    while prefix := _shared_prefix(state):
        state = {name[len(prefix) :]: value for name, value in state.items()}
    return dict(state)


def _shared_prefix(names: Iterable[str]) -> str | None:
    names = list(names)
    return next((p for p in _PREFIXES if names and all(n.startswith(p) for n in names)), None)
