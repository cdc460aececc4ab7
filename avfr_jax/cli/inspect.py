"""`avfr inspect`: what a file is, and whether it says that it was generated."""

import argparse
import json
import pathlib
from typing import Any

_EPILOG = """\
example:
  avfr inspect out.mp4

Tells format, size, rate, sound, the container's tag and the invisible watermark of a video or picture; family,
config and provenance of a model folder.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's words."""
    parser.epilog = _EPILOG
    parser.add_argument("file", metavar="FILE", help="video, picture or model folder")
    parser.add_argument("--json", action="store_true", help="machine-readable")


def run(arguments: argparse.Namespace) -> None:
    """Describe the file."""
    path = pathlib.Path(arguments.file)
    facts = _model(path) if path.is_dir() else _media(path)
    if arguments.json:
        print(json.dumps(facts, indent=2, default=str))
        return
    _print(facts)


def _media(path: pathlib.Path) -> dict[str, Any]:
    from avfr_jax.media.watermark import describe

    return describe(path)


def _model(path: pathlib.Path) -> dict[str, Any]:
    from avfr_jax.model_store import describe_model

    info = describe_model(path)
    return {"model": info.name, "family": info.family, "config": info.config, "provenance": info.provenance,
            "quality": info.quality}  # fmt: skip


def _print(facts: dict[str, Any], indent: str = "") -> None:
    width = max((len(k) for k in facts), default=0)
    for key, value in facts.items():
        if isinstance(value, dict) and value:
            print(f"{indent}{key}")
            _print(value, indent + "  ")
        else:
            print(f"{indent}{key.ljust(width)}  {value}")
