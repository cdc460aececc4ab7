"""Models on disk: a folder holds `model.json` (family, config, fingerprint, provenance, measured quality) and
`weights.safetensors`. A model is found by its folder, by name or by fingerprint."""

import contextlib
import dataclasses
import difflib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import avfr_jax
from avfr_jax.config import check_network_sizes, from_dict, to_dict
from avfr_jax.errors import AvfrError, CheckpointError, ConfigError, OutputError, shortened
from avfr_jax.families import FAMILIES, Family, Kind, find_family
from avfr_jax.folders import cache_folder, model_folders
from avfr_jax.interrupts import scratch, scratch_beside, uninterrupted
from avfr_jax.media.files import refuse_address

if TYPE_CHECKING:
    from avfr_jax.models.base import Animator, Priors
    from avfr_jax.models.interpolation import Interpolator
    from avfr_jax.models.residual import ResidualCodec
    from avfr_jax.models.super_resolution import SuperResolver

DEFAULT_MODEL = "mesh-fomm"
_FORMAT = 2  # 1 kept the weights in an orbax folder, `weights/`
_WEIGHTS = "weights.safetensors"
_PURPOSE: dict[Kind, str] = {
    "animator": "animates a source",
    "interpolator": "interpolates frames",
    "super_resolver": "upscales frames",
    "residual_codec": "codes the residual of generated frames",
}
_BUILT_IN: dict[str, dict[str, Any]] = {
    "landmark-warp": {
        "family": "landmark-warp",
        "config": {},
        "fingerprint": "a0d88f8534d92891",
        "provenance": {"source": "built in; needs no weights"},
    }
}
# Identities in the headers of version 1 streams, which hashed the files of the weights -> fingerprints.
_VERSION_1 = {
    "3dd2d2f0c3eb8944": "a0d88f8534d92891",
    "b11b352ce12bddac": "bc88813d3812fa7b",
    "6fee37fdc341ab12": "2ff52a04ea037481",
    "41d7748b9b5f24c9": "3ad34fdcae1e94b5",
    "159701b815b7ee4b": "5399d64c17d9c227",
    "ebd43579bb26e112": "764c4bf6653e7d4d",
}


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """Description of a model, without its weights.

    Attributes:
      name: by which `load_model` finds it.
      family: implementation.
      folder: None for a built-in model.
      config: its settings.
      fingerprint: hexadecimal, see `models.base.model_fingerprint`; empty for folders of older versions.
      provenance: origin of the weights, with checksums.
      quality: measured figures by name.
    """

    name: str
    family: str
    folder: pathlib.Path | None
    config: dict[str, Any]
    fingerprint: str
    provenance: dict[str, Any]
    quality: dict[str, Any]

    @property
    def kind(self) -> Kind | None:
        """Of its family; None for a family that this version lacks."""
        return FAMILIES[self.family].kind if self.family in FAMILIES else None


def _info(name: str, folder: pathlib.Path | None, values: dict[str, Any]) -> ModelInfo:
    kinds = {"family": str, "config": dict, "fingerprint": str, "provenance": dict, "quality": dict}
    values = {"fingerprint": "", "provenance": {}, "quality": {}} | values
    if not all(isinstance(values[entry], kind) for entry, kind in kinds.items()):
        raise TypeError("an entry is of another type")
    return ModelInfo(name=name, folder=folder, **{entry: values[entry] for entry in kinds})


def _read_info(folder: pathlib.Path, name: str) -> ModelInfo:
    path = folder / "model.json"
    try:
        values = json.loads(path.read_text())
        if values["format"] > _FORMAT:
            raise CheckpointError(f"{folder} was written by a newer avfr-jax (format {values['format']}); update it.")
        return _info(name, folder, values)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is missing or broken ({type(error).__name__}); {folder} is no model folder."
        ) from None


