"""`avfr inspect`: describe a file, and whether it is marked as generated."""

import argparse
import json
import pathlib
from typing import Any

from avfr_jax.errors import ConfigError

_EPILOG = """\
example:
  avfr inspect out.mp4

Prints format, size, rate, audio, the container's tag and the invisible watermark of a video or image; family, config,
fingerprint and provenance of a model folder; the bytes of an .avfr stream by kind, with --plot over time.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("file", metavar="FILE", help="video, image, .avfr stream or model folder")
    parser.add_argument("--plot", metavar="OUT.png", help="of a stream: bytes a second over time, by kind")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing plot")
    parser.add_argument("--json", action="store_true", help="machine-readable")


def run(arguments: argparse.Namespace) -> None:
    """Describe the file."""
    from avfr_jax.media.watermark import describe

    path = pathlib.Path(arguments.file)
    facts = _model(path) if path.is_dir() else _stream(path, arguments) or describe(path)
    if arguments.plot and "stream" not in facts:
        raise ConfigError("--plot shows the bytes of an .avfr stream over time; this file is not one.")
    if arguments.json:
        print(json.dumps(facts, indent=2, default=str))
        return
    print_facts(facts)


def _stream(path: pathlib.Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Description of a stream; empty for any other file."""
    from avfr_jax.codec.bitstream import MAGIC
    from avfr_jax.codec.files import read_file
    from avfr_jax.codec.stream_statistics import describe_stream, plot_stream
    from avfr_jax.media.files import check_input

    with open(check_input(path), "rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return {}
    data = read_file(path)
    facts = describe_stream(data)
    if arguments.plot:
        plot_stream(data, arguments.plot, arguments.overwrite)
    return {"stream": str(path), **facts}


def _model(path: pathlib.Path) -> dict[str, Any]:
    from avfr_jax.model_store import describe_model

    info = describe_model(path)
    return {"model": info.name, "kind": info.kind, "family": info.family, "fingerprint": info.fingerprint,
            "config": info.config, "provenance": info.provenance, "quality": info.quality}  # fmt: skip


def print_facts(facts: dict[str, Any], indent: str = "") -> None:
    """Print nested facts as aligned lines."""
    width = max((len(k) for k in facts), default=0)
    for key, value in facts.items():
        if isinstance(value, dict) and value:
            print(f"{indent}{key}")
            print_facts(value, indent + "  ")
        else:
            print(f"{indent}{key.ljust(width)}  {value}")
