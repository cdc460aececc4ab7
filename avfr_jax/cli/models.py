"""`avfr models`: list the models known by name."""

import argparse
import dataclasses
import json

_EPILOG = """\
example:
  avfr models --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("--json", action="store_true", help="machine-readable")


def run(arguments: argparse.Namespace) -> None:
    """List the models."""
    from avfr_jax.folders import model_folders
    from avfr_jax.model_store import DEFAULT_MODEL, list_models

    models = list_models()
    if arguments.json:
        rows = [dataclasses.asdict(m) | {"kind": m.kind, "default": m.name == DEFAULT_MODEL} for m in models]
        print(json.dumps(rows, indent=2, default=str))
        return
    for model in models:
        lines = {
            "kind": model.kind or "not known to this version",
            "family": model.family,
            "fingerprint": model.fingerprint,
            "provenance": model.provenance.get("source", "not stated"),
            "measured": ", ".join(f"{k} {v}" for k, v in model.quality.items()),
            "folder": model.folder,
        }
        print(model.name + (" (default)" if model.name == DEFAULT_MODEL else ""))
        print("\n".join(f"  {name:<12}{value}" for name, value in lines.items() if value))
    print("\nsearched: " + ", ".join(str(p) for p in model_folders()))
