"""Where files of this package lie on a user's disk."""

import os
import pathlib


def cache_folder() -> pathlib.Path:
    """`$AVFR_HOME`, or `avfr-jax` in the user's cache folder: models, weights of others, compiled programs."""
    if home := os.environ.get("AVFR_HOME"):
        return pathlib.Path(home)
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "avfr-jax"


def backbone_folder() -> pathlib.Path:
    """Where `avfr import` puts the weights of frozen networks, and where they are looked for."""
    return cache_folder() / "backbones"
