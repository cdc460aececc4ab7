"""`avfr import`: convert a published checkpoint to a model folder, or to the weights of a frozen network."""

import argparse
import pathlib
import sys

_EPILOG = """\
examples:
  avfr import fomm vox-adv-cpk.pth.tar ./vox-adv --config vox-adv-256.yaml
  avfr reenact --model ./vox-adv --source me.jpg --driving talk.mp4 --output out.mp4
  avfr import vgg19 vgg19-dcbb9e9d.pth             # for the perceptual loss of training
  avfr import face-vgg vgg_face_dag.pth            # for face-vid2vid's second perceptual loss
  avfr import hopenet hopenet_robust_alpha1.pkl    # for its head-pose loss
  avfr import alexnet alexnet-owt-7be5be79.pth     # for the metric LPIPS, with its own weights:
  avfr import lpips alex.pth
  avfr import mediapipe-nets                       # copies of mediapipe's networks for machines without mediapipe

A model folder placed in $AVFR_HOME/models (default ~/.cache/avfr-jax/models) is found by its name; the weights of
frozen networks go to $AVFR_HOME/backbones. avfr doctor lists both. Code in a checkpoint is never run; PyTorch is not
needed.
"""
_BACKBONES = ("vgg19", "vgg16", "alexnet", "face-vgg")
_KINDS = ("fomm", *_BACKBONES, "hopenet", "lpips", "mediapipe-nets")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "kind",
        choices=_KINDS,
        help="content of the file: a model (fomm) or the weights of a frozen network; mediapipe-nets takes no file but "
        "the networks of the installed mediapipe",
    )
    parser.add_argument("file", metavar="FILE", nargs="?", help="checkpoint (.pth.tar, .pth, .pt, .safetensors)")
    parser.add_argument("output", metavar="OUT_DIR", nargs="?", help="new model folder (fomm only)")
    parser.add_argument(
        "--config", metavar="YAML", default=None, help="fomm's own config (default: the published one that fits)"
    )
    parser.add_argument(
        "--sampling",
        choices=("aligned", "centred"),
        default="aligned",
        help="corner convention that fomm's weights were trained with: aligned for the officially published ones, "
        "centred for weights trained with PyTorch 1.3 or later (default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing model folder")
    parser.add_argument("--verbose", action="store_true", help="list every tensor that does not fit")


def run(arguments: argparse.Namespace) -> None:
    """Import the checkpoint."""
    from avfr_jax.errors import ConfigError
    from avfr_jax.media.files import check_input

    kind = arguments.kind
    wanted = {"fomm": "FILE OUT_DIR", "mediapipe-nets": ""}.get(kind, "FILE")
    given = [word for word in (arguments.file, arguments.output) if word is not None]
    if len(given) != len(wanted.split()):
        raise ConfigError(f"avfr import {kind} takes {wanted or 'no file'}: run avfr import --help for examples.")
    if kind == "mediapipe-nets":
        _mediapipe_nets()
        return
    path = check_input(arguments.file)
    if arguments.config is not None:
        check_input(arguments.config)
    if kind == "fomm":
        _fomm(path, arguments)
    else:
        _backbone(kind, path)


def _fomm(path: pathlib.Path, arguments: argparse.Namespace) -> None:
    from avfr_jax.backbones.weights import sha256
    from avfr_jax.convert.fomm import import_checkpoint
    from avfr_jax.errors import OutputError
    from avfr_jax.model_store import save_model

    for name in filter(None, (arguments.file, arguments.config)):
        if pathlib.Path(arguments.output).resolve() in pathlib.Path(name).resolve().parents:
            raise OutputError(f"{name} lies in {arguments.output}, which would be replaced: choose another folder.")
    config, variables = import_checkpoint(path, arguments.config, align_corners=arguments.sampling == "aligned")
    provenance = {
        "source": f"imported from {path.name}",
        "source_sha256": sha256(path),
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


def _backbone(kind: str, path: pathlib.Path) -> None:
    from avfr_jax.backbones.weights import describe
    from avfr_jax.convert.hopenet import import_hopenet
    from avfr_jax.convert.lpips import import_lpips
    from avfr_jax.convert.vgg import import_backbone

    if kind == "lpips":
        name, folder = import_lpips(path)
    else:
        name, folder = kind, import_hopenet(path) if kind == "hopenet" else import_backbone(kind, path)
    print(folder)
    print(f"{name} from {path.name}, SHA-256 {describe(name)['source_sha256']}", file=sys.stderr)


def _mediapipe_nets() -> None:
    from avfr_jax.backbones.mediapipe_nets import export_networks

    written = export_networks()
    print(written[0].parent)
    print(f"networks: {', '.join(path.stem for path in written)}", file=sys.stderr)
