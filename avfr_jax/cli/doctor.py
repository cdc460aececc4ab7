"""`avfr doctor`: check this machine; print what is missing and how to get it."""

import argparse
import contextlib
import importlib
import importlib.metadata
import json
import pathlib
import platform
import sys
from collections.abc import Callable
from typing import Any

import avfr_jax
from avfr_jax.errors import AvfrError
from avfr_jax.packages import FACE_BACKEND, missing_package

_EPILOG = """\
example:
  avfr doctor
"""
_PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "safetensors", "grain", "numpy", "mediapipe", "av"),
    *("librosa", "dm-pix", "opencv-contrib-python-headless", "tensorflow-datasets", "tflite"),
)
_CODECS = ("libx264", "aac", "libvpx-vp9", "libopus", "libx265", "libsvtav1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("--json", action="store_true", help="machine-readable")


def run(arguments: argparse.Namespace) -> int:
    """Print the state of everything that the package can use; 1 where `avfr reenact` would not run."""
    from avfr_jax.cli.inspect import print_facts
    from avfr_jax.folders import describe_folders

    facts = {
        "python": f"{platform.python_version()} ({sys.executable})",
        "avfr reenact": _attempt(_reenact, "auto"),
        "devices": _attempt(_devices),
        "packages": {name: _version(name) for name in _PACKAGES},
        "face backends": {name: _attempt(_open_faces, name) for name in ("solutions", "tasks")},
        "codecs": {name: _attempt(_codec, name) for name in _CODECS},
        "models": _models(),
        "frozen networks": _backbones(),
        "folders": describe_folders(),
    }
    print(json.dumps(facts, indent=2)) if arguments.json else print_facts(facts)
    return 0 if facts["avfr reenact"] == "works" else 1


def _attempt(action: Callable[[str], str], name: str = "") -> str:
    """The result of an action, or the sentence of its error."""
    try:
        return action(name)
    except ModuleNotFoundError as error:
        missing = missing_package(error)
        return f"missing. {missing or error}"
    except AvfrError as error:
        return f"missing. {error}"
    except Exception as error:  # whatever a package of the wrong version raises
        text = (str(error).splitlines() or [""])[0][:120]
        return f"broken ({type(error).__name__}: {text}). With mediapipe this helps: {FACE_BACKEND}"


def _devices(_: str) -> str:
    import jax

    from avfr_jax.runtime import check_platforms

    check_platforms()
    return f"{jax.default_backend()}: {', '.join(str(d) for d in jax.devices())}"


def _version(name: str) -> str:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)
    return f"missing; {FACE_BACKEND if name == 'mediapipe' else 'pip install ' + name}"


def _open_faces(name: Any) -> str:
    from avfr_jax.faces import open_face_backend

    with open_face_backend(name) as backend:
        if not backend.detect(_bundled_frame()):
            return "broken: it detects no face in the bundled clip"
    return "works"


def _bundled_frame() -> Any:
    """The first frame of the bundled driving clip, which shows a face."""
    from avfr_jax.media.video import VideoReader

    return next(iter(VideoReader(pathlib.Path(avfr_jax.__file__).parent / "assets" / "driver.mp4")))


def _reenact(backend: str) -> str:
    """`works` where all that the main job needs is there: a face backend that detects, its packages, an encoder."""
    _devices("")
    for module in ("numba", "PIL", "tqdm", "avfr_jax.reenact", "avfr_jax.media.watermark"):
        importlib.import_module(module)
    encoder = _codec("libx264")
    return _open_faces(backend) if encoder == "available" else f"libx264 is {encoder}"


def _codec(name: str) -> str:
    import av

    try:
        av.Codec(name, "w")
    except ValueError:
        return "missing in this build of PyAV"
    return "available"


def _models() -> dict[str, str]:
    from avfr_jax.families import FAMILIES
    from avfr_jax.model_store import list_models

    models = list_models()
    absent = [f for f in FAMILIES.values() if f.advice and f.name not in {m.family for m in models}]
    sources = {m.name: m.provenance.get("source", "") for m in models}
    return sources | {family.name: f"no weights found; {family.advice}" for family in absent}


def _backbones() -> dict[str, str]:
    """State of the frozen networks that losses, metrics and priors use."""
    from avfr_jax.backbones import mediapipe_nets, weights

    def network(name: str) -> str:
        return f"found: {mediapipe_nets.find_network(name)}"

    def imported(name: str) -> str:
        return f"found: imported from {weights.describe(name)['source']}"

    networks = {name: _attempt(network, name) for name in mediapipe_nets.FILES}
    return networks | {name: _attempt(imported, name) for name in weights.SOURCES}
