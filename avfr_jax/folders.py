"""Folders of this package on a user's disk: every one of them is decided here.

The package's folder is the first of these that can be used: `$AVFR_HOME`, `$XDG_CACHE_HOME/avfr-jax`,
`~/.cache/avfr-jax`, and `avfr-jax-UID` in the system's folder for temporary files, which serves users without a home.
Models and weights are looked up in `$AVFR_HOME`, else in the first that can be read. Each cache goes to the first that
can be written to, and is left out where there is none. `describe_folders` states the choice and each place's state.
"""

import contextlib
import os
import pathlib
import stat
from collections.abc import Iterator
from typing import NamedTuple

_WRITABLE = {"writable", "can be made"}
_READABLE = {*_WRITABLE, "read-only"}
_NOWHERE = pathlib.Path("/nonexistent/avfr-jax")  # nothing can be read or written anywhere


class _Place(NamedTuple):
    origin: str
    folder: pathlib.Path
    state: str
    private: bool = False  # among folders of other users


def _expand(path: str) -> pathlib.Path | None:
    """A path with `~` expanded; None where it is empty or the home folder is not known."""
    expanded = os.path.expanduser(path)
    return None if not path or expanded.startswith("~") else pathlib.Path(expanded)


def _state(folder: pathlib.Path) -> str:
    """What can be done with a folder, which need not exist."""
    if os.path.isdir(folder):
        if not os.access(folder, os.R_OK | os.X_OK):
            return "not readable"
        return "writable" if os.access(folder, os.W_OK) else "read-only"
    if os.path.lexists(folder):
        return "not a folder"
    parent = next((p for p in folder.parents if os.path.lexists(p)), folder)
    return "can be made" if os.path.isdir(parent) and os.access(parent, os.W_OK | os.X_OK) else "cannot be made"


def _places() -> Iterator[_Place]:
    """Candidates for the package's folder, the preferred one first."""
    for name, below in (("AVFR_HOME", ""), ("XDG_CACHE_HOME", "avfr-jax")):
        if folder := _expand(os.environ.get(name, "")):
            yield _Place(name, folder / below, _state(folder / below))
    if home := _expand("~"):
        folder = home / ".cache" / "avfr-jax"
        yield _Place("home folder", folder, _state(folder))
    import tempfile  # not at the start of a program that needs no further place

    with contextlib.suppress(FileNotFoundError):  # no place for temporary files
        folder = pathlib.Path(tempfile.gettempdir()) / f"avfr-jax-{_user()}"
        state = _state(folder) if _is_own(folder) else "of another user, or open to others"
        yield _Place("temporary folder", folder, state, private=True)


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def _is_own(folder: pathlib.Path) -> bool:
    """Whether a folder, if it exists, belongs to this user and nobody else can write to it: programs are run from the
    caches, and every user can make folders in the one for temporary files."""
    try:
        found = os.lstat(folder)
    except OSError:
        return True
    return stat.S_ISDIR(found.st_mode) and found.st_uid == _user() and not found.st_mode & 0o022


def _make_own(folder: pathlib.Path) -> bool:
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
    return folder.is_dir() and _is_own(folder)


def cache_folder() -> pathlib.Path:
    """The package's folder, where models and weights are looked up and `avfr import` puts them; it may not exist.

    That of `AVFR_HOME` counts as it is: what a user wants kept in one place is not put into another.
    """
    named = (place.folder for place in _places() if place.origin == "AVFR_HOME" or place.state in _READABLE)
    return next(named, _NOWHERE)


def _caches(name: str) -> Iterator[pathlib.Path]:
    """Where a cache may be written, the preferred place first; the folders need not exist."""
    for place in _places():
        folder = place.folder / name
        usable = place.state in _WRITABLE and _state(folder) in _WRITABLE
        if usable and (not place.private or _make_own(place.folder)):
            yield folder


def _make_cache(name: str) -> pathlib.Path | None:
    """Make the folder of a cache; None where no place can be written to."""
    for folder in _caches(name):
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            return folder
    return None


def backbone_folder() -> pathlib.Path:
    """Weights of frozen networks, where `avfr import` puts them."""
    return cache_folder() / "backbones"


def face_model_folder() -> pathlib.Path:
    """`$AVFR_WEIGHTS`, or `weights` in the package's folder: downloaded models of mediapipe's tasks."""
    return _expand(os.environ.get("AVFR_WEIGHTS", "")) or cache_folder() / "weights"


def compiled_folder() -> pathlib.Path | None:
    """JAX's cache of compiled programs, made if need be; None where no place can be written to."""
    return _make_cache("compiled")


def model_folders() -> list[pathlib.Path]:
    """Where models are looked up by name, in order: `$AVFR_MODELS`, the package's folder, the package itself."""
    named = [_expand(path) for path in os.environ.get("AVFR_MODELS", "").split(os.pathsep)]
    return [*filter(None, named), cache_folder() / "models", pathlib.Path(__file__).parent / "assets" / "models"]


def _is_writable(path: str) -> bool:
    folder = _expand(path)
    return folder is not None and _state(folder) in _WRITABLE


def set_library_folders() -> None:
    """Set `NUMBA_CACHE_DIR` and `MPLCONFIGDIR` to folders that can be written to, and `XDG_CACHE_HOME` where there is
    neither it nor a home folder.

    librosa, which compiles with Numba, and mediapipe, which imports matplotlib, cannot be imported without. A variable
    whose folder can be written to keeps its value; matplotlib's own folder in the user's home is kept likewise.
    """
    if _expand("~") is None and not os.environ.get("XDG_CACHE_HOME"):  # librosa and scikit-image need one of them
        for place in _places():
            if place.private and place.state in _WRITABLE and _make_own(place.folder):
                os.environ["XDG_CACHE_HOME"] = str(place.folder / "cache")
    if not _is_writable(os.environ.get("NUMBA_CACHE_DIR", "")) and (folder := next(_caches("numba"), None)):
        os.environ["NUMBA_CACHE_DIR"] = str(folder)
    own = os.path.join(os.environ.get("XDG_CONFIG_HOME") or "~/.config", "matplotlib")
    if not _is_writable(os.environ.get("MPLCONFIGDIR") or own) and (folder := _make_cache("matplotlib")):
        os.environ["MPLCONFIGDIR"] = str(folder)


def describe_folders() -> dict[str, str | dict[str, str]]:
    """The folders in use, and the state of each candidate, as `avfr doctor` prints them."""
    states = dict.fromkeys(("AVFR_HOME", "XDG_CACHE_HOME"), "not set")
    states |= {name: "~ is not known" for name in states if os.environ.get(name)}
    states |= {"home folder": "not known", "temporary folder": "none"}
    states |= {place.origin: f"{place.folder} ({place.state})" for place in _places()}
    return {
        "models and weights": str(cache_folder()),
        "models by name": ", ".join(map(str, model_folders())),
        "compiled by JAX": os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(_make_cache("compiled") or "not kept"),
        "compiled by Numba": os.environ.get("NUMBA_CACHE_DIR") or "not kept",
        "matplotlib": os.environ.get("MPLCONFIGDIR") or "its own",
        "chosen from": states,
    }
