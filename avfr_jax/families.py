"""The model families: one record each.

Paths are strings (`module:attribute`) that are imported when first used, so that listing models imports no network,
and training, which lies above, can be named.
"""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from avfr_jax.errors import ConfigError

if TYPE_CHECKING:
    from avfr_jax.models.base import FindPriors

Kind = Literal["animator", "interpolator", "super_resolver", "residual_codec"]


def resolve(path: str) -> Any:
    """The attribute at `module:attribute`."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def _colours_alone(config: Any) -> dict[str, bool]:
    return {"priors": False, "landmarks": False, "mel": False}


def _face_mesh(config: Any) -> dict[str, bool]:
    return {"priors": True, "landmarks": True}


def _avfr(config: Any) -> dict[str, bool]:
    needs = {"priors": config.structural_prior, "mel": config.uses_audio}
    return {**needs, "landmarks": True} if config.masks_mouths else needs


def _face_vid2vid(config: Any) -> dict[str, bool]:
    return {"priors": False, **({"landmarks": True} if config.keypoints == "mesh" else {})}


@dataclasses.dataclass(frozen=True)
class Family:
    """One implementation of a kind of model.

    Attributes:
      name: as in `model.json` and `Experiment.family`.
      kind: `models.base.Animator`, `models.interpolation.Interpolator`, `models.super_resolution.SuperResolver` or
        `models.residual.ResidualCodec`.
      config_path: config dataclass; its module's `init(config, key)` gives fresh weights by network.
      model_path: class of the loaded model.
      objective: `training.composed.Task`; None for a family that is not trained.
      weights: whether it has any.
      finds_priors: whether the model's constructor takes `find_priors`.
      frames: frames of a training sample.
      crops: trained on crops of `config.patch_size` pixels, not on whole frames of `config.image_size`.
      warps: whether training samples may be warped, which blurs them.
      advice: how to get weights of a family for which none are shipped.
      data: config -> switches of `DataConfig` (`priors`, `landmarks`, `mel`) that training needs set (True) or unset
        (False); those not named are free.
    """

    name: str
    kind: Kind
    config_path: str
    model_path: str
    objective: str | None = None
    weights: bool = True
    finds_priors: bool = False
    frames: Literal["pair", "triplet", "single"] = "pair"
    crops: bool = False
    warps: bool = True
    advice: str = ""
    data: Callable[[Any], Mapping[str, bool]] = _colours_alone

    @property
    def config(self) -> type[Any]:
        """The config dataclass."""
        kind: type[Any] = resolve(self.config_path)
        return kind

    def size(self, config: Any) -> int:
        """Side in pixels of the frames, or crops, that it is trained on."""
        side: int = config.patch_size if self.crops else config.image_size
        return side

    def init(self, config: Any, key: Any) -> dict[str, Any]:
        """Fresh weights by network; none for a family without weights."""
        module = self.config_path.partition(":")[0]
        variables: dict[str, Any] = resolve(f"{module}:init")(config, key) if self.weights else {}
        return variables

    def shapes(self, config: Any) -> dict[str, Any]:
        """The tree of weights as `jax.ShapeDtypeStruct`, by network. Raises ConfigError where none can be built."""
        from avfr_jax.convert.tree import expected_shapes

        return expected_shapes(lambda key: self.init(config, key), f"The {self.name} config")

    def make(
        self,
        config: Any,
        variables: Any,
        name: str,
        find_priors: "FindPriors | None" = None,
        fingerprint: bytes | None = None,
    ) -> Any:
        """A model of this family's kind; its fingerprint is computed where it is not given."""
        given: dict[str, Any] = {"name": name, "fingerprint": fingerprint}
        if self.weights:
            given["variables"] = variables
        if self.finds_priors:
            given["find_priors"] = find_priors
        return resolve(self.model_path)(config, **given)


_MODELS, _OBJECTIVES = "avfr_jax.models", "avfr_jax.training.objectives"
FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            "fomm",
            "animator",
            f"{_MODELS}.fomm:FommConfig",
            f"{_MODELS}.fomm_animator:FommAnimator",
            f"{_OBJECTIVES}.fomm:TASK",
            advice="fetch vox-adv-cpk.pth.tar from the first-order-model project's page and run: avfr import fomm "
            "vox-adv-cpk.pth.tar OUT_DIR",
            data=lambda config: {"priors": False},
        ),
        Family(
            "mesh-fomm",
            "animator",
            f"{_MODELS}.mesh_fomm:MeshFommConfig",
            f"{_MODELS}.mesh_fomm_animator:MeshFommAnimator",
            f"{_OBJECTIVES}.mesh_fomm:TASK",
            finds_priors=True,
            data=_face_mesh,
        ),
        Family(
            "avfr",
            "animator",
            f"{_MODELS}.avfr:AvfrConfig",
            f"{_MODELS}.avfr_animator:AvfrAnimator",
            f"{_OBJECTIVES}.avfr:TASK",
            finds_priors=True,
            data=_avfr,
        ),
        Family(
            "face-vid2vid",
            "animator",
            f"{_MODELS}.face_vid2vid:FaceVid2VidConfig",
            f"{_MODELS}.face_vid2vid_animator:FaceVid2VidAnimator",
            f"{_OBJECTIVES}.face_vid2vid:TASK",
            advice="fetch a checkpoint of One-Shot_Free-View_Neural_Talking_Head_Synthesis (non-commercial) and run: "
            "avfr import face-vid2vid FILE OUT_DIR",
            finds_priors=True,
            data=_face_vid2vid,
        ),
        Family(
            "landmark-warp",
            "animator",
            f"{_MODELS}.landmark_warp:LandmarkWarpConfig",
            f"{_MODELS}.landmark_animator:LandmarkAnimator",
            weights=False,
            finds_priors=True,
        ),
        Family(
            "interpolation",
            "interpolator",
            f"{_MODELS}.interpolation:InterpolationConfig",
            f"{_MODELS}.interpolation:Interpolator",
            f"{_OBJECTIVES}.interpolation:TASK",
            frames="triplet",
            warps=False,
        ),
        Family(
            "super-resolution",
            "super_resolver",
            f"{_MODELS}.super_resolution:SuperResolutionConfig",
            f"{_MODELS}.super_resolution:SuperResolver",
            f"{_OBJECTIVES}.super_resolution:TASK",
            frames="single",
            crops=True,
            warps=False,
        ),
        Family(
            "residual",
            "residual_codec",
            f"{_MODELS}.residual:ResidualConfig",
            f"{_MODELS}.residual:ResidualCodec",
            f"{_OBJECTIVES}.residual:TASK",
            data=_face_mesh,
        ),
    )
}


def find_family(name: str) -> Family:
    """A family by its name.

    Raises:
      ConfigError: there is none of that name.
    """
    if name not in FAMILIES:
        raise ConfigError(f"There is no model family {name!r}; there are {', '.join(FAMILIES)}.")
    return FAMILIES[name]
