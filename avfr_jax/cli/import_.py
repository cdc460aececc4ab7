"""`avfr import`: a published checkpoint becomes a model folder."""

import argparse
import hashlib
import pathlib
import sys

_EPILOG = """\
example:
  avfr import fomm vox-adv-cpk.pth.tar ./vox-adv --config vox-adv-256.yaml
  avfr reenact --model ./vox-adv --source me.jpg --driving talk.mp4 --output out.mp4

A folder placed in $AVFR_HOME/models (default ~/.cache/avfr-jax/models) is found by its name.
Nothing in the checkpoint is run while it is read; PyTorch is not needed.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's words."""
    parser.epilog = _EPILOG
    parser.add_argument("kind", choices=("fomm",), help="which program wrote the checkpoint")
    parser.add_argument("file", metavar="FILE", help="checkpoint (.pth.tar, .pth, .pt)")
    parser.add_argument("output", metavar="OUT_DIR", help="model folder to make")
    parser.add_argument(
        "--config", metavar="YAML", default=None, help="the program's own config (default: the published one that fits)"
    )
    parser.add_argument(
        "--sampling",
        choices=("aligned", "centred"),
        default="aligned",
        help="corner convention the weights were trained with: aligned for the officially published ones, centred for "
        "weights trained with PyTorch 1.3 or later (default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing model folder")


def run(arguments: argparse.Namespace) -> None:
    """Import the checkpoint."""
    from avfr_jax.convert.fomm import import_checkpoint
    from avfr_jax.errors import InputError
    from avfr_jax.model_store import save_model

    path = pathlib.Path(arguments.file)
    if not path.is_file():
        raise InputError(f"There is no checkpoint file {path}.")
    config, variables = import_checkpoint(path, arguments.config, align_corners=arguments.sampling == "aligned")
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    provenance = {
        "source": f"imported from {path.name}",
        "source_sha256": digest,
        "program": "first-order-model",
        "config": pathlib.Path(arguments.config).name if arguments.config else "published",
        "sampling": arguments.sampling,
    }
    info = save_model(arguments.output, "fomm", config, variables, provenance=provenance, overwrite=arguments.overwrite)
    print(info.folder)
    print(
        f"{info.family}, {config.image_size}², {config.num_keypoints} keypoints; networks: "
        f"{', '.join(info.provenance['networks'])}",
        file=sys.stderr,
    )
