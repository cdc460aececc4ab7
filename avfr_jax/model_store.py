"""Models on disk: a folder holds `model.json` (family, config, where the weights come from, what was measured) and
`weights/`. A model is found by its folder or by name."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

import avfr_jax
from avfr_jax.checkpoints import restore_tree, save_tree, tree_digest
from avfr_jax.config import from_dict, to_dict
from avfr_jax.errors import AvfrError, CheckpointError, ConfigError, OutputError
from avfr_jax.families import FAMILIES, Kind, find_family
from avfr_jax.folders import cache_folder
from avfr_jax.landmarks import normalise_landmarks
from avfr_jax.models.base import Animator, Priors

if TYPE_CHECKING:
    from avfr_jax.models.interpolation import Interpolator
    from avfr_jax.models.residual import ResidualCodec
    from avfr_jax.models.super_resolution import SuperResolver

DEFAULT_MODEL = "mesh-fomm"
_FORMAT = 1
_DOES: dict[Kind, str] = {
    "animator": "animates a source",
    "interpolator": "makes frames between frames",
    "super_resolver": "enlarges frames",
    "residual_codec": "codes what a drawn frame lacks",
}
_BUILT_IN: dict[str, dict[str, Any]] = {
    "landmark-warp": {
        "family": "landmark-warp",
        "config": {},
        "provenance": {"source": "built in; needs no weights"},
        "quality": {},
    }
}


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """What is known of a model without loading its weights.

    Attributes:
      name: by which `load_model` finds it.
      family: implementation.
      folder: where it lies; None for one that is built in.
      config: its settings.
      provenance: where the weights come from, with checksums.
      quality: measured figures by name.
    """

    name: str
    family: str
    folder: pathlib.Path | None
    config: dict[str, Any]
    provenance: dict[str, Any]
    quality: dict[str, Any]

    @property
    def kind(self) -> Kind | None:
        """What it is; None for a family that this version does not know."""
        return FAMILIES[self.family].kind if self.family in FAMILIES else None


def model_folders() -> list[pathlib.Path]:
    """Where models are looked for by name, in order: `$AVFR_MODELS`, the cache folder, those in the package."""
    named = [pathlib.Path(p) for p in os.environ.get("AVFR_MODELS", "").split(os.pathsep) if p]
    return [*named, cache_folder() / "models", pathlib.Path(__file__).parent / "assets" / "models"]


def _read_info(folder: pathlib.Path, name: str) -> ModelInfo:
    path = folder / "model.json"
    try:
        values = json.loads(path.read_text())
        if values["format"] > _FORMAT:
            raise CheckpointError(f"{folder} was written by a newer avfr-jax (format {values['format']}); update it.")
        return ModelInfo(
            name, values["family"], folder, values["config"], values.get("provenance", {}), values.get("quality", {})
        )
    except (OSError, json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is missing or broken ({type(error).__name__}); {folder} is no model.") from None


def describe_model(name_or_folder: str | os.PathLike[str]) -> ModelInfo:
    """A model's description.

    Args:
      name_or_folder: a folder with a `model.json`, or a name that `list_models` gives.

    Raises:
      ConfigError: there is no such model.
      CheckpointError: its folder is broken.
    """
    text = os.fspath(name_or_folder)
    path = pathlib.Path(text)
    if path.is_dir() and ((path / "model.json").exists() or text not in _BUILT_IN):
        return _read_info(path, path.name)
    for root in model_folders():
        if "/" not in text and (root / text).is_dir():
            return _read_info(root / text, text)
    if text in _BUILT_IN:
        known = _BUILT_IN[text]
        return ModelInfo(text, known["family"], None, known["config"], known["provenance"], known["quality"])
    names = ", ".join(sorted({m.name for m in list_models()}))
    raise ConfigError(f"There is no model {text!r}: neither a folder nor one of the models found by name ({names}).")


def list_models() -> list[ModelInfo]:
    """Every model that can be found by name; broken folders are left out."""
    found: dict[str, ModelInfo] = {}
    for root in model_folders():
        for folder in sorted(root.iterdir()) if root.is_dir() else []:
            if folder.name not in found and (folder / "model.json").is_file():
                with contextlib.suppress(AvfrError):
                    found[folder.name] = _read_info(folder, folder.name)
    for name in _BUILT_IN:
        found.setdefault(name, describe_model(name))
    return list(found.values())


def load_model(name_or_folder: str | os.PathLike[str] = DEFAULT_MODEL) -> Animator:
    """Load a model that animates.

    Args:
      name_or_folder: a model's folder, or a name as `list_models` gives.

    Returns:
      An `Animator`: `keypoints(frames)`, `animate(source, source_keypoints, driving_keypoints)` and their companions.

    Raises:
      ConfigError: there is no such model, it is of another kind, or its config is of another version.
      CheckpointError: its folder is broken.
    """
    model: Animator = _load(name_or_folder, "animator")
    return model


def load_interpolator(name_or_folder: str | os.PathLike[str]) -> "Interpolator":
    """Load a model that makes frames between frames; arguments and errors as for `load_model`."""
    model: Interpolator = _load(name_or_folder, "interpolator")
    return model


def load_super_resolver(name_or_folder: str | os.PathLike[str]) -> "SuperResolver":
    """Load a model that enlarges frames; arguments and errors as for `load_model`."""
    model: SuperResolver = _load(name_or_folder, "super_resolver")
    return model


def load_residual_codec(name_or_folder: str | os.PathLike[str]) -> "ResidualCodec":
    """Load a model that codes what drawn frames lack; arguments and errors as for `load_model`."""
    model: ResidualCodec = _load(name_or_folder, "residual_codec")
    return model


def _load(name_or_folder: str | os.PathLike[str], wanted: Kind) -> Any:
    info = describe_model(name_or_folder)
    family = find_family(info.family)
    if info.kind is not None and info.kind != wanted:
        there = ", ".join(sorted(m.name for m in list_models() if m.kind == wanted)) or "none is found by name"
        raise ConfigError(
            f"The model {info.name} ({info.family}) {_DOES[info.kind]}; what is needed here {_DOES[wanted]}: {there}."
        )
    config, variables = from_dict(family.config, info.config, f"{info.name}'s config"), None
    if family.weights:
        assert info.folder is not None
        expected = family.shapes(config)
        saved = info.provenance.get("networks", list(expected))
        expected = {network: tree for network, tree in expected.items() if network in saved}
        variables = restore_tree(info.folder / "weights", expected)
    return family.make(config, variables, info.name, _FindPriors())


@contextlib.contextmanager
def _new_folder(folder: pathlib.Path, overwrite: bool) -> Iterator[pathlib.Path]:
    """A scratch folder beside the target that takes its place when all went well."""
    if folder.exists() and not (overwrite and (folder / "model.json").is_file()):
        hint = "pass --overwrite to replace it" if (folder / "model.json").is_file() else "choose another folder"
        raise OutputError(f"{folder} exists already; {hint}.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise OutputError(f"The folder {folder.parent} cannot be written to ({error.strerror}).") from None
    try:
        yield scratch
        if folder.exists():
            shutil.rmtree(folder)
        scratch.chmod(0o755)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def save_model(
    folder: str | os.PathLike[str],
    family_name: str,
    config: Any,
    variables: Any,
    *,
    provenance: dict[str, Any] | None = None,
    quality: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> ModelInfo:
    """Write a model folder; it appears whole or not at all.

    Args:
      folder: a new folder.
      family_name: see `avfr_jax.families`.
      config: the family's config dataclass.
      variables: weights by network.
      provenance: where they come from.
      quality: measured figures.
      overwrite: replace a model folder that is there.

    Raises:
      OutputError: the folder exists, or cannot be written.
    """
    folder = pathlib.Path(folder)
    about = {
        "format": _FORMAT,
        "family": family_name,
        "config": to_dict(config),
        "provenance": {
            **(provenance or {}),
            "avfr_jax": avfr_jax.__version__,
            "networks": sorted(variables),
            "weights_sha256": tree_digest(variables),
        },
        "quality": quality or {},
    }
    with _new_folder(folder, overwrite) as scratch:
        save_tree(scratch / "weights", jax.tree.map(np.asarray, variables))
        (scratch / "model.json").write_text(json.dumps(about, indent=2) + "\n")
    return _read_info(folder, folder.name)


class _FindPriors:
    """Landmarks (and person masks) of frames, each on its own; the face backend is opened when first needed."""

    def __init__(self) -> None:
        self._backend: Any = None

    def __call__(self, frames: Any, with_mask: bool = False) -> Priors:
        """Priors of frames `[N, H, W, 3]` float32 in [0, 1].

        Raises:
          MissingBackendError: no face backend is installed.
        """
        from avfr_jax.faces import open_face_backend

        self._backend = self._backend or open_face_backend()
        images = (np.clip(np.asarray(frames), 0, 1) * 255 + 0.5).astype(np.uint8)
        landmarks = np.full((len(images), 478, 3), np.nan, np.float32)
        for i, image in enumerate(images):
            if faces := self._backend.detect(image):
                landmarks[i] = normalise_landmarks(faces[0].landmarks, image.shape[1], image.shape[0])
        masks = np.stack([self._backend.person_mask(image) for image in images]) if with_mask else None
        return Priors(landmarks, masks)
