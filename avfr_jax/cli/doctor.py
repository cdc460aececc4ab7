"""`avfr doctor`: what this machine has, what is missing and how to get it."""

import argparse
import importlib.metadata
import json
import platform
import sys
from typing import Any

_EPILOG = """\
example:
  avfr doctor
"""
_PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "mediapipe", "av", "librosa", "dm-pix"),
    *("opencv-contrib-python-headless", "tensorflow-datasets", "tflite"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's words."""
    parser.epilog = _EPILOG
    parser.add_argument("--json", action="store_true", help="machine-readable")


def run(arguments: argparse.Namespace) -> None:
    """Look around and say what was found."""
    facts = {
        "python": f"{platform.python_version()} ({sys.executable})",
        "devices": _devices(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "face backends": _faces(),
        "codecs": _codecs(),
        "models": _models(),
        "frozen networks": _backbones(),
        "folders": _folders(),
    }
    if arguments.json:
        print(json.dumps(facts, indent=2))
        return
    from avfr_jax.cli.inspect import _print

    _print(facts)


def _devices() -> str:
    import jax

    return f"{jax.default_backend()}: {', '.join(str(d) for d in jax.devices())}"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return f"missing; pip install {name}"


def _faces() -> dict[str, str]:
    from avfr_jax.errors import AvfrError
    from avfr_jax.faces import open_face_backend

    out = {}
    for name in ("solutions", "tasks"):
        try:
            with open_face_backend(name):
                out[name] = "works"
        except AvfrError as error:
            out[name] = str(error)
    return out


def _codecs() -> dict[str, str]:
    import av

    out = {}
    for name in ("libx264", "aac", "libvpx-vp9", "libopus", "libx265", "libsvtav1"):
        try:
            av.Codec(name, "w")
            out[name] = "can be written"
        except ValueError:
            out[name] = "missing in this build of PyAV"
    return out


def _models() -> dict[str, str]:
    from avfr_jax.model_store import list_models

    found: dict[str, str] = {m.name: m.provenance.get("source", "") for m in list_models()}
    if not any(m.family == "fomm" for m in list_models()):
        found["fomm"] = (
            "no weights found; fetch vox-adv-cpk.pth.tar from the first-order-model project's page and run: "
            "avfr import fomm vox-adv-cpk.pth.tar OUT_DIR"
        )
    return found


def _backbones() -> dict[str, str]:
    """What losses, metrics and priors can use, and what to fetch for the rest."""
    from avfr_jax.backbones import mediapipe_nets, weights
    from avfr_jax.errors import AvfrError

    out = {}
    for name in mediapipe_nets.FILES:
        try:
            out[name] = f"found: {mediapipe_nets.find_network(name)}"
        except AvfrError as error:
            out[name] = f"missing. {error}"
    for name in weights.SOURCES:
        try:
            out[name] = f"found: imported from {weights.describe(name)['source']}"
        except AvfrError as error:
            out[name] = f"missing. {error}"
    return out


def _folders() -> dict[str, Any]:
    from avfr_jax.folders import cache_folder
    from avfr_jax.model_store import model_folders

    return {"cache": str(cache_folder()), "models": ", ".join(str(p) for p in model_folders())}