def describe_model(name_or_folder: str | os.PathLike[str]) -> ModelInfo:
    """A model's description.

    Args:
      name_or_folder: a name that `list_models` gives, or a folder with a `model.json`. A string without a slash is a
        folder of the working directory only where no model has that name; a path object is always a folder.

    Raises:
      ConfigError: there is no such model.
      CheckpointError: its folder is broken.
    """
    text = os.fspath(name_or_folder)
    path = pathlib.Path(text)
    if isinstance(name_or_folder, str) and "/" not in text and text not in ("", ".", ".."):
        for root in model_folders():
            if os.path.isdir(root / text):  # pathlib's own raises where a folder may not be searched
                return _read_info(root / text, text)
        if text in _BUILT_IN:
            return _info(text, None, _BUILT_IN[text])
    if os.path.isdir(path):
        return _read_info(path, path.name)
    refuse_address(name_or_folder)
    names = sorted({m.name for m in list_models()})
    near = difflib.get_close_matches(text, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"neither a folder nor known by name ({', '.join(names)})."
    raise ConfigError(f"There is no model {shortened(repr(text), 100)}; {hint}")


def list_models() -> list[ModelInfo]:
    """Every model that can be found by name; broken folders are left out."""
    models: dict[str, ModelInfo] = {}
    for root in model_folders():
        folders: list[pathlib.Path] = []
        with contextlib.suppress(OSError):  # a folder that may not be read holds no model that can be found
            folders = sorted(root.iterdir())
        for folder in folders:
            if folder.name not in models and os.path.isfile(folder / "model.json"):
                with contextlib.suppress(AvfrError):
                    models[folder.name] = _read_info(folder, folder.name)
    for name in _BUILT_IN:
        models.setdefault(name, describe_model(name))
    return list(models.values())


def current_fingerprint(identity: bytes) -> bytes:
    """The fingerprint that a stream's header means: version 1 identities of shipped models are translated."""
    return bytes.fromhex(_VERSION_1.get(identity.hex(), identity.hex()))


def find_model(identity: bytes, name: str, kind: Kind = "animator") -> str:
    """Find the model of a stream among those known by name.

    Args:
      identity: eight bytes from the stream's header, a fingerprint or a version 1 identity.
      name: that the model had where the stream was encoded; models of this name are tried first.
      kind: of the model.

    Returns:
      Name or folder, for `load_model` (`load_residual_codec`, …).

    Raises:
      ConfigError: none of them has this fingerprint.
    """
    wanted = current_fingerprint(identity).hex()
    models = sorted((m for m in list_models() if m.kind == kind), key=lambda m: m.name != name)
    for model in models:
        if model.fingerprint == wanted:
            return os.fspath(model.folder or model.name)
    for model in models:  # folders of older versions do not carry their fingerprints
        with contextlib.suppress(AvfrError):
            if not model.fingerprint and _load(model, kind).fingerprint.hex() == wanted:
                return os.fspath(model.folder or model.name)
    hint = "pass it with --model" if kind == "animator" else f"copy its folder into {cache_folder() / 'models'}"
    raise ConfigError(
        f"The stream was made with the model {name!r} of fingerprint {wanted}, which none of the models known by name "
        f"has: {hint}."
    )


def load_model(name_or_folder: str | os.PathLike[str] = DEFAULT_MODEL) -> "Animator":
    """Load a model that animates.

    Args:
      name_or_folder: a model's folder, or a name as `list_models` gives.

    Returns:
      An `Animator`: `keypoints(frames)`, `animate(source, source_keypoints, driving_keypoints)` and their companions.

    Raises:
      ConfigError: there is no such model, it is of another kind, or its config is of another version.
      CheckpointError: its folder is broken, or weights and config do not belong together.
    """
    model: Animator = _load(describe_model(name_or_folder), "animator")
    return model


def load_interpolator(name_or_folder: str | os.PathLike[str]) -> "Interpolator":
    """Load a model that interpolates frames; arguments and errors as for `load_model`."""
    model: Interpolator = _load(describe_model(name_or_folder), "interpolator")
    return model


def load_super_resolver(name_or_folder: str | os.PathLike[str]) -> "SuperResolver":
    """Load a model that upscales frames; arguments and errors as for `load_model`."""
    model: SuperResolver = _load(describe_model(name_or_folder), "super_resolver")
    return model


def load_residual_codec(name_or_folder: str | os.PathLike[str]) -> "ResidualCodec":
    """Load a model that codes the residual of generated frames; arguments and errors as for `load_model`."""
    model: ResidualCodec = _load(describe_model(name_or_folder), "residual_codec")
    return model


def _load(info: ModelInfo, wanted: Kind) -> Any:
    family = find_family(info.family)
    if family.kind != wanted:
        there = ", ".join(sorted(m.name for m in list_models() if m.kind == wanted)) or "none is known by name"
        raise ConfigError(
            f"The model {info.name} ({info.family}) {_PURPOSE[family.kind]}; a model that {_PURPOSE[wanted]} is needed "
            f"here: {there}."
        )
    variables = load_weights(info.folder) if info.folder and family.weights and not _is_format_1(info.folder) else None
    config = from_dict(family.config, info.config, f"{info.name}'s config")
    check_network_sizes(config, f"{info.name}'s config")
    fingerprint = None
    if family.weights:
        variables, fingerprint = _check_weights(info, family, config, variables)
    return family.make(config, variables, info.name, _FindPriors(), fingerprint)


def _check_weights(
    info: ModelInfo, family: Family, config: Any, variables: dict[str, Any] | None
) -> tuple[dict[str, Any], bytes | None]:
    """The weights, once they are known to fit the config: by their fingerprint, which is given back, else by their
    shapes."""
    from avfr_jax.models.base import model_fingerprint

    if variables is not None:
        fingerprint = model_fingerprint(info.family, config, variables)
        if info.fingerprint == fingerprint.hex():
            return variables, fingerprint
    assert info.folder is not None
    shapes = family.shapes(config)
    networks = info.provenance.get("networks", ())
    networks = networks if isinstance(networks, list) else shapes
    variables = load_weights(info.folder, {name: tree for name, tree in shapes.items() if name in networks})
    if info.fingerprint:
        raise CheckpointError(
            f"The weights or the config in {info.folder} have been changed: their fingerprint is not the "
            f"{info.fingerprint} of its model.json; import or copy the model again."
        )
    return variables, None


def _is_format_1(folder: pathlib.Path) -> bool:
    return (folder / "weights").is_dir() and not (folder / _WEIGHTS).is_file()


def _check_family(folder: pathlib.Path, named: str, actual: str) -> None:
    if named != actual:
        raise CheckpointError(f"The weights in {folder} belong to the family {actual}, its model.json to {named}.")


def _likely_family(names: set[str], otherwise: str) -> str:
    """The family whose default networks share most of their arrays' names with these."""
    from avfr_jax.checkpoints import flatten

    def overlap(family: Family) -> float:
        expected = flatten(family.shapes(family.config())).keys() if family.weights else set()
        return len(expected & names) / max(len(expected | names), 1)

    return max(FAMILIES.values(), key=overlap).name if names else otherwise


def load_weights(folder: str | os.PathLike[str], shapes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The weights in a model folder, `{network: {collection: tree}}`.

    Args:
      folder: as `save_model` writes, or wrote in format 1.
      shapes: the expected tree, of arrays or `jax.ShapeDtypeStruct`; networks that it lacks are left out. None reads
        everything unchecked, which format 1 does not allow.

    Raises:
      CheckpointError: weights are missing, damaged, of another family, or of other shapes.
    """
    from avfr_jax.checkpoints import flatten, load_arrays, restore_tree, saved_names

    folder = pathlib.Path(folder)
    family = _read_info(folder, folder.name).family
    if _is_format_1(folder):
        try:
            tree: dict[str, Any] = restore_tree(folder / "weights", shapes)
        except CheckpointError:
            _check_family(folder, family, _likely_family(saved_names(folder / "weights"), family))
            raise
        return tree
    variables, metadata = load_arrays(folder / _WEIGHTS)
    _check_family(folder, family, metadata.get("family", family))
    if shapes is None:
        return variables
    variables = {name: variables[name] for name in shapes if name in variables}
    there, expected = ({k: list(v.shape) for k, v in flatten(tree).items()} for tree in (variables, shapes))
    for name in [*expected, *there]:
        if there.get(name) != expected.get(name):
            misfit = "is missing" if name not in there else "is not known"
            if name in there and name in expected:
                misfit = f"has the shape {there[name]}, not {expected[name]}"
            raise CheckpointError(
                f"The weights in {folder} do not fit the {family} config of its model.json: {shortened(name, 100)} "
                f"{misfit}."
            )
    return variables


@contextlib.contextmanager
def _new_folder(folder: pathlib.Path, overwrite: bool) -> Iterator[pathlib.Path]:
    """A scratch folder beside the target that takes its place when all went well; of a link, of what it leads to."""
    if folder.is_symlink():
        folder = pathlib.Path(os.path.realpath(folder))
    if folder.exists() and not (overwrite and (folder / "model.json").is_file()):
        hint = "pass --overwrite to replace it" if (folder / "model.json").is_file() else "choose another folder"
        raise OutputError(f"{folder} exists already; {hint}.")
    with contextlib.ExitStack() as stack:
        new = stack.enter_context(scratch_beside(folder))
        former = new.with_name(f"{new.name}-former")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            new.mkdir()
        except OSError as error:
            raise OutputError(f"The folder {folder.parent} cannot be written to ({error.strerror}).") from None
        try:
            yield new
            with uninterrupted():
                _swap(new, folder, former)
                stack.enter_context(scratch(former))
        except OSError as error:
            raise OutputError(f"The model folder {folder} cannot be written ({error.strerror}).") from None


def _swap(new: pathlib.Path, folder: pathlib.Path, former: pathlib.Path) -> None:
    """Rename the folder, if there is one, to `former` and the new one to it; both or neither."""
    if folder.exists():
        folder.rename(former)
    try:
        new.rename(folder)
    except OSError:
        with contextlib.suppress(OSError):
            former.rename(folder)
        raise


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
    import jax
    import numpy as np

    from avfr_jax.checkpoints import save_arrays, tree_digest
    from avfr_jax.models.base import model_fingerprint

    variables = jax.tree.map(np.asarray, variables)
    about = {
        "format": _FORMAT,
        "family": family_name,
        "config": to_dict(config),
        "fingerprint": model_fingerprint(family_name, config, variables).hex(),
        "provenance": {
            **(provenance or {}),
            "avfr_jax": avfr_jax.__version__,
            "networks": sorted(variables),
            "weights_sha256": tree_digest(variables),
        },
        "quality": quality or {},
    }
    with _new_folder(folder, overwrite) as scratch:
        save_arrays(scratch / _WEIGHTS, variables, {"family": family_name})
        (scratch / "model.json").write_text(json.dumps(about, indent=2) + "\n")
    return _read_info(folder, folder.name)


class _FindPriors:
    """Landmarks (and person masks) of frames, each on its own; the face backend is opened when first needed."""

    def __init__(self) -> None:
        self._backend: Any = None

    def __call__(self, frames: Any, with_mask: bool = False) -> "Priors":
        """Priors of frames `[N, H, W, 3]` float32 in [0, 1].

        Raises:
          MissingBackendError: no face backend is installed.
        """
        import numpy as np

        from avfr_jax.faces import open_face_backend
        from avfr_jax.landmarks import NUM_LANDMARKS, normalise_landmarks
        from avfr_jax.models.base import Priors

        self._backend = self._backend or open_face_backend()
        images = (np.clip(np.asarray(frames), 0, 1) * 255 + 0.5).astype(np.uint8)
        landmarks = np.full((len(images), NUM_LANDMARKS, 3), np.nan, np.float32)
        for i, image in enumerate(images):
            if faces := self._backend.detect(image):
                landmarks[i] = normalise_landmarks(faces[0].landmarks, image.shape[1], image.shape[0])
        masks = np.stack([self._backend.person_mask(image) for image in images]) if with_mask else None
        return Priors(landmarks, masks)
