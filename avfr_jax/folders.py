"""Folders of this package on a user's disk."""

import os
import pathlib


def cache_folder() -> pathlib.Path:
    """`$AVFR_HOME`, or `avfr-jax` in the user's cache folder."""
    if home := os.environ.get("AVFR_HOME"):
        return pathlib.Path(home)
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "avfr-jax"


def backbone_folder() -> pathlib.Path:
    """Weights of frozen networks, where `avfr import` puts them."""
    return cache_folder() / "backbones"


def face_model_folder() -> pathlib.Path:
    """`$AVFR_WEIGHTS`, or `weights` in the cache folder: downloaded models of mediapipe's tasks."""
    return pathlib.Path(os.environ.get("AVFR_WEIGHTS") or cache_folder() / "weights").expanduser()


def compiled_folder() -> pathlib.Path:
    """JAX's cache of compiled programs."""
    return cache_folder() / "compiled"


def model_folders() -> list[pathlib.Path]:
    """Where models are looked up by name, in order: `$AVFR_MODELS`, the cache folder, the package."""
    named = [pathlib.Path(p) for p in os.environ.get("AVFR_MODELS", "").split(os.pathsep) if p]
    return [*named, cache_folder() / "models", pathlib.Path(__file__).parent / "assets" / "models"]
