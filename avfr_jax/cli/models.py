"""`avfr models`: what can be used by name."""

import argparse
import dataclasses
import json

_EPILOG = """\
example:
  avfr models --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's words."""
    parser.epilog = _EPILOG
    parser.add_argument("--json", action="store_true", help="machine-readable")


def run(arguments: argparse.Namespace) -> None:
    """List the models."""
    from avfr_jax.model_store import DEFAULT_MODEL, list_models, model_folders

    models = list_models()
    if arguments.json:
        rows = [
            {
                **dataclasses.asdict(m),
                "kind": m.kind,
                "folder": m.folder and str(m.folder),
                "default": m.name == DEFAULT_MODEL,
            }
            for m in models
        ]
        print(json.dumps(rows, indent=2))
        return
    for model in models:
        star = " (default)" if model.name == DEFAULT_MODEL else ""
        print(f"{model.name}{star}\n  kind        {model.kind or 'not known to this version'}")
        print(f"  family      {model.family}")
        print(f"  provenance  {model.provenance.get('source', 'not stated')}")
        if model.quality:
            print("  measured    " + ", ".join(f"{k} {v}" for k, v in model.quality.items()))
        if model.folder:
            print(f"  folder      {model.folder}")
    print("\nlooked in: " + ", ".join(str(p) for p in model_folders()))
