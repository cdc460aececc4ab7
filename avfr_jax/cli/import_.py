"""`avfr import`: convert a published checkpoint to a model folder, or to the weights of a frozen network."""

import argparse
import pathlib
import sys
from typing import Any

_EPILOG = """\
examples:
  avfr import fomm vox-adv-cpk.pth.tar ./vox-adv --config vox-adv-256.yaml
  avfr import face-vid2vid vox-256.pth.tar ./free-view
  avfr reenact --model ./vox-adv --source me.jpg --driving talk.mp4 --output out.mp4
  avfr import vgg19 vgg19-dcbb9e9d.pth             # for the perceptual loss of training
  avfr import face-vgg vgg_face_dag.pth            # for face-vid2vid's second perceptual loss
  avfr import hopenet hopenet_robust_alpha1.pkl    # for its head-pose loss
  avfr import alexnet alexnet-owt-7be5be79.pth     # for the metric LPIPS, with its own weights:
  avfr import lpips alex.pth
  avfr import face-recognition vladmandic-face-api-1.7.15.tgz   # npm pack @vladmandic/face-api@1.7.15; for metrics,
  avfr import landmarks68 vladmandic-face-api-1.7.15.tgz        # or each network's -weights_manifest.json
  avfr import mediapipe-nets                       # copies of mediapipe's networks for machines without mediapipe

A model folder placed in $AVFR_HOME/models (default ~/.cache/avfr-jax/models) is found by its name; the weights of
frozen networks go to $AVFR_HOME/backbones. avfr doctor lists both. Code in a checkpoint is never run; PyTorch is not
needed.
"""
_BACKBONES = ("vgg19", "vgg16", "alexnet", "face-vgg")
_FACE_API = ("face-recognition", "landmarks68")
_MODELS = {"fomm": "first-order-model", "face-vid2vid": "One-Shot_Free-View_Neural_Talking_Head_Synthesis"}
_KINDS = (*_MODELS, *_BACKBONES, "hopenet", "lpips", *_FACE_API, "mediapipe-nets")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "kind",
        choices=_KINDS,
        help="content of the file: a model (fomm, face-vid2vid) or the weights of a frozen network; mediapipe-nets "
        "takes no file but the networks of the installed mediapipe",
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        help="checkpoint (.pth.tar, .pth, .pt, .safetensors); for face-recognition and landmarks68 the archive of an "
        "npm package (.tgz) or a manifest beside its weights (.json)",
    )
    parser.add_argument("output", metavar="OUT_DIR", nargs="?", help="new model folder (models only)")
    parser.add_argument(
        "--config",
        metavar="YAML",
        default=None,
        help="the model's own config; without it fomm takes the published one that fits, and face-vid2vid reads its "
        "widths from the file",
    )
    parser.add_argument(
        "--sampling",
        choices=("aligned", "centred"),
        default=None,
        help="corner convention that the weights were trained with: aligned for fomm's officially published ones "
        "(default for fomm), centred for weights trained with PyTorch 1.3 or later (default for face-vid2vid)",
    )
    parser.add_argument(
        "--networks",
        metavar="FILE2",
        default=None,
        help="face-vid2vid: a second checkpoint for the networks that FILE lacks, as one of a generator alone does",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing model folder")
    parser.add_argument("--verbose", action="store_true", help="list every tensor that does not fit")


def run(arguments: argparse.Namespace) -> None:
    """Import the checkpoint."""
    from avfr_jax.errors import ConfigError
    from avfr_jax.media.files import check_input

    kind = arguments.kind
    wanted = "FILE OUT_DIR" if kind in _MODELS else "" if kind == "mediapipe-nets" else "FILE"
    given = [word for word in (arguments.file, arguments.output) if word is not None]
    if len(given) != len(wanted.split()):
        raise ConfigError(f"avfr import {kind} takes {wanted or 'no file'}: run avfr import --help for examples.")
    if kind == "mediapipe-nets":
        _mediapipe_nets()
        return
    path = check_input(arguments.file)
    for other in filter(None, (arguments.config, arguments.networks)):
        check_input(other)
    if arguments.networks is not None and kind != "face-vid2vid":
        raise ConfigError("--networks goes with avfr import face-vid2vid.")
    if kind in _MODELS:
        _model(path, arguments)
    else:
        _backbone(kind, path)


def _model(path: pathlib.Path, arguments: argparse.Namespace) -> None:
    from avfr_jax.backbones.weights import sha256
    from avfr_jax.errors import OutputError
    from avfr_jax.model_store import save_model

    kind = arguments.kind
    for name in filter(None, (arguments.file, arguments.config, arguments.networks)):
        if pathlib.Path(arguments.output).resolve() in pathlib.Path(name).resolve().parents:
            raise OutputError(f"{name} lies in {arguments.output}, which would be replaced: choose another folder.")
    config, variables = _read_model(path, arguments)
    provenance = {
        "source": f"imported from {path.name}",
        "source_sha256": sha256(path),
        "program": _MODELS[kind],
        "config": pathlib.Path(arguments.config).name if arguments.config else "published",
        "sampling": "aligned" if config.align_corners else "centred",
    }
    if arguments.networks:
        other = pathlib.Path(arguments.networks)
        provenance |= {"networks_source": f"other networks from {other.name}", "networks_sha256": sha256(other)}
    info = save_model(arguments.output, kind, config, variables, provenance=provenance, overwrite=arguments.overwrite)
    print(info.folder)
    print(
        f"{info.family}, {config.image_size}², {config.num_keypoints} keypoints; networks: "
        f"{', '.join(info.provenance['networks'])}",
        file=sys.stderr,
    )


def _read_model(path: pathlib.Path, arguments: argparse.Namespace) -> tuple[Any, Any]:
    """The config and the weights in a model's checkpoint."""
    aligned = None if arguments.sampling is None else arguments.sampling == "aligned"
    if arguments.kind == "fomm":
        from avfr_jax.convert import fomm

        return fomm.import_checkpoint(path, arguments.config, align_corners=aligned)
    from avfr_jax.convert import face_vid2vid

    return face_vid2vid.import_checkpoint(
        path, arguments.config, align_corners=aligned, networks_from=arguments.networks
    )  # fmt: skip


def _backbone(kind: str, path: pathlib.Path) -> None:
    from avfr_jax.backbones.weights import describe
    from avfr_jax.convert.face_api import import_face_api
    from avfr_jax.convert.hopenet import import_hopenet
    from avfr_jax.convert.lpips import import_lpips
    from avfr_jax.convert.vgg import import_backbone

    if kind == "lpips":
        name, folder = import_lpips(path)
    elif kind == "hopenet":
        name, folder = kind, import_hopenet(path)
    else:
        name, folder = kind, (import_face_api if kind in _FACE_API else import_backbone)(kind, path)
    print(folder)
    print(f"{name} from {path.name}, SHA-256 {describe(name)['source_sha256']}", file=sys.stderr)


def _mediapipe_nets() -> None:
    from avfr_jax.backbones.mediapipe_nets import export_networks

    written = export_networks()
    print(written[0].parent)
    print(f"networks: {', '.join(path.stem for path in written)}", file=sys.stderr)
